"""A training learns, repeats itself exactly, and goes on where it was interrupted."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from shared.errors import DataError
from tests.training.builders import face_set
from training import model as network
from training.data import CleanSplit, clean_split
from training.train import (
    Progress,
    Settings,
    cross_entropy,
    load_trained,
    predict_logits,
    read_log,
    train,
)

TINY = Settings(
    size=32, weights="none", head_epochs=1, epochs=1, batch=8, learning_rate=2e-3, warmup_epochs=0.5
)


ENDLESSLY_SLOW = """
import sys, time
from pathlib import Path
from tests.training.test_train import TINY, clean_split, face_set, train
from training.__main__ import limit_threads

limit_threads(2)
split = clean_split(face_set(60), calibration_share=0.2, seed=1)
at = lambda now: time.sleep(1000 if (now.epoch, now.step) == (1, 3) else 0)
train(split, TINY, Path(sys.argv[1]), report=at, save_seconds=0)
"""
"""A training that saves after each step and stands still in the second epoch."""


@pytest.fixture(scope="module")
def split() -> CleanSplit:
    return clean_split(face_set(60), calibration_share=0.2, seed=1)


@pytest.fixture(scope="module")
def finished(split: CleanSplit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted."""
    run_dir = tmp_path_factory.mktemp("runs") / "finished"
    train(split, TINY, run_dir)
    return run_dir


def weights(run_dir: Path) -> list[np.ndarray]:
    with np.load(run_dir / "weights.npz") as values:
        return [values[f"w{i}"] for i in range(len(values.files))]


def assert_same(one: Path, other: Path) -> None:
    for a, b in zip(weights(one), weights(other), strict=True):
        np.testing.assert_array_equal(a, b)
    figures = [[replace(e, seconds=0.0) for e in read_log(run)] for run in (one, other)]
    assert figures[0] == figures[1]


@pytest.mark.slow
class TestARun:
    def test_leaves_settings_log_curves_and_weights(
        self, finished: Path, split: CleanSplit
    ) -> None:
        log = read_log(finished)
        assert [(e.epoch, e.stage) for e in log] == [(0, "head"), (1, "whole")]
        assert all(np.isfinite([e.training_loss, e.calibration_loss]).all() for e in log)
        written = json.loads((finished / "settings.json").read_text())
        assert written["settings"]["seed"] == TINY.seed
        assert written["training_pictures"] == len(split.training)
        assert cv2.imread(str(finished / "curves.png")) is not None
        logits = predict_logits(load_trained(finished, 3), split.calibration.pixels, TINY.size)
        loss = cross_entropy(logits, split.calibration.targets)
        assert loss == pytest.approx(log[-1].calibration_loss, abs=1e-4)

    @pytest.mark.parametrize("at", [(0, 3), (1, 4)])
    def test_with_the_same_seed_gives_the_same_weights_also_when_interrupted(
        self, finished: Path, split: CleanSplit, tmp_path: Path, at: tuple[int, int]
    ) -> None:
        def interrupt(now: Progress) -> None:
            if (now.epoch, now.step) == at:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train(split, TINY, tmp_path / "run", report=interrupt, save_seconds=0)
        steps: list[tuple[int, int]] = []
        train(split, TINY, tmp_path / "run", report=lambda p: steps.append((p.epoch, p.step)))
        assert steps[0] >= (at[0], at[1] - 1)  # what was saved was not done again
        assert_same(finished, tmp_path / "run")

    def test_killed_in_the_middle_goes_on_as_if_nothing_had_been(
        self, finished: Path, tmp_path: Path
    ) -> None:
        run_dir = tmp_path / "run"
        with subprocess.Popen([sys.executable, "-c", ENDLESSLY_SLOW, str(run_dir)]) as process:
            deadline = time.monotonic() + 180
            while not (run_dir / "state.npz").is_file() and time.monotonic() < deadline:
                time.sleep(0.1)
            process.kill()
        assert (run_dir / "state.npz").is_file()
        assert len(read_log(run_dir)) < 2
        train(clean_split(face_set(60), calibration_share=0.2, seed=1), TINY, run_dir)
        assert_same(finished, run_dir)

    def test_that_is_finished_does_nothing_more(self, finished: Path, split: CleanSplit) -> None:
        before = weights(finished)
        steps: list[Progress] = []
        train(split, TINY, finished, report=steps.append)
        assert steps == []
        for a, b in zip(before, weights(finished), strict=True):
            np.testing.assert_array_equal(a, b)

    @pytest.mark.parametrize(
        "other", [replace(TINY, seed=2), replace(TINY, epochs=3), replace(TINY, mixup=0.0)]
    )
    def test_is_not_continued_with_other_settings(
        self, finished: Path, split: CleanSplit, other: Settings
    ) -> None:
        with pytest.raises(DataError, match=r"other (seed|epochs|mixup)"):
            train(split, other, finished)

    def test_is_not_continued_with_other_data(self, finished: Path) -> None:
        other = clean_split(face_set(60, seed=9), calibration_share=0.2, seed=1)
        with pytest.raises(DataError, match="training_sha256"):
            train(other, TINY, finished)


def taught(teacher: Path, distil: float = 0.5) -> Settings:
    return replace(TINY, head_epochs=0, teacher=str(teacher), distil=distil, seed=2)


@pytest.fixture(scope="module")
def second(finished: Path, split: CleanSplit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted, with `finished` for its teacher."""
    run_dir = tmp_path_factory.mktemp("runs") / "second"
    train(split, taught(finished), run_dir)
    return run_dir


@pytest.mark.slow
class TestASecondGeneration:
    def test_starts_where_its_teacher_ended_and_can_learn_from_it_alone(
        self, finished: Path, split: CleanSplit, tmp_path: Path
    ) -> None:
        targets = np.roll(split.training.targets, 7, axis=0)  # labels that say nothing
        nonsense = replace(split, training=replace(split.training, targets=targets))
        settings = replace(taught(finished, distil=1.0), learning_rate=1e-9)
        for name, labelled in (("one", split), ("two", nonsense)):
            train(labelled, settings, tmp_path / name)
        assert_same(tmp_path / "one", tmp_path / "two")
        for teacher, student in zip(weights(finished), weights(tmp_path / "one"), strict=True):
            if teacher.ndim != 1:  # batch norm goes on learning its averages
                np.testing.assert_allclose(student, teacher, atol=1e-6)

    def test_is_the_same_when_interrupted(
        self, finished: Path, second: Path, split: CleanSplit, tmp_path: Path
    ) -> None:
        def interrupt(now: Progress) -> None:
            if now.step == 4:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train(split, taught(finished), tmp_path / "run", report=interrupt, save_seconds=0)
        train(split, taught(finished), tmp_path / "run")
        assert_same(second, tmp_path / "run")

    def test_can_be_mixed_with_its_teacher(self, finished: Path, second: Path) -> None:
        mixed = load_trained(second, 3, soup=0.25).get_weights()
        for mean, teacher, student in zip(mixed, weights(finished), weights(second), strict=True):
            np.testing.assert_allclose(mean, 0.25 * teacher + 0.75 * student, atol=1e-6)

    def test_is_not_continued_with_another_teacher(self, second: Path, split: CleanSplit) -> None:
        with pytest.raises(DataError, match="teacher_sha256"):
            train(split, taught(second), second)

    def test_wants_a_teacher_that_knows_its_classes_and_has_learned(
        self, finished: Path, split: CleanSplit, tmp_path: Path
    ) -> None:
        other = replace(split, training=replace(split.training, labels=("a", "b", "c")))
        with pytest.raises(DataError, match="cannot teach"):
            train(other, taught(finished), tmp_path / "run")
        young = tmp_path / "young"
        young.mkdir()
        (young / "settings.json").write_bytes((finished / "settings.json").read_bytes())
        with pytest.raises(DataError, match="no weights yet"):
            train(split, taught(young), tmp_path / "run")


@pytest.mark.slow
def test_a_network_learns_what_can_be_learned(tmp_path: Path) -> None:
    """From the shipped backbone, three kinds of faces are told apart after a few dozen steps."""
    from tests.training.test_evaluate import SHIPPED  # noqa: PLC0415

    split = clean_split(face_set(90, public=0), calibration_share=0.3, seed=1)
    settings = replace(TINY, weights=str(SHIPPED), epochs=9, size=64, mixup=0.0)
    train(split, settings, tmp_path / "run")
    log = read_log(tmp_path / "run")
    assert log[-1].accuracy > 0.9
    assert log[-1].calibration_loss < 0.7 * log[0].calibration_loss


class TestTheNetwork:
    def test_gives_the_same_in_the_form_that_ships(self) -> None:
        model = network.build(32, 5, None, dropout=0.3)
        faces = np.random.default_rng(0).uniform(0, 255, (3, 32, 32, 1)).astype(np.float32)
        copy = network.portable(model)
        np.testing.assert_allclose(
            model.predict_on_batch(faces), copy.predict_on_batch(faces), atol=1e-5
        )
        layers = list(copy.get_layer(network.BACKBONE).layers)
        assert not any(isinstance(layer, network.QuickBatchNormalization) for layer in layers)

    def test_trains_batch_normalisation_as_keras_does(self) -> None:
        import keras  # noqa: PLC0415  slow

        quick, plain = (
            network.QuickBatchNormalization(momentum=0.9),
            keras.layers.BatchNormalization(momentum=0.9),
        )
        images = np.random.default_rng(0).normal(3, 2, (16, 4, 4, 6)).astype(np.float32)
        ours, theirs = quick(images, training=True), plain(images, training=True)
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
        np.testing.assert_allclose(quick.moving_mean, plain.moving_mean, atol=1e-5)
        np.testing.assert_allclose(quick.moving_variance, plain.moving_variance, rtol=0.02)

    def test_on_grey_equals_the_colour_network_on_grey_three_times(self, tmp_path: Path) -> None:
        import keras  # noqa: PLC0415  slow

        colour = keras.applications.MobileNetV2(
            input_shape=(32, 32, 3), include_top=False, weights=None
        )
        colour.save_weights(tmp_path / "colour.weights.h5")
        model = network.build(32, 4, tmp_path / "colour.weights.h5", dropout=0)
        face = np.random.default_rng(0).uniform(-1, 1, (1, 32, 32, 1)).astype(np.float32)
        ours = model.get_layer(network.BACKBONE).predict_on_batch(face)
        theirs = colour.predict_on_batch(np.repeat(face, 3, axis=3))
        np.testing.assert_allclose(ours, theirs, atol=1e-4)

    @pytest.mark.parametrize(
        ("weights_of", "said"),
        [
            (lambda p: p / "gone.weights.h5", "There is no"),
            (lambda p: p, r"holds no model\.keras"),
            (lambda p: Path(__file__), "does not hold the weights"),
        ],
    )
    def test_names_weights_that_do_not_fit(
        self, tmp_path: Path, weights_of: object, said: str
    ) -> None:
        assert callable(weights_of)
        with pytest.raises(DataError, match=said):
            network.build(32, 4, weights_of(tmp_path), dropout=0)

    def test_takes_no_size_that_its_strides_do_not_divide(self) -> None:
        with pytest.raises(DataError, match="multiple of 32"):
            network.build(50, 4, None, dropout=0)
