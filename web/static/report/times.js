// Times of a video, as people write them.

import { number } from "../texts.js";

// 0:07, 12:34, 1:02:03; with `digits` decimals where asked for.
export function clock(seconds, digits = 0) {
  const unit = 10 ** digits;
  const whole = Math.max(0, Math.round(seconds * unit)) / unit;
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor(whole / 60) % 60;
  const rest = number(whole % 60, digits).padStart(digits ? digits + 3 : 2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

// How long something lasts: 8.4 s, 3 min 20 s, 1 h 5 min.
export function span(seconds) {
  if (seconds < 9.95) return `${number(seconds, 1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (whole < 3600) return whole % 60 ? `${minutes} min ${whole % 60} s` : `${minutes} min`;
  const rest = Math.round((whole % 3600) / 60);
  return rest ? `${Math.floor(whole / 3600)} h ${rest} min` : `${Math.floor(whole / 3600)} h`;
}
