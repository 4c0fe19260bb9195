// The charts as a table: the part in view cut into even pieces, a row each.

import { wordFor } from "../palette.js";
import { percent, text } from "../texts.js";
import { clock } from "./times.js";

const ROWS = 40;
const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600];

// One person's chosen emotions, or, where one emotion is `compared`, all people's share of it.
export function fillTable(element, recording, { view, people, person, labels, compared, onSeek }) {
  const span = view.to - view.from;
  const step = STEPS.find((each) => span / each <= ROWS) ?? span / ROWS;
  const digits = step < 1 ? 1 : 0;
  const first = Math.floor(view.from / step);
  const last = Math.ceil(view.to / step - 1e-9);
  const [from, to] = [clock(view.from, digits), clock(view.to, digits)];
  const table = document.createElement("table");
  if (!person) {
    element.replaceChildren();
    return;
  }
  table.createCaption().textContent = compared
    ? text.report.tableCompare(wordFor(compared), from, to)
    : text.report.tableOf(recording.nameOf(person.id), from, to);
  const head = table.createTHead().insertRow();
  const columns = compared
    ? people.map(({ id }) => recording.nameOf(id))
    : [...labels.map(wordFor), text.unsure];
  for (const word of [text.report.time, ...columns]) {
    const cell = document.createElement("th");
    cell.scope = "col";
    cell.textContent = word;
    head.append(cell);
  }
  const body = table.createTBody();
  for (let n = first; n < last; n++) {
    const [start, end] = [n * step, (n + 1) * step];
    const row = body.insertRow();
    const when = document.createElement("th");
    when.scope = "row";
    const go = document.createElement("button");
    go.type = "button";
    go.textContent = clock(start, digits);
    go.addEventListener("click", () => onSeek(start));
    when.append(go);
    row.append(when);
    const cells = compared
      ? people.map(({ id }) => one(recording, recording.mean(id, start, end), compared))
      : ofPerson(recording, recording.mean(person.id, start, end), labels);
    for (const value of cells) row.insertCell().textContent = value;
  }
  element.replaceChildren(table);
}

function one(recording, means, label) {
  return means ? percent(means[recording.labels.indexOf(label)]) : text.unknown;
}

function ofPerson(recording, means, labels) {
  if (!means) return [...labels.map(() => text.unknown), text.unknown];
  const unsure = Math.max(...means) < recording.unsureBelow;
  return [...labels.map((label) => one(recording, means, label)), unsure ? text.report.yes : ""];
}
