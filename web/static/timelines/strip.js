// A strip of stacked shares that moves with the clock, newest at the right: a column for each bit of
// time, painted once and then only shifted. So a tick costs a column, not a chart, and a wall of
// faces stays cheap. A column without data stays blank; what is unsure is hatched.
//
// Not here: what a column shows, and reading values off it (`onPoint` tells the time pointed at).

import { look } from "../look.js";

const HATCH_PX = 7;
const FADED = 0.7;

export class Strip {
  #canvas = document.createElement("canvas");
  #context = this.#canvas.getContext("2d");
  #size = { width: 0, height: 0 };
  #spanS;
  #end = null; // number of the column at the right edge
  #painted = null; // number of the newest column that holds its final shares
  #key = "";
  #now = 0;

  // Shows the last `spanS` seconds in `element`; `onPoint(t)` gets the time pointed at, or null.
  constructor(element, spanS, onPoint = () => {}) {
    this.#spanS = spanS;
    element.append(this.#canvas);
    this.sizes = new ResizeObserver(([{ contentRect: { width, height } }]) => {
      this.#size = { width: Math.floor(width), height: Math.floor(height) };
    });
    this.sizes.observe(element);
    element.addEventListener("pointermove", ({ clientX }) => {
      const { left, width } = element.getBoundingClientRect();
      onPoint(this.#now - (1 - (clientX - left) / width) * this.#spanS);
    });
    element.addEventListener("pointerleave", () => onPoint(null));
  }

  // Whether there is anything to draw on: not while it is hidden.
  get shown() {
    return this.#size.width > 0 && this.#size.height > 0;
  }

  // Paint what is new. `bands` are {bright, deep, hatched?} from the top; `columnAt(from, to)` gives
  // {shares of the bands, unsure: share of the time} or null; what was painted is painted again
  // when `key` changes. Columns after `heard` stay blank: nothing is known of them yet.
  draw({ now, heard, key, bands, columnAt }) {
    if (!this.shown) return;
    const dense = Math.max(1, Math.round(Math.min(devicePixelRatio || 1, 2)));
    const columnS = this.#spanS / this.#size.width;
    const end = Math.ceil(now / columnS);
    const newest = Math.min(end, Math.floor(heard / columnS)) - 1;
    const whole = `${key} ${look.ground} ${this.#size.width} ${this.#size.height} ${dense}`;
    const canvas = this.#canvas;
    this.#now = now;
    if (whole !== this.#key || end < this.#end || end - this.#end >= this.#size.width) {
      canvas.width = this.#size.width * dense;
      canvas.height = this.#size.height * dense;
      this.#key = whole;
      this.#painted = end - this.#size.width - 1;
    } else if (end > this.#end) {
      const by = (end - this.#end) * dense;
      this.#context.globalCompositeOperation = "copy";
      this.#context.drawImage(canvas, -by, 0);
      this.#context.globalCompositeOperation = "source-over";
    }
    this.#end = end;
    for (let column = Math.max(this.#painted + 1, end - this.#size.width); column <= newest; column++) {
      const found = columnAt(column * columnS, (column + 1) * columnS);
      if (found) this.#paint(column, dense, bands, found);
    }
    this.#painted = Math.max(this.#painted, newest);
  }

  close() {
    this.sizes.disconnect();
    this.#canvas.remove();
  }

  #paint(column, dense, bands, { shares, unsure }) {
    const context = this.#context;
    const { width, height } = this.#canvas;
    const left = width - (this.#end - column) * dense;
    let sum = 0;
    bands.forEach(({ bright, deep, hatched }, i) => {
      const top = Math.round(sum * height);
      sum += shares[i];
      const tall = Math.round(sum * height) - top;
      if (tall < 1) return;
      context.fillStyle = bright;
      context.fillRect(left, top, dense, tall);
      if (hatched) this.#hatch(column, left, dense, top, top + tall, deep);
      else if (look.ground === "deep") {
        context.fillStyle = deep;
        context.fillRect(left, top, dense, dense);
      }
    });
    if (unsure < 0.5) return;
    context.globalAlpha = FADED;
    context.fillStyle = look.surface;
    context.fillRect(left, 0, dense, height);
    context.globalAlpha = 1;
    this.#hatch(column, left, dense, 0, height, look.muted);
  }

  // One column's part of diagonal lines, which are fixed to the moments and so move along.
  #hatch(column, left, dense, top, bottom, colour) {
    const context = this.#context;
    const spacing = HATCH_PX * dense;
    context.fillStyle = colour;
    const phase = (((column * dense) % spacing) + spacing) % spacing;
    const first = top - (((top + phase) % spacing) + spacing) % spacing;
    for (let y = first; y < bottom; y += spacing) {
      const from = Math.max(top, y);
      const to = Math.min(bottom, y + 1.5 * dense);
      if (to > from) context.fillRect(left, from, dense, to - from);
    }
  }
}
