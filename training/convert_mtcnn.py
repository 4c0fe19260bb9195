"""Convert the `mtcnn` package's three networks into the LiteRT files under `models/face_detector/`.

Run `python -m training.convert_mtcnn`; it needs the `mtcnn` package (a development dependency) and
TensorFlow. Serving needs neither.

The networks come out with the same answers and less work around them:

- they take raw pixels 0..255 in OpenCV's BGR order: the scaling (x - 127.5) / 128 and the swap of
  channels are folded into the first convolution, which is exact because that convolution has no
  padding;
- each has one output. The face probability is one logit (the softmax of two classes is the sigmoid
  of their difference), set beside the box offsets, so that one matrix product gives both;
- the transposition before the fully connected layers (the weights were once trained in MATLAB's
  column order) is folded into the layer's weights;
- weights are constants of the graph and the batch dimension stays free, so that an interpreter can
  be resized to any number of crops, and P-Net to any picture.

Output columns: 0..3 offsets of (x1, y1, x2, y2) as parts of the box's side; R-Net and O-Net the
same; the last column is the logit of "face"; O-Net has between them 5 x and then 5 y positions of
left eye, right eye, nose, left and right mouth corner, as parts of the side.

Every network is compared with the package's own on random pictures before anything is written.
"""

import hashlib
import json
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import click
import joblib  # type: ignore[import-untyped]  # comes with the mtcnn package
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from shared.errors import ModelError

Weights = list[NDArray[np.float32]]

MODEL_DIR = Path(__file__).parent.parent / "models" / "face_detector"
INPUT_SIDE = {"pnet": None, "rnet": 24, "onet": 48}
# Largest difference from the package's network that rounding of float32 explains.
TOLERANCE = 2e-4


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
    """Reorder a dense kernel from (x, y, channel) to (y, x, channel) inputs of a square map."""
    inputs, outputs = kernel.shape
    grid = kernel.reshape(side, side, inputs // side**2, outputs)
    return grid.transpose(1, 0, 2, 3).reshape(inputs, outputs)


def prelu(x: Any, slope: NDArray[np.float32]) -> Any:
    # max(x, 0) + slope * min(x, 0) in the form that the converter knows as one PRELU operator.
    return tf.nn.relu(x) + -slope * tf.nn.relu(-x)


def conv(x: Any, weights: Weights) -> Any:
    kernel, bias, slope = weights
    return prelu(tf.nn.bias_add(tf.nn.conv2d(x, kernel, 1, "VALID"), bias), slope)


def dense(x: Any, weights: Weights) -> Any:
    kernel, bias = weights
    return tf.nn.bias_add(tf.matmul(x, kernel), bias)


def pnet(x: Any, w: Weights) -> Any:
    """Map pictures (N, H, W, 3) to (N, H', W', 5), H' = ceil((H - 2) / 2) - 4."""
    # 10 channels become 16 with zeros: a whole vector, for which LiteRT takes 15 % less time.
    first = [np.pad(a, [(0, 0)] * (a.ndim - 1) + [(0, 6)]) for a in (*fold_pixels(*w[:2]), w[2])]
    second = [np.pad(w[3], [(0, 0), (0, 0), (0, 6), (0, 0)]), *w[4:6]]
    x = tf.nn.max_pool2d(conv(x, first), 2, 2, "SAME")
    x = conv(conv(x, second), w[6:9])
    kernel, bias = join_heads([w[9:11]], w[11:13])
    return tf.nn.bias_add(tf.nn.conv2d(x, kernel, 1, "VALID"), bias)


def rnet(x: Any, w: Weights) -> Any:
    """Map crops (N, 24, 24, 3) to (N, 5)."""
    x = conv(x, [*fold_pixels(w[0], w[1]), w[2]])
    x = conv(tf.nn.max_pool2d(x, 3, 2, "SAME"), w[3:6])
    x = conv(tf.nn.max_pool2d(x, 3, 2, "VALID"), w[6:9])
    x = tf.reshape(x, [-1, 3 * 3 * 64])
    x = prelu(dense(x, [rows_first(w[9], 3), w[10]]), w[11])
    return dense(x, join_heads([w[12:14]], w[14:16]))


def onet(x: Any, w: Weights) -> Any:
    """Map crops (N, 48, 48, 3) to (N, 15)."""
    x = conv(x, [*fold_pixels(w[0], w[1]), w[2]])
    x = conv(tf.nn.max_pool2d(x, 3, 2, "SAME"), w[3:6])
    x = conv(tf.nn.max_pool2d(x, 3, 2, "VALID"), w[6:9])
    x = conv(tf.nn.max_pool2d(x, 2, 2, "SAME"), w[9:12])
    x = tf.reshape(x, [-1, 3 * 3 * 128])
    x = prelu(dense(x, [rows_first(w[12], 3), w[13]]), w[14])
    return dense(x, join_heads([w[15:17], w[17:19]], w[19:21]))


NETWORKS = {"pnet": pnet, "rnet": rnet, "onet": onet}


def convert(network: str) -> bytes:
    """Return the LiteRT file of `network` as bytes."""
    side = INPUT_SIDE[network]
    weights = package_weights(network)
    function = tf.function(
        lambda pixels_bgr: NETWORKS[network](pixels_bgr, weights),
        input_signature=[tf.TensorSpec([None, side, side, 3], tf.float32, "pixels_bgr")],
    )
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [function.get_concrete_function()], function
    )
    return bytes(converter.convert())


def reference(network: str, pixels_bgr: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what the package's own Keras network says, in the order of our columns."""
    from mtcnn import stages  # noqa: PLC0415  (slow: builds Keras models)

    stage = {"pnet": stages.StagePNet, "rnet": stages.StageRNet, "onet": stages.StageONet}[network]
    *regressions, classes = stage().model((pixels_bgr[..., ::-1] - 127.5) / 128)
    face = np.asarray(classes, np.float64)[..., 1:]
    return np.concatenate([*(np.asarray(r) for r in regressions), face], axis=-1)


def largest_difference(network: str, model: bytes) -> float:
    """Compare the converted file with the package's network on 3 random pictures."""
    side = INPUT_SIDE[network] or 61
    pixels = np.random.default_rng(0).integers(0, 256, (3, side, side, 3)).astype(np.float32)
    interpreter = Interpreter(model_content=model)
    interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], pixels.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], pixels)
    interpreter.invoke()
    ours = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    ours[..., -1] = 1 / (1 + np.exp(-ours[..., -1]))
    return float(np.abs(ours - reference(network, pixels)).max())


@click.command(help=__doc__.split("\n", 1)[0] if __doc__ else None)
@click.option("--out", type=click.Path(path_type=Path), default=MODEL_DIR, show_default=True)
def main(out: Path) -> None:
    models = {network: convert(network) for network in NETWORKS}
    differences = {network: largest_difference(network, models[network]) for network in models}
    for network, difference in differences.items():
        if difference > TOLERANCE:
            raise ModelError(f"{network} came out different from the mtcnn package by {difference}")
    out.mkdir(parents=True, exist_ok=True)
    for network, model in models.items():
        (out / f"{network}.tflite").write_bytes(model)
    card = {
        "name": "MTCNN face detector",
        "source": f"weights of the mtcnn package {metadata.version('mtcnn')} (MIT, see LICENSE)",
        "made_by": "python -m training.convert_mtcnn",
        "input": "raw pixels 0..255, BGR, float32",
        "files": {f"{n}.tflite": hashlib.sha256(models[n]).hexdigest() for n in models},
        "largest_difference_from_package": {n: float(f"{d:.1e}") for n, d in differences.items()},
    }
    (out / "card.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    click.echo(f"wrote {', '.join(card['files'])} and card.json to {out}")


if __name__ == "__main__":
    main()
