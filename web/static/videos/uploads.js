// All uploads of the page: a few at a time, the others wait for their turn.

import { Upload, unfinished } from "./upload.js";

const AT_A_TIME = 2; // a browser opens six connections to a server; the list needs one too

export class Uploads {
  #uploads = [];
  #onChange;

  // `onChange(upload)` is called whenever one of them changes.
  constructor(onChange) {
    this.#onChange = onChange;
    addEventListener("online", () => this.#uploads.forEach((upload) => upload.hurry()));
    addEventListener("beforeunload", (event) => {
      if (this.#uploads.some((each) => each.isUnderWay || each.state === "waiting")) {
        event.preventDefault();
      }
    });
  }

  [Symbol.iterator]() {
    return this.#uploads.values();
  }

  // Show what an earlier page left unfinished.
  async recall() {
    for (const { previous, sent } of await unfinished()) {
      this.#uploads.push(new Upload({ previous, sent }, (upload) => this.#changed(upload)));
    }
    if (this.#uploads.length) this.#onChange(null);
  }

  // Begin with these files. One that an earlier page began goes on with the options it had then;
  // one that is on its way already is left alone.
  async add(files, options) {
    for (const file of files) {
      const known = await this.#find(file);
      if (known?.state === "absent") {
        known.take(file);
      } else if (!known || known.state === "refused") {
        if (known) this.forget(known);
        this.#uploads.push(new Upload({ file, options }, (upload) => this.#changed(upload)));
      }
    }
    this.#turn();
    this.#onChange(null);
  }

  async #find(file) {
    for (const upload of this.#uploads) {
      if (upload.state !== "sent" && (await upload.isOf(file).catch(() => false))) return upload;
    }
    return null;
  }

  forget(upload) {
    const at = this.#uploads.indexOf(upload);
    if (at >= 0) this.#uploads.splice(at, 1);
    this.#turn();
    this.#onChange(upload);
  }

  #changed(upload) {
    this.#turn();
    this.#onChange(upload);
  }

  #turn() {
    while (this.#uploads.filter((each) => each.isUnderWay).length < AT_A_TIME) {
      const next = this.#uploads.find((each) => each.state === "waiting");
      if (!next) return;
      next.start();
    }
  }
}
