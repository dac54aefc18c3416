"""The one door to Cloud Storage for documents and products, with conditional writes.

The official client is used here because it documents preconditions and checks CRC32C both ways; cubes go through gcsfs.
A generation is Cloud Storage's number of one write to one object; 0 stands for "there is no such object".
https://cloud.google.com/storage/docs/request-preconditions
"""

from __future__ import annotations

import datetime as dt
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, cast
from urllib.parse import urlsplit

import requests
from google.api_core import exceptions as api_errors
from google.auth import exceptions as auth_errors
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from google.cloud.storage.exceptions import DataCorruption
from google.cloud.storage.retry import DEFAULT_RETRY

from flows.errors import FlowError, ServiceError

DEFAULT_ENDPOINT = "https://storage.googleapis.com"
"""Address of the real Cloud Storage, as messages name it."""

MAX_DOCUMENT_BYTES = 64 * 2**20
"""Nothing larger is read into memory by `Store.read_bytes` unless asked for."""

TOUCH_AFTER = dt.timedelta(hours=1)
"""An object that is taken up again is made new when it is older than this."""

_TIMEOUT_S = (5.0, 120.0)  # to connect, to the next byte
_URI = re.compile(r"gs://([a-z0-9][a-z0-9._-]{1,220}[a-z0-9])(?:/(.*))?", re.DOTALL)
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class PreconditionFailedError(FlowError):
    """Somebody else wrote the object since it was read: read it again and decide anew."""


class ObjectNotFoundError(ServiceError):
    """An object or its bucket is not there."""


class _Bounded(io.BytesIO):
    """Memory for a document that may not be larger than was expected."""

    def __init__(self, max_bytes: int, name: str) -> None:
        super().__init__()
        self._max_bytes, self._name = max_bytes, name

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > self._max_bytes:
            raise ServiceError(f"{self._name} has more than the {self._max_bytes} bytes expected")
        return super().write(data)


@dataclass(frozen=True)
class ObjectInfo:
    """What a listing says of one object."""

    uri: str
    """`gs://bucket/name`."""
    size: int
    """Bytes."""
    generation: int
    """Number of the write that made it."""
    sha256: str
    """Hexadecimal SHA-256 as `Store.upload_file` recorded it, empty when it did not."""
    updated: dt.datetime | None
    """Time of the write, UTC."""


class Store:
    """A bucket of Cloud Storage or of a local stand-in; usable from several threads.

    Every method raises `ServiceError` naming the address when the service cannot be reached, refuses, or answers
    nonsense after `retry_s` seconds of trying.
    """

    def __init__(self, bucket_url: str, endpoint: str = "", retry_s: float = 30.0) -> None:
        """Open `bucket_url` (`gs://bucket` or `gs://bucket/prefix`); a loopback `endpoint` needs no credentials."""
        self.bucket_url = bucket_url.rstrip("/")
        self.address = endpoint.rstrip("/") or DEFAULT_ENDPOINT
        self._bucket_name, _ = split_uri(self.bucket_url)
        self._retry = DEFAULT_RETRY.with_timeout(retry_s).with_delay(initial=0.2, maximum=5.0)
        self._client = self._connect(endpoint)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def check(self) -> None:
        """Raise `ServiceError` unless the bucket answers and may be listed."""
        with self._speaking(self.bucket_url):
            next(iter(self._list(self.bucket_url, max_results=1)), None)

    def ensure_bucket(self) -> None:
        """Create the bucket unless it is there: for stand-ins, which begin empty."""
        with self._speaking(self.bucket_url):
            try:
                self._client.create_bucket(self._bucket_name, retry=self._retry, timeout=_TIMEOUT_S)
            except api_errors.Conflict:
                return

    def read_bytes(self, uri: str, max_bytes: int = MAX_DOCUMENT_BYTES) -> bytes:
        """The content of `uri`; raises `ObjectNotFoundError`, and `ServiceError` when it is larger than `max_bytes`."""
        data, generation = self.read_with_generation(uri, max_bytes)
        if generation == 0:
            raise ObjectNotFoundError(f"{uri} is not in the bucket at {self.address}")
        return data

    def read_with_generation(self, uri: str, max_bytes: int = MAX_DOCUMENT_BYTES) -> tuple[bytes, int]:
        """The content of `uri` and the generation it belongs to; `(b"", 0)` when there is no such object."""
        with self._speaking(uri):
            blob, content = self._blob(uri), _Bounded(max_bytes, f"{uri} at {self.address}")
            try:
                blob.download_to_file(content, retry=self._retry, timeout=_TIMEOUT_S)
            except api_errors.NotFound:
                return b"", 0
            # Of the same answer as the content: a second request would ask what the object is by then.
            return content.getvalue(), int(blob.generation)

    def write_bytes(
        self,
        uri: str,
        data: bytes,
        content_type: str = "application/octet-stream",
        if_generation_match: int | None = None,
    ) -> int:
        """Write `data` and return the new generation; with `if_generation_match` only over that very generation.

        Raises `PreconditionFailedError` when the object has another generation by then. A retried request whose first
        answer was lost fails so too although the write was done: compare what is there before giving up.
        """
        with self._speaking(uri):
            blob = self._blob(uri)
            blob.cache_control = "no-cache"  # a public bucket would otherwise serve an hour-old version list
            blob.upload_from_string(
                data,
                content_type=content_type,
                if_generation_match=if_generation_match,
                checksum="crc32c",
                retry=self._retry,
                timeout=_TIMEOUT_S,
            )
            return int(blob.generation)

    def upload_file(self, path: Path, uri: str, content_type: str, sha256: str) -> int:
        """Create `uri` from a file whose SHA-256 is `sha256`; return its generation. Never overwrites.

        An object that is there already with the same checksum is left alone, so that an upload can be repeated;
        raises `PreconditionFailedError` when it has another one.
        """
        with self._speaking(uri):
            blob = self._blob(uri)
            blob.metadata = {"sha256": sha256}
            try:
                blob.upload_from_filename(
                    str(path),
                    content_type=content_type,
                    if_generation_match=0,
                    checksum="crc32c",
                    retry=self._retry,
                    timeout=_TIMEOUT_S,
                )
            except api_errors.PreconditionFailed:
                blob = self._blob(uri)
                blob.reload(retry=self._retry, timeout=_TIMEOUT_S)
                if (blob.metadata or {}).get("sha256") != sha256:
                    raise
                self._touch(blob)
            return int(blob.generation)

    def touch(self, uri: str) -> None:
        """Say that an object is in use: one that is older than `TOUCH_AFTER` becomes as good as new, its bytes the same.

        So who clears away what is old (`flows.clearing`) sees that somebody has taken it up. Not there is no error.
        """
        with self._speaking(uri):
            blob = self._blob(uri)
            try:
                blob.reload(retry=self._retry, timeout=_TIMEOUT_S)
            except api_errors.NotFound:
                return
            self._touch(blob)

    def _touch(self, blob: Any) -> None:
        if blob.updated is None or dt.datetime.now(dt.UTC) - blob.updated < TOUCH_AFTER:
            return
        generation = int(blob.generation)
        bucket = self._client.bucket(self._bucket_name)
        bucket.copy_blob(
            blob, bucket, blob.name, if_generation_match=generation, if_source_generation_match=generation,
            retry=self._retry, timeout=_TIMEOUT_S,
        )  # fmt: skip

    def download_file(self, uri: str, path: Path) -> None:
        """Write the object to `path`, its CRC32C checked; raises `ObjectNotFoundError`."""
        with self._speaking(uri):
            self._blob(uri).download_to_filename(str(path), retry=self._retry, timeout=_TIMEOUT_S)

    def exists(self, uri: str) -> bool:
        """Whether the object is there."""
        with self._speaking(uri):
            return bool(self._blob(uri).exists(retry=self._retry, timeout=_TIMEOUT_S))

    def list(self, prefix: str) -> tuple[ObjectInfo, ...]:
        """Every object whose URI starts with `prefix`, sorted by URI."""
        with self._speaking(prefix):
            return tuple(_info(blob) for blob in self._list(prefix))

    def folders(self, prefix: str) -> tuple[str, ...]:
        """The names of the folders directly below `prefix` (`gs://…/`), sorted; what lies in them is not listed."""
        with self._speaking(prefix):
            found = self._listing(prefix, delimiter="/")
            for _ in found.pages:
                pass  # the folders are known when all pages have come
            _, name = split_uri(prefix)
            return tuple(sorted(one.removeprefix(name).rstrip("/") for one in found.prefixes))

    def delete_unchanged(self, info: ObjectInfo) -> bool:
        """Delete the object unless it was written since it was listed; returns whether it is gone."""
        with self._speaking(info.uri):
            try:
                self._blob(info.uri).delete(if_generation_match=info.generation, retry=self._retry, timeout=_TIMEOUT_S)
            except api_errors.NotFound:
                return True
            except api_errors.PreconditionFailed:
                return False
            return True

    def delete(self, uri: str) -> None:
        """Delete the object; nothing happens when it is not there."""
        with self._speaking(uri):
            try:
                self._blob(uri).delete(retry=self._retry, timeout=_TIMEOUT_S)
            except api_errors.NotFound:
                return

    def _list(self, prefix: str, max_results: int | None = None) -> Iterator[Any]:
        return cast("Iterator[Any]", iter(self._listing(prefix, max_results=max_results)))

    def _listing(self, prefix: str, **options: Any) -> Any:
        _, name = split_uri(prefix)
        bucket = self._client.bucket(self._bucket_name)
        return self._client.list_blobs(bucket, prefix=name or None, retry=self._retry, timeout=_TIMEOUT_S, **options)

    def _blob(self, uri: str) -> Any:
        bucket, name = split_uri(uri)
        if bucket != self._bucket_name or not name:
            raise ServiceError(f"{uri} is not an object in the bucket {self._bucket_name!r}")
        return self._client.bucket(bucket).blob(name)

    def _connect(self, endpoint: str) -> Any:
        if endpoint and urlsplit(endpoint).hostname in _LOOPBACK:
            options = {"api_endpoint": self.address}
            anonymous = AnonymousCredentials()  # type: ignore[no-untyped-call]
            return storage.Client(project="local", credentials=anonymous, client_options=options)
        with self._speaking(self.bucket_url):
            return storage.Client(client_options={"api_endpoint": self.address} if endpoint else None)

    @contextmanager
    def _speaking(self, uri: str) -> Iterator[None]:
        """Turn what the client raises into our errors, naming the address."""
        try:
            yield
        except api_errors.PreconditionFailed as error:
            raise PreconditionFailedError(f"{uri} was written by somebody else in the meantime") from error
        except api_errors.NotFound as error:
            raise ObjectNotFoundError(f"{uri} or its bucket is not there at {self.address}: {error.message}") from error
        except (api_errors.Unauthorized, api_errors.Forbidden) as error:
            raise ServiceError(
                f"Cloud Storage at {self.address} refuses {uri}: {error.message}. Check the credentials and their role"
            ) from error
        except auth_errors.DefaultCredentialsError as error:
            raise ServiceError(
                f"no Google credentials for {uri} at {self.address}: run `gcloud auth application-default login`, "
                "or set a local storage endpoint"
            ) from error
        except (
            api_errors.GoogleAPIError,
            auth_errors.GoogleAuthError,
            requests.RequestException,
            DataCorruption,
        ) as error:
            raise ServiceError(
                f"Cloud Storage at {self.address} cannot be used for {uri}: {_first_line(error)}. "
                "Check that it runs and that storage.endpoint is right"
            ) from error


def split_uri(uri: str) -> tuple[str, str]:
    """`gs://bucket/name` as (bucket, name); raises `ServiceError` for anything else."""
    match = _URI.fullmatch(uri)
    if match is None:
        raise ServiceError(f"{uri!r} is not a Cloud Storage address: write gs://bucket/name")
    return match[1], match[2] or ""


def _info(blob: Any) -> ObjectInfo:
    return ObjectInfo(
        uri=f"gs://{blob.bucket.name}/{blob.name}",
        size=int(blob.size or 0),
        generation=int(blob.generation),
        sha256=str((blob.metadata or {}).get("sha256", "")),
        updated=blob.updated,
    )


def _first_line(error: Exception) -> str:
    text = str(error.__cause__ or error).strip() or type(error).__name__
    return text.splitlines()[0][:300]
