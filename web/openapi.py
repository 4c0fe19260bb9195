"""What the HTTP API takes and answers, as OpenAPI 3.1; a test holds it to the routes."""

from __future__ import annotations

from typing import Any

from shared import events, video
from shared.recordings import Ending, RecordingState
from shared.schema import (
    MAX_FPS,
    MAX_NAME_LENGTH,
    MAX_WIDTH,
    MIN_WIDTH,
    Degraded,
    Drop,
    FeedState,
    Trouble,
)

_NUMBER = {"type": "number"}
_COUNT = {"type": "integer", "minimum": 0}
_TEXT = {"type": "string"}
_MAYBE_TEXT = {"type": ["string", "null"]}
_MAYBE_NUMBER = {"type": ["number", "null"]}
_SHARE = {"type": "number", "minimum": 0, "maximum": 1}


def describe() -> dict[str, Any]:
    """The document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Moodline",
            "version": "1",
            "summary": "Watches faces in video and shows how their expressions change over time",
            "description": "A baseline emotion indicator, not a definitive diagnosis. Live frames "
            "come over Socket.IO. Where a password is set, send it as a bearer token.",
        },
        "security": [{}, {"password": []}, {"session": []}],
        "paths": {
            **_health(),
            **_feeds(),
            **_pictures(),
            **_recordings(),
            **_events(),
            **_videos(),
            **_uploads(),
            **_reports(),
            **_people(),
        },
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {
                "password": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": "moodline_session"},
            },
        },
    }


def _health() -> dict[str, Any]:
    return {
        "/healthz": {
            "get": _operation(
                "Is this process alive?",
                {"200": _json("It is.", _object({"status": {"const": "alive"}}))},
                open_to_all=True,
            )
        },
        "/readyz": {
            "get": _operation(
                "Is all there that analysis needs?",
                {
                    "200": _json("It is.", _object({"status": {"const": "ready"}})),
                    "503": _problem("Something is missing; `missing` lists what, with remedies."),
                },
            )
        },
        "/metrics": {
            "get": _operation(
                "Figures of the whole system for Prometheus.",
                {"200": {"description": "Figures.", "content": {"text/plain": {"schema": _TEXT}}}},
            )
        },
        "/api/openapi.json": {
            "get": _operation("This document.", {"200": _json("It.", {"type": "object"})})
        },
    }


def _feeds() -> dict[str, Any]:
    feed = {"$ref": "#/components/schemas/Feed"}
    unknown = {"404": _problem("There is no such feed.")}
    return {
        "/api/feeds": {
            "get": _operation(
                "All feeds, in people's order, and how each is doing.",
                {"200": _json("The feeds.", {"type": "array", "items": feed})},
            ),
            "post": {
                **_operation(
                    "Add a feed. It survives restarts.",
                    {
                        "201": _json("The new feed.", feed),
                        "400": _problem("A field does not fit; `field` names it."),
                        "415": _problem("The body is not declared as JSON."),
                    },
                ),
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/json": {"schema": {"$ref": "#/components/schemas/NewFeed"}}
                    },
                },
            },
        },
        "/api/feeds/{feed_id}": {
            "parameters": [_feed_id()],
            "get": _operation("One feed.", {"200": _json("The feed.", feed), **unknown}),
            "patch": {
                **_operation(
                    "Change a feed. It takes effect at once; what is not given stays.",
                    {
                        "200": _json("The feed.", feed),
                        "400": _problem("A field does not fit; `field` names it."),
                        "409": _problem("It is a browser's camera: only its name can be changed."),
                        "415": _problem("The body is not declared as JSON."),
                        **unknown,
                    },
                ),
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/json": {"schema": {"$ref": "#/components/schemas/FeedChange"}}
                    },
                },
            },
            "delete": _operation(
                "Remove a feed and all that is kept of it.",
                {"204": {"description": "It is gone."}, **unknown},
            ),
        },
        "/api/feeds/order": {
            "put": {
                **_operation(
                    "List these feeds first, in this order.",
                    {
                        "200": _json("All feeds.", {"type": "array", "items": feed}),
                        "400": _problem("The body is no list of ids, or names one twice."),
                        "404": _problem("One of them is no feed; the detail names it."),
                        "415": _problem("The body is not declared as JSON."),
                    },
                ),
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": {"type": "array", "items": _TEXT}}},
                },
            },
        },
        "/api/feeds/test": {
            "post": {
                **_changing(
                    "The first picture of a source, before it becomes a feed.",
                    {"source": _feed_fields()["source"]},
                    {
                        "200": {
                            "description": "The picture, at most 640 pixels wide. Where a feed has "
                            "the source open, it is that feed's newest, and Moodline-Feed its id.",
                            "headers": {"Moodline-Feed": {"schema": _TEXT}},
                            "content": {
                                "image/jpeg": {
                                    "schema": {"type": "string", "contentMediaType": "image/jpeg"}
                                }
                            },
                        },
                        "422": _problem("The source gives no picture; the detail says what to do."),
                        "429": _problem("Too many are being tried; see Retry-After."),
                        "503": _problem("No capture process runs."),
                        "504": _problem("The capture process gave no answer."),
                    },
                ),
            },
        },
        "/api/feeds/{feed_id}/timeline": {
            "parameters": [_feed_id()],
            "get": {
                **_operation(
                    "The scores of each face over the last seconds.",
                    {
                        "200": _json("The points.", {"$ref": "#/components/schemas/Timeline"}),
                        "400": _problem("`seconds` does not fit."),
                        **unknown,
                    },
                ),
                "parameters": [
                    {
                        "name": "seconds",
                        "in": "query",
                        "schema": {"type": "number", "exclusiveMinimum": 0, "default": 60},
                    }
                ],
            },
        },
    }


def _pictures() -> dict[str, Any]:
    picture = {"schema": {"type": "string", "contentMediaType": "image/jpeg"}}
    answers = {
        "404": _problem("There is no such feed."),
        "503": _problem("No picture has been analysed yet, or too many programs read MJPEG."),
    }
    return {
        "/api/feeds/{feed_id}/snapshot.jpg": {
            "parameters": [_feed_id()],
            "get": _operation(
                "The newest picture with the faces drawn in.",
                {
                    "200": {"description": "The picture.", "content": {"image/jpeg": picture}},
                    **answers,
                },
            ),
        },
        "/api/feeds/{feed_id}/stream.mjpg": {
            "parameters": [_feed_id()],
            "get": _operation(
                "The pictures with the faces drawn in, as MJPEG: always the newest.",
                {
                    "200": {
                        "description": "Pictures until the feed or the client goes.",
                        "content": {"multipart/x-mixed-replace": picture},
                    },
                    **answers,
                },
            ),
        },
    }


def _events() -> dict[str, Any]:
    rule = {"$ref": "#/components/schemas/Rule"}
    event = {"$ref": "#/components/schemas/Event"}
    no_rule = {"404": _problem("There is no such rule.")}
    no_event = {"404": _problem("There is no such event (any more).")}
    wrong = {
        "400": _problem("A field does not fit; `field` names it."),
        "415": _problem("The body is not declared as JSON."),
    }
    body = {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/NewRule"}}},
    }
    rule_id = {"name": "rule_id", "in": "path", "required": True, "schema": _TEXT}
    event_id = {"name": "event_id", "in": "path", "required": True, "schema": _TEXT}
    overview = _object(
        {
            "rules": {"type": "array", "items": rule},
            "labels": {
                "type": "array",
                "items": _TEXT,
                "description": "The emotions that rules can name; empty: no worker runs.",
            },
            "mqtt": {**_MAYBE_TEXT, "description": "The broker that events are published to."},
            "running": {"type": "boolean", "description": "Whether events are looked for."},
        }
    )
    asked = {
        "feed": {**_TEXT, "description": "Events of this feed alone."},
        "since": {**_NUMBER, "minimum": 0, "description": "Epoch seconds."},
        "limit": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100},
    }
    return {
        "/api/rules": {
            "get": _operation("All rules, oldest first.", {"200": _json("The rules.", overview)}),
            "post": {
                **_operation(
                    "Add a rule. It survives restarts.", {"201": _json("The rule.", rule), **wrong}
                ),
                "requestBody": body,
            },
        },
        "/api/rules/{rule_id}": {
            "parameters": [rule_id],
            "get": _operation("One rule.", {"200": _json("The rule.", rule), **no_rule}),
            "put": {
                **_operation(
                    "Replace a rule: what is left out goes back to its default.",
                    {"200": _json("The rule.", rule), **wrong, **no_rule},
                ),
                "requestBody": body,
            },
            "delete": _operation(
                "Remove a rule; its events stay.",
                {"204": {"description": "It is gone."}, **no_rule},
            ),
        },
        "/api/rules/{rule_id}/test": {
            "parameters": [rule_id],
            "post": _operation(
                "Send an event to the rule's targets that says it is a test.",
                {"202": _json("It; its deliveries tell how it goes.", event), **no_rule},
            ),
        },
        "/api/events": {
            "get": {
                **_operation(
                    "What has happened, newest first.",
                    {
                        "200": _json("The events.", {"type": "array", "items": event}),
                        "400": _problem("`since` or `limit` does not fit."),
                    },
                ),
                "parameters": [
                    {"name": name, "in": "query", "schema": schema}
                    for name, schema in asked.items()
                ],
            },
            "delete": _operation(
                "Delete all events with their pictures.", {"204": {"description": "They are gone."}}
            ),
        },
        "/api/events/{event_id}": {
            "parameters": [event_id],
            "get": _operation("One event.", {"200": _json("The event.", event), **no_event}),
            "delete": _operation(
                "Delete an event, its picture, and what was still to be delivered of it.",
                {"204": {"description": "It is gone."}, **no_event},
            ),
        },
        "/api/events/{event_id}/picture.jpg": {
            "parameters": [event_id],
            "get": _operation(
                "The picture in which it happened.",
                {
                    "200": {
                        "description": "The picture.",
                        "content": {
                            "image/jpeg": {
                                "schema": {"type": "string", "contentMediaType": "image/jpeg"}
                            }
                        },
                    },
                    "404": _problem("There is no such event, or no picture of it is kept."),
                },
            ),
        },
    }


def _rule_fields() -> dict[str, Any]:
    """What a rule has, as it is sent and as it is answered."""
    return {
        "name": {**_TEXT, "minLength": 1, "maxLength": events.MAX_NAME_LENGTH},
        "kind": {"enum": [kind.value for kind in events.RuleKind]},
        "emotion": {**_MAYBE_TEXT, "description": "A label; of emotion_over alone."},
        "share": {
            "type": ["number", "null"],
            "minimum": 0.01,
            "maximum": 0.99,
            "description": "What the emotion's score has to be above; of emotion_over alone.",
        },
        "for_s": {
            **_NUMBER,
            "minimum": 0,
            "maximum": events.MAX_FOR_S,
            "description": "How long it has to be so, in seconds.",
        },
        "feeds": {
            "type": ["array", "null"],
            "items": _TEXT,
            "maxItems": events.MAX_FEEDS,
            "description": "Ids of the feeds that are watched; null: all.",
        },
        "cooldown_s": {
            **_NUMBER,
            "minimum": 0,
            "maximum": events.MAX_COOLDOWN_S,
            "description": "For so long after an event the feed's next ones pass in silence.",
        },
        "picture": {"type": "boolean", "description": "Whether the picture is kept."},
        "enabled": {"type": "boolean"},
    }


def _recordings() -> dict[str, Any]:
    answer = {"$ref": "#/components/schemas/FeedRecording"}
    unknown = {"404": _problem("There is no such feed.")}
    start = _changing(
        "Record a feed from now on. The recording becomes a video.",
        {"name": {"type": ["string", "null"], "maxLength": video.MAX_NAME_LENGTH}},
        {
            "202": _json("It begins.", answer),
            "409": _problem("It is being recorded, is off or has ended, or nobody can record."),
            **unknown,
        },
    )
    start["requestBody"]["required"] = False
    start["requestBody"]["content"]["application/json"]["schema"]["required"] = []
    return {
        "/api/feeds/{feed_id}/recording": {
            "parameters": [_feed_id()],
            "get": _operation(
                "How the recording of a feed goes, and where recordings are kept.",
                {"200": _json("That.", answer), **unknown},
            ),
            "post": start,
            "delete": _operation(
                "Stop it. What was captured until now becomes a video.",
                {
                    "200": _json("It is being saved.", answer),
                    "404": _problem("There is no such feed, or it is not being recorded."),
                },
            ),
        }
    }


def _videos() -> dict[str, Any]:
    answer = {"$ref": "#/components/schemas/Video"}
    unknown = {"404": _problem("There is no such video.")}
    return {
        "/api/videos": {
            "get": _operation(
                "All videos, newest first, and how far each is.",
                {"200": _json("The videos.", {"type": "array", "items": answer})},
            ),
            "post": {
                **_operation(
                    "Hand a video in. It is looked into at once and analysed later.",
                    {
                        "202": _json("The video; Location is its address.", answer),
                        "400": _problem("A field does not fit; `field` names it."),
                        "413": _problem("The file is larger than is taken."),
                        "415": _problem("The body is no form."),
                        "422": _problem("The file is no video that can be analysed."),
                        "503": _problem("Too many files are being sent; see Retry-After."),
                        "507": _problem("The server's disk is full."),
                    },
                ),
                "requestBody": {
                    "required": True,
                    "content": {
                        "multipart/form-data": {"schema": {"$ref": "#/components/schemas/NewVideo"}}
                    },
                },
            },
        },
        "/api/videos/{video_id}": {
            "parameters": [_video_id()],
            "get": _operation("One video.", {"200": _json("The video.", answer), **unknown}),
            "patch": _changing(
                "Give a video another name.",
                {"name": {**_TEXT, "minLength": 1, "maxLength": video.MAX_NAME_LENGTH}},
                {"200": _json("The video.", answer), **unknown},
            ),
            "delete": _operation(
                "Remove a video, its report and all else that was made of it.",
                {"204": {"description": "It is gone."}, **unknown},
            ),
        },
        "/api/videos/{video_id}/cancel": {
            "parameters": [_video_id()],
            "post": _operation(
                "Stop the analysis; fine where it has ended already.",
                {"200": _json("The video.", answer), **unknown},
            ),
        },
        "/api/videos/{video_id}/retry": {
            "parameters": [_video_id()],
            "post": _operation(
                "Go on with a failed or cancelled video.",
                {
                    "200": _json("The video.", answer),
                    "409": _problem("It is neither."),
                    **unknown,
                },
            ),
        },
    }


def _uploads() -> dict[str, Any]:
    unknown = {"404": _problem("There is no such upload (any more).")}
    tus = {"description": "The tus protocol, https://tus.io/protocols/resumable-upload"}
    old = {"412": _problem("Tus-Resumable: 1.0.0 is missing.")}
    part_id = {"name": "part_id", "in": "path", "required": True, "schema": _TEXT}
    return {
        "/api/uploads": {
            "post": {
                **_operation(
                    "Begin an upload that can be resumed (tus 1.0, creation).",
                    {
                        "201": {"description": "Location is the address to send the file to."},
                        "400": _problem("A header does not fit; `field` names it."),
                        "413": _problem("The file is larger than is taken."),
                        "422": _problem("The file is empty."),
                        "507": _problem("The server's disk is full."),
                        **old,
                    },
                ),
                "parameters": [
                    _header("Upload-Length", _COUNT, "Bytes of the whole file."),
                    _header(
                        "Upload-Metadata",
                        _TEXT,
                        "filename, fps, start and end, each with its value in Base64.",
                        required=False,
                    ),
                ],
                "externalDocs": {"url": "https://tus.io", **tus},
            },
        },
        "/api/uploads/{part_id}": {
            "parameters": [part_id],
            "head": _operation(
                "How much has arrived: Upload-Offset; Moodline-Video is there when it is a video.",
                {
                    "200": {"description": "See the headers."},
                    "422": {
                        "description": "The file was no video; send the last piece to hear why."
                    },
                    "423": {"description": "Another request works on it: ask again."},
                    **unknown,
                    **old,
                },
            ),
            "patch": {
                **_operation(
                    "Send the next piece.",
                    {
                        "204": {
                            "description": "It is kept. With the last: Moodline-Video is the id."
                        },
                        "400": _problem("The connection broke, or an option does not fit."),
                        "409": _problem("Upload-Offset is not what has arrived."),
                        "413": _problem("More came than Upload-Length said."),
                        "415": _problem("The body is not application/offset+octet-stream."),
                        "422": _problem("The file is all there and no video."),
                        "423": _problem("Another request works on it: try again."),
                        "503": _problem("Too many files are being sent; see Retry-After."),
                        "507": _problem("The server's disk is full."),
                        **unknown,
                        **old,
                    },
                ),
                "parameters": [_header("Upload-Offset", _COUNT, "Where the piece begins.")],
                "requestBody": {
                    "required": True,
                    "content": {"application/offset+octet-stream": {}},
                },
            },
            "delete": _operation(
                "Give an upload up.",
                {"204": {"description": "What had arrived is gone."}, **unknown, **old},
            ),
        },
    }


def _reports() -> dict[str, Any]:
    none_yet = {
        "404": _problem("There is no such video, or no such file of it."),
        "409": _problem("There is no report yet; the detail says how the video is."),
    }
    in_part = {
        "206": {"description": "The part that Range asks for."},
        "304": {"description": "The copy with that ETag is still right."},
        "416": _problem("Range lies behind the end."),
    }
    made = {
        "202": _json(
            "It is being made: ask again.",
            _object({"state": {"const": "running"}, "progress": _SHARE}),
        ),
        "503": _problem("It could not be made."),
    }
    number = {
        name: {"name": name, "in": "path", "required": True, "schema": _COUNT}
        for name in ("number", "person")
    }

    def file(
        summary: str, kind: str, *parameters: dict[str, Any], answers: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        there = {"200": {"description": "The file.", "content": {kind: {}}}}
        return {
            "parameters": [_video_id(), *parameters, _download()],
            "get": _operation(summary, {**there, **in_part, **(answers or {}), **none_yet}),
        }

    blur = {"name": "blur", "in": "query", "schema": {"enum": ["0", "1"], "default": "0"}}
    base = "/api/videos/{video_id}"
    return {
        f"{base}/source": file("The file as it was handed in.", "video/*"),
        f"{base}/results.json": file("Every frame with its faces.", "application/json"),
        f"{base}/results.csv": file("A row for each face of each frame.", "text/csv"),
        f"{base}/summary.json": file("What the report page draws from.", "application/json"),
        f"{base}/boxes/{{number}}.json": file(
            "The boxes of ten seconds, for the overlay.", "application/json", number["number"]
        ),
        f"{base}/faces/{{person}}.jpg": file(
            "A person's best picture.", "image/jpeg", number["person"]
        ),
        f"{base}/annotated.mp4": file(
            "The video with boxes and names; made when first asked for.",
            "video/mp4",
            blur,
            answers=made,
        ),
        f"{base}/preview.mp4": file(
            "A copy that browsers play; made when first asked for.", "video/mp4", answers=made
        ),
        f"{base}/summary.pdf": file(
            "The report on one page; made when first asked for.", "application/pdf", answers=made
        ),
    }


def _people() -> dict[str, Any]:
    edits = {"200": _json("All edits of people.", {"$ref": "#/components/schemas/People"})}
    wrong = {
        "404": _problem("There is no such video or person."),
        "409": _problem("There is no report yet, or these are two people: see the detail."),
    }
    person = {"name": "person", "in": "path", "required": True, "schema": _COUNT}
    base = "/api/videos/{video_id}/people/{person}"
    return {
        base: {
            "parameters": [_video_id(), person],
            "patch": _changing(
                "Name a person of the report; null: no name.",
                {
                    "name": {
                        "type": ["string", "null"],
                        "maxLength": video.MAX_PERSON_NAME_LENGTH,
                    }
                },
                {**edits, **wrong},
            ),
        },
        f"{base}/merge": {
            "parameters": [_video_id(), person],
            "post": _changing(
                "Say that this number is the person `into`.",
                {"into": {"type": "integer"}},
                {**edits, **wrong},
            ),
            "delete": _operation("Undo that.", {**edits, **wrong}),
        },
    }


def _schemas() -> dict[str, Any]:
    return {
        "NewVideo": {
            "type": "object",
            "required": ["file"],
            "additionalProperties": False,
            "properties": {
                "file": {"type": "string", "contentMediaType": "application/octet-stream"},
                "fps": {
                    **_NUMBER,
                    "exclusiveMinimum": 0,
                    "maximum": video.MAX_SAMPLED_FPS,
                    "description": "Frames per second to analyse; without it, every frame.",
                },
                "start": {**_NUMBER, "minimum": 0, "description": "Seconds from the beginning."},
                "end": {**_NUMBER, "description": "Seconds from the beginning."},
            },
        },
        "Video": _object(
            {
                "id": _TEXT,
                "name": _TEXT,
                "status": {"enum": [status.value for status in video.VideoStatus]},
                "progress": _SHARE,
                "frames_total": {
                    "type": ["integer", "null"],
                    "description": "Frames to analyse; null until that is known.",
                },
                "frames_done": _COUNT,
                "eta_s": {**_MAYBE_NUMBER, "description": "Seconds left; null: not known."},
                "error": {"type": ["string", "null"]},
                "created_at": {**_NUMBER, "description": "Epoch seconds."},
                "finished_at": {**_MAYBE_NUMBER, "description": "Epoch seconds."},
                "size_bytes": _COUNT,
                "duration_s": {**_MAYBE_NUMBER, "description": "null: the file does not say."},
                "width": _COUNT,
                "height": _COUNT,
                "fps": {**_MAYBE_NUMBER, "description": "null: the file does not say."},
                "playable": {"type": "boolean", "description": "Browsers play it as it is."},
                "has_sound": {"type": "boolean"},
                "options": _object(
                    {"fps": _MAYBE_NUMBER, "start_s": _NUMBER, "end_s": _MAYBE_NUMBER}
                ),
                "updating": {
                    "type": "boolean",
                    "description": "Edits of people are not in the report yet.",
                },
                "recorded": _or_null(
                    {
                        "feed": {**_TEXT, "description": "The feed's name."},
                        "began_at": {**_NUMBER, "description": "Epoch seconds."},
                        "missed": _COUNT,
                        "ending": {"enum": [ending.value for ending in Ending]},
                    },
                    "Of a video that was recorded from a live feed.",
                ),
                "exports": {
                    "type": "object",
                    "description": "The files that were asked for.",
                    "propertyNames": {"enum": [kind.value for kind in video.ExportKind]},
                    "additionalProperties": _object(
                        {
                            "state": {"enum": [state.value for state in video.ExportState]},
                            "progress": _SHARE,
                            "error": {"type": ["string", "null"]},
                        }
                    ),
                },
            }
        ),
        "People": _object(
            {
                "revision": {**_COUNT, "description": "Rises with every edit; see summary.json."},
                "names": {"type": "object", "additionalProperties": _TEXT},
                "merged": {
                    "type": "object",
                    "description": "Number to the person it belongs to.",
                    "additionalProperties": _COUNT,
                },
            }
        ),
        "NewFeed": {
            "type": "object",
            "required": ["source"],
            "additionalProperties": False,
            "properties": _feed_fields(),
        },
        "FeedChange": {
            "type": "object",
            "additionalProperties": False,
            "properties": _feed_fields(),
        },
        "Feed": _object(
            {
                "id": _TEXT,
                "name": _TEXT,
                "source": {**_TEXT, "description": "Without credentials."},
                "kind": {"enum": ["webcam", "stream", "file", "folder", "demo", "browser"]},
                "status": {"enum": [state.value for state in FeedState]},
                "error": {"type": ["string", "null"]},
                "error_kind": _error_kind(),
                "fps_in": _NUMBER,
                "fps_analysed": _NUMBER,
                "captured": _COUNT,
                "analysed": _COUNT,
                "dropped": _COUNT,
                "drops": _object({drop.value: _COUNT for drop in Drop}),
                "aside": {
                    "type": ["string", "null"],
                    "description": "Why the last corrupt frame could not be analysed.",
                },
                "degraded": {
                    "enum": [step.value for step in Degraded],
                    "description": "What is left out while more frames come than can be analysed.",
                },
                "reconnects": _COUNT,
                "latency_ms": _object({"p50": _MAYBE_NUMBER, "p95": _MAYBE_NUMBER}),
                "viewers": _COUNT,
                "fps": {**_NUMBER, "description": "Frames per second captured at most."},
                "loop": {
                    "type": "boolean",
                    "description": "Whether a file or folder starts again at its end.",
                },
                "width": {"type": "integer", "description": "Pixels captured across, at most."},
                "enabled": {"type": "boolean", "description": "Whether it is captured."},
                "created_at": {**_NUMBER, "description": "Epoch seconds."},
                **_of_recording(),
            }
        ),
        "FeedRecording": _object(
            {
                **_of_recording(),
                "kept_in": {**_TEXT, "description": "The storage of videos."},
                "kept_days": {**_MAYBE_NUMBER, "description": "null: until somebody deletes it."},
                "longest_h": {**_NUMBER, "description": "Hours after which it ends by itself."},
            }
        ),
        "NewRule": {
            "type": "object",
            "required": ["kind"],
            "additionalProperties": False,
            "properties": {
                **_rule_fields(),
                "webhooks": {
                    "type": "array",
                    "maxItems": events.MAX_WEBHOOKS,
                    "items": {
                        "type": "object",
                        "additionalProperties": False,
                        "properties": {
                            "url": {**_TEXT, "description": "Of a new webhook."},
                            "id": {**_TEXT, "description": "Of one that stays as it is."},
                            "secret": {**_TEXT, "description": "Signs what is sent."},
                        },
                    },
                },
            },
        },
        "Rule": _object(
            {
                "id": _TEXT,
                **_rule_fields(),
                "webhooks": {
                    "type": "array",
                    "items": _object(
                        {
                            "id": _TEXT,
                            "url": {**_TEXT, "description": "Scheme and host alone."},
                            "signed": {"type": "boolean"},
                        }
                    ),
                },
                "created_at": {**_NUMBER, "description": "Epoch seconds."},
            }
        ),
        "Event": _object(
            {
                "id": {**_TEXT, "description": "The same at every attempt to deliver it."},
                "rule": {**_TEXT, "description": "The rule's id."},
                "name": {**_TEXT, "description": "The rule's name then."},
                "kind": {"enum": [kind.value for kind in events.RuleKind]},
                "feed": {**_TEXT, "description": "The feed's id; empty in a test."},
                "feed_name": _TEXT,
                "at": {**_NUMBER, "description": "When it was captured, in epoch seconds."},
                "track": {"type": ["integer", "null"], "description": "The face it is about."},
                "emotion": _MAYBE_TEXT,
                "value": {**_MAYBE_NUMBER, "description": "The emotion's score then."},
                "box": {
                    "type": ["array", "null"],
                    "items": {"type": "integer"},
                    "description": "Where the face was: [x, y, width, height] in pixels.",
                },
                "test": {"type": "boolean", "description": "Nothing happened: somebody tries."},
                "picture": {**_MAYBE_TEXT, "description": "Address of the picture, if kept."},
                "deliveries": {
                    "type": "array",
                    "items": _object(
                        {
                            "to": _TEXT,
                            "state": {"enum": [state.value for state in events.DeliveryState]},
                            "attempts": _COUNT,
                            "at": {
                                **_MAYBE_NUMBER,
                                "description": "Of success, of giving up, or of the first failure.",
                            },
                            "reason": _MAYBE_TEXT,
                        }
                    ),
                },
            }
        ),
        "Timeline": _object(
            {
                "labels": {"type": "array", "items": _TEXT},
                "unsure_below": {
                    **_NUMBER,
                    "description": "A frame whose largest score is below this is unsure.",
                },
                "resolution_s": {
                    "type": "integer",
                    "description": "Seconds that a point is the mean of; 0: a point is a frame.",
                },
                "tracks": {
                    "type": "array",
                    "items": _object(
                        {
                            "track": {"type": "integer", "minimum": 1},
                            "points": {
                                "type": "array",
                                "description": "[epoch seconds, a score for each label]",
                                "items": {"type": "array", "items": _NUMBER},
                            },
                            "unsure": {
                                "type": "array",
                                "description": "Of each point, the share of its frames in which "
                                "the model was unsure.",
                                "items": {"type": "number", "minimum": 0, "maximum": 1},
                            },
                        }
                    ),
                },
            }
        ),
        "Problem": {
            "type": "object",
            "required": ["type", "title", "status", "detail"],
            "properties": {
                "type": _TEXT,
                "title": _TEXT,
                "status": {"type": "integer"},
                "detail": {**_TEXT, "description": "What was wrong and what to do."},
                "field": {**_TEXT, "description": "The field of the request that was wrong."},
                "error_kind": _error_kind(),
                "source": {**_TEXT, "description": "The source that was tried, masked."},
            },
        },
    }


def _feed_fields() -> dict[str, Any]:
    """What a feed can be given; null: what it has that was given nothing."""
    return {
        "source": {
            "type": ["string", "integer"],
            "description": "A webcam number, an rtsp:// or http:// address, a video file, "
            "a folder of images, or 'demo'.",
        },
        "name": {"type": ["string", "null"], "maxLength": MAX_NAME_LENGTH},
        "fps": {
            "type": ["number", "null"],
            "exclusiveMinimum": 0,
            "maximum": MAX_FPS,
            "description": "Frames per second captured at most.",
        },
        "width": {
            "type": ["integer", "null"],
            "minimum": MIN_WIDTH,
            "maximum": MAX_WIDTH,
            "description": "Pixels captured across, at most.",
        },
        "loop": {
            "type": ["boolean", "null"],
            "description": "Whether a file or folder starts again at its end.",
        },
        "enabled": {"type": "boolean", "description": "Whether it is captured."},
    }


def _of_recording() -> dict[str, Any]:
    return {
        "recording": _or_null(
            {
                "state": {"enum": [state.value for state in RecordingState]},
                "since": {**_MAYBE_NUMBER, "description": "Epoch seconds of its first frame."},
                "frames": _COUNT,
                "missed": {**_COUNT, "description": "Frames captured meanwhile and not in it."},
            },
            "The recording that goes on.",
        ),
        "recorded": _or_null(
            {
                "video": {"type": ["string", "null"], "description": "null: nothing came."},
                "name": _TEXT,
                "ending": {"enum": [ending.value for ending in Ending]},
                "frames": _COUNT,
                "missed": _COUNT,
            },
            "What became of the last one, for ten minutes.",
        ),
    }


def _operation(
    summary: str, responses: dict[str, Any], *, open_to_all: bool = False
) -> dict[str, Any]:
    if open_to_all:
        return {"summary": summary, "responses": responses, "security": []}
    refused = {
        "401": _problem("A password is set, and the request shows neither it nor a session."),
        "403": _problem("The Host is not this server's, or a foreign page asks."),
    }
    return {"summary": summary, "responses": {**responses, **refused}}


def _changing(summary: str, fields: dict[str, Any], responses: dict[str, Any]) -> dict[str, Any]:
    """An operation that takes a JSON object with these fields and no other."""
    wrong = {
        "400": _problem("A field does not fit; `field` names it."),
        "415": _problem("The body is not declared as JSON."),
    }
    schema = {**_object(fields), "additionalProperties": False}
    return {
        **_operation(summary, {**responses, **wrong}),
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
    }


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}


def _or_null(properties: dict[str, Any], description: str) -> dict[str, Any]:
    return {"anyOf": [_object(properties), {"type": "null"}], "description": description}


def _json(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _problem(description: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": description, "content": {"application/problem+json": {"schema": schema}}}


def _error_kind() -> dict[str, Any]:
    return {
        "enum": [*(trouble.value for trouble in Trouble), None],
        "description": "The kind of the error with a source, where it has one.",
    }


def _feed_id() -> dict[str, Any]:
    return {"name": "feed_id", "in": "path", "required": True, "schema": _TEXT}


def _video_id() -> dict[str, Any]:
    return {"name": "video_id", "in": "path", "required": True, "schema": _TEXT}


def _download() -> dict[str, Any]:
    return {
        "name": "download",
        "in": "query",
        "schema": {"enum": ["0", "1"], "default": "0"},
        "description": "1: a browser saves the file instead of showing it.",
    }


def _header(
    name: str, schema: dict[str, Any], description: str, *, required: bool = True
) -> dict[str, Any]:
    return {
        "name": name,
        "in": "header",
        "required": required,
        "schema": schema,
        "description": description,
    }
