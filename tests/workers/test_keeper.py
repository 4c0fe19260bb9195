"""The thread that looks after videos: one leads, and nothing ends it but the worker."""

from __future__ import annotations

import threading
import time
from typing import cast

import pytest
import structlog

from shared.errors import BusError, MediaError
from shared.videos import Videos
from workers import keeper
from workers.keeper import Keeper


class ScriptedVideos:
    """Leads for the one named first, and fails as told."""

    def __init__(self, *failures: Exception | None) -> None:
        self.failures = list(failures)
        self.leader: str | None = None
        self.kept: list[float | None] = []

    def lead(self, name: str) -> bool:
        self.leader = self.leader or name
        return self.leader == name

    def keep(self, *, retention_s: float | None) -> None:
        self.kept.append(retention_s)
        failure = self.failures.pop(0) if self.failures else None
        if failure is not None:
            raise failure


def make_keeper(videos: ScriptedVideos, name: str = "one") -> Keeper:
    return Keeper(cast("Videos", videos), name=name, retention_s=60.0)


def test_only_the_leader_looks_after_the_videos() -> None:
    videos = ScriptedVideos()
    for name in ("one", "two", "one"):
        make_keeper(videos, name).turn()
    assert videos.kept == [60.0, 60.0]


def test_it_goes_on_whatever_happens_until_it_is_told_to_stop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keeper, "_EVERY_S", 0.01)
    videos = ScriptedVideos(BusError("Redis is away"), ValueError("a defect"))
    stopping = threading.Event()
    thread = threading.Thread(target=make_keeper(videos).run, args=(stopping,))
    thread.start()
    while len(videos.kept) < 4:
        assert thread.is_alive()
        time.sleep(0.005)
    stopping.set()
    thread.join(5)
    assert not thread.is_alive()


def test_a_storage_that_is_away_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "_EVERY_S", 0.01)
    away = MediaError("The storage is away")
    videos = ScriptedVideos(away, away, away, None, away)
    stopping = threading.Event()
    with structlog.testing.capture_logs() as lines:
        thread = threading.Thread(target=make_keeper(videos).run, args=(stopping,))
        thread.start()
        while len(videos.kept) < 6:
            assert thread.is_alive()
            time.sleep(0.005)
        stopping.set()
        thread.join(5)
    levels = [line["log_level"] for line in lines]
    assert levels == ["warning", "info", "info", "warning"]
