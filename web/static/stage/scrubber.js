// The bar over a paused picture: how long ago it was, the minute to look back over, and the way back
// to now.

import { fill, text } from "../texts.js";
import { SPAN_S } from "./lookback.js";

export class Scrubber {
  #span = [0, 0];
  #at = 0;

  // `onSeek(t)` is called with a time to show, `onLive()` when the user wants to see now.
  constructor({ onSeek, onLive }) {
    this.element = document.getElementById("scrubber").content.firstElementChild.cloneNode(true);
    fill(this.element);
    this.words = this.element.querySelector(".paused-words");
    this.range = this.element.querySelector("input");
    this.range.addEventListener("input", () => onSeek(this.#span[1] - SPAN_S + Number(this.range.value)));
    this.element.querySelector(".to-live").addEventListener("click", onLive);
  }

  // The pictures there are, and which of them is shown; the bar always stands for a whole minute.
  show(span, at) {
    this.#span = span;
    this.#at = at;
    this.range.value = at - span[1] + SPAN_S;
    const kept = Math.max(0, 1 - (span[1] - span[0]) / SPAN_S);
    this.range.style.setProperty("--missing", `${(kept * 100).toFixed(1)}%`);
    this.range.style.setProperty("--at", `${((Number(this.range.value) / SPAN_S) * 100).toFixed(2)}%`);
  }

  tick(now) {
    const words = text.stage.paused(Math.max(0, Math.round(now - this.#at)));
    if (this.words.textContent === words) return;
    this.words.textContent = words;
    this.range.setAttribute("aria-valuetext", words);
  }
}
