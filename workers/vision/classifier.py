"""From face crops to the probabilities of expressions, by the model folder that is configured.

A model folder holds `card.json` and the files that it names with their SHA-256: `model.tflite`
(float), `model_int8.tflite` and `model.keras`, the same network in three forms, any of which may
be absent. `read_card` checks the card, `load_classifier` loads one form and checks its file. What
the product needs to know of a model stands in the card: labels in order, input size, colour
handling, and the confidence below which an answer is *unsure*.

Promises: the three forms behave alike behind `Classifier`; a folder whose card and files disagree
is refused before the first face; rows of `predict` sum to 1; the same crops give the same rows,
however they are grouped into calls. A classifier belongs to one thread.

Not here: finding and cropping faces, smoothing over time, training. TensorFlow is imported only
when the Keras form is asked for.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import cv2
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from shared.errors import ModelError

Crops = NDArray[np.uint8]
"""Face crops (N, H, W, 3), channels in OpenCV's BGR order, values 0..255."""
Scores = NDArray[np.float32]
"""Probabilities (N, L), rows sum to 1, columns in the order of the card's labels."""
Backend = Literal["litert-int8", "litert", "keras"]

FILES: Mapping[Backend, str] = {
    "litert-int8": "model_int8.tflite",
    "litert": "model.tflite",
    "keras": "model.keras",
}
CARD_FORMAT = 1
_REMEDY = "restore the folder, or export the model again with `python -m training export`"


@dataclass(frozen=True)
class ModelCard:
    """What a model says of itself; `read_card` makes it from a folder's `card.json`.

    `colour` tells what the network wants of a crop: `grey` (one channel, OpenCV's weights of
    ITU-R BT.601), `rgb` or `bgr`. `unsure_below` is the confidence below which the product shows
    *unsure*, 0 (also where the card says nothing) if it never does. `files` maps the names present
    to their SHA-256. `details` is everything else in the card (data, metrics, calibration,
    licences), for people and reports.
    """

    name: str
    version: str
    labels: tuple[str, ...]
    input_size_hw: tuple[int, int]
    colour: Literal["grey", "rgb", "bgr"]
    default_backend: Backend
    unsure_below: float
    files: Mapping[str, str]
    details: Mapping[str, Any]

    def __post_init__(self) -> None:
        if len(self.labels) < 2 or len(set(self.labels)) != len(self.labels):
            raise ModelError(f"labels must be two or more different names, not {self.labels}")
        if len(self.input_size_hw) != 2 or not all(
            8 <= side <= 1024 for side in self.input_size_hw
        ):
            raise ModelError(
                f"input_size_hw must be two sides of 8 to 1024, not {self.input_size_hw}"
            )
        if self.colour not in ("grey", "rgb", "bgr"):
            raise ModelError(f"colour must be grey, rgb or bgr, not {self.colour!r}")
        if not 0 <= self.unsure_below < 1:
            raise ModelError(f"unsure_below must be from 0 up to 1, not {self.unsure_below}")
        if FILES.get(self.default_backend) not in self.files:
            raise ModelError(
                f"default_backend is {self.default_backend!r}, but files names {sorted(self.files)}"
            )

    @classmethod
    def from_json(cls, text: str | bytes) -> ModelCard:
        """Parse `card.json`; raises ModelError that says which part is wrong."""
        try:
            card = json.loads(text)
            if card["format"] != CARD_FORMAT:
                raise ModelError(f"format is {card['format']!r}; this Moodline reads {CARD_FORMAT}")
            height, width = card["input_size_hw"]
            own = {
                "name": str(card["name"]),
                "version": str(card["version"]),
                "labels": tuple(str(label) for label in card["labels"]),
                "input_size_hw": (int(height), int(width)),
                "colour": card["colour"],
                "default_backend": card["default_backend"],
                "unsure_below": float(card.get("unsure_below", 0.0)),
                "files": {str(k): str(v) for k, v in card["files"].items()},
            }
        except KeyError as error:
            raise ModelError(f"{error.args[0]} is missing") from error
        except (ValueError, TypeError, AttributeError) as error:
            raise ModelError(f"it is no model card ({error})") from error
        details = {k: v for k, v in card.items() if k not in own and k != "format"}
        return cls(**own, details=details)


class Classifier(Protocol):
    """What the pipeline asks of a loaded model."""

    @property
    def card(self) -> ModelCard:
        """The card of the folder it was loaded from."""
        ...

    @property
    def backend(self) -> Backend:
        """Which form of the model runs."""
        ...

    def predict(self, crops: Crops) -> Scores:
        """Return the probabilities for any number of crops, also none.

        Crops are (N, H, W, 3), BGR, or where the card's `colour` is grey also (N, H, W); they must
        have the card's `input_size_hw`. Raises ModelError otherwise.
        """
        ...

    def warm(self) -> None:
        """Run once, so that the first real face does not wait for what is set up lazily."""
        ...


def read_card(model_dir: Path) -> ModelCard:
    """Read a model folder's card; see `require_intact` for the files that it names.

    Raises ModelError, with the remedy, where the folder, the card or a file is missing, or the card
    is wrong.
    """
    card_path = model_dir / "card.json"
    if not model_dir.is_dir():
        raise ModelError(
            f"there is no model folder {model_dir}: train one with `python -m training train`, or "
            "set MOODLINE_MODEL to one"
        )
    try:
        text = card_path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"{model_dir} has no readable card.json ({error.strerror}): {_REMEDY}"
        ) from error
    try:
        card = ModelCard.from_json(text)
    except ModelError as error:
        raise ModelError(f"{card_path}: {error}; {_REMEDY}") from error
    for name in card.files:
        if not (model_dir / name).is_file():
            raise ModelError(f"{model_dir / name} is missing, though the card names it: {_REMEDY}")
    return card


def require_intact(model_dir: Path, files: Mapping[str, str]) -> None:
    """Raise ModelError where one of these files of the folder is not what its SHA-256 says."""
    for name, digest in files.items():
        file = model_dir / name
        if hashlib.sha256(file.read_bytes()).hexdigest() != digest:
            raise ModelError(f"{file} is not the file its card describes (SHA-256): {_REMEDY}")


def load_classifier(model_dir: Path, backend: str = "auto", threads: int = 1) -> Classifier:
    """Load a model folder.

    Args:
        backend: `litert-int8`, `litert`, `keras`, or `auto` for what the card recommends.
        threads: how many threads a prediction may use.

    Raises:
        ModelError: the folder is incomplete, card and files disagree, or the form asked for is
            not there or cannot run here; the message says what to do.
    """
    card = read_card(model_dir)
    chosen = card.default_backend if backend == "auto" else cast(Backend, backend)
    if chosen not in FILES:
        raise ModelError(f"there is no backend {backend!r}: choose auto, {', '.join(FILES)}")
    if FILES[chosen] not in card.files:
        raise ModelError(
            f"{model_dir} has no {FILES[chosen]} for the backend {chosen}: choose auto, or export "
            "that form with `python -m training export`"
        )
    require_intact(model_dir, {FILES[chosen]: card.files[FILES[chosen]]})  # all takes 20 ms
    load: Callable[[Path, ModelCard, Backend, int], Classifier]
    load = _KerasClassifier if chosen == "keras" else _LiteRtClassifier
    return load(model_dir / FILES[chosen], card, chosen, threads)


class _LiteRtClassifier:
    """LiteRT with XNNPACK, a crop at a time.

    On a CPU a batch brings nothing (int8 at 96x96, one thread: 1530 faces/s one by one, 1612 in
    batches of 32), and a fixed shape costs no reallocation when the number of faces changes.
    """

    def __init__(self, file: Path, card: ModelCard, backend: Backend, threads: int) -> None:
        try:
            self._interpreter = Interpreter(model_content=file.read_bytes(), num_threads=threads)
            self._interpreter.allocate_tensors()
            (self._input,) = self._interpreter.get_input_details()
            (self._output,) = self._interpreter.get_output_details()
        except (ValueError, RuntimeError) as error:
            raise ModelError(f"LiteRT cannot load {file} ({error}): {_REMEDY}") from error
        _check_graph(file, card, self._input["shape"], self._output["shape"])
        if self._input["dtype"] != np.float32 or self._output["dtype"] != np.float32:
            raise ModelError(f"{file} must take and give float32: {_REMEDY}")
        self.card = card
        self.backend = backend

    def predict(self, crops: Crops) -> Scores:
        pixels = _pixels(crops, self.card)
        scores = np.empty((len(crops), len(self.card.labels)), np.float32)
        for row, face in zip(scores, pixels, strict=True):
            self._interpreter.set_tensor(self._input["index"], face[None])
            self._interpreter.invoke()
            row[:] = self._interpreter.get_tensor(self._output["index"])[0]
        return _normalised(scores)

    def warm(self) -> None:
        self.predict(_blank(self.card))


class _KerasClassifier:
    """The `.keras` file through Keras, for GPUs and models that LiteRT cannot run.

    Batches are filled up to a power of two, so that few shapes are ever compiled.
    """

    _LARGEST_BATCH = 64

    def __init__(self, file: Path, card: ModelCard, backend: Backend, threads: int) -> None:
        try:
            import keras  # noqa: PLC0415  seconds and gigabytes, only for this backend
            import tensorflow as tf  # noqa: PLC0415
        except ImportError as error:
            raise ModelError(
                "the keras backend needs TensorFlow: install Moodline's training requirements "
                "(`make setup`), or choose litert-int8"
            ) from error
        if tf.config.threading.get_intra_op_parallelism_threads() == 0:
            # Where this process computes already, TensorFlow keeps the threads it has.
            with contextlib.suppress(RuntimeError):
                tf.config.threading.set_intra_op_parallelism_threads(threads)
        try:
            model = keras.saving.load_model(file, compile=False)
        except (ValueError, OSError, TypeError) as error:
            raise ModelError(f"Keras cannot load {file} ({error}): {_REMEDY}") from error
        _check_graph(file, card, model.input_shape, model.output_shape)
        self._run = tf.function(lambda pixels: model(pixels, training=False), autograph=False)
        self.card = card
        self.backend = backend

    def predict(self, crops: Crops) -> Scores:
        pixels = _pixels(crops, self.card)
        parts = [np.empty((0, len(self.card.labels)), np.float32)]
        for start in range(0, len(pixels), self._LARGEST_BATCH):
            part = pixels[start : start + self._LARGEST_BATCH]
            filled = np.zeros((1 << (len(part) - 1).bit_length(), *part.shape[1:]), np.float32)
            filled[: len(part)] = part
            parts.append(self._run(filled).numpy()[: len(part)])
        return _normalised(np.concatenate(parts))

    def warm(self) -> None:
        self.predict(_blank(self.card))


def _check_graph(file: Path, card: ModelCard, input_shape: Any, output_shape: Any) -> None:
    """Raise ModelError where the graph's shapes, batch first, are not what the card says."""
    takes = tuple(int(side) for side in input_shape[1:])
    gives = tuple(int(side) for side in output_shape[1:])
    wanted = (*card.input_size_hw, 1 if card.colour == "grey" else 3)
    if takes != wanted:
        raise ModelError(
            f"{file} takes pictures of {takes} (height, width, channels), but its card says "
            f"{wanted}: {_REMEDY}"
        )
    if gives != (len(card.labels),):
        raise ModelError(
            f"{file} gives {gives} values a face, but its card names {len(card.labels)} labels: "
            f"{_REMEDY}"
        )


def _pixels(crops: Crops, card: ModelCard) -> NDArray[np.float32]:
    """Bring crops into the network's colour, raw 0..255: float32 (N, H, W, channels)."""
    if card.colour == "grey" and crops.shape[1:] == card.input_size_hw and crops.dtype == np.uint8:
        return crops[..., None].astype(np.float32)
    if crops.shape[1:] != (*card.input_size_hw, 3) or crops.dtype != np.uint8:
        raise ModelError(
            f"crops must be uint8 (N, {card.input_size_hw[0]}, {card.input_size_hw[1]}, 3), not "
            f"{crops.dtype} {crops.shape}"
        )
    if card.colour == "bgr":
        return crops.astype(np.float32)
    if card.colour == "rgb":
        return crops[..., ::-1].astype(np.float32)
    grey = np.empty((*crops.shape[:3], 1), np.float32)
    for picture, crop in zip(grey, crops, strict=True):
        picture[..., 0] = cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY)
    return grey


def _normalised(scores: Scores) -> Scores:
    """Make rows sum to 1: a user's model may be off, an int8 softmax by half a step."""
    scores /= scores.sum(axis=1, keepdims=True)
    return scores


def _blank(card: ModelCard) -> Crops:
    return np.zeros((1, *card.input_size_hw, 3), np.uint8)
