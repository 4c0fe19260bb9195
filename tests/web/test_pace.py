"""How much goes out at once, on a connection that a test plays: so many bytes a second."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from PIL import Image

from shared.bus import Analysed
from shared.schema import FrameResult
from web.follower import Shot
from web.pace import Pace

FPS = 15
SEQ = 0


def noisy_jpeg(width: int = 640, height: int = 480) -> bytes:
    """A picture with so much in it that it weighs what a camera's does."""
    picture = Image.effect_noise((width // 4, height // 4), 60).resize((width, height))
    out = io.BytesIO()
    picture.convert("RGB").save(out, "JPEG", quality=80)
    return out.getvalue()


JPEG = noisy_jpeg()


class Line:
    """A connection of so many bytes a second and the page at its end; a test turns the clock."""

    def __init__(self, bytes_per_s: float, feeds: int, *, held_s: float = 0.02) -> None:
        self.now = 100.0
        self._bytes_per_s = bytes_per_s
        self._held_s = held_s
        self._free_at = self.now
        self._due: list[tuple[float, Callable[..., None], dict[str, float]]] = []
        self.ages: list[float] = []
        self.sizes: list[int] = []
        self.painted = [0] * feeds
        self.pause_s = 0.0
        self.pace = Pace(self._send, lambda: self.now)
        self.lanes = [self.pace.open(adapts=True) for _ in range(feeds)]
        self._offered = 0

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            for feed, lane in enumerate(self.lanes):
                self.pace.offer(lane, shot(feed, self.now))
            self._turn_to(self.now + 1 / FPS)

    def forget(self) -> None:
        self.ages.clear()
        self.sizes.clear()
        self.painted = [0] * len(self.lanes)

    def _send(self, sent: Shot, jpeg: bytes, acknowledged: Callable[..., None]) -> None:
        self._free_at = max(self._free_at, self.now) + len(jpeg) / self._bytes_per_s
        arrived = self._free_at
        self.sizes.append(len(jpeg))

        def painted(answer: dict[str, float]) -> None:
            self.ages.append(arrived + self._held_s - sent.result.captured_at)
            self.painted[int(sent.feed)] += 1
            acknowledged(answer)

        answer = {"held_s": self._held_s, "pause_s": self.pause_s}
        self._due.append((arrived + self._held_s, painted, answer))

    def _turn_to(self, then: float) -> None:
        while self._due and min(self._due, key=lambda d: d[0])[0] <= then:
            first = min(self._due, key=lambda d: d[0])
            self._due.remove(first)
            self.now = max(self.now, first[0])
            first[1](first[2])
        self.now = then


def shot(feed: int, now: float) -> Shot:
    global SEQ  # noqa: PLW0603 - a running number, as the bus gives it
    SEQ += 1
    result = FrameResult(
        feed=str(feed), seq=SEQ, captured_at=now, analysed_at=now, width=640, height=480,
        faces=(), stages_ms={},
    )  # fmt: skip
    return Shot(Analysed(f"{SEQ}-0", result, JPEG), JPEG)


@pytest.mark.parametrize("feeds", [1, 4, 8])
def test_on_a_slow_line_pictures_arrive_fresh_and_every_feed_has_its_share(feeds: int) -> None:
    line = Line(300_000 / 8, feeds)
    line.run(6)
    line.forget()
    line.run(12)
    assert max(line.ages) < 1.2
    assert min(line.painted) >= 9
    assert max(line.painted) <= min(line.painted) + 3
    assert max(line.sizes) < len(JPEG)


@pytest.mark.parametrize("feeds", [1, 8, 16])
def test_on_a_quick_line_every_picture_goes_out_whole(feeds: int) -> None:
    line = Line(50e6, feeds)
    line.run(2)
    line.forget()
    line.run(2)
    assert set(line.sizes) == {len(JPEG)}
    assert min(line.painted) >= 2 * FPS - 1


def test_a_page_that_is_slow_itself_gets_pictures_whole() -> None:
    line = Line(50e6, 4, held_s=1.0)
    line.run(8)
    assert set(line.sizes) == {len(JPEG)}


def test_a_line_that_recovers_gets_pictures_whole_again() -> None:
    line = Line(300_000 / 8, 2)
    line.run(5)
    line._bytes_per_s = 50e6
    line.run(6)
    line.forget()
    line.run(2)
    assert set(line.sizes) == {len(JPEG)}


def test_a_page_that_was_busy_once_gets_pictures_whole() -> None:
    line = Line(50e6, 4)
    line.run(2)
    line.forget()
    line._free_at = line.now + 1.2
    line.run(3)
    assert set(line.sizes) == {len(JPEG)}
    assert max(line.ages) > 1.0


def test_who_wants_no_picture_for_a_while_gets_none() -> None:
    line = Line(50e6, 1)
    line.pause_s = 1.0
    line.run(5)
    assert 5 <= line.painted[0] <= 6


def test_a_client_that_says_nothing_of_its_time_gets_pictures_as_they_are() -> None:
    sent: list[bytes] = []
    answers: list[Callable[..., None]] = []
    now = [0.0]

    def send(_: Shot, jpeg: bytes, acknowledged: Callable[..., None]) -> None:
        sent.append(jpeg)
        answers.append(acknowledged)

    pace = Pace(send, lambda: now[0])
    lanes = [pace.open(adapts=False) for _ in range(16)]
    for _ in range(3):
        for lane in lanes:
            pace.offer(lane, shot(0, now[0]))
        assert len(answers) == 16  # one of each feed, whatever is under way
        now[0] += 3.0
        for answer in answers:
            answer()
            answer("twice")
        answers.clear()
        for answer in answers:
            answer()
    assert set(sent) == {JPEG}


@pytest.mark.parametrize("answer", [None, "ok", {"held_s": "x"}, {"pause_s": float("nan")}, {}])
def test_odd_answers_are_acknowledgements_as_well(answer: object) -> None:
    answers: list[Callable[..., None]] = []
    pace = Pace(lambda _shot, _jpeg, acknowledged: answers.append(acknowledged), lambda: 0.0)
    lane = pace.open(adapts=True)
    for _ in range(3):
        pace.offer(lane, shot(0, 0.0))
    answers.pop()(answer)
    assert len(answers) == 1
    pace.close(lane)
    answers.pop()(answer)
    pace.offer(lane, shot(0, 0.0))
    assert answers == []
    assert lane.skipped == 1
