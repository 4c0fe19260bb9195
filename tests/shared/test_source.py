"""What a source is, and that its password shows nowhere."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import SourceError
from shared.source import Source, SourceKind, mask_address

_SECRETS = st.text(
    st.characters(codec="ascii", categories=["L", "N", "P", "S"]), min_size=6, max_size=16
).filter(lambda text: unquote(text) == text and not text.startswith(":"))

_USERS = st.from_regex(r"[A-Za-z0-9._@-]{6,12}", fullmatch=True)


@pytest.mark.parametrize(
    ("text", "kind", "locator"),
    [
        ("demo", SourceKind.DEMO, "demo"),
        ("0", SourceKind.WEBCAM, "0"),
        (" 02 ", SourceKind.WEBCAM, "2"),
        ("/dev/video3", SourceKind.WEBCAM, "/dev/video3"),
        ("rtsp://camera.local/x", SourceKind.STREAM, "rtsp://camera.local/x"),
        ("HTTP://camera:8080/x?a=1", SourceKind.STREAM, "http://camera:8080/x?a=1"),
        ("https://[::1]:8443/x", SourceKind.STREAM, "https://[::1]:8443/x"),
        ("rtsps://u:pw@camera/x", SourceKind.STREAM, "rtsps://u:pw@camera/x"),
        ("/videos/a clip.mp4", SourceKind.FILE, "/videos/a clip.mp4"),
        ("/dev/null", SourceKind.FILE, "/dev/null"),
    ],
)
def test_a_source_is_what_its_form_says(text: str, kind: SourceKind, locator: str) -> None:
    source = Source.parse(text)
    assert (source.kind, source.locator) == (kind, locator)


def test_a_folder_is_told_from_a_file(tmp_path: Path) -> None:
    assert Source.parse(str(tmp_path)).kind is SourceKind.FOLDER
    assert Source.parse(str(tmp_path / "clip.mp4")).kind is SourceKind.FILE


def test_a_path_means_the_same_in_every_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    written = Source.parse("clip.mp4")
    monkeypatch.chdir("/")
    assert Source.parse(written.text) == written
    assert written.locator == str(tmp_path / "clip.mp4")


def test_a_path_that_cannot_be_looked_up_is_left_to_who_opens_it() -> None:
    assert Source.parse("/" + "x" * 400).kind is SourceKind.FILE


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("   ", "is empty"),
        ("ftp://camera/x", "use one of rtsp://"),
        ("file:///etc/passwd", "use one of rtsp://"),
        ("x" * 3000, "longer than 2048"),
        ("rtsp://camera\n/x", "unprintable"),
        ("rtsp:///x", "names no host"),
        ("rtsp://user:pw@/x", "names no host"),
        ("rtsp://camera:port/x", "names no host"),
        ("~nobody-of-this-name/clip.mp4", "names no known user"),
    ],
)
def test_what_is_no_source_is_refused(text: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        Source.parse(text)


@pytest.mark.parametrize("text", ["ftp://admin:geheim@camera/x", "rtsp://admin:geheim@:/x"])
def test_a_refusal_does_not_quote_the_password(text: str) -> None:
    with pytest.raises(SourceError) as caught:
        Source.parse(text)
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("rtsp://user:p@ss/w#rd@host/x", "rtsp://***@host/x"),
        ("rtsp://user@host/x", "rtsp://***@host/x"),
        ("http://host/x", "http://host/x"),
        ("http://host/x?channel=1&password=geheim", "http://host/x?channel=1&password=***"),
        ("http://host/x?USER=a&pwd=b#c", "http://host/x?USER=***&pwd=***#c"),
        ("http://host/mail?to=a@b.org", "http://***@b.org"),  # too much rather than too little
        ("/home/user/a@b.mp4", "/home/user/a@b.mp4"),
        ("demo", "demo"),
    ],
)
def test_masking(text: str, masked: str) -> None:
    assert mask_address(text) == masked


@given(
    user=_USERS,
    # user:12345/… is taken for host:port/…
    password=_SECRETS.filter(lambda text: not re.match(r"\d{1,5}[/?#]", text)),
)
def test_any_password_is_masked_and_opens(user: str, password: str) -> None:
    source = Source.parse(f"rtsp://{user}:{password}@camera.local:554/stream1")
    assert source.masked == "rtsp://***@camera.local:554/stream1"
    assert source.default_name == "camera.local:554/stream1"
    address = urlsplit(source.locator)
    assert (address.hostname, address.port, address.path) == ("camera.local", 554, "/stream1")
    assert unquote(address.username or "") == user
    assert unquote(address.password or "") == password


@given(user=_USERS, password=_SECRETS)
def test_other_peoples_messages_are_scrubbed(user: str, password: str) -> None:
    source = Source.parse(f"rtsp://{user}:{password}@camera.local/x")
    message = f"[Errno 1] {source.locator}: {password!s} of {user} ({source.text})"
    scrubbed = source.scrub(message)
    for secret in (user, password):
        assert secret not in scrubbed.replace("***", "").replace("rtsp://@camera.local/x", "")


def test_a_password_that_is_percent_encoded_already_stays_as_it_is() -> None:
    source = Source.parse("rtsp://user:p%40ss@host/x")
    assert source.locator == "rtsp://user:p%40ss@host/x"


def test_what_looks_like_host_and_port_is_host_and_port() -> None:
    source = Source.parse("http://camera:8080/mail/a@b")
    assert source.locator == "http://camera:8080/mail/a@b"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("0", "Webcam 0"),
        ("/dev/video2", "Webcam 2"),
        ("demo", "Demo"),
        ("/videos/party.mp4", "party.mp4"),
        ("rtsp://a:b@camera/x?token=geheim", "camera/x"),
    ],
)
def test_a_feed_without_a_name_is_called_after_its_source(text: str, name: str) -> None:
    assert Source.parse(text).default_name == name


def test_a_browsers_camera_is_a_source_of_its_own() -> None:
    source = Source.browser()
    assert (source.kind, source.masked) == (SourceKind.BROWSER, "browser")


@pytest.mark.parametrize(
    "text",
    [
        "admin:hunter2@10.0.0.9:554/stream1",
        "rtsp:/admin:hunter2@10.0.0.9/x",
        "rtsp:admin:hunter2@10.0.0.9",
        "https:admin:hunter2@10.0.0.9",
    ],
)
def test_an_address_without_its_beginning_is_not_taken_for_a_file(text: str) -> None:
    with pytest.raises(SourceError, match="rtsp://user:password@host") as caught:
        Source.parse(text)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "rtsp://10.0.0.9:554/user=admin_password=hunter2_channel=1_stream=0.sdp",
        "rtsp://10.0.0.9/user=admin&password=hunter2",
        "http://10.0.0.9/video?usr=admin&pw=hunter2",
    ],
)
def test_a_password_in_path_or_query_is_masked(text: str) -> None:
    source = Source.parse(text)
    assert source.locator == text
    for shown in (source.masked, source.default_name):
        assert "hunter2" not in shown
        assert "admin" not in shown


def test_a_webcam_has_a_small_number() -> None:
    with pytest.raises(SourceError, match="webcam"):
        Source.parse("1" * 300)
