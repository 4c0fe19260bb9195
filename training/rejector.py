"""Train the rejector, which spares P-Net most of a picture, and put it beside the face networks.

Run `python -m training.rejector --data ferplus.npz`, after `training.convert_mtcnn`; a quarter
of an hour on two cores.

P-Net takes one window of 12 x 12 pixels in hundreds for a face. The rejector looks at windows 4
pixels apart, in grey and with a margin of 2 pixels, at a fifth of the cost, and says where P-Net
need not look. What it leaves P-Net judges as ever, so it invents nothing; what it rejects is lost,
so it is set to let nearly all of P-Net's faces pass. A cascade's early stage, as in Viola, Jones,
"Robust Real-Time Face Detection", IJCV 2004, section 4.

It learns from P-Net itself, on pictures that are drawn here: labelled faces (`training.data`),
tinted, lit and pasted at random sizes over noise, shapes, other faces and the demo clip. A window
is to pass if P-Net takes it for a face and one was pasted there; where P-Net errs, it may do
either. No picture from elsewhere is needed, and none of those that measure is seen.

Promises: the same data, counts and seed give the same pictures; nothing is written unless at least
`LEAST_KEPT` of the windows with faces of the public split pass.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import av
import click
import cv2
import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from shared.errors import DataError, ModelError, MoodlineError
from training.convert_mtcnn import DEMO_CLIP, MIDDLE, MODEL_DIR
from training.data import PUBLIC, TRAINING, GreyStack, load_faces
from training.quiet import quietly
from workers.vision.detector import MAYBE, in_blocks

SIDE = 96  # of a drawn picture
STEP, MARGIN = 4, 2  # from one window to the next, and what is seen around each
WINDOWS = (SIDE - 12) // STEP - 1  # across; not the first and the last, which have no margin
SHARED_WITH_FACE = 0.3  # intersection over union of what P-Net proposes and a pasted face
CHANNELS = (16, 32, 16)
SCALE = 64  # of pixels while the network is trained
FACE_WEIGHT = 30  # of a window that is to pass: they are one in 300
KEPT = 0.97  # the share of windows with faces that pass
LEAST_KEPT = 0.95  # in integers
BATCH = 128
LEARNING_RATE = 4e-3

Picture = NDArray[Any]
BoxXYWH = tuple[int, int, int, int]


@dataclass(frozen=True)
class Examples:
    """Drawn pictures as the network takes them, and of each window what is there.

    `blocks` are int8 (N, B, B, 16), from the first to the last window's margin; `face` and
    `nothing` bool (N, WINDOWS, WINDOWS).
    """

    blocks: NDArray[np.int8]
    face: NDArray[np.bool_]
    nothing: NDArray[np.bool_]  # neither is where P-Net errs


class Painter:
    """Draws pictures with small faces in them."""

    def __init__(self, faces: GreyStack, seed: int) -> None:
        self._faces = faces
        self._rng = np.random.default_rng(seed)
        with av.open(str(DEMO_CLIP)) as clip:
            frames = [frame.to_ndarray(format="bgr24") for frame in clip.decode(video=0)]
        self._clip = frames[::5]

    def picture(self) -> tuple[NDArray[np.uint8], list[BoxXYWH]]:
        """A picture (SIDE, SIDE, 3), BGR, and where faces were pasted."""
        rng = self._rng
        grounds = (self._noise, self._shapes, self._piece_of_clip, self._large_face)
        picture = grounds[rng.choice(4, p=(0.3, 0.25, 0.3, 0.15))]()
        boxes: list[BoxXYWH] = []
        for _ in range(rng.integers(0, 5)):
            side = max(round(float(np.exp(rng.uniform(np.log(8), np.log(30))))), 6)
            x, y = rng.integers(-side // 3, SIDE - side + side // 3 + 1, 2).tolist()
            box = (x, y, side, side)
            edges = np.array([x, y, x + side, y + side])
            if not overlaps(edges, boxes) and self._paste(picture, box):
                boxes.append(box)
        light = rng.uniform(0.6, 1.3) * rng.uniform(0.9, 1.1, 3)
        picture = ((picture - 127) * light + 127 + rng.uniform(-40, 40)).astype(np.float32)
        if rng.random() < 0.3:
            picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.3, 0.9)))
        if rng.random() < 0.3:
            picture = picture + rng.normal(0, rng.uniform(1, 10), picture.shape)
        return np.clip(picture, 0, 255).astype(np.uint8), boxes

    def _paste(self, picture: Picture, box: BoxXYWH) -> bool:
        """Put a face there, as a square or fading out; False where hardly any of it would show."""
        rng = self._rng
        x, y, side, _ = box
        # Its edges go on around it, as hair, neck and background do.
        around = int(rng.choice([cv2.BORDER_REPLICATE, cv2.BORDER_REFLECT_101]))
        half = self._faces.shape[1] // 2
        face = cv2.copyMakeBorder(self._face(), half, half, half, half, around)
        if rng.random() < 0.5:
            face = face[:, ::-1]
        x, y, length = x - side // 2, y - side // 2, 2 * (side // 2) + side
        face = np.asarray(cv2.resize(face, (length, length), interpolation=cv2.INTER_AREA))
        face = self._tinted((face - 127) * rng.uniform(0.4, 1.3) + 127 + rng.uniform(-50, 50))
        across = ((np.arange(length) + 0.5) / length * 2 - 1) * length / side
        wide, high = rng.uniform(0.85, 1.25), rng.uniform(0.95, 1.3)
        away = np.hypot(across / wide, across[:, None] / high)
        shown = rng.choice(3, p=(0.25, 0.35, 0.4))
        if shown == 0:
            away = 10 * np.maximum(np.abs(across), np.abs(across)[:, None]) - 9.5
        elif shown == 1:
            away = away / rng.uniform(1.1, 1.6)
        veil = 1 / (1 + np.exp(np.minimum((away - 1) * rng.uniform(6, 20), 50)))
        left, top = max(x, 0), max(y, 0)
        right, bottom = min(x + length, SIDE), min(y + length, SIDE)
        if right - left < side // 2 + 4 or bottom - top < side // 2 + 4:
            return False
        part = (slice(top - y, bottom - y), slice(left - x, right - x))
        under = picture[top:bottom, left:right]
        under += (face[part] - under) * veil[part][..., None]
        return True

    def _face(self) -> Picture:
        return np.asarray(self._faces[self._rng.integers(len(self._faces))], np.float32)

    def _tinted(self, grey: Picture) -> Picture:
        """Mostly like skin: more red than green than blue."""
        rng = self._rng
        tint = np.ones(3)
        if rng.random() < 0.75:
            tint = np.array([rng.uniform(*ends) for ends in ((0.55, 1.1), (0.75, 1.1), (0.9, 1.3))])
        return (grey[..., None] * tint).astype(np.float32)

    def _large_face(self) -> Picture:
        return self._tinted(np.asarray(cv2.resize(self._face(), (SIDE, SIDE))))

    def _piece_of_clip(self) -> Picture:
        frame = self._clip[self._rng.integers(len(self._clip))]
        length = int(self._rng.uniform(SIDE / 2, min(frame.shape[:2])))
        top, left = (int(self._rng.integers(0, edge - length + 1)) for edge in frame.shape[:2])
        piece = frame[top : top + length, left : left + length]
        small = cv2.resize(piece, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        return np.asarray(small, np.float32)

    def _noise(self) -> Picture:
        """Blotches of several sizes, more or less coloured."""
        rng = self._rng
        picture = np.zeros((SIDE, SIDE, 3), np.float32)
        for blotches in (3, 6, 12, 24, 48, 96):
            noise = rng.normal(0, 1, (blotches, blotches, 3)).astype(np.float32)
            noise += rng.uniform(0, 1) * (noise.mean(axis=2, keepdims=True) - noise)
            strength = rng.uniform(0, 1) * rng.choice([3 / blotches, 1, 0.3])
            large = cv2.resize(noise, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
            picture += np.float32(strength) * large
        return np.asarray(127 + rng.uniform(10, 60) * picture, np.float32)

    def _shapes(self) -> Picture:
        rng = self._rng
        picture = np.full((SIDE, SIDE, 3), rng.uniform(0, 255, 3)).astype(np.uint8)
        for _ in range(rng.integers(2, 25)):
            colour = rng.uniform(0, 255, 3).tolist()
            a, b = (tuple(point) for point in rng.integers(-20, SIDE + 20, (2, 2)).tolist())
            line = int(rng.choice([-1, 1, 2, 4]))
            match rng.integers(5):
                case 0:
                    cv2.rectangle(picture, a, b, colour, line)
                case 1:
                    cv2.circle(picture, a, int(rng.integers(1, 20)), colour, line)
                case 2:
                    cv2.line(picture, a, b, colour, abs(line))
                case 3:
                    axes = tuple(rng.integers(2, 30, 2).tolist())
                    cv2.ellipse(picture, a, axes, rng.uniform(0, 180), 0, 360, colour, line)
                case _:
                    text = "".join(map(chr, rng.integers(33, 120, 4)))
                    cv2.putText(picture, text, a, 0, rng.uniform(0.2, 1), colour, 1)
        return picture.astype(np.float32)


class Teacher:
    """The committed P-Net, asked about pictures of one size."""

    def __init__(self, model: bytes) -> None:
        self._interpreter = Interpreter(model_content=model, num_threads=1)
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]
        self._interpreter.resize_tensor_input(self._input, (1, SIDE, SIDE, 3))
        self._interpreter.allocate_tensors()

    def windows(
        self, picture: NDArray[np.uint8], boxes: list[BoxXYWH]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Of each window (WINDOWS, WINDOWS): is a pasted face there, and is nothing there."""
        self._interpreter.set_tensor(self._input, (picture ^ MIDDLE).view(np.int8)[None])
        self._interpreter.invoke()
        inner = slice(STEP // 2, STEP // 2 * (WINDOWS + 1), STEP // 2)
        answers = self._interpreter.get_tensor(self._output)[0, inner, inner]
        maybe = answers[..., 4] > MAYBE
        corners = STEP * (np.indices(maybe.shape)[::-1].transpose(1, 2, 0) + 1) + 1
        edges = np.concatenate([corners, corners + 12], axis=-1) + answers[..., :4] * 12
        return maybe & (overlaps(edges, boxes) > SHARED_WITH_FACE), ~maybe


def overlaps(edges: NDArray[Any], boxes: list[BoxXYWH]) -> NDArray[np.float64]:
    """How much each (..., 4) of x1, y1, x2, y2 shares with the box it shares most with."""
    most = np.zeros(edges.shape[:-1])
    for x, y, width, height in boxes:
        low = np.maximum(edges[..., :2], (x, y))
        high = np.minimum(edges[..., 2:], (x + width, y + height))
        shared = np.maximum(high - low, 0).prod(axis=-1)
        areas = (edges[..., 2:] - edges[..., :2]).prod(axis=-1) + width * height
        most = np.maximum(most, shared / np.maximum(areas - shared, 1))
    return most


def drawn(count: int, seed: int, faces: GreyStack, pnet: bytes) -> Examples:
    """Draw that many pictures with some of these faces (N, H, W), and let P-Net judge them."""
    painter, teacher = Painter(faces, seed), Teacher(pnet)
    inner = slice(STEP - MARGIN, SIDE - (STEP - MARGIN))
    blocks, face, nothing = [], [], []
    for _ in range(count):
        picture, boxes = painter.picture()
        grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)[inner, inner]
        blocks.append(in_blocks(np.ascontiguousarray(grey, np.uint8)))
        is_face, is_nothing = teacher.windows(picture, boxes)
        face.append(is_face)
        nothing.append(is_nothing)
    return Examples(np.stack(blocks), np.stack(face), np.stack(nothing))


def network() -> Any:
    """The network to train: pixels in blocks, around zero, to a logit of each window."""
    x = taken = keras.Input((None, None, STEP * STEP))
    for channels, side in zip(CHANNELS, (2, 3, 1), strict=True):
        x = keras.layers.Conv2D(channels, side)(x)
        x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    return keras.Model(taken, keras.layers.Conv2D(1, 1)(x))


def scaled(blocks: NDArray[np.int8]) -> NDArray[np.float32]:
    return blocks.astype(np.float32) / np.float32(SCALE)


def train(examples: Examples, *, epochs: int, seed: int) -> Any:
    """Return a trained `network`."""
    keras.utils.set_random_seed(seed)
    count = len(examples.blocks)
    steps = max(1, count // BATCH)
    wanted = np.stack([examples.face, examples.nothing], axis=-1)

    def batches() -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        rng = np.random.default_rng(seed)
        while True:
            for rows in np.array_split(rng.permutation(count), steps):
                yield scaled(examples.blocks[rows]), wanted[rows].astype(np.float32)

    def loss(wanted: Any, logits: Any) -> Any:
        face, nothing = wanted[..., 0], wanted[..., 1]
        logits = logits[..., 0]
        missed = FACE_WEIGHT * face * tf.nn.softplus(-logits)
        return tf.reduce_mean(missed + nothing * tf.nn.softplus(logits))

    shapes = (
        tf.TensorSpec((None, *examples.blocks.shape[1:]), tf.float32),
        tf.TensorSpec((None, *wanted.shape[1:]), tf.float32),
    )
    data = tf.data.Dataset.from_generator(batches, output_signature=shapes).prefetch(4)
    model = network()
    rate = keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps * epochs)
    model.compile(keras.optimizers.Adam(rate), loss)
    model.fit(data, steps_per_epoch=steps, epochs=epochs, shuffle=False, verbose=0)
    return model


def threshold(model: Any, held_out: Examples) -> float:
    """The logit above which `KEPT` of the windows with faces lie."""
    logits = model.predict(scaled(held_out.blocks), batch_size=BATCH, verbose=0)[..., 0]
    return float(np.quantile(logits[held_out.face], 1 - KEPT))


def folded(model: Any, least: float) -> Callable[[Any], Any]:
    """The network over blocks of pixels, in plain convolutions; what is above 0 passes."""
    layers = [layer for layer in model.layers if layer.weights]
    convolutions: list[tuple[NDArray[Any], NDArray[Any]]] = []
    for convolution, norm in zip(layers[::2], [*layers[1::2], None], strict=True):
        kernel, bias = (weight.numpy() for weight in convolution.weights)
        if norm is None:
            bias = bias - least
        else:
            gamma, beta, mean, variance = (weight.numpy() for weight in norm.weights)
            scale = gamma / np.sqrt(variance + norm.epsilon)
            kernel, bias = kernel * scale, (bias - mean) * scale + beta
        convolutions.append((kernel, bias))
    kernel, bias = convolutions[0]
    convolutions[0] = kernel / SCALE, bias

    def function(x: Any) -> Any:
        for kernel, bias in convolutions:
            x = tf.nn.conv2d(x, kernel.astype(np.float32), 1, "VALID")
            x = tf.nn.bias_add(x, bias.astype(np.float32))
            x = x if kernel.shape[-1] == 1 else tf.nn.relu(x)
        return x

    return function


def quantised(function: Callable[[Any], Any], blocks: NDArray[np.int8]) -> bytes:
    """The LiteRT file of `folded`, in integers whose ranges are those of these pictures."""
    shape = tf.TensorSpec([None, None, None, STEP * STEP], tf.float32)
    traced = tf.function(function, input_signature=[shape])
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [traced.get_concrete_function()], traced
    )
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.int8
    pictures = blocks[:, None].astype(np.float32)
    converter.representative_dataset = lambda: ([picture] for picture in pictures)
    with warnings.catch_warnings():  # of ranges for whole numbers as inputs, which these are not
        warnings.simplefilter("ignore", UserWarning)
        return bytes(converter.convert())


def passing(model: bytes, examples: Examples) -> tuple[float, float]:
    """The shares of windows with a face and of those without that pass."""
    interpreter = Interpreter(model_content=model, num_threads=1)
    taken = interpreter.get_input_details()[0]["index"]
    given = interpreter.get_output_details()[0]["index"]
    interpreter.resize_tensor_input(taken, (1, *examples.blocks.shape[1:]))
    interpreter.allocate_tensors()
    passed = np.empty(examples.face.shape, np.bool_)
    for i, blocks in enumerate(examples.blocks):
        interpreter.set_tensor(taken, blocks[None])
        interpreter.invoke()
        passed[i] = interpreter.get_tensor(given)[0, ..., 0] > 0
    return float(passed[examples.face].mean()), float(passed[examples.nothing].mean())


@click.command(help=__doc__.split("\n", 1)[0] if __doc__ else None)
@click.option("--data", required=True, type=click.Path(path_type=Path, exists=True),
              help="Labelled faces, as for `python -m training train`.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path, exists=True), default=MODEL_DIR,
              help="The folder of the face networks, with P-Net and the card.")  # fmt: skip
@click.option("--pictures", type=click.IntRange(100), default=120_000, show_default=True)
@click.option("--epochs", type=click.IntRange(1), default=14, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
def main(data: Path, out: Path, pictures: int, epochs: int, seed: int) -> None:
    try:
        _make(data, out, pictures, epochs, seed)
    except MoodlineError as error:
        raise click.ClickException(str(error)) from error


def _make(data: Path, out: Path, pictures: int, epochs: int, seed: int) -> None:
    card_path, pnet_path = out / "card.json", out / "pnet.tflite"
    for path in (card_path, pnet_path):
        if not path.is_file():
            raise ModelError(f"there is no {path}: run `python -m training.convert_mtcnn` first")
    faces = load_faces(data, "fer2013")
    pnet = pnet_path.read_bytes()
    training, public = (faces.pixels[faces.usage == split] for split in (TRAINING, PUBLIC))
    if not len(training) or not len(public):
        raise DataError(f"{data} must hold faces of the training and of the public split.")
    chunk = 5000
    counts = [min(chunk, pictures - done) for done in range(0, pictures, chunk)]
    with quietly(), ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        draw = partial(drawn, faces=training, pnet=pnet)
        parts = list(pool.map(draw, counts, range(1000 * seed, 1000 * seed + len(counts))))
        held_out = drawn(counts[0], 1000 * seed - 1, public, pnet)
        fields = ("blocks", "face", "nothing")
        examples = Examples(*(np.concatenate([getattr(p, name) for p in parts]) for name in fields))
        model = train(examples, epochs=epochs, seed=seed)
        file = quantised(folded(model, threshold(model, held_out)), examples.blocks[:800])
        kept, left = passing(file, held_out)
    if kept < LEAST_KEPT:
        raise ModelError(f"only {kept:.1%} of the windows with faces pass, not {LEAST_KEPT:.0%}")
    (out / "rejector.tflite").write_bytes(file)
    card = json.loads(card_path.read_text(encoding="utf-8"))
    card["files"]["rejector.tflite"] = hashlib.sha256(file).hexdigest()
    card["rejector"] = {
        "made_by": "python -m training.rejector",
        "data": data.name,
        "data_sha256": hashlib.sha256(data.read_bytes()).hexdigest(),
        # On drawn pictures, with faces of the public split.
        "windows_with_faces_that_pass": round(kept, 4),
        "windows_without_that_pass": round(left, 4),
    }
    card_path.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    click.echo(
        f"wrote rejector.tflite: {kept:.1%} of windows with a face pass, {left:.1%} of others"
    )


if __name__ == "__main__":
    main()
