"""The network: MobileNetV2 on grey faces, raw 0..255 in, logits out.

Sandler et al. 2018, as `keras.applications` builds it, with a grey input: the first convolution's
kernel is summed over the colour channels, which gives the same values as feeding grey three times
at a third of the input. Scaling to -1..1 is the first layer. The head is average pooling, dropout
and one dense layer.

Leaves out softmax and calibration: `training.export` puts them into the graph that ships, after
they were fitted on pictures that were not trained on.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from shared.errors import DataError

BACKBONE = "backbone"
BATCH_NORM_MOMENTUM = 0.99
"""Keras's MobileNetV2 says 0.999: slower than the weights move in a training of some ten epochs."""


class QuickBatchNormalization(keras.layers.BatchNormalization):  # type: ignore[misc]  # untyped
    """Batch normalisation by TensorFlow's fused kernel while training.

    Keras 3 composes it of elementary operations, which on a CPU takes about half the time of a
    whole training step of MobileNetV2 (measured: 80 images/s against 153). The result is the same;
    other backends and reduced precision take Keras's own way. Never part of an exported model:
    `portable` replaces it.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        fused = keras.backend.backend() == "tensorflow" and self.compute_dtype == "float32"
        if not (training and self.trainable and fused):
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf  # noqa: PLC0415  only this backend has it

        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs, self.gamma.value, self.beta.value, epsilon=self.epsilon, is_training=True
        )
        for moving, now in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + now * (1.0 - self.momentum))
        return outputs


def build(size: int, classes: int, weights: str | Path | None, *, dropout: float) -> keras.Model:
    """Build the network for (size, size, 1) input in 0..255, giving (classes,) logits.

    Args:
        weights: `imagenet` (Keras downloads them), the path of a `.weights.h5` for
            `MobileNetV2(include_top=False)`, a Moodline model folder with its `model.keras`, or
            None for random ones. The head always starts anew.

    Raises:
        DataError: the weights cannot be read or are those of another network.
    """
    if size % 32:
        raise DataError(f"The input size must be a multiple of 32 pixels, not {size}.")
    grey = keras.applications.MobileNetV2(
        input_shape=(size, size, 1), include_top=False, weights=None
    )
    if weights is not None and Path(weights).is_dir():
        _copy_moodline_weights(grey, Path(weights))
    elif weights is not None:
        _copy_colour_weights(grey, size, weights)
    backbone = keras.models.clone_model(grey, clone_function=_quick)
    backbone.set_weights(grey.get_weights())
    backbone.name = BACKBONE
    inputs = keras.Input((size, size, 1), name="face")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0, name="scale")(inputs)
    x = backbone(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    x = keras.layers.Dropout(dropout, name="dropout")(x)
    # Small first logits: a large random head would send large, useless gradients down.
    start = keras.initializers.RandomNormal(stddev=0.01)
    logits = keras.layers.Dense(classes, kernel_initializer=start, dtype="float32", name="logits")(
        x
    )
    return keras.Model(inputs, logits, name="moodline")


def portable(model: keras.Model) -> keras.Model:
    """The same network with the same weights, of Keras's own layers only."""

    def plain(layer: keras.layers.Layer) -> keras.layers.Layer:
        if isinstance(layer, keras.Model):
            inner = keras.models.clone_model(layer, clone_function=plain)
            inner.name = layer.name
            return inner
        if isinstance(layer, QuickBatchNormalization):
            return keras.layers.BatchNormalization.from_config(layer.get_config())
        return layer.__class__.from_config(layer.get_config())

    copy = keras.models.clone_model(model, clone_function=plain)
    copy.set_weights(model.get_weights())
    return copy


def frozen(model: keras.Model, batch: int | None) -> Any:
    """The network as a TensorFlow function of constants, for `batch` faces or for any number.

    Without variables TensorFlow folds batch norm into the convolutions, and the converter's
    quantiser can run the graph.
    """
    import tensorflow as tf  # noqa: PLC0415  only this backend has it
    from tensorflow.python.framework.convert_to_constants import (  # noqa: PLC0415
        convert_variables_to_constants_v2,
    )

    faces = tf.TensorSpec((batch, *model.input_shape[1:]), tf.float32, "face")
    return convert_variables_to_constants_v2(
        tf.function(lambda face: model(face, training=False)).get_concrete_function(faces)
    )


def answering(model: keras.Model) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """A function that gives the outputs (B, L) for faces (B, S, S, 1), with the weights of now.

    With TensorFlow it is the frozen network: 90 ms for 64 faces of 96x96, against 160.
    """
    plain = portable(model)
    if keras.backend.backend() != "tensorflow":
        return lambda faces: keras.ops.convert_to_numpy(plain.predict_on_batch(faces))
    import tensorflow as tf  # noqa: PLC0415  only this backend has it

    graph = frozen(plain, None)
    return lambda faces: np.asarray(graph(tf.constant(faces))[0])


def _quick(layer: keras.layers.Layer) -> keras.layers.Layer:
    config = layer.get_config()
    if isinstance(layer, keras.layers.BatchNormalization):
        return QuickBatchNormalization.from_config({**config, "momentum": BATCH_NORM_MOMENTUM})
    return layer.__class__.from_config(config)


def _copy_moodline_weights(grey: keras.Model, folder: Path) -> None:
    file = folder / "model.keras"
    if not file.is_file():
        raise DataError(f"{folder} holds no model.keras to start from.")
    try:
        trained = keras.saving.load_model(file, compile=False).get_layer(BACKBONE)
        grey.set_weights(trained.get_weights())
    except (ValueError, OSError, TypeError) as e:
        raise DataError(f"{file} holds no network of Moodline's to start from: {e}") from e


def _copy_colour_weights(grey: keras.Model, size: int, weights: str | Path) -> None:
    source = str(weights)
    if source != "imagenet" and not Path(source).is_file():
        raise DataError(
            f"There is no {source}; give `imagenet`, `none`, a .weights.h5 file or a model folder."
        )
    try:
        colour = keras.applications.MobileNetV2(
            input_shape=(size, size, 3), include_top=False, weights=source
        )
    except (OSError, ValueError, KeyError) as e:
        reason = str(e).splitlines()[0]
        raise DataError(
            f"{source} does not hold the weights of MobileNetV2 without its top: {reason}"
        ) from e
    except Exception as e:
        # Keras has no narrower class for a download that failed.
        if not str(e).startswith("URL fetch failure"):
            raise
        raise DataError(
            f"Keras could not download the ImageNet weights ({e}); give --weights a file or a "
            "model folder instead."
        ) from e
    values = colour.get_weights()
    kernels = [i for i, v in enumerate(values) if v.ndim == 4 and v.shape[2] == 3]
    stem = kernels[0]
    if values[stem].shape[:3] != (3, 3, 3):
        raise DataError(f"{source}: the first convolution is {values[stem].shape}, not (3, 3, 3).")
    values[stem] = np.sum(values[stem], axis=2, keepdims=True)
    grey.set_weights(values)
