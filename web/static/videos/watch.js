// Asks for the list of videos again and again while somebody looks.
//
// Events: "videos" {videos, askedAt}, "health" {health: "up" | "slow" | "down" | "out", problem}.
// `problem` is what the server says is wrong: {part, detail}, or null.

import { Asking, get } from "../asking.js";

const BUSY_MS = 1000;
const IDLE_MS = 10_000;
const DOWN_MS = 2000;
const STANDS_MS = 3000;
const PARTS = ["redis", "worker"]; // what videos need; they need no capture

export class Watch extends Asking {
  #problem = null;
  #standing = ""; // what is busy, and how far
  #movedAt = -Infinity;
  #readyAskedAt = -Infinity;

  // One question; how long to wait until the next, 0: for ever.
  async turn() {
    const askedAt = performance.now();
    try {
      const answer = await get("/api/videos");
      if (answer.status === 401) {
        this.#say("out");
        return 0;
      }
      const body = await answer.json();
      if (!answer.ok) {
        this.#say("down", { part: "", detail: body.detail });
        return DOWN_MS;
      }
      await this.#ready(body);
      this.dispatchEvent(new CustomEvent("videos", { detail: { videos: body, askedAt } }));
      this.#say("up", this.#problem);
      return body.some(isBusy) ? BUSY_MS : IDLE_MS;
    } catch (error) {
      this.#say(error.name === "TimeoutError" ? "slow" : "down");
      return DOWN_MS;
    }
  }

  // What is missing matters only while somebody waits and nothing moves. (Not asked for otherwise:
  // browsers log its 503 as an error.)
  async #ready(videos) {
    const now = performance.now();
    const waiting = videos.filter(isBusy);
    const standing = waiting.map((each) => [each.id, each.status, each.frames_done]).join();
    if (standing !== this.#standing) {
      this.#standing = standing;
      this.#movedAt = now;
      this.#problem = null;
    }
    if (!standing || now - Math.max(this.#movedAt, this.#readyAskedAt) < STANDS_MS) return;
    this.#readyAskedAt = now;
    const body = await (await get("/readyz")).json();
    this.#problem = body.missing?.find(({ part }) => PARTS.includes(part)) ?? null;
  }

  #say(health, problem = null) {
    this.dispatchEvent(new CustomEvent("health", { detail: { health, problem } }));
  }
}

function isBusy(video) {
  return (
    video.status === "queued" ||
    video.status === "running" ||
    video.updating ||
    Object.values(video.exports ?? {}).some(({ state }) => state === "running")
  );
}
