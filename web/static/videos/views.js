// What the rows say of videos and of uploads: see rows.js for what a view is.

import { clock } from "../report/times.js";
import { percent, text } from "../texts.js";
import { bytes, count, moment, remaining } from "./units.js";

const ACTIONS = { queued: "cancel", running: "cancel", failed: "retry", cancelled: "retry" };
const UPLOAD_ACTIONS = {
  absent: "choose",
  waiting: "pause",
  sending: "pause",
  lost: "pause",
  paused: "resume",
};
const ALL_THERE = ["checking", "sent"];

// `act(video, name)` cancels and retries, `remove(video)` asks whether to. `doing` is what was just
// asked of this video and not answered yet, `complaint` the answer where that failed.
export function viewOfVideo(video, { act, remove, doing = "", complaint = "" }) {
  const words = text.video;
  const { id, name, status, frames_total: total, frames_done: done } = video;
  const running = status === "running";
  const state = status === "done" && video.updating ? "updating" : status;
  const action = ACTIONS[status] ?? "report";
  let word = words.states[state];
  if (running && total === null) word = words.preparing;
  if (running && total !== null && done >= total) word = words.finishing;
  if (doing) word = words.doing[doing];
  let share = null;
  if (status === "queued") share = 0;
  if (running) share = total ? video.progress : undefined;
  return {
    key: id,
    name,
    href: `/videos/${id}`,
    facts: [
      video.duration_s === null ? words.noLength : clock(video.duration_s),
      bytes(video.size_bytes),
      words.added(moment(video.created_at)),
      ...optionsOf(video.options),
    ],
    state,
    word,
    share,
    progressLabel: words.progressOf(name),
    note: running && total ? percent(share) : "",
    count: framesOf(video),
    error: complaint || (status === "failed" ? video.error : ""),
    action: {
      word: words[action],
      label: words.labels[action](name),
      href: action === "report" ? `/videos/${id}` : "",
      run: () => act(video, action),
      busy: Boolean(doing),
    },
    remove: { label: words.labels.remove(name), run: () => remove(video) },
  };
}

function framesOf({ status, frames_total: total, frames_done: done, eta_s: eta }) {
  const words = text.video;
  if (status === "done") return words.framesAnalysed(count(done), done);
  if (total === null) return "";
  const frames = words.framesDone(count(done), count(total));
  const left = status === "running" && eta !== null ? words.left(...remaining(eta)) : "";
  return [frames, left].filter(Boolean).join(", ");
}

function optionsOf({ fps, start_s: start, end_s: end }) {
  const words = text.video;
  const exact = (seconds) => clock(seconds, Number.isInteger(seconds) ? 0 : 1);
  const said = fps === null ? [] : [words.fps(fps)];
  if (end !== null) said.push(words.part(exact(start), exact(end)));
  else if (start > 0) said.push(words.part(exact(start), ""));
  return said;
}

// `choose()` opens the choice of files, `cancel(upload)` ends it, `dismiss(upload)` takes away the
// row of one that was refused.
export function viewOfUpload(upload, { choose, cancel, dismiss }) {
  const words = text.upload;
  const { key, name, size, sent, rate, state } = upload;
  const refused = state === "refused";
  const action = UPLOAD_ACTIONS[state];
  const share = size ? sent / size : 0;
  const run = { choose, pause: () => upload.pause(), resume: () => upload.resume() };
  let bar = share;
  if (refused) bar = null;
  if (ALL_THERE.includes(state)) bar = undefined;
  let remove = { label: words.labels.cancel(name), run: () => cancel(upload) };
  if (refused) remove = { label: words.labels.dismiss(name), run: () => dismiss(upload) };
  if (ALL_THERE.includes(state)) remove = null;
  return {
    key,
    name,
    facts: [bytes(size), ...optionsOf(asNumbers(upload.options))],
    state: `upload-${state}`,
    word: words.states[state === "lost" && upload.isAnswered ? "again" : state],
    share: bar,
    progressLabel: words.progressOf(name),
    note: typeof bar === "number" ? percent(share) : "",
    count: refused ? "" : sentOf(size, sent, rate),
    error: state === "absent" ? words.absentHelp : upload.error,
    action: action && {
      word: words[action],
      label: words.labels[action](name),
      run: run[action],
    },
    remove,
  };
}

// The time left before the rate: a phone may cut the end off.
function sentOf(size, sent, rate) {
  const words = text.upload;
  const said = [words.sent(bytes(sent), bytes(size))];
  if (rate > 0) said.push(words.left(...remaining((size - sent) / rate)), words.rate(bytes(rate)));
  return said.join(", ");
}

// Options as they are sent, under the API's names. Those of an earlier page come back as text.
function asNumbers({ fps = null, start = 0, end = null }) {
  const number = (value) => (value === null ? null : Number(value));
  return { fps: number(fps), start_s: number(start), end_s: number(end) };
}
