"""A run becomes a model folder that serving loads, calibrated, with its own labels."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import requests
from ai_edge_litert.interpreter import Interpreter
from click.testing import CliRunner, Result

from tests.test_moodline import Running, wait_for
from tests.training.builders import LABELS, class_folder
from training import model as network
from training.__main__ import main
from training.export import Calibration, calibrated, fit_calibration, softmax
from workers.vision.classifier import FILES, load_classifier, read_card


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


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


@dataclass(frozen=True)
class Trained:
    data: Path
    run_dir: Path
    model: Path
    output: str


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """What one command makes of a folder of pictures of one's own."""
    folder = tmp_path_factory.mktemp("own")
    data = class_folder(folder / "faces", each=16)
    result = run(
        *("train", "--data", data, "--cropped", "--run", folder / "run", "--weights", "none"),
        *("--size", 32, "--epochs", 1, "--head-epochs", 0, "--export", folder / "mine"),
        *("--licence", "All pictures are my own.", "--unsure-below", 0.4),
    )
    assert result.exit_code == 0, result.output
    return Trained(data, folder / "run", folder / "mine", result.output)


@pytest.mark.slow
class TestAFolderOfOnesOwn:
    @pytest.mark.parametrize("backend", FILES)
    def test_makes_a_model_that_serving_loads(self, trained: Trained, backend: str) -> None:
        classifier = load_classifier(trained.model, backend)
        assert classifier.card.labels == tuple(sorted(LABELS))
        assert classifier.card.input_size_hw == (32, 32)
        assert classifier.predict(np.zeros((2, 32, 32, 3), np.uint8)).shape == (2, 3)

    def test_is_what_moodline_up_answers_with_by_its_own_labels(
        self, trained: Trained, tmp_path: Path
    ) -> None:
        up = Running(tmp_path / "data", "--source", "demo", MOODLINE_MODEL=str(trained.model))
        try:
            wait_for(lambda: up.analysed_since(0), 60, "the first analysed frame")
            feed = up.feeds()[0]["id"]
            timeline = requests.get(f"{up.address}/api/feeds/{feed}/timeline", timeout=5).json()
        finally:
            up.stop()
        assert timeline["labels"] == sorted(LABELS)
        assert timeline["unsure_below"] == 0.4

    def test_is_rounded_to_int8_but_for_its_first_blocks(self, trained: Trained) -> None:
        int8 = Interpreter(model_path=str(trained.model / FILES["litert-int8"]))
        types = {t["name"]: t["dtype"] for t in int8.get_tensor_details()}
        sums = {name.split("block_")[1].split("_")[0]: of for name, of in types.items()
                if name.endswith("/Add")}  # fmt: skip
        assert sums.pop("2") == np.float32
        assert {"4", "5", "7", "8", "9"} <= set(sums)
        assert set(sums.values()) == {np.int8}

    def test_leaves_a_card_of_what_was_measured_and_said(self, trained: Trained) -> None:
        card = read_card(trained.model)
        assert (card.name, card.unsure_below) == ("mine", 0.4)
        assert card.details["licences"] == ["All pictures are my own."]
        assert card.details["metrics"]["litert-int8"]["pictures"] == 9
        assert card.details["data"]["training"] + card.details["data"]["calibration"] == 39
        assert card.details["parity"]["float_largest_difference_from_keras"] < 1e-4
        text = (trained.model / "card.md").read_text()
        for plot in ("confusion.png", "reliability.png", "curves.png"):
            assert plot in text
            assert cv2.imread(str(trained.model / plot)) is not None
        assert "All pictures are my own." in text
        assert not list(trained.model.parent.glob("*.part"))

    def test_has_a_second_generation_whose_card_tells_of_the_first(
        self, trained: Trained, tmp_path: Path
    ) -> None:
        result = run(
            *("train", "--data", trained.data, "--cropped", "--run", tmp_path / "second"),
            *("--teacher", trained.run_dir, "--size", 32, "--epochs", 1, "--mixup", 0),
            *("--export", tmp_path / "second-model", "--soup", 0.4),
        )
        assert result.exit_code == 0, result.output
        told = read_card(tmp_path / "second-model").details["training"]
        assert (told["distil"], told["head_epochs"], told["epochs_done"]) == (0.5, 0, 1)
        assert told["soup"] == 0.4
        assert told["teacher"]["mixup"] == 0.2
        assert str(tmp_path.parent) not in (tmp_path / "second-model" / "card.json").read_text()

    def test_is_measured_by_the_command_line(self, trained: Trained, tmp_path: Path) -> None:
        result = run(
            *("evaluate", "--data", trained.data, "--cropped", "--model", trained.model),
            *("--split", "all", "--json", "--plots", tmp_path / "plots"),
        )
        assert result.exit_code == 0, result.output
        figures = json.loads(result.stdout.splitlines()[-1])
        assert figures["pictures"] == 48
        assert figures["backend"] == "litert-int8"
        assert set(figures["classes"]) == set(LABELS)
        assert {p.name for p in (tmp_path / "plots").iterdir()} == {
            "confusion.png", "reliability.png", "errors.png",
        }  # fmt: skip
        readable = run("evaluate", "--data", trained.data, "--cropped", "--model", trained.model)
        assert "balanced accuracy" in readable.output

    def test_has_no_teacher_to_mix_in(self, trained: Trained, tmp_path: Path) -> None:
        result = run(
            *("export", "--data", trained.data, "--cropped", "--run", trained.run_dir),
            *("--out", tmp_path / "out", "--soup", 0.5),
        )
        assert result.exit_code == 1
        assert "has no teacher" in result.output

    def test_is_not_exported_over_what_is_no_model(self, trained: Trained, tmp_path: Path) -> None:
        (tmp_path / "precious.txt").write_text("mine")
        result = run(
            *("export", "--data", trained.data, "--cropped", "--run", trained.run_dir),
            *("--out", tmp_path),
        )
        assert result.exit_code == 1
        assert "no model folder" in result.output
        assert (tmp_path / "precious.txt").is_file()
