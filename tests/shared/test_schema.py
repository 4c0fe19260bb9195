"""Records that cross process borders: checked when built, and the same after the journey."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from shared.errors import InvalidRecord, SourceError
from shared.schema import (
    MAX_FPS,
    Drop,
    Face,
    Feed,
    FeedState,
    FeedStatus,
    Frame,
    FrameResult,
    WorkerReport,
)
from shared.source import Source
from tests import builders

FRAME = Frame("cam", "1-0", 7, 1000.0, b"jpeg")


@pytest.mark.parametrize(
    "feed",
    [
        builders.feed(),
        replace(builders.feed(), loop=False, transient=True, name="Küche 1"),
        builders.feed(source="rtsp://user:p@ss/w#rd@host/x"),
        Feed("b", "b", Source.browser(), 15.0, 640),
    ],
)
def test_a_feed_is_the_same_after_the_journey(feed: Feed) -> None:
    assert Feed.from_json(feed.to_json()) == feed


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"id": "Über"}, "a feed id"),
        ({"id": ""}, "a feed id"),
        ({"id": "a:b"}, "a feed id"),
        ({"id": "-a"}, "a feed id"),
        ({"id": "a" * 33}, "a feed id"),
        ({"name": ""}, "a name"),
        ({"name": "a\nb"}, "a name"),
        ({"name": "x" * 81}, "a name"),
        ({"fps": 0.0}, "frames per second"),
        ({"fps": MAX_FPS + 1}, "frames per second"),
        ({"fps": float("nan")}, "frames per second"),
        ({"width": 10}, "a width"),
        ({"width": 5000}, "a width"),
    ],
)
def test_a_feed_out_of_bounds_is_refused_with_expected_and_actual(
    change: dict[str, Any], expected: str
) -> None:
    with pytest.raises(InvalidRecord, match=expected) as caught:
        replace(builders.feed(), **change)
    assert repr(next(iter(change.values()))) in str(caught.value)


def test_a_new_feed_has_an_id_of_its_own_and_a_name() -> None:
    source = Source.parse("rtsp://user:geheim@camera/x")
    one, two = (Feed.new(source, fps=15, width=640) for _ in range(2))
    assert one.id != two.id
    assert one.name == "camera/x"
    assert Feed.new(source, fps=15, width=640, name=" Door ").name == "Door"


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "{}", '{"id": "a"}', '{"source": "demo", "surplus": 1}'],
)
def test_what_is_no_feed_is_refused(text: str) -> None:
    with pytest.raises((InvalidRecord, SourceError)):
        Feed.from_json(text)


def test_a_wrong_type_in_a_feed_is_refused() -> None:
    row = json.loads(builders.feed().to_json())
    with pytest.raises(InvalidRecord):
        Feed.from_json(json.dumps({**row, "fps": "fast"}))


def test_a_result_is_the_same_after_the_journey() -> None:
    result = replace(
        builders.result(FRAME, builders.face(), builders.face(2)), stages_ms={"detect": 4.5}
    )
    assert FrameResult.from_json(result.to_json()) == result
    assert result.latency_ms == pytest.approx(50)


def test_a_result_has_the_keys_of_the_contract() -> None:
    row = json.loads(builders.result(FRAME, builders.face()).to_json())
    wanted = {"feed", "seq", "captured_at", "analysed_at", "width", "height", "faces"}
    assert wanted <= set(row)
    assert set(row["faces"][0]) == {"track", "box", "emotion", "confidence", "scores", "unsure"}
    assert row["faces"][0]["box"] == [10, 20, 30, 40]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"track": 0}, "a track number"),
        ({"box_xywh": (0, 0, 0, 10)}, "a box"),
        ({"box_xywh": (0, 0, 10)}, "a box"),
        ({"scores": {"happy": 0.5, "sad": 0.2}}, "sum to 1"),
        ({"scores": {}}, "sum to 1"),
        ({"scores": {"happy": float("nan")}}, "sum to 1"),
    ],
)
def test_a_face_that_breaks_the_contract_is_refused(change: dict[str, Any], expected: str) -> None:
    with pytest.raises(InvalidRecord, match=expected):
        replace(builders.face(), **change)


def test_a_result_without_a_size_is_refused() -> None:
    with pytest.raises(InvalidRecord, match="a size above 0"):
        replace(builders.result(FRAME), width=0)


@pytest.mark.parametrize("text", ["{}", '{"faces": [{}]}', "no json", "7"])
def test_what_is_no_result_is_refused(text: str) -> None:
    with pytest.raises(InvalidRecord):
        FrameResult.from_json(text)


def test_a_face_reads_its_own_form() -> None:
    face = builders.face()
    assert Face.from_dict(face.to_dict()) == face
    unsure = replace(face, unsure=True)
    assert Face.from_dict(unsure.to_dict()) == unsure


def test_a_workers_report_is_the_same_after_the_journey() -> None:
    report = WorkerReport("w", "m 1", ("a", "b"), 1.0, 2, 3, 4, {"detect": 0.5})
    assert WorkerReport.from_json(report.to_json()) == report


def test_what_was_dropped_is_the_sum_of_its_reasons() -> None:
    drops = {Drop.OVERRUN: 2, Drop.STALE: 3, Drop.CORRUPT: 0}
    status = FeedStatus(FeedState.LIVE, "", 15.0, 0, 10, 5, drops, 15.0, None, None, 0)
    assert status.dropped == 5
