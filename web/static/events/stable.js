// A list that keeps what has not changed: an item is made anew only when its view is another, and
// the focus stays where it was, or goes to the next item when its own is gone.

export class Stable {
  #list;
  #make;
  #items = new Map(); // key -> {element, shown}

  // `make(view)` returns an element; parts of it that can hold the focus say `data-focus`.
  constructor(list, make) {
    this.#list = list;
    this.#make = make;
  }

  show(views, keyOf) {
    const held = document.activeElement;
    const place = [...this.#list.children].findIndex((element) => element.contains(held));
    const gone = new Set(this.#items.keys());
    views.forEach((view, index) => {
      const key = keyOf(view);
      gone.delete(key);
      const shown = JSON.stringify(view);
      let item = this.#items.get(key);
      if (item?.shown !== shown) {
        const element = this.#make(view);
        item?.element.replaceWith(element);
        item = { element, shown };
        this.#items.set(key, item);
      }
      const there = this.#list.children[index];
      if (there !== item.element) this.#list.insertBefore(item.element, there ?? null);
    });
    for (const key of gone) {
      this.#items.get(key).element.remove();
      this.#items.delete(key);
    }
    if (place >= 0 && !held.isConnected) this.#refocus(held.dataset.focus, place);
    else if (held !== document.activeElement && held?.isConnected) held.focus();
  }

  #refocus(name, place) {
    const { children } = this.#list;
    const item = children[Math.min(place, children.length - 1)];
    const same = [...(item?.querySelectorAll("[data-focus]") ?? [])];
    const next = same.find(({ dataset }) => dataset.focus === name) ?? same.at(-1);
    (next ?? this.#list.closest("section")).focus();
  }
}
