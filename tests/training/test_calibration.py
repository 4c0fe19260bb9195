"""Confidence is as often right as it says, and the graph that ships knows it."""

from __future__ import annotations

import numpy as np
import pytest

from training import model as network
from training.calibration import (
    Calibration,
    calibrated,
    fit_calibration,
    softmax,
    uncalibrated,
)


class TestCalibration:
    def over_confident(self, temperature: float, n: int = 4000) -> tuple[np.ndarray, np.ndarray]:
        """Logits `temperature` times too large for how often their answers are right."""
        rng = np.random.default_rng(0)
        honest = rng.normal(0, 2, (n, 4))
        truth = np.array([rng.choice(4, p=p) for p in softmax(honest)])
        return (honest * temperature).astype(np.float32), truth

    @pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
    def test_finds_the_temperature_that_confidence_is_off_by(self, temperature: float) -> None:
        logits, truth = self.over_confident(temperature)
        fitted = fit_calibration(logits, truth, np.full(4, 0.25), adjust=0.0)
        assert fitted.temperature == pytest.approx(temperature, rel=0.07)
        assert fitted.cross_entropy_after <= fitted.cross_entropy_before
        assert fitted.ece_after < 0.03

    def test_fits_nothing_to_a_handful_and_counts_only_what_has_a_label(self) -> None:
        logits, truth = self.over_confident(2.5, n=120)
        truth[:60] = -1
        fitted = fit_calibration(logits, truth, np.full(4, 0.25), adjust=0.0)
        assert (fitted.temperature, fitted.pictures) == (1.0, 0)

    def test_adjustment_takes_the_handicap_of_rare_classes_away(self) -> None:
        calibration = Calibration(1.0, 1.0, (0.9, 0.1), 0, 0, 0, 0, 0)
        (row,) = calibration.apply(np.log([[0.9, 0.1]]).astype(np.float32))
        assert softmax(row[None].astype(float))[0] == pytest.approx([0.5, 0.5])

    def test_is_folded_into_the_graph_that_ships(self) -> None:
        trained = network.build(32, 4, None, dropout=0.3)
        dense = trained.get_layer("logits")
        dense.set_weights([w + 0.3 for w in dense.get_weights()])
        calibration = Calibration(0.7, 0.4, (0.5, 0.3, 0.15, 0.05), 0, 0, 0, 0, 0)
        faces = np.random.default_rng(0).uniform(0, 255, (5, 32, 32, 1)).astype(np.float32)
        wanted = softmax(calibration.apply(trained.predict_on_batch(faces)).astype(float))
        shipped = calibrated(trained, calibration).predict_on_batch(faces)
        np.testing.assert_allclose(shipped, wanted, atol=1e-5)

    def test_can_be_taken_out_of_it_again(self) -> None:
        trained = network.build(32, 4, None, dropout=0.3)
        calibration = Calibration(0.7, 0.4, (0.5, 0.3, 0.15, 0.05), 0, 0, 0, 0, 0)
        faces = np.random.default_rng(0).uniform(0, 255, (5, 32, 32, 1)).astype(np.float32)
        again = uncalibrated(calibrated(trained, calibration), calibration)
        np.testing.assert_allclose(
            again.predict_on_batch(faces), trained.predict_on_batch(faces), atol=1e-5
        )
