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
