"""Honest figures: a model on faces it was not trained on, and on whole photographs as users get it.

`measure` turns probabilities and true labels into `Figures`; `evaluate_faces` and
`evaluate_photographs` get the probabilities through the very code that serves
(`workers.vision`): one crop, one pass, no test-time averaging. Plots show where a model errs.

On whole photographs the detector's misses count as errors, and are told apart. Where a model has
labels that the data lacks (contempt in FER2013's own), those columns are left out and the rest
scaled up to 1; a label that the model lacks is an error of the call, not of the model.
"""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from shared.errors import DataError
from training.data import FaceSet, GreyStack
from workers.vision.classifier import Classifier, Crops, ModelCard
from workers.vision.crop import crop_for
from workers.vision.detector import FaceDetector

Probabilities = NDArray[np.float32]  # (N, L)
ECE_BINS = 15
MANY_PICTURES = 50  # a recall over fewer pictures says little; the macro recall leaves them out

SYNONYMS: Mapping[str, str] = {
    "anger": "angry",
    "happiness": "happy",
    "sadness": "sad",
    "surprised": "surprise",
    "disgusted": "disgust",
    "fearful": "fear",
    "afraid": "fear",
}


@dataclass(frozen=True)
class ClassFigures:
    """One class: how many pictures, and how well it is told. NaN where nothing was there."""

    pictures: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class PairFigures:
    """Two expressions that are easily taken for each other, over the pictures of these two.

    `told_apart` is the accuracy when only these two answers are allowed.
    """

    first: str
    second: str
    first_called_second: float
    second_called_first: float
    told_apart: float


@dataclass(frozen=True)
class Figures:
    """What a set of answers is worth. Shares lie in 0..1.

    `accuracy_interval` is Wilson's 95 % interval. `macro_recall` is over classes of
    `MANY_PICTURES` and more, `balanced_accuracy` over all classes present, `macro_f1` too.
    `confusion` counts truth in rows, answers in columns. `ece` is the expected calibration error
    over 15 equal bins of the largest probability. `unsure` tells for some thresholds which share
    is answered and how much of that is right.
    """

    pictures: int
    labels: tuple[str, ...]
    accuracy: float
    accuracy_interval: tuple[float, float]
    balanced_accuracy: float
    macro_recall: float
    macro_f1: float
    ece: float
    cross_entropy: float
    classes: Mapping[str, ClassFigures]
    confusion: tuple[tuple[int, ...], ...]
    fear_surprise: PairFigures | None
    unsure: Mapping[str, Mapping[str, float]]

    def as_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`, NaN as null, rounded to what is known."""
        return dict(_plain(asdict(self)))


@dataclass(frozen=True)
class PhotographFigures:
    """End to end: `figures` counts a face not found as an error, under the answer `no face`."""

    photographs: int
    faces_not_found: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    balanced_accuracy: float
    accuracy_where_found: float
    classes: Mapping[str, ClassFigures]
    of_found: Figures
    not_found: tuple[str, ...] = field(default=())

    def as_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`."""
        return dict(_plain(asdict(self)))


@dataclass(frozen=True)
class Answers:
    """What was asked and answered: crops for showing, probabilities, and the truth (N,)."""

    crops: Crops
    probabilities: Probabilities
    truth: NDArray[np.intp]
    labels: tuple[str, ...]


def measure(
    probabilities: Probabilities, truth: NDArray[np.integer], labels: Sequence[str]
) -> Figures:
    """Figures of probabilities (N, L) against true label indices (N,); N must not be 0."""
    n, width = probabilities.shape
    answer = probabilities.argmax(axis=1)
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = answer == truth
    confusion = np.zeros((width, width), np.int64)
    np.add.at(confusion, (truth, answer), 1)
    classes = {label: _class_figures(confusion, k) for k, label in enumerate(labels)}
    present = [c for c in classes.values() if c.pictures]
    many = [c.recall for c in present if c.pictures >= MANY_PICTURES]
    own = np.maximum(probabilities[np.arange(n), truth].astype(np.float64), 1e-12)
    return Figures(
        pictures=n,
        labels=tuple(labels),
        accuracy=float(right.mean()),
        accuracy_interval=wilson_interval(int(right.sum()), n),
        balanced_accuracy=float(np.mean([c.recall for c in present])),
        macro_recall=float(np.mean(many)) if many else math.nan,
        macro_f1=float(np.mean([c.f1 for c in present])),
        ece=calibration_error(confidence, right),
        cross_entropy=float(-np.log(own).mean()),
        classes=classes,
        confusion=tuple(tuple(int(v) for v in row) for row in confusion),
        fear_surprise=_pair(probabilities, truth, labels, "fear", "surprise"),
        unsure={
            f"{threshold:.2f}": {
                "answered": float((confidence >= threshold).mean()),
                "right_of_answered": float(right[confidence >= threshold].mean())
                if (confidence >= threshold).any()
                else math.nan,
            }
            for threshold in (0.4, 0.5, 0.6, 0.7)
        },
    )


def wilson_interval(right: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval for a share of `right` in `n`."""
    z, share = 1.959964, right / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def calibration_error(
    confidence: NDArray[np.float64], right: NDArray[np.bool_], bins: int = ECE_BINS
) -> float:
    """Expected calibration error (Guo et al. 2017) over equal bins of confidence."""
    error = 0.0
    for chosen in _bins(confidence, bins):
        if chosen.any():
            error += chosen.mean() * abs(right[chosen].mean() - confidence[chosen].mean())
    return float(error)


def answer_faces(classifier: Classifier, faces: FaceSet) -> Answers:
    """Put counted faces through a classifier as serving does.

    Raises DataError where the data has a label that the model lacks.
    """
    columns = _columns(faces.labels, classifier.card)
    crops = as_crops(faces.pixels, classifier.card.input_size_hw)
    probabilities = classifier.predict(crops)[:, columns]
    probabilities /= np.maximum(probabilities.sum(axis=1, keepdims=True), 1e-12)
    return Answers(crops, probabilities, faces.truth.astype(np.intp), faces.labels)


def as_crops(pixels: GreyStack, size_hw: tuple[int, int]) -> Crops:
    """Grey faces (N, H, W) as BGR crops of the model's size, enlarged bilinearly."""
    shrinking = pixels.shape[1] > size_hw[0]
    how = cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR
    crops = np.empty((len(pixels), *size_hw, 3), np.uint8)
    for crop, picture in zip(crops, pixels, strict=True):
        crop[:] = cv2.resize(picture, size_hw[::-1], interpolation=how)[..., None]
    return crops


def faces_per_second(classifier: Classifier, crops: Crops, *, rounds: int = 5) -> float:
    """The best of several rounds, because other work on the machine only ever slows it down."""
    classifier.warm()
    best = math.inf
    for _ in range(rounds):
        began = time.perf_counter()
        classifier.predict(crops)
        best = min(best, time.perf_counter() - began)
    return len(crops) / best


def evaluate_photographs(
    detector: FaceDetector, classifier: Classifier, photos: Path, legend: Path
) -> tuple[PhotographFigures, Answers]:
    """Detector, crop and classifier on whole photographs, the largest face of each.

    `legend` is a CSV with the columns image and emotion; common other names of the emotions are
    understood. Raises DataError, naming the file, where a photograph is missing or unreadable.
    """
    rows = _read_legend(legend, photos, classifier.card)
    labels = classifier.card.labels
    crops: list[NDArray[np.uint8]] = []
    truth: list[int] = []
    not_found: list[str] = []
    missed_truth: list[int] = []
    for file, label in rows:
        image = cv2.imread(str(file), cv2.IMREAD_COLOR)
        if image is None:
            raise DataError(f"{file} cannot be read as a picture; {legend} names it.")
        image_bgr = np.asarray(image, np.uint8)
        faces = detector.detect(image_bgr)
        if not faces:
            not_found.append(file.name)
            missed_truth.append(label)
            continue
        largest = max(faces, key=lambda face: face.box_xywh[2] * face.box_xywh[3])
        crops.append(crop_for(classifier.card, image_bgr, largest))
        truth.append(label)
    if not crops:
        raise DataError(f"No face was found in any of the {len(rows)} photographs of {photos}.")
    answers = Answers(
        np.stack(crops), classifier.predict(np.stack(crops)), np.array(truth, np.intp), labels
    )
    found = measure(answers.probabilities, answers.truth, labels)
    missed = np.bincount(missed_truth, minlength=len(labels))
    confusion = np.array(found.confusion)
    totals = confusion.sum(axis=1) + missed
    right = int(np.trace(confusion))
    recalls = np.diag(confusion) / np.maximum(totals, 1)
    classes = {
        label: ClassFigures(
            int(totals[k]),
            found.classes[label].precision,
            float(recalls[k]) if totals[k] else math.nan,
            _f1(found.classes[label].precision, float(recalls[k])),
        )
        for k, label in enumerate(labels)
    }
    return (
        PhotographFigures(
            photographs=len(rows),
            faces_not_found=len(not_found),
            accuracy=right / len(rows),
            accuracy_interval=wilson_interval(right, len(rows)),
            balanced_accuracy=float(recalls[totals > 0].mean()),
            accuracy_where_found=found.accuracy,
            classes=classes,
            of_found=found,
            not_found=tuple(not_found),
        ),
        answers,
    )


def plot_confusion(figures: Figures, file: Path) -> None:
    """The confusion matrix as shares of each true class, with the counts written in."""
    confusion = np.array(figures.confusion)
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(6.2, 5.4), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    positions = range(len(figures.labels))
    axes.set_xticks(positions, figures.labels, rotation=45, ha="right")
    axes.set_yticks(positions, [f"{k} ({figures.classes[k].pictures})" for k in figures.labels])
    axes.set(xlabel="answer", ylabel="truth")
    for i in positions:
        for j in positions:
            if confusion[i, j]:
                colour = "white" if shares[i, j] > 0.55 else "black"
                axes.text(j, i, str(confusion[i, j]), ha="center", va="center", color=colour)
    figure.savefig(file, dpi=100)


def plot_reliability(answers: Answers, file: Path) -> None:
    """How often answers of each confidence are right; a calibrated model lies on the diagonal."""
    confidence = answers.probabilities.max(axis=1).astype(np.float64)
    right = answers.probabilities.argmax(axis=1) == answers.truth
    figure = Figure(figsize=(5, 5), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    edges = np.linspace(0, 1, ECE_BINS + 1)
    chosen = _bins(confidence, ECE_BINS)
    shares = [right[c].mean() if c.any() else 0.0 for c in chosen]
    middle = (edges[:-1] + edges[1:]) / 2
    upper.plot([0, 1], [0, 1], color="grey", linewidth=1)
    upper.bar(middle, shares, width=0.9 / ECE_BINS)
    upper.set(ylabel="share right", ylim=(0, 1))
    upper.set_title(f"ECE {100 * calibration_error(confidence, right):.1f} %")
    lower.bar(middle, [c.mean() for c in chosen], width=0.9 / ECE_BINS, color="grey")
    lower.set(xlabel="confidence", ylabel="share", xlim=(0, 1))
    figure.savefig(file, dpi=100)


def plot_errors(answers: Answers, file: Path, *, most: int = 24) -> None:
    """The most confident errors. Shows the data's own pictures: mind whether they may be shown."""
    answer = answers.probabilities.argmax(axis=1)
    confidence = answers.probabilities.max(axis=1)
    wrong = np.nonzero(answer != answers.truth)[0]
    worst = wrong[np.argsort(-confidence[wrong])][:most]
    columns = 6
    lines = max(1, math.ceil(len(worst) / columns))
    figure = Figure(figsize=(2 * columns, 2.3 * lines), layout="constrained")
    for axes in figure.subplots(lines, columns, squeeze=False).ravel():
        axes.axis("off")
    for axes, i in zip(figure.axes, worst, strict=False):
        axes.imshow(answers.crops[i][..., ::-1])
        axes.set_title(
            f"{answers.labels[answers.truth[i]]}, called\n{answers.labels[answer[i]]} "
            f"({confidence[i]:.2f})",
            fontsize=8,
        )
    figure.savefig(file, dpi=90)


def write_json(value: Mapping[str, Any], file: Path) -> None:
    """Plain figures as JSON, NaN as null."""
    file.write_text(json.dumps(_plain(value), indent=2) + "\n")


def _bins(confidence: NDArray[np.float64], bins: int) -> list[NDArray[np.bool_]]:
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    return [index == b for b in range(bins)]


def _class_figures(confusion: NDArray[np.int64], k: int) -> ClassFigures:
    own, called, hit = int(confusion[k].sum()), int(confusion[:, k].sum()), int(confusion[k, k])
    recall = hit / own if own else math.nan
    precision = hit / called if called else math.nan
    return ClassFigures(own, precision, recall, _f1(precision, recall))


def _f1(precision: float, recall: float) -> float:
    if math.isnan(precision) or precision + recall == 0:
        return 0.0  # never answered
    return 2 * precision * recall / (precision + recall)


def _pair(
    probabilities: Probabilities, truth: NDArray[np.integer], labels: Sequence[str], a: str, b: str
) -> PairFigures | None:
    if a not in labels or b not in labels:
        return None
    i, j = list(labels).index(a), list(labels).index(b)
    of_a, of_b = truth == i, truth == j
    if not of_a.any() or not of_b.any():
        return None
    answer = probabilities.argmax(axis=1)
    a_likelier = probabilities[:, i] >= probabilities[:, j]
    apart = np.concatenate([a_likelier[of_a], ~a_likelier[of_b]])
    return PairFigures(
        a, b, float((answer[of_a] == j).mean()), float((answer[of_b] == i).mean()),
        float(apart.mean()),
    )  # fmt: skip


def _columns(labels: Sequence[str], card: ModelCard) -> list[int]:
    lacking = [label for label in labels if label not in card.labels]
    if lacking:
        raise DataError(
            f"The data has the labels {', '.join(lacking)}, which the model {card.name} lacks; it "
            f"knows {', '.join(card.labels)}."
        )
    return [card.labels.index(label) for label in labels]


def _read_legend(legend: Path, photos: Path, card: ModelCard) -> list[tuple[Path, int]]:
    if not legend.is_file():
        raise DataError(f"There is no {legend}; give a CSV with the columns image and emotion.")
    rows: list[tuple[Path, int]] = []
    with legend.open(newline="") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames is None or not {"image", "emotion"} <= set(reader.fieldnames):
            raise DataError(f"{legend}: the columns must include image and emotion.")
        for number, row in enumerate(reader, start=2):
            word = (row["emotion"] or "").strip().lower()
            label = SYNONYMS.get(word, word)
            if label not in card.labels:
                raise DataError(
                    f"{legend}, line {number}: the model {card.name} has no label {word!r}; it "
                    f"knows {', '.join(card.labels)}."
                )
            picture = photos / (row["image"] or "")
            if not picture.is_file():
                raise DataError(f"{legend}, line {number}: there is no {picture}.")
            rows.append((picture, card.labels.index(label)))
    if not rows:
        raise DataError(f"{legend} names no photograph.")
    return rows


def _plain(value: Any) -> Any:
    """Dataclass values as JSON knows them: NaN as null, floats rounded to 5 places."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 5)
    return value
