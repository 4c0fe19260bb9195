// Rules and events in words. What a rule watches for is one sentence of the catalogue with places:
// {emotion}, {share}, {for_s} and {feeds}; a view shows words in them, the editor its fields.

import { wordFor } from "../palette.js";
import { locale, number, percent, text } from "../texts.js";

const timeToday = new Intl.DateTimeFormat(locale, { timeStyle: "medium" });
const dateAndTime = new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "medium" });

// The sentence of a kind with `place(name)`, a text or an element, in each of its places.
export function sentence(kind, place) {
  return text.events.sentences[kind]
    .split(/\{(\w+)\}/)
    .map((part, index) => (index % 2 ? place(part) : part))
    .filter((part) => part !== "");
}

export function wordsOf(rule, feeds) {
  const places = {
    emotion: () => wordFor(rule.emotion),
    share: () => percent(rule.share),
    for_s: () => seconds(rule.for_s),
    feeds: () => feedsOf(rule, feeds),
  };
  return sentence(rule.kind, (name) => places[name]());
}

export function feedsOf(rule, feeds) {
  if (!rule.feeds) return text.events.allFeeds;
  const names = new Map(feeds.map(({ id, name }) => [id, name]));
  return rule.feeds.map((id) => names.get(id) ?? text.events.feedGone).join(", ");
}

// What happened, without when and where.
export function happened({ test, kind, track, emotion, value }) {
  if (test) return text.events.happened.test;
  return text.events.happened[kind](track, emotion && wordFor(emotion), percent(value ?? 0));
}

export function seconds(value) {
  return `${number(value, Number.isInteger(value) ? 0 : 1)} s`;
}

// When something was, to the second: the time for today, else the date too.
export function when(epochSeconds) {
  const date = new Date(epochSeconds * 1000);
  const today = date.toDateString() === new Date().toDateString();
  return (today ? timeToday : dateAndTime).format(date);
}
