"""A recorded video on one page: who was seen, what they showed, and when.

`summary_pdf` draws an A4 page from the report's `summary.json`: facts and notes, and for each
person a picture, the share of each emotion, and all of the video as a ribbon of stacked shares,
hatched where the model was unsure. The same report gives the same bytes. Up to `MAX_PEOPLE` are
shown, those who were seen longest; how many others there are is said.

Not here: what is in a report (`workers.report`). Matplotlib is imported when a page is drawn: it
takes half a second, and a worker seldom needs it.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shared import fonts, overlay
from shared.errors import NotFound
from shared.media import Media
from shared.video import Video, report_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

MAX_PEOPLE = 6
_PAGE_MM = (210.0, 297.0)
_MARGIN_MM = 15.0
_FACE_MM = 24.0
_TEXT_MM = 48.0  # what stands beside a person's ribbon
_PERSON_MM = (33.0, 75.0)  # of height: least and most
_MOMENTS_FROM_MM = 48.0  # of height: so much has room for them
_DPI = 300  # texts are measured at this, nearly as finely as a PDF places them
_MOMENTS = 6
_POINTS = 500  # of a ribbon: more than a printer shows
_LABELLED_SHARE = 0.09  # a part of the bar from here on has room for its number

_INK, _MUTED, _LINE, _PAPER = "#1b1f27", "#5b6270", "#dcd6c8", "#fffdf9"
_STYLE: Any = {
    "font.size": 8.5,
    "text.color": _INK,
    "axes.edgecolor": _LINE,
    "axes.linewidth": 0.6,
    "xtick.color": _MUTED,
    "xtick.labelsize": 7,
    "hatch.linewidth": 0.5,
    "hatch.color": _INK,
    "pdf.fonttype": 42,  # text that can be searched and copied
}
_DISCLAIMER = "A baseline emotion indicator, not a definitive diagnosis."


def summary_pdf(media: Media, video: Video, out: BinaryIO) -> None:
    """Write the page; raises NotFound where there is no report yet."""
    summary = json.loads(media.read(report_path(video.id, "summary.json")))
    with page(summary, _pictures(media, video, summary)) as figure:
        figure.savefig(out, format="pdf", metadata={"CreationDate": None, "Title": video.name})


def _pictures(media: Media, video: Video, summary: Mapping[str, Any]) -> dict[int, Image.Image]:
    """The face picture of each person who has one."""
    found = {}
    for person in summary["people"]:
        if person["face"]:
            try:
                jpeg = media.read(report_path(video.id, person["face"]))
            except NotFound:
                continue
            found[person["id"]] = Image.open(io.BytesIO(jpeg)).convert("RGB")
    return found


@contextlib.contextmanager
def page(summary: Mapping[str, Any], pictures: Mapping[int, Image.Image]) -> Iterator[Figure]:
    """The page of a summary and people's pictures by their numbers, to be saved in the block."""
    import matplotlib as mpl  # noqa: PLC0415
    from matplotlib import font_manager  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    people = sorted(summary["people"], key=lambda row: (-row["seconds_seen"], row["id"]))
    shown = sorted(people[:MAX_PEOPLE], key=lambda row: row["id"])
    texts = [summary["video"]["name"], *(row["name"] or "" for row in shown)]
    families = ["DejaVu Sans"]
    for file in fonts.files_for(texts):
        font_manager.fontManager.addfont(file)
        families.append(font_manager.FontProperties(fname=file).get_name())
    with mpl.rc_context(_STYLE), mpl.rc_context({"font.family": families}):
        figure = Figure(figsize=(_PAGE_MM[0] / 25.4, _PAGE_MM[1] / 25.4), dpi=_DPI)
        filled = _Page(figure, summary)
        filled.head(len(people))
        if shown:
            filled.legend()
        filled.people(shown, pictures, left_out=len(people) - len(shown))
        filled.foot()
        yield figure


class _Page:
    """A page that is filled from the top down; places are millimetres from its upper left."""

    def __init__(self, figure: Figure, summary: Mapping[str, Any]) -> None:
        self.figure = figure
        self._video: Mapping[str, Any] = summary["video"]
        self._model: Mapping[str, Any] = summary["model"]
        self._timeline: Mapping[str, Any] = summary["timeline"]
        self._labels: Sequence[str] = summary["model"]["labels"]
        self._y = _MARGIN_MM

    def head(self, people: int) -> None:
        """Name of the video, facts, and what has to be known to judge them."""
        width = _PAGE_MM[0] - 2 * _MARGIN_MM
        self._write("Moodline", 0, 8, weight="bold", color=_MUTED)
        self._y += 4.5
        title = self._write(self._video["name"], 0, 17, weight="bold")
        self._shorten(title, width)
        self._y += 9
        video = self._video
        facts = [
            _length(video["duration_s"]),
            f"{video['width']} by {video['height']} pixels",
            f"{video['fps']:.4g} frames/s" if video["fps"] else "",
            f"{video['frames_analysed']:,} frames analysed",
            f"{people} {'person' if people == 1 else 'people'}",
            f"{self._model['name']} {self._model['version']}",
        ]
        self._shorten(self._write("  ·  ".join(filter(None, facts)), 0, 8.5), width)
        self._y += 5
        self._write(_DISCLAIMER, 0, 8.5, style="italic", color=_MUTED)
        self._y += 5
        for note in self._notes():
            self._shorten(self._write(note, 0, 8), width)
            self._y += 4
        self._y += 1.5

    def _notes(self) -> Iterator[str]:
        video = self._video
        if video["ended_early"]:
            yield f"▸ {video['ended_early']}"
        if video["frames_missing"]:
            yield f"▸ {video['frames_missing']:,} frames could not be read and are left out."
        if video["sampled_fps"]:
            yield f"▸ {video['sampled_fps']:g} frames of every second were analysed."

    def legend(self) -> None:
        """The colours of the emotions, and the hatching; on as many lines as it takes."""
        width = _PAGE_MM[0] - 2 * _MARGIN_MM
        entries = [(label.capitalize(), overlay.colour_of(label), "") for label in self._labels]
        if self._model["unsure_below"]:
            entries.append(("Unsure", _PAPER, "//////"))
        at = width
        for word, colour, hatch in entries:
            text = self.figure.text(0, 0, word, va="center", fontsize=8, parse_math=False)
            self._shorten(text, width / 3)
            needs = 4.4 + self._width_mm(text) + 4.6
            if at + needs > width + 4.6:
                at = 0.0
                line = self._axes(_MARGIN_MM, width, 4.0)
                line.set_axis_off()
                line.set_xlim(0, width)
                line.set_ylim(-2, 2)
                self._y += 5
            line.bar(at + 1.7, 3, 3, -1.5, color=colour, hatch=hatch, edgecolor=_INK, lw=0.4)
            text.set_transform(line.transData)
            text.set_position((at + 4.4, -0.15))
            at += needs
        self._y += 2.5

    def people(
        self,
        people: Sequence[Mapping[str, Any]],
        pictures: Mapping[int, Image.Image],
        *,
        left_out: int,
    ) -> None:
        """A block for each person, in what is left of the page."""
        if not people:
            self._y += 8
            self._write("No face was found in this video.", 0, 12, color=_MUTED)
            return
        room = _PAGE_MM[1] - _MARGIN_MM - 10 - self._y
        least, most = _PERSON_MM
        height = max(least, min(most, room / len(people)))
        begins_s, ends_s = self._span(people)
        for person in people:
            self._person(person, pictures.get(person["id"]), height, begins_s, ends_s)
            self._y += height
        if left_out:
            self._write(
                f"{left_out} more {'person was' if left_out == 1 else 'people were'} seen for a "
                "shorter time: the report shows them all.",
                0,
                8,
                color=_MUTED,
            )

    def _span(self, people: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
        """From when to when ribbons go: all of the video, as far as it is known."""
        begins_s = float(self._video["start_s"])
        last_s = max(person["end_s"] for person in people)
        return begins_s, max(begins_s + (self._video["duration_s"] or 0), last_s, begins_s + 0.1)

    def _person(
        self,
        person: Mapping[str, Any],
        picture: Image.Image | None,
        height: float,
        begins_s: float,
        ends_s: float,
    ) -> None:
        left = _MARGIN_MM + _FACE_MM + 4
        face = self._axes(_MARGIN_MM, _FACE_MM, _FACE_MM)
        face.set_xticks([])
        face.set_yticks([])
        if picture is None:
            face.text(0.5, 0.5, "no picture", ha="center", va="center", color=_MUTED, fontsize=7)
        else:
            face.imshow(picture, aspect="auto", interpolation="bilinear")
        at = self._y
        name = self._write(person["name"] or f"Person {person['id']}", left, 10.5, weight="bold")
        self._shorten(name, _TEXT_MM - 3)
        self._y += 5.6
        shares = person["shares"]
        likely = sorted(self._labels, key=lambda label: -shares[label])[:3]
        lines = [
            f"{_clock(person['start_s'] - begins_s)} to {_clock(person['end_s'] - begins_s)}",
            f"seen for {_length(person['seconds_seen'])}",
            *(f"{label.capitalize()} {shares[label]:.0%}" for label in likely if shares[label] > 0),
        ]
        if shares["unsure"] > 0:
            lines.append(f"Unsure {shares['unsure']:.0%}")
        for number, line in enumerate(lines):
            text = self._write(line, left, 7.5, color=_MUTED if number < 2 else _INK)
            self._shorten(text, _TEXT_MM - 3)
            self._y += 3.9
        if height >= _MOMENTS_FROM_MM and person["moments"]:
            self._y += 1.5
            self._write("Strongest", left, 7.5, color=_MUTED)
            for moment in person["moments"][:_MOMENTS]:
                self._y += 3.9
                when = _clock(moment["t"] - begins_s)
                words = f"{moment['label'].capitalize()} {moment['confidence']:.0%} at {when}"
                self._shorten(self._write(words, left, 7.5), _TEXT_MM - 3)
        self._y = at
        left += _TEXT_MM
        width = _PAGE_MM[0] - _MARGIN_MM - left
        self._bar(self._axes(left, width, 5), shares)
        self._y += 6.5
        ribbon = self._axes(left, width, height - 17)
        self._ribbon(ribbon, person, begins_s, ends_s)
        self._y = at

    def _bar(self, axes: Axes, shares: Mapping[str, float]) -> None:
        """The share of each emotion of one person's frames."""
        axes.set_axis_off()
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        at = 0.0
        parts = [(label, overlay.colour_of(label), "") for label in self._labels]
        for label, colour, hatch in (*parts, ("unsure", _PAPER, "//////")):
            share = shares[label]
            axes.barh(0.5, share, 1, at, color=colour, hatch=hatch, edgecolor=_INK, linewidth=0.4)
            if share >= _LABELLED_SHARE:
                note = axes.text(
                    at + share / 2, 0.47, f"{share:.0%}", ha="center", va="center", fontsize=7
                )
                if hatch:
                    note.set_bbox({"facecolor": _PAPER, "edgecolor": "none", "pad": 0.8})
            at += share

    def _ribbon(
        self, axes: Axes, person: Mapping[str, Any], begins_s: float, ends_s: float
    ) -> None:
        """Shares over time, stacked in the order of the legend from below."""
        axes.set_xlim(0, ends_s - begins_s)
        axes.set_ylim(0, 1)
        axes.set_yticks([])
        axes.set_facecolor("white")
        ticks = _ticks(ends_s - begins_s)
        axes.set_xticks(ticks, [_clock(tick) for tick in ticks])
        axes.tick_params(length=2, pad=2)
        fps = self._video["sampled_fps"]
        for part in _parts(self._timeline.get(str(person["id"]), []), 2.5 / fps if fps else 0.0):
            t = part[:, 0] - begins_s
            tops = np.cumsum(part[:, 1:], axis=1)
            below = np.zeros(len(part))
            for index, label in enumerate(self._labels):
                axes.fill_between(
                    t, below, tops[:, index], color=overlay.colour_of(label), linewidth=0
                )
                below = tops[:, index]
            unsure = part[:, 1:].max(axis=1) < self._model["unsure_below"]
            if unsure.any():
                axes.fill_between(
                    t,
                    0,
                    1,
                    where=list(unsure),
                    facecolor="#ffffffa0",
                    edgecolor=_INK,
                    hatch="//////",
                    linewidth=0,
                )

    def foot(self) -> None:
        """How to read the page."""
        self._y = _PAGE_MM[1] - _MARGIN_MM - 3
        unsure = self._model["unsure_below"]
        notes = (
            "Bars: share of the frames in which a person was seen. Ribbons: likelihoods over time."
        )
        if unsure:
            notes += f" Hatched: no emotion reached {unsure:.0%}."
        self._write(notes, 0, 7, color=_MUTED)

    def _write(self, words: str, left_mm: float, size: float, **how: Any) -> Text:
        """Write a line with its top where the page is filled to; 0: at the left margin."""
        return self.figure.text(
            (left_mm or _MARGIN_MM) / _PAGE_MM[0],
            1 - self._y / _PAGE_MM[1],
            words,
            fontsize=size,
            va="top",
            parse_math=False,
            **how,
        )

    def _axes(self, left_mm: float, width_mm: float, height_mm: float) -> Axes:
        bottom = 1 - (self._y + height_mm) / _PAGE_MM[1]
        return self.figure.add_axes(
            (left_mm / _PAGE_MM[0], bottom, width_mm / _PAGE_MM[0], height_mm / _PAGE_MM[1])
        )

    def _shorten(self, text: Text, width_mm: float) -> None:
        """Make a text fit, by an ellipsis at its end."""
        if self._width_mm(text) <= width_mm:
            return
        words = text.get_text()

        def is_too_wide(length: int) -> bool:
            text.set_text(f"{words[:length].rstrip()}…")
            return self._width_mm(text) > width_mm

        longest = bisect_left(range(len(words)), True, key=is_too_wide) - 1
        text.set_text(f"{words[: max(0, longest)].rstrip()}…")

    def _width_mm(self, text: Text) -> float:
        return float(text.get_window_extent().width / self.figure.dpi * 25.4)


def _parts(
    rows: Sequence[Sequence[float | None]], bridged_s: float
) -> Iterator[NDArray[np.float64]]:
    """The stretches of a timeline without a gap, none with too many points to print.

    Gaps up to `bridged_s` are none: so few frames a second were analysed.
    """
    part: list[Sequence[float | None]] = []
    step = max(1, math.ceil(len(rows) / _POINTS))
    is_gap = False
    for row in rows:
        if row[1] is None:
            is_gap = True
            continue
        if is_gap and part and (row[0] or 0) - (part[-1][0] or 0) > bridged_s:
            yield _thinned(part, step)
            part = []
        is_gap = False
        part.append(row)
    if part:
        yield _thinned(part, step)


def _thinned(rows: Sequence[Sequence[float | None]], step: int) -> NDArray[np.float64]:
    """Means of so many rows each; first and last times stay, and one point becomes a short line."""
    every = np.array(rows, np.float64)
    means = np.array([every[at : at + step].mean(axis=0) for at in range(0, len(every), step)])
    if len(means) == 1:
        means = np.repeat(means, 2, axis=0)
    means[0, 0], means[-1, 0] = every[0, 0], max(every[-1, 0], every[0, 0] + 0.05)
    return means


def _ticks(span_s: float) -> list[float]:
    """Round times, some six of them."""
    steps = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)
    step = next((step for step in steps if span_s / step <= 7), span_s / 6)
    return [step * number for number in range(math.floor(span_s / step + 1e-9) + 1)]


def _clock(seconds: float) -> str:
    """A time in the video: 1:05, 1:02:05; with tenths where it is not whole."""
    tenths = max(0, round(seconds * 10))
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    shown = f"{rest // 10:02d}" + (f".{rest % 10}" if rest % 10 and not hours else "")
    return f"{hours}:{minutes:02d}:{shown}" if hours else f"{minutes}:{shown}"


def _length(seconds: float | None) -> str:
    """A length in words: 12.3 s, 4 min 05 s, 1 h 02 min; nothing where it is not known."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
