"""What the HTTP API takes and answers, as OpenAPI 3.1; a test holds it to the routes."""

from __future__ import annotations

from typing import Any

from shared.schema import MAX_FPS, MAX_NAME_LENGTH, Drop, FeedState

_NUMBER = {"type": "number"}
_COUNT = {"type": "integer", "minimum": 0}
_TEXT = {"type": "string"}
_MAYBE_NUMBER = {"type": ["number", "null"]}


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
        "paths": {**_health(), **_feeds(), **_pictures()},
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
                "All feeds, oldest first, and how each is doing.",
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
            "delete": _operation(
                "Remove a feed and all that is kept of it.",
                {"204": {"description": "It is gone."}, **unknown},
            ),
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


def _schemas() -> dict[str, Any]:
    return {
        "NewFeed": {
            "type": "object",
            "required": ["source"],
            "additionalProperties": False,
            "properties": {
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
                "loop": {
                    "type": "boolean",
                    "default": True,
                    "description": "Whether a file or folder starts again at its end.",
                },
            },
        },
        "Feed": _object(
            {
                "id": _TEXT,
                "name": _TEXT,
                "source": {**_TEXT, "description": "Without credentials."},
                "kind": {"enum": ["webcam", "stream", "file", "folder", "demo", "browser"]},
                "status": {"enum": [state.value for state in FeedState]},
                "error": {"type": ["string", "null"]},
                "fps_in": _NUMBER,
                "fps_analysed": _NUMBER,
                "captured": _COUNT,
                "analysed": _COUNT,
                "dropped": _COUNT,
                "drops": _object({drop.value: _COUNT for drop in Drop}),
                "reconnects": _COUNT,
                "latency_ms": _object({"p50": _MAYBE_NUMBER, "p95": _MAYBE_NUMBER}),
                "viewers": _COUNT,
                "fps": {**_NUMBER, "description": "Frames per second captured at most."},
                "loop": {
                    "type": "boolean",
                    "description": "Whether a file or folder starts again at its end.",
                },
                "width": {"type": "integer", "description": "Pixels captured across, at most."},
                "created_at": {**_NUMBER, "description": "Epoch seconds."},
            }
        ),
        "Timeline": _object(
            {
                "labels": {"type": "array", "items": _TEXT},
                "unsure_below": {
                    **_NUMBER,
                    "description": "A point whose largest score is below this is unsure.",
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
            },
        },
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


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}


def _json(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _problem(description: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": description, "content": {"application/problem+json": {"schema": schema}}}


def _feed_id() -> dict[str, Any]:
    return {"name": "feed_id", "in": "path", "required": True, "schema": _TEXT}
