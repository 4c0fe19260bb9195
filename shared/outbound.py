"""Where webhooks may go: addresses that users type are not allowed to reach into the network.

Only http and https; a host is resolved once, every address that it has is checked, and what is
connected to is exactly a checked one, so that a name which answers differently the next time gains
nothing. Only public unicast addresses pass: no loopback, private, link-local, multicast or reserved
ones, no service addresses of clouds, and none of these inside an IPv6 address that carries an IPv4
one. Odd notations (``0x7f.1``, ``2130706433``) go through the same resolver as the connection would
use, so what is checked is what they mean. `Allowed` (MOODLINE_WEBHOOK_ALLOW) makes exceptions.

Not here: speaking HTTP (`workers.deliveries`).
"""

from __future__ import annotations

import base64
import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self
from urllib.parse import SplitResult, unquote, urlsplit

from shared.errors import AddressRefused, ConfigError, DeliveryFailed

MAX_URL_LENGTH = 2000
IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

_PORTS = {"http": 80, "https": 443}
_GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")  # all that has been given out for unicast
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_SERVICES = {ipaddress.ip_address("168.63.129.16")}  # a cloud's own, though the address is public


@dataclass(frozen=True, slots=True)
class Allowed:
    """Hosts and networks that webhooks may reach although they are not public."""

    hosts: frozenset[str] = frozenset()
    networks: tuple[IPNetwork, ...] = ()

    @classmethod
    def parse(cls, entries: Iterable[str]) -> Self:
        """Read the setting; raises ConfigError at what is neither a host nor a network."""
        hosts, networks = set(), []
        for entry in entries:
            try:
                networks.append(ipaddress.ip_network(entry.strip("[]")))
                continue
            except ValueError as error:
                if "/" in entry or ":" in entry or not entry.strip("."):
                    raise ConfigError(
                        f"MOODLINE_WEBHOOK_ALLOW={entry!r} is neither a host nor a network "
                        f"({error}): write hub.local, 192.168.1.20 or 10.0.0.0/8, with no port."
                    ) from error
            hosts.add(entry.lower().rstrip("."))
        return cls(frozenset(hosts), tuple(networks))

    def holds(self, host: str, address: IPAddress) -> bool:
        return host in self.hosts or any(address in network for network in self.networks)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What to connect to and what to say there; each of `addresses` has been checked."""

    scheme: str
    host: str
    port: int
    target: str
    authorization: str
    addresses: tuple[str, ...]

    @property
    def host_header(self) -> str:
        name = f"[{self.host}]" if ":" in self.host else self.host
        return name if self.port == _PORTS[self.scheme] else f"{name}:{self.port}"


def resolve(url: str, allowed: Allowed) -> Endpoint:
    """Find out where `url` leads, now.

    Raises AddressRefused where no webhook may go, and DeliveryFailed where the host has no address.
    """
    parts, host, port = _split(url)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise DeliveryFailed(f"The host {host} was not found ({error}).") from error
    addresses = [str(row[4][0]) for row in found]
    for text in addresses:
        address = ipaddress.ip_address(text.partition("%")[0])
        if not _is_public(address) and not allowed.holds(host, address):
            what = host if host == str(address) else f"{host} ({address})"
            raise AddressRefused(
                f"{what} is not on the public internet: webhooks go there only if "
                f"MOODLINE_WEBHOOK_ALLOW names it, for example as {address}."
            )
    authorization = ""
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = "Basic " + base64.b64encode(pair.encode()).decode()
    target = parts.path or "/"
    if parts.query:
        target += f"?{parts.query}"
    return Endpoint(parts.scheme, host, port, target, authorization, tuple(addresses))


def _split(url: str) -> tuple[SplitResult, str, int]:
    wrong = "write https://host/path, with no spaces and with other letters as %XX"
    if len(url) > MAX_URL_LENGTH or not url.isascii() or not url.isprintable() or " " in url:
        raise AddressRefused(f"This is no address for a webhook: {wrong}.")
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError as error:
        raise AddressRefused(f"This is no address for a webhook ({error}): {wrong}.") from error
    if parts.scheme not in _PORTS:
        raise AddressRefused("A webhook's address begins with http:// or https://.")
    if not host or "%" in host or "\\" in url or port == 0:
        raise AddressRefused(f"This address names no host: {wrong}.")
    return parts, host, port or _PORTS[parts.scheme]


def _is_public(address: IPAddress) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        inner = _carried(address)
        if inner is not None:
            return _is_public(inner)
        if address not in _GLOBAL_V6:
            return False
    usable = address.is_global and not address.is_multicast and not address.is_reserved
    return usable and address not in _SERVICES


def _carried(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 one leads to, if it is of such a kind."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None
