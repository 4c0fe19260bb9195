"""Every benchmark once in its smallest form: what it gives, never how fast."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from bench import live, overload, plots
from bench.overload import Arrival, Count, Look
from shared.config import PROJECT_DIR
from shared.errors import MoodlineError

HAS_TENSORFLOW = importlib.util.find_spec("tensorflow") is not None


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "moodline", "bench", *words],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
        env={**os.environ, **environment},
    )


def bench(*words: str) -> dict[str, Any]:
    done = run(*words, "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert isinstance(figures, dict)
    return figures


@pytest.mark.slow
def test_classifier_gives_a_rate_for_each_backend_batch_and_number_of_threads() -> None:
    figures = bench("classifier", "--threads", "2", "--seconds", "0.05")

    backends = {"litert-int8", "litert"}
    backends |= {"keras", "keras-predict"} if HAS_TENSORFLOW else set()
    rows = figures["rows"]
    assert {(row["backend"], row["threads"], row["batch"]) for row in rows} == {
        (backend, 2, batch) for backend in backends for batch in (1, 8, 32)
    }
    assert len(rows) == len(backends) * 3
    assert all(row["faces_per_s"] > 0 for row in rows)
    assert set(figures["skipped"]) == {"keras", "keras-predict"} - backends


def test_classifier_says_what_to_do_where_there_is_no_model(tmp_path: Path) -> None:
    done = run("classifier", MOODLINE_MODEL=str(tmp_path / "none"))

    assert done.returncode == 1
    assert "there is no model folder" in done.stderr
    assert "Traceback" not in done.stderr


def test_pipeline_is_measured_against_the_bare_loop_by_stages() -> None:
    figures = bench("pipeline", "--seconds", "0.5")

    assert [row["detect"] for row in figures["rows"]] == ["every-frame", "adaptive"]
    assert figures["frames"] >= 64
    assert figures["size"] == "640x480"
    assert figures["ratio"] > 0
    assert figures["ratio"] == pytest.approx(figures["fps"] / figures["bare_fps"], rel=0.5)
    assert set(figures["stages_ms"]) == {"decode", "detect", "classify", "rest"}
    assert set(figures["bare_stages_ms"]) == {"decode", "detect", "classify"}
    # The stages are all of the time, and faces were there to be classified.
    assert all(spent > 0 for spent in figures["bare_stages_ms"].values())
    assert all(spent > 0 for stage, spent in figures["stages_ms"].items() if stage != "rest")
    assert sum(figures["stages_ms"].values()) == pytest.approx(1000 / figures["fps"], rel=0.5)


def test_video_is_measured_by_number_of_workers_and_the_last_stands_at_the_top(
    tmp_path: Path,
) -> None:
    plot = tmp_path / "video.svg"
    figures = bench("video", "--workers", "1,2", "--seconds", "2", "--plot", str(plot))

    ways = [(row["detect"], row["workers"]) for row in figures["rows"]]
    assert ways == [("every-frame", 1), ("every-frame", 2), ("adaptive", 1), ("adaptive", 2)]
    assert b"<svg" in plot.read_bytes()
    for row in figures["rows"]:
        assert row["frames"] == 30
        assert row["fps"] > 0
        assert row["bare_fps"] > 0
        assert row["ratio"] == pytest.approx(row["fps"] / row["bare_fps"], rel=0.02, abs=0.01)
    assert figures["rows"][-1].items() <= figures.items()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is forked")
def test_video_begins_its_workers_as_the_command_does() -> None:
    command = [sys.executable, "-m", "moodline", "bench", "video", "--seconds", "2"]
    began: dict[int, list[str]] = {}
    deadline = time.monotonic() + 60
    with subprocess.Popen([*command, "--workers", "1,2"], stdout=subprocess.DEVNULL) as process:
        bench = psutil.Process(process.pid)
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(psutil.NoSuchProcess):
                for child in bench.children(recursive=True):
                    began.setdefault(child.pid, child.cmdline())
            time.sleep(0.005)
        process.kill()
    assert process.returncode == 0
    assert len(began) >= 6, "both ways, one worker and two"
    assert [words for words in began.values() if "workers.crew" in words] == [], "started anew"


def test_video_says_what_is_wrong_with_a_file_that_is_none(tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("no video")

    done = run("video", str(text))

    assert done.returncode == 1
    assert str(text) in done.stderr
    assert "Traceback" not in done.stderr


def test_detection_says_how_alike_both_ways_are_and_what_is_saved() -> None:
    figures = bench("detection", "--seconds", "2")

    (row,) = figures["rows"]
    assert row["frames"] == 30
    assert figures["same"] == row["same"] >= 0.95
    assert row["same_every_frame"] >= 0.95
    assert row["people"] == "1, 1, 1"
    assert 0 < row["searches"] < 0.7
    assert row["adaptive_ms"] > 0
    assert row["every_frame_ms"] > 0
    assert row["afresh_ms"] > 0


@pytest.mark.parametrize("limit", [0, 1, 11, 16, 500])
def test_the_limit_is_found_from_any_start(limit: int) -> None:
    tried: list[int] = []

    def measured(feeds: int) -> dict[str, Any]:
        tried.append(feeds)
        return {"feeds": feeds, "in_time": 0.96 if feeds <= limit else 0.94}

    found, rows = live.find_limit(8, measured)

    assert found == limit
    assert [row["feeds"] for row in rows] == sorted(set(tried))
    assert len(rows) <= 8
    assert all(tried.count(feeds) == (1 if feeds <= limit else 2) for feeds in tried)


def test_a_number_of_feeds_that_failed_by_chance_is_tried_again() -> None:
    shares = {8: iter([0.5, 0.97]), 16: iter([0.6, 0.7]), 12: iter([0.99]), 14: iter([0.4, 0.3])}

    def measured(feeds: int) -> dict[str, Any]:
        return {"feeds": feeds, "in_time": next(shares.get(feeds, iter([0.0, 0.1])), 0.0)}

    found, rows = live.find_limit(8, measured)

    assert found == 12
    assert {row["feeds"]: row["in_time"] for row in rows}.items() >= {8: 0.97, 16: 0.7}.items()


def test_feeds_with_which_nothing_comes_up_are_too_many() -> None:
    def measured(feeds: int) -> dict[str, Any]:
        if feeds > 5:
            raise MoodlineError("It did not come up.")
        return {"feeds": feeds, "in_time": 1.0}

    found, rows = live.find_limit(4, measured)

    assert (found, [row["feeds"] for row in rows]) == (5, [4, 5])


def test_where_nothing_comes_up_at_all_there_is_no_limit_but_a_reason() -> None:
    def measured(feeds: int) -> dict[str, Any]:
        raise MoodlineError("It did not come up.")

    with pytest.raises(MoodlineError, match="did not come up"):
        live.find_limit(4, measured)


def looks(*rows: tuple[float, int, int, str]) -> list[Look]:
    """Looks at one feed: when, frames analysed and dropped so far, its step of overload."""
    return [
        Look(at, {"a": Count(analysed, dropped, degraded)})
        for at, analysed, dropped, degraded in rows
    ]


def arrivals(begin: float, *delays_s: float, feed: str = "a") -> list[Arrival]:
    """Ten frames in each second, all of its delay."""
    return [
        Arrival(begin + second + tenth / 10, feed, delay_s)
        for second, delay_s in enumerate(delays_s)
        for tenth in range(10)
    ]


CALM = [(100.0 + k / 2, 0, 7, "") for k in range(11)]


@pytest.mark.parametrize(
    ("changed", "delays_s", "expected"),
    [
        ({}, [0.1] * 5, 0.0),
        ({0: "skip", 3: "smaller"}, [0.1] * 5, 2.0),  # the next look after the last step
        ({}, [0.3, 0.1, 0.3, 0.1, 0.1], 3.0),  # the end of the last late second
        ({9: "skip"}, [0.1] * 5, 5.0),
        ({10: "skip"}, [0.1] * 5, None),  # it ends in a step
        ({}, [0.1, 0.1, 0.1, 0.1, 0.3], None),  # it ends late
    ],
)
def test_recovered_is_from_when_nothing_is_wrong_any_more(
    changed: dict[int, str], delays_s: list[float], expected: float | None
) -> None:
    rows = [(*row[:3], changed.get(k, "")) for k, row in enumerate(CALM)]

    found = overload.recovery(100.0, ["a"], looks(*rows), arrivals(100.0, *delays_s))

    assert found["drops"] == 0.0
    assert overload.recovered_s(found.values()) == expected


def test_a_frame_dropped_late_is_no_recovery_but_one_before_the_end_of_the_overload_is() -> None:
    before = [(99.0, 0, 0, "skip")]
    rows = [(at, 0, 7 if at < 102.0 else 8, "") for at, *_ in CALM]

    found = overload.recovery(100.0, ["a"], looks(*before, *rows), arrivals(100.0, *[0.1] * 5))

    assert found == {"steps": 0.0, "drops": 2.5, "delay": 0.0}


def test_a_second_without_a_frame_of_one_of_the_feeds_is_no_recovery() -> None:
    both = [Look(look.at, {"a": look.feeds["a"], "b": look.feeds["a"]}) for look in looks(*CALM)]
    seen = arrivals(100.0, *[0.1] * 5)
    late = [each for each in arrivals(100.0, *[0.1] * 5, feed="b") if not 101 <= each.at < 102]

    assert overload.recovery(100.0, ["a", "b"], both, seen + late)["delay"] == 2.0
    assert overload.recovery(100.0, ["a", "b"], both, seen)["delay"] is None


def test_a_phase_tells_rates_and_drops_of_feeds_that_were_there_throughout() -> None:
    seen = [
        Look(10.0, {"a": Count(0, 0, ""), "b": Count(100, 5, "")}),
        Look(11.0, {"a": Count(20, 0, "skip"), "b": Count(130, 5, "skip"), "c": Count(1, 0, "")}),
        Look(12.0, {"a": Count(20, 8, ""), "b": Count(160, 5, ""), "c": Count(9, 90, "")}),
        Look(13.0, {"a": Count(900, 900, "")}),
    ]
    came = arrivals(10.0, 0.1, 0.2, 0.9) + arrivals(10.0, 0.1, 0.3, 0.9, feed="b")

    row = overload.phase((10.0, 12.0), ["a", "b"], seen, came)

    assert (row["seconds"], row["feeds"]) == (2.0, 3)
    assert (row["analysed_fps_min"], row["analysed_fps_mean"]) == (10.0, 20.0)
    assert (row["dropped_max"], row["dropped_mean"]) == (8, 4.0)
    assert (row["delay_ms"]["p50"], row["delay_ms"]["max"]) == (200.0, 900.0)
    assert row["calm"] == 0.5
    assert row["degraded"] == {"skip": 2}


def test_overload_tells_of_every_phase_and_of_the_way_back() -> None:
    figures = bench(
        *("live", "--feeds", "1", "--overload", "2", "--fps", "5"),
        *("--seconds", "1", "--workers", "1"),
    )

    rows = {row["phase"]: row for row in figures["rows"]}
    assert list(rows) == ["before", "joining", "overload", "after"]
    assert [rows[name]["feeds"] for name in ("before", "overload", "after")] == [1, 3, 1]
    for row in rows.values():
        assert row["delay_ms"]["p50"] <= row["delay_ms"]["p95"] <= row["delay_ms"]["max"]
    assert rows["before"]["analysed_fps_min"] > 0
    assert rows["overload"]["analysed_fps_min"] > 0
    assert "recovered_s" in figures  # in a second it may have been too early for it


@pytest.mark.parametrize("command", plots.AXES)
def test_every_benchmarks_rows_can_be_drawn(command: str, tmp_path: Path) -> None:
    axes = plots.AXES[command]
    rows = [
        {
            axes.x: x,
            **dict.fromkeys(axes.by, "a"),
            "delay_ms": {"p50": 1, "p95": 2, "p99": 3, "max": 4},
        }
        | {y: 1.0 for y in axes.y if "." not in y}
        for x in (1, 2)
    ]
    plots.save(command, rows, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_a_plot_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    done = run("video", "--seconds", "0.2", "--plot", str(tmp_path / "none" / "plot.png"))

    assert done.returncode == 1
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr


def test_scale_counts_what_simulated_workers_publish() -> None:
    figures = bench(
        *("scale", "--workers", "2", "--feeds", "4", "--fps", "10"),
        *("--cost-ms", "5", "--seconds", "2"),
    )

    assert (figures["workers"], figures["feeds"]) == (2, 4)
    assert figures["ideal_frames_per_s"] == 40.0  # what the cameras give, not what could be slept
    assert 0 < figures["ratio"] < 1.5
    assert figures["ratio"] == pytest.approx(figures["frames_per_s"] / 40, abs=0.01)
    assert 0 < figures["fairness"] <= 1
    assert set(figures["busy_cores"]) == {"redis", "workers", "cameras", "machine"}


def test_scale_is_bound_by_what_workers_can_sleep_and_counts_what_they_drop() -> None:
    figures = bench(
        *("scale", "--workers", "1", "--feeds", "4", "--fps", "30"),
        *("--cost-ms", "50", "--seconds", "2"),
    )

    assert figures["ideal_frames_per_s"] == 20.0
    assert figures["frames_per_s"] < 40
    assert figures["dropped"] > 0


def test_simulated_workers_load_neither_models_nor_numpy() -> None:
    code = "import sys, bench.simulated; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT_DIR
    ).stdout.split()

    assert not {"numpy", "cv2", "ai_edge_litert", "av", "tensorflow"} & set(loaded)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda n: n.name)
def test_scale_leaves_no_process_behind_however_it_ends(
    number: signal.Signals, tmp_path: Path
) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "moodline", "bench", "scale", "--workers", "3", "--seconds", "60"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(tmp_path)},  # who is killed cannot put its folder away
    ) as command:
        deadline = time.monotonic() + 30
        # Redis, the workers with their parent, and the cameras with theirs.
        while len(started := psutil.Process(command.pid).children(recursive=True)) < 7:
            assert time.monotonic() < deadline, started
            time.sleep(0.1)
        command.send_signal(number)
        command.wait(10)
        _, alive = psutil.wait_procs(started, timeout=10)

    assert alive == []


@pytest.mark.parametrize(
    "words",
    [
        ("scale", "--workers", "65"),
        ("scale", "--workers", "1,x"),
        ("scale", "--feeds", "501"),
        ("pipeline", "--clip", "nowhere.mp4"),
        ("live", "--overload", "4", "--find-limit"),
        ("live", "--overload", "4", "--fps", "1"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_measured_is_misuse(words: tuple[str, ...]) -> None:
    done = run(*words)

    assert done.returncode == 2
    assert "Usage:" in done.stderr


def test_without_json_it_is_a_table_for_people() -> None:
    done = run("video", "--seconds", "1")

    assert done.returncode == 0, done.stderr
    assert "bare fps" in done.stdout
    assert "{" not in done.stdout
