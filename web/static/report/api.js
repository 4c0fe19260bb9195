// Questions to Moodline's API, and its refusals in its own words.

import { text } from "../texts.js";

// `detail` says what was wrong and what to do; `status` is 0 where nothing answered.
export class Refusal extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
    this.detail = detail;
  }
}

// The answer's JSON; null where it has none. Raises Refusal.
export async function ask(address, { method = "GET", body } = {}) {
  const answer = await fetch(address, {
    method,
    ...(body && {
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    }),
  }).catch(() => null);
  if (!answer) throw new Refusal(0, text.requestFailed);
  const content = await answer.json().catch(() => null);
  if (answer.ok) return content;
  const lost = answer.status === 401 ? text.loggedOut : text.requestFailed;
  throw new Refusal(answer.status, content?.detail ?? lost);
}

// A file that is made when first asked for. Resolves when it can be fetched; `onProgress(share)` is
// called until then. Raises Refusal where it cannot be made.
export async function made(address, onProgress) {
  for (;;) {
    const stop = new AbortController();
    const answer = await fetch(address, {
      headers: { Range: "bytes=0-0" },
      signal: stop.signal,
    }).catch(() => null);
    if (!answer) throw new Refusal(0, text.requestFailed);
    if (answer.ok && answer.status !== 202) {
      stop.abort(); // it is there; whoever wants it fetches it
      return;
    }
    const content = await answer.json().catch(() => null);
    if (!answer.ok) throw new Refusal(answer.status, content?.detail ?? text.requestFailed);
    onProgress(content?.progress ?? 0);
    await pause(Number(answer.headers.get("Retry-After")) || 1);
  }
}

export function pause(seconds) {
  return new Promise((resolve) => setTimeout(resolve, seconds * 1000));
}
