// The people of a video: a card each, with face, name, shares and strongest moments. A card opens
// when its person is chosen.

import { colourOf, colourOfFace, wordFor, wordForFace } from "../palette.js";
import { fill, percent, text } from "../texts.js";
import { clock, span } from "./times.js";

const WORDS_SHOWN = 3;
const NOW_EVERY_MS = 200;
const MAX_NAME_LENGTH = 60; // as the API takes them

// Events: "select" number, "seek" position, "rename" {id, name}, "merge" number (who with is still to
// be asked), "join" {id, into}, "separate" {id, from}.
export class People extends EventTarget {
  #list;
  #cards = new Map();
  #recording = null;
  #selected = null;
  #dragged = null;
  #faces = [];
  #shown = -Infinity; // when the words of the moment were last written
  #waiting = null;

  constructor(list) {
    super();
    this.#list = list;
  }

  show(recording, people) {
    this.#recording = recording;
    this.#cards = new Map(people.map((person) => [person.id, this.#card(person)]));
    this.#list.replaceChildren(...[...this.#cards.values()].map(({ element }) => element));
    this.select(this.#selected);
  }

  select(id, reveal = false) {
    this.#selected = id;
    for (const [each, { element, toggle }] of this.#cards) {
      element.classList.toggle("selected", each === id);
      toggle.setAttribute("aria-expanded", String(each === id));
    }
    const element = this.#cards.get(id)?.element;
    if (reveal && element) {
      const list = this.#list;
      const [card, box] = [element.getBoundingClientRect(), list.getBoundingClientRect()];
      list.scrollBy(card.left - box.left, card.top - box.top); // the list alone, never the page
    }
  }

  // What each person shows in the frame on the screen; written no more often than it can be read.
  now(faces) {
    this.#faces = faces;
    this.#waiting ??= setTimeout(
      () => {
        this.#waiting = null;
        this.#shown = performance.now();
        this.#now(this.#faces);
      },
      Math.max(0, this.#shown + NOW_EVERY_MS - performance.now()),
    );
  }

  #now(faces) {
    const seen = new Map(faces.map((face) => [face.track, face]));
    for (const [id, { now }] of this.#cards) {
      const face = seen.get(id);
      const word = face ? `${wordForFace(face)}${face.unsure ? "" : ` ${percent(face.confidence)}`}` : text.report.away;
      if (now.textContent !== word) now.textContent = word;
      now.classList.toggle("away", !face);
      now.style.backgroundColor = face ? colourOfFace(face) : "";
    }
  }

  // Write the name of a person in place.
  edit(id) {
    const card = this.#cards.get(id);
    if (!card || card.element.querySelector(".person-field")) return;
    const field = document.createElement("input");
    field.className = "person-field";
    field.maxLength = MAX_NAME_LENGTH;
    field.value = this.#recording.person(id).name ?? "";
    field.placeholder = text.report.person(id);
    field.setAttribute("aria-label", text.report.nameField(this.#recording.nameOf(id)));
    let ended = false;
    const end = (keep) => {
      if (ended) return;
      ended = true;
      field.replaceWith(card.name);
      const name = field.value.trim() || null;
      if (keep && name !== this.#recording.person(id).name) this.#say("rename", { id, name });
    };
    field.addEventListener("blur", () => end(true));
    field.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key !== "Enter" && event.key !== "Escape") return;
      event.preventDefault(); // the button that gets the focus would be pressed
      end(event.key === "Enter");
      card.name.focus();
    });
    card.name.replaceWith(field);
    field.focus();
    field.select();
  }

  // Names have changed: write them all anew, wherever they stand.
  rename() {
    for (const [id, card] of this.#cards) this.#write(id, card);
  }

  #say(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  #card(person) {
    const element = document.getElementById("person-card").content.firstElementChild.cloneNode(true);
    fill(element);
    const find = (selector) => element.querySelector(selector);
    const card = {
      element,
      name: find(".person-name"),
      now: find(".person-now"),
      toggle: find(".more"),
      merge: find(".merge"),
    };
    const portrait = find("img");
    element.dataset.person = person.id;
    portrait.hidden = !person.portrait;
    if (person.portrait) portrait.src = person.portrait;
    const share = percent(Math.min(1, person.seconds_seen / this.#recording.duration));
    find(".person-seen").textContent = text.report.seen(span(person.seconds_seen), share);
    this.#shares(find, person);
    this.#moments(find(".moments"), person);
    this.#parts(find(".made-of"), person);
    card.merge.textContent = text.report.merge;
    card.merge.hidden = this.#recording.people.length < 2;
    card.toggle.addEventListener("click", (event) => {
      event.stopPropagation();
      this.#say("select", this.#selected === person.id ? null : person.id);
    });
    element.addEventListener("click", (event) => {
      if (!event.target.closest("button, input, a")) this.#say("select", person.id);
    });
    card.name.addEventListener("click", () => this.edit(person.id));
    card.merge.addEventListener("click", () => this.#say("merge", person.id));
    this.#drag(element, person.id);
    this.#write(person.id, card);
    return card;
  }

  #write(id, { name, toggle, element }) {
    const called = this.#recording.nameOf(id);
    name.firstElementChild.textContent = called;
    name.title = text.report.rename(called);
    name.setAttribute("aria-label", text.report.rename(called));
    toggle.setAttribute("aria-label", `${text.report.more}: ${called}`);
    element.setAttribute("aria-label", called);
  }

  #shares(find, person) {
    const { labels } = this.#recording;
    const rows = labels.map((label) => ({
      word: wordFor(label),
      share: person.shares[label] ?? 0,
      bright: colourOf(label),
      deep: colourOf(label, "deep"),
    }));
    const unsure = { emotion: "", unsure: true };
    rows.push({
      word: text.unsure,
      share: person.shares.unsure ?? 0,
      bright: colourOfFace(unsure),
      deep: colourOfFace(unsure, "deep"),
      hatched: true,
    });
    const bar = find(".share-bar");
    const most = rows.filter(({ share }) => share > 0).sort((a, b) => b.share - a.share);
    for (const { share, bright, hatched } of rows.filter((row) => row.share > 0)) {
      const piece = document.createElement("i");
      piece.style.flexGrow = share;
      piece.style.backgroundColor = bright;
      piece.classList.toggle("hatched", Boolean(hatched));
      bar.append(piece);
    }
    const words = most.slice(0, WORDS_SHOWN).map(({ word, share }) => `${word} ${percent(share)}`);
    find(".share-words").textContent = words.join(" · ");
    bar.setAttribute("aria-label", most.map(({ word, share }) => `${word} ${percent(share)}`).join(", "));
    const table = find(".bars");
    for (const { word, share, bright, deep, hatched } of rows) {
      const row = document.getElementById("share-row").content.firstElementChild.cloneNode(true);
      const fill = row.querySelector("i");
      row.querySelector("th").textContent = word;
      row.querySelector(".value").textContent = percent(share);
      row.classList.toggle("top", share === most[0]?.share);
      fill.style.width = `${(share * 100).toFixed(1)}%`;
      fill.style.setProperty("--bright", bright);
      fill.style.setProperty("--deep", deep);
      fill.classList.toggle("hatched", Boolean(hatched));
      table.append(row);
    }
  }

  #moments(list, person) {
    list.parentElement.hidden = person.moments.length === 0;
    for (const { label, t, confidence } of person.moments) {
      const position = t - this.#recording.start;
      const item = document.createElement("li");
      const button = document.createElement("button");
      button.type = "button";
      button.className = "moment";
      button.style.setProperty("--bright", colourOf(label));
      const mark = document.createElement("i");
      button.append(mark, text.report.moment(wordFor(label), percent(confidence), clock(position, 1)));
      button.addEventListener("click", () => this.#say("seek", position));
      item.append(button);
      list.append(item);
    }
  }

  // The numbers that were found to be this person too.
  #parts(place, person) {
    place.hidden = person.merged.length === 0;
    for (const id of person.merged) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "plain small";
      button.textContent = text.report.separate(text.report.person(id));
      button.addEventListener("click", () => this.#say("separate", { id, from: person.id }));
      place.append(button);
    }
  }

  #drag(element, id) {
    element.addEventListener("dragstart", (event) => {
      this.#dragged = id;
      event.dataTransfer.effectAllowed = "link";
      event.dataTransfer.setData("text/plain", this.#recording.nameOf(id));
      for (const [other, card] of this.#cards) {
        card.element.classList.toggle("refuses", this.#recording.areTogether(id, other));
      }
    });
    element.addEventListener("dragend", () => {
      this.#dragged = null;
      for (const card of this.#cards.values()) card.element.classList.remove("refuses", "target");
    });
    const taken = () => this.#dragged !== null && this.#dragged !== id;
    element.addEventListener("dragover", (event) => {
      if (!taken()) return;
      event.preventDefault(); // a drop that is refused says why
      event.dataTransfer.dropEffect = "link";
      element.classList.add("target");
    });
    element.addEventListener("dragleave", () => element.classList.remove("target"));
    element.addEventListener("drop", (event) => {
      event.preventDefault();
      element.classList.remove("target");
      if (taken()) this.#say("join", { id: this.#dragged, into: id });
    });
  }
}
