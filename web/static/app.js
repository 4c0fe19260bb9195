// The dashboard: keeps the board in step with the list of feeds, and says what is wrong.

import { Board } from "./board.js";
import { CameraControls } from "./camera/controls.js";
import { AddDialog, RemoveDialog } from "./dialogs.js";
import { Link } from "./link.js";
import { dress, notice } from "./masthead.js";
import { text } from "./texts.js";
import { Tile } from "./tile.js";

const TICKS_PER_S = matchMedia("(prefers-reduced-motion: reduce)").matches ? 1 : 5;

dress();
document.title = text.title;
const find = (id) => document.getElementById(id);
const link = new Link();
const board = new Board(find("feeds"));
const addDialog = new AddDialog(show);
const removeDialog = new RemoveDialog({
  address: (feed) => `/api/feeds/${feed.id}`,
  title: text.removeTitle,
  onRemoved: (feed) => drop(feed.id),
});
const camera = new CameraControls(link, (feed) => {
  show(feed);
  board.get(feed.id).element.scrollIntoView({ block: "nearest" });
});
const trouble = { health: "", problems: [] };

link.addEventListener("feeds", ({ detail: feeds }) => {
  const known = new Set(feeds.map((feed) => feed.id));
  for (const tile of board.tiles) if (!known.has(tile.id)) drop(tile.id);
  feeds.forEach(show);
  settle();
});
link.addEventListener("frame", ({ detail }) => {
  const tile = board.get(detail.meta.feed);
  if (tile) tile.frame(detail);
  else detail.acknowledge();
});
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
setInterval(() => {
  if (!document.hidden) board.tiles.forEach((tile) => tile.tick());
}, 1000 / TICKS_PER_S);

function show(feed) {
  const tile = board.get(feed.id);
  if (tile) {
    tile.describe(feed);
    link.watch(feed.id); // again, if it was refused while Redis was away
    return;
  }
  board.add(new Tile(feed, link, remove));
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
  find("loading").hidden = true;
  find("empty").hidden = board.tiles.length > 0;
  find("feeds").hidden = board.tiles.length === 0;
}

// The one thing that is most wrong, with what to do about it.
function complain() {
  const { health, problems } = trouble;
  const messages = { down: text.linkLost, slow: text.linkSlow, out: text.loggedOut };
  const problem = problems[0];
  const message = messages[health] ?? (problem && (text.problems[problem.part] ?? problem.detail));
  notice(message ?? "", health !== "up");
}
