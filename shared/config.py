"""Every setting of Moodline, declared once: name, default, bounds and help.

Values come from the environment (``MOODLINE_PORT=…``), then from ``.env`` in the working folder,
then from the defaults here; a command line option sets the environment of what it starts. Nothing
else reads the environment. `describe` is what ``moodline settings`` prints.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, get_args

from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

import shared
from shared.errors import ConfigError
from shared.source import mask_address

PROJECT_DIR = shared.PROJECT_DIR  # here too, for who has loaded the settings anyway
_PREFIX = "MOODLINE_"
_ENV_FILE = ".env"
_SHORTEST_KEY = 32


class Settings(BaseSettings):
    """Checked when built; use `load` for errors that a user can read."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX, env_file=_ENV_FILE, extra="ignore", frozen=True, populate_by_name=True
    )

    # Where things are
    redis_url: SecretStr | None = Field(
        None,
        validation_alias="REDIS_URL",
        description="Redis to use (redis://, rediss://, unix:// or redis+sentinel://); unset: `up` "
        "starts its own.",
    )
    data_dir: Path = Field(
        PROJECT_DIR / "data",
        description="Folder for what must outlive a restart: the list of feeds, the session key.",
    )
    media_url: SecretStr | None = Field(
        None,
        validation_alias="MEDIA_URL",
        description="Where videos and reports are kept: a folder, or s3://bucket/prefix with the "
        "usual AWS_* variables (AWS_ENDPOINT_URL too); unset: the folder media in the data folder.",
    )
    retention_days: float = Field(
        0,
        ge=0,
        le=36500,
        description="Days after which a finished video is deleted with all that was made of it; "
        "0: kept until somebody deletes it.",
    )
    model: Path = Field(
        PROJECT_DIR / "models" / "moodline-mobilenetv2",
        description="Folder of the emotion model (model files and card.json).",
    )
    backend: str = Field(
        "auto",
        pattern="^(auto|litert|litert-int8|keras)$",
        description="What runs the model: auto (as its card says), litert, litert-int8 or keras.",
    )
    detect: str = Field(
        "adaptive",
        pattern="^(adaptive|every-frame)$",
        description="When a whole picture is searched for faces: every-frame, or adaptive: when "
        "something changes, a new face within 0.2 s; in the frames between, known faces are "
        "followed.",
    )
    yunet_model: Path | None = Field(
        None,
        description="YuNet .onnx file: detect faces with it instead of the bundled MTCNN networks.",
    )

    # Web
    host: str = Field("127.0.0.1", description="Address the dashboard listens on.")
    port: int = Field(8470, ge=1, le=65535, description="Port the dashboard listens on.")
    password: SecretStr | None = Field(
        None, description="Password for page and API; required for any address but this machine's."
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Further host names the page is reached by, with commas between."
    )
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Addresses or networks of proxies whose X-Forwarded-For and X-Forwarded-Proto "
        "are believed, with commas between.",
    )
    session_key: SecretStr | None = Field(
        None,
        description="Key that signs logins, 32 characters or more, the same for all web processes; "
        "unset: one is made in the data folder.",
    )

    max_upload_mb: int = Field(
        4096, ge=1, le=1_000_000, description="Largest video that is taken, in megabytes (MiB)."
    )

    # Capture
    fps: float = Field(15.0, gt=0, le=60, description="Frames per second captured of a feed.")
    width: int = Field(640, ge=64, le=3840, description="Widest picture captured, in pixels.")
    jpeg_quality: int = Field(85, ge=30, le=100, description="JPEG quality of captured frames.")
    recording_max_h: float = Field(
        4.0, gt=0, le=24, description="Hours after which a recording of a live feed ends by itself."
    )

    # Workers
    workers: int = Field(2, ge=1, le=256, description="Worker processes that `up` starts.")
    threads: int = Field(1, ge=1, le=64, description="Threads a worker computes with.")
    staleness_s: float = Field(
        0.5, gt=0, le=10, description="A live frame older than this when its turn comes is dropped."
    )
    smoothing_s: float = Field(
        0.4, ge=0, le=10, description="Time constant of the smoothing of a face's scores; 0: none."
    )
    timeline_s: int = Field(
        3600, ge=10, le=7200, description="How far back the timeline of a live feed reaches."
    )

    # Events
    webhook_allow: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Hosts or networks that webhooks may go to although they are not on the public "
        "internet, with commas between, such as 192.168.1.20,10.0.0.0/8,hub.local.",
    )
    mqtt_url: SecretStr | None = Field(
        None,
        description="Broker that events are published to: mqtt://user:password@host:1883/prefix, "
        "mqtts:// with TLS; unset: none.",
    )
    events_kept: int = Field(1000, ge=10, le=100_000, description="How many events are kept.")
    events_days: float = Field(
        7, gt=0, le=3650, description="Days after which an event is deleted with its picture."
    )

    # Logs
    log_level: str = Field(
        "warning",
        pattern="^(debug|info|warning|error)$",
        description="Least serious log line shown: debug, info, warning or error.",
    )

    @field_validator("allowed_hosts", "webhook_allow", "trusted_proxies", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip().lower() for part in value.split(",") if part.strip())
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for part in value:
            ipaddress.ip_network(part, strict=False)
        return value

    @field_validator("media_url")
    @classmethod
    def _is_storage(cls, value: SecretStr | None) -> SecretStr | None:
        scheme, separator, rest = (value.get_secret_value() if value else "").partition("://")
        if separator and (scheme not in ("file", "s3") or (scheme == "s3" and rest[:1] in "/")):
            raise ValueError("write a folder, or s3://bucket/prefix")
        return value

    @field_validator("session_key")
    @classmethod
    def _is_long(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < _SHORTEST_KEY:
            raise ValueError(f"a key needs {_SHORTEST_KEY} characters or more")
        return value

    @field_validator(
        *("password", "session_key", "redis_url", "media_url", "mqtt_url", "yunet_model"),
        mode="before",
    )
    @classmethod
    def _empty_is_unset(cls, value: object) -> object:
        return None if value == "" else value

    @property
    def search_every_s(self) -> float:
        """How long a new face may go unseen; 0: every picture is searched."""
        return 0.2 if self.detect == "adaptive" else 0.0

    @property
    def media_address(self) -> str:
        """What `shared.media.Media` opens; holds credentials where the setting does."""
        if self.media_url is not None:
            return self.media_url.get_secret_value()
        return str(self.data_dir.absolute() / "media")

    @property
    def listens_beyond_this_machine(self) -> bool:
        """Whether `host` is anything but a loopback address."""
        if self.host == "localhost":
            return False
        try:
            return not ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return True

    def require_safe_web(self) -> None:
        """Raise ConfigError where the dashboard would be open to others without a login."""
        if self.listens_beyond_this_machine and self.password is None:
            raise ConfigError(
                f"The address {self.host} can be reached from other machines and no password is "
                "set: set MOODLINE_PASSWORD, or listen on 127.0.0.1."
            )


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One line of ``moodline settings``."""

    variable: str
    value: str
    origin: str
    help: str


def load() -> Settings:
    """Read all settings; raises ConfigError that names variable, value and what it takes."""
    try:
        return Settings()
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            name = _variable(str(problem["loc"][0]))
            value = "***" if _is_secret(name) else repr(problem["input"])
            lines.append(f"{name}={value}: {problem['msg']}")
        raise ConfigError(
            "Settings that do not fit: " + "; ".join(lines) + ". `moodline settings` explains each."
        ) from error


def describe(settings: Settings) -> Iterator[SettingRow]:
    """Every setting with its value (secrets masked), where the value came from, and its help."""
    in_file = {key.upper() for key in dotenv_values(_ENV_FILE)}
    in_environment = {key.upper() for key in os.environ}
    for name, info in Settings.model_fields.items():
        variable = _variable(name)
        value = getattr(settings, name)
        if variable in in_environment:
            origin = "environment"
        elif variable in in_file:
            origin = _ENV_FILE
        else:
            origin = "default"
        if value is None or value == ():
            text = ""
        elif isinstance(value, SecretStr):
            address = mask_address(value.get_secret_value())
            text = address if name in ("redis_url", "media_url", "mqtt_url") else "***"
        elif isinstance(value, tuple):
            text = ",".join(value)
        else:
            text = str(value)
        yield SettingRow(variable, text, origin, info.description or "")


def _variable(name: str) -> str:
    """The environment variable of a field (pydantic reports either the field or its alias)."""
    info = Settings.model_fields.get(name)
    if info is None or isinstance(info.validation_alias, str):
        return str(info.validation_alias) if info else name.upper()
    return _PREFIX + name.upper()


def _is_secret(variable: str) -> bool:
    info = Settings.model_fields.get(variable.removeprefix(_PREFIX).lower())
    return info is not None and SecretStr in (info.annotation, *get_args(info.annotation))
