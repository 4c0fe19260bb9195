// What is wrong with a feed as this browser sees it, the worst first, with what to do about it.
//
// A finding is {kind, grave, calm, message}: `grave` where what is shown is not live, `calm` where
// that is as it should be (it begins, or was switched off). Whatever comes and
// goes within two seconds is not said, and what was said stays for three: a line that flickers is
// read by nobody. What is certain (no connection, no camera) is said at once.
//
// Not here: how the figures came about (`delay.js`, the server), and showing the finding.

import { number, text, trouble } from "../texts.js";

const SAID_AFTER_S = 2;
const STAYS_S = 3;
const KEEPS_UP = 0.75; // of the pictures that come, at least so many go on
const LOST_PER_S = 0.5; // drops that are worth a word
const LATE_MS = 1000;
const CALM = new Set(["starting", "disabled"]);

export class Diagnosis {
  #said = null;
  #saidAt = -Infinity;
  #suspected = null;
  #since = 0;

  // The finding to show now, or null; `figures` as `find` takes them.
  of(figures, now) {
    const found = find(figures);
    if (found?.kind !== this.#suspected?.kind) this.#since = now;
    this.#suspected = found;
    const certain = found?.grave || found?.calm || now - this.#since >= SAID_AFTER_S;
    if (found && certain) {
      this.#said = found;
      this.#saidAt = now;
    } else if (now - this.#saidAt > STAYS_S) this.#said = null;
    return this.#said;
  }
}

// `feed` as the server describes it; `lostPerS`: drops by reason, of the last seconds; `shownPerS`;
// `mean` as `Delay` tells it; `reduced`: the server sends smaller pictures because the network is
// slow; `health` and `problems` of the page's connection; `settled`: this page has shown the feed for
// so long that its own figures mean something.
export function find({ feed, lostPerS, shownPerS, mean, reduced, health, problems, settled }) {
  const grave = (kind, message) => ({ kind, grave: true, calm: false, message });
  const light = (kind, message) => ({ kind, grave: false, calm: false, message });
  const words = text.truth.wrong;
  if (health === "down" || health === "out") return grave("offline", words.offline);
  const [problem] = problems;
  if (problem) return grave(problem.part, text.problems[problem.part] ?? problem.detail);
  if (health === "slow") return grave("slow", words.slow);
  if (feed.status !== "live") {
    const message = trouble(feed) || words.states[feed.status] || feed.status;
    const calm = CALM.has(feed.status) && !(feed.status === "starting" && feed.error);
    return { kind: feed.status, grave: !calm, calm, message };
  }
  const lost = lostPerS.overrun + lostPerS.stale;
  const busy = lost > LOST_PER_S || feed.fps_analysed < KEEPS_UP * feed.fps_in - LOST_PER_S;
  if (busy && lost > 0) return light("overloaded", words.overloaded(number(lost), number(feed.fps_in)));
  if (feed.degraded) return light("degraded", words.degraded[feed.degraded] ?? words.degraded.skip);
  if (lostPerS.corrupt > 0) return light("corrupt", words.corrupt);
  if (settled && mean) {
    const behind = shownPerS < KEEPS_UP * feed.fps_analysed - LOST_PER_S;
    const took = Object.fromEntries(mean.parts);
    const here = took.paint > (took.network ?? 0);
    const late = mean.ms > LATE_MS;
    const largest = mean.parts.reduce((a, b) => (b[1] > a[1] ? b : a))[0];
    const [shown, analysed] = [number(shownPerS), number(feed.fps_analysed)];
    if (reduced || (behind && !here) || (late && ["network", "publish"].includes(largest))) {
      return light("network", words.network(shown, analysed));
    }
    if (behind || (late && largest === "paint")) return light("browser", words.browser(shown, analysed));
    if (late) return light("late", words.late(text.truth.parts[largest][0]));
  }
  if (feed.fps_in > 0 && feed.fps_in < KEEPS_UP * feed.fps) {
    return light("sparse", words.sparse(number(feed.fps_in), number(feed.fps)));
  }
  return null;
}
