"""A model folder loads in each of its forms, answers alike, and is refused when it is not whole."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from shared import config
from shared.config import PROJECT_DIR
from shared.errors import ModelError
from shared.schema import Claim, Frame
from tests.workers.conftest import MODELS
from workers.pipeline import load_pipeline
from workers.vision.classifier import (
    FILES,
    Backend,
    Crops,
    Scores,
    load_classifier,
    read_card,
    require_intact,
)
from workers.vision.crop import crop_face
from workers.vision.detector import ImageBGR, load_detector

SHIPPED = MODELS / "moodline-mobilenetv2"
Edit = Callable[[dict[str, Any]], object]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the shipped model that a test may damage."""
    return Path(shutil.copytree(SHIPPED, tmp_path / "model"))


def edit_card(folder: Path, edit: Edit) -> None:
    card = json.loads((folder / "card.json").read_text())
    edit(card)
    (folder / "card.json").write_text(json.dumps(card))


def noise(n: int, side: int = 96) -> Crops:
    blocks = np.random.default_rng(7).integers(0, 256, (n, 6, 6, 3), np.uint8)
    return (
        np.stack([cv2.resize(b, (side, side)) for b in blocks])
        if n
        else np.empty((0, side, side, 3), np.uint8)
    )


class TestTheShippedModel:
    @pytest.mark.parametrize("backend", FILES)
    def test_sees_the_smile_of_a_portrait(self, backend: str, portrait: ImageBGR) -> None:
        classifier = load_classifier(SHIPPED, backend)
        (face,) = load_detector("mtcnn", models_dir=MODELS).detect(portrait)
        crop = crop_face(portrait, face, classifier.card.input_size_hw)
        (scores,) = classifier.predict(crop[None])
        assert classifier.card.labels[int(scores.argmax())] == "happy"
        assert scores.max() > 0.8
        assert classifier.backend == backend

    @pytest.mark.parametrize("backend", FILES)
    @pytest.mark.parametrize("n", [0, 1, 5])
    def test_gives_a_row_of_probabilities_for_each_crop(self, backend: str, n: int) -> None:
        scores = load_classifier(SHIPPED, backend).predict(noise(n))
        assert scores.shape == (n, 8)
        assert scores.dtype == np.float32
        assert np.allclose(scores.sum(axis=1), 1, atol=1e-5)

    def test_its_forms_give_the_same_answers(self) -> None:
        crops = noise(12)
        keras, floats, int8 = (
            load_classifier(SHIPPED, b).predict(crops) for b in ("keras", "litert", "litert-int8")
        )
        assert np.abs(keras - floats).max() < 1e-3
        assert np.abs(keras - int8).mean() < 0.05

    @pytest.mark.parametrize("backend", FILES)
    def test_grouping_crops_changes_nothing(self, backend: str) -> None:
        classifier = load_classifier(SHIPPED, backend)
        crops = noise(3)
        one_by_one = np.concatenate([classifier.predict(crop[None]) for crop in crops])
        assert np.allclose(classifier.predict(crops), one_by_one, atol=1e-5)

    def test_runs_in_the_form_its_card_recommends(self) -> None:
        classifier = load_classifier(SHIPPED, "auto")
        assert classifier.backend == read_card(SHIPPED).default_backend == "litert-int8"
        classifier.warm()

    @pytest.mark.parametrize(
        "crops",
        [
            np.zeros((1, 48, 48, 3), np.uint8),
            np.zeros((1, 96, 96, 1), np.uint8),
            np.zeros((1, 96, 96, 3), np.float32),
        ],
    )
    def test_refuses_crops_of_another_shape_or_type(self, crops: Any) -> None:
        with pytest.raises(ModelError, match=r"crops must be uint8 \(N, 96, 96, 3\)"):
            load_classifier(SHIPPED).predict(crops)

    def test_every_figure_the_product_shows_stands_in_the_card(self) -> None:
        card = read_card(SHIPPED)
        assert set(card.files) == set(FILES.values())
        assert 0 < card.unsure_below < 1
        assert card.details["metrics"]["litert-int8"]["accuracy"] > 0.8
        assert card.details["licences"]


class TestAFolderThatIsNotWhole:
    def test_is_refused_when_it_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="training train"):
            load_classifier(tmp_path / "none")

    def test_is_refused_without_a_card(self, folder: Path) -> None:
        (folder / "card.json").unlink()
        with pytest.raises(ModelError, match=r"no readable card\.json"):
            load_classifier(folder)

    @pytest.mark.parametrize("text", ["", "[]", "3", '{"format": 1}', '{"format": 2}', "\xff"])
    def test_is_refused_when_the_card_is_none(self, folder: Path, text: str) -> None:
        (folder / "card.json").write_text(text)
        with pytest.raises(ModelError, match=r"card\.json"):
            load_classifier(folder)

    @pytest.mark.parametrize("name", FILES.values())
    def test_is_refused_when_a_file_is_missing(self, folder: Path, name: str) -> None:
        (folder / name).unlink()
        with pytest.raises(ModelError, match=f"{name} is missing"):
            load_classifier(folder)

    @pytest.mark.parametrize("backend", FILES)
    def test_is_refused_when_one_byte_differs(self, folder: Path, backend: Backend) -> None:
        file = folder / FILES[backend]
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
        with pytest.raises(ModelError, match=f"{file.name} is not the file .*SHA-256"):
            load_classifier(folder, backend)
        with pytest.raises(ModelError, match=f"{file.name} is not the file .*SHA-256"):
            require_intact(folder, read_card(folder).files)

    @pytest.mark.parametrize("backend", FILES)
    @pytest.mark.parametrize(
        ("edit", "said"),
        [
            (lambda card: card["labels"].append("bored"), "9 labels"),
            (lambda card: card.update(input_size_hw=[64, 64]), r"\(64, 64, 1\)"),
            (lambda card: card.update(colour="rgb"), r"\(96, 96, 3\)"),
        ],
    )
    def test_is_refused_when_the_graph_is_another(
        self, folder: Path, backend: str, edit: Edit, said: str
    ) -> None:
        edit_card(folder, edit)
        with pytest.raises(ModelError, match=said):
            load_classifier(folder, backend)

    @pytest.mark.parametrize(
        ("edit", "said"),
        [
            (lambda card: card.update(labels=["same", "same"]), "different names"),
            (lambda card: card.update(input_size_hw=[0, 96]), "8 to 1024"),
            (lambda card: card.update(colour="cmyk"), "grey, rgb or bgr"),
            (lambda card: card.update(unsure_below=1.5), "from 0 up to 1"),
            (lambda card: card.update(default_backend="abacus"), "default_backend"),
            (lambda card: card.pop("labels"), "labels is missing"),
        ],
    )
    def test_is_refused_when_the_card_makes_no_sense(
        self, folder: Path, edit: Edit, said: str
    ) -> None:
        edit_card(folder, edit)
        with pytest.raises(ModelError, match=said):
            load_classifier(folder)

    def test_may_leave_out_when_to_be_unsure(self, folder: Path) -> None:
        edit_card(folder, lambda card: card.pop("unsure_below"))
        assert load_classifier(folder).card.unsure_below == 0

    def test_is_refused_when_a_file_is_no_model_though_the_card_vouches_for_it(
        self, folder: Path
    ) -> None:
        for name in FILES.values():
            (folder / name).write_bytes(b"no model at all")
        digest = hashlib.sha256(b"no model at all").hexdigest()
        edit_card(folder, lambda card: card.update(files=dict.fromkeys(FILES.values(), digest)))
        for backend in FILES:
            with pytest.raises(ModelError, match="cannot load"):
                load_classifier(folder, backend)

    def test_a_form_that_the_card_does_not_name_is_not_needed_and_not_given(
        self, folder: Path
    ) -> None:
        (folder / "model.keras").unlink()
        edit_card(folder, lambda card: card["files"].pop("model.keras"))
        load_classifier(folder, "litert")
        with pytest.raises(ModelError, match=r"no model\.keras"):
            load_classifier(folder, "keras")

    def test_an_unknown_backend_is_refused(self) -> None:
        with pytest.raises(ModelError, match="choose auto, litert-int8"):
            load_classifier(SHIPPED, "abacus")


@pytest.mark.parametrize(("colour", "answer"), [("rgb", "third channel"), ("bgr", "first channel")])
def test_a_users_own_keras_model_in_colour_gets_the_channels_it_asks_for(
    tmp_path: Path, colour: str, answer: str
) -> None:
    import keras  # noqa: PLC0415  slow

    inputs = keras.Input((32, 32, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(inputs))
    keras.Model(inputs, keras.layers.Softmax()(x)).save(tmp_path / "model.keras")
    digest = hashlib.sha256((tmp_path / "model.keras").read_bytes()).hexdigest()
    card = {
        "format": 1,
        "name": "own",
        "version": "1",
        "labels": ["first channel", "second channel", "third channel"],
        "input_size_hw": [32, 32],
        "colour": colour,
        "default_backend": "keras",
        "unsure_below": 0,
        "files": {"model.keras": digest},
    }
    (tmp_path / "card.json").write_text(json.dumps(card))
    blue = np.zeros((1, 32, 32, 3), np.uint8)
    blue[..., 0] = 255
    classifier = load_classifier(tmp_path)
    assert classifier.card.labels[int(classifier.predict(blue).argmax())] == answer


def test_serving_with_litert_imports_no_tensorflow() -> None:
    script = (
        "import sys; from pathlib import Path; from workers.vision.classifier import *; "
        f"load_classifier(Path({str(SHIPPED)!r})).warm(); "
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=PROJECT_DIR, check=False)
    assert done.returncode == 0


def test_a_worker_with_keras_judges_faces_of_several_feeds_in_one_batch(
    portrait: ImageBGR, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a worker with a graphics card would run, here on the processor."""
    pipeline = load_pipeline(config.load().model_copy(update={"backend": "keras"}))
    batches = []
    predict = pipeline._classifier.predict

    def counted(crops: Crops) -> Scores:
        batches.append(len(crops))
        return predict(crops)

    monkeypatch.setattr(pipeline._classifier, "predict", counted)
    picture = cv2.imencode(".jpg", portrait)[1].tobytes()
    claims = [
        Claim(feed, 1, None, (Frame(feed, "1-0", 1, time.time(), picture),))
        for feed in ("door", "hall", "yard")
    ]
    judged = pipeline.analyse(claims)
    assert batches == [3]
    for claim, (done, _, (outcome,)) in zip(claims, judged, strict=True):
        assert done.feed == claim.feed
        assert outcome.result is not None
        assert [face.emotion for face in outcome.result.faces] == ["happy"]
