"""Assets as a request sees them: those of the catalogue folders, and those that clients have written (`library`)."""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING, Any

from infra.local.earthengine.catalogue import Listing
from infra.local.earthengine.errors import ArgumentError, NotFoundError
from infra.local.earthengine.image import Image
from infra.local.earthengine.values import Collection

if TYPE_CHECKING:
    from infra.local.earthengine.library import AssetLibrary

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
        times = {"startTime": "time_start", "endTime": "time_end"}
        told = {k: (stored.get("image") or {}).get(v) for k, v in times.items()} | stored
        body |= {k: told[k] for k in ("updateTime", "properties", *times) if told.get(k)}
        if ROOT.fullmatch(wanted):
            body["quota"] = self._library.quota(wanted)
        if kind == "IMAGE":
            # What was known of an object when it was imported is shown also when the object is gone.
            body |= stored.get("described") or describe_image(self._load(wanted))
            policies = {b["id"]: b.get("pyramid", "MEAN") for b in stored.get("image", {}).get("bands", ())}
            body["bands"] = [{**b, "pyramidingPolicy": policies.get(b["id"], "MEAN")} for b in body["bands"]]
            if stored.get("cloudStorageLocation"):
                body["cloudStorageLocation"] = stored["cloudStorageLocation"]
        elif kind == "IMAGE_COLLECTION" and not stored:
            body["properties"] = self._listing.collections.get(wanted, {})
        elif kind == "TABLE":
            body["sizeBytes"] = str(self._library.table_path(wanted).stat().st_size)
        return body

    def policy_holder(self, wanted: str) -> str:
        """The asset whose policy holds for an asset: for the images of a collection that is the collection."""
        parent = wanted.rsplit("/", 1)[0]
        return parent if self.kind(wanted) == "IMAGE" and self._kind(parent) == "IMAGE_COLLECTION" else wanted


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
        bands.append({"id": band.id, "dataType": data_type, "grid": grid})
    own = {k: v for k, v in image.properties.items() if not k.startswith("system:")}
    body: dict[str, Any] = {"bands": bands, "properties": own, "geometry": image.footprint.to_json()}
    body["sizeBytes"] = str(image.get("system:asset_size") or 0)
    for field, name in (("startTime", "system:time_start"), ("endTime", "system:time_end")):
        if image.get(name) is not None:
            body[field] = timestamp(dt.datetime.fromtimestamp(image.get(name) / 1000, dt.UTC))
    return body
