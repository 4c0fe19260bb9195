"""Small labelled faces that a network of a few dozen pictures can learn to tell apart."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from training.data import PRIVATE, PUBLIC, TRAINING, FaceSet, GreyStack

LABELS = ("bright mouth", "dark mouth", "bright brow")


def face(kind: int, rng: np.random.Generator, side: int = 48) -> GreyStack:
    """A blotchy picture with a bar where its kind says; no two are alike."""
    coarse = rng.integers(70, 190, (8, 8), np.uint8)
    picture = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    top, value = ((0.65, 255), (0.65, 0), (0.15, 255))[kind]
    picture[int(top * side) : int((top + 0.2) * side), side // 6 : -side // 6] = value
    return np.asarray(picture, np.uint8)


def face_set(n: int = 60, *, seed: int = 0, public: int = 15) -> FaceSet:
    """`n` training faces and `public` to measure by, the three kinds in turn."""
    rng = np.random.default_rng(seed)
    truth = np.arange(n + public) % len(LABELS)
    usage = np.where(np.arange(n + public) < n, TRAINING, PUBLIC)
    return FaceSet(
        pixels=np.stack([face(int(k), rng) for k in truth]),
        targets=np.eye(len(LABELS), dtype=np.float32)[truth],
        truth=truth.astype(np.int8),
        usage=usage.astype(np.int8),
        labels=LABELS,
    )


def ferplus_npz(path: Path, n: int = 30, *, seed: int = 0) -> Path:
    """A contract `.npz` of `n` pictures: clear votes, most for training, a few for each split."""
    rng = np.random.default_rng(seed)
    kinds = np.arange(n) % 3
    votes = np.zeros((n, 10), np.int64)
    votes[np.arange(n), kinds] = 10
    usage = np.full(n, TRAINING, np.int8)
    usage[-6:-3], usage[-3:] = PUBLIC, PRIVATE
    np.savez(
        path,
        pixels=np.stack([face(int(k), rng) for k in kinds]),
        label=np.array([6, 3, 5], np.int8)[kinds],
        usage=usage,
        votes=votes,
    )
    return path


def class_folder(path: Path, each: int = 12, *, seed: int = 0, side: int = 48) -> Path:
    """A folder with a folder a class, of PNG files."""
    rng = np.random.default_rng(seed)
    for kind, label in enumerate(LABELS):
        (path / label).mkdir(parents=True)
        for i in range(each):
            cv2.imwrite(str(path / label / f"{i:03}.png"), face(kind, rng, side))
    return path
