"""Labelled faces for training and evaluation, from every source that Moodline reads.

`load_faces` reads the `.npz` of the contract, Kaggle's `fer2013.csv` (with FER+'s
`fer2013new.csv`), or a folder with one subfolder a class, into one `FaceSet`: grey pictures,
soft targets to train on, the one label that counts in an evaluation, and the split of each
picture. `clean_split` then takes out of training whatever also appears, exactly or nearly, in a
split that measures, and sets a part aside for calibration.

Promises: a public or private split is never altered; pictures that resemble each other never
stand on both sides of training and calibration; the same file and seed give the same sets.
Leaves out: augmentation (`training.augment`), and downloading anything.
"""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.errors import DataError
from workers.vision.crop import crop_face
from workers.vision.detector import load_detector

GreyStack = NDArray[np.uint8]  # (N, H, W)
ImageBGR = NDArray[np.uint8]  # (H, W, 3)
LabelScheme = Literal["ferplus", "fer2013"]

TRAINING, PUBLIC, PRIVATE = 0, 1, 2
SPLITS = {"training": TRAINING, "public": PUBLIC, "private": PRIVATE}

FERPLUS_LABELS = ("neutral", "happy", "surprise", "sad", "angry", "disgust", "fear", "contempt")
"""FER+'s eight expressions in the order of its vote columns, in FER2013's words."""
FER2013_LABELS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
VOTE_COLUMNS = (
    *("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt"),
    *("unknown", "NF"),  # NF: no face
)

FER_SIZE = 48
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".pgm", ".tif", ".tiff"})
MIN_FOLDER_CLASS = 4  # fewer pictures of a class than this cannot be split into fit and calibration

# Near-duplicates: a 64-bit DCT hash finds candidates, the correlation of the pixels decides. Both
# thresholds were set by looking at pairs of FER2013: down to 0.85 they are the same photograph
# with another crop, watermark or contrast; from 0.80 on they are different people.
HASH_BITS_APART = 12
MIN_CORRELATION = 0.85


@dataclass(frozen=True)
class FaceSet:
    """Grey faces with what to train on and what to measure by.

    Attributes:
        pixels: uint8 (N, H, W), one size for all.
        targets: float32 (N, L), rows sum to 1, or to 0 where a picture has no usable target.
        truth: int8 (N,), index into `labels`, -1 where the protocol does not count the picture.
        usage: int8 (N,), `TRAINING`, `PUBLIC` or `PRIVATE`.
        labels: L names, in the order of the columns of `targets`.
        own: int8 (N,), FER2013's own labels where `labels` are those of FER+ votes, else None.
    """

    pixels: GreyStack
    targets: NDArray[np.float32]
    truth: NDArray[np.int8]
    usage: NDArray[np.int8]
    labels: tuple[str, ...]
    own: NDArray[np.int8] | None = None

    def __post_init__(self) -> None:
        n, width = len(self.pixels), len(self.labels)
        shapes = (self.targets.shape, self.truth.shape, self.usage.shape)
        if self.pixels.ndim != 3 or shapes != ((n, width), (n,), (n,)):
            raise DataError(
                f"Faces do not fit together: {self.pixels.shape} pixels, {shapes[0]} targets, "
                f"{shapes[1]} labels, {shapes[2]} splits for {width} classes."
            )

    def __len__(self) -> int:
        return len(self.pixels)

    def take(self, rows: NDArray[np.bool_] | NDArray[np.intp]) -> FaceSet:
        """The given rows as a set of their own."""
        return replace(
            self,
            pixels=self.pixels[rows],
            targets=self.targets[rows],
            truth=self.truth[rows],
            usage=self.usage[rows],
            own=None if self.own is None else self.own[rows],
        )

    def measured(self, split: str) -> FaceSet:
        """The rows of a split, or of `all`, that the protocol counts."""
        wanted = self.usage >= 0 if split == "all" else self.usage == SPLITS[split]
        chosen = self.take(wanted & (self.truth >= 0))
        if not len(chosen):
            raise DataError(
                f"The data holds no picture of the {split} split; it has "
                + ", ".join(f"{k}: {int((self.usage == v).sum())}" for k, v in SPLITS.items())
                + "."
            )
        return chosen


@dataclass(frozen=True)
class CleanSplit:
    """Training pictures without those that also measure, and a part set aside to calibrate on."""

    training: FaceSet
    calibration: FaceSet
    duplicates_exact: int
    duplicates_near: int
    without_target: int
    own_disgust: float = 0.0


def votes_to_targets(votes: NDArray[np.integer]) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Turn FER+ votes (N, 10) into soft targets (N, 8) and the majority label (N,).

    The FER+ majority protocol (Barsoum et al. 2016): votes of 1 become 0; a row counts if its
    largest vote is more than half of the votes that remain and is neither `unknown` nor `NF`.
    Targets are the remaining votes over the eight expressions, as shares, for every row whose
    largest vote is an expression, also where no majority was reached.
    """
    kept = np.where(votes == 1, 0, votes).astype(np.int32)
    largest = kept.argmax(axis=1)
    expression = (kept.max(axis=1) > 0) & (largest < len(FERPLUS_LABELS))
    majority = expression & (2 * kept.max(axis=1) > kept.sum(axis=1))
    shares = kept[:, : len(FERPLUS_LABELS)].astype(np.float32)
    targets = np.where(
        expression[:, None], shares / np.maximum(shares.sum(axis=1, keepdims=True), 1), 0
    )
    return targets.astype(np.float32), np.where(majority, largest, -1).astype(np.int8)


def load_faces(
    path: Path,
    scheme: LabelScheme = "ferplus",
    *,
    votes_csv: Path | None = None,
    crop: Callable[[ImageBGR], GreyStack | None] | None = None,
    seed: int = 0,
) -> FaceSet:
    """Read labelled faces from an `.npz`, Kaggle's `fer2013.csv`, or a folder of class folders.

    Args:
        scheme: which labels an `.npz` or CSV gives: FER+ votes or FER2013's own. A folder has its
            own classes, its subfolders in alphabetical order, and pays no attention to this.
        votes_csv: FER+'s `fer2013new.csv`, needed beside `fer2013.csv` for the FER+ labels.
        crop: finds the face in a BGR picture and returns it grey (S, S), None where there is none;
            without it, a folder's pictures are taken as faces already cropped.
        seed: decides which fifth of a folder's pictures becomes the split that measures.

    Raises:
        DataError: naming the file and what is wrong with it.
    """
    if not path.exists():
        raise DataError(f"There is no {path}; give an .npz, a fer2013.csv or a folder of classes.")
    if path.is_dir():
        return _load_folder(path, crop, seed)
    if path.suffix == ".npz":
        pixels, label, usage, votes = _read_npz(path)
    elif path.suffix == ".csv":
        pixels, label, usage, votes = _read_csv(path, votes_csv)
    else:
        raise DataError(f"{path} is neither an .npz, a .csv nor a folder with a folder per class.")
    if scheme == "fer2013":
        if label.min() < 0 or label.max() >= len(FER2013_LABELS):
            raise DataError(
                f"{path}: FER2013 labels must be 0 to 6, found {label.min()} to {label.max()}."
            )
        return FaceSet(
            pixels, _one_hot(label, len(FER2013_LABELS)), label.astype(np.int8), usage,
            FER2013_LABELS,
        )  # fmt: skip
    if votes is None:
        raise DataError(
            f"{path} holds no FER+ votes; give FER+'s fer2013new.csv with --votes, or train on "
            "FER2013's own labels with --labels fer2013."
        )
    targets, truth = votes_to_targets(votes)
    return FaceSet(pixels, targets, truth, usage, FERPLUS_LABELS, own=label)


def detector_crop(models_dir: Path, size: int) -> Callable[[ImageBGR], GreyStack | None]:
    """A function that cuts the largest face out of a BGR picture, as serving does, grey.

    `models_dir` holds the bundled detector's networks; the face comes as uint8 (size, size).
    """
    detector = load_detector("mtcnn", models_dir=models_dir)

    def crop(image_bgr: ImageBGR) -> GreyStack | None:
        faces = detector.detect(image_bgr)
        if not faces:
            return None
        largest = max(faces, key=lambda face: face.box_xywh[2] * face.box_xywh[3])
        return crop_face(image_bgr, largest, (size, size), grey=True)

    return crop


def clean_split(faces: FaceSet, *, calibration_share: float, seed: int) -> CleanSplit:
    """Take duplicates of the measuring splits out of training and set a calibration part aside.

    Pictures that resemble each other form a group, and a group goes as a whole: out of training
    if one of it stands in the public or private split, else to training or to calibration. Within
    training, copies stay: they do no harm there.
    """
    groups = duplicate_groups(faces.pixels)
    in_training = faces.usage == TRAINING
    measuring_groups = np.unique(groups[~in_training])
    repeated = in_training & np.isin(groups, measuring_groups)
    measuring_bytes = {picture.tobytes() for picture in faces.pixels[~in_training]}
    exact = sum(picture.tobytes() in measuring_bytes for picture in faces.pixels[repeated])
    no_target = in_training & ~repeated & (faces.targets.sum(axis=1) <= 0)
    usable = np.nonzero(in_training & ~repeated & ~no_target)[0]
    if not len(usable):
        raise DataError("Nothing is left to train on: no picture of the training split is usable.")
    # Stratified by class: of each class's groups, a share goes to calibration.
    rng = np.random.default_rng([seed, 1])
    main_class = faces.targets[usable].argmax(axis=1)
    aside = np.zeros(len(usable), bool)
    for k in range(len(faces.labels)):
        own = np.unique(groups[usable[main_class == k]])
        chosen = rng.permutation(own)[: round(calibration_share * len(own))]
        aside |= np.isin(groups[usable], chosen)
    return CleanSplit(
        training=faces.take(usable[~aside]),
        calibration=faces.take(usable[aside]),
        duplicates_exact=exact,
        duplicates_near=int(repeated.sum()) - exact,
        without_target=int(no_target.sum()),
    )


def trust_own_disgust(split: CleanSplit, share: float) -> CleanSplit:
    """Give disgust `share` of the targets of training pictures that FER2013 itself calls so.

    FER+'s voters hardly ever agree on disgust: of FER2013's 410 pictures of it in the training
    split 86 get a majority, half get two votes or fewer of ten, and a network that learns from
    votes alone never says it of other pictures. FER2013's label, from the word by which a picture
    was searched, confirmed by a person, is one more opinion. The other classes have votes enough.
    What calibrates and measures keeps to the votes.
    """
    training = split.training
    if training.own is None:
        raise DataError("Only FER+ votes with FER2013's labels beside them can trust the latter.")
    rows = training.own == FER2013_LABELS.index("disgust")
    disgust = np.eye(len(FERPLUS_LABELS), dtype=np.float32)[FERPLUS_LABELS.index("disgust")]
    mixed = np.float32(1 - share) * training.targets + np.float32(share) * disgust
    targets = np.where(rows[:, None], mixed, training.targets)
    return replace(split, training=replace(training, targets=targets), own_disgust=share)


def duplicate_groups(pixels: GreyStack) -> NDArray[np.intp]:
    """Number each picture (N, H, W) by the group of look-alikes it belongs to, mirrored included.

    Two pictures are alike if their perceptual hashes (signs of the 64 lowest DCT coefficients of
    32x32 against their median) are at most `HASH_BITS_APART` bits apart and their pixels at 48x48
    correlate by `MIN_CORRELATION` or more.
    """
    n = len(pixels)
    small = np.stack([cv2.resize(p, (48, 48), interpolation=cv2.INTER_AREA) for p in pixels])
    flat = small.reshape(n, -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
    mirrored = flat.reshape(n, 48, 48)[:, :, ::-1].reshape(n, -1)
    hashes = np.array([_dct_hash(p) for p in small], np.uint64)
    mirrored_hashes = np.array([_dct_hash(p[:, ::-1]) for p in small], np.uint64)
    parent = np.arange(n)

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = int(parent[i])
        return i

    for other_hashes, other in ((hashes, flat), (mirrored_hashes, mirrored)):
        for start in range(0, n, 512):
            apart = np.bitwise_count(hashes[start : start + 512, None] ^ other_hashes[None, :])
            first, second = np.nonzero(apart <= HASH_BITS_APART)
            first = first + start
            ordered = first < second
            first, second = first[ordered], second[ordered]
            alike = np.einsum("ij,ij->i", flat[first], other[second]) >= MIN_CORRELATION
            for a, b in zip(first[alike], second[alike], strict=True):
                parent[root(int(b))] = root(int(a))
    return np.array([root(i) for i in range(n)], np.intp)


def _dct_hash(picture: GreyStack) -> np.uint64:
    small = cv2.resize(picture, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = cv2.dct(small)[:8, :8].ravel()
    return np.uint64(np.packbits(low > np.median(low[1:])).view(np.uint64)[0])


def _one_hot(label: NDArray[np.integer], width: int) -> NDArray[np.float32]:
    return np.eye(width, dtype=np.float32)[label.astype(np.intp)]


Columns = tuple[
    GreyStack, NDArray[np.int8], NDArray[np.int8], NDArray[np.int64] | None
]  # pixels, label, usage, votes


def _read_npz(path: Path) -> Columns:
    try:
        with np.load(path, allow_pickle=False) as archive:
            columns = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile) as e:
        raise DataError(f"{path} cannot be read as an .npz archive: {e}.") from e
    missing = {"pixels", "label", "usage"} - set(columns)
    if missing:
        raise DataError(f"{path} lacks {', '.join(sorted(missing))}; it has {sorted(columns)}.")
    pixels, label, usage = columns["pixels"], columns["label"], columns["usage"]
    votes = columns.get("votes")
    n = len(pixels)
    if pixels.ndim != 3 or pixels.dtype != np.uint8:
        raise DataError(
            f"{path}: pixels must be uint8 (N, H, W), found {pixels.dtype} {pixels.shape}."
        )
    if label.shape != (n,) or usage.shape != (n,):
        raise DataError(
            f"{path}: label and usage must have one value for each of {n} pictures, found shapes "
            f"{label.shape} and {usage.shape}."
        )
    if votes is not None and votes.shape != (n, len(VOTE_COLUMNS)):
        raise DataError(
            f"{path}: votes must have the shape ({n}, {len(VOTE_COLUMNS)}), found {votes.shape}."
        )
    return pixels, label.astype(np.int8), usage.astype(np.int8), votes


def _read_csv(path: Path, votes_csv: Path | None) -> Columns:
    usage_names = {"Training": TRAINING, "PublicTest": PUBLIC, "PrivateTest": PRIVATE}
    pixels: list[GreyStack] = []
    label: list[int] = []
    usage: list[int] = []
    with path.open(newline="") as file:
        rows = csv.DictReader(file)
        if rows.fieldnames is None or not {"emotion", "pixels", "Usage"} <= set(rows.fieldnames):
            raise DataError(f"{path}: the columns must be emotion, pixels, Usage (fer2013.csv).")
        for number, row in enumerate(rows, start=2):
            try:
                picture = np.array(row["pixels"].split(), np.uint8).reshape(FER_SIZE, FER_SIZE)
                label.append(int(row["emotion"]))
                usage.append(usage_names[row["Usage"]])
            except (KeyError, ValueError, OverflowError) as e:
                raise DataError(
                    f"{path}, line {number}: not a picture of 48x48 with a label and a split: {e}."
                ) from e
            pixels.append(picture)
    if not pixels:
        raise DataError(f"{path} holds no picture.")
    votes = None if votes_csv is None else _read_votes(votes_csv, len(pixels))
    return np.stack(pixels), np.array(label, np.int8), np.array(usage, np.int8), votes


def _read_votes(path: Path, expected: int) -> NDArray[np.int64]:
    if not path.is_file():
        raise DataError(f"There is no {path}; give FER+'s fer2013new.csv.")
    with path.open(newline="") as file:
        rows = csv.DictReader(file)
        if rows.fieldnames is None or not set(VOTE_COLUMNS) <= set(rows.fieldnames):
            raise DataError(f"{path}: the columns must include {', '.join(VOTE_COLUMNS)}.")
        try:
            votes = np.array([[int(row[name]) for name in VOTE_COLUMNS] for row in rows], np.int64)
        except (TypeError, ValueError) as e:
            raise DataError(f"{path}: votes must be whole numbers: {e}.") from e
    if len(votes) != expected:
        raise DataError(
            f"{path} has {len(votes)} rows, but the pictures' file has {expected}: FER+ labels go "
            "row by row with Kaggle's fer2013.csv."
        )
    return votes


def _load_folder(
    path: Path, crop: Callable[[ImageBGR], GreyStack | None] | None, seed: int
) -> FaceSet:
    classes = sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
    if len(classes) < 2:
        raise DataError(f"{path} needs two or more subfolders, one a class; found {len(classes)}.")
    pixels: list[GreyStack] = []
    label: list[int] = []
    for k, folder in enumerate(classes):
        files = sorted(f for f in folder.rglob("*") if f.suffix.lower() in IMAGE_SUFFIXES)
        before = len(pixels)
        for file in files:
            face = _read_face(file, crop)
            if face is not None:
                pixels.append(face)
                label.append(k)
        found = len(pixels) - before
        if found < MIN_FOLDER_CLASS:
            raise DataError(
                f"{folder}: {found} usable of {len(files)} pictures; a class needs "
                f"{MIN_FOLDER_CLASS} or more (pictures in which no face is found do not count)."
            )
    labels = np.array(label, np.int8)
    usage = np.zeros(len(labels), np.int8)
    rng = np.random.default_rng([seed, 2])
    for k in range(len(classes)):
        rows = rng.permutation(np.nonzero(labels == k)[0])
        usage[rows[: max(1, len(rows) // 5)]] = PUBLIC
    return FaceSet(
        np.stack(pixels), _one_hot(labels, len(classes)), labels, usage,
        tuple(folder.name for folder in classes),
    )  # fmt: skip


def _read_face(file: Path, crop: Callable[[ImageBGR], GreyStack | None] | None) -> GreyStack | None:
    image_bgr = cv2.imdecode(np.frombuffer(file.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    if image_bgr is None:
        raise DataError(f"{file} cannot be read as a picture; replace or remove it.")
    image: ImageBGR = np.asarray(image_bgr, np.uint8)
    if crop is not None:
        return crop(image)
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    shrink = min(grey.shape) > 2 * FER_SIZE
    return np.asarray(
        cv2.resize(grey, (96, 96), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR),
        np.uint8,
    )
