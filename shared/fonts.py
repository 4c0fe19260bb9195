"""Fonts that have the letters of a text: people are called Łukasz, Юлия or 陈伟.

Tried in turn: the font that Pillow brings (Latin), DejaVu Sans, which comes with Matplotlib (Greek,
Cyrillic, Arabic and more), and what else this machine has, where fontconfig can tell. Nothing is
downloaded. Characters that no font here has are left out, rather than drawn as boxes.
"""

from __future__ import annotations

import functools
import importlib.util
import shutil
import subprocess
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

_NO_CHARACTER = "\uffff"
_LOOK_SIZE = 20  # pixels, to see whether a character is there
_FONTCONFIG_S = 5.0


def written_in(text: str, size: int) -> tuple[str, ImageFont.FreeTypeFont]:
    """What can be written of a text, and the font of that size, in pixels, to write it in.

    One font for all of it: the first that has every character, else the one that has most.
    """
    text = unicodedata.normalize("NFC", text)
    found = (None, _dejavu(), *_of_this_machine(text))
    best = max(found, key=lambda file: sum(_has(file, letter) for letter in set(text)))
    return "".join(letter for letter in text if _has(best, letter)).strip(), _font(best, size)


def files_for(texts: Iterable[str]) -> list[Path]:
    """Font files of this machine for what DejaVu Sans does not have in these texts."""
    found: dict[Path, None] = {}
    for text in texts:
        missing = "".join(letter for letter in text if not _has(_dejavu(), letter))
        found |= dict.fromkeys(_of_this_machine(missing))
    return list(found)


@functools.lru_cache(maxsize=64)
def _font(file: Path | None, size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size) if file is None else ImageFont.truetype(file, size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise TypeError("Pillow was built without FreeType: install its wheel from PyPI.")
    return font


@functools.cache
def _dejavu() -> Path | None:
    matplotlib = importlib.util.find_spec("matplotlib")  # only looked for: importing it takes long
    for folder in (matplotlib and matplotlib.submodule_search_locations) or ():
        file = Path(folder, "mpl-data", "fonts", "ttf", "DejaVuSans.ttf")
        if file.is_file():
            return file
    return None


@functools.lru_cache(maxsize=256)
def _of_this_machine(text: str) -> tuple[Path, ...]:
    """The font that fontconfig takes for what neither of the others has."""
    missing = {letter for letter in text if not (_has(None, letter) or _has(_dejavu(), letter))}
    fc_match = shutil.which("fc-match")
    if not missing or fc_match is None:
        return ()
    wanted = " ".join(f"{ord(letter):x}" for letter in sorted(missing))
    try:
        answer = subprocess.run(
            [fc_match, "--format=%{file}", f":scalable=true:color=false:charset={wanted}"],
            capture_output=True,
            text=True,
            timeout=_FONTCONFIG_S,
            check=True,
        )
        file = Path(answer.stdout)
        _font(file, _LOOK_SIZE)
    except (OSError, subprocess.SubprocessError):
        return ()
    return (file,) if any(_has(file, letter) for letter in missing) else ()


@functools.lru_cache(maxsize=4096)
def _has(file: Path | None, letter: str) -> bool:
    """Whether a font draws something of its own for a character."""
    return letter.isspace() or (
        letter.isprintable() and _drawn(file, letter) != _drawn(file, _NO_CHARACTER)
    )


def _drawn(file: Path | None, letter: str) -> bytes:
    picture = Image.new("L", (2 * _LOOK_SIZE, 2 * _LOOK_SIZE))
    ImageDraw.Draw(picture).text((4, 4), letter, font=_font(file, _LOOK_SIZE), fill=255)
    return picture.tobytes()
