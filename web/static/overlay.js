// Draws faces over the picture they were found in: box, number, emotion, confidence, and bars of the
// likeliest emotions. A face that the model is unsure of gets a dashed box, a colour of its own and
// the word.

import { colourOf, colourOfFace, wordFor, wordForFace } from "./palette.js";
import { percent } from "./texts.js";

const INK = "#14161b";
const FONT = '600 {}px "Avenir Next", "Segoe UI", "Noto Sans", "Liberation Sans", sans-serif';

const BARS = 3;
const NARROW_PX = 220; // narrower, and labels say only the word

const ALL_LAYERS = { boxes: true, names: true, emotions: true, bars: false };

// `scale` is canvas pixels for each picture pixel, `unit` canvas pixels for each CSS pixel. The box of
// the track that is `chosen` among the layers stands out.
export function drawFaces(context, faces, scale, unit, layers = ALL_LAYERS) {
  const { width, height } = context.canvas;
  const size = Math.max(12, Math.min(28, (height / unit) * 0.036)) * unit;
  const stroke = Math.max(2, size * 0.16);
  setFont(context, size);
  const boxes = faces.map((face) => face.box.map((value) => value * scale));
  if (layers.boxes) {
    boxes.forEach((box, i) => {
      const line = faces[i].track === layers.chosen ? 1.7 * stroke : stroke;
      drawBox(context, box, line, colourOfFace(faces[i]), faces[i].unsure);
    });
  }
  if (layers.bars) {
    boxes.forEach((box, i) => drawBars(context, faces[i].scores, box, size, stroke, width));
  }
  if (!layers.names && !layers.emotions) return;
  // Labels last and those of large faces first, so that none covers another.
  const order = faces.map((_, i) => i);
  order.sort((a, b) => boxes[b][2] * boxes[b][3] - boxes[a][2] * boxes[a][3]);
  const taken = [];
  for (const i of order) {
    const label = width / unit < NARROW_PX && layers.emotions ? wordForFace(faces[i]) : labelOf(faces[i], layers);
    const place = labelPlace(boxes[i], context.measureText(label).width, size, stroke, [width, height], taken);
    taken.push(place);
    drawLabel(context, label, place, size, colourOfFace(faces[i]));
  }
}

// Setting a font makes the browser work out the page's styles at once, so only another one is set. A
// canvas that was given a size has forgotten its own.
const fonts = new WeakMap(); // context -> its font and size
function setFont(context, size) {
  const { width, height } = context.canvas;
  const font = FONT.replace("{}", size.toFixed(1));
  const key = `${font} ${width} ${height}`;
  if (fonts.get(context) === key && context.textBaseline === "middle") return;
  fonts.set(context, key);
  context.font = font;
  context.textBaseline = "middle";
}

function labelOf(face, layers) {
  const { track, name, confidence, unsure } = face;
  const what = `${wordForFace(face)}${unsure ? "" : ` ${percent(confidence)}`}`;
  return [...(layers.names ? [name ?? track] : []), ...(layers.emotions ? [what] : [])].join("  ");
}

function drawBox(context, [x, y, width, height], stroke, colour, dashed) {
  const radius = Math.min(width, height) * 0.08;
  context.beginPath();
  context.roundRect(x, y, width, height, radius);
  if (dashed) context.setLineDash([4 * stroke, 3 * stroke]);
  context.lineWidth = stroke + 2;
  context.strokeStyle = "rgb(20 22 27 / 70%)";
  context.stroke();
  context.lineWidth = stroke;
  context.strokeStyle = colour;
  context.stroke();
  context.setLineDash([]);
}

// Beside the face: right of it, or left where the picture ends.
function drawBars(context, scores, [x, y, faceWidth, faceHeight], size, stroke, width) {
  const top = Object.entries(scores).sort((a, b) => b[1] - a[1]).slice(0, BARS);
  const small = size * 0.8;
  const [row, w] = [small * 1.5, small * 9];
  const h = row * top.length + small * 0.6;
  const right = x + faceWidth + stroke * 2;
  const left = right + w <= width ? right : Math.max(0, x - w - stroke * 2);
  const from = Math.max(0, y + (faceHeight - h) / 2);
  setFont(context, small);
  context.beginPath();
  context.roundRect(left, from, w, h, small * 0.4);
  context.fillStyle = "rgb(20 22 27 / 72%)";
  context.fill();
  top.forEach(([label, share], i) => {
    const middle = from + small * 0.3 + row * (i + 0.5);
    context.fillStyle = "#f0ede6";
    context.fillText(wordFor(label), left + small * 0.5, middle + small * 0.06, small * 4.6);
    context.fillStyle = colourOf(label);
    context.beginPath();
    context.roundRect(left + small * 5.3, middle - small * 0.35, small * 3.3 * share + 1, small * 0.7, small * 0.15);
    context.fill();
  });
  setFont(context, size);
}

function labelPlace([x, y, , faceHeight], textWidth, size, stroke, [width, height], taken) {
  const w = textWidth + size * 0.9;
  const h = size * 1.55;
  const left = Math.max(0, Math.min(x - stroke / 2, width - w));
  const gap = stroke * 1.5;
  const tops = [y - h - gap, y + faceHeight + gap, y + gap, y + faceHeight - h - gap];
  const fitting = tops.filter((top) => top >= 0 && top + h <= height);
  const free = fitting.filter((top) => !taken.some((other) => overlap([left, top, w, h], other)));
  return [left, free[0] ?? fitting[0] ?? 0, w, h];
}

function drawLabel(context, label, [x, y, width, height], size, colour) {
  context.beginPath();
  context.roundRect(x, y, width, height, size * 0.35);
  context.fillStyle = colour;
  context.fill();
  context.lineWidth = 1;
  context.strokeStyle = "rgb(20 22 27 / 60%)";
  context.stroke();
  context.fillStyle = INK;
  context.fillText(label, x + size * 0.45, y + height / 2 + size * 0.06);
}

function overlap(a, b) {
  return a[0] < b[0] + b[2] && b[0] < a[0] + a[2] && a[1] < b[1] + b[3] && b[1] < a[1] + a[3];
}
