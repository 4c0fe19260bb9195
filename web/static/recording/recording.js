// Recording one feed: the button in its toolbar, the mark over its picture, the way to what came of
// it. Starting asks first, because pictures of people are kept from then on.

import { make, setText } from "../make.js";
import { text } from "../texts.js";
import { RecordDialog } from "./dialog.js";
import { RecordingMark } from "./mark.js";

const SVG = "http://www.w3.org/2000/svg";
const dialog = new RecordDialog();

export class Recording {
  #feed = null;
  #busy = false;
  #dismissed = null; // the video whose note the user has closed
  #mark = new RecordingMark();
  #note = make("p", { className: "recording-note", hidden: true });
  #words = make("span");
  #open = make("a", { textContent: text.recording.open });
  #problem = make("p", { className: "recording-note problem", role: "alert", hidden: true });

  constructor() {
    this.button = make("button", { type: "button", className: "icon record" }, sign());
    this.button.addEventListener("click", () => this.toggle());
    const close = make("button", { type: "button", className: "icon", ariaLabel: text.recording.dismiss }, "×");
    close.addEventListener("click", () => {
      this.#dismissed = this.#feed.recorded;
      this.#note.hidden = true;
      this.button.focus();
    });
    this.#note.append(this.#words, " ", this.#open, close);
    this.element = make("div", { className: "recording" }, this.#mark.element, this.#note, this.#problem);
  }

  // Take what the list of feeds says; `now` is the server's time.
  update(feed, now) {
    this.#feed = feed;
    this.#mark.update(feed, now);
    const on = this.#on;
    this.button.classList.toggle("on", on);
    const label = (on ? text.recording.stop : text.recording.record)(feed.name);
    if (this.button.title !== label) {
      this.button.ariaLabel = label;
      this.button.title = label;
    }
    if (on) this.#problem.hidden = true;
    this.#showNote(feed.recorded);
  }

  tick(now) {
    this.#mark.tick(now);
  }

  // Start, after a question, or stop.
  async toggle() {
    if (!this.#feed || this.#busy) return;
    this.#problem.hidden = true;
    if (!this.#on) {
      dialog.open(this.#feed);
      return;
    }
    this.#busy = true;
    const answer = await fetch(`/api/feeds/${this.#feed.id}/recording`, { method: "DELETE" }).catch(() => null);
    this.#busy = false;
    if (answer?.ok || answer?.status === 404) return;
    const said = await answer?.json().catch(() => null);
    setText(this.#problem, said?.detail ?? text.requestFailed);
    this.#problem.hidden = false;
  }

  close() {
    dialog.close(this.#feed);
  }

  get #on() {
    const state = this.#feed?.recording?.state;
    return Boolean(state) && state !== "saving";
  }

  #showNote(recorded) {
    const same = recorded && this.#dismissed && this.#dismissed.video === recorded.video;
    this.#note.hidden = !recorded || Boolean(same);
    if (this.#note.hidden) return;
    const { video, ending } = recorded;
    const words = text.recording;
    const why = ending === "stopped" ? "" : words.endings[ending];
    setText(this.#words, [video ? words.saved : words.nothing, why].filter(Boolean).join(" "));
    this.#open.hidden = !video;
    if (video) {
      this.#open.href = `/videos/${video}`;
      this.#open.title = recorded.name;
    }
  }
}

// A ring with a point in it, and a square in its place while it records.
function sign() {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const shapes = [
    ["circle", { cx: 12, cy: 12, r: 8, fill: "none", stroke: "currentColor", "stroke-width": 2 }],
    ["circle", { class: "to-record", cx: 12, cy: 12, r: 4.2, fill: "currentColor" }],
    ["rect", { class: "to-stop", x: 8.5, y: 8.5, width: 7, height: 7, rx: 1, fill: "currentColor" }],
  ];
  for (const [tag, attributes] of shapes) {
    const shape = document.createElementNS(SVG, tag);
    for (const [key, value] of Object.entries(attributes)) shape.setAttribute(key, value);
    svg.append(shape);
  }
  return svg;
}
