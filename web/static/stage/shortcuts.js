// The live page's keyboard: one key for each thing that is done often, and the dialog that lists
// them. Fields, menus and dialogs keep their own keys.

import { text } from "../texts.js";

const OWN_KEYS = "input:not([type=range]):not([type=checkbox]), textarea, select, dialog";
const ANSWERS_SPACE = "button:not(.cover), a, summary, input[type=checkbox]";
const ANSWERS_ARROWS = "[role=toolbar] *, [popover] *, .faces, [data-own-arrows] *";

// `actions` maps names as of KeyboardEvent.key, "Shift+" before arrows where held, to what is done;
// an action that answers false leaves the key to the page.
export function bindKeys(actions) {
  giveBackFocus();
  // A button is pressed when the space bar is let go.
  document.addEventListener("keyup", (event) => {
    if (event.key === " " && event.target.closest?.(".cover")) event.preventDefault();
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const { target } = event;
    if (target.closest?.(OWN_KEYS) || document.querySelector("dialog[open]")) return;
    if (event.key === " " && target.closest?.(ANSWERS_SPACE)) return;
    if (event.key.startsWith("Arrow") && target.closest?.(ANSWERS_ARROWS)) return;
    if (event.key === "Escape" && document.querySelector(":popover-open")) return;
    const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const arrow = event.shiftKey && event.key.startsWith("Arrow");
    const action = actions[arrow ? `Shift+${name}` : name];
    if (action && action() !== false) event.preventDefault();
  });
}

// Who clicks a tool goes on with the keyboard where it was: the space bar pauses, and does not press
// that tool again. Who reached it by keyboard keeps it.
function giveBackFocus() {
  document.addEventListener("click", ({ detail, target }) => {
    const tool = target.closest?.(".tools button, .to-live");
    if (detail > 0 && tool && !tool.popoverTargetElement) {
      tool.closest(".tile").querySelector(".cover").focus({ preventScroll: true });
    }
  });
}

export class HelpDialog {
  #dialog = document.getElementById("help-dialog");

  constructor() {
    const list = this.#dialog.querySelector("dl");
    for (const [keys, what] of text.stage.keys) {
      const [term, meaning] = [document.createElement("dt"), document.createElement("dd")];
      for (const key of keys.split(" ")) {
        const cap = document.createElement("kbd");
        cap.textContent = key;
        term.append(cap, " ");
      }
      meaning.textContent = what;
      list.append(term, meaning);
    }
    this.#dialog.querySelector(".close").addEventListener("click", () => this.#dialog.close());
  }

  open() {
    this.#dialog.showModal();
  }
}
