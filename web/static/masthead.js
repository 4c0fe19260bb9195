// What every page has above its content: the texts, the theme's button, and the one notice that
// says what is most wrong.

import { nextTheme, theme } from "./look.js";
import { fill, text } from "./texts.js";

// Fill the page's texts and bring the masthead to life.
export function dress() {
  fill(document);
  const button = document.getElementById("theme");
  const describe = () => {
    button.dataset.choice = theme();
    button.title = text.theme[theme()];
    button.setAttribute("aria-label", button.title);
  };
  document.querySelector(".language-switch").addEventListener("submit", ({ target }) => {
    target.elements.to.value = location.pathname + location.search + location.hash;
  });
  describe();
  button.addEventListener("click", () => {
    nextTheme();
    describe();
  });
}

// Say what is wrong (nothing: an empty message); while `offline`, what the page shows may be old.
export function notice(message, offline) {
  const element = document.getElementById("notice");
  if (element.textContent !== message) element.textContent = message;
  element.hidden = !message;
  document.body.classList.toggle("offline", offline);
}
