"""Still pictures: the faces in one picture file, and the picture with them drawn in.

The same detector, crop and classifier as for video, without tracking or smoothing; faces are
searched at a larger size, because a photograph of a group has small faces and nobody waits for the
next frame. Numbers go from left to right.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from shared import overlay
from shared.errors import SourceError
from shared.schema import Face
from workers.pipeline import Pipeline

SEARCH_WIDTH = 1280  # pixels; live frames are searched at 320
_MAX_PIXELS = 100_000_000


def read_picture(path: Path) -> Image.Image:
    """Read a picture upright as RGB; raises SourceError that names the file and what is wrong."""
    try:
        with Image.open(path) as file:
            if file.width * file.height > _MAX_PIXELS:
                raise SourceError(
                    f"{path} has {file.width}x{file.height} pixels, more than 100 million: "
                    "scale it down."
                )
            return ImageOps.exif_transpose(file).convert("RGB")
    except FileNotFoundError as error:
        raise SourceError(f"There is no file {path}: check the name.") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise SourceError(
            f"{path} cannot be read as a picture ({error}): give a JPEG, PNG, WebP or TIFF."
        ) from error


def find_faces(pipeline: Pipeline, picture: Image.Image) -> list[Face]:
    """Return the faces of an RGB picture from left to right, numbered from 1."""
    image_bgr = np.ascontiguousarray(np.asarray(picture, np.uint8)[..., ::-1])
    return pipeline.judge_still(image_bgr)


def save_labelled(picture: Image.Image, faces: list[Face], path: Path) -> None:
    """Write a copy with boxes and labels as JPEG; raises SourceError where it cannot be written."""
    labelled = picture.copy()
    overlay.draw_faces(labelled, faces)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        labelled.save(path, "JPEG", quality=92)
    except OSError as error:
        raise SourceError(f"{path} cannot be written ({error}): give another --out.") from error
