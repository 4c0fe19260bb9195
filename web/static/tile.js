// One feed on the board: its picture, its faces, its state, and the truth about its delay. It is
// live, or paused at a moment of the last minute.

import { Faces } from "./faces.js";
import { History } from "./history.js";
import { setText } from "./make.js";
import { wordFor } from "./palette.js";
import { Recording } from "./recording/recording.js";
import { Stage } from "./stage.js";
import { Lookback, shareOf } from "./stage/lookback.js";
import { Popup } from "./stage/popup.js";
import { Scrubber } from "./stage/scrubber.js";
import { download } from "./stage/snapshot.js";
import { Toolbar } from "./stage/toolbar.js";
import { fill, percent, text, trouble } from "./texts.js";
import { TimelinePanel } from "./timelines/panel.js";
import { Truth } from "./truth.js";

const DESCRIBE_EVERY_MS = 3000; // how often a screen reader could hear something new
const BESIDE_PAUSE_S = 0.15; // pictures of feeds beside the large one come a little slower

export class Tile {
  #feed;
  #link;
  #actions;
  #history = new History();
  #lookback = new Lookback();
  #panel = null; // the large timelines, while this is the large feed
  #described = -Infinity;
  #pausedAt = null; // the moment that is looked at, epoch seconds; null while live
  #large = false;

  // `actions`: remove(feed), enlarge(id or null), fullScreen(tile), what its buttons ask for.
  constructor(feed, link, actions) {
    this.#feed = feed;
    this.#link = link;
    this.#actions = actions;
    this.element = document.getElementById("tile").content.firstElementChild.cloneNode(true);
    fill(this.element);
    const find = (selector) => this.element.querySelector(selector);
    this.parts = {
      name: find(".tile-name"),
      demo: find(".demo-tag"),
      state: find(".state"),
      cover: find(".cover"),
      canvas: find("canvas"),
      veil: find(".veil"),
      tools: find(".tools"),
      enlarge: find(".enlarge"),
      fullScreen: find(".full-screen"),
      pause: find(".pause"),
      snapshot: find(".snapshot"),
      more: find(".more"),
      menu: find(".menu"),
      edit: find(".edit"),
      remove: find(".remove"),
      faces: find(".faces"),
      panel: find(".tile-panel"),
    };
    this.element.dataset.feed = feed.id;
    this.scrubber = new Scrubber({ onSeek: (t) => this.seek(t), onLive: () => this.resume() });
    this.scrubber.element.hidden = true;
    find(".tile-picture").append(this.scrubber.element);
    this.stage = new Stage(this.parts.canvas, {
      onPainted: (meta) => this.#painted(meta),
      onSeen: () => this.#link.again(this.id),
      facesAround: (t, seconds) => this.#lookback.facesAround(t, seconds),
    });
    this.recording = new Recording();
    this.parts.enlarge.before(this.recording.button);
    find(".tile-picture").append(this.recording.element);
    this.faces = new Faces(this.parts.faces, find(".no-faces"));
    this.truth = new Truth();
    find(".tile-foot").append(this.truth.element);
    this.#wire();
    this.describe(feed);
    this.reload();
  }

  get id() {
    return this.#feed.id;
  }

  get name() {
    return this.#feed.name;
  }

  get history() {
    return this.#history;
  }

  get paused() {
    return this.#pausedAt !== null;
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
    this.truth.received(meta, this.#link.now(), first);
    this.#history.add(meta);
    this.#lookback.add(meta, jpeg);
    this.stage.show(meta, jpeg, acknowledge);
  }

  // Take what the list of feeds says about this one.
  describe(feed) {
    this.#feed = feed;
    const { name, demo } = this.parts;
    setText(name, feed.name);
    name.title = feed.source;
    demo.hidden = feed.kind !== "demo";
    demo.title = text.demoTagTitle;
    this.#tellState();
    this.parts.faces.setAttribute("aria-label", text.facesOf(feed.name));
    this.#nameButtons();
    this.recording.update(feed, this.#link.now());
    this.#veil(feed);
  }

  // Called some times a second: what moves with the clock rather than with pictures. `trouble` is
  // what the page's link says: {health, problems}.
  tick(trouble) {
    const now = this.#link.now();
    const { inView } = this.stage;
    if (inView) this.faces.update(this.#history, now, this.#pausedAt);
    if (this.paused) this.scrubber.tick(now);
    this.recording.tick(now);
    this.#panel?.update(this.#feed, this.#history, now);
    const paused = this.paused || this.stage.pauseS > 0; // beside a large one pictures come slower
    this.truth.update(this.#feed, this.#history, now, { ...trouble, paused, inView });
  }

  // Where it stands: whether it is the large one, whether there is a large one, of how many.
  place(large, any, count) {
    const changed = large !== this.#large;
    this.#large = large;
    this.element.classList.toggle("large", large);
    this.stage.pauseS = any && !large ? BESIDE_PAUSE_S : 0;
    this.#lookback.limit(shareOf(count, any ? large : null));
    if (any && !large) this.resume();
    if (changed) this.#showPanel();
    this.#nameButtons();
  }

  // Stay at the picture that is shown.
  pause() {
    const meta = this.stage.meta;
    if (this.paused || !meta) return;
    this.#pausedAt = meta.captured_at;
    this.#lookback.freeze(true);
    this.stage.hold();
    this.#showPaused();
  }

  // Look at the picture of a time (pausing first), as far as it is still there.
  seek(t) {
    this.pause();
    if (this.paused) this.#goTo(this.#lookback.at(t));
  }

  // Go on or back by seconds or, where `pictures`, by that many pictures.
  step(by, { pictures = false } = {}) {
    this.pause();
    if (!this.paused) return;
    if (pictures) this.#goTo(this.#lookback.step(this.#pausedAt, by));
    else this.#goTo(this.#lookback.at(this.#pausedAt + by));
  }

  resume() {
    if (!this.paused) return;
    this.#pausedAt = null;
    this.#lookback.freeze(false);
    this.stage.release();
    this.#showPaused();
    this.#link.again(this.id);
  }

  togglePause() {
    if (this.paused) this.resume();
    else this.pause();
  }

  snapshot() {
    const { meta } = this.stage;
    if (meta) download((context, size) => this.stage.paintInto(context, size), meta, this.name);
  }

  close() {
    this.#link.unwatch(this.id);
    this.stage.close();
    this.faces.close();
    this.truth.close();
    this.recording.close();
    this.#panel?.close();
    this.element.remove();
  }

  #wire() {
    const { cover, enlarge, fullScreen, pause, snapshot, more, menu, edit, remove } = this.parts;
    const toggle = () => this.#actions.enlarge(this.#large ? null : this.id);
    cover.addEventListener("click", toggle);
    enlarge.addEventListener("click", toggle);
    fullScreen.addEventListener("click", () => this.#actions.fullScreen(this));
    pause.addEventListener("click", () => this.togglePause());
    snapshot.addEventListener("click", () => this.snapshot());
    const popup = new Popup(more, menu);
    edit.href = `/cameras#${this.id}`;
    remove.addEventListener("click", () => {
      popup.close();
      this.#actions.remove(this.#feed);
    });
    new Toolbar(this.parts.tools);
  }

  #tellState() {
    const state = this.paused ? "paused" : this.#feed.status;
    this.parts.state.dataset.state = state;
    setText(this.parts.state.lastElementChild, text.states[state] ?? state);
  }

  // What the buttons do now, in words.
  #nameButtons() {
    const { name } = this.#feed;
    const words = text.stage;
    const { cover, tools, enlarge, fullScreen, pause, snapshot, more, remove } = this.parts;
    tools.setAttribute("aria-label", words.toolsOf(name));
    const enlarging = this.#large ? words.backToAll : words.enlarge(name);
    label(cover, enlarging);
    cover.removeAttribute("title"); // over the whole picture it would be in the way
    label(enlarge, enlarging);
    label(fullScreen, words.fullScreenOf(name));
    label(pause, this.paused ? words.live(name) : words.pause(name));
    label(snapshot, words.snapshot(name));
    label(more, words.more(name));
    setText(remove, text.remove(name));
  }

  #showPanel() {
    const { panel } = this.parts;
    panel.hidden = !this.#large;
    if (!this.#large) {
      this.#panel?.close();
      this.#panel = null;
    } else if (!this.#panel) {
      this.#panel = new TimelinePanel(this.#feed);
      this.#panel.onSeek = (t) => this.seek(t);
      panel.append(this.#panel.element);
      this.#panel.cursor(this.#pausedAt);
    }
  }

  #goTo(kept) {
    if (!kept) return;
    this.#pausedAt = kept.meta.captured_at;
    this.stage.hold(kept);
    this.#showPaused();
  }

  #showPaused() {
    const { paused } = this;
    this.element.classList.toggle("paused", paused);
    this.scrubber.element.hidden = !paused;
    const span = this.#lookback.span;
    if (paused && span) {
      this.scrubber.show(span, this.#pausedAt);
      this.scrubber.tick(this.#link.now());
    }
    this.#tellState();
    this.#nameButtons();
    this.#veil(this.#feed);
    this.#history.hold(this.#pausedAt);
    this.#panel?.cursor(this.#pausedAt);
    if (this.stage.inView) this.faces.update(this.#history, this.#link.now(), this.#pausedAt);
  }

  #painted(meta) {
    this.truth.painted(meta, this.#link.now());
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

  // What stands over the picture when it is not live; who looks back sees the past as it was.
  #veil(feed) {
    const { status } = feed;
    const { veil } = this.parts;
    const waiting = !this.element.classList.contains("has-picture");
    let message = "";
    if (this.paused) message = "";
    else if (status === "live") message = waiting ? text.waitingForWorker : "";
    else if (status === "ended") message = text.endedHelp;
    else if (status === "stalled") message = trouble(feed) || text.stalledHelp;
    else message = trouble(feed) || text.waitingForCapture;
    setText(veil, message);
    veil.hidden = !message;
    this.element.classList.toggle("veiled", Boolean(message));
  }
}

function label(button, words) {
  if (button.getAttribute("aria-label") === words) return;
  button.setAttribute("aria-label", words);
  button.title = words;
}
