// Asks the server again and again while somebody looks.
//
// What is asked is `turn()` of who extends this: it returns after how many milliseconds to ask
// again, 0 for never. Nothing is asked while the page is hidden; once it is seen or online again,
// at once.

const ANSWER_WITHIN_MS = 8000;

export class Asking extends EventTarget {
  #timer = 0;
  #asking = false;
  #again = false;

  constructor() {
    super();
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) clearTimeout(this.#timer);
      else this.ask();
    });
    addEventListener("online", () => this.ask());
  }

  // Ask now, and from then on by itself.
  async ask() {
    if (this.#asking) {
      this.#again = true; // what is on its way may be older than what happened
      return;
    }
    this.#asking = true;
    clearTimeout(this.#timer);
    const wait = await this.turn();
    this.#asking = false;
    if (this.#again) {
      this.#again = false;
      this.ask();
    } else if (wait && !document.hidden) {
      this.#timer = setTimeout(() => this.ask(), wait);
    }
  }
}

// One answer; fails with a TimeoutError where it does not come.
export function get(address) {
  return fetch(address, { signal: AbortSignal.timeout(ANSWER_WITHIN_MS) });
}
