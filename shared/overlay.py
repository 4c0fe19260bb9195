"""Draws faces into a picture: box, number or name, emotion and confidence, as the page does.

A face that the model is unsure of gets a dashed box, a colour of its own and the word.

For what leaves Moodline as a picture: snapshots, MJPEG, exported files. The page draws its own
overlay from the same numbers; a test holds both to the same colours. Needs Pillow and nothing
else; `shared.fonts` finds fonts for names.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw

from shared import fonts
from shared.schema import Face

# Bright enough on any picture, and chosen by search so that every two differ in hue or lightness
# under each kind of colour blindness. Labels of other data sets map to these words.
COLOURS = {
    "neutral": "#9799a7",
    "happy": "#f2df38",
    "surprise": "#78fdf1",
    "sad": "#a8bbff",
    "anger": "#ff5514",
    "disgust": "#d7e5b2",
    "fear": "#ac65fd",
    "contempt": "#b08470",
}
_SAME = {
    "happiness": "happy",
    "sadness": "sad",
    "surprised": "surprise",
    "angry": "anger",
    "disgusted": "disgust",
    "fearful": "fear",
}
UNSURE_COLOUR = "#e8eaee"
FALLBACK_COLOURS = ("#8fd3c7", "#e88fb4", "#a4b86e", "#8f9ee8", "#d9a441", "#7fb8d6")
_INK = "#14161b"
_JPEG_QUALITY = 85
_SUPERSAMPLE = 4
_NAME_SHARE = 0.35  # of the picture's width that a name may take


def colour_of(label: str) -> str:
    """The colour of an emotion label as ``#rrggbb``; labels nobody knows share a few spare ones."""
    word = _SAME.get(label.lower(), label.lower())
    spare = FALLBACK_COLOURS[sum(word.encode()) % len(FALLBACK_COLOURS)]
    return COLOURS.get(word, spare)


def annotate_jpeg(jpeg: bytes, faces: Sequence[Face]) -> bytes:
    """The same JPEG picture with the faces drawn in; as it is where there are none.

    Raises OSError for what is no picture.
    """
    if not faces:
        return jpeg
    with Image.open(io.BytesIO(jpeg)) as file:
        picture = file.convert("RGB")
    draw_faces(picture, faces)
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=_JPEG_QUALITY)
    return out.getvalue()


def draw_faces(
    picture: Image.Image, faces: Sequence[Face], names: Mapping[int, str] | None = None
) -> None:
    """Draw boxes and labels into an RGB picture, in place; sizes follow the picture's.

    `names` maps tracks to what they are called; the others are called by their numbers.
    """
    width, height = picture.size
    unit = max(1.0, min(width, height) / 480)
    stroke = max(2, round(2.5 * unit))
    letters = round(17 * unit)
    draw = ImageDraw.Draw(picture)
    for face in faces:
        _draw_box(picture, face, stroke)
    # Labels last and largest face first, so that no box crosses one and none covers another.
    taken: list[tuple[int, int, int, int]] = []
    for face in sorted(faces, key=lambda f: -f.box_xywh[2] * f.box_xywh[3]):
        name = (names or {}).get(face.track, "")
        taken.append(_draw_label(draw, face, name, letters, stroke, (width, height), taken))


def _draw_box(picture: Image.Image, face: Face, stroke: int) -> None:
    x, y, width, height = face.box_xywh
    width, height = max(width, 4 * stroke), max(height, 4 * stroke)
    radius = max(stroke, round(min(width, height) * 0.08))
    across = _dashes(x + radius, x + width - radius, stroke, dashed=face.unsure)
    down = _dashes(y + radius, y + height - radius, stroke, dashed=face.unsure)
    for colour, grow in ((_INK, 1), (_colour(face), 0)):
        box = (x - grow, y - grow, x + width + grow, y + height + grow)
        thick = stroke + 2 * grow
        _rounded_corners(picture, box, radius + grow, thick, colour)
        left, top, right, bottom = box
        draw = ImageDraw.Draw(picture)
        for start, end in across:
            ends = start - grow, end + grow
            draw.rectangle((ends[0], top, ends[1], top + thick - 1), fill=colour)
            draw.rectangle((ends[0], bottom - thick + 1, ends[1], bottom), fill=colour)
        for start, end in down:
            ends = start - grow, end + grow
            draw.rectangle((left, ends[0], left + thick - 1, ends[1]), fill=colour)
            draw.rectangle((right - thick + 1, ends[0], right, ends[1]), fill=colour)


def _colour(face: Face) -> str:
    return UNSURE_COLOUR if face.unsure else colour_of(face.emotion)


def _dashes(start: int, end: int, stroke: int, *, dashed: bool) -> list[tuple[int, int]]:
    """A box's side between its corners: whole, or dashes of some 4 strokes with gaps of 3."""
    if not dashed:
        return [(start, end)]
    count = max(1, round(((end - start) / stroke - 3) / 7))
    unit = (end - start) / (7 * count + 3)
    starts = [start + unit * (7 * i + 3) for i in range(count)]
    return [(round(at), round(at + 4 * unit)) for at in starts]


def _rounded_corners(
    picture: Image.Image, box: tuple[int, int, int, int], radius: int, stroke: int, colour: str
) -> None:
    """A frame's four corners, smooth; Pillow's own round rectangles are jagged."""
    left, top, right, bottom = box
    corner = _corner(radius, stroke)
    flip, mirror = Image.Transpose.FLIP_TOP_BOTTOM, Image.Transpose.FLIP_LEFT_RIGHT
    for at, mask in (
        ((left, top), corner),
        ((right - radius + 1, top), corner.transpose(mirror)),
        ((left, bottom - radius + 1), corner.transpose(flip)),
        ((right - radius + 1, bottom - radius + 1), corner.transpose(flip).transpose(mirror)),
    ):
        picture.paste(colour, (*at, at[0] + radius, at[1] + radius), mask)


@functools.lru_cache(maxsize=256)
def _corner(radius: int, stroke: int) -> Image.Image:
    """Mask of the upper left quarter of a ring."""
    size = radius * _SUPERSAMPLE
    mask = Image.new("L", (size, size), 0)
    draw = ImageDraw.Draw(mask)
    draw.ellipse((0, 0, 2 * size, 2 * size), fill=255)
    inner = stroke * _SUPERSAMPLE
    if inner < size:
        draw.ellipse((inner, inner, 2 * size - inner, 2 * size - inner), fill=0)
    return mask.resize((radius, radius), Image.Resampling.BOX)


def _draw_label(
    draw: ImageDraw.ImageDraw,
    face: Face,
    name: str,
    letters: int,
    stroke: int,
    size_wh: tuple[int, int],
    taken: Sequence[tuple[int, int, int, int]],
) -> tuple[int, int, int, int]:
    """Draw one label above its box, or where there is room; returns what it covers."""
    judged = "Unsure" if face.unsure else f"{face.emotion.capitalize()} {face.confidence:.0%}"
    who, font = fonts.written_in(name, letters)
    room = _NAME_SHARE * size_wh[0]
    if font.getlength(who) > room:
        while who and font.getlength(f"{who}…") > room:
            who = who[:-1].rstrip()
        who += "…"
    text = f"{who or face.track}  {judged}"
    pad = round(font.size * 0.35)
    text_width = round(draw.textlength(text, font=font))
    ascent, descent = font.getmetrics()
    width, height = text_width + 2 * pad, ascent + descent + pad
    x, y, _, face_height = face.box_xywh
    left = max(0, min(x, size_wh[0] - width))
    gap = stroke * 2
    places = [y - height - gap, y + face_height + gap, y + gap, y + face_height - height - gap]
    fitting = [top for top in places if 0 <= top <= size_wh[1] - height] or [0]
    free = [
        top
        for top in fitting
        if not any(_overlap((left, top, left + width, top + height), other) for other in taken)
    ]
    top = (free or fitting)[0]
    box = (left, top, left + width, top + height)
    draw.rounded_rectangle(box, radius=pad, fill=_colour(face), outline=_INK)
    draw.text((left + pad, top + pad / 2), text, font=font, fill=_INK)
    return box


def _overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
