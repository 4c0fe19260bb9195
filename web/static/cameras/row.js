// One camera: what it shows, how it does, and everything that can be changed about it.
//
// A change is sent at once. Until it is answered the row shows it and not what the list says; if it
// is refused the row goes back and says why.

import { RecordingMark } from "../recording/mark.js";
import { fill, number, text, trouble } from "../texts.js";
import { request } from "./request.js";

const WIDTHS = [320, 480, 640, 800, 960, 1280, 1920];
const WITH_PICTURE = new Set(["live", "stalled", "reconnecting"]);

export class CameraRow {
  #actions;
  #parts = {};
  #shown = {};
  #pending = 0;
  #changes = Promise.resolve(); // one after the other, so that the last one counts
  #url = "";
  #looking = false;
  #mark = new RecordingMark();

  // `actions`: say(sentence), remove(feed), changeSource(feed), move(-1 | 1).
  constructor(feed, actions) {
    this.#actions = actions;
    this.element = document.getElementById("camera").content.firstElementChild.cloneNode(true);
    fill(this.element);
    this.element.dataset.feed = feed.id;
    const names = [
      ..."handle picture none name rename name-form kind address change rate trouble".split(" "),
      ..."up down remove problem".split(" "),
    ];
    for (const name of names) this.#parts[name] = this.element.querySelector(`.camera-${name}`);
    for (const name of ["name", "enabled", "fps", "width"]) {
      this.#parts[`${name}Field`] = this.element.querySelector(`[name="${name}"]`);
    }
    this.#parts.image = this.element.querySelector("img");
    this.#parts.state = this.element.querySelector(".state");
    this.#parts.picture.href = `/#feed-${feed.id}`;
    this.element.querySelector(".camera-how").append(this.#mark.element);
    this.#listen();
    this.show(feed);
  }

  // Take what the list of feeds says about this one.
  show(feed) {
    const before = this.feed;
    this.feed = feed;
    if (before?.name !== feed.name) this.#label(feed.name);
    const { image, none, kind, address, rate, state, trouble } = this.#parts;
    this.#set("kind", feed.kind, () => (kind.textContent = text.cameras.kinds[feed.kind]));
    const path = ["demo", "browser"].includes(feed.kind) ? "" : feed.source;
    this.#set("address", path, () => {
      address.textContent = path;
      address.title = path;
    });
    this.#set("state", feed.status, (status) => {
      state.dataset.state = status;
      state.lastElementChild.textContent = text.states[status] ?? status;
      this.element.dataset.state = status;
    });
    const fps = feed.status === "live" ? text.cameras.rate(number(feed.fps_in, 1)) : "";
    this.#set("rate", fps, () => (rate.textContent = fps));
    this.#mark.update(feed);
    const words = this.#troubleOf(feed);
    this.#set("trouble", words, () => (trouble.textContent = words));
    this.#showSettings(feed);
    if (!WITH_PICTURE.has(feed.status)) this.#picture("");
    none.textContent = feed.enabled ? text.cameras.noPicture : text.cameras.off;
    this.#labelPicture();
    image.classList.toggle("old", feed.status !== "live");
    if (before && before.status !== feed.status) this.lookAgain();
  }

  // Which one it is of how many: the ends of the list lead nowhere.
  place(index, count) {
    const { up, down } = this.#parts;
    up.setAttribute("aria-disabled", String(index === 0));
    down.setAttribute("aria-disabled", String(index === count - 1));
  }

  // Bring it into view with its name open for editing.
  edit() {
    this.element.scrollIntoView({ block: "center" });
    this.element.classList.add("meant");
    this.#openName();
  }

  complain(detail) {
    this.#parts.problem.textContent = detail;
  }

  // Fetch the latest picture, if there is one to fetch and somebody can see it.
  async lookAgain() {
    const { top, bottom } = this.element.getBoundingClientRect();
    const unseen = bottom < 0 || top > innerHeight;
    const { status, analysed } = this.feed;
    if (this.#looking || unseen || !analysed || !WITH_PICTURE.has(status)) return;
    if (status !== "live" && this.#url) return; // it has not changed since
    this.#looking = true;
    const answer = await fetch(`/api/feeds/${this.feed.id}/snapshot.jpg`).catch(() => null);
    const picture = answer?.ok ? await answer.blob().catch(() => null) : null;
    this.#looking = false;
    if (picture && this.element.isConnected && WITH_PICTURE.has(this.feed.status)) {
      this.#picture(URL.createObjectURL(picture));
    }
  }

  close() {
    this.#picture("");
    this.element.remove();
  }

  #listen() {
    const { handle, rename, change, up, down, remove, nameField, enabledField, fpsField, widthField } =
      this.#parts;
    const form = this.#parts["name-form"];
    handle.addEventListener("keydown", (event) => {
      const way = { ArrowUp: -1, ArrowDown: 1 }[event.key];
      if (!way) return;
      event.preventDefault();
      this.#actions.move(way);
    });
    up.addEventListener("click", () => this.#actions.move(-1));
    down.addEventListener("click", () => this.#actions.move(1));
    remove.addEventListener("click", () => this.#actions.remove(this.feed));
    change.addEventListener("click", () => this.#actions.changeSource(this.feed));
    rename.addEventListener("click", () => this.#openName());
    this.#parts.name.addEventListener("dblclick", () => this.#openName());
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#closeName(true, true);
    });
    nameField.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      this.#closeName(false, true);
    });
    nameField.addEventListener("blur", () => this.#closeName(true, false));
    enabledField.addEventListener("change", () => this.#change({ enabled: enabledField.checked }));
    fpsField.addEventListener("change", () => this.#change({ fps: fpsField.valueAsNumber || 0 }));
    widthField.addEventListener("change", () => this.#change({ width: Number(widthField.value) }));
  }

  #label(name) {
    const words = text.cameras;
    const { handle, image, rename, change, up, down, remove } = this.#parts;
    this.#parts.name.textContent = name;
    this.#parts.name.title = name;
    if (image.alt) image.alt = words.picture(name);
    const labels = [
      [handle, words.move(name)],
      [rename, words.rename(name)],
      [change, words.changeSourceOf(name)],
      [up, words.up(name)],
      [down, words.down(name)],
      [remove, text.remove(name)],
      [this.#parts.nameField, words.nameOf(name)],
      [this.#parts.enabledField, words.enabledOf(name)],
      [this.#parts.fpsField, words.fpsOf(name)],
      [this.#parts.widthField, words.widthOf(name)],
    ];
    for (const [element, label] of labels) element.setAttribute("aria-label", label);
    for (const element of [handle, rename, up, down, remove]) {
      element.title = element.getAttribute("aria-label");
    }
  }

  #troubleOf(feed) {
    if (feed.kind === "browser" && !feed.error) return text.cameras.browserHelp;
    if (feed.error) return trouble(feed);
    if (feed.status === "stalled") return text.stalledHelp;
    if (feed.status === "ended") return text.endedHelp;
    return feed.aside ? text.cameras.aside(feed.drops.corrupt, feed.aside) : "";
  }

  // Fields show what is, but for those that somebody is at, and until a change is answered.
  #showSettings(feed) {
    const { enabledField, fpsField, widthField, change } = this.#parts;
    const browser = feed.kind === "browser"; // its page decides
    change.hidden = browser;
    for (const field of [enabledField, fpsField, widthField]) field.disabled = browser;
    if (this.#pending) return;
    enabledField.checked = feed.enabled;
    if (document.activeElement !== fpsField) fpsField.value = feed.fps;
    if (document.activeElement === widthField) return;
    this.#set("width", feed.width, () => {
      const widths = [...new Set([...WIDTHS, feed.width])].sort((a, b) => a - b);
      widthField.replaceChildren(
        ...widths.map((width) => new Option(text.cameras.pixels(width), width)),
      );
      widthField.value = feed.width;
    });
  }

  async #change(fields) {
    this.#pending++;
    this.complain("");
    this.#changes = this.#changes.then(async () => {
      const answer = await request("PATCH", `/api/feeds/${this.feed.id}`, fields);
      this.#pending--;
      delete this.#shown.width;
      if (answer.ok) {
        this.show(answer.body);
        this.#actions.say(
          "name" in fields
            ? text.cameras.renamed(answer.body.name)
            : text.cameras.saved(answer.body.name),
        );
      } else {
        this.complain(answer.detail);
        this.#parts.name.textContent = this.feed.name;
        if (!this.#pending) this.#parts.fpsField.value = this.feed.fps;
        this.#showSettings(this.feed);
      }
    });
  }

  #openName() {
    const { name, rename, nameField } = this.#parts;
    name.hidden = rename.hidden = true;
    this.#parts["name-form"].hidden = false;
    nameField.value = this.feed.name;
    nameField.focus();
    nameField.select();
  }

  #closeName(save, focus) {
    const { name, rename, nameField } = this.#parts;
    const form = this.#parts["name-form"];
    if (form.hidden) return;
    const wanted = nameField.value.trim();
    form.hidden = true;
    name.hidden = rename.hidden = false;
    this.element.classList.remove("meant");
    if (focus) rename.focus();
    if (!save || wanted === this.feed.name) return;
    if (wanted) name.textContent = wanted;
    this.#change({ name: wanted || null });
  }

  #picture(url) {
    if (url === this.#url) return;
    const { image, none } = this.#parts;
    URL.revokeObjectURL(this.#url);
    this.#url = url;
    if (url) image.src = url;
    else image.removeAttribute("src");
    image.alt = url ? text.cameras.picture(this.feed.name) : "";
    image.hidden = !url;
    none.hidden = Boolean(url);
    this.#labelPicture();
  }

  // What is written in its place is part of what the link is called.
  #labelPicture() {
    const { picture, none } = this.#parts;
    const watch = text.cameras.watch(this.feed.name);
    picture.setAttribute("aria-label", none.hidden ? watch : `${none.textContent}. ${watch}`);
  }

  #set(name, value, apply) {
    if (Object.hasOwn(this.#shown, name) && this.#shown[name] === value) return;
    this.#shown[name] = value;
    apply(value);
  }
}
