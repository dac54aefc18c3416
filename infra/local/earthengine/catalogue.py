"""The catalogue folder: rasters with a JSON file each, that anyone can put there.

    <folder>/<ASSET/ID/PARTS>/<index>.json
    {"id": "COPERNICUS/S2_HARMONIZED/20240110T013031_T54TWN", "time_start": "2024-01-10T01:30:31Z", "time_end": null,
     "properties": {"CLOUDY_PIXEL_PERCENTAGE": 12.3},
     "bands": [{"id": "B2", "file": "20240110T013031_T54TWN.tif", "band": 1}]}

`file` is relative to the JSON file; `footprint` (GeoJSON) may say where the image has data, otherwise it is the
raster's outline. A folder with images is a collection named by its path; `collection.json` in it may give the
collection `properties`, and makes an empty folder an empty collection. Before every request the folders are looked
through for JSON files that are new, changed or gone; only those are read. (A raster that is replaced by one of another
grid or type is seen when its JSON file is written again.)
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra.local.earthengine.errors import ArgumentError
from infra.local.earthengine.image import Image
from infra.local.earthengine.records import BandRecord, ImageRecord, to_image
from infra.local.earthengine.sources import Reader

COLLECTION_FILE = "collection.json"
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
        self._entries: dict[Path, _Entry] = {}
        self._listing = Listing()
        self._lock = threading.Lock()

    def refresh(self) -> Listing:
        """Look through the folders, read what is new or changed, forget what is gone."""
        with self._lock:
            found = {path: stamp for folder in self.folders for path, stamp in _json_files(folder)}
            gone = self._entries.keys() - found.keys()
            changed = [p for p, s in found.items() if p not in self._entries or self._entries[p].stamp != s]
            if gone or changed:
                for path in gone:
                    del self._entries[path]
                for path in changed:
                    self._entries[path] = _read(path, found[path])
                self._listing = self._listed()
            return self._listing

    def _listed(self) -> Listing:
        listing = Listing()
        for path, entry in sorted(self._entries.items()):
            owner = self._collection_id(path)
            if entry.collection is not None:
                listing.collections[str(entry.collection.get("id", owner))] = entry.collection.get("properties", {})
                continue
            listing.images[entry.record.id if entry.record else f"{owner}/{path.stem}"] = path
        for image_id in listing.images:
            listing.members.setdefault(image_id.rsplit("/", 1)[0], []).append(image_id)
        return listing

    def _collection_id(self, path: Path) -> str:
        for folder in self.folders:
            if path.is_relative_to(folder):
                return path.parent.relative_to(folder).as_posix()
        return path.parent.name

    def image(self, path: Path) -> Image:
        """The image of a JSON file of the listing."""
        with self._lock:
            entry = self._entries[path]
        if entry.record is None:
            raise ArgumentError(entry.problem)
        if entry.image is None:
            entry.image = to_image(entry.record, self._reader)
        return entry.image


def _json_files(folder: Path) -> Iterator[tuple[Path, Stamp]]:
    pending = [folder]
    while pending:
        with os.scandir(pending.pop()) as items:
            for item in items:
                if item.is_dir():
                    pending.append(Path(item.path))
                elif item.name.endswith(".json"):
                    stat = item.stat()
                    yield Path(item.path), (stat.st_mtime_ns, stat.st_size)


def _read(path: Path, stamp: Stamp) -> _Entry:
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        if path.name == COLLECTION_FILE:
            return _Entry(stamp, collection=dict(body))
        bands = tuple(
            BandRecord(str(b["id"]), str(path.parent / b["file"]), int(b.get("band", 1))) for b in body["bands"]
        )
        record = ImageRecord(
            str(body["id"]),
            bands,
            body.get("time_start"),
            body.get("time_end"),
            dict(body.get("properties", {})),
            body.get("footprint"),
            stamp[0] // 1000,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        # A damaged file must not take the others with it: whoever asks for this image is told.
        return _Entry(stamp, problem=f"The catalogue file '{path}' cannot be read: {type(error).__name__}: {error}.")
    return _Entry(stamp, record=record)
