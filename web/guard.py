"""One door around everything, Socket.IO included: who may ask, from where, and with what headers.

- The Host must be one that this server is reached by, so that no foreign name that was bound to
  this machine's address (DNS rebinding) can read answers. Ports do not matter: they get mapped.
- What changes something, and every Socket.IO connection, passes when it comes from no page (a
  program sends no Origin) or from a page of this very origin. Other pages may link here and
  nothing else: neither read nor embed.
- Where a password is set, every route but ``/healthz``, the login, its language and its assets
  wants a session cookie or ``Authorization: Bearer``.
- Answers carry a Content-Security-Policy that allows this origin's own files and no inline script.

Only the Host header says what this server is called: X-Forwarded-Host is anybody's claim. Behind a
proxy, let it pass on Host, and name that host in MOODLINE_ALLOWED_HOSTS. Who asks, and whether over
TLS, is believed of a proxy that MOODLINE_TRUSTED_PROXIES names, and of nobody else.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from flask import Response

from shared.config import Settings
from web.problem import problem
from web.session import COOKIE, Sessions

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_LOCAL = ("localhost", "127.0.0.1", "::1")
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_OPEN_PATHS = ("/healthz", "/login", "/language")
_OPEN_FOLDER = "/assets/"
_SOCKET_PATH = "/socket.io/"
_PAGES = ("/", "/videos", "/cameras", "/events")
_PAGES_FOLDER = "/videos/"
_HOST = re.compile(
    r"^(?:\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<name>[^\[\]:/@?#\s]+))(?::(?P<port>\d{1,5}))?$"
)
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_HEADERS = (
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        "media-src 'self' blob:; connect-src 'self'; worker-src 'self'; manifest-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Permissions-Policy", "camera=(self), microphone=(), geolocation=(), payment=(), usb=()"),
)


class Guard:
    """WSGI middleware; the outermost one."""

    def __init__(self, app: WSGIApplication, settings: Settings, sessions: Sessions) -> None:
        self._app = app
        self._sessions = sessions
        self._hosts = {*_LOCAL, _plain(settings.host), *map(_without_port, settings.allowed_hosts)}
        self._proxies = [
            ipaddress.ip_network(part, strict=False) for part in settings.trusted_proxies
        ]
        self._any_address = settings.listens_beyond_this_machine
        if self._any_address:
            name = socket.gethostname().lower()
            self._hosts |= {name, f"{name.partition('.')[0]}.local"}

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        def start_with_headers(
            status: str,
            headers: list[tuple[str, str]],
            exc_info: tuple[type[BaseException], BaseException, TracebackType]
            | tuple[None, None, None]
            | None = None,
            /,
        ) -> Any:
            given = {name.lower() for name, _ in headers}
            more = [(name, value) for name, value in _HEADERS if name.lower() not in given]
            if "cache-control" not in given:
                more.append(("Cache-Control", "no-store"))
            return start_response(status, [*headers, *more], exc_info)

        if self._is_proxy(environ.get("REMOTE_ADDR", "")):
            self._see_through_proxies(environ)
        refusal = self._foreign(environ) or self._stranger(environ)
        if refusal is not None:
            return refusal(environ, start_with_headers)
        # JPEG does not shrink: a WebSocket that compresses would only spend processor time on it.
        environ.pop("HTTP_SEC_WEBSOCKET_EXTENSIONS", None)
        return self._app(environ, start_with_headers)

    def _is_proxy(self, address: str) -> bool:
        try:
            ip = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(ip in network for network in self._proxies)

    def _see_through_proxies(self, environ: WSGIEnvironment) -> None:
        """Put the client's address and scheme in the place of the proxy's.

        Each proxy adds the address that it was asked from: the last one that is no proxy's is true,
        and whatever stands before it is the client's own claim.
        """
        for address in reversed(environ.get("HTTP_X_FORWARDED_FOR", "").split(",")):
            if not _is_ip(address.strip()):
                break
            environ["REMOTE_ADDR"] = address.strip()
            if not self._is_proxy(address.strip()):
                break
        if environ.get("HTTP_X_FORWARDED_PROTO", "").strip().lower() == "https":
            environ["wsgi.url_scheme"] = "https"

    def _foreign(self, environ: WSGIEnvironment) -> Response | None:
        """A refusal for a request by the wrong name or from somebody else's page."""
        host = _parse_host(environ.get("HTTP_HOST", ""))
        if host is None or not self._is_ours(host[0]):
            return problem(
                HTTPStatus.FORBIDDEN,
                "This server is not reached by that Host name: use localhost, or add the name to "
                "MOODLINE_ALLOWED_HOSTS.",
            )
        origin = environ.get("HTTP_ORIGIN")
        site = environ.get("HTTP_SEC_FETCH_SITE")
        own_page = (
            _is_origin_of(origin, environ) if origin else site in (None, "none", "same-origin")
        )
        changes = environ["REQUEST_METHOD"] not in _SAFE_METHODS
        if own_page and not (changes and site in ("cross-site", "same-site")):
            return None
        path = environ.get("PATH_INFO", "")
        followed_link = not changes and environ.get("HTTP_SEC_FETCH_MODE") == "navigate"
        framed = environ.get("HTTP_SEC_FETCH_DEST") not in (None, "document")
        if followed_link and not framed and not path.startswith(_SOCKET_PATH):
            return None
        return problem(
            HTTPStatus.FORBIDDEN,
            "A page of another origin may not do this: open Moodline by its own address. "
            "Behind a proxy, let it pass on the Host header.",
        )

    def _is_ours(self, name: str) -> bool:
        if name in self._hosts:
            return True
        # A page cannot be bound to a foreign name and sent here by number at once.
        return self._any_address and _is_ip(name)

    def _stranger(self, environ: WSGIEnvironment) -> Response | None:
        """A refusal for a request that shows neither session nor password where one is set."""
        path = environ.get("PATH_INFO", "")
        if not self._sessions.required or path in _OPEN_PATHS or path.startswith(_OPEN_FOLDER):
            return None
        authorization = environ.get("HTTP_AUTHORIZATION", "")
        if authorization[:7].lower() == "bearer ":
            return self._check_bearer(authorization[7:].strip(), environ.get("REMOTE_ADDR", ""))
        if self._sessions.is_valid(_cookie(environ)):
            return None
        if (path in _PAGES or path.startswith(_PAGES_FOLDER)) and environ["REQUEST_METHOD"] in (
            "GET",
            "HEAD",
        ):
            wanted = path + (f"?{query}" if (query := environ.get("QUERY_STRING", "")) else "")
            back = "" if wanted == "/" else f"?{urlencode({'to': wanted})}"
            return Response(status=HTTPStatus.FOUND, headers={"Location": f"/login{back}"})
        return _unauthorized("Log in at /login, or send the password as `Authorization: Bearer`.")

    def _check_bearer(self, password: str, address: str) -> Response | None:
        wait_s = self._sessions.guesses.wait_s(address)
        if wait_s > 0:
            answer = problem(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"Too many wrong passwords from {address}: wait {wait_s:.0f} s.",
            )
            answer.headers["Retry-After"] = f"{wait_s:.0f}"
            return answer
        # WSGI hands headers over as Latin-1; passwords are UTF-8.
        if self._sessions.is_password(password.encode("latin-1").decode("utf-8", "replace")):
            self._sessions.guesses.right(address)
            return None
        self._sessions.guesses.wrong(address)
        return _unauthorized("The password in `Authorization: Bearer` is wrong.")


def _unauthorized(detail: str) -> Response:
    answer = problem(HTTPStatus.UNAUTHORIZED, detail)
    answer.headers["WWW-Authenticate"] = 'Bearer realm="Moodline"'
    return answer


def _plain(host: str) -> str:
    return host.strip().lower().removeprefix("[").removesuffix("]").rstrip(".")


def _without_port(host: str) -> str:
    """The name alone of a host that was set, perhaps as it stands in the address bar."""
    parsed = _parse_host(host)
    return parsed[0] if parsed else _plain(host)


def _parse_host(header: str) -> tuple[str, str] | None:
    """Name and port ("" if none) of a Host header; None for what is none."""
    match = _HOST.match(header)
    if match is None:
        return None
    return _plain(match["v6"] or match["name"]), match["port"] or ""


def _is_origin_of(origin: str, environ: WSGIEnvironment) -> bool:
    """Whether `origin` is this very server, by the name and port it was asked by.

    The scheme may differ: a proxy that ends TLS speaks http to this server. Some clients send the
    header twice, which arrives with a comma between: each must be this server.
    """
    host = _parse_host(environ.get("HTTP_HOST", ""))
    for each in origin.split(","):
        try:
            parts = urlsplit(each.strip())
        except ValueError:
            return False
        theirs = _parse_host(parts.netloc)
        if host is None or theirs is None or parts.scheme not in _DEFAULT_PORTS:
            return False
        default = _DEFAULT_PORTS[parts.scheme]
        if (host[0], host[1] or default) != (theirs[0], theirs[1] or default):
            return False
    return True


def _is_ip(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _cookie(environ: WSGIEnvironment) -> str:
    try:
        morsel = SimpleCookie(environ.get("HTTP_COOKIE", "")).get(COOKIE)
    except CookieError:
        return ""
    return morsel.value if morsel else ""
