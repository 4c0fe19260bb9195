"""Recorded videos: what is kept of each, and what is to be done next.

The storage is the truth, Redis the transport and a cache: what Redis has forgotten is made anew
from the storage. See `Videos.advance` for how work goes on.
"""

from __future__ import annotations

from shared.jobs import Jobs
from shared.media import Media
from shared.video import Export, ExportKind, People, Video


class Videos:
    """The verbs for videos. Safe to share between threads."""

    def __init__(self, url: str, media: Media, jobs: Jobs) -> None:
        raise NotImplementedError

    def add(self, video: Video) -> None:
        """Keep a video whose file is at ``source_path(video.id)``, and begin its analysis."""
        raise NotImplementedError

    def all(self) -> list[Video]:
        """All videos, newest first."""
        raise NotImplementedError

    def one(self, video_id: str) -> Video:
        """One video; raises NotFound."""
        raise NotImplementedError

    def rename(self, video_id: str, name: str) -> Video:
        """Give a video another name (cleaned); raises NotFound."""
        raise NotImplementedError

    def cancel(self, video_id: str) -> Video:
        """Stop the analysis; what is there is kept for `retry`. Fine where it has ended already."""
        raise NotImplementedError

    def retry(self, video_id: str) -> Video:
        """Go on with a failed or cancelled video; raises Conflict for any other."""
        raise NotImplementedError

    def delete(self, video_id: str) -> None:
        """Remove a video and all that was made of it; raises NotFound."""
        raise NotImplementedError

    def people(self, video_id: str) -> People:
        """The user's edits; raises NotFound."""
        raise NotImplementedError

    def put_people(self, video_id: str, people: People) -> People:
        """Keep edits and update the report; returns them with their new revision.

        `people` is what `people()` gave, edited: raises Conflict where somebody else edited
        meanwhile (its revision is not the present one), or where there is no report yet.
        """
        raise NotImplementedError

    def export(self, video_id: str, kind: ExportKind) -> Export:
        """How far a file is; asking starts it. Raises Conflict where there is no report yet.

        A file that failed says so for a minute; asked for after that, it is tried again.
        """
        raise NotImplementedError

    def eta_s(self, video: Video) -> float | None:
        """Seconds until a running video is done; None while that cannot be told."""
        raise NotImplementedError


def folder_path(video_id: str) -> str:
    """All that is kept of a video lies in this folder of the media root."""
    return f"videos/{video_id}"


def source_path(video_id: str) -> str:
    return f"{folder_path(video_id)}/source"


def video_path(video_id: str) -> str:
    return f"{folder_path(video_id)}/video.json"


def plan_path(video_id: str) -> str:
    return f"{folder_path(video_id)}/plan.json"


def segment_path(video_id: str, index: int) -> str:
    return f"{folder_path(video_id)}/segments/{index:05d}.json.gz"


def people_path(video_id: str) -> str:
    return f"{folder_path(video_id)}/people.json"


def frames_path(video_id: str) -> str:
    return f"{folder_path(video_id)}/frames.jsonl.gz"


def report_path(video_id: str, name: str) -> str:
    """A file of the report, such as ``summary.json`` or ``faces/1.jpg``."""
    return f"{folder_path(video_id)}/report/{name}"


def export_path(video_id: str, kind: ExportKind) -> str:
    return f"{folder_path(video_id)}/exports/{kind.file_name}"
