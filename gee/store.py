"""Bytes at addresses: `gs://` through gcsfs, or a folder on this disk, with the same few verbs for both."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import fsspec
import google.auth.exceptions

from gee.errors import StorageError

REQUEST_TIMEOUT_S = 120.0
"""Deadline of one request to Cloud Storage."""


def storage_options(uri: str, endpoint: str = "") -> dict[str, Any]:
    """What fsspec and xarray need besides the address; `endpoint` is that of a local stand-in or empty."""
    if not uri.startswith("gs://"):
        return {}
    # Read when gcsfs is imported: without it each operation waits a minute for a gRPC probe.
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    options: dict[str, Any] = {"use_listings_cache": False, "requests_timeout": REQUEST_TIMEOUT_S}
    if endpoint:
        os.environ.setdefault("NO_GCE_CHECK", "true")
        options |= {"token": "anon", "endpoint_url": endpoint}
    return options


def filesystem(uri: str, endpoint: str = "") -> tuple[fsspec.AbstractFileSystem, str]:
    """The fsspec filesystem of an address and the path in it. Raises `StorageError` for an address of another kind."""
    scheme = uri.partition("://")[0] if "://" in uri else "file"
    if scheme not in {"gs", "file"}:
        raise StorageError(f"{uri!r} is no address of a bucket (gs://...) or a folder")
    with _named(uri):
        fs = fsspec.filesystem(scheme, **storage_options(uri, endpoint))
        return fs, str(fs._strip_protocol(uri))


def open_store(uri: str, endpoint: str = "") -> Store:
    """The store at `uri`; asks nothing yet."""
    return Store(uri, endpoint)


class Store:
    """Objects below one address. Keys are relative, with slashes; an empty key is the address itself."""

    def __init__(self, uri: str, endpoint: str = "") -> None:
        self.uri, self.endpoint = uri.rstrip("/"), endpoint
        self._fs, self._root = filesystem(self.uri, endpoint)

    def read(self, key: str) -> bytes:
        """The object's bytes. Raises `FileNotFoundError` when there is none, `StorageError` otherwise."""
        with _named(self._uri(key)):
            return bytes(self._fs.cat_file(self._path(key)))

    def read_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Several objects, read side by side. Those that do not exist are left out."""
        if not keys:
            return {}
        with _named(self.uri):
            paths = {self._path(key): key for key in keys}
            found = self._fs.cat(list(paths), on_error="return")
        bodies = {}
        for path, body in found.items():
            if isinstance(body, FileNotFoundError):
                continue
            if isinstance(body, Exception):
                raise StorageError(f"{self._uri(paths[path])} cannot be read: {body}") from body
            bodies[paths[path]] = bytes(body)
        return bodies

    def write(self, key: str, *parts: bytes) -> None:
        """Put an object there, its parts one after the other, all of it or none. Raises `StorageError`."""
        try:
            with _named(self._uri(key)):
                if self._local:
                    _replace(Path(self._path(key)), parts)
                else:
                    self._fs.pipe_file(self._path(key), b"".join(parts))
        except FileNotFoundError as error:
            raise StorageError(f"{self._uri(key)} cannot be written: its bucket does not exist") from error

    def write_many(self, bodies: Mapping[str, Sequence[bytes]]) -> None:
        """Put several objects there (key -> parts), side by side where each request travels. Raises `StorageError`."""
        if self._local or len(bodies) < 2:
            for key, parts in bodies.items():
                self.write(key, *parts)
            return
        first = self._uri(min(bodies))
        try:
            with _named(first):
                self._fs.pipe({self._path(key): b"".join(parts) for key, parts in bodies.items()})
        except FileNotFoundError as error:
            raise StorageError(f"{first} cannot be written: its bucket does not exist") from error

    def create(self, key: str, body: bytes) -> bool:
        """Put an object where none is: of several writers exactly one succeeds. False when there is one already.

        A writer whose answer was lost on the way is told False too although its object is there: look at what it holds.
        Raises `StorageError`.
        """
        try:
            with _named(self._uri(key)):
                if self._local:
                    return _link(Path(self._path(key)), body)
                try:
                    self._fs.pipe_file(self._path(key), body, mode="create")  # sends ifGenerationMatch=0
                except FileExistsError:
                    return False
                return True
        except FileNotFoundError as error:
            raise StorageError(f"{self._uri(key)} cannot be written: its bucket does not exist") from error

    def exists(self, key: str) -> bool:
        """Whether there is an object."""
        with _named(self._uri(key)):
            return bool(self._fs.isfile(self._path(key)))

    def sizes(self, prefix: str) -> dict[str, int]:
        """The keys below `prefix` and their sizes in bytes; none there is no error. Raises `StorageError`."""
        try:
            with _named(self._uri(prefix)):
                found = self._fs.find(self._path(prefix), detail=True)
        except FileNotFoundError as error:
            raise StorageError(f"{self._uri(prefix)} cannot be listed: its bucket does not exist") from error
        return {path[len(self._root) + 1 :]: int(info["size"]) for path, info in found.items()}

    def children(self, prefix: str = "") -> tuple[str, ...]:
        """The keys directly below `prefix`, sorted, folders among them; none there is no error. Raises `StorageError`.

        Asks for one level only: a folder of cubes holds a hundred thousand chunks.
        """
        try:
            with _named(self._uri(prefix)):
                found = self._fs.ls(self._path(prefix), detail=False)
        except (FileNotFoundError, NotADirectoryError):
            return ()
        return tuple(sorted(path.rstrip("/")[len(self._root) + 1 :] for path in found))

    def delete(self, key: str) -> None:
        """Remove an object; none there is no error."""
        with _named(self._uri(key)):
            try:
                self._fs.rm_file(self._path(key))
            except FileNotFoundError:
                return

    @property
    def remote(self) -> bool:
        """Whether each request travels, so that several are better sent side by side."""
        return not self._local

    @property
    def _local(self) -> bool:
        return "file" in self._fs.protocol

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}" if key else self._root

    def _uri(self, key: str) -> str:
        return f"{self.uri}/{key}" if key else self.uri

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return Store, (self.uri, self.endpoint)


def _replace(path: Path, parts: Sequence[bytes]) -> None:
    """Write beside and rename: a reader sees the old file or the new one, also after a kill in mid-write."""
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        _write(beside, parts)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _write(path: Path, parts: Sequence[bytes]) -> None:
    try:
        file = path.open("xb", buffering=0)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("xb", buffering=0)
    with file:
        for part in parts:
            left = memoryview(part)
            while left:
                left = left[file.write(left) :]


def _link(path: Path, body: bytes) -> bool:
    """Write beside and link: the name appears with all its bytes, or is somebody else's."""
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        _write(beside, (body,))
        try:
            path.hardlink_to(beside)
        except FileExistsError:
            return False
        return True
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def _named(uri: str) -> Iterator[None]:
    """Turns what fsspec, gcsfs and the disk raise into a `StorageError` that names the address."""
    try:
        yield
    except FileNotFoundError:
        raise
    except _failures() as error:
        raise StorageError(f"{uri} cannot be used: {error or type(error).__name__}") from error


def _failures() -> tuple[type[Exception], ...]:
    known: tuple[type[Exception], ...] = (OSError, aiohttp.ClientError, google.auth.exceptions.GoogleAuthError)
    if "gcsfs.retry" in sys.modules:  # slow to import, and only there when a bucket is used
        retry = sys.modules["gcsfs.retry"]
        known += (retry.HttpError, retry.ChecksumError, retry.NonRetryableError)
    return known
