"""Training in two stages, resumable at any step, on any Keras backend.

Stage `head` trains the new classifier on a backbone that stands still, batch norm included (its
statistics are ImageNet's). Stage `whole` trains everything, batch norm on the batches of faces,
with AdamW, a warm-up and a cosine down to nothing. Beside the weights runs their exponential
average, batch-norm statistics included; the average is what is measured and kept.

With a teacher, a finished run, a training starts from its weights, and the teacher's answer to the
very picture that the student sees, varied and mixed, takes a share of the target: votes are few
and noisy, answers are smooth (born-again networks, Furlanello et al. 2018; the same view for both,
Beyer et al. 2022).

Promises: a run that was interrupted and started again with the same settings continues at the last
saved step and ends with the same weights; the same settings and data on the same machine give the
same figures. Every run leaves `settings.json`, `log.jsonl` (a line an epoch), `curves.png`,
`state.npz` (to continue from) and `weights.npz` (the average) in its folder.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from shared.errors import DataError
from training import model as network
from training.augment import Batches, resize_grey
from training.data import CleanSplit, FaceSet

HEAD, WHOLE = "head", "whole"
AVERAGE_EVERY = 4  # steps; copying the weights each step would cost a few percent for nothing
NOT_DECAYED = ["gamma", "beta", "bias"]


@dataclass(frozen=True)
class Settings:
    """What decides the outcome of a training, besides the data."""

    size: int = 96
    weights: str = "imagenet"
    head_epochs: int = 1
    epochs: int = 16
    batch: int = 64
    learning_rate: float = 8e-4
    head_learning_rate: float = 2e-3
    weight_decay: float = 0.02
    warmup_epochs: float = 0.5
    dropout: float = 0.3
    average_decay: float = 0.999
    balance: float = 0.25
    mixup: float = 0.2
    precision: str = "float32"
    seed: int = 1
    teacher: str | None = None
    distil: float = 0.0


@dataclass(frozen=True)
class EpochFigures:
    """One line of the log. Losses are cross-entropies in nats; the calibration part is never
    trained on, `accuracy` is by its majority labels."""

    epoch: int
    stage: str
    training_loss: float
    calibration_loss: float
    accuracy: float
    learning_rate: float
    seconds: float


@dataclass(frozen=True)
class Progress:
    """Where a training stands, told after every step."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    last: EpochFigures | None


def train(
    split: CleanSplit,
    settings: Settings,
    run_dir: Path,
    *,
    report: Callable[[Progress], None] = lambda _: None,
    save_seconds: float = 60.0,
) -> keras.Model:
    """Train, or go on training, in `run_dir`; returns the network with the averaged weights.

    Raises:
        DataError: the folder holds a run with other settings or other data.
    """
    return _Training(split, settings, run_dir, save_seconds).run(report)


def load_trained(run_dir: Path, classes: int, soup: float = 0.0) -> keras.Model:
    """The network of a run as its averaged weights stand now, also while it still trains.

    `soup` is the share of its teacher's weights in a mean of both: a student that started from its
    teacher stays close enough for their mean to be better than either (model soups, Wortsman et
    al. 2022).
    """
    settings = read_settings(run_dir)
    model = network.build(settings.size, classes, None, dropout=settings.dropout)
    weights = _read_weights(run_dir)
    if soup:
        if settings.teacher is None:
            raise DataError(f"{run_dir} has no teacher whose weights could be mixed in.")
        teacher = _read_weights(Path(settings.teacher))
        weights = [(1 - soup) * w + soup * t for w, t in zip(weights, teacher, strict=True)]
    model.set_weights(weights)
    return model


def _read_weights(run_dir: Path) -> list[NDArray[np.float32]]:
    file = run_dir / "weights.npz"
    if not file.is_file():
        raise DataError(f"{run_dir} has no weights yet: no epoch of its training is complete.")
    with np.load(file) as values:
        return [values[f"w{i}"] for i in range(len(values.files))]


def read_settings(run_dir: Path) -> Settings:
    """The settings a run was started with."""
    file = run_dir / "settings.json"
    if not file.is_file():
        raise DataError(f"{run_dir} holds no training run; `python -m training train` makes one.")
    return Settings(**json.loads(file.read_text())["settings"])


def read_log(run_dir: Path) -> list[EpochFigures]:
    """The completed epochs of a run."""
    file = run_dir / "log.jsonl"
    if not file.is_file():
        return []
    return [EpochFigures(**json.loads(line)) for line in file.read_text().splitlines()]


def cross_entropy(logits: NDArray[np.float32], targets: NDArray[np.float32]) -> float:
    """Mean cross-entropy in nats of logits (N, L) against soft targets (N, L)."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_probability = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return float(-(targets * log_probability).sum(axis=1).mean())


def training_batches(split: CleanSplit, settings: Settings) -> Batches:
    """The batches as the network meets them: varied, and sampled as the settings say."""
    return Batches(
        split.training,
        size=settings.size,
        batch=settings.batch,
        balance=settings.balance,
        mixup=settings.mixup,
        seed=settings.seed,
    )


class _Training:
    """One run: initialise (fresh or from the saved state), epochs, averages, saving."""

    def __init__(
        self, split: CleanSplit, settings: Settings, run_dir: Path, save_seconds: float
    ) -> None:
        self.settings = settings
        self.run_dir = run_dir
        self.save_seconds = save_seconds
        self.calibration = split.calibration
        self.labels = split.training.labels
        self.stage = HEAD if settings.head_epochs else WHOLE
        self.epoch = self.step = self.updates = 0
        self.loss_sum = self.epoch_seconds = 0.0
        keras.utils.set_random_seed(settings.seed)
        keras.mixed_precision.set_global_policy(settings.precision)
        self.batches = training_batches(split, settings)
        self.total_epochs = settings.head_epochs + settings.epochs
        self._claim_folder(split.training)
        state_file = run_dir / "state.npz"
        fresh = not state_file.is_file() and settings.teacher is None
        self.model = network.build(
            settings.size,
            len(self.labels),
            settings.weights if fresh and settings.weights != "none" else None,
            dropout=settings.dropout,
        )
        self.teacher = None
        if settings.teacher is not None:
            trained = load_trained(Path(settings.teacher), len(self.labels))
            self.model.set_weights(trained.get_weights())
            self.teacher = network.answering(trained)
        if state_file.is_file():
            self._restore(state_file)
        else:
            self._compile()
            self.average = [w.copy() for w in self.model.get_weights()]

    def _claim_folder(self, training: FaceSet) -> None:
        """Write the settings into the folder, or check that they are those already there.

        Where the first weights came from does not matter any more to a run that goes on; nor does
        where its teacher lies, if it is the same one.
        """
        digest = hashlib.sha256(training.pixels.tobytes() + training.targets.tobytes())
        mine_settings = asdict(self.settings)
        mine = {
            "settings": mine_settings,
            "teacher_sha256": _teacher_digest(self.settings, self.labels),
            "labels": list(self.labels),
            "training_pictures": len(training),
            "training_sha256": digest.hexdigest(),
            "keras_backend": keras.backend.backend(),
        }
        file = self.run_dir / "settings.json"
        if file.is_file():
            theirs = json.loads(file.read_text())
            differing = sorted(k for k in mine if k != "settings" and theirs.get(k) != mine[k])
            differing += sorted(
                k
                for k, v in asdict(Settings(**theirs["settings"])).items()
                if k not in ("weights", "teacher") and mine_settings[k] != v
            )
            if differing:
                raise DataError(
                    f"{self.run_dir} holds a run with other {', '.join(differing)}; give the same "
                    "settings to continue it, or another --run folder."
                )
            return
        self.run_dir.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(mine, indent=2) + "\n")

    def run(self, report: Callable[[Progress], None]) -> keras.Model:
        log = read_log(self.run_dir)[: self.epoch]
        self._write_log(log)
        while self.epoch < self.total_epochs:
            self._enter_stage()
            log.append(self._one_epoch(report, log[-1] if log else None))
            self._write_log(log)
            plot_curves(log, self.run_dir / "curves.png")
        self.model.set_weights(self.average)
        return self.model

    def _enter_stage(self) -> None:
        stage = HEAD if self.epoch < self.settings.head_epochs else WHOLE
        if stage != self.stage:
            self.stage = stage
            self.updates = 0
            self._compile()
            self.average = [w.copy() for w in self.model.get_weights()]

    def _compile(self) -> None:
        s = self.settings
        self.model.get_layer(network.BACKBONE).trainable = self.stage == WHOLE
        optimizer = keras.optimizers.AdamW(s.learning_rate, weight_decay=s.weight_decay)
        optimizer.exclude_from_weight_decay(var_names=NOT_DECAYED)
        # XLA compiles longer than it saves on a CPU; `auto` takes it where there is a GPU.
        on_gpu = keras.backend.backend() != "tensorflow" or _tensorflow_has_gpu()
        self.model.compile(
            optimizer,
            keras.losses.CategoricalCrossentropy(from_logits=True),
            jit_compile="auto" if on_gpu else False,
        )
        optimizer.build(self.model.trainable_variables)

    def _learning_rate(self) -> float:
        s = self.settings
        if self.stage == HEAD:
            return s.head_learning_rate
        steps = self.batches.steps_per_epoch
        done = (self.epoch - s.head_epochs) * steps + self.step
        total, warmup = s.epochs * steps, max(1.0, s.warmup_epochs * steps)
        if done < warmup:
            return s.learning_rate * (done + 1) / warmup
        return s.learning_rate * 0.5 * (1 + math.cos(math.pi * (done - warmup) / (total - warmup)))

    def _one_epoch(
        self, report: Callable[[Progress], None], last: EpochFigures | None
    ) -> EpochFigures:
        steps = self.batches.steps_per_epoch
        before, saved_at = time.monotonic() - self.epoch_seconds, time.monotonic()
        for images, targets in self.batches.epoch(self.epoch, self.step):
            rate = self._learning_rate()
            self.model.optimizer.learning_rate = rate
            self.model.reset_metrics()
            loss = float(self.model.train_on_batch(images, self._taught(images, targets)))
            self.loss_sum += loss
            self.step += 1
            self.updates += 1
            if self.updates % AVERAGE_EVERY == 0 or self.step == steps:
                self._average()
            report(Progress(self.epoch, self.total_epochs, self.step, steps, loss, last))
            if time.monotonic() - saved_at > self.save_seconds and self.step < steps:
                self.epoch_seconds = time.monotonic() - before
                self._save()
                saved_at = time.monotonic()
        figures = self._measure(self.loss_sum / steps, rate, time.monotonic() - before)
        self.epoch, self.step, self.loss_sum, self.epoch_seconds = self.epoch + 1, 0, 0.0, 0.0
        weights = {f"w{i}": w for i, w in enumerate(self.average)}
        _replace(self.run_dir / "weights.npz", lambda f: np.savez(f, allow_pickle=False, **weights))
        self._write_log([*read_log(self.run_dir)[: self.epoch - 1], figures])
        self._save()
        return figures

    def _taught(
        self, images: NDArray[np.float32], targets: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """The targets (B, L) with the teacher's share in them."""
        if self.teacher is None:
            return targets
        logits = self.teacher(images)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        answers = powers / powers.sum(axis=1, keepdims=True)
        share = np.float32(self.settings.distil)
        mixed: NDArray[np.float32] = (1 - share) * targets + share * answers
        return mixed

    def _average(self) -> None:
        """Blend the current weights into the average, slowly once there are many updates."""
        decay = min(self.settings.average_decay**AVERAGE_EVERY, self.updates / (self.updates + 50))
        for i, now in enumerate(self.model.get_weights()):
            self.average[i] += (1 - decay) * (now - self.average[i])

    def _measure(self, training_loss: float, rate: float, seconds: float) -> EpochFigures:
        current = self.model.get_weights()
        self.model.set_weights(self.average)
        logits = predict_logits(self.model, self.calibration.pixels, self.settings.size)
        self.model.set_weights(current)
        counted = self.calibration.truth >= 0
        right = logits.argmax(axis=1)[counted] == self.calibration.truth[counted]
        return EpochFigures(
            epoch=self.epoch,
            stage=self.stage,
            training_loss=round(training_loss, 5),
            calibration_loss=round(cross_entropy(logits, self.calibration.targets), 5),
            accuracy=round(float(right.mean()), 5) if len(right) else float("nan"),
            learning_rate=rate,
            seconds=round(seconds, 1),
        )

    def _variables(self) -> Iterable[Any]:
        yield from self.model.variables
        yield from self.model.optimizer.variables

    def _save(self) -> None:
        arrays = {f"v{i}": keras.ops.convert_to_numpy(v) for i, v in enumerate(self._variables())}
        arrays |= {f"a{i}": w for i, w in enumerate(self.average)}
        where = json.dumps(
            {
                "stage": self.stage,
                "epoch": self.epoch,
                "step": self.step,
                "updates": self.updates,
                "loss_sum": self.loss_sum,
                "epoch_seconds": self.epoch_seconds,
            }
        )
        _replace(
            self.run_dir / "state.npz",
            lambda f: np.savez(f, allow_pickle=False, where=np.array(where), **arrays),
        )

    def _restore(self, file: Path) -> None:
        with np.load(file, allow_pickle=False) as saved:
            where = json.loads(str(saved["where"]))
            self.stage = where["stage"]
            self.epoch, self.step = where["epoch"], where["step"]
            self.updates, self.loss_sum = where["updates"], where["loss_sum"]
            self.epoch_seconds = where["epoch_seconds"]
            self._compile()
            for i, variable in enumerate(self._variables()):
                variable.assign(saved[f"v{i}"])
            self.average = [saved[f"a{i}"] for i in range(len(self.model.weights))]

    def _write_log(self, log: list[EpochFigures]) -> None:
        text = "".join(json.dumps(asdict(line)) + "\n" for line in log)
        _replace(self.run_dir / "log.jsonl", lambda f: f.write(text.encode()))


def predict_logits(
    model: keras.Model, pixels: NDArray[np.uint8], size: int, batch: int = 128
) -> NDArray[np.float32]:
    """The network's outputs (N, L) for grey faces (N, H, W)."""
    outputs = [
        keras.ops.convert_to_numpy(model.predict_on_batch(resize_grey(pixels[i : i + batch], size)))
        for i in range(0, len(pixels), batch)
    ]
    return np.concatenate(outputs).astype(np.float32)


def plot_curves(log: list[EpochFigures], file: Path) -> None:
    """Loss and accuracy by epoch, as a PNG."""
    from matplotlib.figure import Figure  # noqa: PLC0415  slow to import, needed once an epoch

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    epochs = [line.epoch + 1 for line in log]
    left.plot(epochs, [line.training_loss for line in log], label="training (augmented, mixed)")
    left.plot(epochs, [line.calibration_loss for line in log], label="held out")
    left.set(xlabel="epoch", ylabel="cross-entropy, nats")
    left.legend()
    right.plot(epochs, [100 * line.accuracy for line in log], color="C1")
    right.set(xlabel="epoch", ylabel="held-out accuracy, %")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.savefig(file, dpi=110)


def _teacher_digest(settings: Settings, labels: tuple[str, ...]) -> str | None:
    """The digest of the teacher's weights, after checking that it can teach this training."""
    if settings.teacher is None:
        return None
    run_dir = Path(settings.teacher)
    size = read_settings(run_dir).size
    theirs = json.loads((run_dir / "settings.json").read_text())["labels"]
    if size != settings.size or theirs != list(labels):
        raise DataError(
            f"{run_dir} cannot teach this training: it knows {', '.join(theirs)} at {size} pixels, "
            f"not {', '.join(labels)} at {settings.size}."
        )
    _read_weights(run_dir)
    return hashlib.sha256((run_dir / "weights.npz").read_bytes()).hexdigest()


def _tensorflow_has_gpu() -> bool:
    import tensorflow as tf  # noqa: PLC0415  only this backend has it

    return bool(tf.config.list_physical_devices("GPU"))


def _replace(file: Path, write: Callable[[Any], object]) -> None:
    """Write a file so that a crash leaves either the old one or the new one."""
    draft = file.with_name(file.name + ".part")
    with draft.open("wb") as f:
        write(f)
        f.flush()
        os.fsync(f.fileno())
    draft.replace(file)
