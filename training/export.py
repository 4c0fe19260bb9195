"""From a training run to a model folder: calibrated, in three forms, checked, with its card.

The graph that ships takes raw pixels and gives probabilities: the calibration is folded into it
(`training.calibration`). LiteRT float and int8 files are converted from that graph, the int8 one
with real faces as its example data.

Promises: the folder appears complete or not at all; every figure in its card was measured in this
export on the files that lie there; more than half a point between int8 and Keras, or less than
1.8 times the speed, is told.
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
from training.calibration import calibrated, fit_calibration
from training.data import CleanSplit, FaceSet
from training.quiet import quietly
from training.train import (
    CARD,
    Settings,
    load_trained,
    plot_curves,
    predict_logits,
    read_log,
    said_of,
    training_batches,
)
from workers.vision.classifier import CARD_FORMAT, FILES, Backend, load_classifier

REPRESENTATIVE_FACES = 500
MOST_LOST_BY_INT8 = 0.005
LEAST_GAINED_BY_INT8 = 1.8
TIMED_FACES = 300
FLOAT_BLOCKS = ("/scale", "/Conv1", "/bn_Conv1", "/expanded_conv", "/block_1_", "/block_2_")
"""Layers that stay float in the int8 file, by parts of their names. Rounding in the first depthwise
convolution alone makes three quarters of the difference between int8 and float, in the rest of
these half of what then remains. They cost a seventh of the speed."""


@dataclass(frozen=True)
class Naming:
    """What a person says of the model; everything else in the card is measured."""

    name: str
    version: str
    licences: tuple[str, ...] = ()
    unsure_below: float = 0.5


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
    if out.exists() and not (out / CARD).is_file():
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
        "architecture": (
            f"MobileNetV2 1.0 (Keras){', fewer channels' if settings.narrow else ''}, grey input, "
            "average pooling, one dense layer"
        ),
        "parameters": int(final.count_params()),
        "training": {
            **said_of(run_dir, settings),
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


def class_shares(split: CleanSplit, settings: Settings) -> NDArray[np.float64]:
    """The shares of the classes as the network met them in training, sampling included."""
    return training_batches(split, settings).class_shares()


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
    evaluate.write_json(card, folder / CARD)


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
        *_generations(card["training"]),
        f"Temperature {calibration['temperature']:.3f}, logit adjustment {calibration['adjust']}, "
        f"fitted on {calibration['pictures']} pictures.",
    ]
    if card["licences"]:
        lines += ["", "## Licences", "", *[f"- {note}" for note in card["licences"]]]
    return "\n".join(lines) + "\n"


def _generations(training: dict[str, Any]) -> list[str]:
    """A sentence for each generation that had a teacher, the last one first."""
    if "teacher" not in training:
        return []
    before = _generations(training["teacher"])
    sentence = (
        f"Generation {len(before) + 2}: {_percent(training['distil'])} of each target is what the "
        "one before answered"
    )
    if training.get("narrow"):
        sentence += ", of which it has the channels that matter most"
    if training.get("soup"):
        sentence += f"; {_percent(training['soup'])} of the weights are that one's"
    return [f"{sentence}.", *before]


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
