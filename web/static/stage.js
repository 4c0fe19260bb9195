// Paints one feed: each picture with the faces that were found in that very picture.
//
// Decoding happens in a worker, painting in the browser's own rhythm, and the next picture is
// asked for when this one is painted. While nobody can see it, the newest picture waits undecoded
// and the next is wanted in a second, so that a page in the background costs next to nothing. While
// a past picture is held, what comes is acknowledged and let pass.

import { drawFaces } from "./overlay.js";
import { layers } from "./stage/layers.js";
import { hideFaces } from "./stage/veil.js";

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
    decoder.postMessage({ id, jpeg }); // a copy: the look back keeps the bytes
  });
}

const UNSEEN_PAUSE_S = 1;
const NEARLY_IN_VIEW = "200px";
const MAX_CANVAS_WIDTH = 1920;
const STAYS_HIDDEN_S = 0.8; // a face that the detector misses for a moment stays hidden so long

export class Stage {
  #canvas;
  #context;
  #box = { width: 0, height: 0 };
  inView = true;
  pauseS = 0; // how long no picture is wanted after each: where it is shown small beside another
  #next = null;
  #unseen = null;
  #held = false;
  #wanted = null;
  #shown = null;
  #onPainted;
  #onSeen;
  #facesAround;
  #repaint = () => this.#shown && this.#paint(this.#shown);

  // `onPainted(meta)` is called after each live picture that was painted, `onSeen()` when pictures
  // are wanted again at once; `facesAround(t, seconds)` tells all faces seen about that time.
  constructor(canvas, { onPainted, onSeen, facesAround }) {
    this.#canvas = canvas;
    this.#context = canvas.getContext("2d", { alpha: false });
    this.#onPainted = onPainted;
    this.#onSeen = onSeen;
    this.#facesAround = facesAround;
    const frame = canvas.parentElement;
    this.sizes = new ResizeObserver(([entry]) => {
      this.#box = entry.contentRect;
      this.#repaint();
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
    layers.addEventListener("change", this.#repaint);
  }

  // What the picture that is shown says of itself; undefined before the first.
  get meta() {
    return this.#shown?.meta;
  }

  // Show what just came, if it is to be seen; `acknowledge(pauseS)` asks for the next.
  show(meta, jpeg, acknowledge) {
    if (this.#held) acknowledge(this.pauseS);
    else if (this.#seen) this.#decode({ meta, jpeg, acknowledge });
    else {
      this.#unseen = { meta, jpeg, acknowledge: () => {} };
      acknowledge(UNSEEN_PAUSE_S);
    }
  }

  // Whether it can be seen may have changed.
  look() {
    if (!this.#unseen || !this.#seen) return;
    const newest = this.#unseen;
    this.#unseen = null;
    if (!this.#held) this.#decode(newest);
    this.#onSeen();
  }

  // Stay at a past picture: at the one that is shown, or at `kept` {meta, jpeg}.
  async hold(kept = null) {
    this.#held = true;
    const busy = this.#wanted !== null;
    this.#wanted = kept;
    if (busy || !kept) return;
    while (this.#wanted) {
      const wanted = this.#wanted;
      const bitmap = await decode(wanted.jpeg);
      const overtaken = this.#wanted !== wanted;
      if (!overtaken) this.#wanted = null;
      if (bitmap && this.#held) this.#display({ meta: wanted.meta, bitmap });
      else bitmap?.close();
    }
  }

  // Go on with what comes.
  release() {
    this.#held = false;
    this.#wanted = null;
  }

  // Draw what is shown into another canvas of that size.
  paintInto(context, size) {
    if (this.#shown) this.#draw(context, this.#shown, size, 1);
  }

  close() {
    this.sizes.disconnect();
    this.views.disconnect();
    layers.removeEventListener("change", this.#repaint);
    this.#shown?.bitmap.close();
    this.#shown = null;
  }

  get #seen() {
    return this.inView && !document.hidden;
  }

  async #decode({ meta, jpeg, acknowledge }) {
    const bitmap = await decode(jpeg);
    if (!bitmap) {
      acknowledge(0); // damaged; the next one may be whole
      return;
    }
    if (!this.#next) requestAnimationFrame(() => this.#turn());
    this.#next?.bitmap.close();
    this.#next = { meta, bitmap, acknowledge };
  }

  #turn() {
    const next = this.#next;
    this.#next = null;
    if (this.#held) next.bitmap.close();
    else this.#display(next);
    next.acknowledge(this.pauseS);
    if (!this.#held) this.#onPainted(next.meta);
  }

  #display(picture) {
    this.#paint(picture);
    this.#shown?.bitmap.close();
    this.#shown = picture;
  }

  #paint(picture) {
    const { width, height } = this.#box;
    if (!width || !height) return;
    const { meta } = picture;
    const fit = Math.min(width / meta.width, height / meta.height);
    const dense = Math.min(devicePixelRatio || 1, MAX_CANVAS_WIDTH / (meta.width * fit));
    const size = [Math.round(meta.width * fit * dense), Math.round(meta.height * fit * dense)];
    if (this.#canvas.width !== size[0] || this.#canvas.height !== size[1]) {
      [this.#canvas.width, this.#canvas.height] = size;
      this.#canvas.style.width = `${meta.width * fit}px`;
      this.#canvas.style.height = `${meta.height * fit}px`;
    }
    this.#draw(this.#context, picture, size, dense);
  }

  #draw(context, { meta, bitmap }, size, dense) {
    const scale = size[0] / meta.width;
    context.drawImage(bitmap, 0, 0, ...size);
    if (layers.on.blur) {
      const around = this.#facesAround(meta.captured_at, STAYS_HIDDEN_S);
      const boxes = [...around, ...meta.faces].map(({ box }) => box);
      hideFaces(context, bitmap, boxes, scale, [meta.width, meta.height]);
    }
    drawFaces(context, meta.faces, scale, dense, layers.on);
  }
}
