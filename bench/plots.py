"""Plots of what was measured: one figure for the rows of one command.

Not here: the measuring, and which commands there are (`moodline`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.errors import MoodlineError


@dataclass(frozen=True)
class Axes:
    """What of the rows is drawn: `y` over `x`, one line for each value of `by`.

    A column's name may lead into a column of names and figures: ``delay_ms.p95``.
    """

    x: str
    y: tuple[str, ...]
    unit: str
    by: tuple[str, ...] = ()


AXES: Mapping[str, Axes] = {
    "classifier": Axes("batch", ("faces_per_s",), "faces/s", ("backend", "threads")),
    "pipeline": Axes("detect", ("fps", "bare_fps"), "frames/s"),
    "video": Axes("workers", ("fps", "bare_fps"), "frames/s", ("detect",)),
    "scale": Axes("workers", ("frames_per_s", "ideal_frames_per_s"), "frames/s"),
    "live": Axes("feeds", ("delay_ms.p50", "delay_ms.p95", "delay_ms.p99"), "ms"),
    "live --overload": Axes("phase", ("delay_ms.p50", "delay_ms.p95", "delay_ms.max"), "ms"),
}


def save(command: str, rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw a command's rows into a file of the kind that its ending says: .png, .svg, .pdf, …

    Raises MoodlineError where it cannot be written.
    """
    # Imported here: a second, which only those wait for who want a plot.
    from matplotlib.figure import Figure  # noqa: PLC0415

    axes = AXES[command]
    figure = Figure(figsize=(8, 5), layout="constrained")
    plot = figure.subplots()
    for name, series in _series(axes, rows).items():
        plot.plot(*zip(*series, strict=True), marker="o", label=name)
    plot.set(xlabel=axes.x.replace("_", " "), ylabel=axes.unit, title=f"moodline bench {command}")
    plot.set_ylim(bottom=0)
    plot.grid(visible=True, alpha=0.3)
    plot.legend()
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise MoodlineError(
            f"The plot {path} cannot be written ({error}): give another --plot, ending in .png, "
            ".svg or .pdf."
        ) from error


def _series(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[Any, float]]]:
    series: dict[str, list[tuple[Any, float]]] = {}
    for row in rows:
        for y in axes.y:
            name = ", ".join([y.replace("_", " "), *(f"{by} {row[by]}" for by in axes.by)])
            series.setdefault(name, []).append((row[axes.x], _value(row, y)))
    return series


def _value(row: Mapping[str, Any], column: str) -> float:
    value: Any = row
    for part in column.split("."):
        value = value[part]
    return float(value)
