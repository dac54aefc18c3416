"""The two multipart bodies of the JSON API: an upload with its metadata (streamed), and a batch of requests."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from infra.local.storage.model import StorageError

MAX_HEAD_BYTES = 1 << 20
_BOUNDARY = re.compile(r'boundary="?([^";]{1,200})')
_BLANK_LINE = re.compile(rb"\r?\n\r?\n")


@dataclass(frozen=True)
class BatchPart:
    """One request of a batch."""

    content_id: str
    """Identifies its answer."""
    method: str
    """HTTP method."""
    target: str
    """Percent-encoded path with query."""
    headers: tuple[tuple[bytes, bytes], ...]
    """Headers of the inner request, names in lower case."""
    body: bytes
    """Its body."""


def boundary(content_type: str) -> bytes:
    """The boundary that a multipart content type names; `StorageError` 400 without one."""
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise StorageError(400, "badRequest", "A multipart body needs a boundary in its Content-Type.")
    return found[1].strip().encode()


async def split_upload(
    chunks: AsyncIterator[bytes], content_type: str, take: Callable[[bytes], None]
) -> tuple[bytes, str]:
    """Read a `multipart/related` upload: (the JSON of the first part, the content type of the second).

    The content of the second part goes to `take` as it arrives. `StorageError` 400 when the body ends early, so that a
    broken upload never becomes an object.
    """
    mark = b"--" + boundary(content_type)
    buffer = bytearray()
    head: tuple[bytes, str] | None = None
    newline = b"\r\n"
    # The closing boundary may be split over chunks: this much is always held back.
    held = len(mark) + 16
    async for chunk in chunks:
        buffer += chunk
        if head is None:
            if (parsed := _parse_head(bytes(buffer[:MAX_HEAD_BYTES]), mark)) is None:
                if len(buffer) > MAX_HEAD_BYTES:
                    raise StorageError(400, "badRequest", "The metadata part of the upload is too large.")
                continue
            head, newline = (parsed[0], parsed[1]), parsed[3]
            del buffer[: parsed[2]]
        if len(buffer) > held:
            take(bytes(buffer[:-held]))
            del buffer[:-held]
    end = buffer.rfind(mark + b"--")
    if head is None or end < 0:
        raise StorageError(400, "badRequest", "The multipart upload ends early or is malformed.")
    # Lines end as in the head of the upload: a content that ends in \r before the \n of gcsfs keeps its last byte.
    take(bytes(buffer[:end]).removesuffix(newline))
    return head


def _parse_head(data: bytes, mark: bytes) -> tuple[bytes, str, int, bytes] | None:
    """(JSON, content type, where the content begins, how lines end) once the heads of both parts are complete."""
    first = data.find(mark)
    opened = _BLANK_LINE.search(data, first + len(mark)) if first >= 0 else None
    if opened is None:
        return None
    second = data.find(b"\n" + mark, opened.end())
    closed = _BLANK_LINE.search(data, second + 1 + len(mark)) if second >= 0 else None
    if closed is None:
        return None
    kind = re.search(rb"(?i)content-type:[ \t]*([^\r\n]+)", data[second : closed.start() + 1])
    newline = b"\r\n" if data[second - 1 : second] == b"\r" else b"\n"
    content_type = kind[1].decode("latin-1").strip() if kind else ""
    return data[opened.end() : second].strip(), content_type, closed.end(), newline


def split_batch(body: bytes, content_type: str) -> list[BatchPart]:
    """The requests of a `multipart/mixed` batch; `StorageError` 400 when one cannot be read."""
    mark = b"--" + boundary(content_type)
    return [_batch_part(part.strip(b"\r\n")) for part in body.split(mark)[1:-1]]


def _batch_part(part: bytes) -> BatchPart:
    outer, _, inner = _partition(part)
    head, _, body = _partition(inner.lstrip(b"\r\n"))
    lines = head.decode("latin-1").splitlines()
    request = re.fullmatch(r"([A-Z]+) (\S+)(?: HTTP/[\d.]+)?", lines[0].strip()) if lines else None
    if request is None:
        raise StorageError(400, "badRequest", "A part of the batch holds no HTTP request.")
    found = re.search(rb"(?i)content-id:[ \t]*<?([^>\r\n]+)", outer)
    pairs = (line.partition(":") for line in lines[1:])
    headers = tuple((name.strip().lower().encode(), value.strip().encode()) for name, colon, value in pairs if colon)
    target = re.sub(r"^https?://[^/]+", "", request[2])
    return BatchPart(found[1].decode("latin-1") if found else "", request[1], target, headers, body)


def _partition(data: bytes) -> tuple[bytes, bytes, bytes]:
    found = _BLANK_LINE.search(data)
    return (data, b"", b"") if found is None else (data[: found.start()], found[0], data[found.end() :])
