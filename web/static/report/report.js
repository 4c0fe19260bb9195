// The report page of one video: what state it is in, and once it is analysed the video, its people
// and their timelines, held together.

import { dress, notice } from "../masthead.js";
import { locale, number, percent, text } from "../texts.js";
import { ask, made, pause } from "./api.js";
import { Boxes } from "./boxes.js";
import { Downloads } from "./downloads.js";
import { bindKeys } from "./keys.js";
import { MergeDialog } from "./merge.js";
import { People } from "./people.js";
import { Player } from "./player.js";
import { Recording } from "./recording.js";
import { MODES, Timeline } from "./timeline.js";
import { clock, span } from "./times.js";

const SHOWN_AT_FIRST = 6;
const JUMP_S = 5;
const POLL_S = 0.8;
const SAID_MS = 9000;
const WORKING = ["queued", "running"];

const moment = new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "short" });
const find = (selector) => document.querySelector(selector);
const id = location.pathname.split("/").filter(Boolean).at(-1);
const address = `/api/videos/${id}`;

let video = null; // as the API tells it
let recording = null;
let player = null;
let timeline = null;
let people = null;
let selected = null;
let everybody = false; // shown, however short they were seen
let following = false;
let saying = 0;
let edits = 0;

dress();
const mergeDialog = new MergeDialog(join);
new Downloads(find(".downloads"), address);
bind();
open();

async function open() {
  try {
    video = await ask(address);
    if (!WORKING.includes(video.status)) show(await summary());
    tell();
    if (busy()) follow();
  } catch (refusal) {
    find("#loading").textContent = refusal.status === 404 ? text.report.gone : refusal.message;
    if (refusal.status === 0) setTimeout(open, 2000);
  }
}

// What the page draws from; null where there is none yet, or none because the analysis failed early.
function summary() {
  return ask(`${address}/summary.json`).catch(() => null);
}

function busy() {
  return WORKING.includes(video.status) || video.updating;
}

// Watch what is being done until it is done, and show what came of it.
async function follow() {
  if (following) return;
  following = true;
  do {
    await pause(POLL_S);
    try {
      const before = edits;
      video = await ask(address);
      if (edits !== before) video.updating = true; // asked before the edit, answered after it
      notice("", false);
      tell();
    } catch (refusal) {
      notice(refusal.status === 0 ? text.report.lost : refusal.message, true);
      if (refusal.status === 404) break;
    }
  } while (busy());
  following = false;
  if (!WORKING.includes(video.status)) show(await summary());
  tell();
}

// Bring a new summary to the page; what is chosen and where the video stands are kept.
function show(answer) {
  if (!answer) return;
  recording = new Recording(answer, address);
  const boxes = new Boxes(address, recording, () => player?.refresh());
  if (player) player.use(recording, boxes);
  else build(boxes);
  find("#report").hidden = false;
  find("#report").classList.toggle("nobody", recording.people.length === 0);
  showPeople();
  facts();
}

function build(boxes) {
  const { width, height } = recording.video;
  find(".stage-picture").style.setProperty("--aspect", width / height);
  player = new Player(find(".stage"), recording, boxes);
  people = new People(find(".people"));
  timeline = new Timeline(find(".timeline"), recording);
  player.addEventListener("position", ({ detail: { position, faces } }) => {
    timeline.move(position, player.playing);
    people.now(faces);
  });
  timeline.addEventListener("seek", ({ detail }) => player.seek(detail));
  timeline.addEventListener("select", ({ detail }) => select(detail, true));
  people.addEventListener("select", ({ detail }) => select(detail));
  people.addEventListener("seek", ({ detail }) => player.seek(detail));
  people.addEventListener("rename", ({ detail }) => rename(detail));
  people.addEventListener("merge", ({ detail }) => mergeDialog.open(recording, detail));
  people.addEventListener("join", ({ detail }) => join(detail));
  people.addEventListener("separate", ({ detail }) => separate(detail));
  const asked = Number(new URLSearchParams(location.search).get("t"));
  play(Number.isFinite(asked) ? asked : 0);
}

// The file as it is where the browser plays it, else a copy that is made for it.
function play(position) {
  let copying = false;
  const copy = async () => {
    if (copying) {
      player.veil(text.report.noVideo);
      return;
    }
    copying = true;
    player.veil(text.report.makingPreview);
    try {
      await made(`${address}/preview.mp4`, (share) =>
        player.veil(`${text.report.makingPreview} ${percent(share)}`),
      );
      player.load(`${address}/preview.mp4`, position);
    } catch (refusal) {
      player.veil(`${text.report.noVideo} ${refusal.message}`);
    }
  };
  player.addEventListener("failed", copy);
  if (recording.video.playable) player.load(`${address}/source`, position);
  else copy();
}

function showPeople() {
  const all = recording.people;
  const rest = all.length - SHOWN_AT_FIRST;
  const shown = everybody || rest <= 0 ? all : all.slice(0, SHOWN_AT_FIRST);
  // One alone is chosen, and so open, from the start; of several the closed cards give the overview.
  if (shown.length === 1) selected = shown[0].id;
  if (!shown.some((person) => person.id === selected)) selected = null;
  people.show(recording, shown);
  timeline.show(recording, shown);
  select(selected);
  player.refresh();
  const button = find(".show-rest");
  button.hidden = rest <= 0;
  button.textContent = everybody ? text.report.showFewer : text.report.showRest(rest);
  find(".people-count").textContent = text.report.peopleCount(all.length);
  find(".people-foot").hidden = all.length < 2;
}

function select(person, reveal = false) {
  selected = person;
  people.select(person, reveal);
  timeline.select(person);
  player.selected = person;
  player.refresh();
}

function neighbour(direction) {
  const shown = everybody ? recording.people : recording.people.slice(0, SHOWN_AT_FIRST);
  const place = shown.findIndex((person) => person.id === selected);
  const next = shown[Math.max(0, Math.min(shown.length - 1, place + direction))];
  if (next) select(next.id, true);
}

// What stands above the report: name, facts, and what is going on or went wrong.
function tell() {
  document.title = text.report.title(video.name);
  find("#loading").hidden = true;
  find(".report-head").hidden = false;
  find(".report-name").textContent = video.name;
  find(".updating").hidden = !video.updating || WORKING.includes(video.status);
  find(".downloads").hidden = !recording;
  find(".copy-link").hidden = !recording;
  state();
  notes();
}

function facts() {
  const { width, height, fps, duration_s, frames_total, frames_analysed, sampled_fps } = recording.video;
  const { start_s, end_s } = video.options ?? {};
  const said = [
    duration_s && clock(duration_s),
    text.report.size(width, height),
    fps && text.report.fps(number(fps, fps.toFixed(2).endsWith(".00") ? 0 : 2)),
    sampled_fps && text.report.sampled(number(sampled_fps, Number.isInteger(sampled_fps) ? 0 : 1)),
    text.report.frames(number(frames_analysed), number(frames_total ?? frames_analysed)),
    (start_s || end_s) && text.report.part(clock(start_s ?? 0), clock(end_s ?? recording.duration)),
  ];
  find(".facts-line").textContent = said.filter(Boolean).join(" · ");
  find(".model-line").textContent = [
    text.report.model(recording.model.name, recording.model.version),
    recording.unsureBelow ? text.report.unsureHelp(percent(recording.unsureBelow)) : "",
  ].join(" ");
}

function state() {
  const { status, progress, frames_done: done, frames_total: total, eta_s: left, error } = video;
  const working = WORKING.includes(status);
  const card = find(".state-card");
  card.hidden = !working && (recording !== null || status === "done");
  card.dataset.status = status;
  const { queued, running, failed, cancelled } = text.report;
  const titles = { queued, running, failed, cancelled, done: "" };
  const words = { queued: text.report.queuedText, running: text.report.runningText };
  const more = { cancelled: text.report.cancelledText, failed: error };
  find(".state-title").textContent = titles[status];
  find(".state-text").textContent = words[status] ?? more[status] ?? "";
  const bar = find(".state-bar");
  bar.hidden = !working;
  bar.style.setProperty("--done", `${(progress ?? 0) * 100}%`);
  bar.setAttribute("aria-valuenow", Math.round((progress ?? 0) * 100));
  const counted = done ? text.report.progress(number(done), total && number(total)) : "";
  const ending = total && done >= total ? text.report.finishing : left && text.report.left(span(left));
  find(".state-figures").textContent =
    status === "running" ? [percent(progress ?? 0), counted, ending].filter(Boolean).join(" · ") : "";
  const cancel = find(".cancel-analysis");
  cancel.hidden = !working;
  if (!working) {
    cancel.disabled = false;
    cancel.textContent = text.report.cancelAnalysis;
  }
  for (const button of document.querySelectorAll(".retry")) {
    button.hidden = working || !["failed", "cancelled"].includes(status);
    button.textContent = status === "failed" ? text.report.retry : text.report.startAgain;
  }
}

// What a reader of the report must know of it.
function notes() {
  const list = [];
  if (recording) {
    const { ended_early: early, frames_missing: missing, frames_analysed: frames } = recording.video;
    const { recorded: from } = recording.video;
    if (video.status === "failed") list.push(["bad", `${text.report.failedPart} ${video.error}`]);
    if (video.status === "cancelled") list.push(["warn", text.report.cancelled]);
    if (recording.people.length === 0) {
      list.push(["plain", `${text.report.noFaces}. ${text.report.noFacesText(number(frames))}`]);
    }
    if (from) {
      list.push(["plain", text.recording.note(from.feed, moment.format(from.began_at * 1000))]);
      const why = from.ending === "stopped" ? "" : text.recording.endings[from.ending];
      const gaps = from.missed ? text.recording.gaps(from.missed) : "";
      if (gaps || why) list.push(["warn", [gaps, why].filter(Boolean).join(" ")]);
    }
    if (early) list.push(["warn", text.report.endedEarly(early)]);
    if (missing) list.push(["warn", text.report.missing(missing)]);
  }
  find(".notes").hidden = list.length === 0;
  find(".notes ul").replaceChildren(
    ...list.map(([kind, words]) => {
      const item = document.createElement("li");
      item.dataset.kind = kind;
      item.textContent = words;
      return item;
    }),
  );
}

async function rename({ id: person, name }) {
  const before = recording.person(person).name;
  setName(person, name);
  await edit(`people/${person}`, "PATCH", { name }, () => setName(person, before));
}

function setName(person, name) {
  recording.person(person).name = name;
  people.rename();
  timeline.rename();
  player.refresh();
}

async function join({ id: from, into }) {
  const names = [recording.nameOf(from), recording.nameOf(into)];
  if (recording.areTogether(from, into)) {
    say(text.report.refusedTogether(...names));
    return;
  }
  if (await edit(`people/${from}/merge`, "POST", { into })) {
    if (selected === from) selected = into;
    say(text.report.merged(...names), () => separate({ id: from }));
  }
}

async function separate({ id: person, from = null }) {
  if (await edit(`people/${person}/merge`, "DELETE")) {
    const undo = from === null ? null : () => join({ id: person, into: from });
    say(text.report.separated(text.report.person(person)), undo);
  }
}

// Send an edit; the page shows the report that is made with it as soon as it is there.
async function edit(path, method, body, undo = () => {}) {
  try {
    await ask(`${address}/${path}`, { method, body });
  } catch (refusal) {
    undo();
    say(refusal.message);
    return false;
  }
  edits++;
  video.updating = true;
  tell();
  follow();
  return true;
}

// Say what was done, with a way back where there is one.
function say(words, undo = null) {
  const toast = find(".toast");
  const button = toast.querySelector("button");
  toast.querySelector("span").textContent = words;
  button.hidden = !undo;
  button.onclick = () => {
    toast.hidden = true;
    undo();
  };
  toast.hidden = false;
  clearTimeout(saying);
  saying = setTimeout(() => (toast.hidden = true), SAID_MS);
}

async function copyLink() {
  if (!player) return;
  const moment = Number(player.position.toFixed(3));
  const link = `${location.origin}${location.pathname}?t=${moment}`;
  try {
    await navigator.clipboard.writeText(link);
    say(text.report.copied(clock(moment, 2)));
  } catch {
    // Only secure origins may write the clipboard: then the user copies it.
    const dialog = find("#link-dialog");
    dialog.querySelector("input").value = link;
    dialog.showModal();
    dialog.querySelector("input").select();
  }
}

function bind() {
  const helpDialog = find("#help-dialog");
  const help = () => helpDialog.showModal();
  find(".open-help").addEventListener("click", help);
  find(".copy-link").addEventListener("click", copyLink);
  for (const dialog of [helpDialog, find("#link-dialog")]) {
    dialog.querySelector(".close").addEventListener("click", () => dialog.close());
  }
  find("#help-dialog tbody").replaceChildren(
    ...text.report.keys.map(([keys, does]) => {
      const row = document.createElement("tr");
      const head = document.createElement("th");
      head.scope = "row";
      for (const key of keys.split(" ")) {
        const part = document.createElement(key === "+" && keys.startsWith("Shift") ? "span" : "kbd");
        part.textContent = key;
        head.append(part);
      }
      row.append(head);
      row.insertCell().textContent = does;
      return row;
    }),
  );
  find(".show-rest").addEventListener("click", () => {
    everybody = !everybody;
    showPeople();
  });
  find(".cancel-analysis").addEventListener("click", async ({ currentTarget: button }) => {
    button.disabled = true;
    button.textContent = text.report.cancelling;
    await act("cancel");
  });
  for (const button of document.querySelectorAll(".retry")) {
    button.addEventListener("click", async () => {
      button.disabled = true;
      await act("retry");
      button.disabled = false;
      follow();
    });
  }
  addEventListener("beforeprint", () => timeline?.print(true));
  addEventListener("afterprint", () => timeline?.print(false));
  const ready = (act) => () => {
    if (recording) act();
  };
  const keys = {
    " ": () => player.toggle(),
    ArrowLeft: () => player.step(-1),
    ArrowRight: () => player.step(1),
    "Shift+ArrowLeft": () => player.seek(player.position - JUMP_S),
    "Shift+ArrowRight": () => player.seek(player.position + JUMP_S),
    Home: () => player.seek(0),
    End: () => player.seek(recording.duration),
    ArrowUp: () => neighbour(-1),
    ArrowDown: () => neighbour(1),
    n: () => selected !== null && people.edit(selected),
    m: () => selected !== null && mergeDialog.open(recording, selected),
    "+": () => timeline.zoomIn(),
    "=": () => timeline.zoomIn(),
    "-": () => timeline.zoomOut(),
    0: () => timeline.zoomAll(),
    s: () => timeline.showAs(MODES[(MODES.indexOf(timeline.mode) + 1) % MODES.length]),
    t: () => timeline.toggleTable(),
    l: copyLink,
    f: () => player.fullscreen(),
  };
  bindKeys({
    ...Object.fromEntries(Object.entries(keys).map(([key, action]) => [key, ready(action)])),
    "?": help,
  });
}

// Cancel or retry.
async function act(what) {
  try {
    video = (await ask(`${address}/${what}`, { method: "POST" })) ?? (await ask(address));
    tell();
  } catch (refusal) {
    say(refusal.message);
  }
}
