// A minute of one face's emotions as a ribbon: shares stacked to the full height, newest at the
// right, hatched where the model was unsure, blank where the face was away. Whoever points at a
// moment is told which.

import { colourOf } from "./palette.js";
import { text } from "./texts.js";
import { Strip } from "./timelines/strip.js";

const WINDOW_S = 60;
const MARKS_S = [60, 45, 30, 15, 0];

export class Ribbon {
  #strip;
  #labels = [];
  #bands = [];

  // `onPoint(t)` is called with the time pointed at, or null.
  constructor(element, onPoint) {
    const plot = document.createElement("div");
    plot.className = "ribbon-plot";
    const times = document.createElement("p");
    times.className = "ribbon-times";
    times.append(
      ...MARKS_S.map((ago) => {
        const mark = document.createElement("span");
        mark.textContent = text.ago(ago);
        return mark;
      }),
    );
    element.append(plot, times);
    this.#strip = new Strip(plot, WINDOW_S, onPoint);
  }

  draw(history, track, now) {
    if (!this.#strip.shown) return;
    if (history.labels !== this.#labels) {
      this.#labels = history.labels;
      this.#bands = [...history.labels]
        .reverse()
        .map((label) => ({ bright: colourOf(label), deep: colourOf(label, "deep") }));
    }
    this.#strip.draw({
      now,
      heard: history.heard,
      key: history.revisionOf(track),
      bands: this.#bands,
      columnAt: (from, to) => {
        const found = history.mean(track, from, to);
        return found && { shares: [...found.scores].reverse(), unsure: found.unsure };
      },
    });
  }

  close() {
    this.#strip.close();
  }
}
