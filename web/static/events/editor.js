// The dialog in which a rule is written: a sentence with fields in it, and what the rule does.

import { make } from "../make.js";
import { wordFor } from "../palette.js";
import { text } from "../texts.js";
import { sentence, wordsOf } from "./sentence.js";

// What the shipped model tells apart: offered while no worker says what its own does.
const LABELS = ["neutral", "happy", "surprise", "sad", "angry", "disgust", "fear", "contempt"];
const FRESH = { name: "", kind: "emotion_over", emotion: "happy", share: 0.6, feeds: null, cooldown_s: 0 };
const FOR_S = { emotion_over: 3, new_person: 1, nobody_for: 60 };
const MAX_HOOKS = 4;
const ALL = "all";
const SOME = "some";

export class Editor {
  #dialog = document.getElementById("rule-dialog");
  #form = this.#dialog.querySelector("form");
  #error = this.#dialog.querySelector(".form-error");
  #submit = this.#dialog.querySelector("[type=submit]");
  #sentence = this.#dialog.querySelector(".sentence");
  #choice = document.getElementById("rule-feeds");
  #hooks = document.querySelector("#rule-hooks ul");
  #addHook = document.getElementById("add-hook");
  #fields = this.#makeFields();
  #rule = null; // what is edited; null: a new one
  #feeds = [];
  #onSaved;

  // `onSaved(rule)` is called with the API's answer.
  constructor(onSaved) {
    this.#onSaved = onSaved;
    this.#dialog.querySelector(".close").addEventListener("click", () => this.#dialog.close());
    this.#addHook.addEventListener("click", () => this.#addWebhook().querySelector("input").focus());
    this.#form.addEventListener("input", () => this.#complain(null));
    this.#form.addEventListener("change", ({ target }) => {
      if (target.name === "kind") this.#turnTo(target.value);
      if (target === this.#fields.feeds) this.#showChoice(true);
      this.#suggestName();
    });
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
  }

  // Edit a rule, or with null write a new one.
  open(rule, labels, feeds) {
    this.#rule = rule;
    this.#feeds = feeds;
    const { emotion, share, feeds: chosen } = this.#fields;
    const shown = { ...FRESH, ...(rule ?? {}) };
    const known = labels.length ? [...labels] : [...LABELS];
    const wanted = shown.emotion ?? FRESH.emotion;
    if (rule?.emotion && !known.includes(wanted)) known.push(wanted);
    emotion.replaceChildren(...known.map((label) => new Option(wordFor(label), label)));
    emotion.value = wanted;
    if (!emotion.value) emotion.selectedIndex = Math.min(1, known.length - 1);
    share.value = Math.round((shown.share ?? FRESH.share) * 100);
    this.#offerFeeds(shown.feeds);
    chosen.value = shown.feeds ? SOME : ALL;
    this.#form.elements.kind.value = shown.kind;
    this.#turnTo(shown.kind, shown.for_s);
    this.#showChoice(false);
    this.#form.elements.name.value = shown.name;
    this.#form.elements.cooldown_s.value = shown.cooldown_s;
    this.#form.elements.picture.checked = shown.picture ?? false;
    this.#hooks.replaceChildren(...(rule?.webhooks ?? []).map((hook) => this.#keptHook(hook)));
    this.#countHooks();
    this.#suggestName();
    this.#complain(null);
    this.#busy(false);
    document.getElementById("rule-title").textContent = rule ? text.events.editTitle : text.events.addTitle;
    this.#dialog.showModal();
    this.#dialog.scrollTop = 0;
    this.#form.querySelector("[name=kind]:checked").focus();
  }

  #makeFields() {
    const field = (tag, name, more = {}) =>
      make(tag, { name, ariaLabel: text.events.fields[name], ...more });
    const figure = { type: "number", step: "any", inputMode: "decimal" };
    return {
      emotion: field("select", "emotion"),
      share: field("input", "share", { ...figure, min: 1, max: 99 }),
      for_s: field("input", "for_s", { ...figure, min: 0, max: 3600 }),
      feeds: field("select", "feeds"),
    };
  }

  // The sentence of another kind, with the same fields where it has the same places.
  #turnTo(kind, forS = FOR_S[kind]) {
    const { emotion, share, for_s, feeds } = this.#fields;
    for_s.value = forS;
    const places = {
      emotion: [emotion],
      share: [share, " %"],
      for_s: [for_s, ` ${text.events.seconds}`],
      feeds: [feeds],
    };
    this.#sentence.replaceChildren(
      ...sentence(kind, (name) => make("span", { className: "place" }, ...places[name])),
    );
    document.getElementById("rule-help").textContent = text.events.kindHelp[kind];
  }

  #offerFeeds(chosen) {
    this.#fields.feeds.replaceChildren(
      new Option(text.events.allFeeds, ALL),
      new Option(text.events.someFeeds, SOME),
    );
    const gone = (chosen ?? []).filter((id) => !this.#feeds.some((feed) => feed.id === id));
    const rows = [...this.#feeds, ...gone.map((id) => ({ id, name: text.events.feedGone }))];
    this.#choice.querySelector("div").replaceChildren(
      ...rows.map(({ id, name }) => {
        const box = make("input", { type: "checkbox", value: id, checked: chosen?.includes(id) ?? false });
        return make("label", {}, box, make("span", {}, name));
      }),
    );
  }

  #showChoice(move) {
    this.#choice.hidden = this.#fields.feeds.value !== SOME;
    if (move && !this.#choice.hidden) this.#choice.querySelector("input")?.focus();
  }

  #keptHook({ id, url, signed }) {
    const item = make("li", {}, make("span", {}, signed ? text.events.signedTo(url) : text.events.to(url)));
    item.dataset.id = id;
    return this.#withRemove(item, url);
  }

  #addWebhook() {
    const words = text.events;
    const url = make("input", {
      name: "url",
      type: "url",
      autocomplete: "off",
      placeholder: "https://example.org/hook",
      ariaLabel: words.url,
    });
    const secret = make("input", {
      name: "secret",
      autocomplete: "off",
      maxLength: 200,
      placeholder: words.secret,
      ariaLabel: words.secret,
    });
    const item = this.#withRemove(make("li", { className: "fresh" }, url, secret), "");
    this.#hooks.append(item);
    this.#countHooks();
    return item;
  }

  #withRemove(item, url) {
    const label = text.events.removeWebhook(url);
    const remove = make("button", { type: "button", className: "icon", ariaLabel: label, title: label }, "×");
    remove.addEventListener("click", () => {
      item.remove();
      this.#countHooks();
      this.#addHook.focus();
    });
    item.append(remove);
    return item;
  }

  #countHooks() {
    this.#addHook.disabled = this.#hooks.children.length >= MAX_HOOKS;
  }

  // The name that the rule gets without one of its own.
  #suggestName() {
    const { name } = this.#form.elements;
    name.placeholder = wordsOf(this.#read(), this.#feeds).join("").slice(0, 80);
  }

  #read() {
    const { elements } = this.#form;
    const kind = elements.kind.value;
    const { emotion, share, for_s, feeds } = this.#fields;
    const chosen = [...this.#choice.querySelectorAll("input:checked")].map(({ value }) => value);
    const about = kind === "emotion_over" ? { emotion: emotion.value, share: share.valueAsNumber / 100 } : {};
    return {
      name: elements.name.value.trim(),
      kind,
      ...about,
      for_s: for_s.valueAsNumber,
      feeds: feeds.value === SOME ? chosen : null,
      cooldown_s: elements.cooldown_s.valueAsNumber || 0,
      picture: elements.picture.checked,
      webhooks: [...this.#hooks.children].flatMap(hookOf),
      enabled: this.#rule?.enabled ?? true,
    };
  }

  async #send() {
    const rule = this.#read();
    if (rule.feeds?.length === 0) {
      this.#complain(text.events.noFeedChosen, "feeds");
      return;
    }
    rule.name ||= this.#form.elements.name.placeholder;
    this.#busy(true);
    const answer = await fetch(this.#rule ? `/api/rules/${this.#rule.id}` : "/api/rules", {
      method: this.#rule ? "PUT" : "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(rule),
    }).catch(() => null);
    const body = await answer?.json().catch(() => null);
    this.#busy(false);
    if (answer?.ok) {
      this.#dialog.close();
      this.#onSaved(body);
    } else {
      this.#complain(body?.detail ?? text.requestFailed, body?.field);
    }
  }

  #busy(busy) {
    this.#submit.disabled = busy;
    this.#submit.textContent = busy ? text.events.saving : text.events.save;
  }

  #complain(detail, field) {
    this.#error.textContent = detail ?? "";
    for (const each of this.#form.querySelectorAll("[aria-invalid]")) each.removeAttribute("aria-invalid");
    if (!detail) return;
    const wrong =
      this.#fields[field] ??
      (field === "webhooks" ? this.#hooks.querySelector("li:last-child input") : this.#form.elements[field]);
    if (!wrong?.setAttribute) return;
    wrong.setAttribute("aria-invalid", "true");
    wrong.focus();
    this.#error.scrollIntoView({ block: "nearest" });
  }
}

function hookOf(item) {
  if (item.dataset.id) return [{ id: item.dataset.id }];
  const [url, secret] = [...item.querySelectorAll("input")].map(({ value }) => value.trim());
  if (!url) return [];
  return [secret ? { url, secret } : { url }];
}
