// A minute of one face's emotions as a ribbon: shares stacked to the full height, newest at the
// right, hatched where the model was unsure. Whoever points at a moment is told which.

import uPlot from "./vendor/uPlot.esm.js";
import { colourOf } from "./palette.js";
import { look } from "./look.js";
import { text } from "./texts.js";

const WINDOW_S = 60;
const HATCH_PX = 7;
const ROOMY_PX = { width: 190, height: 64 }; // from here on there is room for the times below

export class Ribbon {
  #chart = null;
  #key = "";
  #now = 0;
  #unsure = [];
  #element;
  #size = { width: 0, height: 0 };
  #onPoint;

  // `onPoint(t)` is called with the time pointed at, or null.
  constructor(element, onPoint) {
    this.#element = element;
    this.#onPoint = onPoint;
    this.sizes = new ResizeObserver(([entry]) => {
      const { width, height } = entry.contentRect;
      this.#size = { width, height };
      if (width && height) this.#chart?.setSize(this.#size);
    });
    this.sizes.observe(element);
  }

  draw(history, track, now) {
    if (!this.#size.width || !this.#size.height) return; // not on the screen
    const roomy = this.#size.height >= ROOMY_PX.height && this.#size.width >= ROOMY_PX.width;
    const key = `${history.labels.join()} ${look.ground} ${roomy}`;
    if (key !== this.#key) {
      this.#chart?.destroy();
      this.#chart = this.#build(history.labels, roomy);
      this.#key = key;
    }
    this.#now = now;
    this.#unsure = history.unsure(track);
    this.#chart.setData(history.stacked(track));
  }

  close() {
    this.sizes.disconnect();
    this.#chart?.destroy();
    this.#chart = null;
  }

  #build(labels, roomy) {
    const splits = () => [-60, -45, -30, -15, 0].map((ago) => this.#now + ago);
    const options = {
      ...this.#size,
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
          font: look.smallFont,
          stroke: look.muted,
          grid: { show: false },
          ticks: { show: false },
          splits,
          values: (_, at) => at.map((t) => text.ago(Math.round(this.#now - t))),
        },
        { show: false },
      ],
      series: [
        {},
        ...[...labels].reverse().map((label) => ({
          label,
          fill: colourOf(label),
          stroke: colourOf(label, "deep"),
          width: look.ground === "deep" ? 1 : 0,
          points: { show: false },
        })),
      ],
      hooks: {
        draw: [(chart) => this.#hatch(chart)],
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

  // Lets colours fade and draws lines over them, fixed to the moments and not to the screen, so that
  // they move along with the rest.
  #hatch(chart) {
    const { ctx: context, bbox } = chart;
    const dense = uPlot.pxRatio;
    const spacing = HATCH_PX * dense;
    context.save();
    context.beginPath();
    context.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    context.clip();
    const shift = chart.valToPos(0, "x", true) % spacing;
    for (const [from, to] of this.#unsure) {
      const left = Math.max(bbox.left, chart.valToPos(from, "x", true));
      const right = Math.min(bbox.left + bbox.width, chart.valToPos(to, "x", true));
      if (right <= left) continue;
      context.save();
      context.beginPath();
      context.rect(left, bbox.top, right - left, bbox.height);
      context.clip();
      context.globalAlpha = 0.6;
      context.fillStyle = look.surface;
      context.fillRect(left, bbox.top, right - left, bbox.height);
      context.globalAlpha = 1;
      context.strokeStyle = look.ink;
      context.lineWidth = dense;
      context.beginPath();
      const first = Math.floor((left - bbox.height) / spacing) * spacing + shift;
      for (let x = first; x < right + spacing; x += spacing) {
        context.moveTo(x, bbox.top + bbox.height);
        context.lineTo(x + bbox.height, bbox.top);
      }
      context.stroke();
      context.restore();
    }
    context.restore();
  }
}
