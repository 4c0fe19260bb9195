// The last minute of every face of one feed: what the charts and the look back draw from.

const KEPT_S = 62;
const SPACING_S = 0.1; // charts show no more than ten points a second
const GAP_S = 1.2; // a face away for longer leaves a gap
const FORGOTTEN_S = 62;

export class History {
  labels = [];
  unsureBelow = 0;
  #tracks = new Map(); // number -> {times, rows}

  // Fill with what the server kept where this page has seen nothing.
  fill({ labels, unsure_below: unsureBelow, tracks }) {
    if (labels.length) this.#use(labels);
    this.unsureBelow = unsureBelow;
    for (const { track, points } of tracks) {
      const row = this.#track(track);
      const merged = row.times.map((t, i) => [t, row.rows[i]]);
      let next = 0;
      let last = -Infinity;
      for (const [t, ...scores] of points) {
        while (row.times[next] < t - SPACING_S) next++;
        const near = Math.abs((row.times[next] ?? Infinity) - t) < SPACING_S;
        if (near || t - last < SPACING_S) continue;
        merged.push([t, scores]);
        last = t;
      }
      merged.sort((a, b) => a[0] - b[0]);
      row.times = merged.map(([t]) => t);
      row.rows = merged.map(([, scores]) => scores);
    }
  }

  add({ captured_at: t, faces }) {
    if (faces.length) this.#use(Object.keys(faces[0].scores));
    for (const face of faces) {
      const row = this.#track(face.track);
      row.latest = face;
      row.seen = t;
      if (t - (row.times.at(-1) ?? 0) >= SPACING_S) {
        row.times.push(t);
        row.rows.push(this.labels.map((label) => face.scores[label]));
      }
    }
    for (const [track, row] of this.#tracks) {
      while (row.times.length && row.times[0] < t - KEPT_S) {
        row.times.shift();
        row.rows.shift();
      }
      if ((row.seen ?? row.times.at(-1) ?? 0) < t - FORGOTTEN_S) this.#tracks.delete(track);
    }
  }

  // Numbers of the faces seen within the last `seconds` before `now`, lowest first.
  tracks(now, seconds) {
    return [...this.#tracks]
      .filter(([, row]) => (row.seen ?? row.times.at(-1)) >= now - seconds)
      .map(([track]) => track)
      .sort((a, b) => a - b);
  }

  // The newest state of a face: {face, seen}; `face` is missing until this page has seen it.
  latest(track) {
    const row = this.#tracks.get(track);
    return row ? { face: row.latest, seen: row.seen ?? row.times.at(-1) } : null;
  }

  // For a stacked chart: [times, share of all labels up to the last, … up to the first], with
  // nulls where the face was away.
  stacked(track) {
    const { times, rows } = this.#tracks.get(track) ?? { times: [], rows: [] };
    const count = this.labels.length;
    const columns = Array.from({ length: count + 1 }, () => []);
    let before = times[0];
    times.forEach((t, i) => {
      if (t - before > GAP_S) {
        columns[0].push(before + 0.01);
        for (let c = 1; c <= count; c++) columns[c].push(null);
      }
      before = t;
      columns[0].push(t);
      let sum = 0;
      for (let label = 0; label < count; label++) {
        sum += rows[i][label];
        columns[count - label].push(sum);
      }
    });
    return columns;
  }

  // When the model was unsure of a face: [from, to] of each stretch.
  unsure(track) {
    const { times, rows } = this.#tracks.get(track) ?? { times: [], rows: [] };
    const stretches = [];
    let last = null;
    times.forEach((t, i) => {
      const near = i > 0 && t - times[i - 1] <= GAP_S;
      // Each point stands for the time half-way to its neighbours.
      const from = near ? (times[i - 1] + t) / 2 : t;
      const to = times[i + 1] - t <= GAP_S ? (times[i + 1] + t) / 2 : t;
      if (!this.#isUnsure(rows[i])) last = null;
      else if (last && near) last[1] = to;
      else stretches.push((last = [from, to]));
    });
    return stretches;
  }

  // What a face showed nearest to a time: {scores by label, unsure}; null if it was away.
  at(track, t) {
    const row = this.#tracks.get(track);
    if (!row?.times.length) return null;
    let best = 0;
    row.times.forEach((time, i) => {
      if (Math.abs(time - t) < Math.abs(row.times[best] - t)) best = i;
    });
    if (Math.abs(row.times[best] - t) > GAP_S) return null;
    const scores = Object.fromEntries(this.labels.map((label, i) => [label, row.rows[best][i]]));
    return { scores, unsure: this.#isUnsure(row.rows[best]) };
  }

  #isUnsure(scores) {
    return Math.max(...scores) < this.unsureBelow;
  }

  #track(number) {
    if (!this.#tracks.has(number)) this.#tracks.set(number, { times: [], rows: [] });
    return this.#tracks.get(number);
  }

  // Another model with other labels has taken over: what was kept no longer fits.
  #use(labels) {
    if (labels.join() === this.labels.join()) return;
    if (this.labels.length) this.#tracks.clear();
    this.labels = labels;
  }
}
