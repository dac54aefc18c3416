"""Assets: those of the catalogue folders, and those that clients have written.

Written assets have ids `projects/P/assets/…`; each is a JSON value in the state folder, with the rasters and tables
that were ingested beside it. Catalogue assets are read-only.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from infra.local.earthengine import geometry as geometries
from infra.local.earthengine.catalogue import Catalogue, Listing
from infra.local.earthengine.errors import ArgumentError, NotFoundError
from infra.local.earthengine.image import Image
from infra.local.earthengine.records import BandRecord, ImageRecord, to_image
from infra.local.earthengine.sources import Reader
from infra.local.earthengine.store import JsonStore, write_atomically
from infra.local.earthengine.values import Collection, Feature

_OWN = ("type", "updateTime", "version", "properties")
ROOT = re.compile(r"projects/[^/]+/assets/?")
SHARED = ("projects/earthengine-public/assets/", "projects/earthengine-legacy/assets/")
"""Prefixes that the client puts before ids of the public catalogue."""


def asset_id(name: str) -> str:
    """The id of an asset from its name in the REST interface."""
    cleaned = name.strip("/")
    for prefix in SHARED:
        cleaned = cleaned.removeprefix(prefix)
    return cleaned


def timestamp(moment: dt.datetime | None = None) -> str:
    """A time as the REST interface writes it."""
    return (moment or dt.datetime.now(dt.UTC)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class AssetView:
    """All assets as they are at one moment: what one request works on."""

    def __init__(self, library: AssetLibrary, listing: Listing) -> None:
        self._library = library
        self._listing = listing

    def _kind(self, wanted: str) -> str | None:
        stored = self._library.stored.get(wanted)
        if stored is not None:
            return str(stored["type"])
        if wanted in self._listing.images:
            return "IMAGE"
        if wanted in self._listing.collections or wanted in self._listing.members:
            return "IMAGE_COLLECTION"
        if ROOT.fullmatch(wanted) or any(k.startswith(f"{wanted}/") for k in self._listing.images):
            return "FOLDER"
        return None

    def kind(self, wanted: str) -> str:
        """IMAGE, IMAGE_COLLECTION, TABLE or FOLDER. NotFoundError when there is no such asset."""
        found = self._kind(wanted)
        if found is None:
            raise NotFoundError(f"Asset '{wanted}' does not exist or doesn't allow this operation.")
        return found

    def exists(self, wanted: str) -> bool:
        """Whether there is such an asset."""
        return self._kind(wanted) is not None

    def _require(self, name: str, expected: str, caller: str, noun: str) -> str:
        wanted = asset_id(name)
        found = self._kind(wanted)
        if found is None:
            raise NotFoundError(
                f"{caller}: {noun} asset '{name}' not found (does not exist or caller does not have access)."
            )
        if found != expected:
            shown = {"IMAGE": "Image", "IMAGE_COLLECTION": "ImageCollection", "TABLE": "Table"}
            raise ArgumentError(f"{caller}: Asset '{name}' is not an {shown.get(expected, expected)}.")
        return wanted

    def image(self, name: str) -> Image:
        """See `context.Assets`."""
        return self._load(self._require(name, "IMAGE", "Image.load", "Image"))

    def _load(self, wanted: str) -> Image:
        stored = self._library.stored.get(wanted)
        return (
            self._library.catalogue.image(self._listing.images[wanted])
            if stored is None
            else self._library.loaded(wanted, stored)
        )

    def collection(self, name: str) -> Collection:
        """See `context.Assets`."""
        wanted = self._require(name, "IMAGE_COLLECTION", "ImageCollection.load", "ImageCollection")
        stored = self._library.stored.get(wanted)
        properties = stored.get("properties", {}) if stored else self._listing.collections.get(wanted, {})
        images = [self._load(i) for i in self.children(wanted)]
        images.sort(key=lambda i: (i.get("system:time_start") or 0, i.id or ""))
        return Collection(wanted, dict(properties), tuple(images), version=stored.get("version") if stored else None)

    def table(self, name: str) -> Collection:
        """See `context.Assets`."""
        wanted = self._require(name, "TABLE", "Collection.loadTable", "Collection")
        return self._library.table(wanted)

    def children(self, wanted: str) -> list[str]:
        """Ids of the assets directly inside a folder or collection."""
        prefix = wanted.rstrip("/")
        inside = [k for k, _ in self._library.stored.items() if k.rsplit("/", 1)[0] == prefix]
        catalogued = list(self._listing.members.get(prefix, ()))
        folders = {
            k[len(prefix) + 1 :].split("/")[0]
            for k in (*self._listing.images, *self._listing.collections)
            if k.startswith(f"{prefix}/")
        }
        nested = [f"{prefix}/{f}" for f in folders]
        return sorted({*inside, *catalogued, *(n for n in nested if self._kind(n) is not None)})

    def describe(self, wanted: str) -> dict[str, Any]:
        """An asset as the REST interface shows it. NotFoundError when there is none."""
        kind = self.kind(wanted)
        stored = self._library.stored.get(wanted) or {}
        body: dict[str, Any] = {"type": kind, "name": _name(wanted), "id": wanted}
        body |= {k: stored[k] for k in ("updateTime", "properties", "startTime", "endTime") if stored.get(k)}
        if ROOT.fullmatch(wanted):
            body["quota"] = {
                "assetCount": str(len(self._library.stored.items())),
                "maxAssets": "10000",
                "sizeBytes": "0",
                "maxSizeBytes": str(250 * 2**30),
            }
        if kind == "IMAGE":
            body |= describe_image(self._load(wanted))
            if stored.get("cloudStorageLocation"):
                body["cloudStorageLocation"] = stored["cloudStorageLocation"]
        elif kind == "IMAGE_COLLECTION" and not stored:
            body["properties"] = self._listing.collections.get(wanted, {})
        elif kind == "TABLE":
            body["sizeBytes"] = str(self._library.table_path(wanted).stat().st_size)
        return body


def _name(wanted: str) -> str:
    return wanted if wanted.startswith("projects/") else f"{SHARED[0]}{wanted}"


def describe_image(image: Image) -> dict[str, Any]:
    """An image's bands, times, footprint and properties as the REST interface shows them."""
    bands = []
    for band in image.bands:
        a, b, c, d, e, f = band.projection.transform
        height, width = band.shape_yx or (0, 0)
        grid = {
            "crsCode": band.projection.crs,
            "dimensions": {"width": width, "height": height},
            "affineTransform": {"scaleX": a, "shearX": b, "translateX": c, "shearY": d, "scaleY": e, "translateY": f},
        }
        limits = {"min": band.type.minimum, "max": band.type.maximum}
        data_type = {
            "precision": band.type.precision.upper(),
            "range": {k: v for k, v in limits.items() if v is not None},
        }
        bands.append({"id": band.id, "dataType": data_type, "grid": grid, "pyramidingPolicy": "MEAN"})
    own = {k: v for k, v in image.properties.items() if not k.startswith("system:")}
    body: dict[str, Any] = {"bands": bands, "properties": own, "geometry": image.footprint.to_json()}
    body["sizeBytes"] = str(image.get("system:asset_size") or 0)
    for field, name in (("startTime", "system:time_start"), ("endTime", "system:time_end")):
        if image.get(name) is not None:
            body[field] = timestamp(dt.datetime.fromtimestamp(image.get(name) / 1000, dt.UTC))
    return body


class AssetLibrary:
    """The catalogue and the written assets."""

    def __init__(self, catalogue: Catalogue, state: Path, reader: Reader) -> None:
        self.catalogue = catalogue
        self.state = state
        self.stored = JsonStore(state / "assets")
        self._reader = reader
        self._images: dict[tuple[str, int], Image] = {}
        self._tables: dict[str, tuple[int, Collection]] = {}

    def view(self) -> AssetView:
        """The assets now, with the catalogue folders looked through."""
        return AssetView(self, self.catalogue.refresh())

    def loaded(self, wanted: str, stored: dict[str, Any]) -> Image:
        """A written image."""
        key = (wanted, int(stored["version"]))
        if key not in self._images:
            body = stored["image"]
            bands = tuple(BandRecord(b["id"], b["uri"], b["band"], tuple(b["missing"])) for b in body["bands"])
            record = ImageRecord(
                wanted,
                bands,
                body["time_start"],
                body["time_end"],
                stored.get("properties", {}),
                body["footprint"],
                key[1],
            )
            self._images[key] = to_image(record, self._reader)
        return self._images[key]

    def put_image(self, record: ImageRecord, extra: dict[str, Any] | None = None) -> None:
        """Write an image asset; its rasters are there already."""
        body = asdict(replace(record, properties={}))
        self._put(record.id, "IMAGE", record.properties, {"image": body, **(extra or {})})

    def put_container(self, wanted: str, kind: str, properties: dict[str, Any]) -> None:
        """Create a folder or an empty image collection."""
        self._put(wanted, kind, properties, {})

    def put_table(self, wanted: str, features: list[dict[str, Any]], properties: dict[str, Any]) -> None:
        """Write a table asset of GeoJSON features."""
        path = self.table_path(wanted)
        body = json.dumps({"type": "FeatureCollection", "features": features}, ensure_ascii=False)
        write_atomically(path, body.encode())
        self._put(wanted, "TABLE", properties, {})

    def table_path(self, wanted: str) -> Path:
        """The file of a table."""
        return self.state / "tables" / f"{hashlib.sha256(wanted.encode()).hexdigest()[:32]}.geojson"

    def table(self, wanted: str) -> Collection:
        """The features of a written table."""
        path = self.table_path(wanted)
        stamp = path.stat().st_mtime_ns
        kept = self._tables.get(wanted)
        if kept is None or kept[0] != stamp:
            body = json.loads(path.read_text(encoding="utf-8"))
            features = tuple(
                Feature(
                    str(f.get("id", i)),
                    {"system:index": str(f.get("id", i)), **f.get("properties", {})},
                    None if f.get("geometry") is None else geometries.from_json(f["geometry"]),
                )
                for i, f in enumerate(body["features"])
            )
            properties = dict((self.stored.get(wanted) or {}).get("properties", {}))
            kept = self._tables[wanted] = (stamp, Collection(wanted, properties, features, images=False))
        return kept[1]

    def _put(self, wanted: str, kind: str, properties: dict[str, Any], extra: dict[str, Any]) -> None:
        now = dt.datetime.now(dt.UTC)
        previous = self.stored.get(wanted)
        version = max(int(now.timestamp() * 1e6), int(previous["version"]) + 1 if previous else 0)
        value = {"type": kind, "updateTime": timestamp(now), "version": version, "properties": properties, **extra}
        self.stored.put(wanted, value)

    def check_writable(self, view: AssetView, wanted: str, *, overwrite: bool = False) -> None:
        """ArgumentError or NotFoundError when an asset of this id may not be written."""
        if not wanted.startswith("projects/") or ROOT.fullmatch(wanted):
            raise ArgumentError(f"Asset id '{wanted}' is not writable: it must be 'projects/PROJECT/assets/…'.")
        parent = wanted.rsplit("/", 1)[0]
        if not view.exists(parent):
            raise NotFoundError(f"Cannot create asset '{wanted}': its parent '{parent}' does not exist.")
        if view.kind(parent) not in ("FOLDER", "IMAGE_COLLECTION"):
            raise ArgumentError(
                f"Cannot create asset '{wanted}': '{parent}' is neither a folder nor an image collection."
            )
        if view.exists(wanted) and not overwrite:
            raise ArgumentError(f"Cannot overwrite asset '{wanted}'.")

    def update_properties(self, wanted: str, values: dict[str, Any], paths: list[str]) -> None:
        """Change some properties of a written asset; a named one that has no value is removed."""
        stored = self.stored.get(wanted)
        if stored is None:
            raise NotFoundError(f"Asset '{wanted}' does not exist or doesn't allow this operation.")
        properties = dict(stored.get("properties", {}))
        if not paths or "properties" in paths:
            properties = values
        for path in paths:
            name = path.removeprefix("properties.").strip('"')
            if path.startswith("properties."):
                properties = (
                    {**properties, name: values[name]}
                    if name in values
                    else {k: v for k, v in properties.items() if k != name}
                )
        self._put(wanted, stored["type"], properties, {k: v for k, v in stored.items() if k not in _OWN})

    def transfer(self, view: AssetView, source: str, target: str, *, keep: bool) -> None:
        """Copy or move a written asset; folders and collections only when they are empty."""
        stored = self.stored.get(source)
        if stored is None:
            raise NotFoundError(f"Asset '{source}' does not exist or doesn't allow this operation.")
        if view.children(source):
            raise ArgumentError(f"Asset '{source}' has children and cannot be copied or moved.")
        if stored["type"] == "TABLE":
            write_atomically(self.table_path(target), self.table_path(source).read_bytes())
        self._put(target, stored["type"], stored["properties"], {k: v for k, v in stored.items() if k not in _OWN})
        if not keep:
            self.stored.delete(source)
            if stored["type"] == "TABLE":
                self.table_path(source).unlink(missing_ok=True)

    def delete(self, view: AssetView, wanted: str) -> None:
        """Delete a written asset. Folders and collections must be empty."""
        stored = self.stored.get(wanted)
        if stored is None:
            if view.exists(wanted):
                raise ArgumentError(f"Asset '{wanted}' belongs to the catalogue folder and cannot be deleted.")
            raise NotFoundError(f"Asset '{wanted}' does not exist or doesn't allow this operation.")
        if view.children(wanted):
            raise ArgumentError(f"Asset '{wanted}' cannot be deleted: it has children.")
        self.stored.delete(wanted)
        if stored["type"] == "TABLE":
            self.table_path(wanted).unlink(missing_ok=True)
        for band in stored.get("image", {}).get("bands", ()):
            path = Path(band["uri"])
            if path.is_relative_to(self.state) and not self._used(band["uri"]):
                path.unlink(missing_ok=True)

    def _used(self, uri: str) -> bool:
        """Whether an asset (a copy) still needs a raster."""
        return any(b["uri"] == uri for _, v in self.stored.items() for b in v.get("image", {}).get("bands", ()))
