// Arranges the tiles in the order of the list of feeds: as large as they fit on the screen, or one
// below the other on a phone; or one of them large, and the others small beside it.

const NARROW_PX = 760;
const SHORT_PX = 520;
const BEST_ASPECT = 1.55; // width to height of a tile with its picture and its faces
const SCROLLING_COSTS = 0.1; // of a tile's size, for each pixel that does not fit
const LOWEST_TILE_PX = 165; // sixteen fit on a laptop

export class Board {
  #element;
  #tiles = new Map();
  #large = null;
  #onLarge;

  // `onLarge(id)` is called when another feed is the large one, or (null) none.
  constructor(element, onLarge) {
    this.#element = element;
    this.#onLarge = onLarge;
    element.style.setProperty("--lowest", `${LOWEST_TILE_PX}px`);
    new ResizeObserver(() => this.#arrange()).observe(element.parentElement);
  }

  get(id) {
    return this.#tiles.get(id);
  }

  get tiles() {
    return [...this.#tiles.values()];
  }

  // The tile that is large; undefined while all are alike.
  get large() {
    return this.#tiles.get(this.#large);
  }

  add(tile) {
    this.#tiles.set(tile.id, tile);
    this.#element.append(tile.element);
    this.#tell();
    this.#arrange();
  }

  remove(id) {
    const tile = this.#tiles.get(id);
    if (!tile) return;
    if (this.#large === id) this.enlarge(null);
    tile.close();
    this.#tiles.delete(id);
    this.#tell();
    this.#arrange();
  }

  // Put the tiles in this order; moving only those that are in the wrong place, because whoever is
  // moved loses the focus.
  order(ids) {
    const listed = ids.map((id) => this.#tiles.get(id)).filter(Boolean);
    const ordered = [...listed, ...this.tiles.filter((tile) => !listed.includes(tile))];
    ordered.forEach((tile, place) => {
      const there = this.#element.children[place];
      if (there !== tile.element) this.#element.insertBefore(tile.element, there ?? null);
    });
    this.#tiles = new Map(ordered.map((tile) => [tile.id, tile]));
  }

  enlarge(id) {
    const large = this.#tiles.has(id) ? id : null;
    if (large === this.#large) return;
    this.#large = large;
    this.#element.classList.toggle("one", large !== null);
    this.#tell();
    this.#arrange();
    this.large?.element.scrollIntoView({ block: "nearest" });
    this.#onLarge(large);
  }

  // Make the feed after the large one large (before it: -1).
  turn(by) {
    const ids = [...this.#tiles.keys()];
    const at = ids.indexOf(this.#large);
    if (at >= 0) this.enlarge(ids[(at + by + ids.length) % ids.length]);
  }

  #tell() {
    const beside = this.#large !== null;
    for (const tile of this.tiles) tile.place(tile.id === this.#large, beside, this.#tiles.size);
  }

  #arrange() {
    const count = this.#tiles.size;
    const fit = window.innerWidth >= NARROW_PX && window.innerHeight >= SHORT_PX;
    document.body.classList.toggle("fit", fit);
    const { clientWidth: width, clientHeight: height } = this.#element.parentElement;
    this.#element.style.setProperty("--room", `${height}px`);
    this.#element.style.setProperty("--beside", Math.max(1, count - 1));
    this.#element.dataset.count = count;
    if (!count || !fit) return;
    let best = { score: -Infinity, columns: 1, rows: count };
    for (let columns = 1; columns <= count; columns++) {
      const rows = Math.ceil(count / columns);
      const tall = Math.max(height / rows, LOWEST_TILE_PX);
      const size = Math.min(width / columns, tall * BEST_ASPECT);
      const beyond = Math.max(0, rows * tall - height); // what one would have to scroll
      const score = size - (columns * rows - count) - beyond * SCROLLING_COSTS;
      if (score > best.score) best = { score, columns, rows };
    }
    this.#element.style.setProperty("--columns", best.columns);
    this.#element.style.setProperty("--rows", best.rows);
  }
}
