"""Batches are varied, balanced, and the same whenever and wherever they are made."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.training.builders import face_set
from training.augment import Batches, resize_grey, vary
from training.data import FaceSet


def batches(faces: FaceSet, *, balance: float = 0.0, mixup: float = 0.0, seed: int = 1) -> Batches:
    return Batches(faces, size=32, batch=8, balance=balance, mixup=mixup, seed=seed)


def lopsided(n: int = 200) -> FaceSet:
    """Nine of ten pictures of one class."""
    faces = face_set(n, public=0)
    truth = np.where(np.arange(n) % 10 == 0, 1, 0)
    return replace(faces, targets=np.eye(3, dtype=np.float32)[truth], truth=truth.astype(np.int8))


def test_an_epoch_begun_in_the_middle_goes_on_as_it_would_have() -> None:
    whole = list(batches(face_set()).epoch(3))
    rest = list(batches(face_set()).epoch(3, first_step=4))
    assert len(rest) == len(whole) - 4
    for (images, targets), (images_again, targets_again) in zip(whole[4:], rest, strict=True):
        assert np.array_equal(images, images_again)
        assert np.array_equal(targets, targets_again)


def test_epochs_and_seeds_differ() -> None:
    first = next(batches(face_set()).epoch(0))[0]
    assert not np.array_equal(first, next(batches(face_set()).epoch(1))[0])
    assert not np.array_equal(first, next(batches(face_set(), seed=2).epoch(0))[0])


def test_without_balance_every_picture_comes_once_an_epoch() -> None:
    faces = face_set(64, public=0)
    # Faint marks tell the pictures apart by their targets.
    mark = np.linspace(0, 1, 64, dtype=np.float32)
    faces = replace(faces, targets=np.stack([mark, 1 - mark, 0 * mark], axis=1))
    seen = np.concatenate([targets for _, targets in batches(faces).epoch(0)])
    assert sorted(seen[:, 0]) == sorted(mark)


@pytest.mark.parametrize(("balance", "share"), [(0.0, 0.1), (1.0, 0.5), (0.5, 0.25)])
def test_balance_draws_rare_classes_more_often(balance: float, share: float) -> None:
    made = batches(lopsided(), balance=balance)
    seen = np.concatenate([targets for e in range(4) for _, targets in made.epoch(e)])
    assert seen.mean(axis=0)[1] == pytest.approx(share, abs=0.03)
    assert made.class_shares()[1] == pytest.approx(share, abs=0.01)
    assert made.class_shares().sum() == pytest.approx(1)


def test_mixup_mixes_targets_and_keeps_their_sum() -> None:
    targets = np.concatenate([t for _, t in batches(face_set(), mixup=0.4).epoch(0)])
    assert np.allclose(targets.sum(axis=1), 1)
    assert ((targets.max(axis=1) < 0.99) & (targets.max(axis=1) >= 0.5)).any()


def test_a_batch_that_cannot_be_made_is_an_error_of_the_loop_that_wants_it() -> None:
    made = batches(replace(face_set(), pixels=np.zeros((75, 0, 0), np.uint8)))
    with pytest.raises(Exception, match="divide by zero"):
        list(made.epoch(0))


def test_variation_keeps_the_picture_in_place_on_average_and_in_range() -> None:
    """A bright square in the middle stays in the middle; nothing leaves 0..255."""
    picture = np.zeros((48, 48), np.uint8)
    picture[18:30, 18:30] = 200
    rng = np.random.default_rng(0)
    varied = np.stack([vary(picture, 96, rng) for _ in range(400)])
    assert varied.shape == (400, 96, 96)
    assert varied.min() >= 0
    assert varied.max() <= 255
    mean = varied.mean(axis=0) - varied.mean(axis=0).min()
    ys, xs = np.mgrid[:96, :96]
    assert (xs * mean).sum() / mean.sum() == pytest.approx(47.5, abs=1)
    assert (ys * mean).sum() / mean.sum() == pytest.approx(47.5, abs=1)
    assert varied.std(axis=0).max() > 20  # it does vary


def test_resizing_changes_size_only() -> None:
    faces = face_set(4, public=0).pixels
    assert np.array_equal(resize_grey(faces, 48)[..., 0], faces)
    larger = resize_grey(faces, 96)
    assert larger.shape == (4, 96, 96, 1)
    assert larger.mean() == pytest.approx(faces.mean(), abs=1)
