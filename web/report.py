"""What was found in a video, and what can be taken away of it.

Files are served as the workers wrote them. The large ones that not everybody wants (annotated
copies, a copy that browsers play, the summary on paper) are made when first asked for: 202 with the
progress until they are there.
"""

from __future__ import annotations

from http import HTTPStatus

from flask import Blueprint, Response, jsonify, request

from shared.errors import Conflict, NotFound
from shared.video import (
    ExportKind,
    ExportState,
    Video,
    VideoStatus,
    export_path,
    report_path,
    source_path,
)
from shared.videos import Videos
from web import files
from web.problem import Refused
from web.videos import check_id

_RETRY_EXPORT_S = 60
_NAMED = {  # what an export is called when it is saved
    ExportKind.ANNOTATED: "-annotated.mp4",
    ExportKind.ANNOTATED_BLURRED: "-annotated-blurred.mp4",
    ExportKind.PREVIEW: "-preview.mp4",
    ExportKind.SUMMARY: "-summary.pdf",
}
_WAITING = {
    VideoStatus.QUEUED: "It waits for its turn: see its progress.",
    VideoStatus.RUNNING: "It is being analysed: see its progress.",
    VideoStatus.DONE: "Ask again in a moment.",
    VideoStatus.FAILED: "It failed before there was anything to report: see its `error`.",
    VideoStatus.CANCELLED: "It was cancelled: POST to its `retry` to go on.",
}


def blueprint(videos: Videos) -> Blueprint:
    """The files below ``/api/videos/{id}``."""
    bp = Blueprint("report", __name__, url_prefix="/api/videos")
    bp.url_value_preprocessor(check_id)

    @bp.get("/<video_id>/source")
    def source(video_id: str) -> Response:
        video = videos.one(video_id)
        kind = files.type_of(video.footage.container)
        return files.send(videos.media, source_path(video_id), kind, video.name)

    def report(video_id: str, name: str, kind: str, saved_as: str) -> Response:
        video = videos.one(video_id)
        path, name = report_path(video_id, name), files.named_after(video.name, saved_as)
        try:
            return files.send(videos.media, path, kind, name)
        except NotFound:
            if videos.media.exists(report_path(video_id, "summary.json")):
                raise NotFound(
                    "The report of this video has no such part: see its summary.json."
                ) from None
            raise no_report_yet(video) from None

    @bp.get("/<video_id>/results.json")
    def results(video_id: str) -> Response:
        return report(video_id, "results.json", files.JSON, "-results.json")

    @bp.get("/<video_id>/results.csv")
    def table(video_id: str) -> Response:
        return report(video_id, "results.csv", files.CSV, "-results.csv")

    @bp.get("/<video_id>/summary.json")
    def summary(video_id: str) -> Response:
        return report(video_id, "summary.json", files.JSON, "-summary.json")

    @bp.get("/<video_id>/boxes/<int:number>.json")
    def boxes(video_id: str, number: int) -> Response:
        return report(video_id, f"boxes/{number:05d}.json", files.JSON, f"-boxes-{number}.json")

    @bp.get("/<video_id>/faces/<int:person>.jpg")
    def face(video_id: str, person: int) -> Response:
        return report(video_id, f"faces/{person}.jpg", files.JPEG, f"-person-{person}.jpg")

    def export(video_id: str, kind: ExportKind) -> Response:
        video, made = videos.one(video_id), videos.export(video_id, kind)
        if made.state is ExportState.FAILED:
            raise Refused(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"This file could not be made: {made.error or 'the reason is in the log'} "
                "Asked for again after a minute, it is tried once more.",
                retry_after_s=_RETRY_EXPORT_S,
            )
        if made.state is ExportState.RUNNING:
            waiting = jsonify({"state": made.state.value, "progress": round(made.progress, 4)})
            waiting.status_code = HTTPStatus.ACCEPTED
            waiting.headers["Retry-After"] = "1"
            return waiting
        content_type = files.PDF if kind is ExportKind.SUMMARY else files.MP4
        name = files.named_after(video.name, _NAMED[kind])
        return files.send(videos.media, export_path(video_id, kind), content_type, name)

    @bp.get("/<video_id>/annotated.mp4")
    def annotated(video_id: str) -> Response:
        blur = request.args.get("blur", "0") not in ("", "0")
        return export(video_id, ExportKind.ANNOTATED_BLURRED if blur else ExportKind.ANNOTATED)

    @bp.get("/<video_id>/preview.mp4")
    def preview(video_id: str) -> Response:
        return export(video_id, ExportKind.PREVIEW)

    @bp.get("/<video_id>/summary.pdf")
    def summary_pdf(video_id: str) -> Response:
        return export(video_id, ExportKind.SUMMARY)

    return bp


def no_report_yet(video: Video) -> Conflict:
    """The answer to what needs a report where there is none."""
    return Conflict(f"This video has no report yet ({video.status}). {_WAITING[video.status]}")
