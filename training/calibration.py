"""How sure a network may be: fitted on pictures it was not trained on, and folded into its graph.

First the logits are adjusted for the shares of the classes (Menon et al. 2021, after training),
then a temperature is fitted (Guo et al. 2017). Both go into the last dense layer and a softmax
follows, so that no program has to know of either. `uncalibrated` takes them out again, for whoever
learns from a finished model.
"""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import NDArray

from training import evaluate
from training import model as network

FEWEST = 100  # with fewer pictures than that, a fitted temperature is chance


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

    def undo(self, tempered: NDArray[np.float32]) -> NDArray[np.float32]:
        """The logits that `apply` gives these for."""
        prior = np.log(np.array(self.class_shares))
        logits: NDArray[np.float64] = tempered * self.temperature + self.adjust * prior
        return logits.astype(np.float32)


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
    if n >= FEWEST:
        grid = np.exp(np.linspace(np.log(0.2), np.log(5), 400))
        temperature = float(grid[int(np.argmin([loss(t) for t in grid]))])
    nothing = float("nan")
    return Calibration(
        temperature=temperature,
        adjust=adjust,
        class_shares=tuple(float(v) for v in shares),
        pictures=n if n >= FEWEST else 0,
        cross_entropy_before=loss(1.0) if n else nothing,
        cross_entropy_after=loss(temperature) if n else nothing,
        ece_before=ece(adjusted) if n else nothing,
        ece_after=ece(adjusted / temperature) if n else nothing,
    )


def calibrated(trained: keras.Model, calibration: Calibration) -> keras.Model:
    """The network as it ships: calibration folded into the dense layer, softmax behind it."""
    plain = network.portable(trained)
    dense = plain.get_layer("logits")
    kernel, bias = dense.get_weights()
    dense.set_weights([kernel / calibration.temperature, calibration.apply(bias[None])[0]])
    outputs = keras.layers.Softmax(name="probabilities")(plain.output)
    return keras.Model(plain.input, outputs, name="moodline")


def uncalibrated(shipped: keras.Model, calibration: Calibration) -> keras.Model:
    """The network as it was trained: `calibrated` taken back, so that it gives logits again."""
    plain = network.portable(keras.Model(shipped.input, shipped.get_layer("logits").output))
    dense = plain.get_layer("logits")
    kernel, bias = dense.get_weights()
    dense.set_weights([kernel * calibration.temperature, calibration.undo(bias[None])[0]])
    return plain


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities (N, L) of logits (N, L)."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return shares
