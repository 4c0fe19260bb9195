"""Still pictures from files, with the real networks on the public-domain portrait."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

from shared import config
from shared.errors import SourceError
from workers import stills


@pytest.fixture
def portrait(tmp_path: Path) -> Path:
    rgb = skimage.data.astronaut()  # type: ignore[no-untyped-call]
    path = tmp_path / "portrait.png"
    Image.fromarray(rgb).save(path)
    return path


def image(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "moodline", "image", *words],
        capture_output=True,
        text=True,
        env=os.environ,
        check=False,
    )


def test_faces_are_listed_and_drawn(portrait: Path, tmp_path: Path) -> None:
    done = image(str(portrait), "--json", "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)
    (face,) = row["faces"]
    x, y, width, height = face["box"]
    assert x < 220 < x + width
    assert y < 120 < y + height
    assert abs(sum(face["scores"].values()) - 1) < 1e-3
    labelled = np.asarray(Image.open(tmp_path / "out" / "portrait-labelled.jpg"), np.int16)
    changed = np.abs(labelled - np.asarray(Image.open(portrait), np.int16)).max(axis=2) > 80
    assert changed[y : y + height, max(0, x - 4) : x + 4].any()


def test_pictures_of_one_name_do_not_overwrite_each_other(portrait: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / portrait.name
    other.parent.mkdir()
    Image.new("RGB", (64, 48)).save(other)
    out = tmp_path / "out"
    assert image(str(portrait), str(other), "--out", str(out)).returncode == 0
    sizes = {}
    for path in out.iterdir():
        with Image.open(path) as labelled:
            sizes[path.name] = labelled.size
    assert sizes == {"portrait-labelled.jpg": (512, 512), "portrait-labelled-2.jpg": (64, 48)}


def test_what_the_model_is_not_sure_of_is_said_so(
    portrait: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own"
    shutil.copytree(config.load().model, own)
    card = json.loads((own / "card.json").read_text())
    (own / "card.json").write_text(json.dumps({**card, "unsure_below": 0.999}))
    sure = image(str(portrait)).stdout.splitlines()[1].split(maxsplit=1)[1]
    monkeypatch.setenv("MOODLINE_MODEL", str(own))
    unsure = image(str(portrait)).stdout.splitlines()[1]
    assert unsure == f"  1  unsure ({sure}?)"


def test_one_bad_file_does_not_cost_the_others(portrait: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_text("no picture")
    done = image(str(bad), str(tmp_path / "missing.png"), str(portrait))
    assert done.returncode == 1
    assert "portrait.png: 1 face" in done.stdout
    assert len(done.stderr.splitlines()) == 2
    assert "bad.jpg" in done.stderr
    assert "missing.png" in done.stderr


def test_a_picture_is_turned_upright_as_its_camera_says(portrait: Path, tmp_path: Path) -> None:
    sideways = tmp_path / "sideways.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise by a quarter to show
    Image.open(portrait).crop((0, 0, 512, 256)).save(sideways, exif=exif)
    assert stills.read_picture(sideways).size == (256, 512)


def test_a_picture_that_would_fill_the_memory_is_refused(
    portrait: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stills, "_MAX_PIXELS", 1000)
    with pytest.raises(SourceError, match=r"portrait\.png has 512x512 pixels"):
        stills.read_picture(portrait)
