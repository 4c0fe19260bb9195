"""What is to be done next with a video, on a real Redis and a folder; the test is the worker."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from shared import video_bus
from shared.bus import Bus
from shared.errors import Conflict, NotFound
from shared.jobs import Jobs
from shared.media import Media
from shared.schema import WorkerReport
from shared.video import (
    Export,
    ExportKind,
    ExportState,
    Footage,
    People,
    Video,
    VideoStatus,
    export_path,
    frames_path,
    plan_path,
    report_path,
    segment_path,
    source_path,
)
from shared.video_bus import Hold
from shared.videos import Step, Videos

FOOTAGE = Footage(20.0, 15.0, 640, 480, "h264", "mp4", has_sound=False, playable=True)
DONE = Export(ExportState.DONE, 1.0)


class Desk:
    """Hands in videos and does their steps by hand."""

    def __init__(self, redis_url: str, folder: Path) -> None:
        self.media = Media(str(folder))
        self.jobs = Jobs(redis_url)
        self.videos = Videos(redis_url, self.media, self.jobs)

    def submit(self, name: str = "film.mp4") -> str:
        video = Video.new(name, size_bytes=4, footage=FOOTAGE)
        self.media.write(source_path(video.id), b"film")
        self.videos.add(video)
        return video.id

    def waiting(self, video_id: str) -> set[str]:
        return self.jobs.waiting_steps(video_id)

    def take(self, video_id: str, step: str, who: str = "me") -> bool:
        """As a worker does that got the job from the queue."""
        self.jobs._video.empty()  # type: ignore[no-untyped-call]
        return self.videos.begin(video_id, Step(step), who) is not None

    def do(self, video_id: str, step: str, *, segments: int = 3) -> None:
        assert self.take(video_id, step), f"{step} is not to be done"
        if step == "plan":
            plan = {"segments": [[]] * segments, "frames_total": 10 * segments}
            self.media.write(plan_path(video_id), json.dumps(plan).encode())
        elif step.startswith("segment-"):
            number = int(step.split("-")[1])
            self.videos.hold(video_id, Step(step), "me", frames=10)
            self.media.write(segment_path(video_id, number), b"")
        elif step == "track":
            self.media.write(frames_path(video_id), b"")
        elif step == "derive":
            self.report(video_id)
        else:
            kind = Step(step).export
            assert kind is not None
            revision = self.videos.people(video_id).revision
            self.media.write(export_path(video_id, kind), b"file")
            self.videos.exported(video_id, kind, revision)
        self.videos.done(video_id, Step(step), "me")

    def report(self, video_id: str) -> None:
        revision = self.videos.people(video_id).revision
        there = len(self.media.list(f"videos/{video_id}/segments"))
        found = {"frames_total": 30, "frames_analysed": 10 * there}
        summary = {"revision": revision, "video": found}
        self.media.write(report_path(video_id, "summary.json"), json.dumps(summary).encode())
        self.videos.reported(video_id, revision)

    def fail(self, video_id: str, step: str, times: int = 3) -> None:
        for _ in range(times):
            assert self.take(video_id, step), f"{step} is not to be done"
            self.videos.failed(video_id, Step(step), "me", f"{step} is cursed")

    def finish(self, video_id: str) -> None:
        for step in ("plan", "segment-0", "segment-1", "segment-2", "track", "derive"):
            self.do(video_id, step)

    def one(self, video_id: str) -> Video:
        return self.videos.one(video_id)


@pytest.fixture
def desk(bus: Bus, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setattr(video_bus, "_PAUSES_MS", (0, 0))
    return Desk(redis_url, tmp_path)


# The way of a video


def test_each_step_is_asked_for_when_what_it_needs_is_there(desk: Desk) -> None:
    film = desk.submit()
    assert desk.waiting(film) == {"plan"}
    assert desk.one(film).status is VideoStatus.QUEUED
    desk.do(film, "plan")
    assert desk.waiting(film) == {"segment-0", "segment-1", "segment-2"}
    for i in (2, 0, 1):
        assert desk.one(film).status is VideoStatus.RUNNING
        desk.do(film, f"segment-{i}")
    assert desk.waiting(film) == {"track"}
    assert desk.one(film).frames_done == 30
    desk.do(film, "track")
    assert desk.waiting(film) == {"derive"}
    desk.do(film, "derive")
    done = desk.one(film)
    assert (done.status, done.frames_done, done.frames_total) == (VideoStatus.DONE, 30, 30)
    assert done.finished_at is not None
    assert desk.waiting(film) == set()


def test_looking_often_asks_for_nothing_twice(desk: Desk) -> None:
    film = desk.submit()
    for _ in range(3):
        desk.videos.advance(film)
    assert desk.jobs._video.count == 1


def test_a_long_video_does_not_fill_the_queue(desk: Desk, bus: Bus) -> None:
    long, short = desk.submit(), desk.submit()
    desk.do(long, "plan", segments=600)
    desk.videos.advance(short)
    assert (len(desk.waiting(long)), desk.waiting(short)) == (4, {"plan"})
    for name in ("a", "b", "c"):
        bus.report_worker(WorkerReport(name=name, model="m", labels=(), started_at=0.0))
    desk.videos.advance(long)
    assert len(desk.waiting(long)) == 8


def test_a_step_is_held_by_one_worker_until_it_says_nothing_more(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = desk.submit()
    monkeypatch.setattr(video_bus, "LEASE_S", 0.1)
    assert desk.take(film, "plan", "one")
    assert not desk.take(film, "plan", "two")
    desk.videos.advance(film)
    assert desk.waiting(film) == set()
    time.sleep(0.06)
    assert desk.videos.hold(film, Step("plan"), "one", frames=0) is Hold.HELD
    time.sleep(0.06)
    assert not desk.take(film, "plan", "two")
    time.sleep(0.15)
    desk.videos.advance(film)
    assert desk.waiting(film) == {"plan"}
    assert desk.take(film, "plan", "two")
    assert desk.videos.hold(film, Step("plan"), "one", frames=0) is Hold.LOST


def test_a_step_that_is_done_is_not_begun_again(desk: Desk) -> None:
    film = desk.submit()
    desk.do(film, "plan")
    assert not desk.take(film, "plan")
    desk.do(film, "segment-1")
    assert not desk.take(film, "segment-1")


# Failures


def test_a_segment_that_fails_three_times_fails_the_video_and_the_rest_is_kept(desk: Desk) -> None:
    film = desk.submit()
    desk.do(film, "plan")
    desk.fail(film, "segment-1")
    assert desk.one(film).status is VideoStatus.RUNNING
    for step in ("segment-0", "segment-2", "track", "derive"):
        desk.do(film, step)
    failed = desk.one(film)
    assert (failed.status, failed.error) == (VideoStatus.FAILED, "segment-1 is cursed")
    assert (failed.frames_done, failed.frames_total) == (20, 30)
    assert desk.media.exists(report_path(film, "summary.json"))


def test_a_failure_that_passes_is_no_failure(desk: Desk) -> None:
    film = desk.submit()
    desk.do(film, "plan")
    desk.fail(film, "segment-1", times=2)
    for step in ("segment-0", "segment-1", "segment-2", "track", "derive"):
        desk.do(film, step)
    assert (desk.one(film).status, desk.one(film).error) == (VideoStatus.DONE, "")


def test_a_step_that_failed_pauses(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_bus, "_PAUSES_MS", (150, 150))
    film = desk.submit()
    desk.fail(film, "plan", times=1)
    assert desk.waiting(film) == set()
    assert not desk.take(film, "plan")
    time.sleep(0.2)
    desk.videos.advance(film)
    assert desk.waiting(film) == {"plan"}


def test_workers_that_die_of_a_step_count_as_its_failures(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video_bus, "LEASE_S", 0.02)
    film = desk.submit()
    for _ in range(3):
        assert desk.take(film, "plan")
        time.sleep(0.04)
        desk.videos.advance(film)
    failed = desk.one(film)
    assert failed.status is VideoStatus.FAILED
    assert "died 3 times (plan)" in failed.error


def test_workers_that_are_told_to_stop_do_not(desk: Desk) -> None:
    film = desk.submit()
    for _ in range(5):
        assert desk.take(film, "plan")
        desk.videos.give_back(film, Step("plan"), "me")
        assert desk.waiting(film) == {"plan"}
    desk.finish(film)


def test_a_file_that_cannot_be_planned_fails_at_once(desk: Desk) -> None:
    film = desk.submit()
    assert desk.take(film, "plan")
    desk.videos.failed(film, Step("plan"), "me", "It is no video.", for_good=True)
    assert (desk.one(film).status, desk.one(film).error) == (VideoStatus.FAILED, "It is no video.")


def test_where_nothing_can_be_analysed_nothing_is_reported(desk: Desk) -> None:
    film = desk.submit()
    desk.do(film, "plan")
    for i in range(3):
        desk.fail(film, f"segment-{i}")
    assert desk.one(film).status is VideoStatus.FAILED
    assert desk.one(film).error == "segment-0 is cursed"


def test_so_many_failures_end_the_others(desk: Desk) -> None:
    film = desk.submit()
    desk.do(film, "plan", segments=50)
    for i in range(5):
        desk.fail(film, f"segment-{i}")
    assert desk.one(film).status is VideoStatus.FAILED


def test_trying_again_does_what_is_missing_and_makes_the_report_anew(desk: Desk) -> None:
    film = desk.submit()
    desk.do(film, "plan")
    desk.fail(film, "segment-1")
    for step in ("segment-0", "segment-2", "track", "derive"):
        desk.do(film, step)
    desk.videos.retry(film)
    assert desk.waiting(film) == {"segment-1"}
    assert desk.one(film).error == ""
    for step in ("segment-1", "track", "derive"):
        desk.do(film, step)
    assert (desk.one(film).status, desk.one(film).frames_done) == (VideoStatus.DONE, 30)
    with pytest.raises(Conflict, match="done"):
        desk.videos.retry(film)


# Cancelling and deleting


def test_cancelling_reaches_whoever_works_and_whoever_would(desk: Desk) -> None:
    film = desk.submit()
    desk.do(film, "plan")
    assert desk.take(film, "segment-0")
    assert desk.videos.cancel(film).status is VideoStatus.CANCELLED
    assert desk.videos.hold(film, Step("segment-0"), "me", frames=3) is Hold.CANCELLED
    desk.videos.give_back(film, Step("segment-0"), "me")
    assert not desk.take(film, "segment-1")
    desk.videos.advance(film)
    assert desk.waiting(film) == set()


def test_what_is_there_is_kept_for_trying_again(desk: Desk) -> None:
    film = desk.submit()
    desk.do(film, "plan")
    desk.do(film, "segment-0")
    desk.videos.cancel(film)
    desk.videos.retry(film)
    assert desk.waiting(film) == {"segment-1", "segment-2"}


def test_cancelling_what_has_ended_changes_nothing(desk: Desk) -> None:
    film = desk.submit()
    desk.finish(film)
    assert desk.videos.cancel(film).status is VideoStatus.DONE


def test_deleting_leaves_nothing_and_reaches_whoever_works(desk: Desk) -> None:
    film = desk.submit()
    desk.do(film, "plan")
    assert desk.take(film, "segment-0")
    desk.videos.delete(film)
    assert desk.media.list("videos") == []
    assert desk.videos.hold(film, Step("segment-0"), "me", frames=3) is Hold.DELETED
    with pytest.raises(NotFound):
        desk.one(film)
    with pytest.raises(NotFound):
        desk.videos.delete(film)
    # One that was killed before it heard of it has written all the same.
    desk.media.write(segment_path(film, 0), b"late")
    desk.videos.done(film, Step("segment-0"), "me")
    desk.videos.keep(retention_s=None)
    assert desk.media.list("videos") == []
    assert desk.videos.all() == []


def test_other_videos_do_not_notice(desk: Desk) -> None:
    gone, stays = desk.submit(), desk.submit()
    desk.do(stays, "plan")
    desk.videos.delete(gone)
    assert [video.id for video in desk.videos.all()] == [stays]
    assert desk.take(stays, "segment-0")


def test_a_finished_video_goes_when_its_time_is_over(desk: Desk) -> None:
    finished, running = desk.submit(), desk.submit()
    desk.finish(finished)
    desk.videos.keep(retention_s=60)
    assert len(desk.videos.all()) == 2
    time.sleep(0.02)
    desk.videos.keep(retention_s=0.01)
    assert [video.id for video in desk.videos.all()] == [running]
    assert desk.media.list("videos") == [running]


def test_a_file_whose_video_was_never_added_goes_after_a_day(desk: Desk, tmp_path: Path) -> None:
    desk.media.write(source_path("00000000000000aa"), b"new")
    desk.media.write(source_path("00000000000000bb"), b"old")
    yesterday = time.time() - 25 * 3600
    os.utime(tmp_path / source_path("00000000000000bb"), (yesterday, yesterday))
    desk.videos.keep(retention_s=None)
    assert desk.media.list("videos") == ["00000000000000aa"]


# What Redis forgets


def test_a_redis_that_forgets_is_filled_again_from_the_storage(desk: Desk, bus: Bus) -> None:
    finished, running = desk.submit("one"), desk.submit("two")
    desk.finish(finished)
    desk.videos.export(finished, ExportKind.SUMMARY)
    desk.do(finished, "export-summary")
    desk.do(running, "plan")
    desk.do(running, "segment-1")
    before = desk.one(finished)
    bus._redis.flushall()
    assert [video.name for video in desk.videos.all()] == ["two", "one"]
    assert desk.one(finished) == before
    desk.videos.keep(retention_s=None)
    assert desk.waiting(running) == {"segment-0", "segment-2"}
    assert desk.one(running).frames_done == 10


def test_a_worker_goes_on_with_its_step_when_redis_has_forgotten_it(desk: Desk, bus: Bus) -> None:
    film = desk.submit()
    desk.do(film, "plan")
    assert desk.take(film, "segment-0")
    bus._redis.flushall()
    assert desk.videos.hold(film, Step("segment-0"), "me", frames=5) is Hold.HELD
    assert desk.videos.begin(film, Step("segment-0"), "another") is None
    assert desk.one(film).frames_done == 5


def test_an_unreadable_record_hides_no_other(desk: Desk, bus: Bus) -> None:
    film = desk.submit()
    desk.media.write("videos/broken/video.json", b"{")
    bus._redis.flushall()
    assert [video.id for video in desk.videos.all()] == [film]


def test_a_video_that_cannot_go_on_keeps_no_other_from_it(desk: Desk, bus: Bus) -> None:
    films = [desk.submit(), desk.submit(), desk.submit()]
    for film in films:
        desk.do(film, "plan")
    for film in films[:2]:
        desk.media.write(plan_path(film), b"{}")
    bus._redis.flushall()
    desk.videos.keep(retention_s=None)
    assert desk.waiting(films[2]) == {"segment-0", "segment-1", "segment-2"}


# People and files


def test_an_edit_updates_the_report_and_voids_files_that_show_people(desk: Desk) -> None:
    film = desk.submit()
    desk.finish(film)
    for kind in (ExportKind.ANNOTATED, ExportKind.PREVIEW):
        assert desk.videos.export(film, kind).state is ExportState.RUNNING
        desk.do(film, f"export-{kind}")
    assert desk.one(film).exports == {ExportKind.ANNOTATED: DONE, ExportKind.PREVIEW: DONE}
    kept = desk.videos.put_people(film, replace(desk.videos.people(film), names={1: "Ada"}))
    assert kept == desk.videos.people(film) == People(1, names={1: "Ada"})
    assert desk.one(film).updating
    assert desk.one(film).exports == {ExportKind.PREVIEW: DONE}
    assert desk.media.list(f"videos/{film}/exports") == ["preview.mp4"]
    desk.do(film, "derive")
    assert not desk.one(film).updating
    assert desk.one(film).status is VideoStatus.DONE


def test_a_file_waits_for_the_report_to_be_up_to_date(desk: Desk) -> None:
    film = desk.submit()
    desk.finish(film)
    desk.videos.put_people(film, People(0, names={1: "Ada"}))
    desk.videos.export(film, ExportKind.SUMMARY)
    assert desk.waiting(film) == {"derive"}
    desk.do(film, "derive")
    assert desk.waiting(film) == {"export-summary"}


def test_another_name_of_the_video_is_in_its_report_and_summary(desk: Desk) -> None:
    film = desk.submit()
    desk.finish(film)
    for kind in (ExportKind.SUMMARY, ExportKind.ANNOTATED):
        desk.videos.export(film, kind)
        desk.do(film, f"export-{kind}")
    assert desk.videos.rename(film, "Monday 12/03").name == "Monday 12-03"
    assert desk.one(film).updating
    assert desk.waiting(film) == {"derive"}
    assert set(desk.one(film).exports) == {ExportKind.ANNOTATED}
    desk.do(film, "derive")
    assert not desk.one(film).updating


def test_a_file_made_during_an_edit_is_made_again(desk: Desk) -> None:
    film = desk.submit()
    desk.finish(film)
    desk.videos.export(film, ExportKind.ANNOTATED)
    assert desk.take(film, "export-annotated")
    desk.videos.put_people(film, People(0, names={1: "Ada"}))
    desk.do(film, "derive")
    desk.videos.export(film, ExportKind.ANNOTATED)
    desk.media.write(export_path(film, ExportKind.ANNOTATED), b"without Ada")
    desk.videos.exported(film, ExportKind.ANNOTATED, 0)
    desk.videos.done(film, Step("export-annotated"), "me")
    assert not desk.media.exists(export_path(film, ExportKind.ANNOTATED))
    assert desk.waiting(film) == {"export-annotated"}
    desk.do(film, "export-annotated")
    assert desk.one(film).exports == {ExportKind.ANNOTATED: DONE}


def test_two_who_edit_at_once_do_not_overwrite_each_other(desk: Desk) -> None:
    film = desk.submit()
    desk.finish(film)
    mine = theirs = desk.videos.people(film)
    desk.videos.put_people(film, replace(mine, names={1: "Ada"}))
    with pytest.raises(Conflict, match="meanwhile"):
        desk.videos.put_people(film, replace(theirs, names={1: "Eve"}))
    assert desk.videos.people(film).names == {1: "Ada"}


def test_without_a_report_there_are_neither_edits_nor_files(desk: Desk) -> None:
    film = desk.submit()
    with pytest.raises(Conflict, match="queued"):
        desk.videos.put_people(film, People(0, names={1: "Ada"}))
    with pytest.raises(Conflict, match="queued"):
        desk.videos.export(film, ExportKind.ANNOTATED)
    assert desk.videos.export(film, ExportKind.PREVIEW).state is ExportState.RUNNING
    assert desk.waiting(film) == {"plan"}
    desk.do(film, "plan")
    desk.do(film, "export-preview")
    assert desk.videos.export(film, ExportKind.PREVIEW) == DONE


def test_a_file_says_how_far_it_is_and_why_it_failed(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = desk.submit()
    desk.finish(film)
    desk.videos.export(film, ExportKind.ANNOTATED)
    desk.videos.exporting(film, ExportKind.ANNOTATED, 0.5)
    assert desk.videos.export(film, ExportKind.ANNOTATED).progress == 0.5
    desk.fail(film, "export-annotated")
    failed = desk.videos.export(film, ExportKind.ANNOTATED)
    assert (failed.state, failed.error) == (ExportState.FAILED, "export-annotated is cursed")
    assert desk.one(film).status is VideoStatus.DONE
    monkeypatch.setattr(video_bus, "_EXPORT_FAILURE_S", 0.0)
    assert desk.videos.export(film, ExportKind.ANNOTATED).state is ExportState.RUNNING
    assert desk.waiting(film) == {"export-annotated"}


def test_a_report_that_cannot_be_updated_is_said_and_stays(desk: Desk) -> None:
    film = desk.submit()
    desk.finish(film)
    desk.videos.put_people(film, People(0, names={1: "Ada"}))
    desk.fail(film, "derive")
    seen = desk.one(film)
    assert (seen.status, seen.updating) == (VideoStatus.DONE, False)
    assert "could not be updated: derive is cursed" in seen.error
    desk.videos.put_people(film, People(1, names={1: "Eve"}))
    desk.do(film, "derive")
    assert (desk.one(film).error, desk.one(film).updating) == ("", False)


# Names and time


def test_a_new_name_changes_nothing_else(desk: Desk) -> None:
    film = desk.submit()
    desk.do(film, "plan")
    before = desk.one(film)
    assert desk.videos.rename(film, "Ferien\n1/2") == replace(before, name="Ferien 1-2")


def test_the_time_left_follows_from_the_frames_done_lately(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = desk.submit()
    desk.do(film, "plan")
    assert desk.videos.eta_s(desk.one(film)) is None
    now = time.time()
    for second, frames in enumerate((0, 2, 4)):
        monkeypatch.setattr("shared.video_bus.time.time", lambda at=now + second: at)
        desk.videos._bus.sample_rate(film, frames)
    assert desk.take(film, "segment-0")
    desk.videos.hold(film, Step("segment-0"), "me", frames=6)
    assert desk.videos.eta_s(desk.one(film)) == pytest.approx((30 - 6) / 2)


def test_one_keeper_leads(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_bus, "LEADER_S", 0.1)
    assert desk.videos.lead("one")
    assert not desk.videos.lead("two")
    assert desk.videos.lead("one")
    time.sleep(0.15)
    assert desk.videos.lead("two")
