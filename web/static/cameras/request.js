// One question to the API and what became of it.

import { text } from "../texts.js";

// {ok, body} or {ok: false, detail, field, status}: what was wrong, with what to do about it.
export async function request(method, address, body) {
  const headers = { "Content-Type": "application/json" };
  const answer = await fetch(address, { method, headers, body: JSON.stringify(body) }).catch(() => null);
  const said = await answer?.json().catch(() => null);
  if (answer?.ok) return { ok: true, body: said };
  return {
    ok: false,
    status: answer?.status,
    detail: said?.detail ?? text.requestFailed,
    field: said?.field,
  };
}
