// Asks before a feed is recorded: what will be kept, where, and for how long.

import { make, setText } from "../make.js";
import { number, text } from "../texts.js";

export class RecordDialog {
  #feed = null;
  #title = make("h2", { id: "record-title" });
  #kept = make("ul", { className: "recording-kept" });
  #name = make("input", { id: "record-name", name: "name", maxLength: 120, autocomplete: "off" });
  #error = make("p", { className: "form-error", role: "alert" });
  #submit = make("button", { type: "submit", className: "primary" });
  #dialog = make("dialog", { className: "record-dialog" });

  constructor() {
    const words = text.recording;
    const cancel = make("button", { type: "button", className: "plain", textContent: text.cancel });
    cancel.addEventListener("click", () => this.#dialog.close());
    const form = make(
      "form",
      { method: "dialog", noValidate: true },
      this.#title,
      make("p", { id: "record-what", textContent: words.what }),
      this.#kept,
      make("p", { className: "recording-people", textContent: words.people }),
      make("label", { htmlFor: this.#name.id, textContent: words.name }),
      this.#name,
      this.#error,
      make("p", { className: "actions" }, cancel, this.#submit),
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    this.#name.placeholder = words.nameHelp;
    this.#dialog.setAttribute("aria-labelledby", this.#title.id);
    this.#dialog.setAttribute("aria-describedby", "record-what");
    this.#dialog.append(form);
    document.body.append(this.#dialog);
  }

  async open(feed) {
    this.#feed = feed;
    setText(this.#title, text.recording.ask(feed.name));
    this.#name.value = "";
    this.#kept.replaceChildren();
    this.#busy(false);
    setText(this.#error, "");
    this.#dialog.showModal();
    this.#name.focus();
    const answer = await fetch(this.#address).catch(() => null);
    const said = await answer?.json().catch(() => null);
    if (this.#feed !== feed) return;
    if (!answer?.ok) setText(this.#error, said?.detail ?? text.requestFailed);
    else this.#tell(said);
  }

  // Close the question about a feed that is no longer there.
  close(feed) {
    if (feed && this.#feed?.id === feed.id) this.#dialog.close();
  }

  get #address() {
    return `/api/feeds/${this.#feed.id}/recording`;
  }

  #tell({ kept_in: place, kept_days: days, longest_h: longest }) {
    const words = text.recording;
    const lines = [
      words.where(place),
      days ? words.days(number(days, Number.isInteger(days) ? 0 : 1)) : words.forGood,
      words.longest(number(longest, Number.isInteger(longest) ? 0 : 1)),
    ];
    this.#kept.replaceChildren(...lines.map((line) => make("li", { textContent: line })));
  }

  async #send() {
    this.#busy(true);
    const answer = await fetch(this.#address, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ name: this.#name.value.trim() || null }),
    }).catch(() => null);
    const said = await answer?.json().catch(() => null);
    this.#busy(false);
    if (answer?.ok) this.#dialog.close();
    else setText(this.#error, said?.detail ?? text.requestFailed);
  }

  #busy(busy) {
    this.#submit.disabled = busy;
    setText(this.#submit, busy ? text.recording.beginning : text.recording.begin);
  }
}
