"""The dashboard and its API: a Flask application around the bus.

It draws no conclusions: workers analyse, this package shows. It imports no OpenCV, TensorFlow or
LiteRT, so a web process stays small.
"""

from __future__ import annotations

import secrets

from flask import Flask
from flask_socketio import SocketIO

from shared.bus import Bus
from shared.config import Settings
from shared.event_bus import EventBus
from shared.jobs import Jobs
from shared.media import Media
from shared.recording_bus import RecordingBus
from shared.videos import Videos
from web import (
    events,
    feeds,
    form,
    health,
    language,
    pages,
    people,
    pictures,
    problem,
    recordings,
    report,
    session,
    timelines,
    trials,
    uploads,
    videos,
)
from web.bodies import Bodies
from web.cameras import Cameras
from web.follower import Follower
from web.guard import Guard
from web.intake import Intake
from web.live import Live
from web.parts import Parts

_MAX_BODY_BYTES = 64 * 1024  # of a request; the routes that take videos say so themselves
_MAX_MESSAGE_BYTES = 512 * 1024  # of a Socket.IO client: a camera's picture; text is held shorter


def create_app(settings: Settings, bus: Bus) -> Flask:
    """The application; `app.extensions["moodline"]` holds what must be closed: see `close_app`.

    Raises ConfigError where a password is set and the data folder cannot hold the session key.
    """
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = _MAX_BODY_BYTES
    app.json.sort_keys = False  # type: ignore[attr-defined]  # the default provider has it
    socketio = SocketIO(
        app,
        async_mode="threading",
        cors_allowed_origins=[],  # the guard decides, and no CORS header is ever sent
        manage_session=False,
        max_http_buffer_size=_MAX_MESSAGE_BYTES,
        ping_interval=10,
        ping_timeout=10,
    )
    name, jobs = f"web-{secrets.token_hex(4)}", Jobs(bus.url)
    follower = Follower(bus, name)
    cameras = Cameras(settings, bus, jobs, name)
    recording_bus = RecordingBus(bus.url)
    live = Live(socketio, bus, recording_bus, follower, cameras)
    sessions = session.Sessions(settings)
    kept = Videos(bus.url, Media(settings.media_address), jobs)
    bodies, parts = Bodies(settings.max_upload_mb), Parts(settings.data_dir)
    intake = Intake(kept)
    event_bus = EventBus(bus.url)
    event_relay = events.EventRelay(socketio, event_bus)
    problem.register(app)
    for blueprint in (
        language.blueprint(),
        pages.blueprint(sessions),
        session.blueprint(sessions),
        health.blueprint(bus, live, kept, jobs, event_bus, recording_bus, intake),
        feeds.blueprint(settings, bus, recording_bus),
        recordings.blueprint(settings, bus, recording_bus),
        timelines.blueprint(settings, bus),
        trials.blueprint(bus),
        pictures.blueprint(bus, follower),
        events.blueprint(settings, bus, event_bus),
        videos.blueprint(kept),
        report.blueprint(kept),
        people.blueprint(kept),
        form.blueprint(bodies, parts, intake, kept),
        uploads.blueprint(bodies, parts, intake),
    ):
        app.register_blueprint(blueprint)
    app.extensions["moodline"] = (
        *(live, cameras, follower, intake, parts, kept),
        *(event_relay, event_bus, recording_bus),
    )
    app.wsgi_app = Guard(app.wsgi_app, settings, sessions)  # type: ignore[method-assign]
    return app


def close_app(app: Flask) -> None:
    """End the threads of an application."""
    for part in app.extensions["moodline"]:
        part.close()
