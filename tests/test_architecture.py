"""The borders between packages, read from the code's own imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.config import PROJECT_DIR

PACKAGES = ("shared", "workers", "web", "training")
# The one door: training crops and loads exactly as serving does.
DOOR = ("training", "workers.vision")
FORBIDDEN = {
    "shared": {"numpy", "cv2", "flask", "flask_socketio", "tensorflow", "keras", "ai_edge_litert"},
    "web": {"numpy", "cv2", "tensorflow", "keras", "ai_edge_litert", "av"},
    "workers": {"flask", "flask_socketio", "socketio"},
    "training": {"flask", "flask_socketio", "socketio", "redis", "rq"},
}
TENSORFLOW = {"tensorflow", "keras"}


def modules(package: str) -> Iterator[Path]:
    return (PROJECT_DIR / package).rglob("*.py")


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Each module that a file imports, and whether at its top level."""
    tree = ast.parse(path.read_text())
    top = set(map(id, tree.body))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, id(node) in top
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module, id(node) in top


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_shared_and_never_each_other(package: str) -> None:
    others = set(PACKAGES) - {package, "shared"}
    wrong = [
        f"{path.relative_to(PROJECT_DIR)} imports {name}"
        for path in modules(package)
        for name, _ in imports(path)
        if name.split(".")[0] in (others if package != "shared" else set(PACKAGES) - {"shared"})
        and not (package == DOOR[0] and (name + ".").startswith(DOOR[1] + "."))
    ]
    assert wrong == []


@pytest.mark.parametrize("package", PACKAGES)
def test_no_package_imports_what_its_processes_cannot_afford(package: str) -> None:
    wrong = [
        f"{path.relative_to(PROJECT_DIR)} imports {name}"
        for path in modules(package)
        for name, _ in imports(path)
        if name.split(".")[0] in FORBIDDEN[package]
    ]
    assert wrong == []


def test_tensorflow_is_imported_in_training_and_in_the_keras_backends_loader_alone() -> None:
    wrong = [
        f"{path.relative_to(PROJECT_DIR)} imports {name}"
        for package in ("shared", "workers", "web")
        for path in modules(package)
        for name, at_top in imports(path)
        if name.split(".")[0] in TENSORFLOW
        and (at_top or path != PROJECT_DIR / "workers" / "vision" / "classifier.py")
    ]
    assert wrong == []


def test_no_module_is_a_junk_drawer() -> None:
    junk = {"utils", "util", "helpers", "helper", "misc", "common"}
    assert [p for package in PACKAGES for p in modules(package) if p.stem in junk] == []


def test_every_module_opens_by_saying_what_it_is() -> None:
    silent = [
        str(path.relative_to(PROJECT_DIR))
        for package in PACKAGES
        for path in modules(package)
        if not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert silent == []


@pytest.mark.parametrize(
    ("loaded", "spared"),
    [
        # What each command waits for before it begins.
        ("moodline, workers.analysis", {"pydantic", "rich", "urllib.request", "numpy", "redis"}),
        # What `moodline analyze` waits for before the first frame.
        ("workers.crew, workers.video, workers.pipeline", {"pydantic", "rich", "urllib.request"}),
    ],
)
def test_what_somebody_waits_for_loads_no_more_than_it_needs(loaded: str, spared: set[str]) -> None:
    told = subprocess.run(
        [sys.executable, "-c", f"import sys, {loaded}; print(*sys.modules)"],
        cwd=PROJECT_DIR,
        capture_output=True,
        text=True,
        check=True,
    )
    assert spared & set(told.stdout.split()) == set()
