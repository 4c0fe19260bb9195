// Adding a camera or giving it another source, and removing feeds or videos: dialogs that talk to the
// API and show its answer where it belongs.

import { request } from "./cameras/request.js";
import { Trial } from "./cameras/trial.js";
import { text } from "./texts.js";

export class SourceDialog {
  #dialog = document.getElementById("add-dialog");
  #form = this.#dialog.querySelector("form");
  #error = this.#dialog.querySelector(".form-error");
  #submit = this.#dialog.querySelector("[type=submit]");
  #help = document.getElementById("add-source-help");
  #trial;
  #kinds = new Map(); // kind of source -> its button
  #feed = null; // whose source is to be changed; null: a new camera
  #onSaved;

  // `onSaved(feed)` is called with the API's answer.
  constructor(onSaved) {
    this.#onSaved = onSaved;
    const { source } = this.#form.elements;
    this.#trial = new Trial(
      this.#dialog.querySelector(".trial"),
      () => source.value,
      (detail, field) => this.#complain(detail, field),
    );
    this.#dialog.querySelector(".close").addEventListener("click", () => this.#dialog.close());
    this.#dialog.addEventListener("close", () => this.#trial.reset());
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    this.#form.addEventListener("input", ({ target }) => {
      this.#complain(null);
      if (target === source) this.#sourceChanged();
    });
    for (const [kind, label, example] of text.sourceKinds) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = label;
      button.addEventListener("click", () => {
        source.value = example;
        source.focus();
        this.#complain(null);
        this.#sourceChanged();
      });
      this.#kinds.set(kind, button);
      this.#dialog.querySelector(".examples").append(button);
    }
  }

  // Ask for a new camera, or for another source of `feed`.
  open(feed = null) {
    this.#feed = feed;
    this.#form.reset();
    this.#complain(null);
    this.#sourceChanged();
    this.#busy(false);
    this.#dialog.querySelector("h2").textContent = feed
      ? text.cameras.changeTitle(feed.name)
      : text.addTitle;
    this.#dialog.querySelector(".name-field").hidden = Boolean(feed);
    this.#dialog.showModal();
    this.#form.elements.source.focus();
  }

  async #send() {
    const { source, name } = this.#form.elements;
    this.#busy(true);
    const answer = this.#feed
      ? await request("PATCH", `/api/feeds/${this.#feed.id}`, { source: source.value })
      : await request("POST", "/api/feeds", { source: source.value, name: name.value || null });
    this.#busy(false);
    if (answer.ok) {
      this.#dialog.close();
      this.#onSaved(answer.body);
    } else {
      this.#complain(answer.detail, answer.field);
    }
  }

  // The picture is of another source now, and the help of another kind perhaps.
  #sourceChanged() {
    this.#trial.reset();
    const kind = kindOf(this.#form.elements.source.value);
    this.#help.textContent = this.#feed ? text.cameras.changeHelp : text.sourceHelp;
    for (const [each, , , help] of text.sourceKinds) {
      this.#kinds.get(each).setAttribute("aria-pressed", String(each === kind));
      if (each === kind) this.#help.textContent = help;
    }
  }

  #busy(busy) {
    const words = this.#feed
      ? [text.cameras.changeYes, text.cameras.changing]
      : [text.addYes, text.adding];
    this.#submit.disabled = busy;
    this.#submit.textContent = words[Number(busy)];
  }

  #complain(detail, field = "source") {
    this.#error.textContent = detail ?? "";
    for (const input of this.#form.querySelectorAll("input")) {
      input.setAttribute("aria-invalid", String(Boolean(detail) && input.name === field));
    }
    const wrong = this.#form.elements[field] ?? this.#form.elements.source;
    wrong.after(this.#error);
    if (detail) wrong.focus();
  }
}

// What a source is meant to be, as far as it is written; null: too early to say.
function kindOf(source) {
  const written = source.trim();
  if (!written) return null;
  if (/^(\d{1,3}|\/dev\/video\d{0,3})$/.test(written)) return "webcam";
  if (/^rtsps?:/i.test(written)) return "rtsp";
  if (/^https?:/i.test(written)) return "http";
  if (written === "demo") return "demo";
  if (!/[\\/]/.test(written)) return null;
  return /\.\w{2,4}$/.test(written) ? "file" : "folder";
}

export class RemoveDialog {
  #dialog = document.getElementById("remove-dialog");
  #error = this.#dialog.querySelector(".form-error");
  #title;
  #thing = null;

  // `address(thing)` is what a DELETE is sent to, `title(name)` the question, and
  // `onRemoved(thing)` is called once the thing is gone.
  constructor({ address, title, onRemoved }) {
    this.#title = title;
    const [cancel, confirm] = this.#dialog.querySelectorAll("button");
    cancel.addEventListener("click", () => this.#dialog.close());
    confirm.addEventListener("click", async () => {
      const thing = this.#thing;
      confirm.disabled = true;
      const answer = await fetch(address(thing), { method: "DELETE" }).catch(() => null);
      confirm.disabled = false;
      if (answer?.ok || answer?.status === 404) {
        this.#dialog.close();
        onRemoved(thing);
      } else {
        const body = await answer?.json().catch(() => null);
        this.#error.textContent = body?.detail ?? text.requestFailed;
      }
    });
  }

  // Ask whether `thing`, which has a name, is to be removed.
  open(thing) {
    this.#thing = thing;
    this.#error.textContent = "";
    this.#dialog.querySelector("h2").textContent = this.#title(thing.name);
    this.#dialog.showModal();
  }
}
