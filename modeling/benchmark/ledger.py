"""Finished runs in a folder, one JSON file each: what a benchmark that was interrupted goes on from.

A file is written beside and renamed, so a run is either there as a whole or not there. `plan.json` says what the runs
belong to: a folder is never mixed from two plans. One process at a time may write, which a lock held by the operating
system sees to; it is free again when its holder dies, however it dies.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from modeling.errors import DataError
from modeling.json_file import read_json, write_json

PLAN = "plan.json"
RUNS = "runs"
_LOCK = "lock"


class Ledger:
    """The runs of one plan, by keys that are quoted in the names of files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder for as long as the block runs; raises `DataError` when another process does."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / _LOCK).open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DataError(
                    f"another benchmark or experiment is running in {self.folder}: wait for it or name another folder"
                ) from None
            yield

    def plan(self) -> dict[str, Any] | None:
        """The plan that the runs belong to; None in a new folder."""
        path = self.folder / PLAN
        return read_json(path) if path.is_file() else None

    def set_plan(self, plan: Mapping[str, Any]) -> None:
        """State the plan; raises `DataError` when the folder belongs to another one, naming what differs."""
        here = self.plan()
        plain = json.loads(json.dumps(plan))
        if here is None:
            write_json(self.folder / PLAN, plain)
        elif here != plain:
            other = sorted(key for key in here.keys() | plain.keys() if here.get(key) != plain.get(key))
            raise DataError(
                f"{self.folder} holds runs of another plan (it differs in {', '.join(other)}): "
                "name another folder, or repeat the command that began it"
            )

    def finished(self) -> dict[str, dict[str, Any]]:
        """Key -> what was recorded, in order of the keys."""
        found = sorted((self.folder / RUNS).glob("*.json"))
        return {unquote(path.stem): read_json(path) for path in found}

    def read(self, key: str) -> dict[str, Any]:
        """What was recorded of one run; raises `DataError` when nothing was."""
        return read_json(self._path(key))

    def __contains__(self, key: str) -> bool:
        return self._path(key).is_file()

    def record(self, key: str, run: Mapping[str, Any]) -> None:
        """Keep a finished run."""
        write_json(self._path(key), run)

    def workspace(self, key: str) -> Path:
        """Where a run keeps its checkpoint while it is under way."""
        return self.folder / "work" / file_stem(key)

    def _path(self, key: str) -> Path:
        return self.folder / RUNS / f"{file_stem(key)}.json"


_KEPT = "@+,="
"""Of a key, beside letters, digits and `_.-~`, in the name of its file; all else (a colon) is quoted."""


def file_stem(key: str) -> str:
    """What a key is called in a folder; raises `DataError` for one that would leave it."""
    if not key or "/" in key or key.startswith("."):
        raise DataError(f"{key!r} cannot name a run")
    return quote(key, safe=_KEPT)
