// What is drawn over the pictures, chosen once for all feeds and remembered in this browser.
//
// Dispatches "change" when the choice changes. The panel's own work is only to show and set it.

import { fill, text } from "../texts.js";
import { Popup } from "./popup.js";

const KEY = "moodline-layers";
const DEFAULTS = { boxes: true, names: true, emotions: true, bars: false, blur: false };
export const LAYER_KEYS = { boxes: "b", names: "n", emotions: "e", bars: "a", blur: "h" };

class Layers extends EventTarget {
  on = { ...DEFAULTS, ...remembered() };

  set(name, on) {
    if (this.on[name] === on) return;
    this.on = { ...this.on, [name]: on };
    localStorage.setItem(KEY, JSON.stringify(this.on));
    this.dispatchEvent(new Event("change"));
  }

  toggle(name) {
    this.set(name, !this.on[name]);
  }
}

export const layers = new Layers();

// Another tab, or an older version of this page, may have left anything there.
function remembered() {
  try {
    const kept = JSON.parse(localStorage.getItem(KEY)) ?? {};
    const known = Object.keys(DEFAULTS).filter((name) => typeof kept[name] === "boolean");
    return Object.fromEntries(known.map((name) => [name, kept[name]]));
  } catch {
    return {};
  }
}

// The panel with a switch for each layer, under its button.
export class LayersPanel {
  constructor(button, panel) {
    new Popup(button, panel);
    const template = document.getElementById("layer-switch").content.firstElementChild;
    const switches = Object.keys(DEFAULTS).map((name) => {
      const row = template.cloneNode(true);
      fill(row);
      const box = row.querySelector("input");
      row.querySelector(".layer-name").textContent = text.stage.layers[name];
      row.querySelector("kbd").textContent = LAYER_KEYS[name].toUpperCase();
      row.querySelector(".layer-help").textContent = text.stage.layerHelp[name] ?? "";
      box.addEventListener("change", () => layers.set(name, box.checked));
      panel.append(row);
      return [name, box];
    });
    const show = () => {
      for (const [name, box] of switches) box.checked = layers.on[name];
      button.classList.toggle("hides-faces", layers.on.blur);
    };
    layers.addEventListener("change", show);
    show();
  }
}
