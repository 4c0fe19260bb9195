// One file on its way to the server, by the tus protocol: it can pause, and goes on where it was
// cut off, by itself after a lost connection, after a reload once the same file is chosen again.
//
// tus-js-client keeps each upload's address in the browser's storage under the file's name, size
// and a digest of its ends, so that a later page finds it again. Not under its date: a phone hands
// over a fresh copy each time a video is chosen.

import { text } from "../texts.js";

const ENDPOINT = "/api/uploads";
const CHUNK_BYTES = 32 * 1024 * 1024; // what a proxy on the way may want to hold whole
const WAITS_MS = [500, 1000, 2000, 5000, 10_000];
const FULL = 507;
const PASSING = [408, 409, 423, 429, 500, 502, 503, 504, FULL]; // refusals that may not last
const OUT_OF_STEP = [409, 423]; // asking where to go on mends it: nothing to tell anybody
const GONE = [404, 410];
const OVER = [...GONE, 422]; // 422: all had arrived, and was no video
const END_BYTES = 64 * 1024;
const PREFIX = "moodline-";
const RATE_OVER_MS = 6000;
const { tus } = window;
const storage = tus.defaultOptions.urlStorage;

// What tells files apart. The prefix keeps it from other uses of the storage.
async function fingerprintOf(file) {
  const ends = [file.slice(0, END_BYTES), file.slice(Math.max(END_BYTES, file.size - END_BYTES))];
  const bytes = new Uint8Array(await new Blob(ends).arrayBuffer());
  let digest = 0x811c9dc5; // FNV-1a, 32 bits: the browser's own digests exist on https only
  for (const byte of bytes) digest = Math.imul(digest ^ byte, 0x01000193);
  return `${PREFIX}${file.size}-${(digest >>> 0).toString(16)}-${file.name}`;
}

// Uploads that an earlier page began and that the server still waits for: [{previous, sent}]. Not
// those that another tab is sending, where the browser can tell (it can on https and localhost).
export async function unfinished() {
  const stored = await storage.findAllUploads();
  const elsewhere = (await navigator.locks?.query())?.held.map(({ name }) => name) ?? [];
  const ours = stored.filter(
    ({ urlStorageKey, uploadUrl }) =>
      urlStorageKey.startsWith(`tus::${PREFIX}`) && !elsewhere.includes(uploadUrl),
  );
  const found = await Promise.all(
    ours.map(async (previous) => ({ previous, sent: await arrived(previous) })),
  );
  return found.filter(({ sent }) => sent !== null);
}

// How many bytes of it the server has; null where it has forgotten or refused it, or has it all.
async function arrived({ uploadUrl, urlStorageKey }) {
  const headers = { "Tus-Resumable": "1.0.0" };
  const answer = await fetch(uploadUrl, { method: "HEAD", headers }).catch(() => null);
  if (OVER.includes(answer?.status) || answer?.headers.has("Moodline-Video")) {
    storage.removeUpload(urlStorageKey);
    return null;
  }
  return Number(answer?.headers.get("Upload-Offset") ?? 0);
}

// States: "absent" (its file has to be chosen again), "waiting" (for its turn), "sending",
// "paused", "lost" (tries again by itself), "checking" (all is there, the server reads it),
// "refused" (with the reason in `error`), "sent" (`video` is its id), "cancelled".
export class Upload {
  static #count = 0;
  key = `upload-${++Upload.#count}`;
  state = "waiting";
  error = "";
  isAnswered = false; // while "lost": by a refusal that may not last
  video = null;
  finishedAt = 0;
  #file = null;
  #tus = null;
  #previous = null;
  #onChange;
  #tries = 0;
  #timer = 0;
  #release = () => {}; // the lock that tells other tabs that this one sends it
  #marks = []; // [time, bytes] of the last seconds, for the rate

  // Of a file, or, with `previous` and how much of it was `sent`, of one still to be chosen again.
  constructor({ file = null, options: wanted = {}, previous = null, sent = 0 }, onChange) {
    this.#onChange = onChange;
    this.#previous = previous;
    this.sent = sent;
    if (previous) {
      const { filename: name, ...options } = previous.metadata;
      Object.assign(this, { name, size: previous.size, options, state: "absent" });
    } else {
      Object.assign(this, { name: file.name, size: file.size, options: wanted });
      this.#file = file;
    }
  }

  // Whether this is the upload of that file, whoever chose it. NotReadableError where the file has
  // gone.
  async isOf(file) {
    if (file.name !== this.name || file.size !== this.size) return false;
    const fingerprint = await fingerprintOf(file);
    if (this.#file) return fingerprint === (await fingerprintOf(this.#file).catch(() => ""));
    return this.#previous.urlStorageKey.startsWith(`tus::${fingerprint}::`);
  }

  // The file of an upload that an earlier page began.
  take(file) {
    this.#file = file;
    this.#set("waiting");
  }

  get isUnderWay() {
    return this.state === "sending" || this.state === "lost" || this.state === "checking";
  }

  // Bytes a second over the last seconds, 0 while nothing is known.
  get rate() {
    if (this.state !== "sending" || this.#marks.length < 2) return 0;
    const [[t0, b0], [t1, b1]] = [this.#marks[0], this.#marks.at(-1)];
    return t1 > t0 ? ((b1 - b0) / (t1 - t0)) * 1000 : 0;
  }

  start() {
    this.#tus ??= this.#make();
    this.#marks = [];
    this.#set("sending");
    this.#tus.start();
  }

  pause() {
    clearTimeout(this.#timer);
    this.#tus?.abort();
    this.#set("paused");
  }

  // Back into the queue, after a pause or a refusal.
  resume() {
    this.#tries = 0;
    this.#set("waiting");
  }

  // Stop, and have the server throw away what it has.
  async cancel() {
    clearTimeout(this.#timer);
    this.state = "cancelled";
    this.#release();
    const address = this.#tus?.url ?? this.#previous?.uploadUrl;
    if (this.#previous) storage.removeUpload(this.#previous.urlStorageKey);
    await this.#tus?.abort();
    // Where the server cannot be reached, what it has expires by itself.
    if (address && !this.video) await tus.Upload.terminate(address).catch(() => {});
  }

  // The connection is back: do not wait any longer.
  hurry() {
    if (this.state === "lost") this.#retry(0);
  }

  #make() {
    const upload = new tus.Upload(this.#file, {
      endpoint: ENDPOINT,
      chunkSize: CHUNK_BYTES,
      metadata: { filename: this.name, ...this.options },
      fingerprint: fingerprintOf,
      removeFingerprintOnSuccess: true,
      retryDelays: null, // waiting has a state of its own here
      onAfterResponse: (request, answer) => {
        // The client takes any 4xx to mean that the upload is gone, and would begin anew.
        const status = answer.getStatus();
        if (request.getMethod() !== "HEAD" || status < 400 || GONE.includes(status)) return;
        throw Object.assign(new Error("not now"), { status });
      },
      onUploadUrlAvailable: () => this.#hold(),
      onProgress: (sent) => this.#progress(sent),
      onSuccess: ({ lastResponse }) => this.#done(lastResponse.getHeader("Moodline-Video")),
      onError: (error) => this.#failed(error),
    });
    if (this.#previous) upload.resumeFromPreviousUpload(this.#previous);
    return upload;
  }

  #hold() {
    this.#release();
    navigator.locks?.request(this.#tus.url, () => new Promise((done) => (this.#release = done)));
  }

  #progress(sent) {
    if (this.state !== "sending" && this.state !== "checking") return;
    const now = performance.now();
    if (sent > this.sent) this.#tries = 0;
    this.sent = sent;
    this.#marks.push([now, sent]);
    while (now - this.#marks[0][0] > RATE_OVER_MS) this.#marks.shift();
    this.#set(sent === this.size ? "checking" : "sending");
  }

  #done(video) {
    this.#release();
    this.video = video;
    this.finishedAt = performance.now();
    this.sent = this.size;
    this.#set("sent");
  }

  async #failed(error) {
    const status = error.originalResponse?.getStatus() ?? error.causingError?.status ?? 0;
    const detail = detailOf(error.originalResponse?.getBody());
    const readable = await isReadable(this.#file);
    if (!this.isUnderWay) return; // paused or cancelled: that itself cut the request off
    if (status === 0 && !readable) {
      this.#set("refused", text.upload.unreadable);
    } else if (status === 0 || PASSING.includes(status)) {
      this.isAnswered = status !== 0;
      this.#set("lost", OUT_OF_STEP.includes(status) ? "" : detail);
      const wait = WAITS_MS[Math.min(this.#tries++, WAITS_MS.length - 1)];
      // A disk stays full for longer than a server is away: it says for how long.
      const told = status === FULL && error.originalResponse.getHeader("Retry-After");
      this.#retry(told ? Number(told) * 1000 : wait);
    } else if (status === 401) {
      this.#set("paused", text.upload.loggedOut);
    } else {
      const reason = detail || (await this.#reason()) || text.upload.refusedWithout(status);
      await this.#forget();
      this.#set("refused", reason);
    }
  }

  // Why the server refused it, where only HEAD was answered, which has no words: a piece of nothing
  // is refused with them.
  async #reason() {
    if (!this.#tus?.url) return "";
    const headers = {
      "Tus-Resumable": "1.0.0",
      "Upload-Offset": String(this.size),
      "Content-Type": "application/offset+octet-stream",
    };
    const answer = await fetch(this.#tus.url, { method: "PATCH", headers }).catch(() => null);
    return detailOf(await answer?.text());
  }

  #retry(wait) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.start(), wait);
  }

  // What was refused must not be taken up again by the next page.
  async #forget() {
    this.#release();
    const stored = await storage.findUploadsByFingerprint(await fingerprintOf(this.#file));
    for (const { urlStorageKey } of stored) storage.removeUpload(urlStorageKey);
    this.#previous = null;
    this.#tus = null;
  }

  #set(state, error = "") {
    this.state = state;
    this.error = error;
    this.#onChange(this);
  }
}

// A file that was moved or changed since it was chosen fails like a lost connection does.
function isReadable(file) {
  const read = file.slice(0, 1).arrayBuffer();
  return read.then(
    () => true,
    () => false,
  );
}

// A problem's own sentence; "" where there is none, or something on the way answered otherwise.
function detailOf(body) {
  try {
    return JSON.parse(body).detail ?? "";
  } catch {
    return "";
  }
}
