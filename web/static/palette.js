// One colour and one word for each emotion, whatever the model calls it.
//
// `bright` fills (the same as the server draws into pictures); `deep` outlines it on light grounds,
// where some of it would be hard to see. Chosen so that every two differ in hue or lightness under each kind of colour blindness;
// no view relies on colour alone.

import { text } from "./texts.js";

const COLOURS = {
  neutral: { bright: "#9298a4", deep: "#8a909d" },
  happy: { bright: "#f3d35c", deep: "#b8830b" },
  surprise: { bright: "#74e6ec", deep: "#0f7479" },
  sad: { bright: "#8db2f8", deep: "#24419c" },
  anger: { bright: "#f0612b", deep: "#bb3b10" },
  disgust: { bright: "#c4e8a4", deep: "#2c9f5f" },
  fear: { bright: "#b848e8", deep: "#9c35c9" },
  contempt: { bright: "#b9755a", deep: "#5d3a2b" },
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
