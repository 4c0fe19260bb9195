// The truth about one feed, in the foot of its tile: how old the picture is, how many are captured,
// analysed and shown, how many were dropped, and what is wrong, with its remedy. One line; a button
// opens the whole account: the delay in parts that add up to it, as a bar and as a table.
//
// For the tile: `received(meta, now, first)` as a picture arrives (without it the way over the
// network and the painting are one part), `painted(meta, now)` when it is on the screen, and
// `update(feed, history, now, view)` some times a second. `view`: {health, problems} as the page's
// link tells them, `paused` while this page looks back or holds pictures back, `inView`. Figures are
// written twice a second at most, so that they can be read.
//
// Bounded: the pictures of three seconds, twelve readings of the counters.

import { make, setText } from "./make.js";
import { number, text } from "./texts.js";
import { Delay } from "./truth/delay.js";
import { Diagnosis } from "./truth/diagnosis.js";

const WRITE_EVERY_S = 0.5;
const SETTLED_S = 3.5; // figures of the last seconds say nothing until it was watched for so long
const LOSSES_OVER_S = 10;
const REASONS = ["overrun", "stale", "corrupt", "too_fast"];
const MARGIN_PX = 8;
const LETTER_SHARE = 0.05; // a part of the bar so wide has room for its letter
const LETTERS = "ABCDEFGHI"; // the parts of the bar, in the table too
let count = 0;

export class Truth {
  #delay = new Delay();
  #diagnosis = new Diagnosis();
  #arrivals = new WeakMap(); // meta -> when it arrived; null for one that counts for nothing
  #readings = []; // [when, drops by reason]
  #written = -Infinity;
  #reduced = false;
  #watchedSince = Infinity;

  constructor() {
    const fact = (name, word, title) => {
      const value = make("dd");
      this.parts[name] = value;
      return make("div", { className: name, title }, make("dt", { textContent: word }), value);
    };
    const id = `truth-${++count}`;
    this.parts = {};
    this.parts.message = make("p", { className: "truth-message", role: "status" });
    this.parts.facts = make(
      "dl",
      { className: "facts" },
      fact("delay", text.delay, text.truth.delayHelp),
      fact("captured", text.truth.captured, text.truth.capturedHelp),
      fact("analysed", text.analysed, text.truth.analysedHelp),
      fact("shown", text.shown, text.shownTitle),
      fact("dropped", text.dropped, text.truth.droppedHelp),
    );
    this.parts.more = make("button", { type: "button", className: "truth-more" });
    this.parts.more.append(arrow());
    this.details = new Details(id);
    this.parts.more.popoverTargetElement = this.details.element;
    this.details.element.addEventListener("toggle", () => {
      this.#written = -Infinity;
      this.parts.more.setAttribute("aria-expanded", String(this.details.open));
    });
    this.parts.more.setAttribute("aria-expanded", "false");
    const { message, facts, more } = this.parts;
    this.element = make("div", { className: "truth" }, message, facts, more, this.details.element);
  }

  // A picture has arrived; the `first` one was there already and says nothing of the delay.
  received(meta, now, first = false) {
    this.#arrivals.set(meta, first ? null : now);
    this.#reduced = Boolean(meta.reduced);
  }

  painted(meta, now) {
    const arrived = this.#arrivals.get(meta);
    if (arrived !== null) this.#delay.add(meta, arrived, now);
  }

  update(feed, history, now, view = {}) {
    this.#read(feed, now);
    if (now - this.#written < WRITE_EVERY_S) return;
    this.#written = now;
    const { health = "up", problems = [], paused = false, inView = true } = view;
    const watching = !paused && inView;
    if (!watching || this.#watchedSince > now) this.#watchedSince = now;
    const figures = {
      feed,
      lostPerS: this.#lostPerS(),
      shownPerS: this.#delay.rate(now),
      mean: this.#delay.mean(now),
      reduced: this.#reduced,
      health,
      problems,
      watching,
      settled: now - this.#watchedSince > SETTLED_S,
    };
    const finding = this.#diagnosis.of(figures, now);
    this.#write(figures, finding);
    if (this.details.open) this.details.write(figures, finding, this.element);
  }

  close() {
    this.element.remove();
  }

  // The counters of the last seconds; they begin anew with Redis.
  #read({ drops, dropped }, now) {
    const last = this.#readings.at(-1);
    if (last && dropped < last.dropped) this.#readings = [];
    if (last && now - last.at < 0.9) return;
    this.#readings.push({ at: now, drops, dropped });
    while (this.#readings[0].at < now - LOSSES_OVER_S) this.#readings.shift();
  }

  #lostPerS() {
    const first = this.#readings[0];
    const last = this.#readings.at(-1);
    const over = Math.max(1, last.at - first.at);
    return Object.fromEntries(
      REASONS.map((reason) => [reason, ((last.drops[reason] ?? 0) - (first.drops[reason] ?? 0)) / over]),
    );
  }

  #write({ feed, shownPerS, mean, watching }, finding) {
    const { message, delay, captured, analysed, shown, dropped, more } = this.parts;
    setText(delay, mean && watching ? text.truth.ms(number(mean.ms)) : text.unknown);
    setText(captured, text.perSecond(number(feed.fps_in)));
    setText(analysed, text.perSecond(number(feed.fps_analysed)));
    setText(shown, watching ? text.perSecond(number(shownPerS)) : text.unknown);
    setText(dropped, feed.dropped < 10_000 ? number(feed.dropped) : `${number(feed.dropped / 1000)}k`);
    dropped.parentElement.classList.toggle("quiet", feed.dropped === 0);
    setText(message, finding?.message ?? "");
    message.hidden = !finding;
    this.element.dataset.finding = finding?.kind ?? "";
    this.element.classList.toggle("grave", Boolean(finding?.grave));
    this.element.classList.toggle("calm", Boolean(finding?.calm));
    const label = text.truth.more(feed.name);
    if (more.getAttribute("aria-label") !== label) {
      more.setAttribute("aria-label", label);
      more.title = label;
    }
  }
}

// The whole account, over everything else while it is open; Escape closes it.
class Details {
  constructor(id) {
    this.heading = make("h3", { id: `${id}-heading` });
    this.message = make("p", { className: "truth-remedy" });
    this.sum = make("p", { className: "truth-sum" });
    this.bar = make("div", { className: "truth-bar" });
    this.bar.setAttribute("aria-hidden", "true"); // the table says the same
    this.parts = make("table", { className: "truth-parts" });
    this.counts = make("table", { className: "truth-counts" });
    const close = make("button", { type: "button", className: "plain", textContent: text.truth.close });
    this.element = make(
      "div",
      { id, className: "truth-details", popover: "auto", role: "dialog" },
      this.heading,
      this.message,
      this.sum,
      this.bar,
      this.parts,
      make("p", { className: "help", textContent: text.truth.leavesOut }),
      this.counts,
      close,
    );
    this.element.setAttribute("aria-labelledby", this.heading.id);
    close.addEventListener("click", () => this.element.hidePopover());
    this.rows = new Map();
    this.columns = "";
  }

  get open() {
    return this.element.matches(":popover-open");
  }

  write({ feed, lostPerS, shownPerS, mean, watching }, finding, anchor) {
    setText(this.heading, text.truth.heading(feed.name));
    setText(this.message, finding?.message ?? text.truth.allWell);
    this.message.classList.toggle("grave", Boolean(finding?.grave));
    const known = mean && watching;
    setText(
      this.sum,
      known ? text.truth.sum(number(mean.ms), number(mean.worstMs)) : text.truth.nothingShown,
    );
    this.#parts(known ? mean : { ms: 0, parts: [] });
    const rows = [
      [text.truth.state, text.states[feed.status] ?? feed.status],
      [text.truth.captured, text.perSecond(number(feed.fps_in, 1))],
      [text.analysed, text.perSecond(number(feed.fps_analysed, 1))],
      [text.shown, watching ? text.perSecond(number(shownPerS, 1)) : text.unknown],
      ...REASONS.filter((reason) => reason in feed.drops).map((reason) => [
        text.truth.drops[reason],
        text.truth.droppedOf(number(feed.drops[reason]), number(lostPerS[reason], 1)),
      ]),
    ];
    this.#fill(this.counts, text.truth.countsCaption, rows);
    this.#place(anchor);
  }

  #parts({ ms, parts }) {
    const names = parts.map(([part]) => part).join();
    if (names !== this.columns) {
      this.columns = names;
      this.bar.replaceChildren(...parts.map(() => make("i")));
    }
    parts.forEach(([, took], i) => {
      this.bar.children[i].style.flexGrow = took;
      setText(this.bar.children[i], took > LETTER_SHARE * ms ? LETTERS[i] : "");
    });
    this.bar.hidden = parts.length === 0;
    this.#fill(
      this.parts,
      text.truth.partsCaption,
      parts.map(([part, took], i) => {
        const [name, help] = text.truth.parts[part];
        return [`${LETTERS[i]}  ${name}`, text.truth.ms(number(took)), help];
      }),
      parts.length ? [text.truth.total, text.truth.ms(number(ms)), ""] : null,
    );
  }

  // Write rows into a table; its cells stay where they are while only figures change.
  #fill(table, caption, rows, sum = null) {
    const all = sum ? [...rows, sum] : rows;
    const key = all.map(([name]) => name).join("\n");
    if (this.rows.get(table) !== key) {
      this.rows.set(table, key);
      table.replaceChildren();
      table.createCaption().textContent = caption;
      const body = table.createTBody();
      all.forEach(([name, , help], i) => {
        const row = body.insertRow();
        row.classList.toggle("total", sum !== null && i === all.length - 1);
        row.append(make("th", { scope: "row", textContent: name }));
        row.insertCell();
        if (help !== undefined) row.insertCell().textContent = help;
      });
    }
    all.forEach(([, value], i) => setText(table.tBodies[0].rows[i].cells[1], value));
  }

  // Above the strip where there is room, else wherever it fits.
  #place(anchor) {
    const strip = anchor.getBoundingClientRect();
    const { offsetWidth: width, offsetHeight: height } = this.element;
    const left = Math.max(MARGIN_PX, Math.min(strip.left, innerWidth - width - MARGIN_PX));
    const above = strip.top - height - MARGIN_PX;
    const top = above >= MARGIN_PX ? above : Math.max(MARGIN_PX, innerHeight - height - MARGIN_PX);
    this.element.style.left = `${left}px`;
    this.element.style.top = `${top}px`;
  }
}

function arrow() {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(svg.namespaceURI, "path");
  path.setAttribute("d", "M6 15l6-6 6 6");
  svg.append(path);
  return svg;
}
