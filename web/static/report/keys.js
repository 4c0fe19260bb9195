// The keyboard: one key for each thing that is done often. Fields, menus and dialogs keep theirs.

const OWN_KEYS = "input:not([type=range]):not([type=checkbox]):not([type=radio]), textarea, select, dialog";
const ANSWERS_SPACE = "button, a, summary, input";
const CLICKED = "button, label, input[type=range], input[type=checkbox], input[type=radio]";
const ANSWERS_ARROWS = "input[type=radio], .menu";

// Whoever clicks a control goes on with the keyboard where it was: the space bar plays the video, and
// does not press that control again. Whoever reached it by keyboard keeps it.
function giveBackFocus() {
  document.addEventListener("click", (event) => {
    const control = event.target.closest?.(CLICKED);
    if (event.detail === 0 || !control || control.closest("dialog")) return;
    releaseFocus();
    setTimeout(releaseFocus); // a label gives its control the focus only after the click
  });
}

function releaseFocus() {
  const { activeElement } = document;
  if (activeElement?.matches(CLICKED) && !activeElement.closest("dialog, .menu")) {
    activeElement.blur();
  }
}

// `actions` maps names as of KeyboardEvent.key, "Shift+" before them where held, to what is done.
export function bindKeys(actions) {
  giveBackFocus();
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const { target } = event;
    if (target.closest?.(OWN_KEYS) || document.querySelector("dialog[open]")) return;
    if (event.key === " " && target.closest?.(ANSWERS_SPACE)) return;
    if (event.key.startsWith("Arrow") && target.closest?.(ANSWERS_ARROWS)) return;
    const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const arrow = event.shiftKey && event.key.startsWith("Arrow");
    const action = actions[arrow ? `Shift+${name}` : name];
    if (!action) return;
    event.preventDefault();
    action();
  });
}
