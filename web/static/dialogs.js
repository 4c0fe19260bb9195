// Adding feeds, and removing feeds or videos: dialogs that talk to the API and show its answer
// where it belongs.

import { text } from "./texts.js";

export class AddDialog {
  #dialog = document.getElementById("add-dialog");
  #form = this.#dialog.querySelector("form");
  #error = this.#dialog.querySelector(".form-error");
  #submit = this.#dialog.querySelector("[type=submit]");
  #onAdded;

  // `onAdded(feed)` is called with the API's answer.
  constructor(onAdded) {
    this.#onAdded = onAdded;
    this.#dialog.querySelector(".close").addEventListener("click", () => this.#dialog.close());
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    this.#form.addEventListener("input", () => this.#complain(null));
    const examples = this.#dialog.querySelector(".examples");
    for (const [label, source] of text.examples) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = label;
      button.title = source;
      button.addEventListener("click", () => {
        const field = this.#form.elements.source;
        field.value = source;
        field.focus();
        this.#complain(null);
      });
      examples.append(button);
    }
  }

  open() {
    this.#form.reset();
    this.#complain(null);
    this.#dialog.showModal();
    this.#form.elements.source.focus();
  }

  async #send() {
    const { source, name } = this.#form.elements;
    this.#busy(true);
    const answer = await fetch("/api/feeds", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ source: source.value, name: name.value || null }),
    }).catch(() => null);
    const body = await answer?.json().catch(() => null);
    this.#busy(false);
    if (answer?.status === 201) {
      this.#dialog.close();
      this.#onAdded(body);
    } else {
      this.#complain(body?.detail ?? text.requestFailed, body?.field);
    }
  }

  #busy(busy) {
    this.#submit.disabled = busy;
    this.#submit.textContent = busy ? text.adding : text.addYes;
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
