// The rules: each a sentence, with what it does and what can be done with it.

import { make } from "../make.js";
import { text } from "../texts.js";
import { wordsOf } from "./sentence.js";
import { Stable } from "./stable.js";

export class Rules {
  #list;
  #stable;

  // `on` has edit(rule), test(rule), remove(rule) and enable(rule, yes).
  constructor(list, on) {
    this.#list = list;
    this.#stable = new Stable(list, ({ rule, feeds, testing }) => card(rule, feeds, testing, on));
  }

  show(rules, feeds, testing) {
    this.#list.hidden = rules.length === 0;
    const views = rules.map((rule) => ({
      rule,
      feeds: feeds.map(({ id, name }) => ({ id, name })),
      testing: testing.has(rule.id),
    }));
    this.#stable.show(views, ({ rule }) => rule.id);
  }
}

function card(rule, feeds, testing, on) {
  const words = text.events;
  const what = wordsOf(rule, feeds).map((part, index) =>
    index % 2 ? make("b", {}, part) : part,
  );
  const does = [
    rule.picture && make("span", { className: "keeps" }, words.keeps),
    ...rule.webhooks.map(({ url, signed }) =>
      make("span", {}, signed ? words.signedTo(url) : words.to(url)),
    ),
    rule.cooldown_s > 0 && make("span", {}, words.pauseOf(rule.cooldown_s)),
  ].filter(Boolean);
  const enabled = make("input", {
    type: "checkbox",
    checked: rule.enabled,
    ariaLabel: words.onLabel(rule.name),
  });
  enabled.addEventListener("change", () => on.enable(rule, enabled.checked));
  enabled.dataset.focus = "enabled";
  return make(
    "li",
    { className: rule.enabled ? "rule" : "rule off" },
    make("h3", {}, rule.name),
    make("p", { className: "rule-what" }, ...what),
    ...(does.length ? [make("p", { className: "rule-does" }, ...does)] : []),
    make(
      "p",
      { className: "rule-do" },
      make("label", { className: "switch" }, enabled, words.on),
      button(words.edit, words.editLabel(rule.name), () => on.edit(rule)),
      button(testing ? words.testing : words.test, words.testLabel(rule.name), () => on.test(rule)),
      button(words.remove, words.removeLabel(rule.name), () => on.remove(rule)),
    ),
  );
}

function button(word, label, run) {
  const element = make("button", { type: "button", className: "plain", ariaLabel: label }, word);
  element.dataset.focus = label;
  element.addEventListener("click", run);
  return element;
}
