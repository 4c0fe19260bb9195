"""The committed face networks are those of the `mtcnn` package, and the script makes them."""

from __future__ import annotations

import hashlib
import json

import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("mtcnn")

from training import convert_mtcnn


@pytest.mark.parametrize("network", ["pnet", "rnet", "onet"])
def test_committed_networks_answer_as_the_packages_own(network: str) -> None:
    model = (convert_mtcnn.MODEL_DIR / f"{network}.tflite").read_bytes()
    card = json.loads((convert_mtcnn.MODEL_DIR / "card.json").read_text())
    assert hashlib.sha256(model).hexdigest() == card["files"][f"{network}.tflite"]
    assert convert_mtcnn.largest_difference(network, model) < convert_mtcnn.TOLERANCE


def test_the_script_makes_networks_that_answer_the_same() -> None:
    model = convert_mtcnn.convert("rnet")
    assert convert_mtcnn.largest_difference("rnet", model) < convert_mtcnn.TOLERANCE


def test_the_packages_notice_comes_with_them() -> None:
    notice = (convert_mtcnn.MODEL_DIR / "LICENSE").read_text(encoding="utf-8")
    assert "MIT License" in notice
    assert "Iván de Paz Centeno" in notice
    total = sum(file.stat().st_size for file in convert_mtcnn.MODEL_DIR.iterdir())
    assert total < 2.1e6
