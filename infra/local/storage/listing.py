"""Listings of a bucket by prefix and delimiter, page by page."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from infra.local.storage.model import ObjectMeta, StorageError
from infra.local.storage.store import ObjectStore

MAX_RESULTS = 1000


@dataclass(frozen=True)
class ListRequest:
    """What to list."""

    bucket: str
    """Bucket name."""
    prefix: str = ""
    """Only names that begin so."""
    delimiter: str = ""
    """Names that hold it after the prefix are folded into one common prefix."""
    start: str = ""
    """Only names at or after this one."""
    stop: str = ""
    """Only names before this one; empty for no end."""
    token: str = ""
    """`next_token` of the page before."""
    limit: int = MAX_RESULTS
    """Objects and common prefixes of one page together."""
    folders_as_objects: bool = False
    """List an object whose name ends at the delimiter beside the prefix that it makes."""


@dataclass(frozen=True)
class Page:
    """One page of a listing."""

    objects: tuple[ObjectMeta, ...]
    """In order of name."""
    prefixes: tuple[str, ...]
    """In order of name."""
    next_token: str
    """Empty on the last page."""


def list_objects(store: ObjectStore, request: ListRequest) -> Page:
    """One page of a listing; names compare as UTF-8 bytes. 404 when the bucket is missing."""
    store.bucket_created(request.bucket)
    prefix, delimiter = request.prefix.encode(), request.delimiter.encode()
    cursor = max(prefix, request.start.encode(), _decode(request.token))
    stop = _earlier(_after_all(prefix), request.stop.encode() or None)
    limit = max(1, min(request.limit, MAX_RESULTS))
    objects: list[ObjectMeta] = []
    prefixes: list[str] = []
    folded: bytes | None = b""
    while folded is not None:
        folded = None
        for meta in store.scan(request.bucket, cursor, stop):
            if len(objects) + len(prefixes) >= limit:
                return Page(tuple(objects), tuple(prefixes), base64.urlsafe_b64encode(cursor).decode())
            name = meta.name.encode()
            cut = name.find(delimiter, len(prefix)) if delimiter else -1
            if cut < 0:
                objects.append(meta)
                cursor = name + b"\0"
                continue
            folded = name[: cut + len(delimiter)]
            prefixes.append(folded.decode())
            if request.folders_as_objects and name == folded and len(objects) + len(prefixes) < limit:
                objects.append(meta)
            break
        if folded is not None:  # go on behind everything that this prefix folds
            cursor = _after_all(folded) or cursor
    return Page(tuple(objects), tuple(prefixes), "")


def _after_all(prefix: bytes) -> bytes | None:
    """The first byte string after all that begin with `prefix`; None for the empty prefix.

    UTF-8 never holds the byte 0xff, so the last byte can always be raised by one.
    """
    return prefix[:-1] + bytes([prefix[-1] + 1]) if prefix else None


def _earlier(one: bytes | None, other: bytes | None) -> bytes | None:
    return min((end for end in (one, other) if end is not None), default=None)


def _decode(token: str) -> bytes:
    try:
        return base64.b64decode(token, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise StorageError(400, "invalid", f"Invalid page token: {token[:80]!r}") from None
