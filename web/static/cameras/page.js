// The cameras: everything that can be changed about the feeds, on one page, while all goes on.

import { RemoveDialog, SourceDialog } from "../dialogs.js";
import { Link } from "../link.js";
import { dress, notice } from "../masthead.js";
import { text } from "../texts.js";
import { CameraList } from "./list.js";

const PICTURES_EVERY_MS = 4000;

dress();
document.title = text.cameras.pageTitle;
const find = (id) => document.getElementById(id);
const link = new Link();
const trouble = { health: "", problems: [] };
const dialog = new SourceDialog((feed) => list.put(feed));
const removeDialog = new RemoveDialog({
  address: (feed) => `/api/feeds/${feed.id}`,
  title: text.removeTitle,
  onRemoved: (feed) => {
    list.drop(feed.id);
    say(text.cameras.removed(feed.name));
  },
});
const list = new CameraList(find("list"), {
  say,
  remove: (feed) => removeDialog.open(feed),
  changeSource: (feed) => dialog.open(feed),
  changed: settle,
});
let wanted = location.hash.slice(1); // the camera that the address names, until it is there

link.addEventListener("feeds", ({ detail: feeds }) => {
  list.show(feeds);
  openWanted();
});
link.addEventListener("removed", ({ detail: id }) => list.drop(id));
link.addEventListener("status", ({ detail }) => {
  trouble.problems = detail.problems;
  complain();
});
link.addEventListener("health", ({ detail }) => {
  trouble.health = detail;
  complain();
});
addEventListener("hashchange", () => {
  wanted = location.hash.slice(1);
  openWanted();
});
for (const button of document.querySelectorAll(".open-add")) {
  button.addEventListener("click", () => dialog.open());
}
document.addEventListener("visibilitychange", () => list.lookAgain());
setInterval(() => list.lookAgain(), PICTURES_EVERY_MS);

function openWanted() {
  if (!wanted || wanted === "all") return;
  if (!list.edit(wanted)) say(text.cameras.unknown);
  wanted = "";
}

// Loading gives way to the cameras, or to the words that say how to add one.
function settle(feeds) {
  const on = feeds.filter(({ enabled }) => enabled).length;
  find("loading").hidden = true;
  find("empty").hidden = feeds.length > 0;
  find("list").hidden = feeds.length === 0;
  find("summary").textContent = feeds.length ? text.cameras.summary(feeds.length, on) : "";
}

// The one thing that is most wrong, with what to do about it.
function complain() {
  const { health, problems } = trouble;
  const messages = { down: text.linkLost, slow: text.linkSlow, out: text.loggedOut };
  const problem = problems[0];
  const message = messages[health] ?? (problem && (text.problems[problem.part] ?? problem.detail));
  notice(message ?? "", health !== "up");
}

// Who does not see the list hears what has changed in it.
function say(sentence) {
  find("said").textContent = sentence;
}
