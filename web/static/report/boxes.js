// The faces of every analysed frame, fetched in parts around the playhead.

const KEPT_PARTS = 12; // two minutes: the rest is fetched again when it is wanted
const AHEAD_S = 3;
const NOBODY = { times: [], faces: [] };
const NEAR_S = 0.004; // how far containers of one video may round one frame's time apart

export class Boxes {
  #address;
  #recording;
  #parts = new Map(); // number -> {times, faces} or the promise of it; least recently used first

  // `onLoaded` is called whenever a part has come, or may be asked for again.
  constructor(address, recording, onLoaded) {
    this.#address = address;
    this.#recording = recording;
    this.onLoaded = onLoaded;
  }

  // The faces of the frame that is shown at a position; null where that is not known yet.
  at(position) {
    const t = position + this.#recording.start;
    const part = this.#part(t);
    this.#part(t + AHEAD_S);
    if (!part) return null;
    const i = last(part.times, t + NEAR_S);
    if (i >= 0) return t - part.times[i] <= this.#oldest ? part.faces[i] : [];
    // The frame that was sampled last may lie in the part before.
    const before = t - this.#oldest;
    if (this.#number(before) === this.#number(t)) return [];
    const earlier = this.#part(before);
    if (!earlier) return null;
    const k = earlier.times.length - 1;
    return k >= 0 && t - earlier.times[k] <= this.#oldest ? earlier.faces[k] : [];
  }

  // The position of the analysed frame before (-1) or after (1); null where that is not known.
  neighbour(position, direction) {
    const t = position + this.#recording.start;
    const part = this.#part(t);
    if (!part) return null;
    const i = last(part.times, t + NEAR_S);
    const here = i >= 0 && t - part.times[i] <= NEAR_S;
    const wanted = part.times[direction > 0 ? i + 1 : here ? i - 1 : i];
    return wanted === undefined ? null : wanted - this.#recording.start;
  }

  // How long a frame's faces are shown: until the next frame, or the next that was sampled.
  get #oldest() {
    const { sampled_fps: sampled } = this.#recording.video;
    return sampled ? 1.5 / sampled : Math.max(this.#recording.frameSpan / 2, 0.02);
  }

  #number(t) {
    return Math.floor(Math.max(t, 0) / this.#recording.boxesSpan);
  }

  #part(t) {
    const number = this.#number(t);
    const part = this.#parts.get(number);
    if (part) this.#parts.delete(number); // put at the end again: used most recently
    const kept = part ?? (this.#anybody(number) ? this.#fetch(number) : NOBODY);
    this.#parts.set(number, kept);
    for (const old of this.#parts.keys()) {
      if (this.#parts.size <= KEPT_PARTS) break;
      this.#parts.delete(old);
    }
    return kept instanceof Promise ? null : kept;
  }

  // Whether any face can be in a part: there are no files of what was not analysed.
  #anybody(number) {
    const { people, boxesSpan } = this.#recording;
    const [from, to] = [number * boxesSpan, (number + 1) * boxesSpan];
    return people.some(({ start_s: start, end_s: end }) => start < to && end >= from);
  }

  async #fetch(number) {
    const address = `${this.#address}/boxes/${number}.json?revision=${this.#recording.revision}`;
    const answer = await fetch(address).catch(() => null);
    const rows = answer?.ok ? await answer.json().catch(() => null) : null;
    if (!rows && answer?.status !== 404) {
      setTimeout(() => {
        this.#parts.delete(number);
        this.onLoaded(); // asked for again where still wanted
      }, 1000);
      return;
    }
    const { labels } = this.#recording;
    this.#parts.set(number, {
      times: rows?.t ?? [],
      faces: (rows?.faces ?? []).map((faces) =>
        faces.map(([person, x, y, width, height, label, confidence, unsure]) => ({
          track: person,
          box: [x, y, width, height],
          emotion: labels[label],
          confidence,
          unsure: Boolean(unsure),
        })),
      ),
    });
    this.onLoaded();
  }
}

function last(times, t) {
  let low = -1;
  let high = times.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (times[middle] <= t) low = middle;
    else high = middle - 1;
  }
  return low;
}
