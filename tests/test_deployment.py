"""The Compose file and the image, as far as they can be proved without a container engine."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose

from shared.config import PROJECT_DIR


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded = yaml.safe_load((PROJECT_DIR / "docker-compose.yml").read_text())
    assert isinstance(loaded, dict)
    return loaded


def test_the_compose_file_fits_the_compose_specification(compose: dict[str, Any]) -> None:
    parsed = PyCompose.from_json(json.dumps(compose))
    assert set(parsed.service_names()) == {"redis", "capture", "events", "worker", "web"}


def test_the_specification_check_would_notice_a_mistake(compose: dict[str, Any]) -> None:
    broken = {**compose, "services": {"web": {"image": "x", "porst": ["80:80"]}}}
    with pytest.raises(ValueError, match="porst"):
        PyCompose.from_json(json.dumps(broken))


def test_every_service_has_a_health_check(compose: dict[str, Any]) -> None:
    assert all("healthcheck" in service for service in compose["services"].values())


def test_only_the_dashboard_is_published_and_only_to_this_machine(compose: dict[str, Any]) -> None:
    published = {
        name: service["ports"]
        for name, service in compose["services"].items()
        if "ports" in service
    }
    assert published == {"web": ["127.0.0.1:8470:8470"]}
    assert compose["networks"]["inside"]["internal"] is True


def test_workers_can_be_scaled(compose: dict[str, Any]) -> None:
    worker = compose["services"]["worker"]
    assert "container_name" not in worker
    assert "ports" not in worker


def test_all_that_make_or_show_videos_share_their_storage(compose: dict[str, Any]) -> None:
    for name in ("web", "worker", "capture"):
        assert "media:/media" in compose["services"][name]["volumes"]
    dockerfile = (PROJECT_DIR / "Dockerfile").read_text()
    assert "MEDIA_URL=/media" in dockerfile
    assert "media" in compose["volumes"]


def test_the_dashboard_does_not_start_without_a_password(compose: dict[str, Any]) -> None:
    assert ":?" in compose["services"]["web"]["environment"]["MOODLINE_PASSWORD"]


def test_the_image_runs_as_a_user_of_its_own_and_without_tensorflow() -> None:
    dockerfile = (PROJECT_DIR / "Dockerfile").read_text()
    assert re.search(r"^USER moodline$", dockerfile, re.MULTILINE)
    locked = (PROJECT_DIR / "requirements" / "run.txt").read_text()
    assert "tensorflow" not in locked


def test_the_image_is_built_by_the_makefiles_own_steps() -> None:
    dockerfile = (PROJECT_DIR / "Dockerfile").read_text()
    makefile = (PROJECT_DIR / "Makefile").read_text().replace("$(VENV)", ".venv")
    makefile = makefile.replace("$(VENDOR)", "web/static/vendor")
    targets = re.findall(r"^RUN make (\S+)$", dockerfile, re.MULTILINE)
    assert targets == ["web/static/vendor/.done", "compiled"]
    assert all(re.search(rf"^{re.escape(t)}:", makefile, re.MULTILINE) for t in targets)
    sources = re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, re.MULTILINE)
    for name in " ".join(sources).split():
        assert (PROJECT_DIR / name).exists(), name


def test_the_locks_hold_names_versions_and_hashes_and_no_addresses() -> None:
    for lock in (PROJECT_DIR / "requirements").glob("*.txt"):
        text = lock.read_text()
        assert "://" not in text, lock
        assert all(
            re.match(r"[a-z0-9._-]+==\S+|    --hash=sha256:[0-9a-f]{64}", line)
            for line in text.splitlines()
        ), lock
    assert "://" not in (PROJECT_DIR / "web" / "package-lock.json").read_text().replace(
        "https://opencollective.com", ""
    ).replace("https://github.com/sponsors", "")


def test_setting_up_compiles_every_package() -> None:
    (line,) = re.findall(r"-m compileall .*", (PROJECT_DIR / "Makefile").read_text())
    packages = {
        path.parent.relative_to(PROJECT_DIR).as_posix()
        for top in ("bench", "shared", "training", "web", "workers")
        for path in (PROJECT_DIR / top).rglob("__init__.py")
        if "node_modules" not in path.parts
    }
    assert packages < set(line.split())
