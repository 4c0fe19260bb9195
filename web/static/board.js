// Arranges the tiles: as large as they fit on the screen, or one below the other on a phone.

const NARROW_PX = 760;
const SHORT_PX = 520;
const BEST_ASPECT = 1.55; // width to height of a tile with its picture and its faces
const LOWEST_TILE_PX = 190;

export class Board {
  #element;
  #tiles = new Map();

  constructor(element) {
    this.#element = element;
    element.style.setProperty("--lowest", `${LOWEST_TILE_PX}px`);
    new ResizeObserver(() => this.#arrange()).observe(element.parentElement);
  }

  get(id) {
    return this.#tiles.get(id);
  }

  get tiles() {
    return [...this.#tiles.values()];
  }

  add(tile) {
    this.#tiles.set(tile.id, tile);
    this.#element.append(tile.element);
    this.#arrange();
  }

  remove(id) {
    this.#tiles.get(id)?.close();
    this.#tiles.delete(id);
    this.#arrange();
  }

  #arrange() {
    const count = this.#tiles.size;
    const fit = window.innerWidth >= NARROW_PX && window.innerHeight >= SHORT_PX;
    document.body.classList.toggle("fit", fit);
    if (!count || !fit) return;
    const { clientWidth: width, clientHeight: height } = this.#element.parentElement;
    let best = { score: 0, columns: 1, rows: count };
    for (let columns = 1; columns <= count; columns++) {
      const rows = Math.ceil(count / columns);
      const tall = Math.max(height / rows, LOWEST_TILE_PX);
      const score = Math.min(width / columns, tall * BEST_ASPECT) - (columns * rows - count);
      if (score > best.score) best = { score, columns, rows };
    }
    this.#element.style.setProperty("--columns", best.columns);
    this.#element.style.setProperty("--rows", best.rows);
  }
}
