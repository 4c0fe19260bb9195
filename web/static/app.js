// The live page: keeps the board in step with the list of feeds, says what is wrong, and lets keys
// and buttons act on the feed that is meant.

import { Board } from "./board.js";
import { CameraControls } from "./camera/controls.js";
import { RemoveDialog, SourceDialog } from "./dialogs.js";
import { Link } from "./link.js";
import { dress, notice } from "./masthead.js";
import { Room } from "./room.js";
import { LAYER_KEYS, LayersPanel, layers } from "./stage/layers.js";
import { HelpDialog, bindKeys } from "./stage/shortcuts.js";
import { Wall } from "./stage/wall.js";
import { text } from "./texts.js";
import { Tile } from "./tile.js";

const TICKS_PER_S = matchMedia("(prefers-reduced-motion: reduce)").matches ? 1 : 5;
const ROOM_EVERY_MS = 1000;
const LARGE = "#feed-"; // in the address, so that a reload or a link shows the same
const STEP_S = 1;
const LEAP_S = 5;

dress();
document.title = text.title;
const find = (id) => document.getElementById(id);
const link = new Link();
const board = new Board(find("feeds"), (id) => {
  history.replaceState(null, "", id ? `${LARGE}${id}` : location.pathname + location.search);
});
const addDialog = new SourceDialog(show);
const removeDialog = new RemoveDialog({
  address: (feed) => `/api/feeds/${feed.id}`,
  title: text.removeTitle,
  onRemoved: (feed) => drop(feed.id),
});
const camera = new CameraControls(link, (feed) => {
  show(feed);
  board.get(feed.id).element.scrollIntoView({ block: "nearest" });
});
const help = new HelpDialog();
const room = new Room();
const wall = new Wall(find("wall"));
const trouble = { health: "", problems: [] };
const actions = {
  remove,
  enlarge: (id) => board.enlarge(id),
  fullScreen: (tile) => {
    board.enlarge(tile.id);
    wall.toggle();
  },
};
let wanted = location.hash.startsWith(LARGE) ? location.hash.slice(LARGE.length) : null;

new LayersPanel(find("layers"), find("layers-panel"));
find("help").addEventListener("click", () => help.open());
find("wall").addEventListener("click", () => wall.toggle());
addEventListener("hashchange", () => {
  if (location.hash.startsWith(LARGE)) board.enlarge(location.hash.slice(LARGE.length));
});

link.addEventListener("feeds", ({ detail: feeds }) => {
  const live = feeds.filter(({ enabled }) => enabled !== false);
  const known = new Set(live.map((feed) => feed.id));
  for (const tile of board.tiles) if (!known.has(tile.id)) drop(tile.id);
  live.forEach(show);
  board.order(live.map((feed) => feed.id));
  tellDisabled(feeds.length - live.length);
  if (wanted) board.enlarge(wanted);
  wanted = null;
  settle();
});
link.addEventListener("frame", ({ detail }) => {
  const tile = board.get(detail.meta.feed);
  if (tile) tile.frame(detail);
  else detail.acknowledge(0);
});
link.addEventListener("event", ({ detail }) => board.get(detail.feed)?.history.mark(detail));
link.addEventListener("removed", ({ detail: id }) => drop(id));
link.addEventListener("status", ({ detail }) => {
  trouble.problems = detail.problems;
  complain();
});
link.addEventListener("health", ({ detail }) => {
  trouble.health = detail;
  complain();
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) board.tiles.forEach((tile) => tile.seen());
});
for (const button of document.querySelectorAll(".open-add")) {
  button.addEventListener("click", () => addDialog.open());
}
find("room").append(room.element);
setInterval(() => {
  if (!document.hidden) board.tiles.forEach((tile) => tile.tick(trouble));
}, 1000 / TICKS_PER_S);
setInterval(() => {
  const histories = board.tiles.map((tile) => tile.history);
  if (!document.hidden && histories.length) room.update(histories, link.now());
}, ROOM_EVERY_MS);

bindKeys({
  " ": () => onMeant((tile) => tile.togglePause()),
  ArrowLeft: () => onPausedOr((tile) => tile.step(-STEP_S), () => board.turn(-1)),
  ArrowRight: () => onPausedOr((tile) => tile.step(STEP_S), () => board.turn(1)),
  "Shift+ArrowLeft": () => onMeant((tile) => tile.step(-LEAP_S)),
  "Shift+ArrowRight": () => onMeant((tile) => tile.step(LEAP_S)),
  ",": () => onMeant((tile) => tile.step(-1, { pictures: true })),
  ".": () => onMeant((tile) => tile.step(1, { pictures: true })),
  l: () => board.tiles.forEach((tile) => tile.resume()),
  s: () => onMeant((tile) => tile.snapshot()),
  r: () => onMeant((tile) => tile.recording.toggle()),
  f: () => wall.toggle(),
  "?": () => help.open(),
  Escape: () => {
    const { large } = board;
    if (!large) return false;
    if (large.paused) large.resume();
    else {
      board.enlarge(null);
      large.parts.cover.focus();
    }
    return true;
  },
  ...Object.fromEntries(
    Array.from({ length: 9 }, (_, i) => [`${i + 1}`, () => board.enlarge(board.tiles[i]?.id)]),
  ),
  0: () => board.enlarge(null),
  ...Object.fromEntries(
    Object.entries(LAYER_KEYS).map(([name, key]) => [key, () => layers.toggle(name)]),
  ),
});

// The feed that a key is meant for: the large one, else the one with the focus, else the only one.
// Without any the key is left to the page.
function onMeant(act) {
  const focused = board.tiles.find((tile) => tile.element.contains(document.activeElement));
  const meant = board.large ?? focused ?? (board.tiles.length === 1 ? board.tiles[0] : null);
  if (!meant) return false;
  act(meant);
  return true;
}

function onPausedOr(act, otherwise) {
  if (!board.tiles.some((tile) => tile.paused)) return board.large ? otherwise() : false;
  return onMeant((tile) => tile.paused && act(tile));
}

function show(feed) {
  if (feed.enabled === false) return;
  const tile = board.get(feed.id);
  if (tile) {
    tile.describe(feed);
    link.watch(feed.id); // again, if it was refused while Redis was away
    return;
  }
  board.add(new Tile(feed, link, actions));
  link.watch(feed.id);
  settle();
}

// A camera of this page needs no question: its feed goes with it.
function remove(feed) {
  if (camera.feed === feed.id) camera.stop();
  else removeDialog.open(feed);
}

function drop(id) {
  board.remove(id);
  settle();
}

// Loading gives way to the feeds, or to the words that say how to add one.
function settle() {
  const none = board.tiles.length === 0;
  find("loading").hidden = true;
  find("empty").hidden = !none;
  find("feeds").hidden = none;
  for (const part of ["room", "view-tools"]) find(part).hidden = none;
}

function tellDisabled(count) {
  const note = find("disabled");
  note.hidden = count === 0;
  if (count) note.textContent = text.stage.disabled(count);
}

// The one thing that is most wrong, with what to do about it.
function complain() {
  const { health, problems } = trouble;
  const messages = { down: text.linkLost, slow: text.linkSlow, out: text.loggedOut };
  const problem = problems[0];
  const message = messages[health] ?? (problem && (text.problems[problem.part] ?? problem.detail));
  notice(message ?? "", health !== "up");
}
