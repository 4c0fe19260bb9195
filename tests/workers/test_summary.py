"""The page about a video: what stands on it, however many people and however long their names."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from shared import overlay
from shared.errors import NotFound
from shared.media import Media
from shared.video import People, Video, plan_path, report_path
from tests.workers import recordings
from tests.workers.recordings import CARD, HAPPY, LABELS, NEUTRAL, TORN
from workers.footage import Plan
from workers.report import derive
from workers.summary import MAX_PEOPLE, page, summary_pdf
from workers.video import track

SOLID = Image.new("RGB", (160, 160), (10, 200, 30))


def summary(count: int = 1, person: str | None = None, **video: Any) -> dict[str, Any]:
    """A summary of some people who are happy for half of 100 s, and unsure for the last tenth."""
    rows: list[list[float | None]] = [[t, *NEUTRAL] for t in range(40)]
    rows.append([45.0, None, None, None])
    rows += [[t, *HAPPY] for t in range(50, 90)]
    rows += [[t, *TORN] for t in range(90, 100)]
    people = [
        {
            "id": number,
            "name": person,
            "merged": [],
            "start_s": 0.0,
            "end_s": 99.0,
            "frames": 90,
            "seconds_seen": 90.0 - number,
            "shares": {"neutral": 0.4, "happy": 0.5, "sad": 0.0, "unsure": 0.1},
            "moments": [{"label": "happy", "t": 51.0, "confidence": 0.8}],
            "face": f"faces/{number}.jpg",
        }
        for number in range(1, count + 1)
    ]
    facts = {
        "name": "clip.mp4",
        "duration_s": 100.0,
        "fps": 25.0,
        "width": 640,
        "height": 480,
        "frames_analysed": 2500,
        "start_s": 0.0,
        "ended_early": "",
        "frames_missing": 0,
        "sampled_fps": None,
        **video,
    }
    model = {"name": "test", "version": "1", "labels": list(LABELS), "unsure_below": 0.5}
    timeline = {str(row["id"]): rows for row in people}
    return {"video": facts, "model": model, "people": people, "timeline": timeline}


def words_of(content: dict[str, Any]) -> list[str]:
    """Every text on the page."""
    with page(content, {}) as figure:
        found = [text.get_text() for text in figure.texts]
        return found + [text.get_text() for axes in figure.axes for text in axes.texts]


def colour(emotion: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(overlay.COLOURS[emotion].removeprefix("#")))


def painted(content: dict[str, Any]) -> NDArray[np.uint8]:
    """The page as pixels, 100 an inch: (1169, 827, 3)."""
    pictures = {person["id"]: SOLID for person in content["people"]}
    out = io.BytesIO()
    with page(content, pictures) as figure:
        figure.savefig(out, format="png", dpi=100)
    return np.asarray(Image.open(out).convert("RGB"))


def test_facts_people_and_limits_stand_on_the_page() -> None:
    words = words_of(summary(2, "Юлия"))
    assert "clip.mp4" in words
    assert "1 min 40 s  ·  640 by 480 pixels  ·  25 frames/s  ·  2,500 frames analysed" in words[2]
    assert "A baseline emotion indicator, not a definitive diagnosis." in words
    assert words.count("Юлия") == 2
    assert {"seen for 1 min 29 s", "Happy 50%", "Unsure 10%", "Happy 80% at 0:51"} <= set(words)
    assert any("no emotion reached 50%" in line for line in words)
    assert not any(line.startswith("▸") for line in words)


def test_what_is_missing_is_said() -> None:
    words = words_of(
        summary(ended_early="The file is cut off.", frames_missing=1200, sampled_fps=2.0)
    )
    assert [line for line in words if line.startswith("▸")] == [
        "▸ The file is cut off.",
        "▸ 1,200 frames could not be read and are left out.",
        "▸ 2 frames of every second were analysed.",
    ]


def test_without_people_the_page_says_so() -> None:
    words = words_of(summary(0))
    assert "No face was found in this video." in words
    assert not any("more people" in line for line in words)


def test_those_who_were_seen_longest_are_shown_and_the_others_counted() -> None:
    words = words_of(summary(MAX_PEOPLE + 3))
    assert f"Person {MAX_PEOPLE}" in words
    assert f"Person {MAX_PEOPLE + 1}" not in words
    assert any(line.startswith("3 more people were seen") for line in words)


@pytest.mark.parametrize("count", [1, MAX_PEOPLE + 1])
def test_everything_stays_on_the_page(count: int) -> None:
    long = summary(count, "Wolfeschlegelsteinhausenbergerdorff $x^2$ the elder", name="x" * 120)
    with page(long, {}) as figure:
        width, height = figure.canvas.get_width_height()
        texts = [*figure.texts, *(text for axes in figure.axes for text in axes.texts)]
        for text in texts:
            box = text.get_window_extent()
            assert 0 <= box.x0 <= box.x1 <= width, text.get_text()
            assert 0 <= box.y0 <= box.y1 <= height, text.get_text()
        for number, text in enumerate(texts):
            if text.get_text().startswith("Wolfe"):
                others = [other for i, other in enumerate(texts) if i != number]
                box = text.get_window_extent()
                assert not any(box.overlaps(other.get_window_extent()) for other in others)


def test_time_goes_from_left_to_right_in_the_colours_of_the_legend() -> None:
    picture = painted(summary())
    height, width = picture.shape[:2]
    scale = width / 210
    ribbon = picture[round(80 * scale)]  # a row of pixels through the middle of the ribbon
    left, right = 91 * scale, 195 * scale

    def at(t: float) -> tuple[int, ...]:
        return tuple(map(int, ribbon[round(left + (right - left) * t / 100)]))

    assert at(20) == colour("neutral")
    assert at(45) == (255, 255, 255)
    assert at(70) == colour("happy")
    hatched = ribbon[round(left + (right - left) * 0.91) : round(left + (right - left) * 0.98)]
    assert hatched.min() < 120
    assert height == 1169
    assert (picture == SOLID.getpixel((0, 0))).all(axis=2).any()


def test_one_frame_a_second_or_less_still_gives_a_ribbon() -> None:
    sparse = summary(sampled_fps=0.5)
    rows: list[list[float | None]] = []
    for t in range(0, 100, 2):
        rows += [[float(t), *HAPPY], [t + 1.0, None, None, None]]
    sparse["timeline"]["1"] = rows
    yellow = (painted(sparse) == colour("happy")).all(axis=2).sum()
    assert yellow > 40_000


def test_the_same_report_gives_the_same_bytes(tmp_path: Path) -> None:
    media = Media(str(tmp_path))
    video = recordings.put_video(media, [(k / 10, [(100, 0.99, HAPPY)]) for k in range(10)])
    track(media, video, Plan.from_json(media.read(plan_path(video.id))), smoothing_s=0)
    with pytest.raises(NotFound):
        summary_pdf(media, video, io.BytesIO())
    derive(media, video, People(names={1: "Ada"}), CARD)
    pages = [made(media, video) for _ in range(2)]
    assert pages[0] == pages[1]
    assert pages[0].startswith(b"%PDF")
    assert pages[0].count(b"/Type /Page ") == 1
    derive(media, video, People(1, names={1: "Bea"}), CARD)
    assert made(media, video) != pages[0]
    assert json.loads(media.read(report_path(video.id, "summary.json")))["people"][0]["id"] == 1


def made(media: Media, video: Video) -> bytes:
    out = io.BytesIO()
    summary_pdf(media, video, out)
    return out.getvalue()
