// The connection to Moodline: one socket for the page, which says what happens as events.
//
// Events: "frame" {meta, jpeg, acknowledge, first}, where acknowledge(pauseS) asks for the next one
// of that feed, in so many seconds; "feeds" [feed], "status" {ok, problems}, "removed" feed id,
// "event" what a rule has found, "health" "up" | "slow" | "down" | "out".

import { io } from "./vendor/socket.io.esm.min.js";

const CLOCK_EVERY_MS = 1000;
const ANSWER_WITHIN_MS = 1500;
const ANEW_AFTER = 4; // questions without an answer in time: the connection is dead and does not say so
const ASKED_WITHIN_MS = 8000; // a picture may be long on its way

export class Link extends EventTarget {
  #socket;
  #watched = new Set();
  #fresh = new Set(); // watched, and no picture yet
  #offsets = [];
  #health = "";
  #unanswered = 0;

  constructor() {
    super();
    this.#socket = io({
      transports: ["websocket", "polling"],
      reconnectionDelay: 300,
      reconnectionDelayMax: 2000,
      timeout: 5000,
    });
    const socket = this.#socket;
    socket.on("connect", () => {
      this.#offsets = [];
      this.#unanswered = 0;
      this.#say("health", (this.#health = "up"));
      socket.emit("watch_feeds", {}, () => {});
      socket.emit("watch_events", {}, () => {});
      for (const feed of this.#watched) this.#watch(feed);
      this.#compareClocks();
    });
    socket.on("disconnect", () => {
      if (this.#health !== "out") this.#say("health", (this.#health = "down"));
    });
    socket.on("connect_error", () => this.#refused());
    socket.on("frame", (meta, jpeg, acknowledge) => {
      const first = this.#fresh.delete(meta.feed); // the newest there was, however old
      const received = performance.now();
      const answer = (pauseS) =>
        acknowledge({ held_s: (performance.now() - received) / 1000, pause_s: pauseS });
      this.#say("frame", { meta, jpeg, acknowledge: answer, first });
    });
    socket.on("feeds", (feeds, acknowledge) => {
      this.#say("feeds", feeds);
      acknowledge();
    });
    socket.on("event", (event) => this.#say("event", event));
    socket.on("status", (status) => this.#say("status", status));
    socket.on("feed_removed", ({ feed }) => {
      this.#watched.delete(feed);
      this.#say("removed", feed);
    });
    setInterval(() => this.#compareClocks(), CLOCK_EVERY_MS);
  }

  // The server's time now, in epoch seconds.
  now() {
    return Date.now() / 1000 + (this.#offsets[0]?.offset ?? 0);
  }

  // Which connection this is: another one after each loss, none while it is lost.
  get session() {
    return this.#socket.id;
  }

  // Until it is known whether Moodline can be reached: right after the page has opened it is not.
  async settled() {
    if (this.#health) return;
    await new Promise((known) => this.addEventListener("health", known, { once: true }));
  }

  // The answer to a question; null where none comes in time, or there is no connection.
  ask(event, ...args) {
    if (!this.#socket.connected) return Promise.resolve(null);
    return new Promise((resolve) => {
      const asked = this.#socket.timeout(ASKED_WITHIN_MS);
      asked.emit(event, ...args, (late, answer) => resolve(late ? null : answer));
    });
  }

  watch(feed) {
    if (this.#watched.has(feed)) return;
    this.#watched.add(feed);
    if (this.#socket.connected) this.#watch(feed);
  }

  // Have the newest picture of a watched feed now.
  again(feed) {
    if (this.#watched.has(feed) && this.#socket.connected) this.#watch(feed);
  }

  unwatch(feed) {
    if (this.#watched.delete(feed) && this.#socket.connected) {
      this.#socket.emit("unwatch", { feed }, () => {});
    }
  }

  #watch(feed) {
    this.#fresh.add(feed);
    this.#socket.emit("watch", { feed, adapt: true }, (answer) => {
      if (!answer.ok) this.#watched.delete(feed);
    });
  }

  // The fastest of the last answers tells the offset of the clocks best.
  #compareClocks() {
    if (!this.#socket.connected) return;
    const sent = Date.now() / 1000;
    this.#socket.timeout(ANSWER_WITHIN_MS).emit("clock", {}, (late, answer) => {
      if (!this.#socket.connected) return;
      const health = late ? "slow" : "up";
      if (health !== this.#health) this.#say("health", (this.#health = health));
      this.#unanswered = late ? this.#unanswered + 1 : 0;
      if (this.#unanswered >= ANEW_AFTER) this.#anew();
      if (late) return;
      const took = Date.now() / 1000 - sent;
      this.#offsets.push({ took, offset: answer.now - (sent + took / 2) });
      if (this.#offsets.length > 8) this.#offsets.shift();
      this.#offsets.sort((a, b) => a.took - b.took);
    });
  }

  // TCP would go on with a connection whose network was cut only half a minute after it is back.
  #anew() {
    this.#unanswered = 0;
    this.#socket.io.engine.close();
  }

  async #refused() {
    this.#say("health", (this.#health = "down"));
    const answer = await fetch("/api/feeds").catch(() => null);
    if (answer?.status !== 401) return;
    this.#socket.disconnect(); // asking again would not help
    this.#say("health", (this.#health = "out"));
  }

  #say(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
