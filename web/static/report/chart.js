// Draws scores over time on a canvas: shares stacked, lines, or one emotion of several people.
//
// Everything is drawn in CSS pixels. No chart relies on colour alone: bands and lines bear their
// names where there is room, and may be filled with a pattern (emotions) or dashed (people).

import { colourOf, wordFor } from "../palette.js";

const INK = "#14161b";
const BAND_LABEL_PX = 15; // a band at least so high gets its name
const LABEL_EVERY_PX = 260;
const UNSURE_STRIP_PX = 6;
const POINTS_A_PX = 0.6; // more than that shows nothing more
const TOP_PX = 4;
const PEOPLE = {
  deep: ["#0b62a8", "#c04a06", "#0d7450", "#9b2f7c", "#6f5600", "#3d3d9e", "#0f6f74", "#8a2b2b"],
  bright: ["#6cb8f5", "#ff9a5c", "#5fd6a8", "#f29ad0", "#e8cf5a", "#a9a5ff", "#74e6ec", "#ff9a92"],
};
const DASHES = [[], [9, 4], [2, 3], [12, 3, 2, 3], [5, 2], [2, 6], [14, 5], [7, 3, 2, 3, 2, 3]];

// How the person at a place in the list is drawn among others.
export function strokeOf(place, ground) {
  const colours = PEOPLE[ground];
  return { colour: colours[place % colours.length], dash: DASHES[place % DASHES.length] };
}

// A canvas that fits its box; `draw(context, width, height)` is called in CSS pixels.
export function paint(canvas, width, height, draw) {
  const dense = Math.min(devicePixelRatio || 1, 2);
  const size = [Math.round(width * dense), Math.round(height * dense)];
  if (canvas.width !== size[0] || canvas.height !== size[1]) [canvas.width, canvas.height] = size;
  const context = canvas.getContext("2d");
  context.setTransform(dense, 0, 0, dense, 0, 0);
  context.clearRect(0, 0, width, height);
  draw(context, width, height);
}

// The scale of one chart: positions across, shares up; room below for the strip of what is unsure.
class Scale {
  constructor(view, width, height) {
    this.view = view;
    this.width = width;
    this.top = TOP_PX;
    this.bottom = height - UNSURE_STRIP_PX - 3;
  }

  x(position) {
    return ((position - this.view.from) / (this.view.to - this.view.from)) * this.width;
  }

  y(share) {
    return this.bottom - share * (this.bottom - this.top);
  }
}

function grid(context, scale, look) {
  context.strokeStyle = look.line;
  context.lineWidth = 1;
  for (const share of [0, 0.5, 1]) {
    const y = Math.round(scale.y(share)) + 0.5;
    context.beginPath();
    context.moveTo(0, y);
    context.lineTo(scale.width, y);
    context.stroke();
  }
}

// Shares of the chosen labels, stacked.
export function drawStack(context, width, height, { series, labels, chosen, view, look, patterns, unsureBelow }) {
  const scale = new Scale(view, width, height);
  grid(context, scale, look);
  const bands = labels.map((label, k) => ({ label, k })).filter(({ label }) => chosen.has(label));
  const free = bands.map(() => -LABEL_EVERY_PX);
  const names = [];
  context.font = look.smallFont;
  const parts = series.drawn(view.from, view.to, width * POINTS_A_PX);
  // Where bands change from pixel to pixel, outlines would be all there is to see.
  const outlined = look.ground === "deep" && parts.reduce((sum, { times }) => sum + times.length, 0) < width / 4;
  for (const { times, rows } of parts) {
    const xs = padded(times, series.spacing).map((t) => scale.x(t));
    const ends = [rows[0], ...rows, rows[rows.length - 1]];
    const below = new Float32Array(ends.length);
    bands.forEach(({ label, k }, band) => {
      context.beginPath();
      for (let i = xs.length - 1; i >= 0; i--) context.lineTo(xs[i], scale.y(below[i]));
      const upper = below.map((sum, i) => sum + ends[i][k]);
      for (let i = 0; i < xs.length; i++) context.lineTo(xs[i], scale.y(upper[i]));
      context.fillStyle = patterns ? patternOf(context, label) : colourOf(label);
      context.fill();
      if (outlined) {
        context.beginPath();
        for (let i = 0; i < xs.length; i++) context.lineTo(xs[i], scale.y(upper[i]));
        context.strokeStyle = colourOf(label, "deep");
        context.lineWidth = 1;
        context.stroke();
      }
      free[band] = nameBand(context, scale, xs, below, upper, wordFor(label), free[band], names);
      below.set(upper);
    });
    unsureStrip(context, scale, height, times, rows, series.spacing, unsureBelow, look);
  }
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillStyle = INK;
  for (const { word, x, y, width: wide } of names) {
    if (patterns) {
      context.fillStyle = "rgb(255 255 255 / 75%)";
      context.fillRect(x - wide / 2 - 3, y - 8, wide + 6, 16);
      context.fillStyle = INK;
    }
    context.fillText(word, x, y + 0.5);
  }
}

// A line for each chosen label.
export function drawLines(context, width, height, { series, labels, chosen, view, look, unsureBelow }) {
  const scale = new Scale(view, width, height);
  grid(context, scale, look);
  const parts = series.drawn(view.from, view.to, width * POINTS_A_PX);
  const marks = [];
  labels.forEach((label, k) => {
    if (!chosen.has(label)) return;
    const colour = colourOf(label, look.ground);
    const peak = line(context, scale, parts, series.spacing, k, colour, DASHES[k % DASHES.length], look);
    if (peak && peak.share > 0.3) marks.push({ ...peak, word: wordFor(label), colour });
  });
  for (const { times, rows } of parts) {
    unsureStrip(context, scale, height, times, rows, series.spacing, unsureBelow, look);
  }
  nameLines(context, scale, marks, look);
}

// One emotion of several people: `people` are {name, series, place}.
export function drawCompare(context, width, height, { people, labels, label, view, look }) {
  const scale = new Scale(view, width, height);
  grid(context, scale, look);
  const k = labels.indexOf(label);
  const marks = [];
  for (const { name, series, place } of people) {
    const { colour, dash } = strokeOf(place, look.ground);
    const parts = series.drawn(view.from, view.to, width * POINTS_A_PX);
    const peak = line(context, scale, parts, series.spacing, k, colour, dash, look);
    if (peak) marks.push({ ...peak, word: name, colour });
  }
  nameLines(context, scale, marks, look);
}

// Where somebody is seen: one bar a person, over the whole video.
export function drawPresence(context, width, height, { rows, duration, look }) {
  const tall = height / Math.max(rows.length, 1);
  rows.forEach(({ seen, strong }, i) => {
    const thick = Math.min(9, tall * 0.66);
    const y = i * tall + (tall - thick) / 2;
    context.fillStyle = look.line;
    context.fillRect(0, Math.round(i * tall + tall / 2), width, 1);
    context.fillStyle = strong ? look.ink : look.muted;
    for (const [from, to] of seen) {
      const x = (from / duration) * width;
      context.fillRect(x, y, Math.max(1.5, (to / duration) * width - x), thick);
    }
  });
}

// Times below the charts, at round distances.
export function drawAxis(context, width, height, { view, look, clock }) {
  const span = view.to - view.from;
  const steps = [0.04, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];
  const digitsOf = (step) => (step < 0.1 ? 2 : step < 1 ? 1 : 0);
  const room = 74;
  const step = steps.find((each) => (each / span) * width >= room) ?? 7200;
  context.font = look.smallFont;
  context.fillStyle = look.muted;
  context.strokeStyle = look.muted;
  context.textBaseline = "top";
  context.textAlign = "center";
  context.lineWidth = 1;
  const apart = (step / span) * width;
  for (let n = Math.ceil(view.from / step - 1e-9); n * step <= view.to + 1e-9; n++) {
    const x = ((n * step - view.from) / span) * width;
    context.beginPath();
    context.moveTo(Math.round(x) + 0.5, 0);
    context.lineTo(Math.round(x) + 0.5, 4);
    context.stroke();
    const words = clock(n * step, digitsOf(step));
    const half = context.measureText(words).width / 2;
    const place = Math.min(Math.max(x, half), width - half);
    // Moved in from the edge it might lie on its neighbour, which is the one to be read then.
    if (place !== x && apart - Math.abs(place - x) < 2 * half + 6) continue;
    context.fillText(words, place, 7);
  }
}

// Each point stands for some time: half of it on either side at the ends, so that even one is seen.
function padded(times, spacing) {
  return [times[0] - spacing / 2, ...times, times[times.length - 1] + spacing / 2];
}

function line(context, scale, parts, spacing, k, colour, dash, look) {
  let peak = null;
  context.strokeStyle = colour;
  context.lineWidth = look.ground === "deep" ? 2 : 2.2;
  context.lineJoin = "round";
  context.setLineDash(dash);
  for (const { times, rows } of parts) {
    const xs = padded(times, spacing).map((t) => scale.x(t));
    context.beginPath();
    xs.forEach((x, i) => {
      const share = rows[Math.max(0, Math.min(rows.length - 1, i - 1))][k];
      context.lineTo(x, scale.y(share));
      const inside = x > 24 && x < scale.width - 24;
      if (inside && (!peak || share > peak.share)) peak = { share, x, y: scale.y(share) };
    });
    context.stroke();
  }
  context.setLineDash([]);
  return peak;
}

function nameLines(context, scale, marks, look) {
  context.font = look.boldFont;
  context.textBaseline = "middle";
  context.textAlign = "center";
  context.lineJoin = "round";
  const taken = [];
  for (const { x, y, word, colour } of marks.sort((a, b) => b.share - a.share)) {
    const wide = context.measureText(word).width;
    const left = Math.max(2, Math.min(x - wide / 2, scale.width - wide - 2));
    const tops = [y - 10, y + 11, y - 26, y + 27];
    const free = tops.find(
      (top) =>
        top > 7 &&
        top < scale.bottom - 4 &&
        !taken.some((box) => Math.abs(box.y - top) < 15 && left < box.right + 6 && box.left < left + wide + 6),
    );
    if (free === undefined) continue;
    taken.push({ left, right: left + wide, y: free });
    context.lineWidth = 4;
    context.strokeStyle = look.surface;
    context.strokeText(word, left + wide / 2, free);
    context.fillStyle = colour;
    context.fillText(word, left + wide / 2, free);
  }
}

// Find room for a band's name: a stretch in which it is high enough throughout.
function nameBand(context, scale, xs, lower, upper, word, free, names) {
  const wide = context.measureText(word).width;
  let [start, top, bottom] = [-1, 0, 0];
  const end = (i) => {
    const [left, right] = [Math.max(xs[start], 0), Math.min(xs[i], scale.width)];
    const x = (left + right) / 2;
    if (right - left < wide + 10 || x < free) return;
    names.push({ word, x, y: (top + bottom) / 2, width: wide });
    free = x + LABEL_EVERY_PX;
  };
  for (let i = 0; i < xs.length; i++) {
    const [high, low] = [scale.y(upper[i]), scale.y(lower[i])];
    if (start >= 0 && Math.min(bottom, low) - Math.max(top, high) >= BAND_LABEL_PX) {
      [top, bottom] = [Math.max(top, high), Math.min(bottom, low)];
      continue;
    }
    if (start >= 0) end(i - 1);
    start = low - high >= BAND_LABEL_PX ? i : -1;
    [top, bottom] = [high, low];
  }
  if (start >= 0) end(xs.length - 1);
  return free;
}

function unsureStrip(context, scale, height, times, rows, spacing, unsureBelow, look) {
  context.fillStyle = hatch(context, look.muted);
  const half = spacing / 2;
  const top = height - UNSURE_STRIP_PX;
  let from = null;
  for (let i = 0; i <= rows.length; i++) {
    const unsure = i < rows.length && Math.max(...rows[i]) < unsureBelow;
    if (unsure && from === null) from = times[i] - half;
    if (!unsure && from !== null) {
      const x = scale.x(from);
      context.fillRect(x, top, Math.max(1.5, scale.x(times[i - 1] + half) - x), UNSURE_STRIP_PX);
      from = null;
    }
  }
}

const patterns = new Map();

function tile(context, key, draw) {
  if (!patterns.has(key)) {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [8, 8];
    draw(canvas.getContext("2d"));
    patterns.set(key, context.createPattern(canvas, "repeat"));
  }
  return patterns.get(key);
}

function hatch(context, colour) {
  return tile(context, `hatch ${colour}`, (at) => {
    at.strokeStyle = colour;
    at.lineWidth = 2;
    strokes(at, ["M-2 2L2 -2", "M0 8L8 0", "M6 10L10 6"]);
  });
}

// One pattern for each emotion, whatever the model calls it: known by its word.
const MARKS = {
  neutral: [],
  happy: ["M2 1V3M1 2H3", "M6 5V7M5 6H7"],
  surprise: ["M2 0V8", "M6 0V8"],
  sad: ["M-2 2L2 -2", "M0 8L8 0", "M6 10L10 6"],
  anger: ["M0 0L8 8", "M8 0L0 8"],
  disgust: ["M0 2H8", "M0 6H8"],
  fear: ["M0 0L8 8", "M-2 6L2 10", "M6 -2L10 2"],
  contempt: ["M0 4H8", "M4 0V8"],
};
const MARK_OF = { happiness: "happy", sadness: "sad", angry: "anger", surprised: "surprise" };

export function patternOf(context, label) {
  return tile(context, label, (at) => {
    at.fillStyle = colourOf(label);
    at.fillRect(0, 0, 8, 8);
    at.strokeStyle = colourOf(label, "deep");
    at.lineWidth = 1.2;
    strokes(at, MARKS[MARK_OF[label] ?? label] ?? MARKS.contempt);
  });
}

function strokes(context, paths) {
  for (const path of paths) context.stroke(new Path2D(path));
}
