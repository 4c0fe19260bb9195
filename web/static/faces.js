// The faces of one feed beside its picture: for each its emotion in words, all scores as bars, and
// its last minute.

import { setText } from "./make.js";
import { colourOf, colourOfFace, wordFor, wordForFace } from "./palette.js";
import { Ribbon } from "./ribbon.js";
import { percent, text } from "./texts.js";

const IN_VIEW_S = 1.0;
const KEPT_S = 4; // a face out of view keeps its place so long, so that nothing jumps

export class Faces {
  #list;
  #note;
  #cards = new Map();

  constructor(list, note) {
    this.#list = list;
    this.#note = note;
  }

  // `at`: the time that is looked back to; left out while live.
  update(history, now, at = null) {
    const tracks =
      at === null
        ? history.tracks(now, KEPT_S)
        : history.tracks(now, now - at + KEPT_S).filter((track) => history.at(track, at));
    for (const [track, card] of this.#cards) {
      if (tracks.includes(track)) continue;
      card.close();
      this.#cards.delete(track);
    }
    tracks.forEach((track, place) => {
      let card = this.#cards.get(track);
      if (!card) {
        card = new Card(track);
        this.#cards.set(track, card);
      }
      if (this.#list.children[place] !== card.element) {
        this.#list.insertBefore(card.element, this.#list.children[place] ?? null);
      }
      card.update(history, now, at);
    });
    this.#list.dataset.count = tracks.length > 2 ? "many" : tracks.length;
    this.#note.hidden = tracks.length > 0;
  }

  close() {
    for (const card of this.#cards.values()) card.close();
  }
}

class Card {
  #track;
  #bars = new Map();
  #labels = null;
  #barsShown = false;
  #pointed = null;

  constructor(track) {
    this.#track = track;
    this.element = document.getElementById("face-card").content.firstElementChild.cloneNode(true);
    this.number = this.element.querySelector(".face-number");
    this.word = this.element.querySelector(".face-word");
    this.share = this.element.querySelector(".face-share");
    this.when = this.element.querySelector(".face-when");
    this.table = this.element.querySelector(".bars");
    const chart = this.element.querySelector(".ribbon");
    chart.setAttribute("aria-label", text.chartOf(track));
    chart.title = text.chartHelp;
    this.table.setAttribute("aria-label", text.face(track));
    this.number.textContent = track;
    this.ribbon = new Ribbon(chart, (t) => (this.#pointed = t));
    // On a small tile there is no room for the bars; then they cost nothing either.
    this.sizes = new ResizeObserver(([{ contentRect }]) => (this.#barsShown = contentRect.height > 0));
    this.sizes.observe(this.table);
  }

  update(history, now, at) {
    const { face, seen } = history.latest(this.#track);
    const t = this.#pointed ?? at;
    const pointedAt = t === null ? null : history.at(this.#track, t);
    const shown = pointedAt ?? face ?? history.at(this.#track, seen);
    this.#fit(history.labels);
    const gone = now - seen;
    this.element.classList.toggle("gone", gone > IN_VIEW_S && !pointedAt);
    const away = gone > IN_VIEW_S ? text.faceGone(Math.round(gone)) : "";
    setText(this.when, pointedAt ? text.secondsAgo(now - t) : away);
    if (shown) this.#show(shown);
    this.ribbon.draw(history, this.#track, now);
  }

  close() {
    this.sizes.disconnect();
    this.ribbon.close();
    this.element.remove();
  }

  #show({ scores, unsure }) {
    const [emotion, share] = Object.entries(scores).reduce((a, b) => (b[1] > a[1] ? b : a));
    setText(this.word, wordForFace({ emotion, unsure }));
    setText(this.share, unsure ? text.perhaps(wordFor(emotion), percent(share)) : percent(share));
    this.number.style.backgroundColor = colourOfFace({ emotion, unsure });
    this.element.classList.toggle("unsure", unsure);
    if (!this.#barsShown) return;
    for (const [each, { row, bar, value }] of this.#bars) {
      bar.style.width = `${(scores[each] * 100).toFixed(1)}%`;
      setText(value, percent(scores[each]));
      row.classList.toggle("top", each === emotion && !unsure);
    }
  }

  // Rows stand in the model's order and never move: the eye learns their places.
  #fit(labels) {
    if (labels === this.#labels) return;
    this.#labels = labels;
    this.#bars.clear();
    this.table.replaceChildren();
    for (const label of labels) {
      const row = document.getElementById("bar-row").content.firstElementChild.cloneNode(true);
      row.querySelector("th").textContent = wordFor(label);
      const bar = row.querySelector(".bar i");
      bar.style.setProperty("--bright", colourOf(label, "bright"));
      bar.style.setProperty("--deep", colourOf(label, "deep"));
      this.table.append(row);
      this.#bars.set(label, { row, bar, value: row.querySelector(".value") });
    }
  }
}
