"""A clip with its frames' numbers burnt in, as a camera would send it, and how to read them again.

Each frame has its number as ten large squares, black or white, along its upper edge, and somewhere
below, at a place that follows from the number, a chequered square: the face. So the pixels of a
painted picture tell which frame it is of, and where its overlay has to be.
"""

from __future__ import annotations

import functools
import io
from pathlib import Path

import av
import numpy as np
from PIL import Image

from shared.schema import Face
from tests.web.studio import face, square_at

FRAMES = 150
BITS = 10
_SIZE_WH = (640, 480)
_DIGIT_PX = 64
_SIDE = 120

# In the page: the number that is painted, and whether a box's colour runs down both sides of the
# place where that frame's face is. `READ` is a function of a canvas.
READ = """
(canvas) => {
  const { width, height } = canvas;
  const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
  const scale = width / 640;
  const at = (x, y) => {
    const i = 4 * (Math.round(y * scale) * width + Math.round(x * scale));
    return [data[i], data[i + 1], data[i + 2]];
  };
  let number = 0;
  for (let bit = 0; bit < 10; bit++) {
    const [r] = at(64 * bit + 32, 16);
    if (r > 128) number |= 1 << bit;
  }
  const [x, y] = [40 + (37 * number) % 400, 60 + (23 * number) % 240];
  const coloured = (px, py) => {
    for (let d = -6; d <= 6; d++) {
      const [r, g, b] = at(px + d, py);
      if (Math.max(r, g, b) - Math.min(r, g, b) >= 24) return true;
    }
    return false;
  };
  const framed = [0.3, 0.5, 0.7].every(
    (part) => coloured(x, y + 120 * part) && coloured(x + 120, y + 120 * part));
  return { number, framed };
}
"""


def write(path: Path) -> None:
    """Write the clip as H.264, 15 frames a second."""
    rng = np.random.default_rng(5)
    ground = rng.integers(60, 110, (_SIZE_WH[1] // 4, _SIZE_WH[0] // 4), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=15, options={"crf": "12", "preset": "ultrafast"}
        )
        stream.width, stream.height = _SIZE_WH
        stream.pix_fmt = "yuv420p"
        for number in range(FRAMES):
            grey = np.kron(np.roll(ground, number, 1), np.ones((4, 4), np.uint8))
            for bit in range(BITS):
                on = 255 if number >> bit & 1 else 0
                grey[:32, bit * _DIGIT_PX : (bit + 1) * _DIGIT_PX] = on
            x, y, width, height = square_at(number)
            chequer = np.indices((height, width)).sum(0) // 12 % 2 * 255
            grey[y : y + height, x : x + width] = chequer
            frame = av.VideoFrame.from_ndarray(np.stack([grey] * 3, -1), "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@functools.cache
def _jpegs(path: Path) -> tuple[bytes, ...]:
    with av.open(str(path)) as container:
        pictures = [
            Image.fromarray(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)
        ]
    jpegs = []
    for picture in pictures:
        out = io.BytesIO()
        picture.save(out, "JPEG", quality=80)
        jpegs.append(out.getvalue())
    return tuple(jpegs)


class Clip:
    """A scene for `Studio`: the clip's frames in turn, each with its one face."""

    def __init__(self, path: Path) -> None:
        self._jpegs = _jpegs(path)

    def __call__(self, index: int) -> tuple[bytes, tuple[Face, ...]]:
        number = index % FRAMES
        return self._jpegs[number], (face(1, square_at(number), index / 15),)


def contrast(picture: Image.Image, number: int) -> float:
    """How much of the chequers can still be seen where the face of that frame is, 0 to 255."""
    x, y, width, height = square_at(number)
    scale = picture.width / _SIZE_WH[0]
    left, right = round((x + 20) * scale), round((x + width - 20) * scale)
    top, bottom = round((y + 20) * scale), round((y + height - 20) * scale)
    grey = np.asarray(picture.convert("L"), dtype=np.float64)[top:bottom, left:right]
    return float(np.abs(np.diff(grey, axis=1)).mean())


def number_in(picture: Image.Image) -> int:
    """The number burnt into a picture."""
    scale = picture.width / _SIZE_WH[0]
    grey = np.asarray(picture.convert("L"))
    places = [round((_DIGIT_PX * bit + 32) * scale) for bit in range(BITS)]
    return sum(1 << bit for bit, x in enumerate(places) if grey[round(16 * scale), x] > 128)
