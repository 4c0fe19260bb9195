// Amounts as people read and write them.

import { locale, number as format } from "../texts.js";

const SIZES = ["B", "kB", "MB", "GB", "TB"];
const CLOCK = /^(?:(?:(\d+):)?([0-5]?\d):)?(\d+(?:[.,]\d+)?)$/;

// Made once: a formatter costs more to make than all rows of a list to write.
const timeOfDay = new Intl.DateTimeFormat(locale, { timeStyle: "short" });
const dateAndTime = new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "short" });

export function count(number) {
  return format(number);
}

// Bytes with as many digits as tell two files apart: 9.4 MB, 128 MB.
export function bytes(number) {
  let power = 0;
  while (number >= 999.5 && power < SIZES.length - 1) {
    number /= 1000;
    power += 1;
  }
  return `${format(number, power && number < 9.95 ? 1 : 0)} ${SIZES[power]}`;
}

// The seconds that somebody wrote as 90, 1:30, 1:30.5 or 1:01:30; NaN for what is no time.
export function seconds(written) {
  const match = CLOCK.exec(written.trim());
  if (!match) return NaN;
  const [, hours = 0, minutes, rest] = match;
  const last = Number(rest.replace(",", "."));
  if (minutes !== undefined && last >= 60) return NaN;
  return Number(hours) * 3600 + Number(minutes ?? 0) * 60 + last;
}

// Time left, coarse enough not to jump about: [5, "s"], [3, "min"], [2, "h"].
export function remaining(seconds) {
  if (seconds < 57.5) return [Math.max(5, Math.ceil(seconds / 5) * 5), "s"];
  if (seconds < 57.5 * 60) return [Math.max(1, Math.round(seconds / 60)), "min"];
  return [Math.max(1, Math.round(seconds / 3600)), "h"];
}

// When something was: the time for today, else the date too.
export function moment(epochSeconds) {
  const date = new Date(epochSeconds * 1000);
  const today = date.toDateString() === new Date().toDateString();
  return { today, words: (today ? timeOfDay : dateAndTime).format(date) };
}
