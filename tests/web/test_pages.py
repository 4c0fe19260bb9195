from __future__ import annotations

import re

import pytest
from flask.testing import FlaskClient

from shared.config import PROJECT_DIR

STATIC = PROJECT_DIR / "web" / "static"
PAGES = ("/", "/videos", "/videos/0123456789abcdef", "/cameras", "/events")


def test_assets_are_kept_for_good_and_change_their_address_with_their_content(
    client: FlaskClient,
) -> None:
    page = client.get("/")
    assert page.headers["Cache-Control"] == "no-store"
    address = re.search(r'"(/assets/\w+/app\.js)"', page.text)
    assert address is not None
    script = client.get(address[1], buffered=True)
    assert script.status_code == 200
    assert "javascript" in script.content_type
    assert "immutable" in script.headers["Cache-Control"]
    other = client.get("/assets/0123456789ab/app.js", buffered=True)
    assert other.status_code == 200
    assert "no-cache" in other.headers["Cache-Control"]
    assert "immutable" not in other.headers["Cache-Control"]


def test_a_browser_at_a_wrong_address_gets_a_page_and_a_program_the_reason(
    client: FlaskClient,
) -> None:
    browser = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    page = client.get("/nope", headers=browser)
    assert (page.status_code, page.mimetype) == (404, "text/html")
    assert 'href="/videos"' in page.text
    for path, headers in (("/nope", {}), ("/api/nope", browser), ("/assets/x/nope.js", browser)):
        answer = client.get(path, headers=headers)
        assert (answer.status_code, answer.mimetype) == (404, "application/problem+json")


def test_a_slash_too_many_leads_to_the_list_of_videos(client: FlaskClient) -> None:
    assert client.get("/videos/").status_code == 200


def test_nothing_outside_the_folder_is_served(client: FlaskClient) -> None:
    for path in ("../server.py", "..%2fserver.py", "%2e%2e/server.py"):
        assert client.get(f"/assets/x/{path}").status_code == 404


@pytest.mark.parametrize("path", PAGES)
def test_a_page_holds_no_inline_script_or_style_and_loads_nothing_from_elsewhere(
    client: FlaskClient, path: str
) -> None:
    text = client.get(path).text
    assert not re.search(r"<script(?![^>]*\bsrc=)", text)
    assert not re.search(r"<style|\bstyle=|\bon\w+=", text)
    assert not re.search(r"https?://", text)
    for address in re.findall(r'"/assets/\w+/([^"]+)"', text):
        assert (STATIC / address).is_file(), address


def test_every_module_that_is_imported_exists() -> None:
    for module in STATIC.rglob("*.js"):
        if module.parent.name == "vendor":
            continue
        for imported in re.findall(r'(?:from|import\() *"([^"]+)"', module.read_text()):
            assert (module.parent / imported).is_file(), f"{module.name} imports {imported}"


@pytest.mark.parametrize("path", PAGES)
def test_every_page_leads_to_the_others(client: FlaskClient, path: str) -> None:
    text = client.get(path).text
    for other in ("/", "/videos"):
        assert f'<a href="{other}"' in text
    assert text.count("aria-current") == 1
