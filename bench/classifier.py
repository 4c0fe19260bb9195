"""The classifier alone: faces/s by what runs it, how many faces at once, and with how many threads.

Each way of running with each number of threads gets a process of its own, because TensorFlow
settles on its threads once a process. Faces are noise of the right size: what is in a picture does
not change the work. Bringing a crop into the network's colour is part of it, as in service.

`litert-int8`, `litert` and `keras` are Moodline's backends (`keras` calls the network as a compiled
function); `keras-predict` is `Model.predict`, the usual way, which Moodline does not go.
A figure is the median of short turns through all batch sizes.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np

from bench import cores
from shared.config import PROJECT_DIR, Settings
from shared.errors import ModelError
from workers.pipeline import silent_native_libraries
from workers.vision.classifier import FILES, load_classifier, read_card

BATCHES = (1, 8, 32)
_WAYS: dict[str, str] = {**dict(FILES.items()), "keras-predict": FILES["keras"]}
_TURNS = 5


def measure(settings: Settings, *, threads: Sequence[int] | None, seconds: float) -> dict[str, Any]:
    """Measure every way that can run here, `seconds` for each figure.

    `threads` are the numbers of threads to try, by default one and all cores. Ways that cannot run
    are named under `skipped` with the reason. Raises ModelError where the model is damaged.
    """
    card = read_card(settings.model)
    tried = sorted({1, cores()} if threads is None else set(threads))
    rows: list[dict[str, Any]] = []
    skipped = {}
    for way, file in _WAYS.items():
        if file not in card.files:
            skipped[way] = f"the model has no {file}"
        elif way.startswith("keras") and importlib.util.find_spec("tensorflow") is None:
            skipped[way] = "TensorFlow is not installed"
        else:
            for count in tried:
                rows += _in_own_process(settings.model, way, count, seconds)
    return {
        "model": f"{card.name} {card.version}",
        "cores": cores(),
        "rows": rows,
        "skipped": skipped,
    }


def _in_own_process(model_dir: Path, way: str, threads: int, seconds: float) -> Any:
    done = subprocess.run(
        [
            *(sys.executable, "-P", "-m", __name__),
            *(str(model_dir.absolute()), way, str(threads), str(seconds)),
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(PROJECT_DIR)},
    )
    try:
        return json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError) as error:
        said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise ModelError(
            f"{way} with {threads} threads did not come through (status {done.returncode}, it said "
            f"{said!r}): restore the model folder, or give other --threads."
        ) from error


def _rows(model_dir: Path, way: str, threads: int, seconds: float) -> Iterator[dict[str, Any]]:
    """Measure one way in this process."""
    cv2.setNumThreads(threads)
    with silent_native_libraries():
        run = _load(model_dir, way, threads)
        for batch in BATCHES:
            run(batch)
    rates: dict[int, list[float]] = {batch: [] for batch in BATCHES}
    for _ in range(_TURNS):
        for batch, found in rates.items():
            faces, started = 0, time.perf_counter()
            while (spent_s := time.perf_counter() - started) < seconds / _TURNS or not faces:
                run(batch)
                faces += batch
            found.append(faces / spent_s)
    for batch, found in rates.items():
        faces_per_s = round(median(found), 1)
        yield {"backend": way, "threads": threads, "batch": batch, "faces_per_s": faces_per_s}


def _load(model_dir: Path, way: str, threads: int) -> Callable[[int], Any]:
    """Return what judges so many faces at once."""
    generator = np.random.default_rng(0)
    if way != "keras-predict":
        classifier = load_classifier(model_dir, way, threads)
        size_hw = classifier.card.input_size_hw
        crops = generator.integers(0, 256, (max(BATCHES), *size_hw, 3), np.uint8)
        return lambda batch: classifier.predict(crops[:batch])
    import keras  # noqa: PLC0415 - seconds and gigabytes, in this process alone
    import tensorflow as tf  # noqa: PLC0415

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    model = keras.saving.load_model(model_dir / FILES["keras"], compile=False)
    shape = (max(BATCHES), *model.input_shape[1:])
    pixels = generator.integers(0, 256, shape, np.uint8).astype(np.float32)
    return lambda batch: model.predict(pixels[:batch], batch_size=batch, verbose=0)


if __name__ == "__main__":
    sys.stdout.write(
        json.dumps([*_rows(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))])
    )
