"""Leave the channels of a trained network out that matter least, before training goes on.

A network that learned from ImageNet has channels that stay silent on faces, and many that say
little. Of each group of channels that one layer makes and one layer reads, those are kept that
bring most of what is read, and the reading layer's weights are fitted anew to the kept ones, by
least squares, so that it gives what it gave (He, Zhang, Sun, "Channel Pruning for Accelerating Very
Deep Neural Networks", ICCV 2017, section 3.1). What channels are left out bring on average goes
into the next bias.

Here the channels are those inside of MobileNetV2's blocks: the first layer's, each block's widened
ones, and the last layer's. Those between the blocks stay all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from training import model as network
from training.augment import resize_grey

Doubles = NDArray[np.float64]

FACES = 2000
"""So many are looked at: of the widest group 18,000 values a channel."""
_BATCH = 100
_MOST_VALUES = 40_000  # a channel and batch; of larger maps every so-manieth place counts
_RIDGE = 1e-4  # of the mean variance: keeps the fit sound where channels say the same


@dataclass(frozen=True)
class _Group:
    """Channels by the layers that make, pass, show and read them, and that norm what is read."""

    made_by: str
    passed_by: tuple[str, ...]
    shown_by: str
    read_by: str
    normed_by: str | None = None


_BLOCKS = ("expanded_conv", *(f"block_{number}" for number in range(1, 17)))
_GROUPS = (
    *(
        _Group(
            made_by=f"{block}_expand" if number else "Conv1",
            passed_by=(
                f"{block}_expand_BN" if number else "bn_Conv1",
                f"{block}_depthwise",
                f"{block}_depthwise_BN",
            ),
            shown_by=f"{block}_depthwise_relu",
            read_by=f"{block}_project",
            normed_by=f"{block}_project_BN",
        )
        for number, block in enumerate(_BLOCKS)
    ),
    _Group("Conv_1", ("Conv_1_bn",), "out_relu", "logits"),
)


@dataclass(frozen=True)
class _Values:
    """What a group's channels showed: their means (C,) and how they vary together (C, C)."""

    mean: Doubles
    covariance: Doubles


def narrowed(
    trained: keras.Model, pixels: NDArray[np.uint8], widths: network.Widths = network.NARROW
) -> keras.Model:
    """Return the network with so many channels; a group that has no more than that keeps all.

    `trained` gives logits, as `training.model.build` makes it; `pixels` (N, H, W) are grey faces
    to decide by, such as it was trained on.
    """
    layers = {layer.name: layer for layer in _layers(trained)}
    shown = _shown(trained, pixels)
    kept: dict[str, NDArray[np.intp]] = {}
    weights = {name: layer.get_weights() for name, layer in layers.items()}
    for group, values in zip(_GROUPS, shown, strict=True):
        reading = weights[group.read_by][0]
        kernel = reading.reshape(reading.shape[-2:])
        scale = _scale(layers[group.normed_by]) if group.normed_by else np.ones(kernel.shape[1])
        brings = values.covariance.diagonal() * (np.square(kernel * scale)).sum(axis=1)
        most = np.argsort(-brings, kind="stable")[: widths[group.made_by]]
        keep = kept[group.made_by] = np.sort(most)
        fitted, beside = _fitted(kernel.astype(np.float64), keep, values)
        weights[group.read_by][0] = fitted.reshape(*reading.shape[:-2], *fitted.shape)
        if group.normed_by:
            weights[group.normed_by][2] = weights[group.normed_by][2] - beside  # its mean
        else:
            weights[group.read_by][1] = weights[group.read_by][1] + beside
        for name in (group.made_by, *group.passed_by):
            weights[name] = [_of_kept(values, keep) for values in weights[name]]
    narrow = network.build(
        trained.input_shape[1],
        trained.output_shape[1],
        None,
        dropout=0.0,
        widths={name: len(keep) for name, keep in kept.items()},
    )
    for layer in _layers(narrow):
        layer.set_weights(weights[layer.name])
    return narrow


def _layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Those that have weights."""
    layers = [*model.get_layer(network.BACKBONE).layers, model.get_layer("logits")]
    return [layer for layer in layers if layer.weights]


def _scale(norm: keras.layers.BatchNormalization) -> Doubles:
    """By how much batch norm stretches each of its channels."""
    gamma, _, _, variance = norm.get_weights()
    return np.asarray(gamma / np.sqrt(variance + norm.epsilon), np.float64)


def _of_kept(weights: Any, keep: NDArray[np.intp]) -> Any:
    """Those of a layer's weights that belong to the kept channels."""
    if weights.ndim == 4 and weights.shape[3] == 1:  # depthwise: (H, W, C, 1)
        return weights[:, :, keep]
    return weights[..., keep]


def _shown(trained: keras.Model, pixels: NDArray[np.uint8]) -> list[_Values]:
    """What each group's channels show on some of these faces, the last one's over the picture."""
    backbone = network.portable(trained).get_layer(network.BACKBONE)
    outputs = [backbone.get_layer(group.shown_by).output for group in _GROUPS]
    outputs[-1] = keras.layers.GlobalAveragePooling2D()(outputs[-1])
    showing = keras.Model(backbone.input, outputs)
    widths = [output.shape[-1] for output in outputs]
    counts = [0] * len(widths)
    sums = [np.zeros(width) for width in widths]
    products = [np.zeros((width, width)) for width in widths]
    rows = np.random.default_rng(0).permutation(len(pixels))[:FACES]
    for start in range(0, len(rows), _BATCH):
        faces = resize_grey(pixels[rows[start : start + _BATCH]], trained.input_shape[1])
        for index, maps in enumerate(showing.predict_on_batch(faces / 127.5 - 1)):
            values = np.asarray(maps, np.float64).reshape(-1, widths[index])
            values = values[:: -(-len(values) // _MOST_VALUES)]
            counts[index] += len(values)
            sums[index] += values.sum(axis=0)
            products[index] += values.T @ values
    return [
        _Values(total / count, product / count - np.outer(total, total) / count**2)
        for count, total, product in zip(counts, sums, products, strict=True)
    ]


def _fitted(kernel: Doubles, keep: NDArray[np.intp], values: _Values) -> tuple[Doubles, Doubles]:
    """A reading layer's weights (C, D) for the kept channels alone, and a bias that goes with them.

    With both the layer comes as near to what it gave as it can.
    """
    left_out = np.setdiff1d(np.arange(len(kernel)), keep)
    fitted = kernel[keep]
    if len(left_out):
        among_kept = values.covariance[np.ix_(keep, keep)]
        ridge = _RIDGE * np.trace(among_kept) / len(keep) * np.eye(len(keep))
        with_left_out = values.covariance[np.ix_(keep, left_out)] @ kernel[left_out]
        fitted = fitted + np.linalg.solve(among_kept + ridge, with_left_out)
    return fitted, values.mean @ kernel - values.mean[keep] @ fitted
