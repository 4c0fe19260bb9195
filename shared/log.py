"""Structured logs: one event a line, quiet by default, without credentials.

On a terminal for people, elsewhere as JSON for programs. Whatever other libraries log goes through
the same door.
"""

from __future__ import annotations

import logging
import re
import sys

import structlog
from structlog.types import EventDict, Processor, WrappedLogger

from shared.source import mask_address

_ADDRESS = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://\S+")
# Chatty at their own defaults; what they say at warning and above is shown.
_LIBRARIES = ("rq", "werkzeug", "gunicorn", "socketio", "engineio", "PIL", "libav")


def configure(level: str, role: str) -> None:
    """Send every log line of this process to stderr; `role` says which process speaks."""
    shared: list[Processor] = [
        _from_role(role),
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        mask_credentials,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    renderer: Processor = (
        structlog.dev.ConsoleRenderer()
        if sys.stderr.isatty()
        else structlog.processors.JSONRenderer()
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _LIBRARIES:
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
        library.setLevel(max(root.level, logging.WARNING))


def _from_role(role: str) -> Processor:
    """Name the process in each event, whichever thread it comes from."""

    def add_role(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["role"] = role
        return event

    return add_role


def mask_credentials(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Hide user and password of every address in every text of an event."""
    for key, value in event.items():
        if isinstance(value, str) and "://" in value:
            event[key] = _ADDRESS.sub(lambda found: mask_address(found.group()), value)
    return event
