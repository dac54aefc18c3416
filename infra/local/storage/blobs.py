"""Content on its way into the store: written once, hashed while it passes."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import google_crc32c

from infra.local.storage.model import Blob

READ_BYTES = 1 << 20


class BlobWriter:
    """A file that is removed at the end of the `with` block unless `keep` was called."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("wb", buffering=0)
        self._size = 0
        self._crc32c = 0
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._kept = False

    def __enter__(self) -> BlobWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if not self._kept:
            self._path.unlink(missing_ok=True)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append `data`."""
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]
        self._crc32c = google_crc32c.extend(self._crc32c, bytes(data))
        self._md5.update(data)
        self._size += len(data)

    def append(self, source: BinaryIO) -> None:
        """Append the rest of an open file."""
        while block := source.read(READ_BYTES):
            self.write(block)

    def finish(self) -> Blob:
        """Close the file and describe it."""
        self._file.close()
        return Blob(
            self._path,
            self._size,
            base64.b64encode(self._crc32c.to_bytes(4, "big")).decode(),
            base64.b64encode(self._md5.digest()).decode(),
        )

    def keep(self) -> None:
        """The content has become an object: leave the file where it is."""
        self._kept = True
