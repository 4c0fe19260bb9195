"""Training batches: faces varied as cameras and people vary them, in a fixed, seeded order.

A batch is a function of (seed, epoch, step) alone, so that a training that was interrupted goes on
with exactly the pictures it would have had. Everything is NumPy and OpenCV, in one background
thread, and works the same under any Keras backend.

One warp does flip, shift, rotation, zoom and the enlargement to the model's input, so a picture is
interpolated once. Light, blur, loss of resolution, sharpening, noise and JPEG imitate webcams;
erasing and mixup keep the network from leaning on one part of the face.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from training.data import FaceSet, GreyStack

Batch = tuple[NDArray[np.float32], NDArray[np.float32]]  # (B, S, S, 1) in 0..255, (B, L)

PREFETCHED = 6


def resize_grey(pixels: GreyStack, size: int) -> NDArray[np.float32]:
    """Faces (N, H, W) as the model's input (N, size, size, 1), 0..255, nothing else changed.

    Bilinear when enlarging and by area when shrinking, as serving's crop does.
    """
    if pixels.shape[1:] == (size, size):
        return pixels[..., None].astype(np.float32)
    how = cv2.INTER_AREA if pixels.shape[1] > size else cv2.INTER_LINEAR
    out = np.empty((len(pixels), size, size, 1), np.float32)
    for i, picture in enumerate(pixels):
        out[i, ..., 0] = cv2.resize(picture, (size, size), interpolation=how)
    return out


class Batches:
    """The training batches of every epoch.

    `balance` between 0 (classes as often as they occur) and 1 (all equally often) sets how much
    more often pictures of rare classes are drawn: by share ** -balance, over soft targets. `mixup`
    is the alpha of Zhang et al. 2018, 0 for none; small, because a mix of two faces is no face.
    """

    def __init__(
        self, faces: FaceSet, *, size: int, batch: int, balance: float, mixup: float, seed: int
    ) -> None:
        self._faces = faces
        self._size = size
        self._batch = min(batch, len(faces))
        self._mixup = mixup
        self._seed = seed
        share = faces.targets.mean(axis=0)
        rarity = np.where(share > 0, np.maximum(share, 1e-6) ** -balance, 0)
        weight = faces.targets @ rarity
        self._weight = weight / weight.mean()
        self.steps_per_epoch = max(1, len(faces) // self._batch)

    def class_shares(self) -> NDArray[np.float64]:
        """The share of each class as the network meets it, balancing included; sums to 1."""
        drawn = (self._faces.targets * self._weight[:, None]).sum(axis=0, dtype=np.float64)
        shares: NDArray[np.float64] = drawn / drawn.sum()
        return shares

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from `first_step` on, made ahead in a background thread."""
        order = self._order(epoch)
        ready: queue.Queue[Batch | BaseException] = queue.Queue(PREFETCHED)
        stop = threading.Event()

        def put(item: Batch | BaseException) -> None:
            while not stop.is_set():
                try:
                    return ready.put(item, timeout=0.2)
                except queue.Full:
                    continue

        def produce() -> None:
            try:
                for step in range(first_step, self.steps_per_epoch):
                    if stop.is_set():
                        return
                    rows = order[step * self._batch : (step + 1) * self._batch]
                    rng = np.random.default_rng([self._seed, epoch, step, 3])
                    put(self._make(rows, rng))
            except BaseException as e:  # noqa: BLE001  handed to the consumer, which raises it
                put(e)

        thread = threading.Thread(target=produce, daemon=True, name="augment")
        thread.start()
        try:
            for _ in range(first_step, self.steps_per_epoch):
                item = ready.get()
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            stop.set()
            thread.join()

    def _order(self, epoch: int) -> NDArray[np.intp]:
        """Rows in random order, each as often as its weight says, give or take one."""
        rng = np.random.default_rng([self._seed, epoch, 4])
        n = len(self._faces)
        times = np.floor(self._weight + rng.random(n)).astype(np.intp)
        order = rng.permutation(np.repeat(np.arange(n), times))
        needed = self.steps_per_epoch * self._batch
        if len(order) < needed:
            order = np.concatenate([order, rng.integers(0, n, needed - len(order))])
        return order

    def _make(self, rows: NDArray[np.intp], rng: np.random.Generator) -> Batch:
        size = self._size
        images = np.empty((len(rows), size, size, 1), np.float32)
        for i, row in enumerate(rows):
            images[i, ..., 0] = vary(self._faces.pixels[row], size, rng)
        targets = self._faces.targets[rows]
        if self._mixup:
            share = rng.beta(self._mixup, self._mixup, len(rows)).astype(np.float32)
            share = np.maximum(share, 1 - share)  # the first of the two stays the main one
            other = rng.permutation(len(rows))
            images = (
                share[:, None, None, None] * images
                + (1 - share)[:, None, None, None] * images[other]
            )
            targets = share[:, None] * targets + (1 - share)[:, None] * targets[other]
        return images, targets


def vary(picture: GreyStack, size: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """One face (H, W) as another camera might have seen it: float32 (size, size) in 0..255."""
    h, w = picture.shape
    angle, shear = np.deg2rad(rng.normal(0, 7)), rng.normal(0, 0.04)
    zoom = np.exp(rng.normal(0, 0.09))
    stretch = np.exp(rng.normal(0, 0.04))
    flip = -1.0 if rng.random() < 0.5 else 1.0
    shift = rng.normal(0, 0.05, 2) * size
    scale = np.array([[flip * stretch * size / w, 0], [0, size / h / stretch]]) * zoom
    turn = np.array([[np.cos(angle), -np.sin(angle) + shear], [np.sin(angle), np.cos(angle)]])
    linear = turn @ scale
    offset = np.array([size, size]) / 2 + shift - linear @ np.array([w, h]) / 2
    # OpenCV counts from pixel centres: (x + 0.5) on both sides keeps the picture in place.
    offset += linear @ np.array([0.5, 0.5]) - 0.5
    how = cv2.INTER_CUBIC if rng.random() < 0.3 else cv2.INTER_LINEAR
    image = cv2.warpAffine(
        picture, np.column_stack([linear, offset]), (size, size), flags=how,
        borderMode=cv2.BORDER_REFLECT_101,
    )  # fmt: skip

    if rng.random() < 0.2:  # a face far away, or a bad sensor
        small = int(size * rng.uniform(0.25, 0.6))
        image = cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA)
        image = cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR)
    elif rng.random() < 0.2:  # out of focus
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 1.8))
    elif rng.random() < 0.3:  # cameras sharpen; crops of a large face have more detail than 48x48
        soft = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.8, 2.0))
        image = cv2.addWeighted(image, 2.0, soft, -1.0, 0)
    if rng.random() < 0.15:
        quality = int(rng.integers(20, 80))
        _, packed = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
        image = np.asarray(cv2.imdecode(packed, cv2.IMREAD_GRAYSCALE))

    out: NDArray[np.float32] = np.asarray(image, np.float32)
    if rng.random() < 0.6:  # light: gamma, contrast, brightness
        gamma, contrast = np.exp(rng.normal(0, 0.2)), np.exp(rng.normal(0, 0.2))
        out = np.power(out * (1 / 255), gamma, dtype=np.float32) * 255
        middle = float(out.mean())
        out = (out - middle) * contrast + middle + rng.normal(0, 20)
    if rng.random() < 0.1:  # light from one side
        ramp = np.linspace(-1, 1, size, dtype=np.float32) * rng.normal(0, 35)
        out = out + (ramp[None, :] if rng.random() < 0.7 else ramp[:, None])
    if rng.random() < 0.15:
        out = out + rng.normal(0, rng.uniform(2, 12), out.shape).astype(np.float32)
    if rng.random() < 0.3:
        eh, ew = (rng.uniform(0.12, 0.4, 2) * size).astype(int)
        top, left = int(rng.integers(0, size - eh)), int(rng.integers(0, size - ew))
        out = out.copy()
        out[top : top + eh, left : left + ew] = rng.uniform(0, 255)
    return np.clip(out, 0, 255).astype(np.float32)
