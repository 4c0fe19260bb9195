"""The way to Redis: an address in, a connection pool out that gives up in seconds and never hangs.

Addresses are ``redis://user:password@host:6379/0``, ``rediss://…`` (TLS) and ``unix:///path``. With
``redis+sentinel://user:password@one:26379,two:26379/service/0`` (or ``rediss+sentinel://``) the
Sentinels are asked which Redis of that service is the primary, anew at each connection: a failover
breaks connections, and the next ones lead to the new primary.

The query tells the rest: ``ssl_ca_certs`` (a file with the authority of the servers'
certificates), ``ssl_certfile`` and ``ssl_keyfile`` (where they want one of their clients), and
``sentinel_username`` and ``sentinel_password`` (where the Sentinels want them).

What it leaves out: what is said to Redis. `verb` makes the errors of those who speak BusErrors.
"""

from __future__ import annotations

import contextlib
import functools
import re
import socket
from collections.abc import Callable, Iterator
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast

import redis
from redis.backoff import ExponentialBackoff
from redis.connection import parse_url
from redis.retry import Retry
from redis.sentinel import (
    MasterNotFoundError,
    Sentinel,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)

from shared.errors import BusError, SourceError
from shared.source import escape_credentials, mask_address

_CONNECT_S = 2.0
_ANSWER_S = 3.0  # after what the caller waits for on purpose
_DEAD_PEER_S = 8.0  # a connection whose other end says nothing for so long is given up
_SENTINELS = re.compile(
    r"(?P<scheme>rediss?)\+sentinel://(?P<credentials>.*@)?(?P<hosts>[^@/?]+)/(?P<service>[^/?]+)"
    r"(?P<rest>(/\d+)?(\?.*)?)"
)
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(?::(\d{1,5}))?")


class _Speaker(Protocol):
    """Who speaks to Redis; `address` is without its password."""

    @property
    def address(self) -> str: ...


_P = ParamSpec("_P")
_R = TypeVar("_R")
_S = TypeVar("_S", bound=_Speaker)


@contextlib.contextmanager
def speaking(address: str, *also: type[Exception]) -> Iterator[None]:
    """Turn Redis's errors, and those of `also`, into BusError with the (masked) address."""
    errors: tuple[type[Exception], ...] = (redis.RedisError, *also)
    try:
        yield
    except errors as error:
        raise BusError(
            f"Redis at {address} does not answer as it should "
            f"({type(error).__name__}: {error}): check that it runs, and REDIS_URL."
        ) from error


def verb(method: Callable[Concatenate[_S, _P], _R]) -> Callable[Concatenate[_S, _P], _R]:
    """A method that speaks to Redis and raises BusError where that fails."""

    def speak(self: _S, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        with speaking(self.address):
            return method(self, *args, **kwargs)

    return functools.update_wrapper(cast("Callable[Concatenate[_S, _P], _R]", speak), method)


class _Packer:
    """Makes one piece of bytes of a command.

    redis-py sends a large argument, and what comes before and after it, one by one. Each send may
    wake Redis, which reads the first of them and has to wait for the next: with pictures of 43 kB
    that took Redis a quarter more time, and who sends them a third.
    """

    def pack(self, *args: str | bytes | float) -> list[bytes]:
        """Encode as RESP. The name of the command may hold several words."""
        name, *rest = args
        words = [*_encoded(name).split(), *map(_encoded, rest)]
        parts = [b"*%d\r\n" % len(words)]
        for word in words:
            parts += (b"$%d\r\n" % len(word), word, b"\r\n")
        return [b"".join(parts)]


def _encoded(word: object) -> bytes:
    """As redis-py encodes it; raises its error for what Redis has no word for."""
    if isinstance(word, bytes | bytearray | memoryview):
        return bytes(word)
    if isinstance(word, str):
        return word.encode()
    if isinstance(word, int | float) and not isinstance(word, bool):
        return repr(word).encode()
    raise redis.DataError(f"expected bytes, text or a number for Redis, got {type(word).__name__}")


def connect(url: str, *, blocking_s: float = 2.0) -> redis.Redis:
    """Open a connection pool; nothing is asked before it is used.

    `blocking_s` is the longest that a caller blocks inside Redis on purpose. Raises BusError for an
    address that is none; the pool itself raises redis-py's errors.
    """
    options: dict[str, Any] = {
        "socket_timeout": blocking_s + _ANSWER_S,
        "socket_connect_timeout": _CONNECT_S,
        "command_packer": _Packer(),
        # A connection that broke is made anew once or twice, for a Redis that was restarted. A
        # silence is not repeated: what was asked for may have been done, and a verb that waits for
        # a cut line three times over keeps its caller from noticing.
        "retry": Retry(
            ExponentialBackoff(cap=0.2, base=0.02), 2, supported_errors=(redis.ConnectionError,)
        ),
    }
    if not url.startswith("unix://"):
        options |= {"socket_keepalive": True, "socket_keepalive_options": _dead_peer_options()}
    try:
        sentinels = _SENTINELS.fullmatch(url)
        if sentinels:
            return _primary(sentinels, options)
        return redis.Redis.from_url(
            url if url.startswith("unix://") else escape_credentials(url), **options
        )
    except (ValueError, TypeError, SourceError) as error:
        raise BusError(
            f"REDIS_URL={mask_address(url)!r} is no Redis address: write redis://host:6379, "
            "rediss://…, unix:///path or redis+sentinel://host:26379,host:26379/service."
        ) from error


def _primary(address: re.Match[str], options: dict[str, Any]) -> redis.Redis:
    """A pool whose connections lead to the primary of a service."""
    hosts = [_HOST.fullmatch(part.strip()) for part in address["hosts"].split(",")]
    if not all(hosts):
        raise ValueError("a Sentinel is written host:port")
    plain = f"{address['scheme']}://{address['credentials'] or ''}sentinel{address['rest']}"
    told: dict[str, Any] = parse_url(escape_credentials(plain))  # type: ignore[no-untyped-call]
    del told["host"]
    tls = told.pop("connection_class", None) is not None
    # A Sentinel that does not answer is passed over for the next one, so none is waited for long.
    asking = {
        **{name: value for name, value in told.items() if name.startswith("ssl_")},
        **{name: value for name, value in options.items() if name != "command_packer"},
        "username": told.pop("sentinel_username", None),
        "password": told.pop("sentinel_password", None),
        "socket_timeout": 1.0,
        "ssl": tls,
    }
    sentinels = [(host[1].strip("[]"), int(host[2] or 26379)) for host in hosts if host]
    asked = _Sentinels(sentinels, sentinel_kwargs=asking)  # type: ignore[no-untyped-call]
    service = address["service"]
    kind = _PrimaryTls if tls else _Primary
    primary = asked.master_for(service, **told, **options, connection_class=kind)  # type: ignore[no-untyped-call]
    return cast("redis.Redis", primary)


class _Primary(SentinelManagedConnection):
    """As redis-py's, but it never goes on at the wrong place.

    One that broke asks the Sentinels before it speaks again: redis-py's own repetition goes to
    where the connection led, which after a planned failover is a replica that answers. And one
    whose answer did not come in time is given up, or the next question would get that answer.
    """

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        if not self._sock:
            self.connect()  # type: ignore[no-untyped-call]
        super().send_packed_command(command, check_health)  # type: ignore[no-untyped-call]

    def read_response(self, *args: Any, **options: Any) -> Any:
        options.setdefault("disconnect_on_error", True)
        return super().read_response(*args, **options)


class _PrimaryTls(_Primary, SentinelManagedSSLConnection):
    pass


class _Sentinels(Sentinel):
    def discover_master(self, service_name: str) -> tuple[str, int]:
        """As redis-py's, with an error for people."""
        try:
            return cast("tuple[str, int]", super().discover_master(service_name))  # type: ignore[no-untyped-call]
        except MasterNotFoundError as error:
            raise MasterNotFoundError(
                f"no Sentinel that answers knows a primary of {service_name!r}"
            ) from error


def _dead_peer_options() -> dict[int, int]:
    """Let the kernel give up a connection whose other end is silent, also while we only listen.

    Without, RQ's wait for a job would outlast a cut line by seven minutes. What a system does not
    know is left at its default.
    """
    wanted = {
        "TCP_KEEPIDLE": 3,
        "TCP_KEEPINTVL": 2,
        "TCP_KEEPCNT": 3,
        "TCP_USER_TIMEOUT": int(_DEAD_PEER_S * 1000),
    }
    return {getattr(socket, name): value for name, value in wanted.items() if hasattr(socket, name)}
