from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from werkzeug.test import Client, EnvironBuilder, TestResponse

from tests.web.conftest import PASSWORD, settings
from web.guard import Guard
from web.session import COOKIE, Sessions


def app(_environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"inside"]


class Door:
    """A guarded application and the means to knock."""

    def __init__(self, tmp_path: Path, **values: object) -> None:
        self.settings = settings(tmp_path, **values)
        self.sessions = Sessions(self.settings)
        self.client = Client(Guard(app, self.settings, self.sessions), use_cookies=False)

    def ask(
        self,
        path: str = "/api/feeds",
        method: str = "GET",
        host: str = "127.0.0.1:8470",
        **headers: str,
    ) -> TestResponse:
        named = [(name.replace("_", "-"), value) for name, value in headers.items()]
        builder = EnvironBuilder(path=path, method=method, headers=named)
        environ = builder.get_environ()
        builder.close()
        environ["HTTP_HOST"] = host
        environ["REMOTE_ADDR"] = "192.168.1.7"
        return self.client.open(environ)


@pytest.mark.parametrize(
    ("host", "values", "status"),
    [
        ("127.0.0.1:8470", {}, 200),
        ("localhost", {}, 200),
        ("localhost:9999", {}, 200),  # ports get mapped
        ("LOCALHOST.:8470", {}, 200),
        ("[::1]:8470", {}, 200),
        ("evil.example:8470", {}, 403),
        ("localhost.evil.example", {}, 403),
        ("192.168.1.20:8470", {}, 403),
        ("", {}, 403),
        ("localhost@evil.example", {}, 403),
        ("localhost, evil.example", {}, 403),
        ("mood.example", {"allowed_hosts": ("mood.example",)}, 200),
        ("other.example", {"allowed_hosts": ("mood.example",)}, 403),
        ("mood.example", {"allowed_hosts": ("mood.example:8443",)}, 200),
        ("mood.example:8443", {"allowed_hosts": ("mood.example:8443",)}, 200),
        ("other.example:8443", {"allowed_hosts": ("mood.example:8443",)}, 403),
        ("[2001:db8::1]:8443", {"allowed_hosts": ("[2001:db8::1]:8443",)}, 200),
        ("[2001:db8::1]", {"allowed_hosts": ("2001:db8::1",)}, 200),
        ("moodbox", {"host": "moodbox", "password": PASSWORD}, 401),  # known; then the password
        ("192.168.1.20:8470", {"host": "0.0.0.0", "password": PASSWORD}, 401),
        ("evil.example", {"host": "0.0.0.0", "password": PASSWORD}, 403),
    ],
)
def test_the_host_must_be_this_servers(
    host: str, values: dict[str, object], status: int, tmp_path: Path
) -> None:
    assert Door(tmp_path, **values).ask(host=host).status_code == status


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", "/api/feeds", {}, 200),  # a program
        ("POST", "/api/feeds", {"Origin": "http://127.0.0.1:8470"}, 200),
        ("POST", "/api/feeds", {"Origin": "https://127.0.0.1:8470"}, 200),  # TLS ends at a proxy
        ("POST", "/api/feeds", {"Origin": "http://evil.example"}, 403),
        ("POST", "/api/feeds", {"Origin": "http://127.0.0.1:3000"}, 403),  # another local page
        ("POST", "/api/feeds", {"Origin": "http://localhost:8470"}, 403),
        ("POST", "/api/feeds", {"Origin": "null"}, 403),
        ("POST", "/api/feeds", {"Origin": "http://127.0.0.1:8470,http://127.0.0.1:8470"}, 200),
        ("POST", "/api/feeds", {"Origin": "http://127.0.0.1:8470, http://evil.example"}, 403),
        ("POST", "/api/feeds", {"Origin": "file://127.0.0.1:8470"}, 403),
        ("POST", "/api/feeds", {"Sec_Fetch_Site": "cross-site"}, 403),
        ("POST", "/api/feeds", {"Sec_Fetch_Site": "same-site"}, 403),
        ("POST", "/api/feeds", {"Sec_Fetch_Site": "same-origin"}, 200),
        (
            "POST",
            "/api/feeds",
            {"Origin": "http://127.0.0.1:8470", "Sec_Fetch_Site": "cross-site"},
            403,
        ),
        ("POST", "/api/feeds", {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}, 403),
        ("DELETE", "/api/feeds/a", {"Origin": "http://evil.example"}, 403),
        ("POST", "/api/videos", {"Origin": "http://evil.example"}, 403),
        ("PATCH", "/api/uploads/a", {"Origin": "http://evil.example"}, 403),
        ("GET", "/api/videos/a/source", {"Sec_Fetch_Site": "cross-site"}, 403),
        (
            "POST",
            "/api/feeds",
            {"Origin": "http://evil.example", "X_Forwarded_Host": "evil.example"},
            403,
        ),
        ("GET", "/socket.io/", {}, 200),
        ("GET", "/socket.io/", {"Origin": "http://127.0.0.1:8470"}, 200),
        ("GET", "/socket.io/", {"Origin": "http://evil.example"}, 403),
        (
            "GET",
            "/socket.io/",
            {"Origin": "http://evil.example", "X_Forwarded_Host": "evil.example"},
            403,
        ),
        (
            "GET",
            "/socket.io/",
            {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"},
            403,
        ),
        ("GET", "/api/feeds/a/snapshot.jpg", {"Sec_Fetch_Site": "cross-site"}, 403),
        ("GET", "/api/feeds", {"Origin": "http://evil.example"}, 403),
        (
            "GET",
            "/",
            {
                "Sec_Fetch_Site": "cross-site",
                "Sec_Fetch_Mode": "navigate",
                "Sec_Fetch_Dest": "document",
            },
            200,  # a link
        ),
        (
            "GET",
            "/",
            {
                "Sec_Fetch_Site": "cross-site",
                "Sec_Fetch_Mode": "navigate",
                "Sec_Fetch_Dest": "iframe",
            },
            403,
        ),
    ],
)
def test_other_pages_may_link_here_and_nothing_else(
    method: str, path: str, headers: dict[str, str], status: int, tmp_path: Path
) -> None:
    assert Door(tmp_path).ask(path, method, **headers).status_code == status


def test_a_forwarded_host_opens_no_door(tmp_path: Path) -> None:
    answer = Door(tmp_path).ask(host="evil.example", X_Forwarded_Host="localhost")
    assert answer.status_code == 403
    assert "MOODLINE_ALLOWED_HOSTS" in json.loads(answer.data)["detail"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 302),
        ("/videos", 302),
        ("/videos/0123456789abcdef", 302),
        ("/api/videos", 401),
        ("/api/uploads", 401),
        ("/api/videos/0123456789abcdef/source", 401),
        ("/api/feeds", 401),
        ("/api/openapi.json", 401),
        ("/readyz", 401),
        ("/metrics", 401),
        ("/socket.io/", 401),
        ("/nowhere", 401),
        ("/logout", 401),
        ("/healthz", 200),
        ("/login", 200),
        ("/assets/abc/style.css", 200),
    ],
)
def test_strangers_see_only_health_login_and_assets(path: str, status: int, tmp_path: Path) -> None:
    answer = Door(tmp_path, password=PASSWORD).ask(path)
    assert answer.status_code == status
    if status == 302:
        back = "" if path == "/" else f"?to={quote(path, safe='')}"
        assert answer.headers["Location"] == f"/login{back}"
    if status == 401:
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_the_password_opens_as_a_bearer_token(tmp_path: Path) -> None:
    door = Door(tmp_path, password=PASSWORD)
    as_sent = PASSWORD.encode().decode("latin-1")
    assert door.ask(Authorization=f"Bearer {as_sent}").status_code == 200
    assert door.ask(Authorization="Bearer wrong").status_code == 401
    assert door.ask(Authorization=f"Basic {as_sent}").status_code == 401


def test_a_session_opens_until_the_password_changes(tmp_path: Path) -> None:
    door = Door(tmp_path, password=PASSWORD)
    cookie = f"other=1; {COOKIE}={door.sessions.new_cookie()}"
    assert door.ask(Cookie=cookie).status_code == 200
    assert door.ask(Cookie=f"{COOKIE}=forged").status_code == 401
    assert Door(tmp_path, password=PASSWORD).ask(Cookie=cookie).status_code == 200  # a restart
    assert Door(tmp_path, password="another").ask(Cookie=cookie).status_code == 401


def test_guessing_gets_slow_and_ends_neither_sessions_nor_other_addresses(tmp_path: Path) -> None:
    door = Door(tmp_path, password=PASSWORD)
    cookie = f"{COOKIE}={door.sessions.new_cookie()}"
    answers = [door.ask(Authorization=f"Bearer {i}") for i in range(8)]
    assert [answer.status_code for answer in answers] == [401] * 5 + [429] * 3
    assert int(answers[-1].headers["Retry-After"]) >= 1
    assert door.ask(Cookie=cookie).status_code == 200
    assert door.sessions.guesses.wait_s("192.168.1.8") == 0


def test_every_answer_carries_the_policy(tmp_path: Path) -> None:
    for answer in (Door(tmp_path).ask(), Door(tmp_path).ask(host="evil.example")):
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe-inline" not in policy
        assert "media-src 'self' blob:" in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-store"
        assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize(
    ("proxies", "forwarded", "seen"),
    [
        ((), "203.0.113.9", "192.168.1.7 http"),  # nobody is believed
        (("192.168.1.0/24",), "203.0.113.9", "203.0.113.9 https"),
        (("192.168.1.7",), "10.0.0.1, 203.0.113.9", "203.0.113.9 https"),  # the first is a claim
        (("192.168.1.7", "10.0.0.0/8"), "203.0.113.9, 10.0.0.1", "203.0.113.9 https"),
        (("192.168.1.7",), "'; drop", "192.168.1.7 https"),
        (("192.168.1.8",), "203.0.113.9", "192.168.1.7 http"),
    ],
)
def test_only_trusted_proxies_say_who_asks(
    tmp_path: Path, proxies: tuple[str, ...], forwarded: str, seen: str
) -> None:
    door = Door(tmp_path, trusted_proxies=proxies)
    told = [("X-Forwarded-For", forwarded), ("X-Forwarded-Proto", "https")]
    environ = EnvironBuilder(headers=told, environ_base={"REMOTE_ADDR": "192.168.1.7"})
    found = environ.get_environ()
    list(Guard(app, door.settings, door.sessions)(found, lambda *_: lambda _: None))
    assert f"{found['REMOTE_ADDR']} {found['wsgi.url_scheme']}" == seen
