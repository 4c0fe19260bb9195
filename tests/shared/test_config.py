"""Settings: where they come from, what they refuse, and what they keep to themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared import config
from shared.config import Settings
from shared.errors import ConfigError


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work where there is no .env."""
    monkeypatch.chdir(tmp_path)


def row(variable: str) -> config.SettingRow:
    rows = {row.variable: row for row in config.describe(config.load())}
    return rows[variable]


def test_the_defaults_are_safe() -> None:
    settings = config.load()
    assert settings.host == "127.0.0.1"
    assert settings.password is None
    assert settings.redis_url is None
    settings.require_safe_web()


def test_the_environment_comes_before_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("MOODLINE_PORT=9001\nMOODLINE_FPS=5\nREDIS_URL=redis://file\n")
    monkeypatch.setenv("MOODLINE_PORT", "9002")
    settings = config.load()
    assert (settings.port, settings.fps) == (9002, 5.0)
    assert settings.redis_url is not None
    assert settings.redis_url.get_secret_value() == "redis://file"
    assert (row("MOODLINE_PORT").value, row("MOODLINE_PORT").origin) == ("9002", "environment")
    assert (row("MOODLINE_FPS").value, row("MOODLINE_FPS").origin) == ("5.0", ".env")
    assert row("MOODLINE_WIDTH").origin == "default"
    assert row("REDIS_URL").origin == ".env"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MOODLINE_PORT", "http"),
        ("MOODLINE_PORT", "70000"),
        ("MOODLINE_FPS", "0"),
        ("MOODLINE_WIDTH", "10"),
        ("MOODLINE_JPEG_QUALITY", "101"),
        ("MOODLINE_WORKERS", "0"),
        ("MOODLINE_BACKEND", "torch"),
        ("MOODLINE_LOG_LEVEL", "loud"),
    ],
)
def test_a_value_that_does_not_fit_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=f"{variable}='{value}'"):
        config.load()


def test_a_frozen_setting_stays() -> None:
    with pytest.raises(ValueError, match="frozen"):
        config.load().port = 1  # type: ignore[misc]


def test_hosts_are_listed_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOODLINE_ALLOWED_HOSTS", "Faces.example, box.local,,")
    assert config.load().allowed_hosts == ("faces.example", "box.local")
    assert row("MOODLINE_ALLOWED_HOSTS").value == "faces.example,box.local"


@pytest.mark.parametrize("variable", ["MOODLINE_PASSWORD", "REDIS_URL", "MOODLINE_YUNET_MODEL"])
def test_empty_is_unset(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "")
    settings = config.load()
    assert (settings.password, settings.redis_url, settings.yunet_model) == (None, None, None)


def test_secrets_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOODLINE_PASSWORD", "geheim")
    monkeypatch.setenv("REDIS_URL", "rediss://:geheim@redis.example:6380/1")
    settings = config.load()
    assert row("MOODLINE_PASSWORD").value == "***"
    assert row("REDIS_URL").value == "rediss://***@redis.example:6380/1"
    assert "geheim" not in repr(settings) + str(settings) + repr(list(config.describe(settings)))


def test_a_session_key_is_long_and_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOODLINE_SESSION_KEY", "kurz-und-geheim")
    with pytest.raises(ConfigError, match="32 characters") as refused:
        config.load()
    assert "geheim" not in str(refused.value)
    monkeypatch.setenv("MOODLINE_SESSION_KEY", "geheim" * 6)
    assert "geheim" not in repr(config.load()) + repr(list(config.describe(config.load())))


def test_proxies_are_addresses_or_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOODLINE_TRUSTED_PROXIES", "10.0.0.0/8, 192.168.1.7")
    assert config.load().trusted_proxies == ("10.0.0.0/8", "192.168.1.7")
    monkeypatch.setenv("MOODLINE_TRUSTED_PROXIES", "nginx")
    with pytest.raises(ConfigError, match="MOODLINE_TRUSTED_PROXIES"):
        config.load()


def test_videos_are_kept_in_the_data_folder_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MOODLINE_DATA_DIR", str(tmp_path))
    assert config.load().media_address == str(tmp_path / "media")
    monkeypatch.setenv("MEDIA_URL", "s3://key:geheim@films/all")
    settings = config.load()
    assert settings.media_address == "s3://key:geheim@films/all"
    assert row("MEDIA_URL").value == "s3://***@films/all"
    assert "geheim" not in repr(settings) + str(settings) + repr(list(config.describe(settings)))


def test_every_setting_has_a_help_text() -> None:
    rows = list(config.describe(config.load()))
    assert len(rows) == len(Settings.model_fields)
    assert all(row.help.endswith(".") for row in rows)


@pytest.mark.parametrize(
    ("host", "beyond"),
    [
        ("127.0.0.1", False),
        ("127.8.8.8", False),
        ("::1", False),
        ("localhost", False),
        ("0.0.0.0", True),
        ("::", True),
        ("192.168.1.5", True),
        ("faces.example", True),
        ("", True),
    ],
)
def test_an_address_that_others_reach_needs_a_password(host: str, beyond: bool) -> None:
    assert Settings(host=host).listens_beyond_this_machine is beyond
    Settings(host=host, password="geheim").require_safe_web()
    if beyond:
        with pytest.raises(ConfigError, match="set MOODLINE_PASSWORD"):
            Settings(host=host).require_safe_web()
