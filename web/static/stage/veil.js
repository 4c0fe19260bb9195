// Hides faces in a picture: each is painted over with a few coarse squares of its own mean colours,
// with room around it, so that nobody can be told from it. Only faces that were found can be hidden.

const MARGIN = 0.3; // of the face's size, on each side
const SQUARES = 4; // across a face: its light and colour, and none of its features
const SQUARES_MOST = 6; // with the room around it

const small = document.createElement("canvas").getContext("2d", { willReadFrequently: true });

// `source` is the untouched picture that is painted in `context`, `scale` canvas pixels for each
// pixel of the meta's picture; `boxes` are [x, y, width, height] there.
export function hideFaces(context, source, boxes, scale, [pictureWidth, pictureHeight]) {
  const ratio = source.width / pictureWidth; // a reduced picture is smaller than its meta says
  for (const [x, y, width, height] of boxes) {
    const left = Math.max(0, x - width * MARGIN);
    const top = Math.max(0, y - height * MARGIN);
    const right = Math.min(pictureWidth, x + width * (1 + MARGIN));
    const bottom = Math.min(pictureHeight, y + height * (1 + MARGIN));
    if (right <= left || bottom <= top) continue;
    const across = squares(right - left, width);
    const down = squares(bottom - top, height);
    small.canvas.width = across;
    small.canvas.height = down;
    small.imageSmoothingQuality = "high";
    small.drawImage(
      source,
      left * ratio,
      top * ratio,
      (right - left) * ratio,
      (bottom - top) * ratio,
      0,
      0,
      across,
      down,
    );
    context.imageSmoothingEnabled = false;
    context.drawImage(
      small.canvas,
      left * scale,
      top * scale,
      (right - left) * scale,
      (bottom - top) * scale,
    );
    context.imageSmoothingEnabled = true;
  }
}

function squares(length, faceLength) {
  return Math.max(1, Math.min(SQUARES_MOST, Math.round((SQUARES * length) / faceLength)));
}
