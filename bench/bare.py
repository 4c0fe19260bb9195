"""The bare loop: detect and classify, picture by picture, and nothing else.

What an afternoon's script would do with the same two networks: no tracking, no smoothing, no
records, no second look. The engine is measured against it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np

from shared.config import PROJECT_DIR, Settings
from workers.pipeline import silent_native_libraries
from workers.vision.classifier import Classifier, load_classifier
from workers.vision.crop import crop_for
from workers.vision.detector import FaceDetector, ImageBGR, load_detector


@dataclass
class BareLoop:
    """The two networks, loaded as a worker loads them; `stage_seconds` adds up."""

    detector: FaceDetector
    classifier: Classifier
    stage_seconds: dict[str, float] = field(
        default_factory=lambda: {"detect": 0.0, "classify": 0.0}
    )

    @classmethod
    def load(cls, settings: Settings) -> BareLoop:
        """Raises ModelError with the remedy."""
        with silent_native_libraries():
            loop = cls(
                load_detector(
                    "yunet" if settings.yunet_model else "mtcnn",
                    models_dir=PROJECT_DIR / "models",
                    yunet_path=settings.yunet_model,
                    threads=settings.threads,
                ),
                load_classifier(settings.model, settings.backend, settings.threads),
            )
            loop.classifier.warm()
        return loop

    def judge(self, image_bgr: ImageBGR) -> int:
        """Find and judge all faces of one picture; return how many there are."""
        started = time.perf_counter()
        faces = self.detector.detect(image_bgr)
        crops = [crop_for(self.classifier.card, image_bgr, face) for face in faces]
        detected = time.perf_counter()
        if crops:
            self.classifier.predict(np.stack(crops))
        self.stage_seconds["detect"] += detected - started
        self.stage_seconds["classify"] += time.perf_counter() - detected
        return len(faces)
