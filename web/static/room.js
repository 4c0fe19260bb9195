// The room at a glance, over all feeds of the page: how many faces are in view now, which share of
// them shows what, and the last minutes. One line; a button folds it away, another opens the figures
// as a table.
//
// It counts faces, not people: who stands before two cameras is two faces. A face counts as what the
// model says with its likeliest label, or as unsure where the model is; a feed from which nothing
// came for some seconds counts for nothing. Shown are means over the last seconds, so that the line
// stays calm. The trend begins where this page's knowledge does: with the minute that the server
// kept, and blank before that.
//
// Bounded: one sample a second for TREND_S.

import { make, setText } from "./make.js";
import { colourOf, colourOfFace, wordFor } from "./palette.js";
import { number, percent, text } from "./texts.js";
import { Strip } from "./timelines/strip.js";

const TREND_S = 300;
const KNOWN_S = 60; // what the histories tell of the time before this page was opened
const CALM_S = 3; // shares shown are of so long
const LAG_S = 1; // what is older than this has arrived, if it comes at all
const SILENT_S = 4; // a feed that says nothing for longer is not counted
const MARGIN_PX = 8;
const FOLDED = "moodline-room-folded";
const SEEN_SHARE = 0.005;
const LETTER_PX = 9; // of a word in the bar

export class Room {
  #samples = new Map(); // whole second -> {faces, counts of each kind}, null where nothing was heard
  #kinds = []; // the labels of all feeds' models, and null: unsure
  #revision = -1;
  #newest = 0;
  #now = 0;
  #feeds = 0;
  #silent = 0;
  #pointed = null;
  #barWidth = 0;

  constructor() {
    const id = "room-table";
    this.fold = make("button", { type: "button", className: "room-fold" });
    this.fold.setAttribute("aria-controls", "room-body");
    this.count = make("p", { className: "room-count" });
    this.bar = make("div", { className: "room-bar" });
    this.words = make("p", { className: "room-words" });
    this.trend = make("div", { className: "room-trend", title: text.room.trendHelp });
    this.trend.setAttribute("role", "img");
    this.trend.setAttribute("aria-label", text.room.trendLabel);
    this.more = make("button", { type: "button", className: "room-more plain" });
    this.more.textContent = text.room.table;
    this.table = make("table");
    const close = make("button", { type: "button", className: "plain", textContent: text.room.close });
    this.panel = make(
      "div",
      { id, className: "room-panel", popover: "auto", role: "dialog", ariaLabel: text.room.label },
      this.table,
      make("p", { className: "help", textContent: text.room.honest }),
      close,
    );
    close.addEventListener("click", () => this.panel.hidePopover());
    this.more.popoverTargetElement = this.panel;
    this.panel.addEventListener("toggle", () => this.#place());
    this.bar.setAttribute("aria-hidden", "true"); // the words say the same
    this.body = make("div", { id: "room-body", className: "room-body" });
    this.body.append(this.bar, this.words, this.trend, this.more);
    this.element = make("section", { className: "room", ariaLabel: text.room.label });
    this.element.append(this.fold, this.count, this.body, this.panel);
    this.strip = new Strip(this.trend, TREND_S, (t) => {
      this.#pointed = t;
      this.#write();
    });
    // Asked for when it changes: asking each time would lay the whole page out each time.
    this.sizes = new ResizeObserver(([{ contentRect }]) => (this.#barWidth = contentRect.width));
    this.sizes.observe(this.bar);
    this.fold.addEventListener("click", () => this.#fold(!this.body.hidden));
    this.#fold(localStorage.getItem(FOLDED) === "1");
  }

  // Once a second, with the histories of all feeds of the page.
  update(histories, now) {
    this.#use(histories);
    const newest = Math.floor(now - LAG_S);
    const revision = histories.reduce((sum, history) => sum + history.revision, histories.length);
    // Where an answer of the server has come in, the last minute is counted anew.
    const since = revision === this.#revision ? this.#newest + 1 : -Infinity;
    for (let second = Math.max(since, newest - KNOWN_S); second <= newest; second++) {
      this.#samples.set(second, this.#sample(histories, second));
    }
    for (const second of this.#samples.keys()) {
      if (second < newest - TREND_S) this.#samples.delete(second);
    }
    this.#revision = revision;
    this.#newest = newest;
    this.#now = now;
    this.#feeds = histories.length;
    this.#silent = histories.filter((history) => now - history.heard > SILENT_S).length;
    this.#draw();
    this.#write();
  }

  close() {
    this.sizes.disconnect();
    this.strip.close();
    this.element.remove();
  }

  #use(histories) {
    const kinds = [...new Set(histories.flatMap((history) => history.labels)), null];
    if (kinds.length === this.#kinds.length && kinds.join() === this.#kinds.join()) return;
    this.#kinds = kinds;
    this.#samples.clear();
    this.#revision = -1;
    this.bar.replaceChildren(
      ...kinds.map((kind) => {
        const part = make("i");
        part.dataset.kind = kind ?? "unsure";
        part.style.setProperty("--bright", colourOfKind(kind, "bright"));
        part.style.setProperty("--deep", colourOfKind(kind, "deep"));
        return part;
      }),
    );
  }

  // The faces in view at a second, over the feeds that were heard then; null where none was.
  #sample(histories, second) {
    const counts = this.#kinds.map(() => 0);
    let heard = false;
    for (const history of histories) {
      if (history.heard < second - SILENT_S || !history.labels.length) continue;
      heard = true;
      for (const shown of history.shownAt(second)) {
        counts[this.#kinds.indexOf(shown < 0 ? null : history.labels[shown])]++;
      }
    }
    return heard ? { counts, faces: counts.reduce((a, b) => a + b, 0) } : null;
  }

  // Means of the samples from one second to another: {faces, shares of the faces}; null for none.
  #mean(from, to) {
    const sums = this.#kinds.map(() => 0);
    let [faces, count] = [0, 0];
    for (let second = Math.ceil(from); second < to; second++) {
      const sample = this.#samples.get(second);
      if (!sample) continue;
      count++;
      faces += sample.faces;
      sample.counts.forEach((each, i) => (sums[i] += each));
    }
    return count && { faces: faces / count, shares: sums.map((sum) => (faces ? sum / faces : 0)) };
  }

  #draw() {
    const order = this.#kinds.map((_, i) => i).reverse();
    this.strip.draw({
      now: this.#now,
      heard: this.#now - LAG_S - 2, // a column is a mean over three seconds
      key: `${this.#revision} ${this.#kinds.length}`,
      bands: order.map((i) => ({
        bright: colourOfKind(this.#kinds[i], "bright"),
        deep: colourOfKind(this.#kinds[i], "deep"),
        hatched: this.#kinds[i] === null,
      })),
      columnAt: (from, to) => {
        const middle = Math.floor((from + to) / 2);
        const found = this.#mean(middle - 1, middle + 2);
        return found && found.faces ? { shares: order.map((i) => found.shares[i]), unsure: 0 } : null;
      },
    });
  }

  #write() {
    const at = this.#pointed;
    const newest = Math.floor(this.#now - LAG_S);
    const shown = at === null ? this.#mean(newest - CALM_S + 1, newest + 1) : this.#mean(at - 1, at + 2);
    const faces = shown ? Math.round(shown.faces) : 0;
    if (at !== null) {
      const ago = text.secondsAgo(Math.max(0, this.#now - at));
      setText(this.count, shown ? text.room.then(faces, ago) : text.room.unknown(ago));
    } else if (this.#silent === this.#feeds) setText(this.count, text.room.silent);
    else setText(this.count, text.room.count(faces, this.#silent));
    const shares = shown?.shares ?? this.#kinds.map(() => 0);
    const ranked = shares
      .map((share, i) => ({ share, word: wordOf(this.#kinds[i]) }))
      .filter(({ share }) => share >= SEEN_SHARE)
      .sort((a, b) => b.share - a.share);
    const wide = this.#barWidth;
    shares.forEach((share, i) => {
      const part = this.bar.children[i];
      const word = wordOf(this.#kinds[i]);
      part.style.flexGrow = share.toFixed(3);
      part.hidden = share < SEEN_SHARE;
      setText(part, share * wide > word.length * LETTER_PX ? word : "");
    });
    this.bar.classList.toggle("empty", ranked.length === 0);
    const said = ranked.slice(0, 4).map(({ word, share }) => `${word} ${percent(share)}`);
    setText(this.words, said.join(" · "));
    if (this.panel.matches(":popover-open")) this.#tabulate();
  }

  // The shares now and over longer, which is what bar and strip show.
  #tabulate() {
    const newest = Math.floor(this.#now - LAG_S);
    const spans = [CALM_S, 60, TREND_S];
    const means = spans.map((span) => this.#mean(newest - span + 1, newest + 1));
    const rows = [
      [text.room.faces, ...means.map((mean) => (mean ? number(mean.faces, 1) : text.unknown))],
      ...this.#kinds.map((kind, i) => [
        wordOf(kind),
        ...means.map((mean) => (mean?.faces ? percent(mean.shares[i]) : text.unknown)),
      ]),
    ];
    if (this.table.rows.length !== rows.length + 1) {
      this.table.replaceChildren();
      this.table.createCaption().textContent = text.room.caption;
      const head = this.table.createTHead().insertRow();
      const known = [text.room.kind, text.room.now, text.room.minute, text.room.minutes(TREND_S / 60)];
      for (const word of known) head.append(make("th", { scope: "col", textContent: word }));
      const body = this.table.createTBody();
      for (const [word] of rows) {
        const row = body.insertRow();
        row.append(make("th", { scope: "row", textContent: word }));
        for (const _ of spans) row.insertCell();
      }
    }
    rows.forEach(([, ...values], i) => {
      values.forEach((value, k) => setText(this.table.tBodies[0].rows[i].cells[k + 1], value));
    });
  }

  #fold(folded) {
    this.body.hidden = folded;
    this.fold.setAttribute("aria-expanded", String(!folded));
    this.fold.textContent = text.room.label;
    localStorage.setItem(FOLDED, folded ? "1" : "0");
  }

  #place() {
    if (!this.panel.matches(":popover-open")) return;
    this.#tabulate();
    const { bottom } = this.more.getBoundingClientRect();
    const { offsetWidth: width, offsetHeight: height } = this.panel;
    const top = Math.min(bottom + MARGIN_PX, innerHeight - height - MARGIN_PX);
    this.panel.style.top = `${Math.max(MARGIN_PX, top)}px`;
    this.panel.style.left = `${innerWidth - width - MARGIN_PX}px`;
  }
}

function wordOf(kind) {
  return kind === null ? text.unsure : wordFor(kind);
}

function colourOfKind(kind, shade) {
  return kind === null ? colourOfFace({ unsure: true }, shade) : colourOf(kind, shade);
}
