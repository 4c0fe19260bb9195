"""A narrow network is the wide one without what it can do without."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.training.builders import face_set
from training import model as network
from training.augment import resize_grey
from training.narrow import narrowed

SIZE = 32
FACES = face_set(60).pixels
OTHERS = resize_grey(face_set(30, seed=5).pixels, SIZE)
HALVED = {name: width // 2 for name, width in network.widths_of(
    network.build(SIZE, 4, None, dropout=0.0).get_weights()).items()}  # fmt: skip


@pytest.fixture
def wide() -> Any:
    """A network as wide as MobileNetV2, each of whose channels says something."""
    model = network.build(SIZE, 4, None, dropout=0.3)
    rng = np.random.default_rng(1)
    for layer in layers(model).values():
        if isinstance(layer, network.QuickBatchNormalization):
            gamma, _, mean, variance = layer.get_weights()
            shape = gamma.shape
            layer.set_weights([rng.uniform(1, 2, shape), rng.uniform(0, 1, shape), mean, variance])
    dense = layers(model)["logits"]
    dense.set_weights([rng.normal(0, 1, w.shape) for w in dense.get_weights()])
    return model


def layers(model: Any) -> dict[str, Any]:
    inner = model.get_layer(network.BACKBONE).layers
    return {layer.name: layer for layer in (*inner, model.get_layer("logits"))}


def apart(one: Any, other: Any) -> float:
    """How far the answers to new pictures are apart, in their own standard deviations."""
    a, b = one.predict_on_batch(OTHERS), other.predict_on_batch(OTHERS)
    return float(np.abs(a - b).max() / a.std())


def test_as_wide_as_before_it_answers_the_same(wide: Any) -> None:
    whole = network.widths_of(wide.get_weights())
    assert apart(wide, narrowed(wide, FACES, whole)) < 1e-3


def test_has_the_widths_asked_for_and_no_more_than_there_are(wide: Any) -> None:
    narrow = narrowed(wide, FACES)
    assert network.widths_of(narrow.get_weights()) == network.NARROW
    again = narrowed(narrow, FACES, {**network.NARROW, "Conv1": 32})
    assert network.widths_of(again.get_weights()) == network.NARROW


def test_channels_that_never_change_are_left_out_without_a_trace(wide: Any) -> None:
    for name, layer in layers(wide).items():
        if name.endswith("depthwise_BN") or name == "Conv_1_bn":
            gamma, beta, *rest = layer.get_weights()
            gamma[1::2], beta[1::2] = 0, 0.7
            layer.set_weights([gamma, beta, *rest])
    assert apart(wide, narrowed(wide, FACES, HALVED)) < 2e-2


def test_what_says_the_same_as_a_kept_channel_is_said_by_that_one(wide: Any) -> None:
    """Of twins, whose share in the reading layer differs, one is enough."""
    for name, layer in layers(wide).items():
        values = layer.get_weights()
        if name == "Conv1" or name.endswith("_expand") or name == "Conv_1":
            values[0][..., 1::2] = values[0][..., 0::2]
        elif name.endswith("_depthwise"):
            values[0][:, :, 1::2] = values[0][:, :, 0::2]
        elif name == "bn_Conv1" or name.endswith(("expand_BN", "depthwise_BN", "Conv_1_bn")):
            for value in values:
                value[1::2] = value[0::2]
        elif name.endswith("_project") or name == "logits":
            values[0][..., 1::2, :] *= 0.5
        layer.set_weights(values)
    assert apart(wide, narrowed(wide, FACES, HALVED)) < 2e-2
