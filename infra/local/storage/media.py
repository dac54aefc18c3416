"""Answers that carry an object's content: whole, or the one byte range that was asked for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from email.utils import formatdate
from typing import BinaryIO

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from infra.local.storage.blobs import READ_BYTES
from infra.local.storage.model import ObjectMeta, StorageError

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """The half-open range [start, stop) of a `Range` header, None for the whole content.

    Understands `bytes=a-b`, `bytes=a-` and the suffix `bytes=-n`. As HTTP wants it, a header that makes no sense is
    ignored; one that names nothing of the content raises `StorageError` 416.
    """
    found = _RANGE.fullmatch(header.strip()) if header else None
    if found is None or found[0] == "bytes=-":
        return None
    if found[1] == "":
        start, stop = max(size - int(found[2]), 0), size
    else:
        start, stop = int(found[1]), min(int(found[2]) + 1, size) if found[2] else size
        if found[2] and int(found[2]) < start:
            return None
    if start >= size:
        raise StorageError(416, "requestedRangeNotSatisfiable", "The requested range cannot be satisfied.")
    return start, stop


def object_headers(meta: ObjectMeta) -> dict[str, str]:
    """Headers that both APIs send with an object."""
    headers = {
        "ETag": f'"{meta.etag}"',
        "Last-Modified": formatdate(meta.updated, usegmt=True),
        "Accept-Ranges": "bytes",
        "Content-Type": meta.content_type,
        "X-Goog-Generation": str(meta.generation),
        "X-Goog-Metageneration": str(meta.metageneration),
        "X-Goog-Hash": f"crc32c={meta.crc32c},md5={meta.md5}",
        "X-Goog-Stored-Content-Length": str(meta.size),
        "X-Goog-Stored-Content-Encoding": meta.attributes.get("contentEncoding", "identity"),
        "X-Goog-Storage-Class": "STANDARD",
    }
    for attribute, name in (
        ("contentEncoding", "Content-Encoding"),
        ("contentDisposition", "Content-Disposition"),
        ("contentLanguage", "Content-Language"),
        ("cacheControl", "Cache-Control"),
    ):
        if attribute in meta.attributes:
            headers[name] = meta.attributes[attribute]
    headers.update({f"x-goog-meta-{key}": value for key, value in meta.metadata.items() if _fits_header(key + value)})
    return headers


def not_modified(request: Request, meta: ObjectMeta) -> bool:
    """Whether `If-None-Match` or `If-Match` settle the request; the latter raises `StorageError` 412."""
    wanted = request.headers.get("if-match")
    if wanted is not None and not _names(wanted, meta):
        raise StorageError(412, "conditionNotMet", "At least one of the pre-conditions you specified did not hold.")
    known = request.headers.get("if-none-match")
    return known is not None and _names(known, meta)


def content_response(request: Request, meta: ObjectMeta, file: BinaryIO) -> Response:
    """The content of `meta`, which `file` holds and which is closed here; honours `Range`, HEAD and ETags."""
    try:
        headers = object_headers(meta)
        if not_modified(request, meta):
            file.close()
            return Response(status_code=304, headers={"ETag": headers["ETag"]})
        span = byte_range(request.headers.get("range"), meta.size)
    except StorageError:
        file.close()
        raise
    start, stop = span or (0, meta.size)
    headers["Content-Length"] = str(stop - start)
    if span is not None:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{meta.size}"
    status = 200 if span is None else 206
    if request.method == "HEAD":
        file.close()
        return Response(status_code=status, headers=headers)
    if stop - start <= READ_BYTES:
        with file:
            file.seek(start)
            return Response(file.read(stop - start), status, headers)
    return StreamingResponse(_blocks(file, start, stop), status, headers)


def _blocks(file: BinaryIO, start: int, stop: int) -> Iterator[bytes]:
    with file:
        file.seek(start)
        while start < stop and (block := file.read(min(READ_BYTES, stop - start))):
            start += len(block)
            yield block


def _names(header: str, meta: ObjectMeta) -> bool:
    tags = {tag.strip().removeprefix("W/").strip('"') for tag in header.split(",")}
    return "*" in tags or meta.etag in tags


def _fits_header(text: str) -> bool:
    return text.isascii() and text.isprintable()
