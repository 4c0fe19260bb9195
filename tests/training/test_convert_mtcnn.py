"""The committed face networks are those of the `mtcnn` package, and the script makes them."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("mtcnn")

from training import convert_mtcnn


@pytest.mark.parametrize("network", ["pnet", "rnet", "onet"])
def test_networks_in_float_answer_as_the_packages_own(network: str) -> None:
    model = convert_mtcnn.convert(network)
    assert convert_mtcnn.largest_difference(network, model) < convert_mtcnn.TOLERANCE


@pytest.mark.parametrize("network", ["pnet", "rnet", "onet"])
def test_committed_networks_are_those_of_the_card(network: str) -> None:
    model = (convert_mtcnn.MODEL_DIR / f"{network}.tflite").read_bytes()
    card = json.loads((convert_mtcnn.MODEL_DIR / "card.json").read_text())
    assert hashlib.sha256(model).hexdigest() == card["files"][f"{network}.tflite"]


@pytest.mark.parametrize(("network", "tolerances"), convert_mtcnn.QUANTISED_TOLERANCE.items())
def test_committed_networks_in_integers_answer_nearly_as_in_float(
    network: str, tolerances: tuple[float, float]
) -> None:
    model = (convert_mtcnn.MODEL_DIR / f"{network}.tflite").read_bytes()
    crops = convert_mtcnn.demo_crops(convert_mtcnn.QUANTISED_SIDE[network], 100)
    places, faces = convert_mtcnn.mean_differences(network, model, crops)
    assert places < 1.5 * tolerances[0]
    assert faces < 1.5 * tolerances[1]


def test_proposals_rewritten_for_integers_are_the_same_function() -> None:
    crops = convert_mtcnn.demo_crops(96, 8)
    network = convert_mtcnn.pnet_of_integers(convert_mtcnn.package_weights("pnet"), crops)
    exact = convert_mtcnn.answers(convert_mtcnn.convert("pnet"), crops)
    np.testing.assert_allclose(network(crops - 128), exact, atol=2e-4)


def test_the_script_makes_the_committed_integers() -> None:
    crops = convert_mtcnn.demo_crops(24)
    model = convert_mtcnn.quantised("rnet", crops)
    found = convert_mtcnn.mean_differences("rnet", model, crops)
    assert np.less(found, convert_mtcnn.QUANTISED_TOLERANCE["rnet"]).all()
    assert abs(len(model) - (convert_mtcnn.MODEL_DIR / "rnet.tflite").stat().st_size) < 2000


def test_the_packages_notice_comes_with_them() -> None:
    notice = (convert_mtcnn.MODEL_DIR / "LICENSE").read_text(encoding="utf-8")
    assert "MIT License" in notice
    assert "Iván de Paz Centeno" in notice
    total = sum(file.stat().st_size for file in convert_mtcnn.MODEL_DIR.iterdir())
    assert total < 2.1e6
