"""The one password: who knows it, for how long that counts, and how often one may guess.

Where a password is set, a request shows a session cookie (from the login page) or the password
itself (``Authorization: Bearer``, for programs). A session is a signed time, good for thirty days
and until the password changes; the signing key lies in the data folder, so logins survive
restarts, or is a setting, so that several web processes know one another's logins. After a few
wrong guesses an address has to wait, ever longer, up to a minute.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import re
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from http import HTTPStatus

from flask import Blueprint, Response, make_response, redirect, render_template, request
from itsdangerous import BadSignature, TimestampSigner
from werkzeug.wrappers import Response as BaseResponse

from shared.config import Settings
from shared.errors import ConfigError
from web.language import words

COOKIE = "moodline_session"
_SESSION_S = 30 * 24 * 3600
_FREE_GUESSES = 5
_LONGEST_WAIT_S = 60.0
_FORGOTTEN_AFTER_S = 900.0
_MAX_ADDRESSES = 4096
_PAGE = re.compile(r"/(?:cameras|events|videos(?:/[0-9a-f]{16})?)?(?:\?[\w.=&%-]*)?", re.ASCII)


class Guesses:
    """Counts wrong passwords per address and says how long that address has to wait."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._wrong: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def wait_s(self, address: str) -> float:
        """Seconds until this address may guess again; 0: now."""
        with self._lock:
            count, last = self._wrong.get(_network(address), (0, 0.0))
            since = self._clock() - last
        if count < _FREE_GUESSES or since > _FORGOTTEN_AFTER_S:
            return 0.0
        return max(0.0, min(2.0 ** (count - _FREE_GUESSES + 1), _LONGEST_WAIT_S) - since)

    def wrong(self, address: str) -> None:
        """A guess from this address was wrong."""
        key = _network(address)
        with self._lock:
            count, last = self._wrong.pop(key, (0, 0.0))
            if self._clock() - last > _FORGOTTEN_AFTER_S:
                count = 0
            self._wrong[key] = (count + 1, self._clock())
            while len(self._wrong) > _MAX_ADDRESSES:
                self._wrong.popitem(last=False)

    def right(self, address: str) -> None:
        """A guess from this address was right."""
        with self._lock:
            self._wrong.pop(_network(address), None)


class Sessions:
    """Checks passwords and session cookies; everything passes where no password is set."""

    def __init__(self, settings: Settings) -> None:
        self.guesses = Guesses()
        self.required = settings.password is not None
        if settings.password is not None:
            password = settings.password.get_secret_value()
            self._digest = _digest(password)
            self._signer = TimestampSigner(_key(settings) + self._digest, salt="moodline-session")

    def is_password(self, text: str) -> bool:
        """Whether this is the password, in a time that tells nothing of it."""
        return hmac.compare_digest(_digest(text), self._digest)

    def new_cookie(self) -> str:
        return self._signer.sign(b"in").decode()

    def is_valid(self, cookie: str) -> bool:
        try:
            self._signer.unsign(cookie, max_age=_SESSION_S)
        except BadSignature:
            return False
        return True


def blueprint(sessions: Sessions) -> Blueprint:
    """The login page and the way out."""
    bp = Blueprint("session", __name__)

    @bp.get("/login")
    def login() -> BaseResponse:
        if not sessions.required or sessions.is_valid(request.cookies.get(COOKIE, "")):
            return redirect(_wanted_page())
        return make_response(render_template("login.html", error="", to=_wanted_page()))

    @bp.post("/login")
    def enter() -> BaseResponse:
        if not sessions.required:
            return redirect("/")
        address = request.remote_addr or ""
        wait_s = sessions.guesses.wait_s(address)
        if wait_s > 0:
            answer = _refused(words()["wait"].format(f"{wait_s:.0f}"), HTTPStatus.TOO_MANY_REQUESTS)
            answer.headers["Retry-After"] = f"{wait_s:.0f}"
            return answer
        if not sessions.is_password(request.form.get("password", "")):
            sessions.guesses.wrong(address)
            return _refused(words()["wrong_password"], HTTPStatus.UNAUTHORIZED)
        sessions.guesses.right(address)
        entered = redirect(_wanted_page(), HTTPStatus.SEE_OTHER)
        entered.set_cookie(
            COOKIE,
            sessions.new_cookie(),
            max_age=_SESSION_S,
            secure=request.is_secure,
            httponly=True,
            samesite="Strict",
        )
        return entered

    @bp.post("/logout")
    def leave() -> BaseResponse:
        left = redirect("/login", HTTPStatus.SEE_OTHER)
        left.delete_cookie(COOKIE, secure=request.is_secure, httponly=True, samesite="Strict")
        return left

    return bp


def _refused(error: str, status: HTTPStatus) -> Response:
    return make_response(render_template("login.html", error=error, to=_wanted_page()), status)


def _wanted_page() -> str:
    """The page that the login was asked for from, if it is one of ours; else the dashboard."""
    wanted = request.args.get("to", "")
    return wanted if _PAGE.fullmatch(wanted) else "/"


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _network(address: str) -> str:
    """The address, or for IPv6 its /64: one person has all of those."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((ip, 64 if ip.version == 6 else 32), strict=False))


def _key(settings: Settings) -> bytes:
    """The key of the setting, else the data folder's: made at first use, for this user only."""
    if settings.session_key is not None:
        return settings.session_key.get_secret_value().encode()
    path = settings.data_dir / "session.key"
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            key = path.read_bytes()
        else:
            key = secrets.token_bytes(32)
            with os.fdopen(handle, "wb") as file:
                file.write(key)
    except OSError as error:
        raise ConfigError(
            f"The key for logins at {path} cannot be read or made ({error.strerror}): "
            "give this user the right to write there, or set MOODLINE_DATA_DIR."
        ) from error
    if len(key) < 32:
        raise ConfigError(f"The key for logins at {path} is too short: delete that file.")
    return key
