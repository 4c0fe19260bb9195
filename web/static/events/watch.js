// Asks for rules, feeds and events again and again while somebody looks.
//
// Events: "news" {rules, labels, mqtt, running, feeds, events, more}, "health" "up" | "slow" |
// "down" | "out". `more`: there are older events than were asked for.

import { Asking, get } from "../asking.js";

const LIVELY_MS = 1000; // while something is on its way to a target
const CALM_MS = 2000;
const PAGE = 50;

export class Watch extends Asking {
  #limit = PAGE;
  #feed = "";

  // From now on events of this feed alone; all of them: "".
  only(feed) {
    this.#feed = feed;
    this.#limit = PAGE;
    this.ask();
  }

  // From now on more of the older ones.
  older() {
    this.#limit += PAGE;
    this.ask();
  }

  // One question; how long to wait until the next, 0: for ever.
  async turn() {
    try {
      const which = new URLSearchParams({ limit: this.#limit + 1 });
      if (this.#feed) which.set("feed", this.#feed);
      const answers = await Promise.all(
        ["/api/rules", "/api/feeds", `/api/events?${which}`].map(get),
      );
      if (answers.some(({ status }) => status === 401)) {
        this.#say("health", "out");
        return 0;
      }
      if (!answers.every(({ ok }) => ok)) {
        this.#say("health", "down");
        return CALM_MS;
      }
      const [about, feeds, events] = await Promise.all(answers.map((answer) => answer.json()));
      const more = events.length > this.#limit;
      this.#say("news", { ...about, feeds, events: events.slice(0, this.#limit), more });
      this.#say("health", "up");
      return events.some(isUnderWay) ? LIVELY_MS : CALM_MS;
    } catch (error) {
      this.#say("health", error.name === "TimeoutError" ? "slow" : "down");
      return CALM_MS;
    }
  }

  #say(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

function isUnderWay({ deliveries }) {
  return deliveries.some(({ state }) => state === "waiting" || state === "retrying");
}
