// One feed on the board: its picture, its faces, its state, and the truth about its delay.

import { Faces } from "./faces.js";
import { History } from "./history.js";
import { wordFor } from "./palette.js";
import { Stage } from "./stage.js";
import { fill, number, percent, text } from "./texts.js";

const DESCRIBE_EVERY_MS = 3000; // how often a screen reader could hear something new
const PAINTS_KEPT_S = 3;

export class Tile {
  #feed;
  #link;
  #history = new History();
  #paints = []; // {at, delay, parts}, of the last seconds
  #described = -Infinity;
  #notCounted = -1; // the picture that was there already says nothing of the delay

  // `onRemove(feed)` is called when the user asks for this feed to go.
  constructor(feed, link, onRemove) {
    this.#feed = feed;
    this.#link = link;
    this.element = document.getElementById("tile").content.firstElementChild.cloneNode(true);
    fill(this.element);
    const find = (selector) => this.element.querySelector(selector);
    this.parts = {
      name: find(".tile-name"),
      demo: find(".demo-tag"),
      state: find(".state"),
      canvas: find("canvas"),
      veil: find(".veil"),
      delay: find(".delay"),
      shown: find(".shown"),
      analysed: find(".analysed"),
      dropped: find(".dropped"),
      faces: find(".faces"),
      remove: find(".remove"),
    };
    this.element.dataset.feed = feed.id;
    this.parts.remove.addEventListener("click", () => onRemove(this.#feed));
    this.stage = new Stage(this.parts.canvas, (meta) => this.#painted(meta));
    this.faces = new Faces(this.parts.faces, find(".no-faces"));
    this.describe(feed);
    this.reload();
  }

  get id() {
    return this.#feed.id;
  }

  // This page can be seen again.
  seen() {
    this.stage.look();
    this.reload();
  }

  // Fetch the last minute.
  async reload() {
    const answer = await fetch(`/api/feeds/${this.id}/timeline?seconds=60`).catch(() => null);
    if (answer?.ok) this.#history.fill(await answer.json());
  }

  frame({ meta, jpeg, acknowledge, first }) {
    this.#history.add(meta);
    this.stage.show(meta, jpeg, acknowledge);
    if (first) this.#notCounted = meta.seq;
  }

  // Take what the list of feeds says about this one.
  describe(feed) {
    this.#feed = feed;
    const { name, demo, state, analysed, dropped, remove } = this.parts;
    setText(name, feed.name);
    name.title = feed.source;
    demo.hidden = feed.kind !== "demo";
    demo.title = text.demoTagTitle;
    state.dataset.state = feed.status;
    setText(state.lastElementChild, text.states[feed.status] ?? feed.status);
    this.parts.faces.setAttribute("aria-label", text.facesOf(feed.name));
    remove.setAttribute("aria-label", text.remove(feed.name));
    remove.title = text.remove(feed.name);
    setText(analysed.lastElementChild, text.perSecond(number(feed.fps_analysed)));
    analysed.title = text.analysedTitle(number(feed.fps_in));
    setText(dropped.lastElementChild, compact(feed.dropped));
    dropped.title = text.droppedTitle(feed.drops);
    dropped.classList.toggle("quiet", feed.dropped === 0);
    this.#veil(feed);
  }

  // Called some times a second: what moves with the clock rather than with pictures.
  tick() {
    const now = this.#link.now();
    if (this.stage.inView) this.faces.update(this.#history, now);
    this.#paints = this.#paints.filter(({ at }) => at > now - PAINTS_KEPT_S);
    const { delay, shown } = this.parts;
    const count = this.#paints.length;
    setText(shown.lastElementChild, text.perSecond(count ? Math.round(count / PAINTS_KEPT_S) : 0));
    shown.title = text.shownTitle;
    if (count) {
      const middle = (pick) => median(this.#paints.map(pick));
      setText(delay.lastElementChild, `${middle((p) => p.delay)} ms`);
      const { analysis, sending, painting } = text.delayParts;
      delay.title = text.delayTitle(
        [
          analysis(middle((p) => p.analysis)),
          sending(middle((p) => p.sending)),
          painting(middle((p) => p.painting)),
        ].join(", "),
      );
    } else {
      setText(delay.lastElementChild, text.unknown);
      delay.title = "";
    }
  }

  close() {
    this.#link.unwatch(this.id);
    this.stage.close();
    this.faces.close();
    this.element.remove();
  }

  #painted(meta) {
    const now = this.#link.now();
    const ms = (from, to) => Math.max(0, Math.round((to - from) * 1000));
    if (meta.seq !== this.#notCounted) {
      this.#paints.push({
        at: now,
        delay: ms(meta.captured_at, now),
        analysis: ms(meta.captured_at, meta.analysed_at),
        sending: ms(meta.analysed_at, meta.sent_at),
        painting: ms(meta.sent_at, now),
      });
    }
    if (!this.element.classList.contains("has-picture")) {
      this.element.classList.add("has-picture");
      this.#veil(this.#feed);
      this.reload(); // what was analysed between the first asking and now
    }
    if (performance.now() - this.#described > DESCRIBE_EVERY_MS) {
      this.#described = performance.now();
      const faces = meta.faces.map((face) =>
        (face.unsure ? text.pictureUnsure : text.pictureFace)(
          face.track,
          wordFor(face.emotion),
          percent(face.confidence),
        ),
      );
      this.parts.canvas.setAttribute(
        "aria-label",
        text.picture(this.#feed.name, faces.join(", ")),
      );
    }
  }

  // What stands over the picture when it is not live.
  #veil({ status, error }) {
    const { veil } = this.parts;
    const waiting = !this.element.classList.contains("has-picture");
    let message = "";
    if (status === "live") message = waiting ? text.waitingForWorker : "";
    else if (status === "ended") message = text.endedHelp;
    else if (status === "stalled") message = error || text.stalledHelp;
    else message = error || text.waitingForCapture;
    setText(veil, message);
    veil.hidden = !message;
    this.element.classList.toggle("veiled", Boolean(message));
  }
}

// Writing what is there already would still cost a style pass.
function setText(element, value) {
  if (element.textContent !== value) element.textContent = value;
}

function median(values) {
  const ordered = [...values].sort((a, b) => a - b);
  return ordered[Math.floor(ordered.length / 2)];
}

function compact(count) {
  return count < 10_000 ? String(count) : `${Math.round(count / 1000)}k`;
}
