"""The one door to storage: files of recorded videos, in a local folder or in any S3 bucket.

Paths are relative to the media root and made by code, never from what a user typed. What it
promises: a file is there whole or not at all (`write`, `create`, `put_file`); a name is free again
as soon as `delete` returns; a file that is written twice is the last one written.

A local folder is plain files, because libraries read those best. Everything else goes through
fsspec, loaded when first used: a local run does not pay for it. Safe to share between threads; each
process opens its own connections, also after a fork.

Every verb raises MediaError where the storage does not answer as it should, InvalidRecord for a
path that is none.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import os
import re
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, cast
from urllib.parse import unquote, urlsplit

from shared.errors import ConfigError, InvalidRecord, MediaError, NotFound
from shared.source import mask_address

if TYPE_CHECKING:
    from typing_extensions import Buffer  # collections.abc has it from Python 3.12 on

_PART = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_DRAFTS = ".drafts"  # no path can name it: parts do not begin with a dot
_BLOCK_BYTES = 4 * 1024 * 1024  # read at once from a bucket


class Media:
    """The verbs. `url` is a folder, ``file:///folder`` or ``s3://bucket/prefix``.

    Raises ConfigError for any other address.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.address = mask_address(url)
        self._store: _Store
        if "://" not in url or url.startswith("file://"):
            path = unquote(urlsplit(url).path) if "://" in url else url
            self._store = _Folder(Path(path).expanduser().absolute())
        elif re.match(r"s3://[^/]", url):
            self._store = _Bucket(url, self.address)
        else:
            raise ConfigError(
                f"MEDIA_URL={self.address!r} is no storage that Moodline knows: "
                "write a folder, or s3://bucket/prefix."
            )
        self._touch: Callable[[], None] = lambda: None

    def watched(self, touch: Callable[[], None]) -> Media:
        """The same storage for work that can be stopped at any access to it.

        `touch` is called before each verb and every few kilobytes that are written to a file of
        `create`; what it raises goes through, and such a file then never appears.
        """
        other = copy.copy(self)
        other._touch = touch
        return other

    def read(self, path: str) -> bytes:
        """The whole file; raises NotFound."""
        with self._speaking(path), self._store.open(_checked(path)) as file:
            return file.read()

    def write(self, path: str, data: bytes) -> None:
        """Make or replace a file: a reader sees the old or the new."""
        with self._speaking(path):
            self._store.write(_checked(path), data)

    def open(self, path: str) -> BinaryIO:
        """A seekable, buffered file to read from; raises NotFound."""
        with self._speaking(path):
            return self._store.open(_checked(path))

    @contextlib.contextmanager
    def create(self, path: str) -> Iterator[BinaryIO]:
        """A seekable file to write to, which appears only when the block ends without an error."""
        _checked(path)
        with self._speaking(path):
            draft = self._store.new_draft()
        try:
            with io.BufferedWriter(_TouchedFile(draft, self._touch)) as file:
                yield file
            self.put_file(path, draft)
        finally:
            draft.unlink(missing_ok=True)

    def put_file(self, path: str, local: Path) -> None:
        """Move a finished local file in: it is not where it was afterwards."""
        with self._speaking(path):
            self._store.put_file(_checked(path), local)

    @contextlib.contextmanager
    def local(self, path: str) -> Iterator[Path]:
        """A real file for a library that needs one, to be read only; raises NotFound."""
        with contextlib.ExitStack() as stack:
            with self._speaking(path):
                file = stack.enter_context(self._store.local(_checked(path)))
            yield file

    def exists(self, path: str) -> bool:
        """Whether there is such a file."""
        with self._speaking(path):
            return self._store.size(_checked(path)) is not None

    def size(self, path: str) -> int:
        """Bytes of a file; raises NotFound."""
        with self._speaking(path):
            size = self._store.size(_checked(path))
            if size is None:
                raise FileNotFoundError
            return size

    def stamp(self, file: BinaryIO) -> tuple[int, str]:
        """Bytes of a file that `open` gave, and a word that no other version of it has."""
        with self._speaking("an open file"):
            return self._store.stamp(file)

    def age_s(self, path: str) -> float:
        """Seconds since a file was written, by the storage's clock; raises NotFound."""
        with self._speaking(path):
            return max(0.0, time.time() - self._store.modified_at(_checked(path)))

    def list(self, folder: str) -> list[str]:
        """Names of the files and folders in a folder, in order; none where there is no folder."""
        with self._speaking(folder):
            return sorted(self._store.names(_checked(folder)))

    def delete(self, path: str) -> None:
        """Remove a file, or a folder with all that is in it; what is not there is fine."""
        with self._speaking(path):
            self._store.delete(_checked(path))

    def sweep_drafts(self, older_than_s: float) -> None:
        """Remove what processes that were killed left half written."""
        with self._speaking("drafts"):
            self._store.sweep_drafts(older_than_s)

    @contextlib.contextmanager
    def _speaking(self, path: str) -> Iterator[None]:
        """Turn what the storage raises into this tree's errors."""
        self._touch()
        try:
            yield
        except FileNotFoundError as error:
            raise NotFound(f"There is no file {path!r} in the storage {self.address}.") from error
        except self._store.errors() as error:
            raise MediaError(
                f"The storage {self.address} cannot be used for {path!r} "
                f"({type(error).__name__}: {error}): check MEDIA_URL, access rights and free space."
            ) from error


class _TouchedFile(io.FileIO):
    """A file to write that calls `touch` before each write."""

    def __init__(self, path: Path, touch: Callable[[], None]) -> None:
        super().__init__(path, "w+")
        self._touch = touch

    def write(self, data: Buffer) -> int:
        self._touch()
        return super().write(data)


class _Store(Protocol):
    """What a kind of storage can do; raises one of `errors`."""

    def errors(self) -> tuple[type[Exception], ...]: ...
    def open(self, path: str) -> BinaryIO: ...
    def write(self, path: str, data: bytes) -> None: ...
    def new_draft(self) -> Path: ...
    def put_file(self, path: str, local: Path) -> None: ...
    def local(self, path: str) -> contextlib.AbstractContextManager[Path]: ...
    def size(self, path: str) -> int | None: ...
    def stamp(self, file: BinaryIO) -> tuple[int, str]: ...
    def modified_at(self, path: str) -> float: ...
    def names(self, folder: str) -> list[str]: ...
    def delete(self, path: str) -> None: ...
    def sweep_drafts(self, older_than_s: float) -> None: ...


class _Folder:
    """A local folder. Drafts lie on the same file system, so that a rename makes them appear."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def errors(self) -> tuple[type[Exception], ...]:
        return (OSError,)

    def open(self, path: str) -> BinaryIO:
        return (self._root / path).open("rb")

    def write(self, path: str, data: bytes) -> None:
        draft = self.new_draft()
        try:
            draft.write_bytes(data)
            self.put_file(path, draft)
        finally:
            draft.unlink(missing_ok=True)

    def new_draft(self) -> Path:
        drafts = self._root / _DRAFTS
        self._make_root()
        drafts.mkdir(exist_ok=True, mode=0o700)
        return drafts / secrets.token_hex(8)

    def _make_root(self) -> None:
        """Videos show people: a folder that is made here is its user's alone."""
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)

    def put_file(self, path: str, local: Path) -> None:
        target = self._root / path
        self._make_root()
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            local.replace(target)
        except OSError:
            if not local.exists() or target.is_dir():
                raise
            # From another file system: copied beside it first, so that it still appears at once.
            draft = self.new_draft()
            shutil.copyfile(local, draft)
            draft.replace(target)
            local.unlink()

    @contextlib.contextmanager
    def local(self, path: str) -> Iterator[Path]:
        file = self._root / path
        file.stat()
        yield file

    def size(self, path: str) -> int | None:
        file = self._root / path
        try:
            return file.stat().st_size if file.is_file() else None
        except FileNotFoundError:
            return None

    def stamp(self, file: BinaryIO) -> tuple[int, str]:
        found = os.fstat(file.fileno())
        return found.st_size, f"{found.st_mtime_ns:x}-{found.st_ino:x}-{found.st_size:x}"

    def modified_at(self, path: str) -> float:
        return (self._root / path).stat().st_mtime

    def names(self, folder: str) -> list[str]:
        try:
            return [file.name for file in (self._root / folder).iterdir()]
        except (FileNotFoundError, NotADirectoryError):
            return []

    def delete(self, path: str) -> None:
        target = self._root / path
        # What a late writer puts there meanwhile makes a folder not empty: then once more.
        for _ in range(20):
            try:
                if target.is_dir() and not target.is_symlink():
                    shutil.rmtree(target)
                else:
                    target.unlink()
            except FileNotFoundError:
                if not target.exists():
                    return
            except OSError:
                time.sleep(0.01)
            else:
                return
        if target.exists():
            shutil.rmtree(target)

    def sweep_drafts(self, older_than_s: float) -> None:
        for draft in (self._root / _DRAFTS).glob("*"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - draft.stat().st_mtime > older_than_s:
                    draft.unlink()


class _Bucket:
    """An S3 bucket, or whatever speaks its language (MinIO, Ceph, R2), through fsspec.

    Files are written to this machine's folder for temporary files first, because they must be
    seekable, and because an upload that is cut off must leave nothing.
    """

    def __init__(self, url: str, address: str) -> None:
        self._url = url
        self._address = address
        self._lock = threading.Lock()
        self._opened: tuple[int, Any, str] | None = None

    def errors(self) -> tuple[type[Exception], ...]:
        if self._opened is None:
            return (OSError,)
        from aiohttp import ClientError as HttpError  # noqa: PLC0415 - as in `_fs`
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

        return (OSError, BotoCoreError, ClientError, HttpError)

    def _fs(self) -> tuple[Any, str]:
        """The file system and its root, opened by this very process."""
        with self._lock:
            if self._opened is None or self._opened[0] != os.getpid():
                import fsspec  # noqa: PLC0415 - half a second and 50 MB that a folder does not need

                options: dict[str, Any] = {
                    "skip_instance_cache": True,
                    "use_listings_cache": False,
                    "config_kwargs": {
                        "connect_timeout": 5,
                        "read_timeout": 30,
                        "retries": {"max_attempts": 3, "mode": "standard"},
                    },
                }
                try:
                    fs, root = fsspec.core.url_to_fs(self._url, **options)
                except (ValueError, ImportError, TypeError) as error:
                    raise ConfigError(
                        f"MEDIA_URL={self._address!r} is no storage ({error}): "
                        "write a folder, or s3://bucket/prefix."
                    ) from error
                self._opened = (os.getpid(), fs, root.rstrip("/"))
            return self._opened[1], self._opened[2]

    def _at(self, path: str) -> tuple[Any, str]:
        fs, root = self._fs()
        return fs, f"{root}/{path}"

    def open(self, path: str) -> BinaryIO:
        fs, key = self._at(path)
        return cast("BinaryIO", fs.open(key, "rb", block_size=_BLOCK_BYTES))

    def write(self, path: str, data: bytes) -> None:
        fs, key = self._at(path)
        fs.pipe_file(key, data)

    def new_draft(self) -> Path:
        handle, name = tempfile.mkstemp(prefix="moodline-")
        os.close(handle)
        return Path(name)

    def put_file(self, path: str, local: Path) -> None:
        fs, key = self._at(path)
        fs.put_file(str(local), key)
        local.unlink()

    @contextlib.contextmanager
    def local(self, path: str) -> Iterator[Path]:
        fs, key = self._at(path)
        copy = self.new_draft()
        try:
            fs.get_file(key, str(copy))
            yield copy
        finally:
            copy.unlink(missing_ok=True)

    def _info(self, path: str) -> dict[str, Any]:
        fs, key = self._at(path)
        return cast("dict[str, Any]", fs.info(key))

    def size(self, path: str) -> int | None:
        try:
            info = self._info(path)
        except FileNotFoundError:
            return None
        return int(info["size"]) if info["type"] == "file" else None

    def stamp(self, file: BinaryIO) -> tuple[int, str]:
        info: dict[str, Any] = getattr(file, "details", {})
        size = int(info["size"])
        for word in ("ETag", "etag", "mtime", "LastModified", "created"):
            if info.get(word):
                return size, hashlib.sha256(f"{info[word]} {size}".encode()).hexdigest()[:24]
        return size, f"{size:x}"

    def modified_at(self, path: str) -> float:
        fs, key = self._at(path)
        return float(fs.modified(key).timestamp())

    def names(self, folder: str) -> list[str]:
        fs, key = self._at(folder)
        try:
            found = fs.ls(key, detail=False)
        except FileNotFoundError:
            return []
        names = (str(entry).rstrip("/").rsplit("/", 1)[-1] for entry in found)
        return [name for name in names if _PART.fullmatch(name)]

    def delete(self, path: str) -> None:
        fs, key = self._at(path)
        with contextlib.suppress(FileNotFoundError):
            fs.rm(key, recursive=True)

    def sweep_drafts(self, older_than_s: float) -> None:
        for draft in Path(tempfile.gettempdir()).glob("moodline-????????"):
            with contextlib.suppress(OSError):
                if draft.is_file() and time.time() - draft.stat().st_mtime > older_than_s:
                    draft.unlink()


def _checked(path: str) -> str:
    """Refuse what could leave the media root, or name one thing in two ways."""
    if not all(_PART.fullmatch(part) for part in path.split("/")):
        raise InvalidRecord(f"expected a path like videos/<id>/video.json, got {path[:200]!r}")
    return path
