// Every text of the page. A translation is another object with the same keys.

const english = {
  title: "Moodline",
  skip: "Skip to the feeds",
  skipToContent: "Skip to the content",
  pagesLabel: "Pages",
  live: "Live",
  videos: "Videos",
  addFeed: "Add feed",
  theme: { auto: "Theme: as the system", light: "Theme: light", dark: "Theme: dark" },
  logOut: "Log out",
  disclaimer: "A baseline emotion indicator, not a definitive diagnosis.",
  docs: "API",
  noScript: "Moodline's page needs JavaScript.",

  loading: "Connecting …",
  emptyTitle: "Nothing to watch yet",
  emptyText: "Add a webcam, a network camera or a video. Pictures stay on the machines that Moodline runs on.",

  feedsLabel: "Feeds",
  states: {
    starting: "Starting",
    live: "Live",
    stalled: "No pictures",
    reconnecting: "Reconnecting",
    ended: "Ended",
    error: "Cannot open",
  },
  demoTag: "Synthetic demo",
  demoTagTitle: "Made from one public-domain portrait whose face is warped: nobody is being watched.",
  waitingForCapture: "Waiting for the first picture",
  waitingForWorker: "Waiting for the first analysis",
  stalledHelp: "The source is open and sends no pictures. Moodline opens it again by itself.",
  endedHelp: "This source has come to its end.",
  noFaces: "No face in view",
  faceGone: (seconds) => `away ${seconds} s`,
  secondsAgo: (seconds) => `${seconds.toFixed(0)} s ago`,
  ago: (seconds) => (seconds ? `−${seconds} s` : "now"),
  face: (track) => `Face ${track}`,
  moreFaces: (count) => (count === 1 ? "1 more face" : `${count} more faces`),
  facesOf: (name) => `Faces seen by ${name}`,
  chartOf: (track) => `Emotions of face ${track} over the last minute`,
  picture: (name, faces) => `${name}: ${faces || "no face in view"}`,
  pictureFace: (track, word, percent) => `face ${track} ${word} ${percent}`,

  delay: "Delay",
  delayTitle: (parts) => `From camera to this screen, of the last seconds. ${parts}`,
  delayParts: {
    analysis: (ms) => `Until analysed ${ms} ms`,
    sending: (ms) => `until sent ${ms} ms`,
    painting: (ms) => `until painted ${ms} ms.`,
  },
  shown: "Shown",
  shownTitle: "Pictures a second painted in this browser.",
  analysed: "Analysed",
  analysedTitle: (fps) => `Pictures a second analysed, of ${fps} captured.`,
  dropped: "Dropped",
  droppedTitle: (drops) =>
    `Pictures not analysed so that you see new ones: ${drops.overrun} overtaken by newer ones, ` +
    `${drops.stale} too old when their turn came, ${drops.corrupt} damaged.`,
  perSecond: (value) => `${value}/s`,
  unknown: "–",

  remove: (name) => `Remove ${name}`,
  removeTitle: (name) => `Remove “${name}”?`,
  removeText: "Its last pictures and its timeline are deleted. The camera or file itself is not touched.",
  removeYes: "Remove feed",
  cancel: "Cancel",

  addTitle: "Add a feed",
  sourceLabel: "Source",
  sourceHelp: "A webcam's number, a network camera's address, a video file or a folder of images on the machine that captures.",
  examples: [
    ["Webcam", "0"],
    ["RTSP camera", "rtsp://user:password@192.168.1.20/stream"],
    ["Web stream", "http://192.168.1.21/video.mjpg"],
    ["Video file", "/home/me/clip.mp4"],
    ["Demo", "demo"],
  ],
  nameLabel: "Name",
  nameHelp: "Optional: made from the source if you leave it empty.",
  addYes: "Add feed",
  adding: "Adding …",

  linkLost: "The connection to Moodline is lost. This page tries again by itself; what you see is not live.",
  linkSlow: "Moodline does not answer at the moment. What you see may be old.",
  loggedOut: "Your login has ended. Load the page again to log in.",
  requestFailed: "Moodline could not be reached. Check that it still runs, then try again.",
  problems: {
    redis: "Redis does not answer, so nothing is captured or analysed. Start it again; Moodline goes on by itself.",
    capture: "Nothing captures. Start it with “moodline capture”, or everything with “moodline up”.",
    worker: "No worker is running, so pictures are not analysed. Start one with “moodline worker”.",
  },

  emotions: {
    neutral: "Neutral",
    happy: "Happy",
    surprise: "Surprised",
    sad: "Sad",
    anger: "Angry",
    disgust: "Disgusted",
    fear: "Afraid",
    contempt: "Contempt",
  },
};

export const text = english;

// Fill every element that names a text: data-text for its content, data-label for its aria-label.
export function fill(root) {
  for (const element of root.querySelectorAll("[data-text]")) {
    element.textContent = text[element.dataset.text];
  }
  for (const element of root.querySelectorAll("[data-label]")) {
    element.setAttribute("aria-label", text[element.dataset.label]);
  }
}

export function percent(share) {
  return `${Math.round(share * 100)} %`;
}
