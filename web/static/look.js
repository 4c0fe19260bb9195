// What scripts have to know of the look: read from the style sheet when the theme changes, because
// asking the browser each time makes it lay the page out each time.

export const look = { ground: "deep", muted: "", smallFont: "" };

const CHOICES = ["auto", "light", "dark"];
const KEY = "moodline-theme"; // theme.js reads it before the page is painted
const root = document.documentElement;

function read() {
  const style = getComputedStyle(root);
  look.ground = style.getPropertyValue("--ground").trim();
  look.muted = style.getPropertyValue("--muted").trim();
  look.smallFont = `11px ${getComputedStyle(document.body).fontFamily}`;
  root.dataset.ground = look.ground;
}

export function theme() {
  return root.dataset.theme ?? "auto";
}

// Take the next theme: as the system, light, dark.
export function nextTheme() {
  const next = CHOICES[(CHOICES.indexOf(theme()) + 1) % CHOICES.length];
  if (next === "auto") delete root.dataset.theme;
  else root.dataset.theme = next;
  localStorage.setItem(KEY, next);
  read();
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", read);
read();
