"""Pictures with faces at known places, and the bundled detector."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import skimage.data

from shared.config import PROJECT_DIR
from workers.vision.detector import ImageBGR, MtcnnDetector

MODELS = PROJECT_DIR / "models"
FramesOf = Callable[..., Iterator[tuple[float, ImageBGR]]]


@pytest.fixture(scope="session")
def portrait() -> ImageBGR:
    """scikit-image's public-domain portrait, 512 x 512; one face, at x 180, y 65, 85 x 105."""
    picture = skimage.data.astronaut()  # type: ignore[no-untyped-call]
    return np.ascontiguousarray(picture[..., ::-1])


@pytest.fixture(scope="session")
def two_faces(portrait: ImageBGR) -> ImageBGR:
    """640 x 480: the portrait at half size on the left, mirrored and larger on the right."""
    picture = np.full((480, 640, 3), 90, np.uint8)
    picture[100:356, 20:276] = cv2.resize(portrait, (256, 256), interpolation=cv2.INTER_AREA)
    picture[60:444, 256:640] = cv2.resize(portrait[:, ::-1], (384, 384))
    return picture


@pytest.fixture(scope="session")
def mtcnn() -> MtcnnDetector:
    return MtcnnDetector(MODELS / "face_detector")


@pytest.fixture
def frames_of(clips: Path) -> FramesOf:
    """Time in seconds and picture of every `step`-th frame of a clip of real faces."""

    def decode(name: str, step: int = 1) -> Iterator[tuple[float, ImageBGR]]:
        with av.open(str(clips / name)) as container:
            for index, frame in enumerate(container.decode(video=0)):
                if index % step == 0:
                    yield float(frame.time), frame.to_ndarray(format="bgr24").astype(np.uint8)

    return decode
