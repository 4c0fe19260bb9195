"""Terse ways to build records for tests; every argument has a sensible default."""

from __future__ import annotations

from shared.schema import Claim, Face, Feed, Frame, FrameResult, Outcome
from shared.source import Source

LABELS = ("neutral", "happy", "sad")


def feed(feed_id: str = "cam", source: str = "demo", *, fps: float = 15.0) -> Feed:
    return Feed(
        id=feed_id, name=feed_id, source=Source.parse(source), fps=fps, width=640, created_at=1.0
    )


def face(track: int = 1, *, happy: float = 0.8) -> Face:
    scores = {"neutral": (1 - happy) / 2, "happy": happy, "sad": (1 - happy) / 2}
    return Face(track, (10, 20, 30, 40), "happy", happy, scores)


def result(frame: Frame, *faces: Face, analysed_at: float | None = None) -> FrameResult:
    return FrameResult(
        feed=frame.feed,
        seq=frame.seq,
        captured_at=frame.captured_at,
        analysed_at=frame.captured_at + 0.05 if analysed_at is None else analysed_at,
        width=640,
        height=480,
        faces=faces,
    )


def outcomes(claim: Claim, *faces: Face) -> list[Outcome]:
    return [Outcome(frame, result(frame, *faces)) for frame in claim.frames]
