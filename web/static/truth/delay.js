// The way of a picture from the camera to this screen, in parts, and its mean over the last seconds.
//
// The parts of a picture lie end to end between its capture and its painting, so they add up to its
// delay; means add up like what they are means of, and the shown milliseconds are rounded so that
// they still do. The boundaries come from several clocks (camera's machine, Redis, worker, web
// server, this browser's with its measured offset): one that lies outside its neighbours is moved to
// them, so no part is negative and the sum stays.
//
// Left out, because nobody can tell it from here: what the camera and its network need until the
// picture is read, and what the screen needs to light up.

const KEPT_S = 3;
const MOST_KEPT = 240; // pictures, however fast they come

// Each with the moment it ends at; those whose end a picture does not tell are part of the next.
export const PARTS = [
  "capture", // encoding, and handing it to Redis
  "queue", // waiting for a worker
  "decode",
  "detect",
  "batch", // other pictures of the same batch
  "classify",
  "publish", // writing the result, and waiting until this browser takes the next picture
  "network",
  "paint", // decoding here, and waiting for the screen
];

// Epoch seconds at which each part of a painted picture ended, in order: [[part, at]].
export function boundaries(meta, received, painted) {
  const { captured_at: captured, stored_at: stored, analysed_at: analysed, sent_at: sent } = meta;
  const { queue, decode, detect, classify } = meta.stages_ms;
  const seconds = (ms) => ms / 1000;
  const ends = [];
  if (stored) ends.push(["capture", stored]);
  if (queue !== undefined) {
    const begun = captured + seconds(queue);
    const found = begun + seconds(decode) + seconds(detect);
    ends.push(["queue", begun], ["decode", begun + seconds(decode)], ["detect", found]);
    ends.push(["batch", analysed - seconds(classify)]);
  }
  ends.push(["classify", analysed], ["publish", sent]);
  if (received) ends.push(["network", received]);
  ends.push(["paint", painted]);
  let from = captured;
  const last = Math.max(captured, painted);
  return ends.map(([part, at]) => [part, (from = Math.min(last, Math.max(from, at)))]);
}

export class Delay {
  #paints = []; // {at, parts: {part: seconds}, delay}

  add(meta, received, painted) {
    const parts = {};
    let from = meta.captured_at;
    for (const [part, at] of boundaries(meta, received, painted)) {
      parts[part] = at - from;
      from = at;
    }
    this.#paints.push({ at: painted, parts, delay: from - meta.captured_at });
    if (this.#paints.length > MOST_KEPT) this.#paints.shift();
  }

  // Of the last seconds: {ms, worstMs, parts: [[part, ms]]}, or null where nothing was painted. The
  // parts add up to `ms`.
  mean(now) {
    const paints = this.#last(now);
    if (!paints.length) return null;
    const mean = (pick) => paints.reduce((sum, paint) => sum + pick(paint), 0) / paints.length;
    const known = PARTS.filter((part) => paints.some(({ parts }) => part in parts));
    const exact = known.map((part) => 1000 * mean(({ parts }) => parts[part] ?? 0));
    const rounded = roundedTogether(exact);
    return {
      ms: rounded.reduce((sum, part) => sum + part, 0),
      worstMs: Math.round(1000 * Math.max(...paints.map(({ delay }) => delay))),
      parts: known.map((part, i) => [part, rounded[i]]),
    };
  }

  // Pictures painted a second, of the last seconds.
  rate(now) {
    return this.#last(now).length / KEPT_S;
  }

  #last(now) {
    while (this.#paints.length && this.#paints[0].at < now - KEPT_S) this.#paints.shift();
    return this.#paints;
  }
}

// Whole numbers with the rounded sum: those with the largest remainders are rounded up.
function roundedTogether(values) {
  const whole = values.map(Math.floor);
  const sum = values.reduce((a, b) => a + b, 0);
  const missing = Math.round(sum) - whole.reduce((a, b) => a + b, 0);
  const order = values.map((_, i) => i).sort((a, b) => values[b] - whole[b] - (values[a] - whole[a]));
  for (const i of order.slice(0, missing)) whole[i]++;
  return whole;
}
