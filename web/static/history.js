// What has come of one feed: every face's scores of the last minute as they were seen, the hour
// before in coarse points, and what happened. All charts draw from here.
//
// Bounded, however long the page stays open: a face keeps KEPT_S at ten points a second (HELD_S more
// while somebody looks back) and goes when it was away for so long; no more than MOST_TRACKS faces and MOST_MARKS events are kept; what
// the server told of longer ago is replaced whole by its next answer, which it bounds itself.

const KEPT_S = 75; // the minute that can be looked back at, and some room
const SPACING_S = 0.1; // charts show no more than ten points a second
const GAP_S = 1.2; // a face away for longer leaves a gap
const MOST_TRACKS = 120;
const MOST_MARKS = 200;
const HELD_S = 600; // so much longer at most while somebody looks back

export class History {
  labels = [];
  unsureBelow = 0;
  heard = 0; // when the newest picture was captured that this page knows of, epoch seconds
  revision = 0; // rises when the past changes, so that what was drawn of it is drawn again
  farResolution = 0; // seconds that one coarse point stands for
  #tracks = new Map(); // number -> {times, rows, latest, seen, revision}
  #far = new Map(); // number -> {times, rows, unsure}
  #marks = [];
  #heldAt = Infinity;

  // Take an answer of the timeline's route: of the last minute where this page has seen nothing, or
  // of longer as the coarse past.
  fill(answer, seconds = 60) {
    const { labels, unsure_below: unsureBelow, tracks } = answer;
    if (labels.length) this.#use(labels);
    this.unsureBelow = unsureBelow;
    this.revision++;
    if (seconds > KEPT_S) this.#fillFar(answer);
    else for (const { track, points } of tracks) this.#fillNear(track, points);
  }

  add({ captured_at: t, faces }) {
    if (faces.length) this.#use(Object.keys(faces[0].scores));
    const before = this.heard;
    this.heard = Math.max(before, t);
    for (const face of faces) {
      const row = this.#track(face.track);
      const away = t - (row.times.at(-1) ?? t);
      // Back before its gap counts as one: what was left blank meanwhile is drawn after all.
      if (row.seen < before && t - row.seen <= GAP_S) row.revision++;
      row.latest = face;
      row.seen = t;
      if (row.times.length && away < SPACING_S) continue;
      row.times.push(t);
      row.rows.push(this.labels.map((label) => face.scores[label]));
    }
    this.#forget(t);
  }

  // Keep what is around a time while somebody looks back to it; null: nobody does any more.
  hold(t) {
    this.#heldAt = t ?? Infinity;
  }

  // Take note of an event: {id, at, name, kind, track?, emotion?, value?}.
  mark(event) {
    if (this.#marks.some(({ id }) => id === event.id)) return;
    this.#marks.push(event);
    this.#marks.sort((a, b) => a.at - b.at);
    if (this.#marks.length > MOST_MARKS) this.#marks.shift();
  }

  marks(from, to) {
    return this.#marks.filter(({ at }) => at >= from && at <= to);
  }

  // Numbers of the faces seen within the last `seconds` before `now`, lowest first.
  tracks(now, seconds) {
    const found = new Set();
    for (const [track, row] of this.#tracks) {
      if ((row.seen ?? row.times.at(-1)) >= now - seconds) found.add(track);
    }
    for (const [track, { times }] of this.#far) {
      if (seconds > KEPT_S && times.at(-1) >= now - seconds) found.add(track);
    }
    return [...found].sort((a, b) => a - b);
  }

  // The newest state of a face: {face, seen}; `face` is missing until this page has seen it. Null
  // for a face that is not known any more.
  latest(track) {
    const row = this.#tracks.get(track);
    return row ? { face: row.latest, seen: row.seen ?? row.times.at(-1) } : null;
  }

  // Changes when what was drawn of a face's last minute has to be drawn again.
  revisionOf(track) {
    return `${this.revision} ${this.#tracks.get(track)?.revision}`;
  }

  // What a face showed between two times of the last minute: {scores in the labels' order, unsure:
  // share of the time}; null where it was away. Between two points it shows the nearer one.
  mean(track, from, to) {
    const { times, rows } = this.#tracks.get(track) ?? { times: [], rows: [] };
    let i = firstFrom(times, from);
    if (i < times.length && times[i] < to) {
      const scores = new Array(this.labels.length).fill(0);
      let [count, unsure] = [0, 0];
      for (; i < times.length && times[i] < to; i++, count++) {
        for (let k = 0; k < scores.length; k++) scores[k] += rows[i][k];
        unsure += this.#isUnsure(rows[i]);
      }
      return { scores: scores.map((sum) => sum / count), unsure: unsure / count };
    }
    const next = times[i] ?? Infinity;
    const before = times[i - 1] ?? -Infinity;
    if (next - before > GAP_S) return null;
    const nearer = next - to < from - before ? i : i - 1;
    return { scores: rows[nearer], unsure: Number(this.#isUnsure(rows[nearer])) };
  }

  // What a face showed nearest to a time: {scores by label, unsure}; null if it was away.
  at(track, t) {
    const near = this.#tracks.get(track);
    const far = this.#far.get(track);
    return this.#nearest(near, t, GAP_S) ?? this.#nearest(far, t, Math.max(GAP_S, this.farResolution));
  }

  // A face's scores from one time to another, for a chart: {parts: [{times, rows, unsure}], spacing},
  // a part for each stretch in which it was seen, `unsure` as shares of the time. Points nearer to
  // one another than `step` seconds become their mean.
  series(track, from, to, step = SPACING_S) {
    const near = this.#tracks.get(track) ?? { times: [], rows: [] };
    const far = this.#far.get(track) ?? { times: [], rows: [], unsure: [] };
    const spacing = Math.max(step, SPACING_S);
    const nearFrom = near.times[0] ?? Infinity;
    const parts = [];
    let [bucket, count, before] = [null, 0, -Infinity];
    const take = (t, row, unsure, apart) => {
      if (t < from - apart || t > to + apart) return;
      let part = parts.at(-1);
      if (!part || t - before > Math.max(GAP_S, 1.6 * apart)) {
        parts.push((part = { times: [], rows: [], unsure: [] }));
        bucket = null;
      }
      before = t;
      const now = Math.floor(t / spacing);
      if (now === bucket) {
        const last = part.times.length - 1;
        count++;
        part.times[last] += (t - part.times[last]) / count;
        part.unsure[last] += (unsure - part.unsure[last]) / count;
        const mean = part.rows[last];
        part.rows[last] = mean.map((value, k) => value + (row[k] - value) / count);
        return;
      }
      [bucket, count] = [now, 1];
      part.times.push(t);
      part.rows.push(row);
      part.unsure.push(unsure);
    };
    for (let i = 0; i < far.times.length && far.times[i] < nearFrom - this.farResolution / 2; i++) {
      take(far.times[i], far.rows[i], far.unsure[i], this.farResolution);
    }
    const first = Math.max(0, firstFrom(near.times, from) - 1);
    for (let i = first; i < near.times.length; i++) {
      take(near.times[i], near.rows[i], Number(this.#isUnsure(near.rows[i])), SPACING_S);
    }
    return { parts, spacing };
  }

  // The faces in view at a time of the last minute: for each the place of its likeliest label, or -1
  // where the model is unsure.
  shownAt(t) {
    const shown = [];
    for (const track of this.#tracks.keys()) {
      const found = this.mean(track, t - 0.5, t + 0.5);
      if (!found) continue;
      const best = Math.max(...found.scores);
      shown.push(found.unsure > 0.5 ? -1 : found.scores.indexOf(best));
    }
    return shown;
  }

  #fillNear(track, points) {
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
    this.heard = Math.max(this.heard, row.times.at(-1) ?? 0);
  }

  #fillFar({ tracks, resolution_s: resolution }) {
    this.farResolution = resolution;
    this.#far = new Map(
      tracks.map(({ track, points, unsure }) => [
        track,
        { times: points.map(([t]) => t), rows: points.map(([, ...scores]) => scores), unsure },
      ]),
    );
  }

  #nearest(row, t, within) {
    if (!row?.times.length) return null;
    const i = firstFrom(row.times, t);
    const best = i > 0 && !(row.times[i] - t < t - row.times[i - 1]) ? i - 1 : i;
    if (Math.abs(row.times[best] - t) > within) return null;
    const scores = Object.fromEntries(this.labels.map((label, k) => [label, row.rows[best][k]]));
    return { scores, unsure: row.unsure ? row.unsure[best] > 0.5 : this.#isUnsure(row.rows[best]) };
  }

  #forget(t) {
    const from = Math.max(t - KEPT_S - HELD_S, Math.min(t, this.#heldAt) - KEPT_S);
    for (const [track, row] of this.#tracks) {
      const first = firstFrom(row.times, from);
      if (first > 20 || first === row.times.length) {
        row.times.splice(0, first);
        row.rows.splice(0, first);
      }
      if ((row.seen ?? row.times.at(-1) ?? 0) < from) this.#tracks.delete(track);
    }
    while (this.#tracks.size > MOST_TRACKS) this.#tracks.delete(this.#tracks.keys().next().value);
  }

  #isUnsure(scores) {
    return Math.max(...scores) < this.unsureBelow;
  }

  #track(number) {
    if (!this.#tracks.has(number)) this.#tracks.set(number, { times: [], rows: [], revision: 0 });
    return this.#tracks.get(number);
  }

  // Another model with other labels has taken over: what was kept no longer fits.
  #use(labels) {
    if (labels.join() === this.labels.join()) return;
    if (this.labels.length) {
      this.#tracks.clear();
      this.#far.clear();
    }
    this.labels = labels;
    this.revision++;
  }
}

// The place of the first time that is not before `t`.
function firstFrom(times, t) {
  let [low, high] = [0, times.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[middle] < t) low = middle + 1;
    else high = middle;
  }
  return low;
}
