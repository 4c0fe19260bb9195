"""Figures agree with those worked out by hand; photographs count what was not found."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from shared.errors import DataError
from tests.workers.conftest import MODELS
from training.data import FER2013_LABELS, FERPLUS_LABELS, FaceSet
from training.evaluate import (
    Answers,
    answer_faces,
    calibration_error,
    evaluate_photographs,
    measure,
    plot_confusion,
    plot_errors,
    plot_reliability,
    wilson_interval,
)
from workers.vision.classifier import load_classifier
from workers.vision.detector import ImageBGR, load_detector

SHIPPED = MODELS / "moodline-mobilenetv2"
LABELS = ("surprise", "fear", "happy")


def answers(*rows: tuple[int, Sequence[float]]) -> Answers:
    """Truth and probabilities of a few faces."""
    return Answers(
        crops=np.full((len(rows), 8, 8, 3), 128, np.uint8),
        probabilities=np.array([row for _, row in rows], np.float32),
        truth=np.array([truth for truth, _ in rows], np.intp),
        labels=LABELS,
    )


FIVE = answers(
    (0, (0.8, 0.1, 0.1)),
    (0, (0.625, 0.275, 0.1)),
    (1, (0.625, 0.375, 0.0)),  # fear called surprise
    (1, (0.125, 0.2, 0.675)),  # fear called happy, but likelier fear than surprise
    (2, (0.0, 0.0, 1.0)),
)


def test_figures_are_those_worked_out_by_hand() -> None:
    figures = measure(FIVE.probabilities, FIVE.truth, LABELS)
    assert figures.accuracy == pytest.approx(3 / 5)
    assert figures.confusion == ((2, 0, 0), (1, 0, 1), (0, 0, 1))
    assert figures.classes["surprise"].recall == 1
    assert figures.classes["surprise"].precision == pytest.approx(2 / 3)
    assert figures.classes["fear"].recall == 0
    assert math.isnan(figures.classes["fear"].precision)
    assert figures.balanced_accuracy == pytest.approx(2 / 3)
    assert figures.macro_f1 == pytest.approx((0.8 + 0 + 2 / 3) / 3)
    assert math.isnan(figures.macro_recall)  # no class has 50 pictures
    assert figures.cross_entropy == pytest.approx(
        -np.log([0.8, 0.625, 0.375, 0.2, 1.0]).mean(), abs=1e-6
    )
    assert figures.unsure["0.60"]["answered"] == pytest.approx(5 / 5)
    assert figures.unsure["0.70"]["right_of_answered"] == pytest.approx(2 / 2)


def test_fear_and_surprise_are_told_apart_on_their_own() -> None:
    pair = measure(FIVE.probabilities, FIVE.truth, LABELS).fear_surprise
    assert pair is not None
    assert (pair.first, pair.second) == ("fear", "surprise")
    assert pair.first_called_second == 0.5
    assert pair.second_called_first == 0
    assert pair.told_apart == pytest.approx(3 / 4)
    assert measure(FIVE.probabilities, FIVE.truth, ("a", "b", "c")).fear_surprise is None


def test_a_macro_recall_leaves_out_classes_of_few_pictures() -> None:
    truth = np.array([0] * 50 + [1] * 49 + [2] * 60)
    right = np.eye(3, dtype=np.float32)[np.where(truth == 1, 0, truth)]
    assert measure(right, truth, LABELS).macro_recall == 1
    assert measure(right, truth, LABELS).balanced_accuracy == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("confidence", "right", "error"),
    [
        ([0.9] * 10, [True] * 9 + [False], 0.0),
        ([1.0] * 4, [True, True, False, False], 0.5),
        ([0.5, 0.5, 1.0, 1.0], [False, False, True, True], 0.25),
    ],
)
def test_calibration_error_is_the_gap_between_confidence_and_being_right(
    confidence: list[float], right: list[bool], error: float
) -> None:
    measured = calibration_error(np.array(confidence), np.array(right))
    assert measured == pytest.approx(error, abs=1e-9)


def test_wilsons_interval_is_the_published_one() -> None:
    low, high = wilson_interval(81, 263)  # Newcombe 1998, table 1
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    assert wilson_interval(0, 10)[0] == 0
    assert wilson_interval(10, 10)[1] == pytest.approx(1)


def test_figures_are_valid_json_where_something_is_unknown() -> None:
    text = json.dumps(measure(FIVE.probabilities, FIVE.truth, LABELS).as_json(), allow_nan=False)
    assert json.loads(text)["classes"]["fear"]["precision"] is None


def test_plots_are_written(tmp_path: Path) -> None:
    figures = measure(FIVE.probabilities, FIVE.truth, LABELS)
    plot_confusion(figures, tmp_path / "confusion.png")
    plot_reliability(FIVE, tmp_path / "reliability.png")
    plot_errors(FIVE, tmp_path / "errors.png")
    plot_errors(answers((0, (1, 0, 0))), tmp_path / "no_errors.png")
    for file in tmp_path.iterdir():
        picture = cv2.imread(str(file))
        assert picture is not None
        assert picture.std() > 1 or file.name == "no_errors.png"


def faces_labelled(labels: tuple[str, ...]) -> FaceSet:
    n = len(labels)
    return FaceSet(
        pixels=np.random.default_rng(0).integers(0, 255, (n, 48, 48), np.uint8),
        targets=np.eye(n, dtype=np.float32),
        truth=np.arange(n, dtype=np.int8),
        usage=np.ones(n, np.int8),
        labels=labels,
    )


def test_answers_come_in_the_order_of_the_datas_labels_and_leave_out_what_it_lacks() -> None:
    classifier = load_classifier(SHIPPED)
    all_eight = answer_faces(classifier, faces_labelled(FERPLUS_LABELS))
    backwards = answer_faces(classifier, faces_labelled(FERPLUS_LABELS[::-1]))
    assert np.allclose(all_eight.probabilities[:, ::-1], backwards.probabilities)
    for labels in (FER2013_LABELS, ("fear", "disgust", "contempt")):
        fewer = answer_faces(classifier, faces_labelled(labels))
        assert np.allclose(fewer.probabilities.sum(axis=1), 1)
    with pytest.raises(DataError, match="bored"):
        answer_faces(classifier, faces_labelled(("happy", "bored")))


class TestPhotographs:
    def photographs(self, folder: Path, portrait: ImageBGR, legend: str) -> tuple[Path, Path]:
        cv2.imwrite(str(folder / "smile.jpg"), portrait)
        cv2.imwrite(str(folder / "empty.jpg"), np.full((240, 320, 3), 120, np.uint8))
        (folder / "broken.jpg").write_bytes(b"no picture")
        (folder / "legend.csv").write_text(legend)
        return folder, folder / "legend.csv"

    def test_a_face_that_is_not_found_is_an_error_and_is_told_apart(
        self, tmp_path: Path, portrait: ImageBGR
    ) -> None:
        photos, legend = self.photographs(
            tmp_path, portrait, "image,emotion\nsmile.jpg,happiness\nempty.jpg,happy\n"
        )
        detector = load_detector("mtcnn", models_dir=MODELS)
        figures, found = evaluate_photographs(detector, load_classifier(SHIPPED), photos, legend)
        assert figures.photographs == 2
        assert figures.faces_not_found == 1
        assert figures.not_found == ("empty.jpg",)
        assert figures.accuracy == 0.5
        assert figures.accuracy_where_found == 1
        assert figures.classes["happy"].recall == 0.5
        assert figures.balanced_accuracy == 0.5
        assert len(found.crops) == 1

    @pytest.mark.parametrize(
        ("legend", "said"),
        [
            ("picture,mood\nsmile.jpg,happy\n", "image and emotion"),
            ("image,emotion\nsmile.jpg,bored\n", "line 2.*bored"),
            ("image,emotion\nsmile.jpg,happy\ngone.jpg,happy\n", r"line 3.*gone\.jpg"),
            ("image,emotion\nbroken.jpg,happy\n", r"broken\.jpg cannot be read"),
            ("image,emotion\n", "names no photograph"),
            ("image,emotion\nempty.jpg,happy\n", "No face was found"),
        ],
    )
    def test_what_is_wrong_is_named(
        self, tmp_path: Path, portrait: ImageBGR, legend: str, said: str
    ) -> None:
        photos, file = self.photographs(tmp_path, portrait, legend)
        detector = load_detector("mtcnn", models_dir=MODELS)
        with pytest.raises(DataError, match=said):
            evaluate_photographs(detector, load_classifier(SHIPPED), photos, file)
