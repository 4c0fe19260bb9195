"""Videos through real worker processes: whatever is killed, the report comes out the same."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.config import PROJECT_DIR, Settings
from shared.errors import NotFound
from shared.video import ExportKind, ExportState, People, Video, VideoOptions, VideoStatus
from tests import buckets
from tests.workers.looped import looped
from tests.workers.plant import Plant
from workers import analysis

OPTIONS = VideoOptions(fps=2.5)
FRAMES = 250


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hundred seconds of the demo."""
    demo = PROJECT_DIR / "workers" / "demo" / "demo.mp4"
    return looped(demo, tmp_path_factory.mktemp("clip") / "long.mp4", 5)


@pytest.fixture(scope="module")
def expected(clip: Path) -> bytes:
    """The report as ``moodline analyze`` makes it."""
    settings = Settings(_env_file=None)
    with analysis.analysed(
        clip, OPTIONS, lambda: settings, workers=2, progress=lambda done, total: None
    ) as (media, video):
        return media.read(f"videos/{video.id}/report/results.json")


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    with Plant(tmp_path_factory.mktemp("plant"), workers=1) as plant:
        yield plant


def is_half_way(video: Video) -> bool:
    return video.frames_done > FRAMES / 5


def test_one_worker_gives_the_report_of_the_command_line(
    plant: Plant, clip: Path, expected: bytes
) -> None:
    video = plant.submit(clip, OPTIONS)
    done = plant.wait_until_done(video)
    assert (done.status, done.error) == (VideoStatus.DONE, "")
    assert (done.frames_done, done.frames_total) == (FRAMES, FRAMES)
    assert plant.results(video) == expected


def test_four_workers_that_are_killed_give_the_same_report(
    tmp_path: Path, clip: Path, expected: bytes
) -> None:
    with Plant(tmp_path, workers=4) as plant:
        video = plant.submit(clip, OPTIONS)
        plant.wait_for(video, is_half_way)
        plant.kill(2)
        seen = plant.videos.one(video.id)
        assert not seen.status.is_final
        done = plant.wait_until_done(video)
        assert (done.status, done.error) == (VideoStatus.DONE, "")
        assert plant.results(video) == expected


def test_redis_that_forgets_everything_in_mid_video_does_not_matter(
    tmp_path: Path, clip: Path, expected: bytes
) -> None:
    with Plant(tmp_path, workers=2) as plant:
        video = plant.submit(clip, OPTIONS)
        plant.wait_for(video, is_half_way)
        plant.restart_redis()
        assert plant.videos.all()[0].id == video.id
        assert plant.wait_until_done(video).status is VideoStatus.DONE
        assert plant.results(video) == expected


def test_everything_ended_and_started_again_goes_on_where_it_was(
    tmp_path: Path, clip: Path, expected: bytes
) -> None:
    with Plant(tmp_path, workers=2) as plant:
        video = plant.submit(clip, OPTIONS)
        plant.wait_for(video, is_half_way)
    segments = set(plant.media.list(f"videos/{video.id}/segments"))
    written = {name: plant.media.age_s(f"videos/{video.id}/segments/{name}") for name in segments}
    ended_at = time.monotonic()
    with Plant(tmp_path, workers=2) as plant:
        assert plant.wait_until_done(video).status is VideoStatus.DONE
        assert plant.results(video) == expected
        elapsed_s = time.monotonic() - ended_at
        for name in segments:
            # Nothing that was there has been made again.
            age_s = plant.media.age_s(f"videos/{video.id}/segments/{name}")
            assert age_s >= written[name] + elapsed_s - 0.1


def test_cancelling_takes_effect_within_two_seconds_and_can_be_taken_back(
    plant: Plant, clip: Path, expected: bytes
) -> None:
    video = plant.submit(clip, OPTIONS)
    plant.wait_for(video, lambda seen: seen.frames_done > 0)
    assert plant.videos.cancel(video.id).status is VideoStatus.CANCELLED
    time.sleep(2)
    frames = plant.videos.one(video.id).frames_done
    time.sleep(0.7)
    assert plant.videos.one(video.id).frames_done == frames < FRAMES
    assert plant.videos._bus.work([video.id])[video.id].held == frozenset()
    plant.videos.retry(video.id)
    assert plant.wait_until_done(video).status is VideoStatus.DONE
    assert plant.results(video) == expected


def test_deleting_in_mid_work_leaves_nothing(plant: Plant, clip: Path) -> None:
    video = plant.submit(clip, OPTIONS)
    plant.wait_for(video, lambda seen: seen.frames_done > 0)
    plant.videos.delete(video.id)
    time.sleep(1.5)
    assert plant.media.list(f"videos/{video.id}") == []
    assert list((plant.folder / "media" / ".drafts").iterdir()) == []
    with pytest.raises(NotFound):
        plant.videos.one(video.id)
    left = plant.videos._bus._redis.keys(f"moodline:video:{video.id}:*")
    assert left == [f"moodline:video:{video.id}:deleted".encode()]


def test_names_come_into_the_report_and_files_are_made_when_asked_for(
    plant: Plant, tmp_path: Path
) -> None:
    video = plant.submit(PROJECT_DIR / "workers" / "demo" / "demo.mp4", VideoOptions(fps=2))
    plant.wait_until_done(video)
    assert plant.videos.export(video.id, ExportKind.SUMMARY).state is ExportState.RUNNING
    made = plant.wait_for(
        video, lambda seen: seen.exports[ExportKind.SUMMARY].state is not ExportState.RUNNING
    )
    assert made.exports[ExportKind.SUMMARY].state is ExportState.DONE
    assert plant.media.read(f"videos/{video.id}/exports/summary.pdf").startswith(b"%PDF")
    people = plant.videos.people(video.id)
    plant.videos.put_people(video.id, People(people.revision, names={1: "Ada"}))
    assert plant.media.list(f"videos/{video.id}/exports") == []
    plant.wait_for(video, lambda seen: not seen.updating)
    assert b'"Ada"' in plant.media.read(f"videos/{video.id}/report/summary.json")
    assert plant.videos.one(video.id).exports == {}


def test_a_worker_with_a_retention_time_deletes_what_is_past_it(tmp_path: Path) -> None:
    with Plant(tmp_path, workers=0) as plant:
        plant.add_worker(MOODLINE_RETENTION_DAYS=str(1 / 86400))
        video = plant.submit(PROJECT_DIR / "workers" / "demo" / "demo.mp4", VideoOptions(fps=1))
        deadline = time.monotonic() + 60
        while plant.media.list("videos"):
            assert time.monotonic() < deadline, plant.logs()
            time.sleep(0.1)
        with pytest.raises(NotFound):
            plant.videos.one(video.id)


def test_workers_that_share_nothing_but_redis_and_a_bucket(
    tmp_path: Path, clip: Path, expected: bytes
) -> None:
    with (
        buckets.bucket_server(tmp_path / "s3.log") as variables,
        buckets.in_environment(variables),
        Plant(tmp_path / "a", workers=0, media_url=f"s3://{buckets.BUCKET}/media") as plant,
    ):
        for name in ("b", "c"):
            plant.add_worker(MOODLINE_DATA_DIR=str(tmp_path / name), TMPDIR=str(tmp_path))
        video = plant.submit(clip, OPTIONS)
        done = plant.wait_until_done(video)
        assert (done.status, done.error) == (VideoStatus.DONE, "")
        assert plant.results(video) == expected
        assert not (tmp_path / "a" / "media").exists()
        plant.videos.delete(video.id)
        assert plant.media.list("videos") == []
        assert list(tmp_path.glob("moodline-*")) == []
