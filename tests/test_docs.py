"""The documents keep up with the code."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

import moodline
from shared import config
from shared.config import PROJECT_DIR

PAGES = [PROJECT_DIR / "README.md", PROJECT_DIR / "CONTRIBUTING.md"]
PAGES += sorted((PROJECT_DIR / "docs").glob("*.md"))


def test_every_setting_is_documented_and_no_other() -> None:
    text = (PROJECT_DIR / "docs" / "OPERATING.md").read_text()
    documented = set(re.findall(r"^\| `([A-Z_]+)` \|", text, re.MULTILINE))
    assert documented == {row.variable for row in config.describe(config.load())}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_within_the_project_leads_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text())
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_moodline_command_and_option_in_the_documents_exists(page: Path) -> None:
    for line in re.findall(r"moodline ((?:[a-z]+ ?)+[^`\n|]*)", page.read_text()):
        words = line.split()
        command: click.Command = moodline.main
        for word in words:
            if not isinstance(command, click.Group) or word not in command.commands:
                break
            command = command.commands[word]
        if command is moodline.main:
            continue  # prose
        options = {name for param in command.params for name in param.opts} | {"--help"}
        used = {word for word in words if word.startswith("--")}
        assert used <= options, f"{page.name}: moodline {line}"


def test_the_readme_shows_the_two_commands_and_make_knows_them() -> None:
    readme = (PROJECT_DIR / "README.md").read_text()
    for target in ("up", "test"):
        assert f"make {target} " in readme
        subprocess.run(
            ["make", "--dry-run", target], cwd=PROJECT_DIR, check=True, stdout=subprocess.DEVNULL
        )


def test_training_explains_itself_as_the_readme_says() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "training", "train", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Usage:" in done.stdout
