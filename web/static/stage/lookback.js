// The last minute of one feed, as it was received: each picture with its own faces.
//
// Bounded: no more than SPAN_S seconds and no more bytes than its share. Where pictures are too many
// for that, every second one goes, so that the minute stays whole and only gets coarser. Pictures
// stay in memory and go with the page; nothing is written anywhere.

export const SPAN_S = 60;
const MB = 1024 * 1024;
const PAGE_BYTES = 96 * MB; // of all feeds together
const MOST_BYTES = 48 * MB; // a minute at 15 pictures a second, of 55 kB each
const FINEST_S = 0.1;
const COARSEST_S = 4;

// The bytes that one of `count` feeds may keep: all alike, or (`large` given) half for the large one.
export function shareOf(count, large = null) {
  if (large === null) return Math.min(MOST_BYTES, PAGE_BYTES / count);
  return large ? MOST_BYTES : (PAGE_BYTES - MOST_BYTES) / Math.max(1, count - 1);
}

export class Lookback {
  #kept = []; // {meta, jpeg}, oldest first
  #share = MOST_BYTES;
  #spacingS = 0;
  #frozen = false;
  bytes = 0;

  // How many bytes it may keep from now on.
  limit(bytes) {
    this.#share = bytes;
    if (!this.#frozen) this.#trim();
  }

  // While frozen it keeps what it has, so that who looks back has firm ground.
  freeze(frozen) {
    this.#frozen = frozen;
  }

  add(meta, jpeg) {
    if (this.#frozen) return;
    const newest = this.#kept.at(-1)?.meta.captured_at ?? -Infinity;
    if (meta.captured_at < newest) this.#clear(); // a source that began anew
    else if (meta.captured_at - newest < this.#spacingS) return;
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
    const fresh = this.#kept.findIndex(({ meta }) => meta.captured_at >= oldest);
    if (fresh > 0) this.#keep(this.#kept.slice(fresh));
    while (this.bytes > this.#share && this.#spacingS < COARSEST_S) {
      this.#spacingS = Math.max(FINEST_S, 2 * this.#spacingS);
      this.#thin();
    }
    while (this.bytes > this.#share && this.#kept.length > 1) this.#keep(this.#kept.slice(1));
    // Half the spacing is twice the bytes, once the minute is over.
    if (this.bytes < 0.4 * this.#share) {
      this.#spacingS = this.#spacingS > FINEST_S ? this.#spacingS / 2 : 0;
    }
  }

  #thin() {
    let last = -Infinity;
    this.#keep(
      this.#kept.filter(({ meta: { captured_at: t } }) => {
        const far = t - last >= this.#spacingS;
        if (far) last = t;
        return far;
      }),
    );
  }

  #keep(kept) {
    this.#kept = kept;
    this.bytes = kept.reduce((sum, { jpeg }) => sum + jpeg.byteLength, 0);
  }

  #clear() {
    this.#kept = [];
    this.bytes = 0;
  }
}
