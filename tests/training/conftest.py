"""The portrait, and TensorFlow as the command line sets it: deterministic, a few threads."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.workers.conftest import portrait

__all__ = ["portrait"]

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported, or not at all


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keras's own way to NumPy is one that NumPy 2 warns of; nothing here can change it."""
    ignore = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(ignore)


@pytest.fixture(scope="session", autouse=True)
def _as_the_command_line_sets_it() -> None:
    from training.__main__ import limit_threads  # noqa: PLC0415  imports TensorFlow

    limit_threads(2)
