// One face in the timeline panel: its number, what it shows at the moment asked for, and its chart.
//
// What is drawn is what is read: values come from the very points of the chart. Charts are those of
// the report page (`report/chart.js`); what is live is added here: stretches in which the model was
// unsure are hatched over their whole height, and what happened is marked.

import { look } from "../look.js";
import { make, setText } from "../make.js";
import { colourOfFace, wordFor } from "../palette.js";
import { drawLines, drawStack, paint } from "../report/chart.js";
import { percent, text } from "../texts.js";

const HATCH_PX = 8;
const FADED = { stacked: 0.65, lines: 0 };
const TOLD = 4; // emotions told beside the chart, the first in large

export class Lane {
  #series = { parts: [], spacing: 0.1 };
  inView = true;

  constructor(track) {
    this.track = track;
    this.number = make("span", { className: "face-number", textContent: track });
    this.word = make("strong", { className: "lane-word" });
    this.values = make("span", { className: "lane-values" });
    this.canvas = make("canvas", { className: "lane-plot" });
    this.canvas.setAttribute("aria-hidden", "true"); // slider and table say it
    this.element = make(
      "div",
      { className: "lane" },
      make("p", { className: "lane-head" }, this.number, this.word, this.values),
      this.canvas,
    );
  }

  // Take the points of a stretch of time, no nearer to one another than `step` seconds.
  load(history, from, to, step) {
    this.#series = history.series(this.track, from, to, step);
  }

  // `options`: {labels, chosen, mode, patterns, view: {from, to}, marks, width, height}.
  draw({ mode, marks, width, height, ...options }) {
    if (!this.inView) return;
    const { parts, spacing } = this.#series;
    const series = { drawn: () => parts, spacing };
    paint(this.canvas, width, height, (context) => {
      const draw = mode === "lines" ? drawLines : drawStack;
      draw(context, width, height, { ...options, series, look, unsureBelow: 0 });
      for (const part of parts) hatch(context, part, spacing, options.view, width, height, FADED[mode]);
      for (const event of marks) {
        if (event.track === undefined || event.track === null || event.track === this.track) {
          mark(context, event, options.view, width, height);
        }
      }
    });
  }

  // What the face shows at a time: {scores: [[label, share]] from the largest, unsure}, or null where
  // it is not in view.
  at(t, labels) {
    let [best, found] = [Infinity, null];
    for (const { times, rows, unsure } of this.#series.parts) {
      times.forEach((time, i) => {
        const off = Math.abs(time - t);
        if (off < best) [best, found] = [off, { row: rows[i], unsure: unsure[i] > 0.5 }];
      });
    }
    if (!found || best > Math.max(1.2, this.#series.spacing)) return null;
    const scores = labels.map((label, k) => [label, found.row[k]]).sort((a, b) => b[1] - a[1]);
    return { scores, unsure: found.unsure };
  }

  // The mean of the points from one time to another: {scores in the labels' order, unsure: share of
  // them}; null where there is none.
  mean(from, to) {
    const taken = this.#series.parts.flatMap(({ times, rows, unsure }) =>
      times.flatMap((t, i) => (t >= from && t < to ? [{ row: rows[i], unsure: unsure[i] }] : [])),
    );
    if (!taken.length) return null;
    const over = (pick) => taken.reduce((sum, each) => sum + pick(each), 0) / taken.length;
    return {
      scores: taken[0].row.map((_, k) => over(({ row }) => row[k])),
      unsure: over(({ unsure }) => unsure),
    };
  }

  // Write what is shown at a time beside the chart.
  tell(t, labels) {
    const shown = this.at(t, labels);
    const [emotion] = shown?.scores[0] ?? [];
    const unsure = shown?.unsure ?? true;
    this.element.classList.toggle("away", !shown);
    this.element.classList.toggle("unsure", Boolean(shown?.unsure));
    this.number.style.backgroundColor = shown ? colourOfFace({ emotion, unsure }) : "";
    setText(this.word, wordsAt(shown));
    setText(
      this.values,
      (shown?.scores ?? [])
        .slice(shown?.unsure ? 0 : 1, TOLD)
        .map(([label, share]) => `${wordFor(label)} ${percent(share)}`)
        .join("\n"),
    );
  }
}

// In a few words what a face shows, as `Lane.at` tells it.
export function wordsAt(shown) {
  if (!shown) return text.timelines.away;
  const [emotion, share] = shown.scores[0];
  return shown.unsure ? text.unsure : `${wordFor(emotion)} ${percent(share)}`;
}

function hatch(context, { times, unsure }, spacing, { from, to }, width, height, fade) {
  const x = (t) => ((t - from) / (to - from)) * width;
  context.strokeStyle = look.muted;
  context.lineWidth = 1;
  for (let i = 0; i < times.length; i++) {
    if (unsure[i] <= 0.5) continue;
    const start = i > 0 ? (times[i - 1] + times[i]) / 2 : times[i] - spacing / 2;
    while (i + 1 < times.length && unsure[i + 1] > 0.5) i++;
    const end = i + 1 < times.length ? (times[i] + times[i + 1]) / 2 : times[i] + spacing / 2;
    const left = Math.max(0, x(start));
    const right = Math.min(width, x(end));
    if (right <= left) continue;
    context.save();
    context.beginPath();
    context.rect(left, 0, right - left, height);
    context.clip();
    context.globalAlpha = fade;
    context.fillStyle = look.surface;
    context.fillRect(left, 0, right - left, height);
    context.globalAlpha = 1;
    context.beginPath();
    // Fixed to the moments and not to the screen, so that the lines move along with the rest.
    const shift = ((x(0) % HATCH_PX) + HATCH_PX) % HATCH_PX;
    const first = Math.floor((left - height) / HATCH_PX) * HATCH_PX + shift;
    for (let at = first; at < right + HATCH_PX; at += HATCH_PX) {
      context.moveTo(at, height);
      context.lineTo(at + height, 0);
    }
    context.stroke();
    context.restore();
  }
}

function mark(context, { at }, { from, to }, width, height) {
  const x = Math.round(((at - from) / (to - from)) * width) + 0.5;
  context.strokeStyle = look.ink;
  context.lineWidth = 1.5;
  context.setLineDash([2, 3]);
  context.beginPath();
  context.moveTo(x, 0);
  context.lineTo(x, height);
  context.stroke();
  context.setLineDash([]);
}
