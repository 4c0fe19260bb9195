"""Records of recorded videos: what they refuse, and that they survive storage."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InvalidRecord
from shared.video import (
    MAX_NAME_LENGTH,
    Export,
    ExportKind,
    ExportState,
    Footage,
    People,
    Video,
    VideoOptions,
    VideoStatus,
    clean_name,
)

FOOTAGE = Footage(
    duration_s=20.0,
    fps=15.0,
    width=640,
    height=480,
    codec="h264",
    container="mp4",
    has_sound=True,
    playable=True,
)


def test_a_video_survives_storage() -> None:
    video = Video(
        id="0123456789abcdef",
        name="Ferien 🏖.mp4",
        created_at=1.5,
        size_bytes=7,
        options=VideoOptions(fps=2.5, start_s=1.0, end_s=9.0),
        footage=FOOTAGE,
        status=VideoStatus.FAILED,
        error="why",
        finished_at=2.5,
        frames_total=10,
        frames_done=9,
        exports={ExportKind.PREVIEW: Export(ExportState.RUNNING, 0.25)},
    )
    assert Video.from_json(video.to_json()) == video


def test_people_survive_storage() -> None:
    people = People(3, names={1: "Ada", 12: "Grace"}, merged={5: 3})
    assert People.from_json(people.to_json()) == people
    assert [people.person(track) for track in (1, 3, 5)] == [1, 3, 3]


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"id": "0123456789abcdef"}', '{"status": 1}', "null", '{"options": 1}'],
)
def test_what_is_no_record_is_refused(text: str) -> None:
    for record in (Video, People, Footage):
        with pytest.raises(InvalidRecord):
            record.from_json(text)


@pytest.mark.parametrize(
    "values",
    [
        {"fps": 0},
        {"fps": -1.0},
        {"fps": 1e9},
        {"fps": float("nan")},
        {"start_s": -0.1},
        {"start_s": float("nan")},
        {"start_s": float("inf")},
        {"start_s": 5.0, "end_s": 5.0},
        {"end_s": float("nan")},
    ],
)
def test_options_that_name_no_part_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(InvalidRecord):
        VideoOptions(**values)


@pytest.mark.parametrize(
    "values",
    [
        {"names": {0: "Ada"}},
        {"names": {1: ""}},
        {"names": {1: "a\nb"}},
        {"names": {1: "x" * 61}},
        {"merged": {1: 1}},
        {"merged": {1: 2, 2: 3}},
        {"revision": -1},
    ],
)
def test_edits_that_make_no_sense_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(InvalidRecord):
        People(**values)


@pytest.mark.parametrize(
    ("given_name", "cleaned"),
    [
        ("film.mp4", "film.mp4"),
        ("../../etc/passwd", "passwd"),
        ("C:\\films\\a b.avi", "a b.avi"),
        ("two\r\nlines.mp4", "two lines.mp4"),
        ("nul\x00l.mp4", "null.mp4"),
        ("  much   space  ", "much space"),
        ("right\u202eto left.mp4", "rightto left.mp4"),
        ("👩\u200d🔬.mp4", "👩\u200d🔬.mp4"),
        ('quotes".mp4', 'quotes".mp4'),
        ("", "video"),
        ("..", "video"),
        ("/", "video"),
        ("\u200d", "video"),
        ("lone\ud800.mp4", "lone.mp4"),
    ],
)
def test_names_of_files_are_cleaned(given_name: str, cleaned: str) -> None:
    assert clean_name(given_name) == cleaned


@given(st.text(st.characters(), max_size=200))
def test_any_name_becomes_one_that_can_be_kept(name: str) -> None:
    cleaned = clean_name(name)
    assert 0 < len(cleaned) <= MAX_NAME_LENGTH
    assert "/" not in cleaned
    assert "\n" not in cleaned
    video = Video.new(name, size_bytes=0, footage=FOOTAGE)
    assert Video.from_json(video.to_json()) == video


def test_progress_is_whole_only_when_done() -> None:
    video = Video.new("a", size_bytes=1, footage=FOOTAGE)
    assert video.progress == 0
    running = replace(video, status=VideoStatus.RUNNING, frames_total=10, frames_done=4)
    assert running.progress == 0.4
    assert replace(running, frames_done=10).progress < 1
    assert replace(running, status=VideoStatus.DONE).progress == 1
