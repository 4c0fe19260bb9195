// The timelines of one feed, large: a lane for each face, over 30 seconds to an hour. One chooses the
// emotions, the window, shares or lines, and reads values by pointing or by keyboard, or all of it
// as tables.
//
// For whoever shows it: `update(feed, history, now)` some times a second; `cursor(t)` draws a line at
// a time (null: none) and holds the view still meanwhile, because it is looked back; `onSeek(t)` is
// called when the user chooses a time. Charts are drawn when a pixel's time has passed, not oftener.
//
// Of longer than a minute the server tells, every FETCH_EVERY_S; `history` keeps its last answer.

import { look } from "../look.js";
import { make, setText } from "../make.js";
import { colourOf, wordFor } from "../palette.js";
import { drawAxis, paint, patternOf } from "../report/chart.js";
import { locale, text } from "../texts.js";
import { Lane, wordsAt } from "./lane.js";
import { fillTables, stepOf } from "./tables.js";

const WINDOWS_S = [30, 60, 300, 900, 3600];
const MODES = ["stacked", "lines"];
const AXIS_PX = 24;
const FULL_LANE_PX = (count) => (count < 2 ? 128 : count < 3 ? 104 : 84);
const LEAST_LANE_PX = 44;
const LANE_GAP_PX = 6;
const MOST_LANES = 6; // until more are asked for
const FETCH_EVERY_S = 30; // the last minute is known anyway
const TABLE_EVERY_S = 5;
const POINTS_A_PX = 0.7;
const MOST_EVENTS = 200;
const MARK_PX = 20; // marks nearer to one another share a flag
const LOOKED_AT_S = 1.5; // the newest scores stand for now
const KEPT_CHOICE = "moodline-timeline-window";
let count = 0;

export class TimelinePanel {
  onSeek = () => {};
  #feed;
  #history = null;
  #now = 0;
  #view = { from: 0, to: 1 };
  #windowS = WINDOWS_S.find((each) => String(each) === localStorage.getItem(KEPT_CHOICE)) ?? 60;
  #mode = "stacked";
  #hidden = new Set(); // labels that are not shown
  #patterns = matchMedia("(prefers-contrast: more), (forced-colors: active)").matches;
  #lanes = new Map();
  #most = MOST_LANES;
  #host = null;
  #roomPx = 0; // the height that the panel must do with; 0: it may grow
  #width = 0;
  #drawn = -Infinity;
  #fetched = -Infinity;
  #asked = false;
  #tabled = -Infinity;
  #cursor = null; // of looking back
  #pointer = null; // x in the plot, from its left
  #chosen = null; // by keyboard
  #labels = [];
  #marked = "";

  constructor(feed) {
    this.#feed = feed;
    const id = `timelines-${++count}`;
    this.windows = choices(`${id}-window`, text.timelines.window, WINDOWS_S, this.#windowS, (each) => {
      this.#windowS = Number(each);
      localStorage.setItem(KEPT_CHOICE, each);
      this.#fetched = -Infinity;
      this.#cursorOff();
      this.#draw();
    });
    this.modes = choices(`${id}-mode`, text.timelines.shownAs, MODES, this.#mode, (each) => {
      this.#mode = each;
      this.#legend();
      this.#draw();
    });
    this.legend = make("div", { className: "chips" });
    this.legend.setAttribute("role", "group");
    this.legend.setAttribute("aria-label", text.timelines.emotions);
    this.patterns = this.#toggle(text.timelines.patterns, this.#patterns, (on) => {
      this.#patterns = on;
      this.#legend();
      this.#draw();
    });
    this.tableButton = this.#toggle(text.timelines.table, false, (on) => {
      this.tables.hidden = !on;
      this.element.classList.toggle("tabular", on);
      this.#tabled = -Infinity;
      this.#tabulate();
    });
    this.note = make("p", { className: "timeline-note help", role: "status" });
    this.marks = make("div", { className: "timeline-marks" });
    this.lanes = make("div", { className: "lanes" });
    this.axis = make("canvas", { className: "timeline-axis" });
    this.axis.setAttribute("aria-hidden", "true");
    this.hairline = make("div", { className: "hairline" }, make("span"));
    this.playhead = make("div", { className: "playhead" });
    this.layer = make("div", { className: "timeline-layer" }, this.hairline, this.playhead);
    this.plots = make("div", { className: "timeline-plots", tabIndex: 0 });
    this.plots.append(this.lanes, this.axis, this.layer);
    this.plots.setAttribute("role", "slider");
    this.plots.setAttribute("aria-label", text.timelines.slider);
    this.plots.setAttribute("aria-describedby", `${id}-hint`);
    this.more = make("button", { type: "button", className: "plain timeline-more", hidden: true });
    this.hint = make("p", { id: `${id}-hint`, className: "help timeline-hint" }, text.timelines.hint);
    this.tables = make("div", { className: "timeline-tables", hidden: true, tabIndex: 0 });
    this.tables.setAttribute("role", "region");
    this.tables.setAttribute("aria-label", text.timelines.tables);
    const tools = make("div", { className: "timeline-tools" });
    const views = make("div", { className: "chips" }, this.patterns, this.tableButton);
    tools.append(this.windows, this.modes, this.legend, views);
    this.element = make("section", { className: "timeline-panel" });
    this.element.append(tools, this.note, this.marks, this.plots, this.more, this.hint, this.tables);
    this.element.setAttribute("aria-label", text.timelines.label(feed.name));
    this.#bind();
    this.#say();
  }

  update(feed, history, now) {
    this.#feed = feed;
    this.#history = history;
    this.#now = now;
    if (!this.#asked) this.#ask();
    if (this.#windowS > 60 && now - this.#fetched > FETCH_EVERY_S) this.#fetch();
    if (this.#cursor !== null) return; // held still
    const pause = Math.max(0.18, this.#windowS / Math.max(1, this.#width));
    if (now - this.#drawn >= pause || now < this.#drawn) this.#draw();
    this.#tabulate();
  }

  cursor(t) {
    if (t === null) {
      if (this.#cursor !== null) this.#cursorOff();
      return;
    }
    if (this.#cursor === null) this.#draw();
    this.#cursor = t;
    this.#point();
  }

  close() {
    this.sizes.disconnect();
    this.seen.disconnect();
    document.documentElement.removeEventListener("look", this.#dress);
    this.element.remove();
  }

  #dress = () => {
    this.#legend();
    this.#draw();
  };

  #cursorOff() {
    this.#cursor = null;
    this.#drawn = -Infinity;
  }

  #bind() {
    document.documentElement.addEventListener("look", this.#dress);
    this.sizes = new ResizeObserver(() => this.#measure());
    this.sizes.observe(this.layer);
    this.seen = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) {
        for (const lane of this.#lanes.values()) if (lane.element === target) lane.inView = isIntersecting;
      }
    });
    this.plots.addEventListener("pointermove", ({ clientX }) => {
      const { left, width } = this.layer.getBoundingClientRect();
      const x = clientX - left;
      this.#pointer = x >= 0 && x <= width ? x : null;
      this.#point();
    });
    this.plots.addEventListener("pointerleave", () => {
      this.#pointer = null;
      this.#point();
    });
    this.plots.addEventListener("click", () => {
      if (this.#pointer !== null) this.onSeek(this.#timeOf(this.#pointer));
    });
    this.plots.addEventListener("keydown", (event) => this.#key(event));
    this.plots.addEventListener("blur", () => {
      this.#chosen = null;
      this.#point();
    });
    this.more.addEventListener("click", () => {
      this.#most += MOST_LANES;
      this.#draw();
    });
  }

  #toggle(word, pressed, act) {
    const button = make("button", { type: "button", className: "chip", textContent: word });
    button.setAttribute("aria-pressed", String(pressed));
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(on));
      act(on);
    });
    return button;
  }

  // The emotions to choose from, each with its colour and its pattern.
  #legend() {
    this.#labels = this.#history?.labels ?? [];
    const focused = [...this.legend.children].indexOf(document.activeElement);
    this.legend.replaceChildren(
      ...this.#labels.map((label) => {
        const chip = this.#toggle(wordFor(label), !this.#hidden.has(label), (on) => {
          if (on) this.#hidden.delete(label);
          else this.#hidden.add(label);
          this.#draw();
        });
        const swatch = document.createElement("canvas");
        paint(swatch, 16, 16, (context) => {
          context.fillStyle = this.#patterns ? patternOf(context, label) : colourOf(label);
          context.fillRect(0, 0, 16, 16);
        });
        swatch.setAttribute("aria-hidden", "true");
        chip.prepend(swatch);
        return chip;
      }),
    );
    this.legend.children[focused]?.focus();
  }

  // What has happened before this page was opened; new events come by themselves.
  async #ask() {
    this.#asked = true;
    const since = this.#now - Math.max(...WINDOWS_S);
    const query = new URLSearchParams({ feed: this.#feed.id, since, limit: MOST_EVENTS });
    const answer = await fetch(`/api/events?${query}`).catch(() => null);
    if (answer?.ok) for (const event of await answer.json()) this.#history.mark(event);
  }

  // What lies further back than this page has seen.
  async #fetch() {
    const windowS = this.#windowS;
    this.#fetched = this.#now;
    const address = `/api/feeds/${this.#feed.id}/timeline?seconds=${windowS}`;
    const answer = await fetch(address).catch(() => null);
    if (windowS !== this.#windowS) return;
    if (answer?.ok) this.#history.fill(await answer.json(), windowS);
    const excuse = answer?.status === 400 ? text.timelines.notKept : text.timelines.notHad;
    setText(this.note, answer?.ok ? "" : excuse);
    if (this.#cursor === null) this.#draw();
  }

  #draw() {
    const history = this.#history;
    if (!history || !this.#width) return;
    // Here, because lanes are told in the labels of what they have loaded.
    if (history.labels !== this.#labels) this.#legend();
    this.#drawn = this.#now;
    const view = { from: this.#now - this.#windowS, to: this.#now };
    this.#view = view;
    const all = history.tracks(this.#now, this.#windowS);
    const recent = (track) => history.latest(track)?.seen ?? 0;
    const shown = [...all].sort((a, b) => recent(b) - recent(a)).slice(0, this.#most);
    this.#arrange(shown.sort((a, b) => a - b));
    const left = all.length - shown.length;
    this.more.hidden = left === 0;
    if (left) setText(this.more, text.timelines.more(left));
    const marks = history.marks(view.from, view.to);
    const options = {
      labels: this.#labels,
      chosen: new Set(this.#labels.filter((label) => !this.#hidden.has(label))),
      mode: this.#mode,
      patterns: this.#patterns,
      view,
      marks,
      width: this.#width,
      height: this.#lanePx(Math.max(1, shown.length)),
    };
    this.element.style.setProperty("--lane", `${options.height}px`);
    const step = this.#windowS / (this.#width * POINTS_A_PX);
    for (const lane of this.#lanes.values()) {
      lane.load(history, view.from, view.to, step);
      lane.draw(options);
    }
    paint(this.axis, this.#width, AXIS_PX, (context, w, h) =>
      drawAxis(context, w, h, { view, look, clock: this.#windowS > 300 ? minutes : clock }),
    );
    this.#flag(marks);
    this.element.classList.toggle("empty", shown.length === 0);
    if (shown.length === 0) setText(this.note, text.timelines.nobody);
    else if (this.note.textContent === text.timelines.nobody) setText(this.note, "");
    this.#point();
  }

  #measure() {
    const host = this.element.parentElement;
    const width = this.layer.clientWidth;
    if (!host || !width) return;
    if (host !== this.#host) this.sizes.observe((this.#host = host)); // it may give room or take it
    const { overflowY, paddingTop, paddingBottom } = getComputedStyle(host);
    const inside = host.clientHeight - parseFloat(paddingTop) - parseFloat(paddingBottom);
    const room = overflowY === "visible" ? 0 : inside;
    if (width === this.#width && room === this.#roomPx) return;
    [this.#width, this.#roomPx] = [width, room];
    if (this.#history) this.#draw();
  }

  // The height of each lane, so that all are seen without scrolling where that can be.
  #lanePx(count) {
    const full = FULL_LANE_PX(count);
    if (!this.#roomPx) return full;
    const others = this.element.offsetHeight - this.lanes.offsetHeight;
    const each = Math.floor((this.#roomPx - others + LANE_GAP_PX) / count) - LANE_GAP_PX;
    return Math.max(LEAST_LANE_PX, Math.min(full, each));
  }

  #arrange(tracks) {
    for (const [track, lane] of this.#lanes) {
      if (tracks.includes(track)) continue;
      this.seen.unobserve(lane.element);
      lane.element.remove();
      this.#lanes.delete(track);
    }
    tracks.forEach((track, place) => {
      if (!this.#lanes.has(track)) {
        const lane = new Lane(track);
        this.#lanes.set(track, lane);
        this.seen.observe(lane.element);
      }
      const { element } = this.#lanes.get(track);
      if (this.lanes.children[place] !== element) {
        this.lanes.insertBefore(element, this.lanes.children[place] ?? null);
      }
    });
    this.#lanes = new Map(tracks.map((track) => [track, this.#lanes.get(track)]));
  }

  // A flag for each event, or for some that are too near to one another to be told apart.
  #flag(marks) {
    const groups = [];
    for (const event of marks) {
      const x = this.#xOf(event.at);
      const last = groups.at(-1);
      if (last && x - last.x < MARK_PX) last.events.push(event);
      else groups.push({ x, events: [event] });
    }
    const key = groups.map(({ events }) => events.map(({ id }) => id).join()).join(" ");
    if (key !== this.#marked) {
      this.#marked = key;
      this.marks.replaceChildren(
        ...groups.map(({ events }) => {
          const flag = make("button", { type: "button", className: "flag" });
          flag.textContent = events.length > 1 ? String(events.length) : "!";
          flag.title = events.map(({ name, at }) => text.timelines.mark(name, clock(at))).join("\n");
          flag.setAttribute("aria-label", flag.title);
          flag.addEventListener("click", () => this.onSeek(events[0].at));
          return flag;
        }),
      );
    }
    groups.forEach(({ x }, i) => (this.marks.children[i].style.transform = `translateX(${x}px)`));
  }

  #xOf(t) {
    return ((t - this.#view.from) / (this.#view.to - this.#view.from)) * this.#width;
  }

  #timeOf(x) {
    return this.#view.from + (x / this.#width) * (this.#view.to - this.#view.from);
  }

  // The line at the moment asked for, and what all lanes show there.
  #point() {
    const asked = this.#pointer !== null ? this.#timeOf(this.#pointer) : this.#chosen;
    const inside = asked !== null && asked >= this.#view.from && asked <= this.#view.to;
    this.hairline.hidden = !inside;
    if (inside) {
      const x = this.#xOf(asked);
      this.hairline.style.transform = `translateX(${x.toFixed(1)}px)`;
      this.hairline.classList.toggle("flipped", x > this.#width - 90);
      setText(this.hairline.firstElementChild, clock(asked));
    }
    const cursor = this.#cursor;
    this.playhead.hidden = cursor === null || cursor < this.#view.from || cursor > this.#view.to;
    if (cursor !== null) this.playhead.style.transform = `translateX(${this.#xOf(cursor).toFixed(1)}px)`;
    const t = inside ? asked : cursor ?? this.#view.to - LOOKED_AT_S / 2;
    for (const lane of this.#lanes.values()) lane.tell(t, this.#labels);
    this.#say();
  }

  // For screen readers: where the cursor is, and what is there.
  #say() {
    const t = this.#chosen ?? this.#cursor;
    const ago = t === null ? 0 : Math.max(0, this.#view.to - t);
    this.plots.setAttribute("aria-valuemin", String(-this.#windowS));
    this.plots.setAttribute("aria-valuemax", "0");
    this.plots.setAttribute("aria-valuenow", (-ago).toFixed(0));
    // While nobody asks, it says no more than that: words that change on their own would be read out.
    if (t === null) {
      this.plots.setAttribute("aria-valuetext", text.ago(0));
      return;
    }
    const faces = [...this.#lanes.values()].map((lane) =>
      text.timelines.valueOf(lane.track, wordsAt(lane.at(t, this.#labels))),
    );
    this.plots.setAttribute("aria-valuetext", text.timelines.values(clock(t), faces.join(", ")));
  }

  #key(event) {
    const span = this.#windowS;
    const step = (span / 60) * (event.shiftKey ? 5 : 1);
    const from = this.#chosen ?? this.#cursor ?? this.#view.to;
    const to = {
      ArrowLeft: from - step,
      ArrowDown: from - step,
      ArrowRight: from + step,
      ArrowUp: from + step,
      PageDown: from - 5 * step,
      PageUp: from + 5 * step,
      Home: this.#view.from,
      End: this.#view.to,
    }[event.key];
    if (to !== undefined) this.#chosen = Math.max(this.#view.from, Math.min(this.#view.to, to));
    else if (event.key === "Enter" && this.#chosen !== null) this.onSeek(this.#chosen);
    else if (event.key === "Escape" && this.#chosen !== null) this.#chosen = null;
    else return;
    event.preventDefault();
    event.stopPropagation();
    this.#point();
  }

  #tabulate() {
    const every = Math.max(TABLE_EVERY_S, stepOf(this.#windowS));
    if (this.tables.hidden || !this.#history || this.#now - this.#tabled < every) return;
    // Rows must not change under whoever is in them.
    if (this.#tabled > 0 && this.tables.contains(document.activeElement)) return;
    this.#tabled = this.#now;
    const chosen = this.#labels.filter((label) => !this.#hidden.has(label));
    fillTables(this.tables, {
      lanes: [...this.#lanes.values()],
      labels: chosen,
      places: chosen.map((label) => this.#labels.indexOf(label)),
      view: this.#view,
      marks: this.#history.marks(this.#view.from, this.#view.to),
      clock,
      onSeek: (t) => this.onSeek(t),
    });
  }
}

const toSeconds = new Intl.DateTimeFormat(locale, { timeStyle: "medium" });
const toMinutes = new Intl.DateTimeFormat(locale, { timeStyle: "short" });
const clock = (t) => toSeconds.format(t * 1000);
const minutes = (t) => toMinutes.format(t * 1000);

// Radio buttons in a row; `act(value)` is called with the one that was chosen.
function choices(name, label, values, chosen, act) {
  const group = make("fieldset", { className: "segments" });
  group.append(make("legend", { className: "unseen", textContent: label }));
  for (const value of values) {
    const input = make("input", { type: "radio", name, value, checked: value === chosen });
    input.addEventListener("change", () => act(input.value));
    const word = make("span", { textContent: text.timelines.choices[value] });
    group.append(make("label", {}, input, word));
  }
  return group;
}
