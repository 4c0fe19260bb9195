// What to analyse of the videos that are added next: frames a second, start and end.

import { text } from "../texts.js";
import { seconds } from "./units.js";

const MAX_FPS = 240; // what the API takes

export class Options {
  #form = document.getElementById("options");
  #error = document.getElementById("options-error");
  #help = document.getElementById("options-help");

  constructor() {
    for (const name of ["fps", "start", "end"]) {
      this.#form.elements[name].placeholder = text.optionDefaults[name];
    }
    this.#form.addEventListener("submit", (event) => event.preventDefault());
    this.#form.addEventListener("input", () => this.#complain(null));
    this.#form.addEventListener("change", () => this.#check());
  }

  // The options as the API takes them, those left empty left out; null, and the reason said at the
  // field, where one is wrong.
  read() {
    const wrong = this.#check();
    if (wrong) {
      this.#form.elements[wrong].focus();
      return null;
    }
    return Object.fromEntries(
      Object.entries(this.#values()).filter(([, value]) => value !== undefined),
    );
  }

  #values() {
    const { fps, start, end } = this.#form.elements;
    const given = (input, parse) => (input.value.trim() ? parse(input.value) : undefined);
    return {
      fps: given(fps, (value) => Number(value.replace(",", "."))),
      start: given(start, seconds),
      end: given(end, seconds),
    };
  }

  // Says what is wrong, and the name of the field.
  #check() {
    const { fps, start = 0, end = Infinity } = this.#values();
    const wrong = {
      fps: fps !== undefined && !(fps > 0 && fps <= MAX_FPS),
      start: Number.isNaN(start),
      end: Number.isNaN(end) || end <= start,
    };
    const name = Object.keys(wrong).find((each) => wrong[each]) ?? null;
    const isTime = name === "end" && end <= start;
    this.#complain(name, isTime ? text.optionErrors.order : text.optionErrors[name]);
    return name;
  }

  #complain(name, sentence = "") {
    for (const input of this.#form.querySelectorAll("input")) {
      const wrong = input.name === name;
      input.setAttribute("aria-invalid", String(wrong));
      if (wrong) input.setAttribute("aria-describedby", this.#error.id);
      else input.removeAttribute("aria-describedby");
    }
    this.#error.textContent = sentence;
    this.#error.hidden = !name;
    this.#help.hidden = Boolean(name);
  }
}
