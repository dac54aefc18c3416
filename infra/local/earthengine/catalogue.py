"""The catalogue folder: rasters with a JSON file each, that anyone can put there (see `infra/local/README.md`).

    <folder>/<ASSET/ID/PARTS>/<index>.json
    {"id": "COPERNICUS/S2_HARMONIZED/20240110T013031_T54TWN", "time_start": "2024-01-10T01:30:31Z", "time_end": null,
     "properties": {"CLOUDY_PIXEL_PERCENTAGE": 12.3},
     "bands": [{"id": "B2", "file": "20240110T013031_T54TWN.tif", "band": 1}]}

A folder with images is a collection named by its path; `collection.json` in it may give the collection `properties`,
and makes an empty folder an empty collection. Before every request the folders are looked through for JSON files that
are new, changed or gone; only those are read. A large catalogue is looked through as a whole once a second, and in
between where something was added or removed. (A raster that is replaced by one of another grid or type is seen when its
JSON file is written again.)
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra.local.earthengine.description import read_image, read_json
from infra.local.earthengine.errors import ArgumentError
from infra.local.earthengine.image import Image
from infra.local.earthengine.records import ImageRecord, to_image
from infra.local.earthengine.sources import Reader

COLLECTION_FILE = "collection.json"
LARGE = 300
"""JSON files from which on a catalogue is large."""
WHOLE_EVERY_S = 1.0
"""How often a large catalogue is looked through as a whole."""
Stamp = tuple[int, int]


@dataclass
class _Entry:
    """One JSON file as it was when it was read."""

    stamp: Stamp
    record: ImageRecord | None = None
    collection: dict[str, Any] | None = None
    image: Image | None = None
    problem: str = ""


@dataclass(frozen=True)
class Listing:
    """What the folders hold at one moment."""

    images: dict[str, Path] = field(default_factory=dict)
    """JSON file of each image by asset id."""
    collections: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Properties of each collection by id."""
    members: dict[str, list[str]] = field(default_factory=dict)
    """Ids of the images of each collection."""


class Catalogue:
    """The images of some folders. Safe to use from several threads."""

    def __init__(self, folders: Path | Sequence[Path], reader: Reader) -> None:
        self.folders = [folders] if isinstance(folders, Path) else list(folders)
        for folder in self.folders:
            if not folder.is_dir():
                raise ArgumentError(f"The catalogue folder '{folder}' does not exist.")
        self._reader = reader
        self._entries: dict[str, _Entry] = {}
        self._scans: dict[str, _Scan] = {}
        self._looked_s = float("-inf")
        self._listing = Listing()
        self._lock = threading.Lock()

    def refresh(self) -> Listing:
        """Look through the folders, read what is new or changed, forget what is gone."""
        with self._lock:
            now = time.monotonic()
            whole = len(self._entries) < LARGE or now - self._looked_s >= WHOLE_EVERY_S
            if whole:
                self._looked_s = now
            found: dict[str, Stamp] = {}
            for root in self.folders:
                self._look(str(root), whole, found)
            gone = self._entries.keys() - found.keys()
            changed = [p for p, s in found.items() if p not in self._entries or self._entries[p].stamp != s]
            if gone or changed:
                for path in gone:
                    del self._entries[path]
                for path in changed:
                    self._entries[path] = self._read(Path(path), found[path])
                self._listing = self._listed()
            return self._listing

    def _look(self, folder: str, whole: bool, found: dict[str, Stamp]) -> None:
        """Put the JSON files of a folder and those below into `found`; scan it only when it may have changed."""
        stamp = Path(folder).stat().st_mtime_ns
        known = self._scans.get(folder)
        if whole or known is None or known.stamp != stamp:
            known = self._scans[folder] = _scan(folder, stamp)
        found.update(known.files)
        for inner in known.folders:
            try:
                self._look(inner, whole, found)
            except FileNotFoundError:  # it was removed since
                self._scans.pop(inner, None)

    def _listed(self) -> Listing:
        listing = Listing()
        for name, entry in sorted(self._entries.items()):
            path = Path(name)
            owner = path.parent.relative_to(self._root(path)).as_posix()
            if entry.collection is not None:
                listing.collections[str(entry.collection.get("id", owner))] = entry.collection.get("properties", {})
                continue
            image_id = entry.record.id if entry.record else f"{owner}/{path.stem}".removeprefix("./")
            if image_id in listing.images:
                entry.problem = f"The catalogue file '{path}' has the id of '{listing.images[image_id]}': '{image_id}'."
                continue
            listing.images[image_id] = path
            listing.members.setdefault(image_id.rsplit("/", 1)[0], []).append(image_id)
        return listing

    def _root(self, path: Path) -> Path:
        return next(folder for folder in self.folders if path.is_relative_to(folder))

    def _read(self, path: Path, stamp: Stamp) -> _Entry:
        try:
            if path.name == COLLECTION_FILE:
                return _Entry(stamp, collection=read_json(path))
            return _Entry(stamp, record=read_image(path, self._root(path), stamp[0] // 1000))
        except ArgumentError as error:
            # A damaged file must not take the others with it: whoever asks for this image is told.
            return _Entry(stamp, problem=error.message)

    def problems(self) -> list[str]:
        """What is wrong with the catalogue's files, the rasters' as well, one line each."""
        listing = self.refresh()
        found = [entry.problem for entry in self._entries.values() if entry.problem]
        for path in listing.images.values():
            try:
                self.image(path)
            except ArgumentError as error:
                if error.message not in found:
                    found.append(f"{path}: {error.message}")
        return found

    def image(self, path: Path) -> Image:
        """The image of a JSON file of the listing."""
        with self._lock:
            entry = self._entries[str(path)]
        if entry.record is None:
            raise ArgumentError(entry.problem)
        if entry.image is None:
            entry.image = to_image(entry.record, self._reader)
        return entry.image


@dataclass(frozen=True)
class _Scan:
    """What a folder held when it was looked into."""

    stamp: int
    files: dict[str, Stamp]
    folders: tuple[str, ...]


def _scan(folder: str, stamp: int) -> _Scan:
    files: dict[str, Stamp] = {}
    folders: list[str] = []
    with os.scandir(folder) as items:
        for item in items:
            if item.is_dir():
                folders.append(item.path)
            elif item.name.endswith(".json"):
                stat = item.stat()
                files[item.path] = (stat.st_mtime_ns, stat.st_size)
    return _Scan(stamp, files, tuple(folders))
