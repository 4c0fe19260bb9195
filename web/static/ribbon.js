// A minute of one face's emotions as a ribbon: shares stacked to the full height, newest at the
// right. Whoever points at a moment is told which.

import uPlot from "./vendor/uPlot.esm.js";
import { colourOf } from "./palette.js";
import { text } from "./texts.js";

export const WINDOW_S = 60;

export class Ribbon {
  #chart = null;
  #key = "";
  #now = 0;
  #element;
  #onPoint;

  // `onPoint(t)` is called with the time pointed at, or null.
  constructor(element, onPoint) {
    this.#element = element;
    this.#onPoint = onPoint;
    this.sizes = new ResizeObserver(([entry]) => {
      const { width, height } = entry.contentRect;
      if (this.#chart && width && height) this.#chart.setSize({ width, height });
    });
    this.sizes.observe(element);
  }

  draw(history, track, now) {
    const ground = getComputedStyle(this.#element).getPropertyValue("--ground").trim();
    const roomy = this.#element.clientHeight >= 64;
    const key = `${history.labels.join()} ${ground} ${roomy}`;
    if (key !== this.#key) {
      this.#chart?.destroy();
      this.#chart = this.#build(history.labels, ground, roomy);
      this.#key = key;
    }
    this.#now = now;
    this.#chart.setData(history.stacked(track));
  }

  close() {
    this.sizes.disconnect();
    this.#chart?.destroy();
    this.#chart = null;
  }

  #build(labels, ground, roomy) {
    const style = getComputedStyle(this.#element);
    const muted = style.getPropertyValue("--muted").trim();
    const surface = style.getPropertyValue("--surface").trim();
    const splits = () => [-60, -45, -30, -15, 0].map((ago) => this.#now + ago);
    const options = {
      width: this.#element.clientWidth || 200,
      height: this.#element.clientHeight || 60,
      padding: roomy ? [2, 12, 0, 12] : [0, 0, 0, 0],
      legend: { show: false },
      cursor: { y: false, points: { show: false }, drag: { x: false, y: false } },
      scales: {
        x: { time: false, range: () => [this.#now - WINDOW_S, this.#now] },
        y: { range: () => [0, 1] },
      },
      axes: [
        {
          show: roomy,
          size: 22,
          gap: 2,
          font: `11px ${style.fontFamily}`,
          stroke: muted,
          grid: { show: false },
          ticks: { show: false },
          splits,
          values: (_, at) =>
            at.map((t) => (t >= this.#now - 0.5 ? text.now : `${Math.round(t - this.#now)} s`)),
        },
        { show: false },
      ],
      series: [
        {},
        ...[...labels].reverse().map((label) => ({
          label,
          fill: colourOf(label, ground),
          stroke: surface,
          width: 1,
          points: { show: false },
        })),
      ],
      hooks: {
        setCursor: [
          (chart) => {
            const left = chart.cursor.left ?? -1;
            this.#onPoint(left >= 0 ? chart.posToVal(left, "x") : null);
          },
        ],
      },
    };
    return new uPlot(options, [[]], this.#element);
  }
}
