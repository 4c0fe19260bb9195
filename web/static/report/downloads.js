// The menu of what can be taken away. Films and the PDF are made when first asked for; how far they
// are stands in the menu.

import { percent, text } from "../texts.js";
import { made } from "./api.js";

const FILES = [
  { key: "json", path: "results.json" },
  { key: "csv", path: "results.csv" },
  { key: "annotated", path: "annotated.mp4", made: true },
  { key: "blurred", path: "annotated.mp4?blur=1", made: true },
  { key: "summary", path: "summary.pdf", made: true },
];

export class Downloads {
  #button;
  #menu;
  #address;
  #running = new Set();

  constructor(element, address) {
    this.#address = address;
    this.#button = element.querySelector("button");
    this.#menu = element.querySelector(".menu");
    this.#button.addEventListener("click", () => this.#open(this.#menu.hidden));
    document.addEventListener("click", (event) => {
      if (!element.contains(event.target)) this.#open(false);
    });
    element.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || this.#menu.hidden) return;
      this.#open(false);
      this.#button.focus();
    });
    this.#menu.replaceChildren(...FILES.map((file) => this.#row(file)), this.#paper());
  }

  #open(open) {
    this.#menu.hidden = !open;
    this.#button.setAttribute("aria-expanded", String(open));
    if (open) this.#menu.querySelector("a, button").focus();
  }

  #row(file) {
    const row = document.createElement(file.made ? "button" : "a");
    const state = describe(row, text.report[file.key], text.report[`${file.key}Help`]);
    if (file.made) {
      row.type = "button";
      row.addEventListener("click", () => this.#make(file, row, state));
    } else {
      row.href = `${this.#address}/${file.path}?download=1`;
      row.download = "";
    }
    return row;
  }

  #paper() {
    const row = document.createElement("button");
    row.type = "button";
    describe(row, text.report.print, text.report.printHelp);
    row.addEventListener("click", () => {
      this.#open(false);
      window.print();
    });
    return row;
  }

  async #make(file, row, state) {
    if (this.#running.has(file)) return;
    this.#running.add(file);
    const help = text.report[`${file.key}Help`];
    const address = `${this.#address}/${file.path}`;
    row.setAttribute("aria-busy", "true");
    state.textContent = text.report.making(percent(0));
    try {
      await made(address, (share) => {
        state.textContent = text.report.making(percent(share));
        row.style.setProperty("--done", `${share * 100}%`);
      });
      const link = document.createElement("a");
      link.href = `${address}${address.includes("?") ? "&" : "?"}download=1`;
      link.download = "";
      link.click();
      state.textContent = `${help} · ${text.report.made}`;
    } catch (refusal) {
      state.textContent = `${text.report.notMade}: ${refusal.detail ?? refusal.message}`;
    }
    row.style.removeProperty("--done");
    row.removeAttribute("aria-busy");
    this.#running.delete(file);
  }
}

function describe(row, title, help) {
  const name = document.createElement("b");
  const more = document.createElement("span");
  name.textContent = title;
  more.textContent = help;
  more.setAttribute("aria-live", "polite");
  row.append(name, more);
  return more;
}
