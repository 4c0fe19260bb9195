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

  report: {
    title: (name) => `${name} · Moodline`,
    skip: "Skip to the report",
    back: "All videos",
    loading: "Loading the report …",
    gone: "This video is not here (any more). It may have been deleted, or its time of keeping is over.",
    honest:
      "Moodline reads facial expressions, picture by picture. An expression is not an emotion: people " +
      "smile when they are embarrassed and frown when they think. Read shares and moments as a guide to " +
      "where to look, then look.",
    help: "Keyboard and help",
    moreFacts: "Facts",

    // The line under the name
    frames: (analysed, total) => (analysed === total ? `all ${total} frames analysed` : `${analysed} of ${total} frames analysed`),
    fps: (fps) => `${fps} frames/s`,
    sampled: (fps) => `${fps} frames/s analysed`,
    size: (width, height) => `${width} × ${height}`,
    peopleCount: (count) => (count === 1 ? "1 person" : `${count} people`),
    part: (from, to) => `only ${from} to ${to} analysed`,
    model: (name, version) => `model ${name} ${version}`,

    // Before there is a report
    queued: "Waiting its turn",
    queuedText: "Other work goes first. The analysis starts by itself; this page shows it.",
    running: "Being analysed",
    runningText: "You can close this page: the work goes on without it.",
    progress: (done, total) => (total ? `${done} of ${total} frames` : `${done} frames`),
    left: (time) => `about ${time} left`,
    finishing: "following people and writing the report …",
    cancelAnalysis: "Cancel the analysis",
    cancelling: "Cancelling …",
    cancelled: "Analysis cancelled",
    cancelledText: "Nothing more is done with this video until you start it again. The uploaded file is kept.",
    failed: "The analysis failed",
    failedPart: "The analysis failed in part. What was found until then is shown.",
    retry: "Try again",
    startAgain: "Start again",
    noFaces: "No faces were found",
    noFacesText: (frames) => `${frames} frames were looked at. Faces are found from about 40 pixels on, turned up to about 45°.`,
    endedEarly: (why) => `The file ends early: ${why}`,
    missing: (count) => (count === 1 ? "1 frame could not be decoded and is left out." : `${count} frames could not be decoded and are left out.`),
    updating: "Updating the report …",
    lost: "Moodline does not answer. This page tries again by itself.",

    // Video
    video: "Video",
    play: "Play",
    pause: "Pause",
    frameBack: "One frame back",
    frameOn: "One frame on",
    speed: "Speed",
    mute: "Sound off",
    unmute: "Sound on",
    noSound: "No sound",
    fullscreen: "Full screen",
    seekBar: "Position in the video",
    position: (now, all) => `${now} of ${all}`,
    layers: "Overlay",
    boxes: "Boxes",
    names: "Names",
    emotions: "Emotions",
    copyLink: "Copy link to this moment",
    copied: (time) => `Link to ${time} copied`,
    copyByHand: "Copy this link",
    makingPreview: "This browser cannot play the file as it is. Moodline makes a copy that it can play.",
    noVideo: "The video cannot be played in this browser. The report below is complete.",
    facesNow: (faces) => faces || "no face in view",
    faceNow: (name, word, percent) => `${name} ${word} ${percent}`,

    // People
    people: "People",
    person: (id) => `Person ${id}`,
    rename: (name) => `Rename ${name}`,
    nameField: (name) => `Name of ${name}`,
    seen: (time, share) => `seen ${time} (${share})`,
    unsure: "Unsure",
    unsureHelp: (percent) => `Unsure: no emotion reached ${percent}.`,
    away: "not in view",
    moments: "Strongest moments",
    moment: (word, percent, time) => `${word} ${percent} at ${time}`,
    more: "More",
    showBrief: (count) => (count === 1 ? "Show 1 more person, seen briefly" : `Show ${count} more people, seen briefly`),
    showFewer: "Show fewer",
    dragHint: "Are two of them the same person? Drag one card onto the other, or use Merge.",
    merge: "Merge …",
    mergeTitle: (name) => `Who is the same person as ${name}?`,
    mergeText: "Their pictures and figures become one person's. You can take it back at any time.",
    mergeInto: (name) => `Same person as ${name}`,
    notTogether: "in one picture with them, so another person",
    refusedTogether: (a, b) => `${a} and ${b} are seen in one picture, so they are not one person.`,
    mergeOnlyOne: "There is nobody else in this video.",
    merged: (from, into) => `${from} is now part of ${into}.`,
    separated: (name) => `${name} is a person of their own again.`,
    separate: (name) => `Take ${name} out again`,
    madeOf: (numbers) => `with ${numbers}`,
    undo: "Undo",
    close: "Close",
    renamed: (from, to) => `${from} is now called ${to}.`,

    // Timeline
    timeline: "Timeline",
    stacked: "Shares",
    lines: "Lines",
    compare: "Compare people",
    shownAs: "Shown as",
    chooseEmotions: "Emotions shown",
    chooseEmotion: "Emotion compared",
    all: "All",
    onlyThis: "Double-click for this one alone",
    patterns: "Patterns",
    zoomIn: "Zoom in",
    zoomOut: "Zoom out",
    zoomAll: "Whole video",
    table: "Table",
    presence: "When each person is seen",
    zoomHint: "Click to go there. Drag to zoom into a part, double-click for the whole. Ctrl + wheel zooms, Shift + wheel moves.",
    touchHint: "Tap to go there. Pinch to zoom, drag to move.",
    resolution: (time) => `One point is the mean of ${time}.`,
    chartOf: (name) => `Emotions of ${name} over time`,
    compareChart: (word) => `${word} of all people over time`,
    notSeen: "not in view",
    tableOf: (name, from, to) => `${name}: mean of each emotion from ${from} to ${to}`,
    tableCompare: (word, from, to) => `${word}: mean of each person from ${from} to ${to}`,
    time: "Time",

    // Downloads
    download: "Download",
    json: "All data",
    jsonHelp: "JSON: every frame, every face, every score",
    csv: "Table",
    csvHelp: "CSV: one row a face a frame",
    annotated: "Annotated video",
    annotatedHelp: "MP4 with boxes, names and emotions",
    blurred: "Annotated video, faces blurred",
    blurredHelp: "MP4 to show to others",
    summary: "Summary",
    summaryHelp: "PDF: one page with timelines",
    making: (percent) => `being made: ${percent}`,
    made: "downloaded",
    notMade: "could not be made",
    print: "Print",
    printHelp: "This page on paper",

    // Help
    helpTitle: "Keyboard",
    keys: [
      ["Space", "Play or pause"],
      ["← →", "One frame back or on"],
      ["Shift + ← →", "Five seconds back or on"],
      ["Home End", "To the start or the end"],
      ["↑ ↓", "Previous or next person"],
      ["N", "Name the person"],
      ["M", "Merge the person with another"],
      ["+ − 0", "Zoom the timeline in, out, to all"],
      ["S", "Next kind of chart"],
      ["T", "Table instead of charts"],
      ["L", "Copy a link to this moment"],
      ["F", "Full screen"],
      ["?", "This help"],
    ],
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

const named = (path) => path.split(".").reduce((texts, key) => texts[key], text);

// Fill every element that names a text: data-text for its content, data-label for its aria-label.
// "a.b" is text b of page a.
export function fill(root) {
  for (const element of root.querySelectorAll("[data-text]")) {
    element.textContent = named(element.dataset.text);
  }
  for (const element of root.querySelectorAll("[data-label]")) {
    element.setAttribute("aria-label", named(element.dataset.label));
  }
}

export function percent(share) {
  return `${Math.round(share * 100)} %`;
}
