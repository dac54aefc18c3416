"""What Cloud Storage says about an object, the conditions a request may set, and the errors it answers with."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

MAX_NAME_BYTES = 1024
ATTRIBUTES = (
    "contentType",
    "contentEncoding",
    "contentDisposition",
    "contentLanguage",
    "cacheControl",
    "customTime",
)
"""The metadata fields with fixed names that a client may set."""

_BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
_RESERVED_BUCKETS = frozenset({"storage", "upload", "download", "batch"})
_ILLEGAL_IN_NAMES = re.compile("[\x00-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


class StorageError(Exception):
    """An answer other than success, in the terms of the service."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        """HTTP status."""
        self.reason = reason
        """Machine-readable reason of the JSON API, for example `notFound`."""
        self.message = message
        """One line for people."""


@dataclass(frozen=True)
class ObjectMeta:
    """One live object. Times are seconds since 1970."""

    bucket: str
    """Bucket name."""
    name: str
    """Object name."""
    generation: int
    """Grows with every new content of the name."""
    metageneration: int
    """Grows with every change of the metadata of one generation, from 1."""
    size: int
    """Length of the content in bytes."""
    crc32c: str
    """Base64 of the big-endian CRC32C of the content."""
    md5: str
    """Base64 of the MD5 of the content."""
    created: float
    """When this generation was written."""
    updated: float
    """When the metadata were last changed."""
    attributes: Mapping[str, str]
    """The fields of `ATTRIBUTES` that are set."""
    metadata: Mapping[str, str]
    """The client's own keys and values."""
    blob: str
    """Name of the file that holds the content."""

    @property
    def etag(self) -> str:
        """Changes whenever content or metadata change."""
        return base64.b64encode(f"{self.generation}/{self.metageneration}".encode()).decode()

    @property
    def content_type(self) -> str:
        """Media type, with the service's default."""
        return self.attributes.get("contentType", "application/octet-stream")


@dataclass(frozen=True)
class NewObject:
    """What a client says about the object it is about to write."""

    bucket: str
    """Bucket name."""
    name: str
    """Object name."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """The fields of `ATTRIBUTES` that it sets."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Its own keys and values."""
    crc32c: str | None = None
    """The checksum that it expects, base64; None when it says nothing."""
    md5: str | None = None
    """Likewise, MD5."""

    def verify(self, blob: Blob) -> None:
        """Raise `StorageError` 400 when the content that arrived is not the one that was announced."""
        for kind, wanted, found in (("CRC32C", self.crc32c, blob.crc32c), ("MD5", self.md5, blob.md5)):
            if wanted is not None and wanted != found:
                raise StorageError(400, "invalid", f"{kind} {wanted} was announced but the content has {found}")


@dataclass(frozen=True)
class Blob:
    """Content that lies complete in the store's folder but is no object yet."""

    path: Path
    """The file."""
    size: int
    """Bytes."""
    crc32c: str
    """Base64 of the big-endian CRC32C."""
    md5: str
    """Base64 of the MD5."""


@dataclass(frozen=True)
class Conditions:
    """Preconditions on the live object; a generation of 0 means that there is none."""

    generation_match: int | None = None
    """The generation must be this."""
    generation_not_match: int | None = None
    """The generation must not be this."""
    metageneration_match: int | None = None
    """The metageneration must be this."""
    metageneration_not_match: int | None = None
    """The metageneration must not be this."""

    @classmethod
    def from_query(cls, query: Mapping[str, str], infix: str = "") -> Conditions:
        """Read `if<infix>GenerationMatch` and its three siblings; `infix` is `Source` for the source of a copy."""
        return cls(
            _integer(query, f"if{infix}GenerationMatch"),
            _integer(query, f"if{infix}GenerationNotMatch"),
            _integer(query, f"if{infix}MetagenerationMatch"),
            _integer(query, f"if{infix}MetagenerationNotMatch"),
        )

    @classmethod
    def from_headers(cls, headers: Mapping[str, str], prefix: str = "x-goog-if-") -> Conditions:
        """Read the XML API's condition headers."""
        return cls(
            generation_match=_integer(headers, f"{prefix}generation-match"),
            metageneration_match=_integer(headers, f"{prefix}metageneration-match"),
        )

    def check(self, current: ObjectMeta | None, *, reading: bool = False) -> None:
        """Raise `StorageError` 412, or 304 for a read of something that has not changed."""
        generation = current.generation if current else 0
        metageneration = current.metageneration if current else 0
        for wanted, found in (
            (self.generation_match, generation),
            (self.metageneration_match, metageneration),
        ):
            if wanted is not None and wanted != found:
                raise StorageError(
                    412, "conditionNotMet", "At least one of the pre-conditions you specified did not hold."
                )
        for unwanted, found in (
            (self.generation_not_match, generation),
            (self.metageneration_not_match, metageneration),
        ):
            if unwanted is not None and unwanted == found:
                status, reason = (304, "notModified") if reading else (412, "conditionNotMet")
                raise StorageError(status, reason, "At least one of the pre-conditions you specified did not hold.")


NO_CONDITIONS = Conditions()


def check_bucket_name(name: str) -> None:
    """Raise `StorageError` 400 when no bucket may be called so."""
    if not _BUCKET_NAME.fullmatch(name) or ".." in name or name in _RESERVED_BUCKETS:
        raise StorageError(400, "invalid", f"Invalid bucket name: {name!r}")


def check_object_name(name: str) -> None:
    """Raise `StorageError` 400 when no object may be called so.

    The service forbids line ends, `.` and `..` and more than 1024 bytes of UTF-8; the stand-in forbids the other
    control characters as well, which XML listings could not carry.
    """
    if not name or name in {".", ".."} or _ILLEGAL_IN_NAMES.search(name):
        raise StorageError(400, "invalid", f"Invalid object name: {name[:80]!r}")
    if len(name.encode()) > MAX_NAME_BYTES:
        raise StorageError(400, "invalid", f"The object name is longer than {MAX_NAME_BYTES} bytes: {name[:80]!r}…")


def _integer(source: Mapping[str, str], key: str) -> int | None:
    value = source.get(key)
    if value is None:
        return None
    try:
        return int(value)
    except ValueError:
        raise StorageError(400, "invalid", f"{key} must be an integer, not {value!r}") from None
