"""`python -m training train | evaluate | export`: the command line of the training pipeline.

Errors that a user can mend are one line and exit code 1; misuse is exit code 2.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from shared.config import PROJECT_DIR
from shared.errors import MoodlineError
from training.quiet import quietly

if TYPE_CHECKING:
    from training.data import CleanSplit, FaceSet, LabelScheme

MODELS_DIR = PROJECT_DIR / "models"
EXISTING = click.Path(path_type=Path, exists=True)
PATH = click.Path(path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """Train, measure and export Moodline's expression classifier."""


def data_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say which faces are used and how they are split."""
    for option in reversed(
        (
            click.option(
                "--data", required=True, type=EXISTING,
                help="Labelled faces: an .npz, Kaggle's fer2013.csv, or a folder with a folder "
                "per class.",
            ),
            click.option(
                "--labels", "scheme", type=click.Choice(["ferplus", "fer2013"]),
                default="ferplus", show_default=True,
                help="FER+ votes as soft targets, or FER2013's own labels. A folder has its own.",
            ),
            click.option(
                "--votes", type=EXISTING, help="FER+'s fer2013new.csv, beside a fer2013.csv."
            ),
            click.option(
                "--own-disgust", type=click.FloatRange(0, 1), default=0.0, show_default=True,
                help="How much FER2013's own label counts in the FER+ target of the pictures that "
                "it calls disgust, which FER+ has too few of.",
            ),
            click.option(
                "--cropped", is_flag=True,
                help="A folder's pictures are tight face crops: do not look for the face.",
            ),
            click.option(
                "--calibration-share", type=click.FloatRange(0.01, 0.5), default=0.07,
                show_default=True,
                help="Share of the training pictures set aside to calibrate and select on.",
            ),
            click.option(
                "--split-seed", type=int, default=1, show_default=True,
                help="Decides which pictures are set aside; the same for train and export.",
            ),
        )
    ):  # fmt: skip
        command = option(command)
    return command


def naming_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of a model's card and its last layer."""
    for option in reversed(
        (
            click.option("--name", help="The model's name; the folder's name by default."),
            click.option(
                "--version", default="1", show_default=True, help="The model's version."
            ),
            click.option(
                "--adjust", type=click.FloatRange(0, 1), default=0.1, show_default=True,
                help="Logit adjustment: how much of the rare classes' handicap is taken away.",
            ),
            click.option(
                "--soup", type=click.FloatRange(0, 1), default=0.0, show_default=True,
                help="How much of the teacher's weights is averaged into those of the run.",
            ),
            click.option(
                "--unsure-below", type=click.FloatRange(0, 1, max_open=True), default=0.5,
                show_default=True, help="Confidence below which the product says `unsure`.",
            ),
            click.option(
                "--licence", "licences", multiple=True,
                help="A sentence for the card on what the data and weights are under; repeatable.",
            ),
        )
    ):  # fmt: skip
        command = option(command)
    return command


@main.command()
@data_options
@click.option("--run", "run_dir", required=True, type=PATH, help="Folder of this run.")
@click.option(
    "--weights", default="imagenet", show_default=True,
    help="Where to start: `imagenet` (downloaded by Keras), `none`, a .weights.h5 of "
    "MobileNetV2 without top, or a Moodline model folder.",
)  # fmt: skip
@click.option("--size", type=click.IntRange(32, 224), default=96, show_default=True,
              help="Side of the input in pixels, a multiple of 32.")  # fmt: skip
@click.option("--epochs", type=click.IntRange(1), default=24, show_default=True,
              help="Epochs of the whole network.")  # fmt: skip
@click.option("--head-epochs", type=click.IntRange(0), show_default="1, with --teacher 0",
              help="Epochs before them in which only the new head learns.")  # fmt: skip
@click.option("--batch", type=click.IntRange(2), show_default="64, fewer for few pictures",
              help="Pictures a step.")  # fmt: skip
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True),
              show_default="8e-4 for 64 pictures a step, less in proportion for fewer",
              help="Its highest value; a cosine takes it to 0.")  # fmt: skip
@click.option("--balance", type=click.FloatRange(0, 1), default=0.25, show_default=True,
              help="How much more often rare classes are drawn: 0 not at all, 1 all classes "
              "equally often.")  # fmt: skip
@click.option("--mixup", type=click.FloatRange(0), default=0.2, show_default=True,
              help="How much pictures are mixed: mixup's alpha, 0 for not at all.")  # fmt: skip
@click.option("--teacher", type=EXISTING,
              help="A finished run with the same classes and size: start from its weights, and "
              "learn from its answers as well.")  # fmt: skip
@click.option("--distil", type=click.FloatRange(0, 1), default=0.5, show_default=True,
              help="The share of the teacher's answers in the targets.")  # fmt: skip
@click.option("--precision", type=click.Choice(["float32", "mixed_float16", "mixed_bfloat16"]),
              default="float32", show_default=True,
              help="Mixed precision helps on GPUs; on CPUs it was no faster.")  # fmt: skip
@click.option("--threads", type=click.IntRange(0), default=0, show_default=True,
              help="Processor threads; 0 for all.")  # fmt: skip
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--export", "out", type=PATH, help="Write the model folder here at the end.")
@naming_options
def train(
    data: Path, scheme: LabelScheme, votes: Path | None, own_disgust: float, cropped: bool,
    calibration_share: float, split_seed: int, run_dir: Path, weights: str, size: int, epochs: int,
    head_epochs: int | None, batch: int | None, learning_rate: float | None, balance: float,
    mixup: float, teacher: Path | None, distil: float, precision: str, threads: int, seed: int,
    out: Path | None, **naming: Any,
) -> None:  # fmt: skip
    """Train a model, or go on with the run that --run holds.

    Interrupt it as you like: the same command continues at the last saved step (a minute ago at
    most) and ends with the same weights. With --export the model folder is written at the end;
    `moodline up` uses it with MOODLINE_MODEL set to it.
    """
    if size % 32:
        raise click.BadParameter("must be a multiple of 32.", param_hint="--size")
    with one_line_errors():
        limit_threads(threads)
        faces, split = load(
            data, scheme, votes, own_disgust, cropped, calibration_share, split_seed, size
        )
        from training.train import Settings, read_settings  # noqa: PLC0415  imports Keras, slow

        batch = batch or min(64, max(8, len(split.training) // 16))
        if head_epochs is None:
            head_epochs = 1 if teacher is None else 0
        settings = Settings(
            size=size, weights=weights if teacher is None else read_settings(teacher).weights,
            head_epochs=head_epochs, epochs=epochs, batch=batch,
            learning_rate=learning_rate or 8e-4 * batch / 64, balance=balance, mixup=mixup,
            precision=precision, seed=seed, teacher=None if teacher is None else str(teacher),
            distil=0.0 if teacher is None else distil,
        )  # fmt: skip
        run_with_progress(split, settings, run_dir)
        if out is not None:
            write_model(run_dir, data, faces, split, out, naming)


@main.command()
@data_options
@click.option("--run", "run_dir", required=True, type=PATH, help="Folder of the training run.")
@click.option("--out", required=True, type=PATH, help="Model folder to write.")
@click.option("--threads", type=click.IntRange(0), default=0, help="Processor threads; 0 for all.")
@naming_options
def export(
    data: Path, scheme: LabelScheme, votes: Path | None, own_disgust: float, cropped: bool,
    calibration_share: float, split_seed: int, run_dir: Path, out: Path, threads: int,
    **naming: Any,
) -> None:  # fmt: skip
    """Write a model folder from a run, also from one that still trains.

    Fits the calibration, converts to LiteRT float and int8, measures all three forms on the public
    split, and writes the card. Give the data and split options of the training.
    """
    with one_line_errors():
        limit_threads(threads)
        from training.train import read_settings  # noqa: PLC0415  imports Keras, slow

        size = read_settings(run_dir).size
        faces, split = load(
            data, scheme, votes, own_disgust, cropped, calibration_share, split_seed, size
        )
        write_model(run_dir, data, faces, split, out, naming)


@main.command()
@click.option("--data", type=EXISTING, help="Labelled faces, as for train.")
@click.option("--split", type=click.Choice(["training", "public", "private", "all"]),
              default="public", show_default=True,
              help="Which pictures of --data; of a folder, a fifth is public.")  # fmt: skip
@click.option(
    "--labels",
    "scheme",
    type=click.Choice(["ferplus", "fer2013"]),
    default="ferplus",
    show_default=True,
    help="FER+ majority protocol, or FER2013's own labels.",
)
@click.option("--votes", type=EXISTING, help="FER+'s fer2013new.csv, beside a fer2013.csv.")
@click.option("--cropped", is_flag=True, help="A folder's pictures are tight face crops.")
@click.option("--photos", type=EXISTING, help="Folder of whole photographs, for end to end.")
@click.option("--legend", type=EXISTING, help="CSV of --photos with the columns image, emotion.")
@click.option("--model", "model_dir", type=PATH, default=MODELS_DIR / "moodline-mobilenetv2",
              show_default="the shipped model", help="Model folder.")  # fmt: skip
@click.option("--backend", type=click.Choice(["auto", "keras", "litert", "litert-int8"]),
              default="auto", show_default=True)  # fmt: skip
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option("--plots", type=PATH, help="Folder for confusion, reliability and errors as PNG.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def evaluate(
    data: Path | None, split: str, scheme: LabelScheme, votes: Path | None, cropped: bool,
    photos: Path | None, legend: Path | None, model_dir: Path, backend: str, threads: int,
    plots: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Measure a model: on labelled faces (--data), or end to end (--photos with --legend).

    End to end runs the detector, the crop and the classifier on whole photographs, as users get
    them; a face that is not found counts as an error.
    """
    end_to_end = photos is not None and legend is not None and data is None
    if not end_to_end and (data is None or photos is not None or legend is not None):
        raise click.UsageError("Give either --data, or --photos with --legend.")
    with one_line_errors():
        from training import evaluate as measuring  # noqa: PLC0415  imports Matplotlib, slow
        from training.data import detector_crop, load_faces  # noqa: PLC0415
        from workers.vision.classifier import load_classifier  # noqa: PLC0415
        from workers.vision.detector import load_detector  # noqa: PLC0415

        with quietly():
            classifier = load_classifier(model_dir, backend, threads)
        figures: measuring.Figures | measuring.PhotographFigures
        if data is not None:
            crop = None if cropped else detector_crop(MODELS_DIR, classifier.card.input_size_hw[0])
            faces = load_faces(data, scheme, votes_csv=votes, crop=crop)
            answers = measuring.answer_faces(classifier, faces.measured(split))
            figures = measuring.measure(answers.probabilities, answers.truth, answers.labels)
            of_found = figures
        elif photos is not None and legend is not None:
            with quietly():
                detector = load_detector("mtcnn", models_dir=MODELS_DIR, threads=threads)
            figures, answers = measuring.evaluate_photographs(detector, classifier, photos, legend)
            of_found = figures.of_found
        result = {
            "model": {"name": classifier.card.name, "version": classifier.card.version},
            "backend": classifier.backend,
            **figures.as_json(),
            "faces_per_second": round(
                measuring.faces_per_second(classifier, answers.crops[:300]), 1
            ),
        }
        if plots is not None:
            plots.mkdir(parents=True, exist_ok=True)
            measuring.plot_confusion(of_found, plots / "confusion.png")
            measuring.plot_reliability(answers, plots / "reliability.png")
            measuring.plot_errors(answers, plots / "errors.png")
        if as_json:
            click.echo(json.dumps(result))
        else:
            show(result)


def load(
    data: Path,
    scheme: LabelScheme,
    votes: Path | None,
    own_disgust: float,
    cropped: bool,
    share: float,
    seed: int,
    size: int,
) -> tuple[FaceSet, CleanSplit]:
    """Read and split the data, and tell what was left out."""
    from training.data import (  # noqa: PLC0415  slow
        clean_split,
        detector_crop,
        load_faces,
        trust_own_disgust,
    )

    crop = None if cropped else detector_crop(MODELS_DIR, size)
    faces = load_faces(data, scheme, votes_csv=votes, crop=crop)
    split = clean_split(faces, calibration_share=share, seed=seed)
    if own_disgust:
        split = trust_own_disgust(split, own_disgust)
    click.echo(
        f"{len(split.training)} pictures to train on, {len(split.calibration)} to calibrate on. "
        f"Left out of training: {split.duplicates_exact} exact and {split.duplicates_near} near "
        f"duplicates of pictures that measure, {split.without_target} without a usable label."
    )
    return faces, split


def run_with_progress(split: CleanSplit, settings: Any, run_dir: Path) -> None:
    """Train with a progress bar and a line an epoch."""
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from training import train as training  # noqa: PLC0415  imports Keras, slow

    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.3f}"), TimeRemainingColumn(),
    ) as bar:  # fmt: skip
        task = bar.add_task("epoch 1", total=None, loss=0.0)
        shown: list[int] = []

        def report(now: training.Progress) -> None:
            bar.update(
                task,
                description=f"epoch {now.epoch + 1} of {now.epochs}",
                total=now.epochs * now.steps,
                completed=now.epoch * now.steps + now.step,
                loss=now.loss,
            )
            if now.last is not None and now.last.epoch not in shown:
                shown.append(now.last.epoch)
                bar.console.print(epoch_line(now.last))

        training.train(split, settings, run_dir, report=report)
    click.echo(epoch_line(training.read_log(run_dir)[-1]))


def epoch_line(figures: Any) -> str:
    """One finished epoch in words."""
    return (
        f"epoch {figures.epoch + 1} ({figures.stage}): training {figures.training_loss:.3f}, "
        f"held out {figures.calibration_loss:.3f}, accuracy {100 * figures.accuracy:.1f} %, "
        f"{figures.seconds:.0f} s"
    )


def write_model(
    run_dir: Path, data: Path, faces: FaceSet, split: CleanSplit, out: Path, naming: dict[str, Any]
) -> None:
    """Export a run and tell the figures that matter."""
    from training import export as exporting  # noqa: PLC0415  imports Keras, slow
    from training.train import read_settings  # noqa: PLC0415

    card = exporting.export(
        run_dir, split, faces, read_settings(run_dir), out,
        exporting.Naming(
            name=naming["name"] or out.name,
            version=naming["version"],
            licences=naming["licences"],
            unsure_below=naming["unsure_below"],
        ),
        adjust=naming["adjust"],
        soup=naming["soup"],
        data_name=data.name,
        data_sha256=exporting.file_sha256(data),
    )  # fmt: skip
    shipped, parity = card["metrics"]["litert-int8"], card["parity"]
    click.echo(
        f"{out}: accuracy {100 * shipped['accuracy']:.1f} % on {shipped['pictures']} pictures, "
        f"ECE {100 * shipped['ece']:.1f} %; int8 loses "
        f"{parity['int8_points_lost_against_keras']:.2f} points and is "
        f"{parity['int8_times_as_fast_as_float']} times as fast as float."
    )
    if not parity["within_bounds"]:
        click.echo("The int8 file misses a bound (0.5 points, 1.8 times as fast).", err=True)


def show(result: dict[str, Any]) -> None:
    """The figures for people."""
    low, high = result["accuracy_interval"]
    of_found = result.get("of_found", result)
    click.echo(f"{result['model']['name']} {result['model']['version']}, {result['backend']}")
    if "photographs" in result:
        click.echo(
            f"photographs {result['photographs']}, faces not found {result['faces_not_found']}, "
            f"accuracy where found {100 * result['accuracy_where_found']:.1f} %"
        )
    click.echo(f"accuracy {100 * result['accuracy']:.1f} % ({100 * low:.1f} to {100 * high:.1f})")
    click.echo(f"balanced accuracy {100 * result['balanced_accuracy']:.1f} %")
    click.echo(f"macro F1 {100 * of_found['macro_f1']:.1f} %, ECE {100 * of_found['ece']:.1f} %")
    for label, figures in result["classes"].items():
        values = (figures["pictures"], figures["precision"], figures["recall"])
        pictures, precision, recall = ("none" if v is None else v for v in values)
        click.echo(f"  {label:<12} {pictures:>5}  precision {precision:<8}  recall {recall}")
    pair = of_found["fear_surprise"]
    if pair is not None:
        click.echo(
            f"fear called surprise {100 * pair['first_called_second']:.1f} %, surprise called "
            f"fear {100 * pair['second_called_first']:.1f} %, told apart "
            f"{100 * pair['told_apart']:.1f} %"
        )
    click.echo(f"{result['faces_per_second']} faces/s")


def limit_threads(threads: int) -> None:
    """Set the threads and the determinism of TensorFlow, where it is the backend."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import cv2  # noqa: PLC0415

    with quietly():
        import keras  # noqa: PLC0415  slow

    cv2.setNumThreads(1)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf  # noqa: PLC0415

        # A second command in one process keeps the first one's threads.
        with contextlib.suppress(RuntimeError):
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(2 if threads else 0)
        tf.config.experimental.enable_op_determinism()


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn what a user can mend into one line and exit code 1."""
    try:
        yield
    except MoodlineError as error:
        raise click.ClickException(str(error)) from error
    except MemoryError as error:
        raise click.ClickException(f"Out of memory ({error}); lower --batch or --size.") from error


if __name__ == "__main__":
    main(prog_name="python -m training")
