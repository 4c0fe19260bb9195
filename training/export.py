"""From a training run to a model folder: calibrated, in three forms, checked, with its card.

What is fitted here is fitted on the calibration part, which was never trained on: the temperature,
after the logits were adjusted for the shares of the classes. Both are folded into the last dense
layer and a softmax follows, so that the graph takes raw pixels and gives probabilities, and no
program has to know of either. LiteRT float and int8 files are converted from that graph, the int8
one with real faces as its example data.

Promises: the folder appears complete or not at all; every figure in its card was measured in this
export on the files that lie there; more than half a point between int8 and Keras, or less than
1.8 times the speed, is told.

Logit adjustment: Menon et al. 2021, applied after training; temperature: Guo et al. 2017.
"""

from __future__ import annotations

import datetime
import hashlib
import logging
import os
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from shared.errors import DataError
from training import evaluate
from training import model as network
from training.augment import resize_grey
from training.data import CleanSplit, FaceSet
from training.quiet import quietly
from training.train import (
    Settings,
    load_trained,
    plot_curves,
    predict_logits,
    read_log,
    read_settings,
    training_batches,
)
from workers.vision.classifier import CARD_FORMAT, FILES, Backend, load_classifier

REPRESENTATIVE_FACES = 500
FEWEST_TO_CALIBRATE = 100  # with fewer pictures than that, a fitted temperature is chance
MOST_LOST_BY_INT8 = 0.005
LEAST_GAINED_BY_INT8 = 1.8
TIMED_FACES = 300
FLOAT_BLOCKS = ("/scale", "/Conv1", "/bn_Conv1", "/expanded_conv", "/block_1_", "/block_2_")
"""Layers that stay float in the int8 file, by parts of their names. Rounding in the first depthwise
convolution alone makes three quarters of the difference between int8 and float, in the rest of
these half of what then remains. They cost a seventh of the speed."""


@dataclass(frozen=True)
class Calibration:
    """Folded into the last layer: logits' = (logits - adjust * log(shares)) / temperature."""

    temperature: float
    adjust: float
    class_shares: tuple[float, ...]
    pictures: int
    cross_entropy_before: float
    cross_entropy_after: float
    ece_before: float
    ece_after: float

    def apply(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """The adjusted, tempered logits."""
        prior = np.log(np.array(self.class_shares))
        tempered: NDArray[np.float64] = (logits - self.adjust * prior) / self.temperature
        return tempered.astype(np.float32)


@dataclass(frozen=True)
class Naming:
    """What a person says of the model; everything else in the card is measured."""

    name: str
    version: str
    licences: tuple[str, ...] = ()
    unsure_below: float = 0.5


def fit_calibration(
    logits: NDArray[np.float32],
    truth: NDArray[np.integer],
    class_shares: NDArray[np.float64],
    adjust: float,
) -> Calibration:
    """Find the temperature that makes the adjusted logits (N, L) fit the truth (N,) best.

    Rows with a truth below 0 do not count. With too few pictures, nothing is fitted.
    """
    counted = truth >= 0
    logits, truth = logits[counted], truth[counted].astype(np.intp)
    n = len(truth)
    shares = np.maximum(class_shares, 1e-6)
    adjusted = logits.astype(np.float64) - adjust * np.log(shares)

    def loss(temperature: float) -> float:
        z = adjusted / temperature
        z = z - z.max(axis=1, keepdims=True)
        return float((np.log(np.exp(z).sum(axis=1)) - z[np.arange(n), truth]).mean())

    def ece(z: NDArray[np.float64]) -> float:
        p = softmax(z)
        return evaluate.calibration_error(p.max(axis=1), p.argmax(axis=1) == truth)

    temperature = 1.0
    if n >= FEWEST_TO_CALIBRATE:
        grid = np.exp(np.linspace(np.log(0.2), np.log(5), 400))
        temperature = float(grid[int(np.argmin([loss(t) for t in grid]))])
    nothing = float("nan")
    return Calibration(
        temperature=temperature,
        adjust=adjust,
        class_shares=tuple(float(v) for v in shares),
        pictures=n if n >= FEWEST_TO_CALIBRATE else 0,
        cross_entropy_before=loss(1.0) if n else nothing,
        cross_entropy_after=loss(temperature) if n else nothing,
        ece_before=ece(adjusted) if n else nothing,
        ece_after=ece(adjusted / temperature) if n else nothing,
    )


def export(
    run_dir: Path,
    split: CleanSplit,
    faces: FaceSet,
    settings: Settings,
    out: Path,
    naming: Naming,
    *,
    adjust: float,
    soup: float = 0.0,
    data_name: str,
    data_sha256: str,
) -> dict[str, Any]:
    """Write the model folder `out` from a run's averaged weights; returns the card.

    `faces` is the whole data: its public split gives the figures of the card.
    """
    if out.exists() and not (out / "card.json").is_file():
        raise DataError(f"{out} exists and is no model folder; give another --out.")
    labels = split.training.labels
    trained = load_trained(run_dir, len(labels), soup)
    logits = predict_logits(trained, split.calibration.pixels, settings.size)
    shares = class_shares(split, settings)
    calibration = fit_calibration(logits, split.calibration.truth, shares, adjust)
    final = calibrated(trained, calibration)

    draft = out.with_name(out.name + ".part")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    final.save(draft / FILES["keras"])
    with warnings.catch_warnings(), quietly():
        _convert(final, settings.size, split.training, draft, settings.seed)
    digests = {
        name: hashlib.sha256((draft / name).read_bytes()).hexdigest() for name in FILES.values()
    }
    card: dict[str, Any] = {
        "format": CARD_FORMAT,
        "name": naming.name,
        "version": naming.version,
        "created": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "labels": list(labels),
        "input_size_hw": [settings.size, settings.size],
        "colour": "grey",
        "values": "raw 0..255, one grey channel; scaling, calibration and softmax are in the graph",
        "default_backend": "litert-int8",
        "unsure_below": naming.unsure_below,
        "files": digests,
        "architecture": "MobileNetV2 1.0 (Keras), grey input, average pooling, one dense layer",
        "parameters": int(final.count_params()),
        "training": {
            **_said_of(run_dir, settings),
            "soup": soup,
            "keras_backend": keras.backend.backend(),
        },
        "data": {
            "file": data_name,
            "sha256": data_sha256,
            "training": len(split.training),
            "calibration": len(split.calibration),
            "left_out_exact_duplicates": split.duplicates_exact,
            "left_out_near_duplicates": split.duplicates_near,
            "left_out_without_target": split.without_target,
            "own_disgust": split.own_disgust,
            "public_counted": int(((faces.usage == 1) & (faces.truth >= 0)).sum()),
        },
        "calibration": asdict(calibration),
        "licences": list(naming.licences),
    }
    _write_card(card, draft)
    _measure_forms(card, faces, draft)
    plot_curves(read_log(run_dir), draft / "curves.png")
    _write_card(card, draft)
    (draft / "card.md").write_text(card_text(card))
    old = out.with_name(out.name + ".old")
    if out.exists():
        out.replace(old)
    draft.replace(out)
    shutil.rmtree(old, ignore_errors=True)
    return card


def _said_of(run_dir: Path, settings: Settings) -> dict[str, Any]:
    """A run's settings without paths, and those of its teachers."""
    said = {k: v for k, v in asdict(settings).items() if k not in ("weights", "teacher")}
    said["base_weights"] = Path(settings.weights).name
    said["epochs_done"] = len(read_log(run_dir))
    if settings.teacher is not None:
        teacher = Path(settings.teacher)
        said["teacher"] = _said_of(teacher, read_settings(teacher))
    return said


def class_shares(split: CleanSplit, settings: Settings) -> NDArray[np.float64]:
    """The shares of the classes as the network met them in training, sampling included."""
    return training_batches(split, settings).class_shares()


def calibrated(trained: keras.Model, calibration: Calibration) -> keras.Model:
    """The network as it ships: calibration folded into the dense layer, softmax behind it."""
    plain = network.portable(trained)
    dense = plain.get_layer("logits")
    kernel, bias = dense.get_weights()
    dense.set_weights([kernel / calibration.temperature, calibration.apply(bias[None])[0]])
    outputs = keras.layers.Softmax(name="probabilities")(plain.output)
    return keras.Model(plain.input, outputs, name="moodline")


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities (N, L) of logits (N, L)."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return shares


def _convert(final: keras.Model, size: int, training: FaceSet, folder: Path, seed: int) -> None:
    """Write the float and the int8 LiteRT file; the int8 one sees real training faces.

    Its last layer and the softmax stay float: they cost nothing, and probabilities in steps of
    1/256 are 0 where they should be small, which no temperature can mend. The first blocks stay
    float as well (`FLOAT_BLOCKS`).
    """
    import tensorflow as tf  # noqa: PLC0415  the converter is TensorFlow's, whatever trained

    if keras.backend.backend() != "tensorflow":
        raise DataError("The LiteRT export needs KERAS_BACKEND=tensorflow; training does not.")
    frozen = network.frozen(final, 1)

    def converter() -> Any:
        return tf.lite.TFLiteConverter.from_concrete_functions([frozen])

    # The converter warns on each call of what is meant so: float input, and its own successor.
    warnings.simplefilter("ignore")
    logging.getLogger("absl").setLevel(logging.ERROR)
    float_file = converter().convert()
    (folder / FILES["litert"]).write_bytes(float_file)
    rows = np.random.default_rng([seed, 5]).permutation(len(training))[:REPRESENTATIVE_FACES]
    examples = resize_grey(training.pixels[rows], size)

    def faces() -> Iterator[list[NDArray[np.float32]]]:
        return ([face[None]] for face in examples)

    quantising = converter()
    quantising.optimizations = [tf.lite.Optimize.DEFAULT]
    quantising.representative_dataset = faces
    # The converter leaves operations in float only where its debugger is asked to.
    debugger = tf.lite.experimental.QuantizationDebugger(
        converter=quantising,
        debug_dataset=faces,
        debug_options=tf.lite.experimental.QuantizationDebugOptions(
            denylisted_ops=["FULLY_CONNECTED", "SOFTMAX"],
            denylisted_nodes=_first_tensors(float_file),
        ),
    )
    (folder / FILES["litert-int8"]).write_bytes(debugger.get_nondebug_quantized_model())


def _first_tensors(float_file: bytes) -> list[str]:
    tensors = Interpreter(model_content=float_file).get_tensor_details()
    return [t["name"] for t in tensors if any(block in t["name"] for block in FLOAT_BLOCKS)]


def _measure_forms(card: dict[str, Any], faces: FaceSet, folder: Path) -> None:
    """Measure every form on the public split, one thread, and write figures and parity down."""
    public = faces.measured("public")
    figures: dict[Backend, evaluate.Figures] = {}
    speed: dict[Backend, float] = {}
    answers: dict[Backend, evaluate.Answers] = {}
    for backend in FILES:
        with quietly():
            classifier = load_classifier(folder, backend, threads=1)
        answers[backend] = evaluate.answer_faces(classifier, public)
        figures[backend] = evaluate.measure(
            answers[backend].probabilities, answers[backend].truth, public.labels
        )
        if backend != "keras":
            speed[backend] = evaluate.faces_per_second(
                classifier, answers[backend].crops[:TIMED_FACES]
            )
    lost = figures["keras"].accuracy - figures["litert-int8"].accuracy
    gained = speed["litert-int8"] / speed["litert"]
    same = answers["keras"].probabilities.argmax(1) == answers["litert-int8"].probabilities.argmax(
        1
    )
    difference = np.abs(answers["keras"].probabilities - answers["litert"].probabilities).max()
    card["metrics"] = {
        "protocol": "public split, one crop, no test-time averaging; majority label",
        **{backend: f.as_json() for backend, f in figures.items()},
    }
    card["parity"] = {
        "int8_points_lost_against_keras": round(100 * lost, 3),
        "int8_same_answer_as_keras": round(float(same.mean()), 5),
        "float_largest_difference_from_keras": float(difference),
        "int8_times_as_fast_as_float": round(gained, 2),
        "faces_per_second_one_thread": {k: round(v) for k, v in speed.items()},
        "cpus": os.cpu_count(),
        # Of few pictures, a single one is more than half a point.
        "within_bounds": lost <= max(MOST_LOST_BY_INT8, 1 / len(public))
        and gained >= LEAST_GAINED_BY_INT8,
    }
    best = answers["litert-int8"]
    evaluate.plot_confusion(figures["litert-int8"], folder / "confusion.png")
    evaluate.plot_reliability(best, folder / "reliability.png")


def _write_card(card: dict[str, Any], folder: Path) -> None:
    evaluate.write_json(card, folder / "card.json")


def card_text(card: dict[str, Any]) -> str:
    """The card for people, in Markdown, from the card for programs."""
    shipped = card["metrics"]["litert-int8"]
    parity, data, calibration = card["parity"], card["data"], card["calibration"]
    low, high = shipped["accuracy_interval"]
    lines = [
        f"# {card['name']} {card['version']}",
        "",
        f"{card['architecture']}; {card['parameters']:,} parameters; input "
        f"{card['input_size_hw'][0]}x{card['input_size_hw'][1]}, {card['values']}.",
        f"Labels: {', '.join(card['labels'])}. Below a confidence of {card['unsure_below']} the "
        "product says *unsure*.",
        "",
        f"## Figures ({card['metrics']['protocol']}; the int8 file)",
        "",
        "| | |",
        "|---|---|",
        f"| pictures | {shipped['pictures']} |",
        f"| accuracy | {_percent(shipped['accuracy'])} ({_percent(low)} to {_percent(high)}) |",
        "| macro recall, classes with 50 and more pictures "
        f"| {_percent(shipped['macro_recall'])} |",
        f"| balanced accuracy, all classes | {_percent(shipped['balanced_accuracy'])} |",
        f"| macro F1 | {_percent(shipped['macro_f1'])} |",
        f"| calibration error (ECE, 15 bins) | {_percent(shipped['ece'])} |",
        f"| Keras file, float file | {_percent(card['metrics']['keras']['accuracy'])}, "
        f"{_percent(card['metrics']['litert']['accuracy'])} |",
        f"| int8 against float | {parity['int8_times_as_fast_as_float']} times as fast "
        f"({parity['faces_per_second_one_thread']['litert-int8']} faces/s on one thread of a "
        "machine that did other work as well) |",
        "",
        "| class | pictures | precision | recall |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {label} | {c['pictures']} | {_percent(c['precision'])} | {_percent(c['recall'])} |"
        for label, c in shipped["classes"].items()
    ]
    pair = shipped["fear_surprise"]
    if pair is not None:
        lines += [
            "",
            f"Fear called surprise: {_percent(pair['first_called_second'])}; surprise called fear: "
            f"{_percent(pair['second_called_first'])}; told apart where only these two are "
            f"allowed: {_percent(pair['told_apart'])}.",
        ]
    lines += ["", "| unsure below | answered | right of these |", "|---|---|---|"]
    lines += [
        f"| {threshold} | {_percent(row['answered'])} | {_percent(row['right_of_answered'])} |"
        for threshold, row in shipped["unsure"].items()
    ]
    lines += [
        "",
        "![confusion matrix](confusion.png) ![reliability](reliability.png)",
        "![curves](curves.png)",
        "",
        "## Data and calibration",
        "",
        f"{data['training']} pictures trained on, {data['calibration']} of the training split set "
        f"aside for calibration; {data['left_out_exact_duplicates']} exact and "
        f"{data['left_out_near_duplicates']} near duplicates of measured pictures and "
        f"{data['left_out_without_target']} without a usable label left out.",
        *_generation(card["training"]),
        f"Temperature {calibration['temperature']:.3f}, logit adjustment {calibration['adjust']}, "
        f"fitted on {calibration['pictures']} pictures.",
    ]
    if card["licences"]:
        lines += ["", "## Licences", "", *[f"- {note}" for note in card["licences"]]]
    return "\n".join(lines) + "\n"


def _generation(training: dict[str, Any]) -> list[str]:
    if "teacher" not in training:
        return []
    return [
        f"Second generation: {_percent(training['distil'])} of each target is the first one's "
        f"answer; {_percent(training['soup'])} of the weights are the first one's.",
    ]


def _percent(share: float | None) -> str:
    return "none" if share is None else f"{100 * share:.1f} %"


def file_sha256(path: Path) -> str:
    """The digest of a data file; of a folder, that of its files' names and contents in order."""
    digest = hashlib.sha256()
    if path.is_file():
        digest.update(path.read_bytes())
        return digest.hexdigest()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(str(file.relative_to(path)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()
