"""The events and product contents that the stand-in knows: read from folders, changed while it runs, kept on disk.

A folder holds, each part optional,

- `fdsn_event_detail/*.geojson`: one event each, with its products;
- `summary_feeds/*.geojson` and `fdsn_query/*.json`: collections of events without products;
- `index.tsv` with the columns `file` and `url`: which file of the folder is which content of a product.

The state folder has the same layout; what it says is newer than what the other folders say.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from infra.local.usgs.events import Event, RecordError, merge, read_event, withdraw

MAX_FILE_BYTES = 64 << 20
USGS = "https://earthquake.usgs.gov"


class BookError(ValueError):
    """A folder cannot be read, or a change contradicts what is known; the message says what."""


class UnknownEventError(BookError):
    """No event has the id."""


class EventBook:
    """All events by every id that they have, and the files behind product addresses."""

    def __init__(self, folders: Sequence[Path], state: Path) -> None:
        """Read everything; raises `BookError` naming the file that cannot be read."""
        self._state = state
        self._events: dict[str, Event] = {}
        self._preferred: dict[str, str] = {}
        self._contents: dict[str, Path] = {}
        (state / "fdsn_event_detail").mkdir(parents=True, exist_ok=True)
        (state / "products").mkdir(exist_ok=True)
        for folder in (*folders, state):
            events, contents = read_folder(folder)
            self._contents |= contents
            for event in events:
                self._learn(event)

    def find(self, event_id: str) -> Event | None:
        """The event with this id or alias."""
        preferred = self._preferred.get(event_id)
        return None if preferred is None else self._events[preferred]

    def all(self, *, deleted: bool = False) -> list[Event]:
        """All events; withdrawn ones only when asked for."""
        return [event for event in self._events.values() if deleted or not event.deleted]

    def content(self, path: str) -> Path | None:
        """The file behind the path of a product's content, None when it was not recorded."""
        return self._contents.get(path)

    def _learn(self, event: Event) -> Event:
        """Take in a record that may be older or newer than the one that is known."""
        known = {self._preferred[alias] for alias in event.aliases if alias in self._preferred}
        for other in sorted(known, key=lambda name: self._events[name].updated_ms):
            before = self._events.pop(other)
            newer_last = sorted((before, event), key=lambda one: (one.updated_ms, one.has_products))
            event = merge(*newer_last)
        self._events[event.id] = event
        self._preferred |= dict.fromkeys(event.aliases, event.id)
        return event

    # ---- changes while running

    def publish(self, feature: Any, contents: Mapping[str, bytes]) -> Event:
        """Add an event or a newer record of one, with contents by the path of their addresses; kept on disk.

        Raises `RecordError` for a Feature that is no event, `BookError` for a record that is not newer.
        """
        event = read_event(feature)
        for alias in event.aliases:
            known = self.find(alias)
            if known is not None and known.updated_ms >= event.updated_ms:
                raise BookError(
                    f"event {event.id} is known as {known.id} with updated={known.updated_ms}: an update must be later"
                )
        for path, content in contents.items():
            if not path.startswith("/product/"):
                raise BookError(f"contents are addressed by /product/…, not {path[:80]!r}")
            name = hashlib.sha256(path.encode()).hexdigest()[:40]
            _write(self._state / "products" / name, content)
            self._contents[path] = self._state / "products" / name
        if contents:
            self._write_index()
        return self._keep(self._learn(event))

    def delete(self, event_id: str, now_ms: int) -> Event:
        """Withdraw an event; raises `UnknownEventError`."""
        event = self.find(event_id)
        if event is None:
            raise UnknownEventError(f"no event has the id {event_id[:80]!r}")
        return self._keep(self._learn(withdraw(event, now_ms)))

    def _keep(self, event: Event) -> Event:
        folder = self._state / "fdsn_event_detail"
        _write(folder / f"{event.id}.geojson", json.dumps(event.feature).encode())
        for alias in event.aliases - {event.id}:
            (folder / f"{alias}.geojson").unlink(missing_ok=True)
        return event

    def _write_index(self) -> None:
        text = io.StringIO()
        rows = csv.writer(text, delimiter="\t", lineterminator="\n")
        rows.writerow(["file", "url"])
        for path, file in self._contents.items():
            if self._state in file.parents:
                rows.writerow([file.relative_to(self._state).as_posix(), USGS + path])
        _write(self._state / "index.tsv", text.getvalue().encode())


def read_folder(folder: Path) -> tuple[list[Event], dict[str, Path]]:
    """The records of one folder, and its files by the path of their address; raises `BookError` naming a bad file."""
    if not folder.is_dir():
        raise BookError(f"{folder} is not a folder")
    events = []
    for path, feature in _features(folder):
        try:
            events.append(read_event(feature))
        except RecordError as error:
            raise BookError(f"{path}: {error}") from None
    return events, dict(_read_index(folder))


def _features(folder: Path) -> Iterator[tuple[Path, Any]]:
    for path in sorted((folder / "fdsn_event_detail").glob("*.geojson")):
        yield path, _read_json(path)
    for path in sorted([*(folder / "summary_feeds").glob("*.geojson"), *(folder / "fdsn_query").glob("*.json")]):
        collection = _read_json(path)
        # Scenarios live in a service of their own; answers of `count` hold no events.
        if isinstance(collection, dict) and "/scenario/" not in str(collection.get("metadata")):
            for feature in collection.get("features", []):
                yield path, feature


def _read_json(path: Path) -> Any:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise BookError(f"{path} is larger than {MAX_FILE_BYTES} bytes")
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise error if isinstance(error, BookError) else BookError(f"{path} is not readable JSON: {error}") from None


def _read_index(folder: Path) -> Iterable[tuple[str, Path]]:
    index = folder / "index.tsv"
    if not index.is_file():
        return
    with index.open(newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines, delimiter="\t"):
            path = unquote(urlsplit(row.get("url") or "").path)
            file = (folder / (row.get("file") or "")).resolve()
            # A folder is outside input: it may only name files of its own.
            if path.startswith("/product/") and folder.resolve() in file.parents and file.is_file():
                yield path, file


def _write(path: Path, data: bytes) -> None:
    """A file that is never seen half written."""
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_bytes(data)
    temporary.replace(path)
