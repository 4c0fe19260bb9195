// The rows of the list, brought in step with what they show. A row is described by a view:
//
//   key        what it is of
//   name, href its name, and where that leads
//   facts      what does not change, as words
//   state      for colour and sign; `word` says it
//   share      0..1 for the bar; null: no bar; undefined: busy, nobody knows how long
//   progressLabel  what the bar is of
//   note, count    what stands above and below the bar
//   error      what went wrong, with what to do
//   action     {word, label, run | href, busy} of the one button, or null
//   remove     {label, run} of the cross, or null

export class Rows {
  #list;
  #template = document.getElementById("row");
  #rows = new Map();

  constructor(list) {
    this.#list = list;
  }

  // Show exactly these, in this order. Rows stay what they are: focus and what is selected hold.
  show(views) {
    const focused = document.activeElement;
    const gone = new Set(this.#rows.keys());
    views.forEach((view, index) => {
      gone.delete(view.key);
      const row = this.#rows.get(view.key) ?? this.#add(view.key);
      row.show(view);
      const there = this.#list.children[index];
      if (there !== row.element) this.#list.insertBefore(row.element, there ?? null);
    });
    const next = this.#neighbour(focused, gone);
    for (const key of gone) this.#drop(key);
    if (next) next.focus();
    else if (focused !== document.activeElement && focused?.isConnected) focused.focus();
  }

  // From now on that row is of something else: an upload has become a video.
  rename(key, newKey) {
    const row = this.#rows.get(key);
    if (!row || this.#rows.has(newKey)) return;
    this.#rows.delete(key);
    this.#rows.set(newKey, row);
  }

  #add(key) {
    const row = new Row(this.#template.content.firstElementChild.cloneNode(true));
    this.#rows.set(key, row);
    return row;
  }

  #drop(key) {
    this.#rows.get(key).element.remove();
    this.#rows.delete(key);
  }

  // Where the focus goes when the row that has it goes.
  #neighbour(focused, gone) {
    const row = focused?.closest?.(".row");
    const goes = (element) => [...gone].some((key) => this.#rows.get(key).element === element);
    if (!row || !goes(row)) return null;
    let next = row.nextElementSibling;
    while (next && goes(next)) next = next.nextElementSibling;
    let before = row.previousElementSibling;
    while (before && goes(before)) before = before.previousElementSibling;
    return (next ?? before)?.querySelector("a[href]") ?? this.#list.closest("section");
  }
}

class Row {
  #shown = {};
  #parts = {};
  #view = null;

  constructor(element) {
    this.element = element;
    for (const name of ["name", "facts", "state", "share", "count", "do", "remove", "error"]) {
      this.#parts[name] = element.querySelector(`.row-${name}`);
    }
    this.#parts.link = element.querySelector(".row-name a");
    this.#parts.progress = element.querySelector("progress");
    this.#parts.remove.addEventListener("click", () => this.#view.remove.run());
  }

  show(view) {
    this.#view = view;
    const { link, facts, state, share, progress, count, remove, error } = this.#parts;
    this.#set("name", view.name, (name) => {
      link.textContent = name;
      link.title = name;
    });
    this.#set("href", view.href ?? "", (href) =>
      href ? link.setAttribute("href", href) : link.removeAttribute("href"),
    );
    this.#set("facts", view.facts.join("\n"), () => {
      facts.replaceChildren(
        ...view.facts.map((fact) => {
          const span = document.createElement("span");
          span.textContent = fact;
          return span;
        }),
      );
    });
    this.#set("state", view.state, (name) => (this.element.dataset.state = name));
    this.#set("word", view.word, (word) => (state.querySelector("b").textContent = word));
    this.#set("note", view.note ?? "", (note) => (share.textContent = note));
    this.#set("progress", view.share, (value) => {
      progress.hidden = value === null;
      if (typeof value === "number") progress.value = value;
      else progress.removeAttribute("value");
    });
    this.#set("of", view.progressLabel, (label) => progress.setAttribute("aria-label", label));
    this.#set("count", view.count ?? "", (words) => (count.textContent = words));
    this.#set("error", view.error ?? "", (sentence) => (error.textContent = sentence));
    this.#set("remove", view.remove?.label ?? "", (label) => {
      remove.hidden = !label;
      remove.setAttribute("aria-label", label);
      remove.title = label;
    });
    this.#act(view.action);
  }

  // One button or link, the same element as long as it stays the same kind, so that focus holds.
  #act(action) {
    const place = this.#parts.do;
    const kind = action ? (action.href ? "A" : "BUTTON") : "";
    if ((place.firstElementChild?.tagName ?? "") !== kind) {
      place.replaceChildren(...(kind ? [document.createElement(kind)] : []));
      const made = place.firstElementChild;
      if (kind === "BUTTON") {
        made.type = "button";
        made.addEventListener("click", () => this.#view.action.run());
      }
      this.#shown.action = null;
    }
    if (!action) return;
    const element = place.firstElementChild;
    const { word, label, href = "", busy = false } = action;
    this.#set("action", [word, label, href, busy].join("\n"), () => {
      element.className = "plain";
      element.textContent = word;
      element.setAttribute("aria-label", label);
      if (href) element.setAttribute("href", href);
      else element.setAttribute("aria-disabled", String(busy));
    });
  }

  #set(name, value, apply) {
    if (Object.hasOwn(this.#shown, name) && this.#shown[name] === value) return;
    this.#shown[name] = value;
    apply(value);
  }
}
