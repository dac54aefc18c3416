"""Written assets: each a JSON value in the state folder, with the rasters and tables that were ingested beside it.

Written assets have ids `projects/P/assets/…`. Catalogue assets are read-only.
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
from infra.local.earthengine.allowance import Allowance
from infra.local.earthengine.assets import ROOT, AssetView, timestamp
from infra.local.earthengine.catalogue import Catalogue
from infra.local.earthengine.errors import ArgumentError, NotFoundError
from infra.local.earthengine.image import Image
from infra.local.earthengine.pinned import pinned
from infra.local.earthengine.policies import Policies
from infra.local.earthengine.records import BandRecord, ImageRecord, to_image
from infra.local.earthengine.sources import Reader
from infra.local.earthengine.store import JsonStore, write_atomically
from infra.local.earthengine.values import Collection, Feature

ALLOWANCE = Allowance()
"""What the service gives a project by default."""
TIMES = {"startTime": "start_time", "endTime": "end_time"}
"""Fields of an asset's times, and as they may be spelt in an update mask, too."""
PART = re.compile(r"[A-Za-z0-9_-]{1,100}")
"""One part of an asset's id."""
_OWN = ("type", "updateTime", "version", "properties")


class AssetLibrary:
    """The catalogue and the written assets."""

    def __init__(
        self,
        catalogue: Catalogue,
        state: Path,
        reader: Reader,
        allowance: Allowance = ALLOWANCE,
        storage_endpoint: str = "",
    ) -> None:
        self.catalogue = catalogue
        self.state = state
        self.stored = JsonStore(state / "assets")
        self.policies = Policies(JsonStore(state / "policies"))
        self.allowance = allowance
        self._reader = reader
        self._storage_endpoint = storage_endpoint
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
            bands = tuple(BandRecord(**{**b, "missing": tuple(b["missing"])}) for b in body["bands"])
            record = ImageRecord(
                wanted,
                bands,
                body["time_start"],
                body["time_end"],
                stored.get("properties", {}),
                body["footprint"],
                key[1],
            )
            image = to_image(record, self._reader)
            generations = stored.get("generations", {})
            self._images[key] = pinned(image, [b.uri for b in bands], generations, self._storage_endpoint)
        return self._images[key]

    def put_image(self, record: ImageRecord, extra: dict[str, Any] | None = None, *, overwrite: bool = True) -> None:
        """Write an image asset; its rasters are there already."""
        body = asdict(replace(record, properties={}))
        self._put(record.id, "IMAGE", record.properties, {"image": body, **(extra or {})}, overwrite=overwrite)

    def put_container(self, wanted: str, kind: str, properties: dict[str, Any]) -> None:
        """Create a folder or an empty image collection."""
        self._put(wanted, kind, properties, {}, overwrite=False)

    def put_table(
        self,
        wanted: str,
        features: list[dict[str, Any]],
        properties: dict[str, Any],
        times: dict[str, Any] | None = None,
        *,
        overwrite: bool = True,
    ) -> None:
        """Write a table asset of GeoJSON features; `times` are its `startTime` and `endTime`."""
        with self.stored.lock:
            self._require_free(wanted, overwrite=overwrite)
            body = json.dumps({"type": "FeatureCollection", "features": features}, ensure_ascii=False)
            write_atomically(self.table_path(wanted), body.encode())
            self._put(wanted, "TABLE", properties, times or {}, overwrite=True)

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

    def _put(
        self, wanted: str, kind: str, properties: dict[str, Any], extra: dict[str, Any], *, overwrite: bool = True
    ) -> None:
        now = dt.datetime.now(dt.UTC)
        with self.stored.lock:
            self._require_free(wanted, overwrite=overwrite)
            previous = self.stored.get(wanted)
            version = max(int(now.timestamp() * 1e6), int(previous["version"]) + 1 if previous else 0)
            value = {"type": kind, "updateTime": timestamp(now), "version": version, "properties": properties, **extra}
            self.stored.put(wanted, value)

    def _require_free(self, wanted: str, *, overwrite: bool) -> None:
        """Look again at the moment of writing: an operation began long ago, and a rival may have been quicker."""
        if self.stored.get(wanted) is not None and not overwrite:
            raise ArgumentError(f"Cannot overwrite asset '{wanted}'.")

    def quota(self, root: str) -> dict[str, Any]:
        """What a project keeps and may keep, as its root folder shows it."""
        return self.allowance.to_json(*self._held(root))

    def _held(self, root: str) -> tuple[int, int]:
        """Number of assets below a root, and bytes of what was ingested."""
        mine = [(key, value) for key, value in self.stored.items() if key.startswith(f"{root.rstrip('/')}/")]
        rasters = {band["uri"] for _, value in mine for band in value.get("image", {}).get("bands", ())}
        files = [Path(uri) for uri in rasters if not uri.startswith("gs://")]
        files += [self.table_path(key) for key, value in mine if value["type"] == "TABLE"]
        return len(mine), sum(path.stat().st_size for path in files if path.exists())

    def require_room(self, wanted: str, size_bytes: int = 0) -> None:
        """ArgumentError when the project may not keep another asset of so many ingested bytes."""
        root = "/".join(wanted.split("/")[:3])
        assets, held = self._held(root)
        self.allowance.require(root, assets + (self.stored.get(wanted) is None), held + size_bytes)

    def check_writable(self, view: AssetView, wanted: str, *, overwrite: bool = False) -> None:
        """ArgumentError or NotFoundError when an asset of this id may not be written."""
        below = wanted.removeprefix((ROOT.match(wanted) or [""])[0])
        if not ROOT.match(wanted) or not below:
            raise ArgumentError(f"Asset id '{wanted}' is not writable: it must be 'projects/PROJECT/assets/…'.")
        if not all(PART.fullmatch(part) for part in below.split("/")):
            raise ArgumentError(
                f"Invalid asset id '{wanted}': its parts must contain letters, digits, hyphens and underscores only."
            )
        parent = wanted.rsplit("/", 1)[0]
        if not view.exists(parent):
            raise NotFoundError(f"Cannot create asset '{wanted}': its parent '{parent}' does not exist.")
        if view.kind(parent) not in ("FOLDER", "IMAGE_COLLECTION"):
            raise ArgumentError(
                f"Cannot create asset '{wanted}': '{parent}' is neither a folder nor an image collection."
            )
        if view.exists(wanted) and not overwrite:
            raise ArgumentError(f"Cannot overwrite asset '{wanted}'.")
        self.require_room(wanted)

    def update(self, wanted: str, asset: dict[str, Any], paths: list[str]) -> None:
        """Change properties and times of a written asset; what a path names and `asset` lacks is removed.

        Paths are `properties`, `properties.NAME`, `start_time` and `end_time`; none stands for all.
        """
        values = {k: v for k, v in (asset.get("properties") or {}).items() if v is not None}
        for path in paths:
            if path not in ("properties", *TIMES, *TIMES.values()) and not path.startswith("properties."):
                raise ArgumentError(f"Invalid update mask: '{path}' cannot be updated.")
        with self.stored.lock:
            stored = self.stored.get(wanted)
            if stored is None:
                raise NotFoundError(f"Asset '{wanted}' does not exist or doesn't allow this operation.")
            properties = dict(values) if not paths or "properties" in paths else dict(stored.get("properties", {}))
            for path in paths:
                if path.startswith("properties."):
                    name = path.removeprefix("properties.").strip('"')
                    properties.pop(name, None)
                    properties |= {name: values[name]} if name in values else {}
            extra = {k: v for k, v in stored.items() if k not in _OWN}
            for field, path in TIMES.items():
                if not paths or path in paths or field in paths:
                    extra = _with_time(extra, field, asset.get(field) or asset.get(path))
            self._put(wanted, stored["type"], properties, extra)

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
            self.policies.delete(source)
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
        self.policies.delete(wanted)
        if stored["type"] == "TABLE":
            self.table_path(wanted).unlink(missing_ok=True)
        for band in stored.get("image", {}).get("bands", ()):
            path = Path(band["uri"])
            if path.is_relative_to(self.state) and not self._used(band["uri"]):
                path.unlink(missing_ok=True)

    def _used(self, uri: str) -> bool:
        """Whether an asset (a copy) still needs a raster."""
        return any(b["uri"] == uri for _, v in self.stored.items() for b in v.get("image", {}).get("bands", ()))


def _with_time(extra: dict[str, Any], field: str, value: Any) -> dict[str, Any]:
    """What is stored of an asset, with another start or end."""
    if "image" in extra:
        name = {"startTime": "time_start", "endTime": "time_end"}[field]  # of `records.ImageRecord`
        return {**extra, "image": {**extra["image"], name: value}}
    kept = {k: v for k, v in extra.items() if k != field}
    return {**kept, field: value} if value else kept
