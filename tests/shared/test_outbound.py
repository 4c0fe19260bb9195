from __future__ import annotations

import socket
from typing import Any

import pytest

from shared.errors import AddressRefused, ConfigError, DeliveryFailed
from shared.outbound import Allowed, resolve


def answering(*addresses: str) -> Any:
    """A resolver that says that every name has these addresses."""

    def getaddrinfo(_host: str, port: int, **_: object) -> list[Any]:
        families = {True: socket.AF_INET6, False: socket.AF_INET}
        return [
            (
                families[":" in a],
                socket.SOCK_STREAM,
                6,
                "",
                (a, port, *([0, 0] if ":" in a else [])),
            )
            for a in addresses
        ]

    return getaddrinfo


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://localhost:6379/",
        "http://2130706433/",  # 127.0.0.1 as one number
        "http://0x7f.1/",
        "http://0177.0.0.1/",
        "http://127.1/",
        "http://0/",
        "http://[::1]/",
        "http://[::]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:a9fe:a9fe]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[2002:7f00:1::]/",
        "http://[fe80::1]/",
        "http://[fd00:ec2::254]/",
        "http://[fec0::1]/",
        "http://[ff02::1]/",
        "http://10.1.2.3/",
        "http://172.16.0.1/",
        "http://192.168.1.1/",
        "http://100.100.100.200/",
        "http://169.254.169.254/latest/meta-data/",
        "http://168.63.129.16/",
        "http://224.0.0.1/",
        "http://255.255.255.255/",
        "http://240.0.0.1/",
        "http://user:pass@127.0.0.1/",
        "http://example.org@127.0.0.1/",
    ],
)
def test_no_webhook_goes_into_the_network_and_the_message_names_the_setting(url: str) -> None:
    with pytest.raises(AddressRefused, match="MOODLINE_WEBHOOK_ALLOW"):
        resolve(url, Allowed())


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.org/hook",
        "ftp://example.org/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:6379/_INFO",
        "http://",
        "http:///path",
        "https://exa mple.org/",
        "https://example.org/\r\nX: y",
        "https://example.org:0/",
        "https://example.org:99999/",
        "https://[::1/",
        "https://[fe80::1%25eth0]/",
        "https://example.org\\@127.0.0.1/",
        "https://exämple.org/",
        "https://example.org/" + "x" * 2000,
    ],
)
def test_what_is_no_webhooks_address_is_refused(url: str) -> None:
    with pytest.raises(AddressRefused):
        resolve(url, Allowed())


def test_a_public_host_is_connected_to_at_the_address_that_was_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", answering("93.184.216.34", "2606:2800:220:1::1"))
    endpoint = resolve("https://me:p%40ss@Example.org/hook?x=1", Allowed())
    assert endpoint.addresses == ("93.184.216.34", "2606:2800:220:1::1")
    assert (endpoint.host, endpoint.port, endpoint.target) == ("example.org", 443, "/hook?x=1")
    assert endpoint.authorization == "Basic bWU6cEBzcw=="
    assert endpoint.host_header == "example.org"
    assert resolve("http://example.org:8080", Allowed()).host_header == "example.org:8080"


def test_one_bad_address_among_good_ones_is_enough_to_refuse(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", answering("93.184.216.34", "127.0.0.1"))
    with pytest.raises(AddressRefused, match="127\\.0\\.0\\.1"):
        resolve("https://example.org/", Allowed())


def test_what_the_setting_names_is_allowed_and_nothing_beside_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    allowed = Allowed.parse(["192.168.1.0/24", "Hub.local", "[fd00::7]", "127.0.0.1"])
    assert resolve("http://192.168.1.20:8123/x", allowed).addresses == ("192.168.1.20",)
    assert resolve("http://[fd00::7]/", allowed).host_header == "[fd00::7]"
    with pytest.raises(AddressRefused):
        resolve("http://192.168.2.20/", allowed)
    with pytest.raises(AddressRefused):
        resolve("http://[::ffff:10.0.0.1]/", allowed)
    monkeypatch.setattr(socket, "getaddrinfo", answering("10.9.9.9"))
    assert resolve("http://hub.local./", allowed).addresses == ("10.9.9.9",)
    with pytest.raises(AddressRefused):
        resolve("http://other.local/", allowed)


@pytest.mark.parametrize("entry", ["10.0.0.0/33", "10.0.0.5/8", "http://hub.local", "hub:80", "."])
def test_a_setting_that_does_not_fit_is_said_by_name(entry: str) -> None:
    with pytest.raises(ConfigError, match="MOODLINE_WEBHOOK_ALLOW"):
        Allowed.parse([entry])


def test_a_host_that_is_not_found_may_be_found_later() -> None:
    with pytest.raises(DeliveryFailed, match="not found") as raised:
        resolve("https://nowhere.invalid/", Allowed())
    assert not raised.value.for_good
