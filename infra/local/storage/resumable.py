"""Uploads that take several requests: resumable ones of the JSON API, multipart ones of the XML API.

What has arrived lies in `uploads/` and survives a restart; it becomes an object only when the upload is complete and
its preconditions hold.
"""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from starlette.concurrency import run_in_threadpool

from infra.local.storage.model import Conditions, NewObject, ObjectMeta, StorageError
from infra.local.storage.store import ObjectStore

CHUNK_MULTIPLE = 256 * 1024
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


@dataclass(frozen=True)
class Progress:
    """Where a resumable upload stands after a request."""

    received: int
    """Bytes that are safe."""
    done: ObjectMeta | None
    """The object, once the upload is complete."""


@dataclass(frozen=True)
class ContentRange:
    """The `Content-Range` header of one request of an upload."""

    start: int | None
    """First byte of this request, None when it carries no content."""
    total: int | None
    """Length of the whole object, None while it is not known."""

    @classmethod
    def parse(cls, header: str | None) -> ContentRange | None:
        """None without a header; `StorageError` 400 for one that cannot be read."""
        if header is None:
            return None
        found = _CONTENT_RANGE.fullmatch(header.strip())
        if found is None:
            raise StorageError(400, "badRequest", f"Invalid Content-Range: {header[:80]!r}")
        return cls(int(found[1]) if found[1] else None, None if found[3] == "*" else int(found[3]))


class Uploads:
    """The upload sessions of one store."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def start(self, new: NewObject, conditions: Conditions) -> str:
        """Begin an upload and return its id; 404 without the bucket, 412 when the conditions already fail."""
        conditions.check(self._store.find(new.bucket, new.name))
        session_id = uuid.uuid4().hex
        self._store.save_session(session_id, {"new": asdict(new), "conditions": asdict(conditions)})
        return session_id

    def cancel(self, session_id: str) -> None:
        """Forget an upload; 404 when there is none."""
        self._store.load_session(session_id)
        self._store.drop_session(session_id)

    # ---- resumable (JSON API)

    async def append(self, session_id: str, span: ContentRange | None, chunks: AsyncIterator[bytes]) -> Progress:
        """Take the content of one request, and publish the object when it is the last one.

        As the service does, an unfinished upload keeps only whole multiples of 256 KiB, and bytes that it already has
        are skipped. Raises `StorageError` 400 for a gap, 404 for an unknown upload, 412 by its conditions.
        """
        lock = self._locks.setdefault(session_id, asyncio.Lock())
        async with lock:
            state = self._store.load_session(session_id)
            new, conditions = _read(state)
            if "generation" in state:
                done = self._store.get(new.bucket, new.name, generation=int(str(state["generation"])))
                return Progress(done.size, done)
            path = self._store.uploads / session_id
            received = path.stat().st_size if path.exists() else 0
            start = 0 if span is None else span.start
            if start is not None:
                received = await self._take(path, received, start, chunks, final=span is None)
            total = received if span is None else span.total
            if total is not None and received > total:
                raise StorageError(400, "badRequest", f"{received} bytes were sent for an object of {total}.")
            if total is None or received < total:
                return Progress(_truncate(path, received), None)
            return Progress(received, await run_in_threadpool(self._finish, session_id, state, new, conditions, [path]))

    async def _take(self, path: Path, received: int, start: int, chunks: AsyncIterator[bytes], *, final: bool) -> int:
        if start > received:
            raise StorageError(400, "badRequest", f"The upload has {received} bytes, so it cannot go on at {start}.")
        skip = received - start
        with path.open("wb" if final else "ab", buffering=0) as file:
            received = file.tell()
            skip = 0 if final else skip
            async for chunk in chunks:
                fresh = chunk[skip:]
                skip = max(0, skip - len(chunk))
                received += file.write(fresh)
        return received

    # ---- multipart (XML API)

    async def part(self, session_id: str, number: int, chunks: AsyncIterator[bytes]) -> str:
        """Take one numbered part and return its ETag."""
        self._store.load_session(session_id)
        if not 1 <= number <= 10_000:
            raise StorageError(400, "invalid", f"Part numbers are 1 to 10000, not {number}")
        folder = self._store.uploads / session_id
        folder.mkdir(exist_ok=True)
        with self._store.writer() as writer:
            async for chunk in chunks:
                writer.write(chunk)
            blob = writer.finish()
            blob.path.replace(folder / f"{number:05d}")
        return blob.md5

    async def complete(self, session_id: str, numbers: list[int]) -> ObjectMeta:
        """Join the parts of these numbers, in this order, and publish them; 400 when one is missing."""
        state = self._store.load_session(session_id)
        folder = self._store.uploads / session_id
        paths = [folder / f"{number:05d}" for number in numbers]
        if missing := [int(path.name) for path in paths if not path.is_file()]:
            raise StorageError(400, "invalidPart", f"The upload has no part {missing[0]}")
        new, conditions = _read(state)
        return await run_in_threadpool(self._finish, session_id, state, new, conditions, paths)

    def _finish(
        self,
        session_id: str,
        state: Mapping[str, object],
        new: NewObject,
        conditions: Conditions,
        paths: list[Path],
    ) -> ObjectMeta:
        with self._store.writer() as writer:
            for path in paths:
                if path.exists():  # an empty upload never wrote a file
                    with path.open("rb") as file:
                        writer.append(file)
            meta = self._store.put(new, writer.finish(), conditions)
            writer.keep()
        # A client that missed the answer may ask again: keep the outcome, not the content.
        self._store.drop_session(session_id)
        self._store.save_session(session_id, {**state, "generation": meta.generation})
        return meta


def _truncate(path: Path, received: int) -> int:
    kept = received - received % CHUNK_MULTIPLE
    if kept < received:
        with path.open("rb+") as file:
            file.truncate(kept)
    return kept


def _read(state: Mapping[str, Any]) -> tuple[NewObject, Conditions]:
    return NewObject(**state["new"]), Conditions(**state["conditions"])
