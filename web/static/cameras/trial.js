// The first picture of a source that is about to be saved. It is in this page's memory only.

import { text, trouble } from "../texts.js";

export class Trial {
  #image;
  #said;
  #button;
  #asked = null; // what aborts the question that is under way
  #url = "";

  // `source()` is what to try; `complain(detail, field)` is told why there is no picture, and null
  // when the next question begins.
  constructor(element, source, complain) {
    this.#image = element.querySelector("img");
    this.#said = element.querySelector(".trial-said");
    this.#button = element.querySelector(".trial-ask");
    this.#button.addEventListener("click", () => this.#ask(source(), complain));
  }

  // Forget the picture: it is of another source, or of nobody's business any more.
  reset() {
    this.#asked?.abort();
    this.#asked = null;
    this.#show("", text.cameras.testHint);
  }

  async #ask(source, complain) {
    this.reset();
    complain(null);
    const asked = (this.#asked = new AbortController());
    this.#show("", text.cameras.testing, true);
    const answer = await fetch("/api/feeds/test", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ source }),
      signal: asked.signal,
    }).catch(() => null);
    const found = await (answer?.ok ? answer.blob() : answer?.json())?.catch(() => null);
    if (this.#asked !== asked) return;
    if (answer?.ok && found) {
      const feed = answer.headers.get("Moodline-Feed");
      const name = feed && (await nameOf(feed));
      if (this.#asked !== asked) return;
      const words = feed ? text.cameras.testedFeed(name ?? feed) : text.cameras.tested;
      this.#show(URL.createObjectURL(found), words);
    } else {
      this.#show("", text.cameras.noPicture);
      const why = found?.detail && trouble({ ...found, error: found.detail });
      complain(why || text.requestFailed, found?.field);
    }
    this.#asked = null;
  }

  #show(url, words, busy = false) {
    URL.revokeObjectURL(this.#url);
    this.#url = url;
    if (url) this.#image.src = url;
    else this.#image.removeAttribute("src");
    this.#image.alt = url ? text.cameras.testedAlt : "";
    this.#image.hidden = !url;
    this.#said.textContent = words;
    // Not disabled: it would lose the focus.
    this.#button.setAttribute("aria-disabled", String(busy));
    this.#button.closest(".trial").classList.toggle("busy", busy);
  }
}

async function nameOf(feed) {
  const answer = await fetch(`/api/feeds/${feed}`).catch(() => null);
  return answer?.ok ? (await answer.json()).name : null;
}
