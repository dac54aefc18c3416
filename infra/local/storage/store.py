"""Objects in a folder, safe against a kill at any moment.

Contents lie in `blobs/`, one file each under a random name, so that no object name ever becomes a file name. Which
object has which content stands in `index.sqlite`. A write first lays down a complete file, then publishes it in one
transaction that also checks the preconditions; a reader therefore sees the old object or the new one. A file that was
written but never published is swept when the store is opened.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from infra.local.storage.blobs import BlobWriter
from infra.local.storage.model import (
    NO_CONDITIONS,
    Blob,
    Conditions,
    NewObject,
    ObjectMeta,
    StorageError,
    check_bucket_name,
    check_object_name,
)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS buckets (name TEXT PRIMARY KEY, created REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS objects (
    bucket TEXT NOT NULL, name BLOB NOT NULL, generation INTEGER NOT NULL, metageneration INTEGER NOT NULL,
    size INTEGER NOT NULL, crc32c TEXT NOT NULL, md5 TEXT NOT NULL, created REAL NOT NULL, updated REAL NOT NULL,
    attributes TEXT NOT NULL, metadata TEXT NOT NULL, blob TEXT NOT NULL, PRIMARY KEY (bucket, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sessions (id TEXT PRIMARY KEY, state TEXT NOT NULL) WITHOUT ROWID;
"""


class ObjectStore:
    """Buckets and objects below one folder; safe to use from several threads, by one process at a time."""

    def __init__(self, root: Path) -> None:
        """Open or create the store; raises `StorageError` when another process has it open."""
        self.root = root
        self.uploads = root / "uploads"
        self._blobs = root / "blobs"
        for folder in (root, self.uploads, self._blobs):
            folder.mkdir(parents=True, exist_ok=True)
        self._lock_file = (root / "lock").open("w")
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock_file.close()
            raise StorageError(409, "conflict", f"{root} is in use by another storage stand-in") from None
        self._lock = threading.RLock()
        self._db = sqlite3.connect(root / "index.sqlite", check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        # A killed process loses nothing that it has handed to the kernel; only a power cut could.
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.executescript(_SCHEMA)
        (last,) = self._db.execute("SELECT COALESCE(MAX(generation), 0) FROM objects").fetchone()
        self._generation = int(last)
        self._garbage: list[str] = []
        self._sweep()

    def close(self) -> None:
        """Release the folder."""
        with self._lock:
            self._db.close()
            self._lock_file.close()

    def _sweep(self) -> None:
        live = {row[0] for row in self._db.execute("SELECT blob FROM objects")}
        for path in self._blobs.iterdir():
            if path.name not in live:
                path.unlink()
        sessions = {row[0] for row in self._db.execute("SELECT id FROM sessions")}
        for path in self.uploads.iterdir():
            if path.name not in sessions:
                remove_upload(path)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Commit or roll back; contents that fell out of use are removed only after the commit."""
        with self._lock:
            self._garbage.clear()
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
            for blob in self._garbage:
                (self._blobs / blob).unlink(missing_ok=True)

    # ---- buckets

    def create_bucket(self, name: str) -> float:
        """Create a bucket and return its time of creation; 409 when it exists."""
        check_bucket_name(name)
        now = time.time()
        with self._transaction() as db:
            if db.execute("SELECT 1 FROM buckets WHERE name=?", (name,)).fetchone():
                raise StorageError(409, "conflict", f"The bucket {name} exists already.")
            db.execute("INSERT INTO buckets VALUES (?, ?)", (name, now))
        return now

    def buckets(self) -> list[tuple[str, float]]:
        """All buckets with their times of creation, by name."""
        with self._lock:
            return [(str(n), float(t)) for n, t in self._db.execute("SELECT name, created FROM buckets ORDER BY name")]

    def bucket_created(self, name: str) -> float:
        """When the bucket was created; 404 when there is none."""
        with self._lock:
            row = self._db.execute("SELECT created FROM buckets WHERE name=?", (name,)).fetchone()
        if row is None:
            raise StorageError(404, "notFound", f"The specified bucket does not exist: {name}")
        return float(row[0])

    def delete_bucket(self, name: str) -> None:
        """Delete an empty bucket; 404 without one, 409 when it holds objects."""
        with self._transaction() as db:
            self.bucket_created(name)
            if db.execute("SELECT 1 FROM objects WHERE bucket=? LIMIT 1", (name,)).fetchone():
                raise StorageError(409, "conflict", f"The bucket you tried to delete is not empty: {name}")
            db.execute("DELETE FROM buckets WHERE name=?", (name,))

    # ---- reading

    def find(self, bucket: str, name: str) -> ObjectMeta | None:
        """The live object, or None; 404 when the bucket is missing."""
        with self._lock:
            self.bucket_created(bucket)
            row = self._db.execute(
                "SELECT * FROM objects WHERE bucket=? AND name=?", (bucket, name.encode())
            ).fetchone()
        return _meta(row) if row else None

    def get(
        self, bucket: str, name: str, conditions: Conditions = NO_CONDITIONS, generation: int | None = None
    ) -> ObjectMeta:
        """The live object; 404 when there is none (of that generation), 412 or 304 by the conditions."""
        meta = self.find(bucket, name)
        if meta is None or generation not in (None, meta.generation):
            raise StorageError(404, "notFound", f"No such object: {bucket}/{name}")
        conditions.check(meta, reading=True)
        return meta

    def open(
        self, bucket: str, name: str, conditions: Conditions = NO_CONDITIONS, generation: int | None = None
    ) -> tuple[ObjectMeta, BinaryIO]:
        """The live object and its content, which stays readable when the object is replaced meanwhile."""
        with self._lock:
            meta = self.get(bucket, name, conditions, generation)
            return meta, (self._blobs / meta.blob).open("rb")

    def scan(self, bucket: str, start: bytes, stop: bytes | None) -> Iterator[ObjectMeta]:
        """Objects with start <= name < stop (as UTF-8 bytes), in order of name. Hold the iterator only briefly."""
        query, values = "SELECT * FROM objects WHERE bucket=? AND name>=?", [bucket, start]
        if stop is not None:
            query, values = query + " AND name<?", [*values, stop]
        with self._lock:
            for row in self._db.execute(query + " ORDER BY name", values):
                yield _meta(row)

    # ---- writing

    def writer(self) -> BlobWriter:
        """A file that takes content; a context manager that removes the file unless it was published."""
        return BlobWriter(self._blobs / uuid.uuid4().hex)

    def put(self, new: NewObject, blob: Blob, conditions: Conditions = NO_CONDITIONS) -> ObjectMeta:
        """Publish `blob` as an object; 412 when the conditions do not hold at this very moment."""
        check_object_name(new.name)
        new.verify(blob)
        with self._transaction():
            return self._publish(new, blob, conditions)

    def _publish(self, new: NewObject, blob: Blob, conditions: Conditions) -> ObjectMeta:
        """Inside a transaction: check, insert, and drop the content that was there before."""
        current = self.find(new.bucket, new.name)
        conditions.check(current)
        now = time.time()
        self._generation = max(self._generation + 1, int(now * 1e6))
        meta = ObjectMeta(
            bucket=new.bucket,
            name=new.name,
            generation=self._generation,
            metageneration=1,
            size=blob.size,
            crc32c=blob.crc32c,
            md5=blob.md5,
            created=now,
            updated=now,
            attributes=dict(new.attributes),
            metadata=dict(new.metadata),
            blob=blob.path.name,
        )
        self._write_row(meta)
        if current is not None and current.blob != meta.blob:
            self._garbage.append(current.blob)
        return meta

    def _write_row(self, meta: ObjectMeta) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO objects VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
            (
                meta.bucket,
                meta.name.encode(),
                meta.generation,
                meta.metageneration,
                meta.size,
                meta.crc32c,
                meta.md5,
                meta.created,
                meta.updated,
                json.dumps(meta.attributes),
                json.dumps(meta.metadata),
                meta.blob,
            ),
        )

    def patch(
        self, bucket: str, name: str, attributes: Mapping[str, str], metadata: Mapping[str, str], conditions: Conditions
    ) -> ObjectMeta:
        """Replace the metadata of the live object."""
        with self._transaction():
            current = self.get(bucket, name)
            conditions.check(current)
            meta = replace(
                current,
                metageneration=current.metageneration + 1,
                updated=time.time(),
                attributes=dict(attributes),
                metadata=dict(metadata),
            )
            self._write_row(meta)
        return meta

    def delete(
        self, bucket: str, name: str, conditions: Conditions = NO_CONDITIONS, generation: int | None = None
    ) -> None:
        """Delete the live object; 404 when there is none."""
        with self._transaction() as db:
            current = self.get(bucket, name, generation=generation)
            conditions.check(current)
            db.execute("DELETE FROM objects WHERE bucket=? AND name=?", (bucket, name.encode()))
            self._garbage.append(current.blob)

    def copy(
        self,
        source: ObjectMeta,
        target: NewObject,
        conditions: Conditions = NO_CONDITIONS,
        source_conditions: Conditions = NO_CONDITIONS,
        *,
        move: bool = False,
    ) -> ObjectMeta:
        """Publish the content of the live object `source` under another name; `move` drops the source as well."""
        check_object_name(target.name)
        with self._transaction() as db:
            current = self.get(source.bucket, source.name)
            source_conditions.check(current)
            path = self._blobs / uuid.uuid4().hex
            _link(self._blobs / current.blob, path)
            try:
                meta = self._publish(target, Blob(path, current.size, current.crc32c, current.md5), conditions)
            except BaseException:
                path.unlink()
                raise
            if move and (source.bucket, source.name) != (target.bucket, target.name):
                db.execute("DELETE FROM objects WHERE bucket=? AND name=?", (source.bucket, source.name.encode()))
                self._garbage.append(current.blob)
        return meta

    # ---- upload sessions

    def save_session(self, session_id: str, state: Mapping[str, object]) -> None:
        """Remember an upload that takes several requests."""
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO sessions VALUES (?, ?)", (session_id, json.dumps(state)))

    def load_session(self, session_id: str) -> dict[str, object]:
        """The state given to `save_session`; 404 when there is none."""
        with self._lock:
            row = self._db.execute("SELECT state FROM sessions WHERE id=?", (session_id,)).fetchone()
        if row is None:
            raise StorageError(404, "notFound", f"No such upload: {session_id[:80]!r}")
        return dict(json.loads(row[0]))

    def drop_session(self, session_id: str) -> None:
        """Forget an upload and what it has sent."""
        with self._transaction() as db:
            db.execute("DELETE FROM sessions WHERE id=?", (session_id,))
        remove_upload(self.uploads / session_id)


def remove_upload(path: Path) -> None:
    """Remove the file or folder of an upload session."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _link(source: Path, target: Path) -> None:
    """Contents never change in place, so two objects may share one; file systems without hard links get a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _meta(row: Sequence[Any]) -> ObjectMeta:
    bucket, name, generation, metageneration, size, crc32c, md5, created, updated, attributes, metadata, blob = row
    return ObjectMeta(
        bucket=bucket,
        name=name.decode(),
        generation=generation,
        metageneration=metageneration,
        size=size,
        crc32c=crc32c,
        md5=md5,
        created=created,
        updated=updated,
        attributes=json.loads(attributes),
        metadata=json.loads(metadata),
        blob=blob,
    )
