// A row of buttons that is one stop for the Tab key: arrows move within it, as in every toolbar.

export class Toolbar {
  #element;

  constructor(element) {
    this.#element = element;
    element.addEventListener("keydown", (event) => {
      const buttons = this.#buttons;
      const at = buttons.indexOf(event.target);
      const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: buttons.length - 1 }[event.key];
      if (at < 0 || to === undefined) return;
      event.preventDefault();
      buttons[(to + buttons.length) % buttons.length].focus();
    });
    element.addEventListener("focusin", ({ target }) => this.#stopAt(target));
    this.#stopAt(element.querySelector("button"));
  }

  get #buttons() {
    return [...this.#element.querySelectorAll("button")].filter((button) => button.offsetParent);
  }

  #stopAt(stop) {
    for (const button of this.#element.querySelectorAll("button")) {
      button.tabIndex = button === stop ? 0 : -1;
    }
  }
}
