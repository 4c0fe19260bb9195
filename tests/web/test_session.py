from __future__ import annotations

import html
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from shared.bus import Bus
from shared.errors import ConfigError
from tests.web.conftest import PASSWORD, settings
from web import close_app, create_app
from web.session import Guesses, Sessions


@pytest.fixture
def guarded(bus: Bus, tmp_path: Path) -> Iterator[FlaskClient]:
    app = create_app(settings(tmp_path, password=PASSWORD), bus)
    yield app.test_client()
    close_app(app)


def test_logging_in_opens_the_page_and_logging_out_closes_it(guarded: FlaskClient) -> None:
    assert guarded.get("/").headers["Location"] == "/login"
    assert b"Password" in guarded.get("/login").data
    entered = guarded.post("/login", data={"password": PASSWORD})
    assert (entered.status_code, entered.headers["Location"]) == (303, "/")
    cookie = entered.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert "Secure" not in cookie
    assert guarded.get("/").status_code == 200
    assert guarded.get("/api/feeds").json == []
    assert guarded.post("/logout").headers["Location"] == "/login"
    assert guarded.get("/api/feeds").status_code == 401


def test_logging_in_leads_to_the_page_that_was_asked_for(guarded: FlaskClient) -> None:
    moment = f"/videos/{'a' * 16}?t=5.2"
    login = guarded.get(moment).headers["Location"]
    assert login == f"/login?to=%2Fvideos%2F{'a' * 16}%3Ft%3D5.2"
    form = guarded.get(login).get_data(as_text=True)
    action = html.unescape(form.partition('action="')[2].partition('"')[0])
    assert guarded.post(action, data={"password": "no"}).status_code == 401
    assert guarded.post(action, data={"password": PASSWORD}).headers["Location"] == moment
    assert guarded.get(login).headers["Location"] == moment


@pytest.mark.parametrize(
    "to", ["//evil.example", "https://evil.example", "/\\evil.example", "/videos\nX: y", "/logout"]
)
def test_logging_in_leads_to_no_other_page(guarded: FlaskClient, to: str) -> None:
    entered = guarded.post("/login", query_string={"to": to}, data={"password": PASSWORD})
    assert entered.headers["Location"] == "/"


def test_over_https_the_cookie_stays_there(guarded: FlaskClient) -> None:
    entered = guarded.post("/login", data={"password": PASSWORD}, base_url="https://localhost")
    assert "Secure" in entered.headers["Set-Cookie"]


def test_a_wrong_password_is_told_and_after_some_one_has_to_wait(guarded: FlaskClient) -> None:
    answers = [guarded.post("/login", data={"password": "no"}) for _ in range(6)]
    assert [answer.status_code for answer in answers] == [401] * 5 + [429]
    assert b"This is not the password." in answers[0].data
    assert b"Try again in" in answers[-1].data
    assert guarded.post("/login", data={"password": PASSWORD}).status_code == 429


def test_a_foreign_page_cannot_log_in(guarded: FlaskClient) -> None:
    answer = guarded.post(
        "/login", data={"password": PASSWORD}, headers={"Origin": "http://evil.example"}
    )
    assert answer.status_code == 403


def test_without_a_password_there_is_no_login(client: FlaskClient) -> None:
    assert client.get("/login").headers["Location"] == "/"
    assert client.post("/login").headers["Location"] == "/"
    assert b"logout" not in client.get("/").data


def test_the_key_is_this_users_alone(tmp_path: Path) -> None:
    Sessions(settings(tmp_path, password=PASSWORD))
    key = tmp_path / "data" / "session.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    key.write_bytes(b"short")
    with pytest.raises(ConfigError, match="too short: delete that file"):
        Sessions(settings(tmp_path, password=PASSWORD))


def test_a_data_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(ConfigError, match="MOODLINE_DATA_DIR"):
        Sessions(settings(tmp_path, password=PASSWORD))


def test_waiting_grows_to_a_minute_and_is_forgotten() -> None:
    now = 1000.0
    guesses = Guesses(clock=lambda: now)
    waits = []
    for _ in range(14):
        waits.append(guesses.wait_s("10.0.0.1"))
        now += guesses.wait_s("10.0.0.1")
        guesses.wrong("10.0.0.1")
    assert waits[:5] == [0.0] * 5
    assert waits[5:8] == [2.0, 4.0, 8.0]
    assert max(waits) == 60.0
    now += 901
    assert guesses.wait_s("10.0.0.1") == 0.0


def test_ipv6_addresses_of_one_network_guess_together() -> None:
    guesses = Guesses(clock=lambda: 0.0)
    for i in range(5):
        guesses.wrong(f"2001:db8::{i}")
    assert guesses.wait_s("2001:db8::ffff") > 0
    assert guesses.wait_s("2001:db8:0:1::1") == 0
    guesses.right("2001:db8::1")
    assert guesses.wait_s("2001:db8::ffff") == 0


def test_web_processes_with_one_key_know_one_anothers_logins(tmp_path: Path) -> None:
    """Each has a data folder of its own, as on machines of their own."""
    one, two, stranger = (
        Sessions(settings(tmp_path / name, password=PASSWORD, session_key=key * 32))
        for name, key in (("one", "a"), ("two", "a"), ("three", "b"))
    )
    cookie = one.new_cookie()
    assert two.is_valid(cookie)
    assert not stranger.is_valid(cookie)
    assert not list(tmp_path.rglob("session.key"))
