// The videos: submit, follow, and the way to each report.

import { RemoveDialog } from "../dialogs.js";
import { dress, notice } from "../masthead.js";
import { text } from "../texts.js";
import { acceptDrops } from "./drop.js";
import { Options } from "./options.js";
import { Rows } from "./rows.js";
import { Uploads } from "./uploads.js";
import { viewOfUpload, viewOfVideo } from "./views.js";
import { Watch } from "./watch.js";

dress();
document.title = text.videosTitle;
const find = (id) => document.getElementById(id);
const options = new Options();
const rows = new Rows(find("list"));
const watch = new Watch();
const uploads = new Uploads(changed);
const removeDialog = new RemoveDialog({
  address: (video) => `/api/videos/${video.id}`,
  title: text.deleteTitle,
  onRemoved: removed,
});
const doing = new Map(); // video id -> what was asked of it
const complaints = new Map(); // video id -> why that failed
const removedIds = new Set();
let videos = null; // null: not known yet
let drawing = 0;

watch.addEventListener("videos", ({ detail }) => {
  tellChanges(detail.videos);
  videos = detail.videos.filter(({ id }) => !removedIds.has(id));
  const ids = new Set(videos.map(({ id }) => id));
  for (const upload of [...uploads]) {
    if (upload.state !== "sent" || upload.finishedAt > detail.askedAt) continue;
    if (ids.has(upload.video)) rows.rename(upload.key, upload.video);
    uploads.forget(upload);
  }
  draw();
});
watch.addEventListener("health", ({ detail: { health, problem } }) => {
  const messages = { slow: text.listSlow, out: text.loggedOut };
  if (health === "down") messages.down = problem?.detail ?? text.listLost;
  const said = problem && (text.videoProblems[problem.part] ?? problem.detail);
  notice(messages[health] ?? said ?? "", health !== "up");
  if (health !== "up") find("loading").textContent = text.loadingFailed;
});
find("choose").addEventListener("click", choose);
find("files").addEventListener("change", ({ target }) => {
  add([...target.files]);
  target.value = ""; // so that the same file can be chosen again
});
acceptDrops(find("drop"), add);
watch.ask();
uploads.recall();

function choose() {
  find("files").click();
}

function add(files) {
  if (!files.length) return;
  const wanted = options.read();
  if (wanted) uploads.add(files, wanted);
}

function changed(upload) {
  if (upload?.state === "sent" || upload?.state === "lost") watch.ask();
  if (upload?.state === "refused") say(`${upload.name}: ${upload.error}`);
  drawing ||= requestAnimationFrame(draw);
}

function draw() {
  cancelAnimationFrame(drawing);
  drawing = 0;
  const views = [...uploads].map((upload) =>
    viewOfUpload(upload, { choose, cancel, dismiss: (each) => uploads.forget(each) }),
  );
  for (const video of videos ?? []) {
    views.push(
      viewOfVideo(video, {
        act,
        remove: (each) => removeDialog.open(each),
        doing: doing.get(video.id),
        complaint: complaints.get(video.id),
      }),
    );
  }
  find("loading").hidden = videos !== null || views.length > 0;
  find("empty").hidden = videos === null || views.length > 0;
  find("list").hidden = views.length === 0;
  rows.show(views);
}

function cancel(upload) {
  upload.cancel();
  uploads.forget(upload);
}

// Cancel or retry; the list tells how it went.
async function act(video, name) {
  if (doing.has(video.id)) return;
  doing.set(video.id, name);
  complaints.delete(video.id);
  draw();
  const address = `/api/videos/${video.id}/${name}`;
  const answer = await fetch(address, { method: "POST" }).catch(() => null);
  if (!answer?.ok) {
    const body = await answer?.json().catch(() => null);
    complaints.set(video.id, body?.detail ?? text.requestFailed);
  }
  await watch.ask();
  doing.delete(video.id);
  draw();
}

function removed(video) {
  removedIds.add(video.id);
  videos = videos.filter(({ id }) => id !== video.id);
  say(text.deleted(video.name));
  draw();
}

// Who does not see the list hears what has changed in it.
function tellChanges(now) {
  const before = new Map((videos ?? []).map((video) => [video.id, video.status]));
  for (const { id, name, status, error } of now) {
    const was = before.get(id);
    if (was && was !== status && text.video.said[status]) say(text.video.said[status](name, error));
  }
}

function say(sentence) {
  find("said").textContent = sentence;
}
