from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from PIL import Image

from shared import overlay
from shared.config import PROJECT_DIR
from shared.schema import Face
from tests import builders

GREY = "#646464"


def rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def grey(width: int = 640, height: int = 480) -> Image.Image:
    return Image.new("RGB", (width, height), GREY)


def changed(picture: Image.Image, box: tuple[int, int, int, int]) -> bool:
    """Whether anything but grey is inside (left, top, right, bottom)."""
    return [colour for _, colour in picture.crop(box).getcolors(1 << 24) or []] != [rgb(GREY)]


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


def test_an_unsure_face_differs_in_word_line_and_colour() -> None:
    sure, unsure = grey(), grey()
    found = face((200, 150, 120, 160))
    overlay.draw_faces(sure, [found])
    overlay.draw_faces(unsure, [replace(found, unsure=True)])
    left_sides = [[p.getpixel((200, y)) for y in range(170, 290)] for p in (sure, unsure)]
    happy, neutral, nothing = map(rgb, (overlay.colour_of("happy"), overlay.UNSURE_COLOUR, GREY))
    assert set(left_sides[0]) == {happy}
    assert {neutral, nothing} < set(left_sides[1])
    assert happy not in left_sides[1]
    assert left_sides[1].count(neutral) > 40
    other = grey()
    overlay.draw_faces(other, [replace(found, unsure=True, emotion="other", confidence=0.2)])
    assert other.tobytes() == unsure.tobytes()  # it says no emotion at all


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


def test_people_are_called_by_their_names() -> None:
    found = face((200, 150, 120, 160), track=7)
    pictures = [grey() for _ in range(4)]
    overlay.draw_faces(pictures[0], [found])
    overlay.draw_faces(pictures[1], [found], {1: "Ada"})
    overlay.draw_faces(pictures[2], [found], {7: "Ada"})
    overlay.draw_faces(pictures[3], [found], {7: "\ue123"})  # no font has it
    drawn = [picture.tobytes() for picture in pictures]
    assert drawn[0] == drawn[1] == drawn[3] != drawn[2]


def test_a_long_name_leaves_room_for_the_emotion() -> None:
    picture = grey()
    overlay.draw_faces(picture, [face((20, 150, 120, 160))], {1: "Wolfeschlegelstein " * 3})
    assert changed(picture, (250, 100, 320, 148))
    assert not changed(picture, (600, 100, 640, 148))


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
    unsure = re.search(r'UNSURE = \{ bright: "(#\w+)"', palette)
    assert unsure is not None
    assert unsure[1] == overlay.UNSURE_COLOUR
