"""The rejector learns from P-Net where not to look, and the committed one lets faces pass."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("tensorflow")
pytest.importorskip("mtcnn")

from training import rejector
from training.convert_mtcnn import MODEL_DIR
from training.data import PUBLIC, TRAINING, GreyStack
from workers.vision.detector import ImageBGR

PNET = (MODEL_DIR / "pnet.tflite").read_bytes()


@pytest.fixture(scope="module")
def faces(portrait: ImageBGR) -> GreyStack:
    """The portrait's face, framed as in FER2013, a little larger and smaller, and mirrored."""
    grey = cv2.cvtColor(portrait, cv2.COLOR_BGR2GRAY)
    faces = []
    for margin in range(-4, 8, 2):
        face = grey[65 - margin : 170 + margin, 170 - margin : 275 + margin]
        small = cv2.resize(face, (48, 48), interpolation=cv2.INTER_AREA)
        faces += [small, small[:, ::-1]]
    return np.stack(faces).astype(np.uint8)


def test_the_same_seed_draws_the_same_pictures(faces: GreyStack) -> None:
    one, again, other = (rejector.drawn(20, seed, faces, PNET) for seed in (3, 3, 4))
    assert np.array_equal(one.blocks, again.blocks)
    assert np.array_equal(one.face, again.face)
    assert not np.array_equal(one.blocks, other.blocks)
    assert not (one.face & one.nothing).any()


def test_windows_with_a_face_are_those_around_it(faces: GreyStack) -> None:
    picture = np.full((rejector.SIDE, rejector.SIDE, 3), 120, np.uint8)
    small = cv2.resize(faces[6], (13, 13), interpolation=cv2.INTER_AREA)
    picture[40:53, 60:73] = small[..., None]
    face, nothing = rejector.Teacher(PNET).windows(picture, [(60, 40, 13, 13)])
    rows, columns = np.nonzero(face)
    assert len(rows)
    assert np.abs((rows + 1) * rejector.STEP - 40).max() <= 6
    assert np.abs((columns + 1) * rejector.STEP - 60).max() <= 6
    assert nothing[:5].all()
    # Without a pasted face what P-Net sees there is its error: neither the one nor the other.
    face, nothing = rejector.Teacher(PNET).windows(picture, [])
    assert not face.any()
    assert not nothing[rows, columns].any()


def test_the_exported_form_is_the_trained_network(faces: GreyStack) -> None:
    model = rejector.network()
    rng = np.random.default_rng(0)
    model.set_weights([w + rng.uniform(0, 0.2, w.shape) for w in model.get_weights()])
    examples = rejector.drawn(30, 1, faces, PNET)
    trained = model.predict(rejector.scaled(examples.blocks), verbose=0)
    least = float(np.median(trained))
    function = rejector.folded(model, least)
    exported = function(examples.blocks.astype(np.float32)).numpy()
    np.testing.assert_allclose(exported, trained - least, atol=1e-3 * np.abs(trained).max())
    file = rejector.quantised(function, examples.blocks)
    everything = rejector.Examples(
        examples.blocks, trained[..., 0] > least, trained[..., 0] <= least
    )
    above, below = rejector.passing(file, everything)
    assert above > 0.9
    assert below < 0.1


def test_the_script_writes_network_and_card(
    faces: GreyStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rejector, "LEAST_KEPT", 0.8)  # one epoch of few pictures
    out = shutil.copytree(MODEL_DIR, tmp_path / "face_detector")
    data = tmp_path / "faces.npz"
    usage = np.where(np.arange(len(faces)) < 8, TRAINING, PUBLIC).astype(np.int8)
    np.savez(data, pixels=faces, label=np.zeros(len(faces), np.int8), usage=usage)
    arguments = ["--data", str(data), "--out", str(out), "--pictures", "600", "--epochs", "2"]
    result = CliRunner().invoke(rejector.main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    card = json.loads((out / "card.json").read_text())
    written = (out / "rejector.tflite").read_bytes()
    assert hashlib.sha256(written).hexdigest() == card["files"]["rejector.tflite"]
    assert written != (MODEL_DIR / "rejector.tflite").read_bytes()
    assert card["files"]["pnet.tflite"] == hashlib.sha256(PNET).hexdigest()
    assert card["rejector"]["windows_with_faces_that_pass"] > 0.8


def test_data_that_is_none_is_told_in_a_line(tmp_path: Path) -> None:
    data = tmp_path / "faces.npz"
    data.write_bytes(b"nothing")
    result = CliRunner().invoke(rejector.main, ["--data", str(data)])
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert "faces.npz" in result.output
    result = CliRunner().invoke(rejector.main, ["--data", str(data), "--out", str(tmp_path)])
    assert "convert_mtcnn" in result.output


def test_the_committed_one_lets_faces_pass_and_little_else(faces: GreyStack) -> None:
    file = (MODEL_DIR / "rejector.tflite").read_bytes()
    card = json.loads((MODEL_DIR / "card.json").read_text())
    assert hashlib.sha256(file).hexdigest() == card["files"]["rejector.tflite"]
    examples = rejector.drawn(400, 7, faces, PNET)  # of a person that it has not seen
    kept, left = rejector.passing(file, examples)
    assert kept > 0.95
    assert left < 0.12
