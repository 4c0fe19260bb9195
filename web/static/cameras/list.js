// The list of cameras, in step with the feeds, and the order that people give them.
//
// A row that is moved stays where it is in the document while its neighbours move around it: so it
// keeps the focus, and the pointer that drags it.

import { text } from "../texts.js";
import { dragToOrder } from "./drag.js";
import { request } from "./request.js";
import { CameraRow } from "./row.js";

export class CameraList {
  #element;
  #actions;
  #rows = new Map(); // by feed id
  #ordering = 0; // changes of the order that are on their way
  #order = Promise.resolve();

  // `actions`: say(sentence), remove(feed), changeSource(feed), changed(feeds).
  constructor(element, actions) {
    this.#element = element;
    this.#actions = actions;
    dragToOrder(element, {
      began: () => this.#ordering++,
      ended: (row, moved) => {
        this.#ordering--;
        if (moved) this.#saveOrder(this.#rowOf(row));
      },
      cancelled: (row) => {
        this.#ordering--;
        actions.say(text.cameras.moveCancelled(this.#rowOf(row).feed.name));
      },
    });
  }

  // Show exactly these feeds, in this order.
  show(feeds) {
    const gone = new Set(this.#rows.keys());
    for (const feed of feeds) {
      gone.delete(feed.id);
      if (this.#rows.has(feed.id)) this.#rows.get(feed.id).show(feed);
      else this.#add(feed);
    }
    for (const id of gone) this.#take(id);
    if (!this.#ordering) this.#arrange(feeds.map(({ id }) => id));
    this.#settle();
  }

  // Show one feed as it is now, a new one at the end.
  put(feed) {
    if (this.#rows.has(feed.id)) this.#rows.get(feed.id).show(feed);
    else this.#add(feed);
    this.#settle();
    const { element } = this.#rows.get(feed.id);
    element.scrollIntoView({ block: "nearest" });
  }

  drop(id) {
    this.#take(id);
    this.#settle();
  }

  // Open a feed for editing; false: there is none of this id.
  edit(id) {
    const row = this.#rows.get(id);
    row?.edit();
    return Boolean(row);
  }

  // Fetch new pictures of the rows that can be seen.
  lookAgain() {
    if (!document.hidden) for (const row of this.#rows.values()) row.lookAgain();
  }

  #add(feed) {
    const row = new CameraRow(feed, { ...this.#actions, move: (way) => this.#move(row, way) });
    this.#rows.set(feed.id, row);
    this.#element.append(row.element);
    row.lookAgain();
  }

  #take(id) {
    const row = this.#rows.get(id);
    if (!row) return;
    const focused = row.element.contains(document.activeElement);
    const next = row.element.nextElementSibling ?? row.element.previousElementSibling;
    this.#rows.delete(id);
    row.close();
    if (focused) (next ?? this.#element.closest("section")).focus();
  }

  // Bring the rows into this order with as few moves as do: most often none.
  #arrange(ids) {
    ids.forEach((id, index) => {
      const { element } = this.#rows.get(id);
      const there = this.#element.children[index];
      if (there === element) return;
      // Move what stands in the way rather than what has the focus.
      if (element.contains(document.activeElement)) {
        while (this.#element.children[index] !== element) {
          this.#element.append(this.#element.children[index]);
        }
      } else this.#element.insertBefore(element, there);
    });
  }

  #move(row, way) {
    const { element } = row;
    const other = way < 0 ? element.previousElementSibling : element.nextElementSibling;
    if (!other) return;
    if (way < 0) element.after(other);
    else element.before(other);
    element.scrollIntoView({ block: "nearest" });
    this.#saveOrder(row);
  }

  // One after the other, so that the last one counts.
  #saveOrder(row) {
    this.#settle();
    const ids = this.#ids();
    this.#actions.say(
      text.cameras.moved(row.feed.name, ids.indexOf(row.feed.id) + 1, ids.length),
    );
    this.#ordering++;
    this.#order = this.#order.then(async () => {
      const answer = await request("PUT", "/api/feeds/order", ids);
      this.#ordering--;
      if (answer.ok) return;
      // A feed that somebody removed meanwhile: the list will say so, and the next try goes well.
      row.complain(answer.status === 404 ? "" : answer.detail);
    });
  }

  #settle() {
    const rows = this.#ids().map((id) => this.#rows.get(id));
    rows.forEach((row, index) => row.place(index, rows.length));
    this.#actions.changed(rows.map(({ feed }) => feed));
  }

  #ids() {
    return [...this.#element.children].map((element) => element.dataset.feed);
  }

  #rowOf(element) {
    return this.#rows.get(element.dataset.feed);
  }
}
