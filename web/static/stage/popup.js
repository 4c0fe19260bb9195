// A panel that opens under its button, over everything else; Escape and a click elsewhere close it.

const GAP_PX = 6;

export class Popup {
  #button;
  #panel;

  constructor(button, panel) {
    this.#button = button;
    this.#panel = panel;
    button.popoverTargetElement = panel;
    button.setAttribute("aria-expanded", "false");
    panel.addEventListener("toggle", ({ newState }) => {
      button.setAttribute("aria-expanded", String(newState === "open"));
      if (newState === "open") {
        this.#place();
        panel.querySelector("input, button, a")?.focus();
      }
    });
  }

  close() {
    if (this.#panel.matches(":popover-open")) this.#panel.hidePopover();
  }

  // Below the button, right edges together, and all of it on the screen.
  #place() {
    const at = this.#button.getBoundingClientRect();
    const { offsetWidth: width, offsetHeight: height } = this.#panel;
    const below = at.bottom + GAP_PX;
    const top = below + height <= innerHeight ? below : Math.max(GAP_PX, at.top - GAP_PX - height);
    const left = Math.min(Math.max(GAP_PX, at.right - width), innerWidth - width - GAP_PX);
    Object.assign(this.#panel.style, { left: `${left}px`, top: `${top}px` });
  }
}
