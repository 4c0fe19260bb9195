// This browser's camera as a feed: grabs pictures and sends them, the next one only when the last
// one has been taken, so that nothing queues and a slow line means fewer pictures, not older ones.
//
// After a lost connection it makes itself a new feed. It ends when it is stopped, when the device
// is gone, and when Moodline says that its feed is over.

const LONGEST_PX = 1280; // larger pictures would cost their time on the way, and find no more faces
const RETRY_MS = 500;
const REFUSED_MS = 1000; // between pictures while Moodline refuses them

const encoder = new Worker(new URL("./encoder.js", import.meta.url));
const asked = new Map(); // id of a question -> what to do with its answer
encoder.addEventListener("message", ({ data }) => {
  asked.get(data.id)(data);
  asked.delete(data.id);
});
let questions = 0;

function encode(question, transfer = []) {
  const id = ++questions;
  return new Promise((resolve) => {
    asked.set(id, resolve);
    encoder.postMessage({ id, ...question }, transfer);
  });
}

export class Camera {
  #link;
  #onChange;
  #stream = null;
  #name = "";
  #video = document.createElement("video");
  #entered = null; // {session, feed, fps, width}, as long as that connection lasts

  // `onChange(problem)` is called when the camera goes on or off; `problem`: "lost" or "removed".
  constructor(link, onChange) {
    this.#link = link;
    this.#onChange = onChange;
    this.#video.muted = true;
    this.#video.playsInline = true;
    addEventListener("pagehide", () => this.stop());
  }

  get on() {
    return this.#stream !== null;
  }

  // The id of its feed; none while it is off.
  get feed() {
    return this.#entered?.feed;
  }

  // Send what a stream shows. Answers the server's answer; null where none came. The stream is
  // this camera's from then on if that answer is a yes.
  async start(stream, name) {
    this.#name = name;
    await this.#link.settled();
    const answer = await this.#enter();
    if (!answer?.ok) return answer;
    const [track] = stream.getVideoTracks();
    if (track.readyState !== "live") {
      // Unplugged or given back while the answer was on its way.
      this.#entered = null;
      this.#link.ask("camera_stop", {});
      return { ok: false, error: "" };
    }
    this.#stream = stream;
    track.addEventListener("ended", () => {
      if (this.#stream === stream) this.stop("lost");
    });
    this.#video.srcObject = stream;
    this.#onChange("");
    this.#send(stream);
    return answer;
  }

  stop(problem = "") {
    if (!this.#stream) return;
    for (const track of this.#stream.getTracks()) track.stop();
    this.#stream = null;
    this.#entered = null;
    this.#video.srcObject = null;
    if (problem !== "removed") this.#link.ask("camera_stop", {});
    this.#onChange(problem);
  }

  async #enter() {
    const { session } = this.#link;
    const answer = await this.#link.ask("camera_start", { name: this.#name || null });
    if (answer?.ok) this.#entered = { ...answer, session };
    return answer;
  }

  async #send(stream) {
    const goesOn = () => this.#stream === stream;
    await this.#video.play().catch(() => {});
    let due = performance.now();
    while (goesOn()) {
      const pause = await this.#sendOne(goesOn);
      due = Math.max(due + pause, performance.now());
      await encode({ pause: due - performance.now() });
    }
  }

  // Send one picture; answers how many milliseconds after this one the next is due.
  async #sendOne(goesOn) {
    if (!this.#entered || this.#entered.session !== this.#link.session) {
      this.#entered = null; // the feed went with its connection
      const answer = await this.#enter();
      if (answer?.ok && !goesOn()) this.#link.ask("camera_stop", {});
      if (!answer?.ok || !goesOn()) return RETRY_MS;
    }
    const bitmap = await createImageBitmap(this.#video).catch(() => null);
    if (!bitmap || !goesOn()) return RETRY_MS; // no picture yet
    const { fps, width, session } = this.#entered;
    const capturedAt = this.#link.now();
    const { jpeg } = await encode({ bitmap, longest: Math.min(width, LONGEST_PX) }, [bitmap]);
    if (!goesOn()) return 0;
    const answer = await this.#link.ask("camera_frame", { captured_at: capturedAt }, jpeg);
    const sameConnection = session === this.#link.session;
    if (answer?.ended && sameConnection && goesOn()) this.stop("removed");
    return answer?.ok ? 1000 / fps : REFUSED_MS;
  }
}
