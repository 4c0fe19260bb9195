// The timeline: one lane a person over a common axis, with one playhead through all of them.
//
// Charts are drawn only when data, view or look change; playhead and hairline are elements of their
// own that move over them, so playing costs no drawing.

import { look } from "../look.js";
import { colourOf, wordFor } from "../palette.js";
import { percent, text } from "../texts.js";
import {
  drawAxis,
  drawCompare,
  drawLines,
  drawPresence,
  drawStack,
  paint,
  patternOf,
  strokeOf,
} from "./chart.js";
import { fillTable } from "./table.js";
import { clock, span } from "./times.js";

export const MODES = ["stacked", "lines", "compare"];
// How high a lane is: the fewer there are, the more room each has.
const LANE_PX = {
  stacked: (count) => (count < 2 ? 150 : count < 3 ? 110 : 84),
  lines: (count) => (count < 2 ? 190 : count < 3 ? 140 : 112),
  compare: () => 260,
};
const AXIS_PX = 24;
const PRESENCE_ROW_PX = 13;
const DRAG_PX = 5;
const DOUBLE_MS = 350;
const NARROWEST_FRAMES = 12;
const ZOOM_STEP = 1.6;
const PAPER = { ground: "deep", muted: "#4d5360", surface: "#ffffff", ink: "#1b1f27", line: "#d5d0c4" };
const PAPER_PX = 560; // of a lane on A4, beside the names

// Events: "seek" position, "select" person's number.
export class Timeline extends EventTarget {
  #recording;
  #shown = []; // people with a lane
  #view = { from: 0, to: 1 };
  #mode = "stacked";
  #chosen = new Set();
  #compared = "";
  #patterns = false;
  #selected = null;
  #position = 0;
  #width = 0;
  #lanes = [];
  #due = false;
  #pointers = new Map();
  #gesture = null;
  #tapped = { when: -Infinity, x: 0 };
  #paper = false;

  constructor(element, recording) {
    super();
    const find = (selector) => element.querySelector(selector);
    this.element = element;
    this.parts = {
      legend: find(".legend"),
      overview: find(".overview .plot"),
      overviewCanvas: find(".overview canvas"),
      overviewHead: find(".overview .playhead"),
      window: find(".window"),
      box: find(".lanes-box"),
      lanes: find(".lanes"),
      axis: find(".axis canvas"),
      layer: find(".cursors"),
      playhead: find(".cursors .playhead"),
      hairline: find(".hairline"),
      selection: find(".selection"),
      hover: find(".hover"),
      table: find(".table-view"),
      tableButton: find(".show-table"),
      patterns: find(".patterns"),
      resolution: find(".resolution"),
      hint: find(".hint"),
    };
    this.#recording = recording;
    this.#chosen = new Set(recording.labels);
    this.#compared = mostSeen(recording);
    this.#view = { from: 0, to: recording.duration };
    this.#patterns = matchMedia("(prefers-contrast: more), (forced-colors: active)").matches;
    this.#bind();
    this.#legend();
    const touch = matchMedia("(pointer: coarse)").matches;
    this.parts.hint.textContent = touch ? text.report.touchHint : text.report.zoomHint;
  }

  get mode() {
    return this.#mode;
  }

  get view() {
    return this.#view;
  }

  // Show these people of this recording, a lane each.
  show(recording, people) {
    const whole = this.#isWhole;
    this.#recording = recording;
    this.#shown = people;
    this.parts.resolution.textContent = this.#resolution();
    this.look(whole ? 0 : this.#view.from, whole ? recording.duration : this.#view.to);
    this.#build();
  }

  select(id) {
    this.#selected = id;
    for (const lane of this.#lanes) lane.element.classList.toggle("selected", lane.id === id);
    this.#draw();
    this.#table();
  }

  // Names may have changed.
  rename() {
    for (const lane of this.#lanes) {
      if (lane.id !== null) lane.name.textContent = this.#recording.nameOf(lane.id);
    }
    this.#draw();
    this.#table();
  }

  move(position, playing) {
    const { from, to } = this.#view;
    const was = this.#position;
    this.#position = position;
    const left = playing && was >= from && was <= to && (position > to || position < from);
    if (left) this.look(position, position + (to - from)); // leaf on
    this.#cursor();
  }

  // Look at a part: from one position to another.
  look(from, to) {
    const { duration, frameSpan } = this.#recording;
    const span = Math.min(duration, Math.max(to - from, NARROWEST_FRAMES * frameSpan));
    const start = Math.max(0, Math.min(from, duration - span));
    this.#view = { from: start, to: start + span };
    this.element.classList.toggle("zoomed", !this.#isWhole);
    this.#draw();
    this.#cursor();
    this.#tableSoon();
  }

  // Zoom about a position (the playhead, if it is in view); a factor below 1 zooms in.
  zoom(factor, about = null) {
    const { from, to } = this.#view;
    const here = this.#position >= from && this.#position <= to ? this.#position : (from + to) / 2;
    const at = about ?? here;
    this.look(at - (at - from) * factor, at + (to - at) * factor);
  }

  zoomIn() {
    this.zoom(1 / ZOOM_STEP);
  }

  zoomOut() {
    this.zoom(ZOOM_STEP);
  }

  zoomAll() {
    this.look(0, this.#recording.duration);
  }

  showAs(mode) {
    this.#mode = mode;
    this.element.dataset.mode = mode;
    for (const radio of this.element.querySelectorAll("[name=mode]")) {
      radio.checked = radio.value === mode;
    }
    this.#legend();
    this.#build();
  }

  toggleTable() {
    const { table, tableButton } = this.parts;
    table.hidden = !table.hidden;
    tableButton.setAttribute("aria-pressed", String(!table.hidden));
    this.#table();
  }

  // Draw for paper, whatever the screen looks like; then for the screen again.
  print(paper) {
    this.#paper = paper;
    this.#paint();
  }

  get #isWhole() {
    return this.#view.to - this.#view.from >= this.#recording.duration - 1e-6;
  }

  #resolution() {
    const spacing = Math.max(0, ...this.#shown.map(({ id }) => this.#recording.series.get(id).spacing));
    return spacing > 1.5 * this.#recording.frameSpan ? text.report.resolution(span(spacing)) : "";
  }

  #bind() {
    const { box, overview, patterns, tableButton, lanes } = this.parts;
    const button = (name, act) => this.element.querySelector(name).addEventListener("click", act);
    button(".zoom-in", () => this.zoomIn());
    button(".zoom-out", () => this.zoomOut());
    button(".zoom-all", () => this.zoomAll());
    tableButton.addEventListener("click", () => this.toggleTable());
    for (const radio of this.element.querySelectorAll("[name=mode]")) {
      radio.addEventListener("change", () => this.showAs(radio.value));
    }
    patterns.setAttribute("aria-pressed", String(this.#patterns));
    patterns.addEventListener("click", () => {
      this.#patterns = !this.#patterns;
      patterns.setAttribute("aria-pressed", String(this.#patterns));
      this.#legend();
      this.#draw();
    });
    lanes.addEventListener("click", (event) => {
      const head = event.target.closest(".lane-head");
      const lane = this.#lanes.find(({ element }) => head && element.contains(head));
      if (lane?.id) this.dispatchEvent(new CustomEvent("select", { detail: lane.id }));
    });
    box.addEventListener("pointerdown", (event) => this.#down(event));
    box.addEventListener("pointermove", (event) => this.#moved(event));
    box.addEventListener("pointerup", (event) => this.#up(event));
    box.addEventListener("pointercancel", (event) => this.#cancel(event));
    box.addEventListener("pointerleave", () => this.#leave());
    box.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    this.#bindOverview(overview);
    new ResizeObserver(([{ contentRect }]) => {
      if (!contentRect.width || this.#width === contentRect.width) return;
      this.#width = contentRect.width;
      this.#draw();
      this.#cursor();
    }).observe(this.parts.layer);
    this.seen = new IntersectionObserver(
      (entries) => {
        for (const { target, isIntersecting } of entries) {
          const lane = this.#lanes.find(({ element }) => element === target);
          if (lane) lane.inView = isIntersecting;
        }
        this.#draw();
      },
      { rootMargin: "200px" },
    );
    document.documentElement.addEventListener("look", () => {
      this.#legend();
      this.#draw();
    });
  }

  // The strip above: a click seeks; where only a part is shown, dragging moves that part.
  #bindOverview(overview) {
    const positionAt = (event) => {
      const { left, width } = overview.getBoundingClientRect();
      return ((event.clientX - left) / width) * this.#recording.duration;
    };
    let grip = null;
    overview.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      overview.setPointerCapture(event.pointerId);
      grip = { x: event.clientX, at: positionAt(event), from: this.#view.from, moved: false };
      if (this.#isWhole) this.#seek(grip.at);
    });
    overview.addEventListener("pointermove", (event) => {
      if (!grip) return;
      grip.moved ||= Math.abs(event.clientX - grip.x) > DRAG_PX;
      if (this.#isWhole) this.#seek(positionAt(event));
      else if (grip.moved) {
        const { from, to } = this.#view;
        const start = grip.from + positionAt(event) - grip.at;
        this.look(start, start + to - from);
      }
    });
    overview.addEventListener("pointerup", (event) => {
      if (grip && !grip.moved && !this.#isWhole) {
        const at = positionAt(event);
        const { from, to } = this.#view;
        if (at < from || at > to) this.look(at - (to - from) / 2, at + (to - from) / 2);
        this.#seek(at);
      }
      grip = null;
    });
    overview.addEventListener("pointercancel", () => (grip = null));
  }

  #seek(position) {
    const inside = Math.max(0, Math.min(position, this.#recording.duration));
    this.dispatchEvent(new CustomEvent("seek", { detail: inside }));
  }

  #positionAt(clientX) {
    const { left, width } = this.parts.layer.getBoundingClientRect();
    const { from, to } = this.#view;
    return from + ((clientX - left) / width) * (to - from);
  }

  #down(event) {
    if (event.button || !event.target.closest(".plot")) return;
    this.parts.box.setPointerCapture(event.pointerId);
    this.#pointers.set(event.pointerId, event.clientX);
    const touch = event.pointerType === "touch";
    this.#gesture = {
      kind: touch || event.shiftKey ? "pan" : "select",
      x: event.clientX,
      at: this.#positionAt(event.clientX),
      view: this.#view,
      moved: false,
      fingers: [...this.#pointers.values()],
    };
    if (this.#pointers.size > 1) Object.assign(this.#gesture, { kind: "pinch", moved: true });
  }

  #moved(event) {
    if (!this.#gesture) {
      if (event.pointerType !== "touch") this.#hover(event);
      return;
    }
    if (!this.#pointers.has(event.pointerId)) return;
    this.#pointers.set(event.pointerId, event.clientX);
    const gesture = this.#gesture;
    gesture.moved ||= Math.abs(event.clientX - gesture.x) > DRAG_PX;
    if (!gesture.moved) return;
    const { left, width } = this.parts.layer.getBoundingClientRect();
    const { from, to } = gesture.view;
    if (gesture.kind === "pan") {
      const by = ((event.clientX - gesture.x) / width) * (to - from);
      this.look(from - by, to - by);
    } else if (gesture.kind === "pinch" && this.#pointers.size > 1) {
      const [a, b] = gesture.fingers.slice(0, 2).map((x) => from + ((x - left) / width) * (to - from));
      const [x, y] = [...this.#pointers.values()].map((each) => (each - left) / width);
      const wide = Math.abs(b - a) / Math.max(Math.abs(y - x), 0.02);
      const start = (a + b) / 2 - ((x + y) / 2) * wide;
      this.look(start, start + wide);
    } else if (gesture.kind === "select") {
      const [a, b] = [gesture.x, event.clientX].sort((p, q) => p - q);
      const { selection } = this.parts;
      selection.hidden = false;
      selection.style.left = `${Math.max(0, a - left)}px`;
      selection.style.width = `${Math.min(width, b - left) - Math.max(0, a - left)}px`;
    }
  }

  #up(event) {
    const gesture = this.#gesture;
    this.#cancel(event);
    if (!gesture) return;
    if (!gesture.moved) this.#tap(gesture);
    else if (gesture.kind === "select") {
      const [from, to] = [gesture.at, this.#positionAt(event.clientX)].sort((a, b) => a - b);
      this.look(from, to);
    }
  }

  #tap({ at, x }) {
    const now = performance.now();
    const twice = now - this.#tapped.when < DOUBLE_MS && Math.abs(x - this.#tapped.x) < 4 * DRAG_PX;
    this.#tapped = { when: twice ? -Infinity : now, x };
    if (twice) this.zoomAll();
    else this.#seek(at);
  }

  #cancel(event) {
    this.#pointers.delete(event.pointerId);
    if (this.#pointers.size === 0) this.#gesture = null;
    this.parts.selection.hidden = true;
  }

  #wheel(event) {
    const { from, to } = this.#view;
    const across = event.shiftKey ? event.deltaY || event.deltaX : event.deltaX;
    if (event.ctrlKey || event.metaKey) {
      event.preventDefault();
      this.zoom(Math.exp(Math.max(-60, Math.min(60, event.deltaY)) / 160), this.#positionAt(event.clientX));
    } else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      if (this.#isWhole) return;
      event.preventDefault();
      const by = (across / Math.max(this.#width, 1)) * (to - from);
      this.look(from + by, to + by);
    }
  }

  #leave() {
    this.parts.hairline.hidden = true;
    this.parts.hover.hidden = true;
  }

  #hover(event) {
    const lane = this.#lanes.find(({ element }) => element.contains(event.target));
    const inside = event.target.closest(".plot");
    if (!lane || !inside) {
      this.#leave();
      return;
    }
    const { hairline, hover, layer, box } = this.parts;
    const position = this.#positionAt(event.clientX);
    const { left, width } = layer.getBoundingClientRect();
    hairline.hidden = false;
    hairline.style.transform = `translateX(${event.clientX - left}px)`;
    hover.replaceChildren(...this.#values(lane, position));
    hover.hidden = false;
    const around = box.getBoundingClientRect();
    const flip = event.clientX - left > width * 0.6;
    const x = event.clientX - around.left + (flip ? -hover.offsetWidth - 14 : 14);
    hover.style.transform = `translate(${Math.max(0, x)}px, ${lane.element.offsetTop + 8}px)`;
  }

  // What the charts say at a position, in words and numbers.
  #values(lane, position) {
    const title = document.createElement("b");
    title.textContent = clock(position, 1);
    const rows = lane.id === null ? this.#comparedValues(position) : this.#valuesOf(lane.id, position);
    return [
      title,
      ...rows.map(({ colour, word, value }) => {
        const row = document.createElement("p");
        const swatch = document.createElement("i");
        swatch.style.background = colour;
        const name = document.createElement("span");
        name.textContent = word;
        const share = document.createElement("span");
        share.className = "value";
        share.textContent = value;
        row.append(swatch, name, share);
        return row;
      }),
    ];
  }

  #valuesOf(id, position) {
    const { labels, unsureBelow, series } = this.#recording;
    const index = series.get(id).indexAt(position);
    if (index < 0) return [{ colour: "transparent", word: text.report.notSeen, value: "" }];
    const row = [...series.get(id).row(index)];
    const best = labels
      .map((label, k) => ({ colour: colourOf(label), word: wordFor(label), share: row[k] }))
      .sort((a, b) => b.share - a.share);
    const unsure = best[0].share < unsureBelow;
    return [
      ...(unsure ? [{ colour: "transparent", word: text.unsure, value: "" }] : []),
      ...best.slice(0, 4).map(({ share, ...rest }) => ({ ...rest, value: percent(share) })),
    ];
  }

  #comparedValues(position) {
    const { labels, series } = this.#recording;
    const k = labels.indexOf(this.#compared);
    return this.#shown.map(({ id }, place) => {
      const index = series.get(id).indexAt(position);
      return {
        colour: strokeOf(place, look.ground).colour,
        word: this.#recording.nameOf(id),
        value: index < 0 ? text.report.away : percent(series.get(id).row(index)[k]),
      };
    });
  }

  #cursor() {
    const { playhead, overviewHead, overview, window } = this.parts;
    const { from, to } = this.#view;
    const { duration } = this.#recording;
    const share = (this.#position - from) / (to - from);
    playhead.hidden = share < 0 || share > 1;
    playhead.style.transform = `translateX(${(share * this.#width).toFixed(1)}px)`;
    const whole = overview.clientWidth || this.#width;
    overviewHead.style.transform = `translateX(${((this.#position / duration) * whole).toFixed(1)}px)`;
    window.style.left = `${(100 * from) / duration}%`;
    window.style.width = `${(100 * (to - from)) / duration}%`;
  }

  // The emotions to choose from; comparing takes one of them.
  #legend() {
    const { legend } = this.parts;
    const { labels } = this.#recording;
    const one = this.#mode === "compare";
    legend.setAttribute("aria-label", one ? text.report.chooseEmotion : text.report.chooseEmotions);
    const focused = [...legend.children].indexOf(document.activeElement);
    legend.replaceChildren(
      ...labels.map((label) => {
        const chip = document.createElement("button");
        const swatch = document.createElement("canvas");
        const on = one ? label === this.#compared : this.#chosen.has(label);
        chip.type = "button";
        chip.className = "chip";
        chip.dataset.emotion = label;
        chip.setAttribute("aria-pressed", String(on));
        if (!one) chip.title = text.report.onlyThis;
        swatch.setAttribute("aria-hidden", "true");
        paint(swatch, 16, 16, (context) => {
          context.fillStyle = this.#patterns ? patternOf(context, label) : colourOf(label);
          context.fillRect(0, 0, 16, 16);
          context.strokeStyle = colourOf(label, "deep");
          context.lineWidth = 2;
          context.strokeRect(0, 0, 16, 16);
        });
        chip.append(swatch, wordFor(label));
        chip.addEventListener("click", () => this.#choose(label));
        chip.addEventListener("dblclick", () => this.#choose(label, true));
        return chip;
      }),
    );
    if (!one && this.#chosen.size < labels.length) {
      const all = document.createElement("button");
      all.type = "button";
      all.className = "chip all";
      all.textContent = text.report.all;
      all.addEventListener("click", () => {
        this.#chosen = new Set(labels);
        this.#chosenNow();
      });
      legend.append(all);
    }
    legend.children[focused]?.focus();
  }

  #choose(label, alone = false) {
    if (this.#mode === "compare") this.#compared = label;
    else if (alone) this.#chosen = new Set([label]);
    else if (!this.#chosen.delete(label)) this.#chosen.add(label);
    this.#chosenNow();
  }

  #chosenNow() {
    this.#legend();
    this.#draw();
    this.#describe();
    this.#table();
  }

  // Lanes for the people shown, or one for all of them.
  #build() {
    const { lanes } = this.parts;
    const wanted = this.#mode === "compare" ? [null] : this.#shown.map(({ id }) => id);
    this.seen.disconnect();
    this.#lanes = wanted.map((id) => this.#lane(id));
    lanes.style.setProperty("--lane", `${LANE_PX[this.#mode](wanted.length)}px`);
    lanes.replaceChildren(...this.#lanes.map(({ element }) => element));
    for (const { element } of this.#lanes) this.seen.observe(element);
    this.#describe();
    this.select(this.#selected);
  }

  #lane(id) {
    const element = document.getElementById("lane").content.firstElementChild.cloneNode(true);
    const name = element.querySelector(".lane-name");
    const portrait = element.querySelector("img");
    const head = element.querySelector(".lane-head");
    if (id === null) {
      head.replaceChildren(
        ...this.#shown.map(({ id: each }, place) => {
          const key = document.createElement("p");
          key.className = "line-key";
          const stroke = document.createElement("canvas");
          const who = document.createElement("span");
          who.textContent = this.#recording.nameOf(each);
          key.append(stroke, who);
          paint(stroke, 30, 10, (context) => {
            const { colour, dash } = strokeOf(place, look.ground);
            context.strokeStyle = colour;
            context.lineWidth = 2.5;
            context.setLineDash(dash);
            context.beginPath();
            context.moveTo(0, 5);
            context.lineTo(30, 5);
            context.stroke();
          });
          return key;
        }),
      );
    } else {
      const person = this.#recording.person(id);
      name.textContent = this.#recording.nameOf(id);
      portrait.hidden = !person.portrait;
      if (person.portrait) portrait.src = person.portrait;
    }
    return { id, element, name, canvas: element.querySelector(".plot canvas"), inView: true };
  }

  #describe() {
    for (const { id, canvas } of this.#lanes) {
      canvas.setAttribute(
        "aria-label",
        id === null
          ? text.report.compareChart(wordFor(this.#compared))
          : text.report.chartOf(this.#recording.nameOf(id)),
      );
    }
  }

  #draw() {
    if (this.#due) return;
    this.#due = true;
    requestAnimationFrame(() => {
      this.#due = false;
      this.#paint();
    });
  }

  #paint() {
    const width = this.#paper ? PAPER_PX : this.#width;
    if (!width) return;
    const colours = this.#paper ? { ...look, ...PAPER } : look;
    const { labels, series, unsureBelow, duration } = this.#recording;
    const common = { labels, view: this.#view, look: colours, unsureBelow };
    const tallLane = LANE_PX[this.#mode](this.#lanes.length);
    for (const { id, canvas, inView } of this.#lanes) {
      if (!inView && !this.#paper) continue;
      paint(canvas, width, tallLane, (context, w, h) => {
        if (id === null) {
          const people = this.#shown.map(({ id: each }, place) => ({
            name: this.#recording.nameOf(each),
            series: series.get(each),
            place,
          }));
          drawCompare(context, w, h, { ...common, people, label: this.#compared });
          return;
        }
        const draw = this.#mode === "lines" ? drawLines : drawStack;
        const one = { series: series.get(id), chosen: this.#chosen, patterns: this.#patterns };
        draw(context, w, h, { ...common, ...one });
      });
    }
    paint(this.parts.axis, width, AXIS_PX, (context, w, h) =>
      drawAxis(context, w, h, { view: this.#view, look: colours, clock }),
    );
    const rows = this.#shown.map(({ id }) => ({
      seen: series.get(id).seen,
      strong: id === this.#selected,
    }));
    const tall = Math.max(rows.length, 1) * PRESENCE_ROW_PX;
    this.parts.overview.style.height = `${tall}px`;
    paint(this.parts.overviewCanvas, width, tall, (context, w, h) =>
      drawPresence(context, w, h, { rows, duration, look: colours }),
    );
  }

  #tableSoon() {
    if (this.parts.table.hidden) return;
    clearTimeout(this.waiting);
    this.waiting = setTimeout(() => this.#table(), 150);
  }

  #table() {
    const { table } = this.parts;
    if (table.hidden) return;
    fillTable(table, this.#recording, {
      view: this.#view,
      people: this.#shown,
      person: this.#shown.find(({ id }) => id === this.#selected) ?? this.#shown[0],
      labels: this.#recording.labels.filter((label) => this.#chosen.has(label)),
      compared: this.#mode === "compare" ? this.#compared : null,
      onSeek: (position) => this.#seek(position),
    });
  }
}

// The emotion that all people together show most: where comparing them begins.
function mostSeen({ labels, people }) {
  const shown = (label) => people.reduce((sum, person) => sum + person.mean_scores[label], 0);
  return labels.reduce((most, label) => (shown(label) > shown(most) ? label : most));
}
