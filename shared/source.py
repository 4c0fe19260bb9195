"""What a feed may be fed from, and how to speak of it without giving away its password.

A source is one string: a webcam's number or device path, a stream's address, a file, a folder of
pictures, or ``demo``. `Source.parse` says which kind it is; whether it can be opened is known only
on the machine that captures it. `Source.masked` is the only form that leaves this machine's
settings: pages, answers, logs and errors show nothing else.

Passwords of cameras often hold ``/ @ #`` unescaped. The rule here: in an address, all that stands
before the last ``@`` is user and password. Masking follows the rule always (it may hide a little
too much, never too little); opening follows it unless what stands before the first slash is
plainly ``host:port``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Self
from urllib.parse import quote, unquote

from shared.errors import SourceError

_ADDRESS = re.compile(r"^(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]*)://(?P<rest>.*)$", re.DOTALL)
_STREAM_SCHEMES = ("rtsp", "rtsps", "http", "https")
_HOST_PORT = re.compile(r"^(\[[0-9a-fA-F:.]+\]|[^:@/?#\s]+)(:\d{1,5})?$")
_SECRET_QUERY = re.compile(
    # Some cameras want their password in the path: rtsp://host/user=me_password=secret_channel=1
    r"([?&;/_](?:[^=&;#/]*(?:pas|pwd|pw|token|key|secret|auth|sig|us(?:e?)r|login)[^=&;#/]*))=[^&;#]*",
    re.IGNORECASE,
)
_LOOKS_LIKE_ADDRESS = re.compile(r"(rtsps?|https?)[:/]|[^/]*@", re.IGNORECASE)
_MASK = "***"
_MAX_LENGTH = 2048


class SourceKind(StrEnum):
    """How a source is opened."""

    WEBCAM = "webcam"
    STREAM = "stream"
    FILE = "file"
    FOLDER = "folder"
    DEMO = "demo"
    BROWSER = "browser"


@dataclass(frozen=True, slots=True)
class Source:
    """One place that pictures come from.

    `text` is what the user wrote, password and all (of a path, the whole path); never show it.
    `locator` is what to open: a device number or path, an address with its credentials
    percent-encoded, or a path.
    """

    text: str
    kind: SourceKind
    locator: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a source as a user writes it.

        Raises SourceError for an empty, overlong or unknown form; the message is masked.
        """
        text = text.strip()
        if not text:
            raise SourceError(
                "The source is empty: give a webcam number, an rtsp:// or http:// address, "
                "a video file, a folder of images, or 'demo'."
            )
        if len(text) > _MAX_LENGTH or not text.isprintable():
            raise SourceError(
                f"The source is longer than {_MAX_LENGTH} characters or holds unprintable ones: "
                "check what was pasted."
            )
        if text == "demo":
            return cls(text, SourceKind.DEMO, text)
        if re.fullmatch(r"[0-9]{1,3}", text):
            return cls(text, SourceKind.WEBCAM, str(int(text)))
        if re.fullmatch(r"/dev/video[0-9]{1,3}", text):
            return cls(text, SourceKind.WEBCAM, text)
        address = _ADDRESS.match(text)
        if address:
            scheme = address["scheme"].lower()
            if scheme not in _STREAM_SCHEMES:
                raise SourceError(
                    f"The address {mask_address(text)} starts with {scheme}://: "
                    f"use one of {', '.join(s + '://' for s in _STREAM_SCHEMES)}."
                )
            return cls(text, SourceKind.STREAM, _openable(scheme, address["rest"], text))
        if text.isdecimal():
            raise SourceError("No webcam has a number this large: they count from 0.")
        if _LOOKS_LIKE_ADDRESS.match(text) and not _exists(Path(text)):
            # Not repeated here: it may hold a password.
            raise SourceError(
                "The source looks like a camera's address and does not start with rtsp:// or "
                "http://: write it as rtsp://user:password@host:port/path."
            )
        try:
            path = Path(text).expanduser().absolute()
        except RuntimeError as error:
            raise SourceError(
                f"The path {text!r} names no known user: write it in full."
            ) from error
        # The whole path, because other processes, which work in other folders, read it too.
        return cls(str(path), SourceKind.FOLDER if _is_folder(path) else SourceKind.FILE, str(path))

    @classmethod
    def browser(cls) -> Self:
        """The camera of somebody's browser, whose frames arrive over Socket.IO."""
        return cls("browser", SourceKind.BROWSER, "browser")

    @property
    def masked(self) -> str:
        """The source without user, password or token: fit for a page, an answer or a log."""
        return mask_address(self.text)

    @property
    def default_name(self) -> str:
        """What to call a feed of this source; holds no credentials."""
        match self.kind:
            case SourceKind.WEBCAM:
                return f"Webcam {self.text.removeprefix('/dev/video')}"
            case SourceKind.DEMO:
                return "Demo"
            case SourceKind.BROWSER:
                return "Browser camera"
            case SourceKind.STREAM:
                address = self.masked.split("://", 1)[1]
                return address.rpartition("@")[2].split("?")[0]
            case _:
                return Path(self.locator).name or self.locator

    def scrub(self, message: str) -> str:
        """Take this source's credentials out of somebody else's error message."""
        for secret in (self.text, self.locator):
            if secret != self.masked:
                message = message.replace(secret, self.masked)
        credentials = _credentials(self.text)
        for part in sorted(credentials, key=len, reverse=True):
            for form in (part, quote(part, safe=""), unquote(part)):
                message = message.replace(form, _MASK)
        return message


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # closed to this user, or a name too long: whoever captures it will say so
        return False


def mask_address(text: str) -> str:
    """Replace user and password, and secrets in the query, by ``***``; else return it unchanged."""
    address = _ADDRESS.match(text)
    if not address:
        return text
    rest = address["rest"]
    if "@" in rest:
        rest = _MASK + rest[rest.rindex("@") :]
    return f"{address['scheme']}://" + _SECRET_QUERY.sub(rf"\1={_MASK}", rest)


def _split_credentials(rest: str) -> tuple[str, str]:
    """Split what follows ``scheme://`` into credentials (may be empty) and the remainder."""
    if "@" not in rest:
        return "", rest
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" not in authority and re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:]+)(:\d{1,5})?", authority):
        return "", rest
    credentials, _, remainder = rest.rpartition("@")
    return credentials, remainder


def _credentials(text: str) -> list[str]:
    """User, password and both together, as masking sees them: all before the last ``@``."""
    address = _ADDRESS.match(text)
    credentials = address["rest"].rpartition("@")[0] if address else ""
    user, _, password = credentials.partition(":")
    return [part for part in (credentials, password, user) if len(part) > 2]


def escape_credentials(text: str) -> str:
    """Percent-encode user and password of an address, which may hold ``/ @ #`` as they are.

    Raises SourceError where it names no host.
    """
    address = _ADDRESS.match(text)
    return _openable(address["scheme"], address["rest"], text) if address else text


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False


def _openable(scheme: str, rest: str, text: str) -> str:
    credentials, remainder = _split_credentials(rest)
    host = re.split(r"[/?#]", remainder, maxsplit=1)[0]
    if not _HOST_PORT.match(host):
        raise SourceError(
            f"The address {mask_address(text)} names no host: "
            f"write it as {scheme}://user:password@host:port/path."
        )
    if not credentials:
        return f"{scheme}://{remainder}"
    user, colon, password = credentials.partition(":")
    encoded = quote(unquote(user), safe="") + colon + quote(unquote(password), safe="")
    return f"{scheme}://{encoded}@{remainder}"
