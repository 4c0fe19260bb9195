"""The command line says what it can do and what was wrong, in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.training.builders import LABELS, class_folder, ferplus_npz
from training.__main__ import main


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.mark.parametrize("command", [[], ["train"], ["evaluate"], ["export"]])
def test_help_is_there_for_every_command(command: list[str]) -> None:
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert result.output.startswith("Usage:")


@pytest.mark.parametrize(
    "arguments",
    [
        ["fly"],
        ["train"],
        ["train", "--data", "{data}", "--run", "{tmp}/run", "--size", "50"],
        ["train", "--data", "{tmp}/gone", "--run", "{tmp}/run"],
        ["evaluate"],
        ["evaluate", "--data", "{data}", "--photos", "{tmp}"],
        ["evaluate", "--photos", "{tmp}"],
        ["evaluate", "--data", "{data}", "--split", "best"],
        ["export", "--data", "{data}"],
    ],
)
def test_misuse_is_exit_code_2(tmp_path: Path, arguments: list[str]) -> None:
    data = ferplus_npz(tmp_path / "data.npz")
    result = run(*(a.format(data=data, tmp=tmp_path) for a in arguments))
    assert result.exit_code == 2, result.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "--data", "{tmp}/bad.npz", "--run", "{tmp}/run"], "bad.npz"),
        (["train", "--data", "{tmp}/empty", "--run", "{tmp}/run", "--cropped"], LABELS[0]),
        (
            ["train", "--data", "{data}", "--run", "{tmp}/run", "--weights", "{tmp}/gone.h5"],
            "gone.h5",
        ),
        (["train", "--data", "{data}", "--run", "{tmp}/run", "--teacher", "{tmp}"], "no training"),
        (
            ["train", "--data", "{own}", "--cropped", "--run", "{tmp}/run", "--own-disgust", "0.5"],
            "FER+",
        ),
        (["evaluate", "--data", "{data}", "--model", "{tmp}/gone"], "no model folder"),
        (["evaluate", "--data", "{tmp}/empty", "--cropped", "--split", "private"], LABELS[0]),
        (
            ["export", "--data", "{data}", "--run", "{tmp}/gone", "--out", "{tmp}/out"],
            "no training",
        ),
    ],
)
def test_what_a_user_can_mend_is_one_line_and_exit_code_1(
    tmp_path: Path, arguments: list[str], said: str
) -> None:
    data = ferplus_npz(tmp_path / "data.npz")
    (tmp_path / "bad.npz").write_bytes(b"nothing")
    empty = class_folder(tmp_path / "empty", each=5) / LABELS[0]
    for file in empty.iterdir():
        file.unlink()
    own = class_folder(tmp_path / "own", each=5)
    result = run(*(a.format(data=data, tmp=tmp_path, own=own) for a in arguments))
    assert result.exit_code == 1, result.output
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("Error: ")
    assert said in line
