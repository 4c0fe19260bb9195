// What a report says of its video: the people, and for each the scores over time.
//
// Times are positions: seconds from the video's start, as a player counts them. The files count
// from the container's own zero, which some recorders set elsewhere.

import { text } from "../texts.js";

export class Recording {
  // `address` is where the report's files lie.
  constructor(summary, address) {
    this.video = summary.video;
    this.model = summary.model;
    this.labels = summary.model.labels;
    this.unsureBelow = summary.model.unsure_below ?? 0;
    this.revision = summary.revision;
    this.start = summary.video.start_s ?? 0;
    this.boxesSpan = summary.boxes_s;
    // Whoever is seen longest stands first: short tracks are often somebody in the background.
    this.people = summary.people
      .map((person) => ({
        ...person,
        portrait: person.face && `${address}/${person.face}?revision=${summary.revision}`,
      }))
      .sort((a, b) => b.seconds_seen - a.seconds_seen);
    this.series = new Map(
      this.people.map(({ id }) => [
        id,
        new Series(summary.timeline[id] ?? [], this.labels.length, this.start),
      ]),
    );
    const ends = [...this.series.values()].map((series) => series.end);
    this.duration = Math.max(summary.video.duration_s ?? 0, ...ends, 0.04);
    this.frameSpan = 1 / (summary.video.fps || 25);
    this.together = new Set((summary.together ?? []).flatMap(([a, b]) => [`${a} ${b}`, `${b} ${a}`]));
  }

  person(id) {
    return this.people.find((person) => person.id === id) ?? null;
  }

  nameOf(id) {
    return this.person(id)?.name ?? text.report.person(id);
  }

  // Whether two numbers are ever seen in one picture, and so are two people.
  areTogether(a, b) {
    const numbers = (id) => [id, ...(this.person(id)?.merged ?? [])];
    return numbers(a).some((one) => numbers(b).some((other) => this.together.has(`${one} ${other}`)));
  }

  // The mean share of each emotion between two positions; null where the person was away.
  mean(id, from, to) {
    return this.series.get(id).mean(from, to);
  }
}

// One person's scores over time. Runs of points without a gap are `runs`: [first, last] indices.
class Series {
  constructor(rows, width, start) {
    this.width = width;
    const points = rows.filter((row) => row[1] !== null);
    this.times = Float64Array.from(points, ([t]) => t - start);
    this.scores = new Float32Array(points.length * width);
    points.forEach((row, i) => {
      for (let k = 0; k < width; k++) this.scores[i * width + k] = row[k + 1];
    });
    this.runs = [];
    let count = 0;
    let first = 0;
    for (const row of rows) {
      if (row[1] !== null) {
        count++;
        continue;
      }
      if (count > first) this.runs.push([first, count - 1]);
      first = count;
    }
    if (count > first) this.runs.push([first, count - 1]);
    this.spacing = this.#spacing();
    // When the person is seen, for bars: [from, to].
    this.seen = this.runs.map(([a, b]) => [this.times[a], this.times[b] + this.spacing]);
  }

  get end() {
    return this.times.length ? this.times[this.times.length - 1] : 0;
  }

  // The point shown at a position, or -1 where the person is away.
  indexAt(position) {
    const i = this.#last(position + this.spacing / 2);
    const near = [i, i + 1].filter((k) => k >= 0 && k < this.times.length);
    const best = near.reduce(
      (a, b) => (a >= 0 && this.#off(a, position) <= this.#off(b, position) ? a : b),
      -1,
    );
    return best >= 0 && this.#off(best, position) <= this.spacing * 1.5 ? best : -1;
  }

  row(index) {
    return this.scores.subarray(index * this.width, (index + 1) * this.width);
  }

  mean(from, to) {
    const sum = new Float64Array(this.width);
    let count = 0;
    for (let i = this.#last(from - 1e-9) + 1; i < this.times.length && this.times[i] < to; i++) {
      for (let k = 0; k < this.width; k++) sum[k] += this.scores[i * this.width + k];
      count++;
    }
    return count ? sum.map((value) => value / count) : null;
  }

  // Runs as they are drawn between two positions: [{times, rows}], no more than about one point a
  // pixel, each the mean of those it stands for.
  drawn(from, to, pixels) {
    const step = Math.max((to - from) / Math.max(pixels, 1), 1e-6);
    const parts = [];
    for (const [first, last] of this.runs) {
      if (this.times[last] < from - this.spacing || this.times[first] > to + this.spacing) continue;
      const times = [];
      const rows = [];
      let at = Math.max(first, Math.min(last, this.#last(from) - 1));
      while (at <= last) {
        const row = new Float32Array(this.width);
        const start = this.times[at];
        const bucket = Math.floor(start / step); // the same ones wherever the view begins
        let [sum, count] = [0, 0];
        do {
          for (let k = 0; k < this.width; k++) row[k] += this.scores[at * this.width + k];
          sum += this.times[at];
          count++;
          at++;
        } while (at <= last && Math.floor(this.times[at] / step) === bucket);
        times.push(sum / count);
        rows.push(row.map((value) => value / count));
        if (start > to) break; // one point beyond the edge, so that lines reach it
      }
      parts.push({ times, rows });
    }
    return parts;
  }

  #off(index, position) {
    return Math.abs(this.times[index] - position);
  }

  // The last point at or before a position, -1 if none is.
  #last(position) {
    let low = -1;
    let high = this.times.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.times[middle] <= position) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  // What one point stands for, in seconds: the middle one of all distances within runs.
  #spacing() {
    const steps = [];
    for (const [first, last] of this.runs) {
      for (let i = first + 1; i <= last; i++) steps.push(this.times[i] - this.times[i - 1]);
    }
    return steps.length ? steps.sort((a, b) => a - b)[steps.length >> 1] : 0.1;
  }
}
