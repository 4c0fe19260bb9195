// "Use this camera": the buttons, the dialog with preview and choice, and the light that shows
// for as long as the camera is on.

import { text } from "../texts.js";
import { Camera } from "./camera.js";

const PROBLEMS = {
  NotAllowedError: "refused",
  SecurityError: "refused",
  NotFoundError: "none",
  OverconstrainedError: "none",
};
const IDEAL = { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 30 } };

export class CameraControls {
  #camera;
  #onStarted;
  #buttons = document.querySelectorAll(".use-camera");
  #light = document.getElementById("camera-light");
  #dialog = document.getElementById("camera-dialog");
  #form = this.#dialog.querySelector("form");
  #video = this.#dialog.querySelector("video");
  #message = this.#dialog.querySelector(".camera-message");
  #error = this.#dialog.querySelector(".form-error");
  #submit = this.#dialog.querySelector("[type=submit]");
  #stream = null; // of the preview
  #asking = 0; // counts the times that the browser was asked for a camera

  // `onStarted(feed)` is called with the new feed as the list of feeds describes it.
  constructor(link, onStarted) {
    this.#onStarted = onStarted;
    this.#camera = new Camera(link, (problem) => this.#changed(problem));
    for (const button of this.#buttons) {
      button.setAttribute("aria-label", text.camera.use);
      button.title = text.camera.use;
      button.addEventListener("click", () => this.#open());
    }
    this.#light.querySelector("button").addEventListener("click", () => this.stop());
    this.#dialog.querySelector(".close").addEventListener("click", () => this.#dialog.close());
    this.#dialog.addEventListener("close", () => this.#release());
    this.#form.elements.name.placeholder = text.camera.namePlaceholder;
    this.#form.elements.device.addEventListener("change", () => this.#ask());
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.#stream) this.#start();
      else this.#ask();
    });
    addEventListener("pagehide", () => this.#release());
  }

  // The id of the feed that this page's camera makes; none while it is off.
  get feed() {
    return this.#camera.feed;
  }

  stop() {
    this.#camera.stop();
  }

  #open() {
    this.#offer([]);
    this.#dialog.showModal();
    this.#ask();
  }

  // Ask the browser for the chosen camera and show what it sees.
  async #ask() {
    this.#release();
    this.#say("", text.camera.asking);
    const turn = ++this.#asking;
    if (!window.isSecureContext || !navigator.mediaDevices) {
      this.#say("insecure");
      return;
    }
    const chosen = this.#form.elements.device.value;
    const which = chosen ? { deviceId: { exact: chosen } } : { facingMode: "user" };
    let stream = null;
    let problem = "";
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { ...IDEAL, ...which } });
    } catch (error) {
      problem = PROBLEMS[error.name] ?? "busy";
    }
    if (turn !== this.#asking || !this.#dialog.open) {
      halt(stream);
      return;
    }
    if (!stream) {
      if (problem === "none") this.#offer([]); // the next attempt takes any camera
      this.#say(problem);
      return;
    }
    this.#stream = stream;
    const [track] = stream.getVideoTracks();
    track.addEventListener("ended", () => {
      if (this.#stream !== stream) return;
      this.#release();
      this.#say("lost");
    });
    this.#video.srcObject = stream;
    this.#say("");
    await this.#list(track.getSettings().deviceId);
  }

  // The cameras have names only once the browser has allowed one.
  async #list(current) {
    const devices = await navigator.mediaDevices.enumerateDevices();
    const cameras = devices.filter(({ kind }) => kind === "videoinput");
    const options = cameras.map(({ deviceId, label }, i) => {
      return new Option(label || text.camera.unnamed(i + 1), deviceId, false, deviceId === current);
    });
    this.#offer(options);
  }

  // Where there is no choice there is no question.
  #offer(options) {
    const { device } = this.#form.elements;
    device.replaceChildren(...options);
    for (const part of [device, ...device.labels]) part.hidden = options.length < 2;
  }

  async #start() {
    this.#busy(true);
    const answer = await this.#camera.start(this.#stream, this.#form.elements.name.value.trim());
    this.#busy(false);
    if (!answer?.ok) {
      this.#error.textContent = answer?.error ?? text.requestFailed;
      return;
    }
    if (!this.#dialog.open) {
      this.stop(); // given up meanwhile
      return;
    }
    this.#stream = null; // the camera's now
    this.#dialog.close();
    this.#light.querySelector("button").focus();
    // The list of feeds would say so within a second; nobody should have to wait for that.
    const described = await fetch(`/api/feeds/${answer.feed}`).catch(() => null);
    if (described?.ok && this.feed === answer.feed) this.#onStarted(await described.json());
  }

  #changed(problem) {
    const { on } = this.#camera;
    this.#light.hidden = !on;
    document.body.classList.toggle("camera-is-on", on);
    for (const button of this.#buttons) button.hidden = on;
    if (problem && !this.#dialog.open) {
      this.#dialog.showModal();
      this.#say(problem);
    }
  }

  // Give back the preview's camera, and stop waiting for one.
  #release() {
    this.#asking++;
    halt(this.#stream);
    this.#stream = null;
    this.#video.srcObject = null;
  }

  // What stands in place of the preview; then the button tries again, unless it is being asked for.
  #say(problem, message = text.camera.problems[problem] ?? "") {
    this.#message.textContent = message;
    this.#message.hidden = !message;
    this.#error.textContent = "";
    this.#submit.disabled = Boolean(message) && !problem;
    this.#submit.textContent = problem ? text.camera.again : text.camera.start;
    if (document.activeElement.id === "camera-title") this.#submit.focus();
  }

  #busy(busy) {
    this.#submit.disabled = busy;
    this.#submit.textContent = busy ? text.camera.starting : text.camera.start;
    if (busy) this.#error.textContent = "";
  }
}

function halt(stream) {
  for (const track of stream?.getTracks() ?? []) track.stop();
}
