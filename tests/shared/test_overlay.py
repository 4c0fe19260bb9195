from __future__ import annotations

import io
import re

import pytest
from PIL import Image

from shared import overlay
from shared.config import PROJECT_DIR
from shared.schema import Face
from tests import builders


def rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def grey(width: int = 640, height: int = 480) -> Image.Image:
    return Image.new("RGB", (width, height), (100, 100, 100))


def changed(picture: Image.Image, box: tuple[int, int, int, int]) -> bool:
    """Whether anything but grey is inside (left, top, right, bottom)."""
    return [colour for _, colour in picture.crop(box).getcolors(1 << 24) or []] != [(100, 100, 100)]


def face(box_xywh: tuple[int, int, int, int], emotion: str = "happy", track: int = 1) -> Face:
    return Face(track, box_xywh, emotion, 0.8, {emotion: 0.8, "other": 0.2})


def test_the_box_is_drawn_where_the_face_is_and_leaves_it_visible() -> None:
    picture = grey()
    overlay.draw_faces(picture, [face((200, 150, 120, 160))])
    colour = rgb(overlay.colour_of("happy"))
    assert picture.getpixel((200, 230)) == colour
    assert picture.getpixel((319, 230)) == colour
    assert picture.getpixel((260, 309)) == colour
    assert not changed(picture, (210, 160, 310, 300))
    assert changed(picture, (200, 100, 320, 148))  # the label above
    assert not changed(picture, (0, 330, 640, 480))


@pytest.mark.parametrize(
    "box",
    [(0, 0, 80, 80), (560, 400, 80, 80), (-20, -20, 60, 60), (600, 440, 200, 200), (5, 5, 1, 1)],
)
def test_faces_at_the_edge_are_drawn_too(box: tuple[int, int, int, int]) -> None:
    picture = grey()
    overlay.draw_faces(picture, [face(box)])
    assert changed(picture, (0, 0, 640, 480))


def test_labels_of_neighbours_do_not_cover_each_other() -> None:
    alone, both = grey(), grey()
    overlay.draw_faces(alone, [face((200, 150, 100, 100))])
    overlay.draw_faces(both, [face((200, 150, 100, 100)), face((230, 150, 60, 60), "sad", 2)])
    label = (200, 120, 300, 148)
    assert both.crop(label).getcolors() == alone.crop(label).getcolors()


def test_lines_and_letters_grow_with_the_picture() -> None:
    small, large = grey(320, 240), grey(1920, 1440)
    overlay.draw_faces(small, [face((100, 100, 60, 60))])
    overlay.draw_faces(large, [face((600, 600, 360, 360))])
    colour = rgb(overlay.colour_of("happy"))

    def stroke(picture: Image.Image, y: int) -> int:
        row = [picture.getpixel((x, y)) for x in range(picture.width // 2)]
        return row.count(colour)

    assert stroke(large, 780) >= 3 * stroke(small, 130)


def test_a_jpeg_without_faces_is_left_as_it_is() -> None:
    out = io.BytesIO()
    grey().save(out, "JPEG")
    jpeg = out.getvalue()
    assert overlay.annotate_jpeg(jpeg, []) is jpeg
    drawn = overlay.annotate_jpeg(jpeg, [builders.face()])
    assert Image.open(io.BytesIO(drawn)).size == (640, 480)
    with pytest.raises(OSError, match="identify"):
        overlay.annotate_jpeg(b"no picture", [builders.face()])


def test_known_labels_have_their_colour_and_unknown_ones_a_spare() -> None:
    assert overlay.colour_of("happiness") == overlay.colour_of("Happy")
    assert len(set(overlay.COLOURS.values())) == len(overlay.COLOURS)
    assert overlay.colour_of("bored") in overlay.FALLBACK_COLOURS


def test_the_page_draws_in_the_same_colours() -> None:
    palette = (PROJECT_DIR / "web" / "static" / "palette.js").read_text()
    assert dict(re.findall(r'(\w+): \{ bright: "(#\w+)"', palette)) == overlay.COLOURS
    same = re.search(r"SAME = \{(.*?)\}", palette, re.DOTALL)
    spare = re.search(r"SPARE = \[(.*?)\]", palette, re.DOTALL)
    assert same is not None
    assert spare is not None
    assert dict(re.findall(r'(\w+): "(\w+)"', same[1])) == overlay._SAME
    assert tuple(re.findall(r'"(#\w+)"', spare[1])) == overlay.FALLBACK_COLOURS
