// Events: the rules, and what has happened by them.

import { RemoveDialog } from "../dialogs.js";
import { dress, notice } from "../masthead.js";
import { text } from "../texts.js";
import { Editor } from "./editor.js";
import { List } from "./list.js";
import { Rules } from "./rules.js";
import { Watch } from "./watch.js";

dress();
const words = text.events;
document.title = words.title;
const find = (id) => document.getElementById(id);
const watch = new Watch();
const editor = new Editor(() => {
  say(words.saved);
  watch.ask();
});
const removeDialog = new RemoveDialog({
  address: ({ address }) => address,
  title: (question) => question,
  onRemoved: () => watch.ask(),
});
const rules = new Rules(find("rules"), { edit, test, enable, remove: removeRule });
const list = new List(find("list"), { remove: removeEvent, enlarge });
const testing = new Set(); // ids of rules whose test is on its way
let news = null; // null: not known yet
let newest = null;

watch.addEventListener("news", ({ detail }) => {
  tellNews(detail.events);
  news = detail;
  draw();
});
watch.addEventListener("health", ({ detail: health }) => {
  const messages = { down: words.lost, slow: text.linkSlow, out: text.loggedOut };
  const idle = news && !news.running && news.rules.length ? words.notRunning : "";
  notice(messages[health] ?? idle, health !== "up");
  if (health !== "up" && !news) find("loading").textContent = words.loadingFailed;
});
for (const button of document.querySelectorAll(".add-rule")) {
  button.addEventListener("click", () => edit(null));
}
find("by-feed").addEventListener("change", ({ target }) => watch.only(target.value));
find("by-rule").addEventListener("change", draw);
find("more").addEventListener("click", () => watch.older());
find("remove-all").addEventListener("click", () =>
  removeDialog.open({ name: words.removeAllTitle, address: "/api/events" }),
);
find("picture-dialog")
  .querySelector(".close")
  .addEventListener("click", () => find("picture-dialog").close());
watch.ask();

function draw() {
  if (!news) return;
  rules.show(news.rules, news.feeds, testing);
  find("no-rules").hidden = news.rules.length > 0;
  find("mqtt").hidden = !news.mqtt;
  find("mqtt").textContent = news.mqtt ? words.mqtt(news.mqtt) : "";
  offer(find("by-feed"), words.anyFeed, news.feeds);
  offer(find("by-rule"), words.allRules, news.rules);
  const rule = find("by-rule").value;
  const shown = news.events.filter((event) => !rule || event.rule === rule);
  const filtered = Boolean(rule || find("by-feed").value);
  document.querySelector(".filters").hidden = news.events.length === 0 && !filtered;
  find("loading").hidden = true;
  find("empty").hidden = shown.length > 0;
  find("empty").textContent = filtered ? words.noneOfThese : news.rules.length ? words.none : words.noneYet;
  find("more").hidden = !news.more;
  list.show(shown);
}

// The choices of a filter, brought in step without losing what is chosen.
function offer(select, all, things) {
  const wanted = JSON.stringify(things.map(({ id, name }) => [id, name]));
  if (select.dataset.offered === wanted) return;
  const chosen = select.value;
  select.replaceChildren(new Option(all, ""), ...things.map(({ id, name }) => new Option(name, id)));
  select.value = chosen;
  select.dataset.offered = wanted;
  if (select.value === chosen) return;
  select.value = ""; // what was chosen is gone
  if (select.id === "by-feed") watch.only("");
}

function edit(rule) {
  editor.open(rule, news?.labels ?? [], news?.feeds ?? []);
}

async function enable(rule, enabled) {
  const { id, created_at, webhooks, ...fields } = rule;
  const body = { ...fields, enabled, webhooks: webhooks.map((hook) => ({ id: hook.id })) };
  await change(`/api/rules/${id}`, "PUT", body);
}

async function test(rule) {
  if (testing.has(rule.id)) return;
  testing.add(rule.id);
  draw();
  if (await change(`/api/rules/${rule.id}/test`, "POST")) say(words.tested(rule.name));
  testing.delete(rule.id);
  draw();
}

// Send something, say what is wrong with it, and look how things are then.
async function change(address, method, body) {
  const answer = await fetch(address, {
    method,
    headers: body ? { "Content-Type": "application/json" } : {},
    body: body && JSON.stringify(body),
  }).catch(() => null);
  if (!answer?.ok) {
    const problem = await answer?.json().catch(() => null);
    say(problem?.detail ?? text.requestFailed);
    notice(problem?.detail ?? text.requestFailed, false);
  }
  await watch.ask();
  return answer?.ok ?? false;
}

function removeRule(rule) {
  removeDialog.open({ name: words.removeRuleTitle(rule.name), address: `/api/rules/${rule.id}` });
}

function removeEvent(event, title) {
  removeDialog.open({ name: words.removeEventTitle(title), address: `/api/events/${event.id}` });
}

function enlarge(event, title) {
  const dialog = find("picture-dialog");
  dialog.querySelector("h2").textContent = title;
  const image = dialog.querySelector("img");
  const frame = dialog.querySelector(".framed i");
  frame.hidden = true;
  image.onload = () => showFace(frame, event.box, image);
  Object.assign(image, { src: event.picture, alt: words.pictureOf(title) });
  dialog.showModal();
}

// The frame around the face that the event is about, as shares of the picture however large.
function showFace(frame, box, { naturalWidth: width, naturalHeight: height }) {
  frame.hidden = !box;
  if (!box) return;
  const shares = { left: box[0] / width, top: box[1] / height, width: box[2] / width, height: box[3] / height };
  for (const [side, share] of Object.entries(shares)) frame.style[side] = `${share * 100}%`;
}

// Who does not see the list hears what has come into it.
function tellNews(events) {
  const [first] = events;
  if (newest !== null && first && first.id !== newest && first.at > (news?.events[0]?.at ?? 0)) {
    say(words.said(first.name, first.feed_name));
  }
  newest = first?.id ?? "";
}

function say(sentence) {
  find("said").textContent = sentence;
}
