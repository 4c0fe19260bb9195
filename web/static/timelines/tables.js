// The timelines as tables: one a face, a row for each even piece of the time shown, newest first, and
// one of what happened. The same points as the charts draw.

import { make } from "../make.js";
import { wordFor } from "../palette.js";
import { percent, text } from "../texts.js";

const ROWS = 20;
const STEPS_S = [1, 2, 3, 5, 10, 15, 30, 60, 120, 180, 300];

export function stepOf(spanS) {
  return STEPS_S.find((step) => spanS / step <= ROWS) ?? spanS / ROWS;
}

// Fill `element` anew; `clock(t)` writes a time, `onSeek(t)` is called for a time that was chosen.
export function fillTables(element, { lanes, labels, places, view, marks, clock, onSeek }) {
  const step = stepOf(view.to - view.from);
  const pieces = [];
  for (let n = Math.floor(view.to / step); (n + 1) * step > view.from; n--) pieces.push(n * step);
  element.replaceChildren(
    ...lanes.map((lane) => {
      const columns = [text.timelines.time, ...labels.map(wordFor), text.unsure];
      const table = tableOf(text.timelines.tableOf(lane.track), columns);
      for (const start of pieces) {
        const mean = lane.mean(start, start + step);
        rowOf(table, start, clock, onSeek, [
          ...places.map((k) => (mean ? percent(mean.scores[k]) : text.unknown)),
          mean ? percent(mean.unsure) : text.timelines.away,
        ]);
      }
      return table;
    }),
  );
  if (!marks.length) return;
  const table = tableOf(text.timelines.events, [text.timelines.time, text.timelines.event]);
  for (const { at, name } of [...marks].reverse()) rowOf(table, at, clock, onSeek, [name]);
  element.append(table);
}

function tableOf(caption, columns) {
  const table = document.createElement("table");
  table.createCaption().textContent = caption;
  const head = table.createTHead().insertRow();
  head.append(...columns.map((word) => make("th", { scope: "col", textContent: word })));
  table.createTBody();
  return table;
}

function rowOf(table, t, clock, onSeek, values) {
  const row = table.tBodies[0].insertRow();
  const go = make("button", { type: "button", textContent: clock(t) });
  go.addEventListener("click", () => onSeek(t));
  row.append(make("th", { scope: "row" }, go));
  for (const value of values) row.insertCell().textContent = value;
}
