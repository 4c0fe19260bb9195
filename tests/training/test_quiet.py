"""Native lines stay off the terminal while they are unwanted, and only then."""

from __future__ import annotations

import os

import pytest

from training.quiet import quietly


def test_nothing_appears_within_and_everything_after(capfd: pytest.CaptureFixture[str]) -> None:
    os.write(2, b"before ")
    with quietly():
        os.write(2, b"within ")
    os.write(2, b"after")
    assert capfd.readouterr().err == "before after"


def test_an_error_within_leaves_the_terminal_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="wrong"), quietly():
        raise ValueError("wrong")
    os.write(2, b"after")
    assert capfd.readouterr().err == "after"
