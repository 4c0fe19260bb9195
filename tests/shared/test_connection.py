"""Which addresses lead to Redis, and what is said of those that do not."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from shared.connection import connect
from shared.errors import BusError


def options(url: str) -> dict[str, object]:
    client = connect(url)
    found = dict(client.connection_pool.connection_kwargs)
    client.close()
    return found


def test_an_address_may_hold_a_password_with_any_characters() -> None:
    found = options("rediss://worker:p@ss/w#rd@redis.example:6380/2?ssl_ca_certs=/etc/ca.pem")
    assert (found["host"], found["port"], found["db"]) == ("redis.example", 6380, 2)
    assert (found["username"], found["password"]) == ("worker", "p@ss/w#rd")
    assert found["ssl_ca_certs"] == "/etc/ca.pem"


def test_sentinels_are_asked_with_their_own_password_and_the_same_authority() -> None:
    client = connect(
        "rediss+sentinel://worker:p@ss@one:26379,[fd00::2],three:26380/faces/1"
        "?ssl_ca_certs=/etc/ca.pem&sentinel_password=other"
    )
    pool: Any = client.connection_pool
    assert pool.service_name == "faces"
    kept = pool.connection_kwargs
    assert (kept["username"], kept["password"], kept["db"]) == ("worker", "p@ss", 1)
    asked = [each.connection_pool.connection_kwargs for each in pool.sentinel_manager.sentinels]
    assert [(each["host"], each["port"]) for each in asked] == [
        ("one", 26379),
        ("fd00::2", 26379),
        ("three", 26380),
    ]
    assert {each["password"] for each in asked} == {"other"}
    assert {each["ssl_ca_certs"] for each in (*asked, kept)} == {"/etc/ca.pem"}
    client.close()


@pytest.mark.parametrize(
    "url",
    [
        "http://u:secret@host",
        "redis://u:secret@",
        "redis+sentinel://u:secret@one:26379",
        "redis+sentinel://u:secret@one:two:3/faces",
        "redis+sentinel://u:secret@/faces",
    ],
)
def test_what_is_no_address_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(BusError, match="REDIS_URL") as refused:
        connect(url)
    assert "secret" not in str(refused.value)


def test_sentinels_that_are_all_away_are_told_in_a_sentence() -> None:
    client = connect("redis+sentinel://u:secret@127.0.0.1:1/faces?sentinel_password=hidden")
    with pytest.raises(redis.ConnectionError, match="no Sentinel that answers") as away:
        client.ping()
    assert "secret" not in str(away.value)
    client.close()


@pytest.mark.parametrize(
    "value",
    [b"\0\xff" * 50_000, "Küche\r\n", 7, -3, 0.1, 1e300, bytearray(b"ab"), memoryview(b"c")],
)
def test_what_is_stored_comes_back_as_it_was(redis_url: str, value: Any) -> None:
    client = connect(redis_url)
    client.set("moodline-test", value)
    stored: Any = client.getdel("moodline-test")
    if isinstance(value, int | float):
        assert float(stored) == value
    else:
        assert stored == (value.encode() if isinstance(value, str) else bytes(value))
    client.close()


def test_a_picture_goes_to_redis_in_one_piece(redis_url: str) -> None:
    client = connect(redis_url)
    connection: Any = client.connection_pool.make_connection()
    picture = b"\xff\xd8" + bytes(100_000)
    (packed,) = connection.pack_command("XADD", "frames", "*", "jpeg", picture)
    assert packed.startswith(b"*5\r\n$4\r\nXADD\r\n")
    assert packed.endswith(b"$100002\r\n" + picture + b"\r\n")
    (words,) = connection.pack_command("CONFIG GET", "maxmemory")
    assert words.startswith(b"*3\r\n$6\r\nCONFIG\r\n$3\r\nGET\r\n")
    client.close()


@pytest.mark.parametrize("value", [None, True, ["a"]])
def test_what_redis_has_no_word_for_is_refused(redis_url: str, value: Any) -> None:
    client = connect(redis_url)
    with pytest.raises(redis.DataError, match=type(value).__name__):
        client.set("moodline-test", value)
    client.close()
