// What scripts have to know of the look: read from the style sheet when the theme changes, because
// asking the browser each time makes it lay the page out each time.

export const look = { ground: "deep", muted: "", surface: "", ink: "", line: "", smallFont: "", boldFont: "" };

const CHOICES = ["auto", "light", "dark"];
const KEY = "moodline-theme"; // theme.js reads it before the page is painted
const root = document.documentElement;

function read() {
  const style = getComputedStyle(root);
  look.ground = style.getPropertyValue("--ground").trim();
  look.surface = style.getPropertyValue("--surface").trim();
  look.ink = style.getPropertyValue("--ink").trim();
  look.muted = style.getPropertyValue("--muted").trim();
  look.line = style.getPropertyValue("--line").trim();
  const family = getComputedStyle(document.body).fontFamily;
  look.smallFont = `11px ${family}`;
  look.boldFont = `600 12px ${family}`;
  root.dataset.ground = look.ground;
  root.dispatchEvent(new Event("look")); // for whoever does not draw anew all the time
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
