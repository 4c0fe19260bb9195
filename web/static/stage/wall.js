// The page as a wall display: over the whole screen, with nothing but the feeds on it.

import { text } from "../texts.js";

const AWAKE_MS = 2500; // the pointer goes when it has not moved for so long

export class Wall {
  #button;
  #asleep = 0;

  constructor(button) {
    this.#button = button;
    button.hidden = !document.fullscreenEnabled;
    document.addEventListener("fullscreenchange", () => this.#show());
    document.addEventListener("pointermove", () => this.#stir());
    this.#show();
  }

  async toggle() {
    if (document.fullscreenElement) await document.exitFullscreen();
    else await document.documentElement.requestFullscreen().catch(() => {}); // refused: it stays
  }

  #show() {
    const on = Boolean(document.fullscreenElement);
    document.body.classList.toggle("wall", on);
    const words = on ? text.stage.leaveWall : text.stage.wall;
    this.#button.setAttribute("aria-label", words);
    this.#button.title = words;
    this.#stir();
  }

  #stir() {
    clearTimeout(this.#asleep);
    document.body.classList.remove("still");
    if (!document.fullscreenElement) return;
    this.#asleep = setTimeout(() => document.body.classList.add("still"), AWAKE_MS);
  }
}
