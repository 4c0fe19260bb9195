"""Storage: one set of promises, held by a local folder and by a real S3 server over HTTP."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shared import config
from shared.config import PROJECT_DIR
from shared.errors import ConfigError, InvalidRecord, MediaError, NotFound
from shared.media import Media
from tests import buckets

WAYS_OUT = (
    *("", "/etc/passwd", "../secret", "videos/../../secret", "a//b", "a/", ".drafts/x", "a/.b"),
    *("a\\b", "a b", "a\nb", "a/%2e%2e/b", "~/x"),
)


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    log = tmp_path_factory.mktemp("s3") / "server.log"
    with buckets.bucket_server(log) as variables, buckets.in_environment(variables):
        yield variables


@pytest.fixture(params=["folder", "s3"])
def media(request: pytest.FixtureRequest, tmp_path: Path) -> Media:
    if request.param == "folder":
        return Media(str(tmp_path / "media"))
    request.getfixturevalue("s3")
    return Media(f"s3://{buckets.BUCKET}/{tmp_path.name}")


def test_what_is_written_can_be_read_listed_and_measured(media: Media) -> None:
    media.write("videos/a/video.json", b"{}")
    media.write("videos/a/segments/00000.json.gz", b"12345")
    media.write("videos/b/video.json", b"[]")
    assert media.read("videos/a/video.json") == b"{}"
    assert media.size("videos/a/segments/00000.json.gz") == 5
    assert media.list("videos") == ["a", "b"]
    assert media.list("videos/a") == ["segments", "video.json"]
    assert media.exists("videos/a/video.json")
    assert 0 <= media.age_s("videos/a/video.json") < 60


def test_writing_again_replaces(media: Media) -> None:
    media.write("a/b", b"old")
    media.write("a/b", b"new and longer")
    assert media.read("a/b") == b"new and longer"
    assert media.size("a/b") == 14


def test_what_is_not_there_is_said_so(media: Media) -> None:
    assert media.list("videos") == []
    assert not media.exists("videos/a")
    with pytest.raises(NotFound, match="videos/a"):
        media.read("videos/a")
    with pytest.raises(NotFound):
        media.open("videos/a")
    with pytest.raises(NotFound):
        media.size("videos/a")
    with pytest.raises(NotFound), media.local("videos/a"):
        pass


def test_a_folder_is_no_file(media: Media) -> None:
    media.write("videos/a/video.json", b"{}")
    assert not media.exists("videos/a")
    with pytest.raises(NotFound):
        media.size("videos/a")


def test_a_large_file_can_be_read_anywhere(media: Media, tmp_path: Path) -> None:
    content = os.urandom(1 << 20) * 11
    local = tmp_path / "upload"
    local.write_bytes(content)
    media.put_file("videos/a/source", local)
    assert not local.exists()
    with media.open("videos/a/source") as file:
        file.seek(-7, os.SEEK_END)
        assert file.read() == content[-7:]
        file.seek(5_000_000)
        assert file.read(100) == content[5_000_000:5_000_100]
        assert file.tell() == 5_000_100


def test_a_created_file_appears_whole_and_only_at_the_end(media: Media) -> None:
    with media.create("a/film") as file:
        file.write(b"....body")
        assert not media.exists("a/film")
        file.seek(0)
        file.write(b"head")
    assert media.read("a/film") == b"headbody"


def test_a_created_file_that_fails_never_appears(media: Media) -> None:
    def fail() -> None:
        with media.create("a/film") as file:
            file.write(b"new")
            raise ZeroDivisionError

    media.write("a/film", b"old")
    with pytest.raises(ZeroDivisionError):
        fail()
    assert media.read("a/film") == b"old"
    assert media.list("a") == ["film"]


def test_a_library_gets_a_real_file(media: Media) -> None:
    media.write("a/source", b"moving pictures")
    with media.local("a/source") as path:
        assert path.read_bytes() == b"moving pictures"
    assert media.read("a/source") == b"moving pictures"


def test_deleting_a_folder_leaves_nothing_of_it(media: Media) -> None:
    for i in range(20):
        media.write(f"videos/a/segments/{i:05d}", b"x")
    media.write("videos/ab/video.json", b"not mine")
    media.delete("videos/a")
    media.delete("videos/a")
    assert media.list("videos") == ["ab"]
    assert media.list("videos/a/segments") == []


def test_deleting_one_file_leaves_the_others(media: Media) -> None:
    media.write("a/one", b"1")
    media.write("a/two", b"2")
    media.delete("a/one")
    assert media.list("a") == ["two"]


@pytest.mark.parametrize("path", WAYS_OUT)
def test_no_path_leads_out_of_the_root(media: Media, path: str) -> None:
    for verb in (media.read, media.open, media.exists, media.list, media.delete, media.size):
        with pytest.raises(InvalidRecord):
            verb(path)
    with pytest.raises(InvalidRecord):
        media.write(path, b"")
    with pytest.raises(InvalidRecord), media.create(path):
        pass


def test_watched_work_stops_at_any_access_and_leaves_nothing(media: Media) -> None:
    allowed = 5

    def touch() -> None:
        nonlocal allowed
        allowed -= 1
        if allowed < 0:
            raise InterruptedError

    def write_much() -> None:
        with watched.create("a/large") as file:
            for _ in range(100):
                file.write(bytes(10_000))

    watched = media.watched(touch)
    watched.write("a/small", b"x")
    with pytest.raises(InterruptedError):
        write_much()
    with pytest.raises(InterruptedError):
        watched.read("a/small")
    assert media.list("a") == ["small"]


def test_threads_share_one_storage(media: Media) -> None:
    def work(number: int) -> bytes:
        for i in range(5):
            media.write(f"a/{number}-{i}", bytes([number]))
        return b"".join(media.read(f"a/{number}-{i}") for i in range(5))

    with ThreadPoolExecutor(6) as threads:
        assert list(threads.map(work, range(6))) == [bytes([number] * 5) for number in range(6)]
    assert len(media.list("a")) == 30


def test_a_forked_process_opens_its_own_connections(media: Media) -> None:
    media.write("a/parent", b"1")
    child = os.fork()
    if child == 0:
        try:
            media.write("a/child", media.read("a/parent") + b"2")
            os._exit(0)
        finally:
            os._exit(1)
    deadline = time.monotonic() + 20
    while (done := os.waitpid(child, os.WNOHANG)) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(child, 9)
        time.sleep(0.02)
    assert os.waitstatus_to_exitcode(done[1]) == 0
    assert media.read("a/child") == b"12"


def test_a_new_folder_is_its_users_alone(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir(mode=0o755)
    for folder, mode in (("new/media", 0o700), ("shared", 0o755)):
        Media(str(tmp_path / folder)).write("videos/a", b"a face")
        assert stat.S_IMODE((tmp_path / folder).stat().st_mode) == mode


def test_readers_see_the_old_or_the_new(tmp_path: Path) -> None:
    media = Media(str(tmp_path))
    media.write("a/b", b"0" * 100_000)
    done = threading.Event()
    seen: set[int] = set()

    def read() -> None:
        while not done.is_set():
            seen.add(len(set(media.read("a/b"))))

    reader = threading.Thread(target=read)
    reader.start()
    for i in range(200):
        media.write("a/b", str(i % 10).encode() * 100_000)
    done.set()
    reader.join()
    assert seen == {1}


def test_drafts_of_killed_processes_are_swept(tmp_path: Path) -> None:
    media = Media(str(tmp_path))
    code = (
        "import os, sys; from shared.media import Media\n"
        "with Media(sys.argv[1]).create('a/film') as file:\n"
        "    file.write(b'x' * 100_000); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path], cwd=PROJECT_DIR, check=False)
    drafts = tmp_path / ".drafts"
    assert len(list(drafts.iterdir())) == 1
    media.sweep_drafts(older_than_s=3600)
    assert len(list(drafts.iterdir())) == 1
    media.sweep_drafts(older_than_s=0)
    assert list(drafts.iterdir()) == []


def test_a_file_url_is_a_folder(tmp_path: Path) -> None:
    Media(f"file://{tmp_path}/with%20space").write("a/b", b"1")
    assert (tmp_path / "with space" / "a" / "b").read_bytes() == b"1"


def test_a_folder_that_cannot_be_used_is_said_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(MediaError, match=re.escape("check MEDIA_URL")):
        Media(str(tmp_path / "file")).write("a/b", b"")


def test_a_bucket_that_is_not_there_is_said_with_the_remedy(s3: dict[str, str]) -> None:
    media = Media("s3://no-such-bucket/x")
    with pytest.raises((MediaError, NotFound)):
        media.write("a/b", b"")


def test_a_server_that_is_away_is_said_without_its_keys() -> None:
    nobody = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{buckets.free_port()}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "very-secret",
    }
    with buckets.in_environment(nobody), pytest.raises(MediaError) as caught:
        Media("s3://films/x").write("a/b", b"")
    assert "very-secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["floppy://a/b", "memory://x", "http://host/x", "github://a:b@c/d", "s3:///x", "s3a://b/x"],
)
def test_an_address_of_no_known_storage_is_a_wrong_setting(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """fsspec would take some of these, and keep films in memory or fetch them from a stranger."""
    with pytest.raises(ConfigError, match="MEDIA_URL") as refused:
        Media(url)
    assert "a:b" not in str(refused.value)
    monkeypatch.setenv("MEDIA_URL", url)
    with pytest.raises(ConfigError, match="s3://bucket/prefix"):
        config.load()


def test_a_local_folder_pays_nothing_for_buckets() -> None:
    code = (
        "import sys; from shared.media import Media\n"
        "Media(sys.argv[1]).write('a', b'')\n"
        "print(sorted({'fsspec', 's3fs', 'botocore', 'aiohttp'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "/tmp/moodline-test-media"],
        cwd=PROJECT_DIR,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
