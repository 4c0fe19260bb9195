// Paints one feed: each picture with the faces that were found in that very picture.
//
// Decoding happens in a worker, painting in the browser's own rhythm, and the next picture is
// asked for when this one is painted. While nobody can see it, pictures are let pass undecoded,
// about one a second, so that a page in the background costs next to nothing.

import { drawFaces } from "./overlay.js";

const decoder = new Worker(new URL("./decoder.js", import.meta.url));
const decoding = new Map(); // id of a picture -> what to do with its bitmap
decoder.addEventListener("message", ({ data: { id, bitmap } }) => {
  decoding.get(id)(bitmap);
  decoding.delete(id);
});
let pictures = 0;

function decode(jpeg) {
  const id = ++pictures;
  return new Promise((resolve) => {
    decoding.set(id, resolve);
    decoder.postMessage({ id, jpeg }, [jpeg]);
  });
}

const UNSEEN_PAUSE_MS = 1000;
const NEARLY_IN_VIEW = "200px";
const MAX_CANVAS_WIDTH = 1920;

export class Stage {
  #canvas;
  #context;
  #box = { width: 0, height: 0 };
  inView = true;
  #next = null;
  #held = null;
  #passing = 0;
  #shown = null;
  #onPainted;

  // `onPainted(meta)` is called after each picture that was painted.
  constructor(canvas, onPainted) {
    this.#canvas = canvas;
    this.#context = canvas.getContext("2d", { alpha: false });
    this.#onPainted = onPainted;
    const frame = canvas.parentElement;
    this.sizes = new ResizeObserver(([entry]) => {
      this.#box = entry.contentRect;
      if (this.#shown) this.#paint(this.#shown);
    });
    this.sizes.observe(frame);
    this.views = new IntersectionObserver(
      ([entry]) => {
        this.inView = entry.isIntersecting;
        this.look();
      },
      { rootMargin: NEARLY_IN_VIEW },
    );
    this.views.observe(frame);
  }

  // A picture that nobody can see waits undecoded, and is painted at once should that change.
  show(meta, jpeg, acknowledge) {
    if (this.#seen) {
      this.#decode({ meta, jpeg, acknowledge });
      return;
    }
    this.#held = { meta, jpeg, acknowledge };
    this.#passing = setTimeout(() => {
      this.#held = null;
      acknowledge();
    }, UNSEEN_PAUSE_MS);
  }

  get #seen() {
    return this.inView && !document.hidden;
  }

  // Whether it can be seen may have changed.
  look() {
    if (!this.#held || !this.#seen) return;
    clearTimeout(this.#passing);
    const held = this.#held;
    this.#held = null;
    this.#decode(held);
  }

  async #decode({ meta, jpeg, acknowledge }) {
    const bitmap = await decode(jpeg);
    if (!bitmap) {
      acknowledge(); // damaged; the next one may be whole
      return;
    }
    if (!this.#next) requestAnimationFrame(() => this.#turn());
    this.#next?.bitmap.close();
    this.#next = { meta, bitmap, acknowledge };
  }

  close() {
    clearTimeout(this.#passing);
    this.sizes.disconnect();
    this.views.disconnect();
    this.#shown?.bitmap.close();
    this.#shown = null;
  }

  #turn() {
    const next = this.#next;
    this.#next = null;
    this.#paint(next);
    this.#shown?.bitmap.close();
    this.#shown = next;
    next.acknowledge();
    this.#onPainted(next.meta);
  }

  #paint({ meta, bitmap }) {
    const { width, height } = this.#box;
    if (!width || !height) return;
    const fit = Math.min(width / meta.width, height / meta.height);
    const dense = Math.min(devicePixelRatio || 1, MAX_CANVAS_WIDTH / (meta.width * fit));
    const size = [Math.round(meta.width * fit * dense), Math.round(meta.height * fit * dense)];
    if (this.#canvas.width !== size[0] || this.#canvas.height !== size[1]) {
      [this.#canvas.width, this.#canvas.height] = size;
      this.#canvas.style.width = `${meta.width * fit}px`;
      this.#canvas.style.height = `${meta.height * fit}px`;
    }
    this.#context.drawImage(bitmap, 0, 0, ...size);
    drawFaces(this.#context, meta.faces, size[0] / meta.width, dense);
  }
}
