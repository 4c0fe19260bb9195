// The texts of the page in its language, and figures as that language writes them.
//
// The server decides on the language (what was chosen in the masthead, else what the browser asks
// for) and writes it on <html>. Every text is in texts/en.js and texts/de.js under the same key.

import de from "./texts/de.js";
import en from "./texts/en.js";

const CATALOGUES = { en, de };

export const language = document.documentElement.lang;
export const text = CATALOGUES[language];

// With the habits of the reader's own country where the browser tells: 22/11/2026 or 11/22/2026.
export const locale = navigator.languages.find((each) => each.startsWith(language)) ?? language;

// Made once each: a formatter costs more to make than all figures of a page to write.
const shares = new Intl.NumberFormat(locale, { style: "percent" });
const numbers = [0, 1, 2, 3].map(
  (digits) =>
    new Intl.NumberFormat(locale, { minimumFractionDigits: digits, maximumFractionDigits: digits }),
);

const named = (path) => path.split(".").reduce((texts, key) => texts[key], text);

// Fill every element that names a text: data-text for its content, data-label for its aria-label.
// "a.b" is text b of page a.
export function fill(root) {
  for (const element of root.querySelectorAll("[data-text]")) {
    element.textContent = named(element.dataset.text);
  }
  for (const element of root.querySelectorAll("[data-label]")) {
    element.setAttribute("aria-label", named(element.dataset.label));
  }
}

// Why a feed (or a source that was tried, as the API tells of it) gives no pictures, or "".
export function trouble({ error, error_kind: kind, source }) {
  return error ? text.trouble(kind, source, error) : "";
}

export function percent(share) {
  return shares.format(share);
}

// A number with this many decimals, 0 to 3.
export function number(value, digits = 0) {
  return numbers[digits].format(value);
}
