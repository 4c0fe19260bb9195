// The last minute of one feed, as it was received: each picture with its own faces.
//
// Bounded: no more than SPAN_S seconds and no more than the bytes of its share. The feed that is
// looked at keeps every picture, the others about two a second, so that all of a wall together stay
// within some 150 MB. Pictures stay in memory and go with the page; nothing is written anywhere.

export const SPAN_S = 60;
const MB = 1024 * 1024;
const WATCHED = { bytes: 48 * MB, spacingS: 0 };
const OTHER = { bytes: 6 * MB, spacingS: 0.45 };

export class Lookback {
  #kept = []; // {meta, jpeg}, oldest first
  #share = OTHER;
  #frozen = false;
  bytes = 0;

  // Whether this is the feed that is looked at.
  watch(watched) {
    this.#share = watched ? WATCHED : OTHER;
    this.#trim();
  }

  // While frozen it keeps what it has, so that who looks back has firm ground.
  freeze(frozen) {
    this.#frozen = frozen;
  }

  add(meta, jpeg) {
    if (this.#frozen) return;
    const newest = this.#kept.at(-1)?.meta.captured_at ?? -Infinity;
    if (meta.captured_at < newest) this.#clear(); // a source that began anew
    else if (meta.captured_at - newest < this.#share.spacingS) return;
    this.#kept.push({ meta, jpeg });
    this.bytes += jpeg.byteLength;
    this.#trim();
  }

  // [oldest, newest] in epoch seconds; null while there is nothing.
  get span() {
    if (!this.#kept.length) return null;
    return [this.#kept[0].meta.captured_at, this.#kept.at(-1).meta.captured_at];
  }

  // The picture shown at a time: the newest that was there by then, else the oldest.
  at(t) {
    return this.#kept[this.#indexAt(t)] ?? null;
  }

  // The picture so many further on (back: negative) from the one at a time.
  step(t, count) {
    const last = this.#kept.length - 1;
    return this.#kept[Math.max(0, Math.min(last, this.#indexAt(t) + count))] ?? null;
  }

  // All faces seen within so many seconds of a time, before and after.
  facesAround(t, seconds) {
    return this.#kept
      .filter(({ meta }) => Math.abs(meta.captured_at - t) <= seconds)
      .flatMap(({ meta }) => meta.faces);
  }

  #indexAt(t) {
    let [low, high] = [0, this.#kept.length - 1];
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if (this.#kept[middle].meta.captured_at <= t + 0.001) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  #trim() {
    const oldest = (this.#kept.at(-1)?.meta.captured_at ?? 0) - SPAN_S;
    let gone = 0;
    while (gone < this.#kept.length - 1) {
      const { meta, jpeg } = this.#kept[gone];
      if (meta.captured_at >= oldest && this.bytes <= this.#share.bytes) break;
      this.bytes -= jpeg.byteLength;
      gone++;
    }
    if (gone) this.#kept.splice(0, gone);
  }

  #clear() {
    this.#kept = [];
    this.bytes = 0;
  }
}
