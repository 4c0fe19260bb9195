// What has happened, newest first: picture where one is kept, words, and how its deliveries go.

import { make } from "../make.js";
import { text } from "../texts.js";
import { happened, when } from "./sentence.js";
import { Stable } from "./stable.js";

const SIGNS = { waiting: "…", retrying: "↻", delivered: "✓", given_up: "✕" };

export class List {
  #list;
  #stable;

  // `on` has remove(event) and enlarge(event, title).
  constructor(list, on) {
    this.#list = list;
    this.#stable = new Stable(list, (event) => item(event, on));
  }

  show(events) {
    this.#list.hidden = events.length === 0;
    this.#stable.show(events, ({ id }) => id);
  }
}

function item(event, on) {
  const words = text.events;
  const what = happened(event);
  const at = when(event.at);
  const time = make("time", { dateTime: new Date(event.at * 1000).toISOString() }, at);
  const title = event.feed_name ? `${event.name}, ${event.feed_name}, ${at}` : `${event.name}, ${at}`;
  const remove = make(
    "button",
    { type: "button", className: "icon", ariaLabel: words.removeEvent(title), title: words.remove },
    cross(),
  );
  remove.dataset.focus = "remove";
  remove.addEventListener("click", () => on.remove(event, title));
  return make(
    "li",
    { className: event.test ? "event test" : "event" },
    picture(event, title, on),
    make(
      "div",
      { className: "event-words" },
      make("h3", {}, event.name, ...(event.test ? [" ", make("span", { className: "tag" }, words.testTag)] : [])),
      make("p", {}, what),
      make("p", { className: "event-where" }, ...(event.feed_name ? [event.feed_name, " · "] : []), time),
    ),
    ...(event.deliveries.length
      ? [make("ul", { className: "deliveries", ariaLabel: words.deliveries }, ...event.deliveries.map(delivery))]
      : []),
    remove,
  );
}

function picture(event, title, on) {
  if (!event.picture) {
    const sign = document.getElementById(`sign-${event.kind}`).content.cloneNode(true);
    return make("span", { className: "event-picture none" }, sign);
  }
  const image = make("img", { src: event.picture, alt: "", loading: "lazy" });
  const button = make(
    "button",
    { type: "button", className: "event-picture", ariaLabel: text.events.enlarge(title) },
    image,
  );
  button.dataset.focus = "picture";
  button.addEventListener("click", () => on.enlarge(event, title));
  return button;
}

function delivery({ to, state, attempts, at, reason }) {
  const said = text.events.delivery[state](to, at ? when(at) : "", attempts);
  const item = make("li", {}, make("i", { ariaHidden: "true" }, SIGNS[state]), ` ${said}`);
  item.dataset.state = state;
  if (reason) item.append(make("small", {}, reason));
  return item;
}

function cross() {
  const holder = document.createElement("span");
  holder.textContent = "×";
  holder.ariaHidden = "true";
  return holder;
}
