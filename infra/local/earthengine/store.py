"""JSON values in a folder, one file each, written atomically: what the stand-in remembers over a restart."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import threading
from pathlib import Path
from typing import Any


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees the old or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


class JsonStore:
    """Values by text keys, kept in memory and in files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.lock = threading.RLock()
        """Hold it to read and then write without a rival between."""
        self._values: dict[str, dict[str, Any]] = {}
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(folder.glob("*.json")):
            body = json.loads(path.read_text(encoding="utf-8"))
            self._values[body["key"]] = body["value"]

    def _path(self, key: str) -> Path:
        return self._folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"

    def get(self, key: str) -> dict[str, Any] | None:
        """A value, None when there is none. Not to be changed by the caller."""
        with self.lock:
            return self._values.get(key)

    def put(self, key: str, value: dict[str, Any]) -> None:
        """Set a value."""
        data = json.dumps({"key": key, "value": value}, ensure_ascii=False, indent=1).encode()
        with self.lock:
            write_atomically(self._path(key), data)
            self._values[key] = value

    def delete(self, key: str) -> None:
        """Remove a value, if it is there."""
        with self.lock:
            self._values.pop(key, None)
            self._path(key).unlink(missing_ok=True)

    def items(self) -> list[tuple[str, dict[str, Any]]]:
        """All keys and values."""
        with self.lock:
            return list(self._values.items())
