// The mark that everybody sees who sees a feed: that it is being recorded, and for how long.
//
// A red point and words; the time moves on by itself. A screen reader is told once when it begins and
// once when it is over, and reads the time of day instead of a running clock.

import { make, setText } from "../make.js";
import { clock } from "../report/times.js";
import { locale, text } from "../texts.js";

const timeOfDay = new Intl.DateTimeFormat(locale, { timeStyle: "short" });

export class RecordingMark {
  #point = make("i", { ariaHidden: "true" });
  #words = make("b", { ariaHidden: "true" });
  #spoken = make("span", { className: "unseen" });
  #news = make("span", { className: "unseen", role: "status" });
  #mark = make("span", { className: "recording-mark", hidden: true });
  #recording = null;
  #known = false; // what the page shows when it opens is no news

  constructor() {
    this.#mark.append(this.#point, this.#words, this.#spoken);
    this.element = make("span", { className: "recording-said" }, this.#mark, this.#news);
  }

  // Take what the list of feeds says; `now` is the server's time. Without it no clock runs, and the
  // mark says since when.
  update(feed, now = null) {
    const { recording, name } = feed;
    if (this.#known) this.#tell(recording, feed.recorded, name);
    this.#known = true;
    this.#recording = recording ?? null;
    this.#mark.hidden = !recording;
    if (!recording) return;
    this.#mark.dataset.state = recording.state;
    const { state, since, missed } = recording;
    const words = text.recording;
    const begun = since ? words.since(timeOfDay.format(since * 1000)) : words.states[state];
    setText(this.#spoken, state === "recording" ? begun : words.states[state]);
    this.#mark.title = [begun, missed ? words.missed(missed) : ""].filter(Boolean).join(". ");
    this.tick(now);
  }

  tick(now) {
    if (!this.#recording) return;
    const { state, since } = this.#recording;
    let words = text.recording.states[state];
    if (state === "recording" && since) words = now ? text.recording.on(clock(now - since)) : this.#spoken.textContent;
    setText(this.#words, words);
  }

  #tell(recording, recorded, name) {
    const before = this.#recording;
    const words = text.recording;
    const goesOn = (each) => each && each.state !== "saving";
    if (goesOn(recording) && !goesOn(before)) setText(this.#news, words.begins(name));
    else if (goesOn(before) && !goesOn(recording)) setText(this.#news, words.ends(name));
    else if (recorded && before && !recording) setText(this.#news, words.savedOf(name));
  }
}
