"""Convert the `mtcnn` package's three networks into the LiteRT files under `models/face_detector/`.

Run `python -m training.convert_mtcnn`; it needs the `mtcnn` package (a development dependency) and
TensorFlow. Serving needs neither.

The networks come out with the same answers and less work around them:

- they take raw pixels in OpenCV's BGR order, less 128, which makes them integers with a sign: the
  scaling (x - 127.5) / 128 and the swap of channels are folded into the first convolution, which is
  exact because that convolution has no padding;
- each has one output. The face probability is one logit (the softmax of two classes is the sigmoid
  of their difference), set beside the box offsets, so that one matrix product gives both;
- the transposition before the fully connected layers (the weights were once trained in MATLAB's
  column order) is folded into the layer's weights;
- weights are constants of the graph and the batch dimension stays free, so that an interpreter can
  be resized to any number of crops, and P-Net to any picture;
- they compute in 8-bit integers: P-Net and O-Net take half the time. Of R-Net and O-Net the last
  layer does not, whose answers are finer than 8 bits can say; of P-Net it does, because R-Net looks
  again at what P-Net proposes. Integers know no PReLU with a slope for each channel; it becomes two
  multiplications by channel and one ReLU, which is the same function. P-Net, which takes most of
  the time, is rewritten further (`pnet_of_integers`).

Output columns: 0..3 offsets of (x1, y1, x2, y2) as parts of the box's side; R-Net and O-Net the
same; the last column is the logit of "face"; O-Net has between them 5 x and then 5 y positions of
left eye, right eye, nose, left and right mouth corner, as parts of the side.

Every network is compared with the package's own before anything is written: in float on random
pictures, in integers with itself in float on crops of the demo clip, by which the ranges are set as
well.
"""

import hashlib
import json
import warnings
from collections.abc import Callable
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import av
import click
import cv2
import joblib  # type: ignore[import-untyped]  # comes with the mtcnn package
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray
from tensorflow.lite.python.util import modify_model_io_type

from shared.errors import ModelError

Weights = list[NDArray[np.float32]]

MODEL_DIR = Path(__file__).parent.parent / "models" / "face_detector"
INPUT_SIDE = {"pnet": None, "rnet": 24, "onet": 48}
# Largest difference from the package's network that rounding of float32 explains.
TOLERANCE = 2e-4
# By how much integers may change what is said of what may be a face, on average: its edges and
# landmarks (parts of the box's side), and the probability that it is one.
QUANTISED_TOLERANCE = {
    "pnet": (0.04, 0.06),
    "rnet": (0.008, 0.04),
    "onet": (0.008, 0.04),
}
QUANTISED_SIDE = {"pnet": 96, "rnet": 24, "onet": 48}  # of crops for the ranges
MIDDLE = 128  # what is taken from pixels to make them integers with a sign
DEMO_CLIP = Path(__file__).parent.parent / "workers" / "demo" / "demo.mp4"

Pixels = NDArray[np.float32]
Activation = Callable[[Any, NDArray[np.float32]], Any]


def package_weights(network: str) -> Weights:
    """Return the arrays that the `mtcnn` package ships for `network`, in its layers' order."""
    path = resources.files("mtcnn") / "assets" / "weights" / f"{network}.lz4"
    if not path.is_file():
        raise ModelError(f"the mtcnn package holds no weights for {network}: install mtcnn==1.0.0")
    return [np.asarray(array, np.float32) for array in joblib.load(str(path))]


def fold_pixels(kernel: NDArray[Any], bias: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Turn a first convolution over scaled RGB into one over raw BGR pixels."""
    wide = kernel.astype(np.float64)
    shifted = bias - wide.sum(axis=(0, 1, 2)) * (127.5 / 128)
    return (wide / 128)[:, :, ::-1].astype(np.float32), shifted.astype(np.float32)


def join_heads(regressions: list[Weights], classes: Weights) -> Weights:
    """Join linear heads and a two-class softmax into one head that ends in the logit of class 1."""
    kernel, bias = classes
    heads = [*regressions, [kernel[..., 1:] - kernel[..., :1], bias[1:] - bias[:1]]]
    return [np.concatenate([head[part] for head in heads], axis=-1) for part in (0, 1)]


def rows_first(kernel: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Turn a dense kernel over (x, y, channel) of a square map into a convolution's (y, x, …)."""
    inputs, outputs = kernel.shape
    return kernel.reshape(side, side, inputs // side**2, outputs).transpose(1, 0, 2, 3)


def prelu(x: Any, slope: NDArray[np.float32]) -> Any:
    # max(x, 0) + slope * min(x, 0) in the form that the converter knows as one PRELU operator.
    return tf.nn.relu(x) + -slope * tf.nn.relu(-x)


def prelu_of_integers(x: Any, slope: NDArray[np.float32]) -> Any:
    """The same function, slope * x + relu((1 - slope) * x), in operators that 8 bits have."""
    if (slope > 1).any():  # relu keeps the sign, so these come from x - relu((1 - slope) * -x)
        below = np.minimum(slope, 1)
        return by_channel(x, below) + by_channel(
            tf.nn.relu(by_channel(x, np.abs(1 - slope) * np.where(slope > 1, -1, 1))),
            np.where(slope > 1, -1, 1),
        )
    return by_channel(x, slope) + tf.nn.relu(by_channel(x, 1 - slope))


def by_channel(x: Any, factors: NDArray[Any]) -> Any:
    kernel = factors.astype(np.float32).reshape(1, 1, -1, 1)
    scaled = tf.nn.depthwise_conv2d(x, kernel, (1, 1, 1, 1), "VALID")
    return tf.nn.bias_add(scaled, np.zeros(factors.size, np.float32))


def conv(x: Any, weights: Weights, activation: Activation = prelu) -> Any:
    kernel, bias, slope = weights
    return activation(tf.nn.bias_add(tf.nn.conv2d(x, kernel, 1, "VALID"), bias), slope)


def widened(first: Weights, second: Weights, channels: int) -> tuple[Weights, Weights]:
    """Fill up the channels between two convolutions with zeros: whole vectors take less time."""
    more = channels - first[1].size
    first = [np.pad(a, [(0, 0)] * (a.ndim - 1) + [(0, more)]) for a in first]
    return first, [np.pad(second[0], [(0, 0), (0, 0), (0, more), (0, 0)]), *second[1:]]


def head(x: Any, weights: Weights, inputs: int) -> Any:
    kernel, bias = weights
    return tf.nn.bias_add(tf.matmul(tf.reshape(x, [-1, inputs]), kernel), bias)


def pnet(x: Any, w: Weights) -> Any:
    """Map pictures (N, H, W, 3) to (N, H', W', 5), H' = ceil((H - 2) / 2) - 4."""
    x = tf.nn.max_pool2d(conv(x, [*fold_pixels(*w[:2]), w[2]]), 2, 2, "SAME")
    x = conv(conv(x, w[3:6]), w[6:9])
    return _linear(x, *join_heads([w[9:11]], w[11:13]))


def rnet(x: Any, w: Weights, activation: Activation = prelu) -> Any:
    """Map crops (N, 24, 24, 3) to (N, 5)."""
    first, second = widened([*fold_pixels(w[0], w[1]), w[2]], w[3:6], 32)
    x = tf.nn.max_pool2d(conv(x, first, activation), 3, 2, "SAME")
    x = tf.nn.max_pool2d(conv(x, second, activation), 3, 2, "VALID")
    x = conv(x, w[6:9], activation)
    x = conv(x, [rows_first(w[9], 3), *w[10:12]], activation)
    return head(x, join_heads([w[12:14]], w[14:16]), 128)


def onet(x: Any, w: Weights, activation: Activation = prelu) -> Any:
    """Map crops (N, 48, 48, 3) to (N, 15)."""
    x = conv(x, [*fold_pixels(w[0], w[1]), w[2]], activation)
    x = tf.nn.max_pool2d(x, 3, 2, "SAME")
    x = tf.nn.max_pool2d(conv(x, w[3:6], activation), 3, 2, "VALID")
    x = tf.nn.max_pool2d(conv(x, w[6:9], activation), 2, 2, "SAME")
    x = conv(x, w[9:12], activation)
    x = conv(x, [rows_first(w[12], 3), *w[13:15]], activation)
    return head(x, join_heads([w[15:17], w[17:19]], w[19:21]), 256)


NETWORKS = {"pnet": pnet, "rnet": rnet, "onet": onet}


def pnet_of_integers(w: Weights, pictures: Pixels) -> Callable[[Any], Any]:
    """Return P-Net as a function of pixels less `MIDDLE`, in a form for 8-bit integers.

    The same function but for rounding:

    - pixels around zero, because what rounding of a weight does grows with the pixels' size;
    - each convolution's channels are scaled so that their ranges on `pictures` are more alike, by
      the root of the range, and the next one scales back: one step of 8 bits serves all channels;
    - the first PReLU comes after the pooling, on a quarter of the values. Where its slope is not
      negative it rises, and so changes places with a maximum. Where it is, PReLU is the larger of x
      and slope * x; both are pooled, and the larger one taken as b + relu(a - b);
    - the last PReLU's linear part goes around it into the head.
    """
    kernel, bias = fold_pixels(*w[:2])
    bias = bias + MIDDLE * kernel.sum(axis=(0, 1, 2))
    x = _linear(tf.constant(pictures - MIDDLE), kernel, bias)
    first_scale = _evening(x)
    x = tf.nn.max_pool2d(prelu(x, w[2]), 2, 2, "SAME")
    x = _linear(x, *w[3:5])
    second_scale = _evening(x)
    third_scale = _evening(_linear(prelu(x, w[5]), *w[6:8]))

    slope = w[2].ravel()
    falling = np.flatnonzero(slope < 0)
    count = slope.size
    wide = count + falling.size
    kernel, bias = kernel / first_scale, bias / first_scale
    kernel = np.concatenate([kernel, kernel[..., falling] * slope[falling]], axis=-1)
    bias = np.concatenate([bias, bias[falling] * slope[falling]])
    # From what was pooled (x, and slope * x of some) to the linear part and to what relu gets.
    straight, bent = np.zeros((2, 1, 1, wide, wide), np.float32)
    sign = np.where(slope > 1, -1, 1)  # relu only adds: where it must take away, both are negated
    for channel in range(count):
        if slope[channel] < 0:
            other = count + falling.tolist().index(channel)
            straight[..., other, channel] = 1
            bent[..., channel, channel], bent[..., other, channel] = 1, -1
        else:
            straight[..., channel, channel] = sign[channel] * slope[channel]
            bent[..., channel, channel] = sign[channel] * (1 - slope[channel])
    second = w[3] * (sign * first_scale)[:, None] / second_scale
    second = np.pad(second, [(0, 0), (0, 0), (0, wide - count), (0, 0)])
    third = w[6] * second_scale[:, None] / third_scale
    last, last_bias = join_heads([w[9:11]], w[11:13])
    last = last * third_scale[:, None]
    last_slope = w[8].reshape(-1, 1)

    def network(x: Any) -> Any:
        x = tf.nn.max_pool2d(_linear(x, kernel, bias), 2, 2, "SAME")
        x = _linear(x, straight) + tf.nn.relu(_linear(x, bent))
        x = prelu_of_integers(_linear(x, second, w[4] / second_scale), w[5])
        x = _linear(x, third, w[7] / third_scale)
        above = tf.nn.relu(by_channel(x, 1 - w[8]))
        return _linear(x, last * last_slope, last_bias) + _linear(above, last)

    return network


def _linear(x: Any, kernel: NDArray[Any], bias: NDArray[Any] | None = None) -> Any:
    bias = np.zeros(kernel.shape[-1]) if bias is None else bias
    convolved = tf.nn.conv2d(x, kernel.astype(np.float32), 1, "VALID")
    return tf.nn.bias_add(convolved, bias.astype(np.float32))


def _evening(x: Any) -> NDArray[np.float32]:
    """By what to divide each channel, so that all come nearer to the one that reaches furthest."""
    reach = np.abs(x).max(axis=(0, 1, 2))
    return np.asarray(np.sqrt(reach / reach.max()), np.float32)


def convert(network: str) -> bytes:
    """Return the LiteRT file of `network` as bytes, in float."""
    weights = package_weights(network)
    return bytes(_converter(network, lambda x: NETWORKS[network](x, weights)).convert())


def quantised(network: str, crops: Pixels) -> bytes:
    """Return the LiteRT file of `network` in integers, with the ranges that `crops` need."""
    weights = package_weights(network)
    if network == "pnet":
        converter = _converter(network, pnet_of_integers(weights, crops))
        crops = crops - MIDDLE
        converter.inference_input_type = tf.int8
    else:
        refine = {"rnet": rnet, "onet": onet}[network]
        converter = _converter(network, lambda x: refine(x, weights, prelu_of_integers))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.representative_dataset = lambda: ([crop[None]] for crop in crops)
    if network == "pnet":
        return bytes(converter.convert())
    # The converter's own way to leave an operator in float: the head is the only one of its kind.
    in_float = tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=["FULLY_CONNECTED"])
    with warnings.catch_warnings():  # of ranges for whole numbers as inputs, which these are not
        warnings.simplefilter("ignore", UserWarning)
        debugger = tf.lite.experimental.QuantizationDebugger(
            converter=converter,
            debug_dataset=lambda: ([crop[None]] for crop in crops[:1]),
            debug_options=in_float,
        )
        model = debugger.get_nondebug_quantized_model()
    return bytes(modify_model_io_type(model, tf.int8, tf.float32))


def _converter(network: str, answer: Callable[[Any], Any]) -> Any:
    side = INPUT_SIDE[network]
    function = tf.function(
        answer,
        input_signature=[tf.TensorSpec([None, side, side, 3], tf.float32, "pixels_bgr")],
    )
    return tf.lite.TFLiteConverter.from_concrete_functions(
        [function.get_concrete_function()], function
    )


def demo_crops(side: int, count: int = 600) -> Pixels:
    """Return squares (N, side, side, 3) of the demo clip, anywhere and of any size.

    Each is lit, contrasted and tinted as cameras do it: the clip alone has few lights.
    """
    rng = np.random.default_rng(0)
    with av.open(str(DEMO_CLIP)) as clip:
        pictures = [frame.to_ndarray(format="bgr24") for frame in clip.decode(video=0)][::5]
    crops = np.empty((count, side, side, 3), np.float32)
    for crop in crops:
        picture = pictures[rng.integers(len(pictures))]
        length = int(rng.uniform(side / 2, min(picture.shape[:2])))
        top, left = (int(rng.integers(0, edge - length + 1)) for edge in picture.shape[:2])
        square = picture[top : top + length, left : left + length]
        small = cv2.resize(square, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32)
        tinted = (small - 127.5) * rng.uniform(0.5, 1.5) * rng.uniform(0.8, 1.2, 3)
        crop[:] = np.clip(tinted + 127.5 + rng.uniform(-50, 50), 0, 255)
    return crops


def largest_difference(network: str, model: bytes) -> float:
    """Compare a file in float with the package's network on 3 random pictures."""
    side = INPUT_SIDE[network] or 61
    pixels = np.random.default_rng(0).integers(0, 256, (3, side, side, 3)).astype(np.float32)
    ours = answers(model, pixels)
    ours[..., -1] = 1 / (1 + np.exp(-ours[..., -1]))
    return float(np.abs(ours - reference(network, pixels)).max())


def mean_differences(network: str, model: bytes, crops: Pixels) -> tuple[float, float]:
    """Compare a file in integers with that in float, on what may be faces by either.

    Returns the mean difference of boxes and landmarks, and that of the face's probability.
    """
    exact, rounded = answers(convert(network), crops), answers(model, crops)
    maybe = np.maximum(exact[..., -1], rounded[..., -1]) > -2
    exact, rounded = exact[maybe], rounded[maybe]
    places = np.abs(rounded - exact)[:, :-1].mean()
    faces = np.abs(_probability(rounded) - _probability(exact)).mean()
    return float(places), float(faces)


def _probability(answers: Pixels) -> Pixels:
    return np.asarray(0.5 + 0.5 * np.tanh(answers[:, -1] / 2), np.float32)


def answers(model: bytes, pixels: Pixels) -> Pixels:
    interpreter = Interpreter(model_content=model)
    (takes,) = interpreter.get_input_details()
    interpreter.resize_tensor_input(takes["index"], pixels.shape)
    interpreter.allocate_tensors()
    if takes["dtype"] == np.int8:
        pixels = (pixels - MIDDLE).astype(np.int8)
    interpreter.set_tensor(takes["index"], pixels)
    interpreter.invoke()
    given: Pixels = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    return given


def reference(network: str, pixels_bgr: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what the package's own Keras network says, in the order of our columns."""
    from mtcnn import stages  # noqa: PLC0415  (slow: builds Keras models)

    stage = {"pnet": stages.StagePNet, "rnet": stages.StageRNet, "onet": stages.StageONet}[network]
    *regressions, classes = stage().model((pixels_bgr[..., ::-1] - 127.5) / 128)
    face = np.asarray(classes, np.float64)[..., 1:]
    return np.concatenate([*(np.asarray(r) for r in regressions), face], axis=-1)


@click.command(help=__doc__.split("\n", 1)[0] if __doc__ else None)
@click.option("--out", type=click.Path(path_type=Path), default=MODEL_DIR, show_default=True)
def main(out: Path) -> None:
    models = {network: convert(network) for network in NETWORKS}
    for network, model in models.items():
        difference = largest_difference(network, model)
        if difference > TOLERANCE:
            raise ModelError(f"{network} came out different from the mtcnn package by {difference}")
    differences: dict[str, list[float]] = {}
    for network, tolerances in QUANTISED_TOLERANCE.items():
        crops = demo_crops(QUANTISED_SIDE[network])
        models[network] = quantised(network, crops)
        found = mean_differences(network, models[network], crops)
        if any(one > most for one, most in zip(found, tolerances, strict=True)):
            raise ModelError(f"{network} differs by {found} from itself in float")
        differences[network] = [float(f"{one:.1e}") for one in found]
    out.mkdir(parents=True, exist_ok=True)
    for network, model in models.items():
        (out / f"{network}.tflite").write_bytes(model)
    card_path = out / "card.json"
    before = json.loads(card_path.read_bytes()) if card_path.is_file() else {"files": {}}
    card = {
        **before,  # what `training.rejector` has made
        "name": "MTCNN face detector",
        "source": f"weights of the mtcnn package {metadata.version('mtcnn')} (MIT, see LICENSE)",
        "made_by": "python -m training.convert_mtcnn",
        "input": "raw pixels less 128, BGR, int8",
        "files": before["files"]
        | {f"{n}.tflite": hashlib.sha256(models[n]).hexdigest() for n in models},
        "difference_from_float": differences,  # of places, and of the probability of a face
    }
    card_path.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    click.echo(f"wrote {', '.join(models)} and card.json to {out}")


if __name__ == "__main__":
    main()
