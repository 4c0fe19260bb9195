// One colour and one word for each emotion, whatever the model calls it.
//
// `bright` fills (the same as the server draws into pictures), and dark words can be read on it;
// `deep` outlines it on light grounds, where some of it would be hard to see. Found by search: any
// two differ by 16 or more (CIEDE2000) for everybody and under each kind of colour blindness, which
// a test holds. No view relies on colour alone.

import { text } from "./texts.js";

const COLOURS = {
  neutral: { bright: "#9799a7", deep: "#8b8eaa" },
  happy: { bright: "#f2df38", deep: "#c87c0b" },
  surprise: { bright: "#78fdf1", deep: "#1d6d6e" },
  sad: { bright: "#a8bbff", deep: "#0d278a" },
  anger: { bright: "#ff5514", deep: "#a7390d" },
  disgust: { bright: "#d7e5b2", deep: "#27a27e" },
  fear: { bright: "#ac65fd", deep: "#aa2de9" },
  contempt: { bright: "#b08470", deep: "#4e3832" },
};
const SAME = {
  happiness: "happy",
  sadness: "sad",
  surprised: "surprise",
  angry: "anger",
  disgusted: "disgust",
  fearful: "fear",
};
const UNSURE = { bright: "#e8eaee", deep: "#5b6270" };
const SPARE = ["#8fd3c7", "#e88fb4", "#a4b86e", "#8f9ee8", "#d9a441", "#7fb8d6"];

const known = (label) => SAME[label.toLowerCase()] ?? label.toLowerCase();

export function colourOf(label, shade = "bright") {
  const word = known(label);
  if (COLOURS[word]) return COLOURS[word][shade];
  const sum = [...new TextEncoder().encode(word)].reduce((a, b) => a + b, 0);
  return SPARE[sum % SPARE.length];
}

// The same two for a face: what the model is unsure of shows no emotion's colour and word.
export function colourOfFace({ emotion, unsure }, shade = "bright") {
  return unsure ? UNSURE[shade] : colourOf(emotion, shade);
}

export function wordForFace({ emotion, unsure }) {
  return unsure ? text.unsure : wordFor(emotion);
}

export function wordFor(label) {
  return text.emotions[known(label)] ?? label.charAt(0).toUpperCase() + label.slice(1);
}
