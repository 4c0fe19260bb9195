// The video with its faces drawn over it, and its controls.
//
// The overlay is drawn when the browser says which frame it shows (requestVideoFrameCallback), from
// that frame's own faces. Positions are seconds from the first frame.

import { drawFaces } from "../overlay.js";
import { wordForFace } from "../palette.js";
import { percent, text } from "../texts.js";
import { clock } from "./times.js";

const SPEEDS = [0.25, 0.5, 1, 1.5, 2, 4];
const INTO_FRAME_S = 0.001; // aimed at when seeking: past the frame's start, whatever was rounded
const MAX_CANVAS_WIDTH = 1920;
const LAYERS_KEY = "moodline-layers";
const UNSEEN_MS = 400; // how long a seek may be over before its frame is told
const MOST_REPEATS = 2; // of one seek
const DESCRIBE_EVERY_MS = 3000; // how often a screen reader could hear something new

// Events: "position" {position, faces} for each frame shown, "failed" where the browser cannot play.
export class Player extends EventTarget {
  #video;
  #canvas;
  #context;
  #recording;
  #boxes;
  #zero = 0; // what the browser calls the first frame's time
  #shown = null; // the position of the frame on the screen
  #wanted = null; // where a seek that runs is to end
  #next = null; // where to go after that
  #started = false;
  #arrived = false; // whether a frame came since the seek that runs began
  #repeats = 0; // of that seek
  #described = -Infinity;
  #layers = { boxes: true, names: true, emotions: true };
  selected = null; // the person whose box stands out

  constructor(element, recording, boxes) {
    super();
    const find = (selector) => element.querySelector(selector);
    this.element = element;
    this.#recording = recording;
    this.#boxes = boxes;
    this.#video = find("video");
    this.#canvas = find("canvas");
    this.#context = this.#canvas.getContext("2d");
    this.parts = {
      picture: find(".stage-picture"),
      play: find(".play"),
      back: find(".frame-back"),
      on: find(".frame-on"),
      clock: find(".clock"),
      speed: find(".speed"),
      sound: find(".sound"),
      full: find(".full"),
      bar: find(".seek"),
      veil: find(".veil"),
    };
    this.#bind();
    this.#restoreLayers();
    this.#clock(0);
    this.sizes = new ResizeObserver(() => this.#draw());
    this.sizes.observe(this.#video);
    this.#watch();
  }

  get position() {
    return this.#wanted ?? this.#shown ?? 0;
  }

  get playing() {
    return !this.#video.paused && !this.#video.ended;
  }

  // Play from an address; `position` is where to begin.
  load(address, position) {
    this.#started = false;
    this.#next = position;
    this.#video.src = address;
    this.#video.load();
  }

  // Another report of the same video: its faces replace those on the screen.
  use(recording, boxes) {
    this.#recording = recording;
    this.#boxes = boxes;
    this.refresh();
  }

  // Draw the frame on the screen again: what is known of it may have changed.
  refresh() {
    this.#draw();
    if (this.#shown !== null) this.#say();
  }

  toggle() {
    if (this.playing) this.#video.pause();
    else this.#video.play().catch(() => {}); // it says so itself: the error event
  }

  pause() {
    this.#video.pause();
  }

  seek(position) {
    const end = this.#recording.duration - this.#recording.frameSpan / 2;
    const inside = Math.max(0, Math.min(position, end));
    if (!this.#started || this.#video.seeking) {
      this.#next = inside; // one seek at a time: dragging asks for more than a decoder can do
      return;
    }
    this.#wanted = inside;
    this.#arrived = false;
    this.#repeats = 0;
    this.#video.currentTime = this.#zero + inside + INTO_FRAME_S;
    this.#clock(inside);
  }

  step(direction) {
    this.pause();
    const here = this.#next ?? this.position;
    const exact = this.#recording.video.sampled_fps ? null : this.#boxes.neighbour(here, direction);
    this.seek(exact ?? here + direction * this.#recording.frameSpan);
  }

  async fullscreen() {
    if (document.fullscreenElement) await document.exitFullscreen();
    else await this.element.requestFullscreen?.().catch(() => {});
  }

  veil(message) {
    this.parts.veil.textContent = message;
    this.parts.veil.hidden = !message;
  }

  #bind() {
    const { play, back, on, speed, sound, full, bar, picture } = this.parts;
    const video = this.#video;
    play.addEventListener("click", () => this.toggle());
    back.addEventListener("click", () => this.step(-1));
    on.addEventListener("click", () => this.step(1));
    full.addEventListener("click", () => this.fullscreen());
    picture.addEventListener("click", () => this.toggle());
    for (const value of SPEEDS) speed.append(new Option(`${value}×`, value, value === 1, value === 1));
    speed.addEventListener("change", () => (video.playbackRate = Number(speed.value)));
    sound.addEventListener("click", () => {
      video.muted = !video.muted;
    });
    bar.addEventListener("input", () => this.seek(Number(bar.value)));
    video.addEventListener("volumechange", () => this.#soundState());
    for (const event of ["play", "pause", "ended"]) {
      video.addEventListener(event, () => this.#playState());
    }
    video.addEventListener("loadedmetadata", () => {
      video.playbackRate = Number(speed.value);
      picture.style.setProperty("--aspect", video.videoWidth / video.videoHeight);
    });
    video.addEventListener("seeked", () => this.#seeked());
    video.addEventListener("error", () => {
      if (video.src) this.dispatchEvent(new Event("failed"));
    });
    for (const box of this.element.querySelectorAll("[data-layer]")) {
      box.addEventListener("change", () => {
        this.#layers[box.dataset.layer] = box.checked;
        localStorage.setItem(LAYERS_KEY, JSON.stringify(this.#layers));
        this.#draw();
      });
    }
    this.#playState();
    this.#soundState();
  }

  // Follow the frames: each time the browser shows one, it is told which.
  #watch() {
    if (this.#video.requestVideoFrameCallback) {
      this.#video.requestVideoFrameCallback((_, { mediaTime }) => {
        this.#frame(mediaTime);
        this.#watch();
      });
      return;
    }
    requestAnimationFrame(() => {
      const { currentTime, readyState } = this.#video;
      if (readyState >= 2) this.#frame(currentTime);
      this.#watch();
    });
  }

  #frame(mediaTime) {
    if (!this.#started) {
      this.#started = true;
      this.#zero = mediaTime; // browsers differ in where they let a file begin
      this.veil("");
      this.#shown = 0;
      if (this.#next) {
        this.#afterSeek();
        return;
      }
      this.#next = null;
    }
    const position = mediaTime - this.#zero;
    this.#shown = position;
    this.#arrived = true;
    if (!this.#video.seeking) this.#wanted = null;
    this.#draw();
    this.#say();
    this.#clock(this.position);
  }

  #seeked() {
    if (this.#arrived) {
      this.#wanted = null; // else with the frame that is still to come
      this.#say();
      this.#clock(this.#shown);
    } else {
      setTimeout(() => this.#seekAgain(), UNSEEN_MS);
    }
    this.#afterSeek();
  }

  // Chromium at times shows a frame that was sought and never tells: the same seek once more does.
  // (While nobody sees the page no browser tells, and it does once somebody does.)
  #seekAgain() {
    if (this.#arrived || this.#video.seeking || this.#repeats >= MOST_REPEATS) return;
    this.#repeats += 1;
    this.#video.currentTime += 0;
  }

  #afterSeek() {
    const next = this.#next;
    this.#next = null;
    if (next !== null) this.seek(next);
  }

  #say() {
    const faces = this.#boxes.at(this.#shown);
    this.dispatchEvent(
      new CustomEvent("position", { detail: { position: this.position, faces: faces ?? [] } }),
    );
    if (faces && performance.now() - this.#described > DESCRIBE_EVERY_MS) {
      this.#described = performance.now();
      const words = faces.map(({ track, emotion, confidence, unsure }) =>
        text.report.faceNow(
          this.#recording.nameOf(track),
          wordForFace({ emotion, unsure }),
          percent(confidence),
        ),
      );
      this.#canvas.setAttribute("aria-label", text.report.facesNow(words.join(", ")));
    }
  }

  #draw() {
    const { clientWidth: width, clientHeight: height, videoWidth } = this.#video;
    if (!width || !height || !videoWidth) return;
    const dense = Math.min(devicePixelRatio || 1, MAX_CANVAS_WIDTH / width);
    const size = [Math.round(width * dense), Math.round(height * dense)];
    if (this.#canvas.width !== size[0] || this.#canvas.height !== size[1]) {
      [this.#canvas.width, this.#canvas.height] = size;
    }
    this.#context.clearRect(0, 0, ...size);
    if (this.#shown === null) return;
    const faces = this.#boxes.at(this.#shown) ?? [];
    const { width: across, height: down } = this.#recording.video;
    const scales = [size[0] / across, size[1] / down]; // they differ where pixels are not square
    const scaled = faces.map((face) => ({
      ...face,
      name: this.#recording.person(face.track)?.name ?? null,
      box: face.box.map((value, i) => value * scales[i % 2]),
    }));
    drawFaces(this.#context, scaled, 1, dense, { ...this.#layers, chosen: this.selected });
  }

  #clock(position) {
    const { bar } = this.parts;
    const { duration } = this.#recording;
    this.parts.clock.textContent = `${clock(position, 2)} / ${clock(duration, 2)}`;
    bar.max = duration;
    bar.value = position;
    bar.style.setProperty("--done", `${(100 * position) / duration}%`);
    bar.setAttribute("aria-valuetext", text.report.position(clock(position, 1), clock(duration, 1)));
  }

  #playState() {
    const { play } = this.parts;
    const word = this.playing ? text.report.pause : text.report.play;
    play.classList.toggle("on", this.playing);
    play.title = word;
    play.setAttribute("aria-label", word);
    this.element.classList.toggle("playing", this.playing);
  }

  #soundState() {
    const { sound } = this.parts;
    const word = this.#video.muted ? text.report.unmute : text.report.mute;
    sound.classList.toggle("off", this.#video.muted);
    sound.title = word;
    sound.setAttribute("aria-label", word);
  }

  #restoreLayers() {
    try {
      Object.assign(this.#layers, JSON.parse(localStorage.getItem(LAYERS_KEY) ?? "{}"));
    } catch {
      localStorage.removeItem(LAYERS_KEY);
    }
    for (const box of this.element.querySelectorAll("[data-layer]")) {
      box.checked = this.#layers[box.dataset.layer] !== false;
    }
  }
}
