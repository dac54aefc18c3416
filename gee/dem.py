"""The elevation model of an area: the first of several candidates that covers it, why, and the image of it.

The tiles of a global model do not all lie on one grid: towards the poles their pixels become wider in longitude (of
Copernicus GLO-30 at 50, 60, 70, 80 and 85 degrees, of AW3D30 at 60, 70 and 80 degrees). A mosaic takes the grid of none
of them, and the grid of whichever tile comes first would make steps out of the others. So the grids are looked up
beforehand, and a choice of model names them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import ee
import numpy as np
import shapely
from pyproj import CRS
from shapely.affinity import translate
from shapely.geometry import box, shape
from shapely.geometry.base import BaseGeometry
from shapely.validation import make_valid

from gee.catalog import asset_info, search_boxes
from gee.errors import PermanentError
from gee.grid import unwrap
from gee.session import Session

COVERS = 0.99
"""An elevation model that covers this share of the area covers it: its edge lies somewhere at sea."""

DEM_NAMES = {
    "srtm": "USGS/SRTMGL1_003",
    "nasadem": "NASA/NASADEM_HGT/001",
    "glo30": "COPERNICUS/DEM/GLO30",
    "aw3d30": "JAXA/ALOS/AW3D30/V4_1",
}
"""Short names of the models that people use; any other is named by its asset id."""


@dataclass(frozen=True)
class DemZone:
    """The tiles of a model that share one pixel grid."""

    crs: str
    """Coordinate system of the grid, a code or WKT."""
    transform: tuple[float, float, float, float, float, float]
    """Affine coefficients a, b, c, d, e, f: x = a*col + b*row + c, y = d*col + e*row + f."""
    tiles: tuple[str, ...] = ()
    """`system:index` of the tiles; empty for a model that is one image."""

    @property
    def is_geographic(self) -> bool:
        """Whether the grid is in degrees."""
        return bool(CRS.from_user_input(self.crs).is_geographic)

    @property
    def projection(self) -> ee.Projection:
        """The grid as Earth Engine knows it."""
        return ee.Projection(self.crs, list(self.transform))


@dataclass(frozen=True)
class DemChoice:
    """The elevation model used for an area, and why this one."""

    id: str
    """Asset id."""
    band: str
    """Band that holds the elevation in metres."""
    kind: Literal["image", "collection"]
    """Whether the asset is one image or a collection of tiles."""
    why: str
    """What was wrong with the candidates before it; empty when it was the first."""
    zones: tuple[DemZone, ...]
    """The pixel grids of the model in the area, that of the smallest pixels first."""

    @property
    def native(self) -> DemZone:
        """The grid that terrain is computed on: the one of the smallest pixels."""
        return self.zones[0]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> DemChoice:
        """The inverse of `to_dict`."""
        zones = tuple(_zone(zone["crs"], zone["transform"], zone["tiles"]) for zone in value["zones"])
        return cls(str(value["id"]), str(value["band"]), value["kind"], str(value["why"]), zones)


@dataclass(frozen=True)
class _KnownDem:
    band: str
    south: float = -90.0
    north: float = 90.0


_KNOWN_DEMS = {
    "USGS/SRTMGL1_003": _KnownDem("elevation", -56.0, 60.0),
    "NASA/NASADEM_HGT/001": _KnownDem("elevation", -56.0, 60.0),
    "CGIAR/SRTM90_V4": _KnownDem("elevation", -60.0, 60.0),
    "COPERNICUS/DEM/GLO30": _KnownDem("DEM"),
    "JAXA/ALOS/AW3D30/V3_2": _KnownDem("DSM", -82.0, 82.0),
    "JAXA/ALOS/AW3D30/V4_1": _KnownDem("DSM", -84.0, 84.0),
}
"""Band and latitudes of the models that people use; of any other the first band is taken."""


def asset_of(name: str) -> str:
    """The asset id of a model, by its short name of `DEM_NAMES` or by the id itself."""
    return DEM_NAMES.get(name.lower(), name)


def choose_dem(session: Session, candidates: Sequence[str], geometry: BaseGeometry) -> DemChoice:
    """The first elevation model that covers the area (WGS84); else the one that covers most of it.

    Candidates are short names or asset ids. Of a model in tiles only the latitudes and whether there is any tile are
    looked at: it has none at sea (and Copernicus GLO-30 none in Armenia and Azerbaijan).
    Raises `PermanentError` naming every candidate with what is wrong with it.
    """
    reasons: list[str] = []
    best: tuple[float, DemChoice] | None = None
    for asset_id in map(asset_of, candidates):
        info = asset_info(session, asset_id)
        if info is None:
            reasons.append(f"{asset_id} does not exist here")
            continue
        images = _images(session, asset_id, info, geometry)
        share = _share_covered(asset_id, info, geometry) if images else 0.0
        if share > 0:
            dem = _described(asset_id, info, images, reasons)
            if share >= COVERS:
                return dem
            best = (share, dem) if best is None or share > best[0] else best
        known = _KNOWN_DEMS.get(asset_id, _KnownDem(""))
        ends = f", it ends at {_latitude(known.north)} and {_latitude(known.south)}" if known.north < 90 else ""
        reasons.append(f"{asset_id} covers {share:.0%} of the area{ends}")
    if best is None:
        raise PermanentError(f"no elevation model for the area: {'; '.join(reasons) or 'none given'}; name another one")
    return DemChoice(**{**vars(best[1]), "why": "; ".join([*reasons, "none covers all of it"])})


def elevation_image(dem: DemChoice, geometry: BaseGeometry) -> ee.Image:
    """The model over an area (WGS84) as one image, band `elevation` in metres, on the grid of `dem.native`.

    Tiles of wider pixels are interpolated bilinearly onto that grid; their own nearest pixel is used where they end.
    """
    if dem.kind == "image":
        image: ee.Image = ee.Image(dem.id).select([dem.band], ["elevation"])
        return image
    tiles = ee.ImageCollection(dem.id).filterBounds(search_boxes(geometry)).select([dem.band], ["elevation"])
    if len(dem.zones) == 1:
        return _mosaic(tiles, dem.native)
    layers = []
    for zone in reversed(dem.zones[1:]):
        coarser = _mosaic(tiles.filter(ee.Filter.inList("system:index", list(zone.tiles))), zone).toDouble()
        layers += [coarser, coarser.resample("bilinear")]
    finest = tiles.filter(ee.Filter.inList("system:index", list(dem.native.tiles)))
    return _mosaic(ee.ImageCollection([*layers, _mosaic(finest, dem.native).toDouble()]), dem.native)


def _mosaic(parts: ee.ImageCollection, zone: DemZone) -> ee.Image:
    # A mosaic forgets the grid of its parts.
    return parts.mosaic().setDefaultProjection(zone.projection)


def _images(session: Session, asset_id: str, info: Mapping[str, Any], geometry: BaseGeometry) -> list[dict[str, Any]]:
    """Descriptions of the images that make up a model in an area: itself, or its tiles."""
    if info["type"] != "IMAGE_COLLECTION":
        return [session.compute(ee.Image(asset_id))]
    found = ee.ImageCollection(asset_id).filterBounds(search_boxes(geometry))
    images: list[dict[str, Any]] = session.compute(found).get("features", [])
    return images


def _described(
    asset_id: str, info: Mapping[str, Any], images: Sequence[Mapping[str, Any]], reasons: Sequence[str]
) -> DemChoice:
    known = _KNOWN_DEMS.get(asset_id)
    band = known.band if known else str(images[0]["bands"][0]["id"])
    kind: Literal["image", "collection"] = "collection" if info["type"] == "IMAGE_COLLECTION" else "image"
    return DemChoice(asset_id, band, kind, "; ".join(reasons), zones_of(images, band, tiled=kind == "collection"))


def zones_of(images: Sequence[Mapping[str, Any]], band: str, *, tiled: bool) -> tuple[DemZone, ...]:
    """The grids of a band of several images (as `getInfo` describes them), that of the smallest pixels first.

    Images with pixels of one size in one coordinate system share a grid. Pure. Raises `PermanentError` when an image
    lacks the band.
    """
    members: dict[tuple[Any, ...], list[tuple[str, Mapping[str, Any]]]] = {}
    for image in images:
        described = next((each for each in image["bands"] if each["id"] == band), None)
        if described is None:
            raise PermanentError(f"the elevation model {image.get('id')} has no band {band}: name another model")
        crs, (a, b, _, d, e, _) = described.get("crs") or described["crs_wkt"], described["crs_transform"]
        index = str(image.get("properties", {}).get("system:index", image.get("id")))
        members.setdefault((crs, *(round(step, 12) for step in (a, b, d, e))), []).append((index, described))
    zones = []
    for (crs, *_), parts in sorted(members.items()):
        parts.sort(key=lambda part: part[0])
        zones.append(_zone(crs, parts[0][1]["crs_transform"], [index for index, _ in parts] if tiled else []))
    return tuple(sorted(zones, key=lambda zone: abs(zone.transform[0] * zone.transform[4])))


def _zone(crs: str, transform: Sequence[float], tiles: Sequence[str]) -> DemZone:
    a, b, c, d, e, f = (float(value) for value in transform)
    return DemZone(str(crs), (a, b, c, d, e, f), tuple(tiles))


def _share_covered(asset_id: str, info: Mapping[str, Any], geometry: BaseGeometry) -> float:
    known = _KNOWN_DEMS.get(asset_id, _KnownDem(""))
    area = unwrap(geometry)
    west, _, east, _ = area.bounds
    inside = area.intersection(box(west, known.south, east, known.north))
    outline = None if info["type"] == "IMAGE_COLLECTION" else _outline(info)
    if outline is not None:
        inside = inside.intersection(shapely.union_all([translate(outline, turn) for turn in (0, 360)]))
    return inside.area / area.area if area.area > 0 else float(not inside.is_empty)


def _outline(info: Mapping[str, Any]) -> BaseGeometry | None:
    """Where an image asset has data, None when it does not say or has no bounds."""
    try:
        outline = shape(info["geometry"])
    except (KeyError, TypeError, ValueError, AttributeError, shapely.errors.ShapelyError):
        return None
    if outline.is_empty or not np.isfinite(outline.bounds).all():
        return None
    return outline if outline.is_valid else make_valid(outline)


def _latitude(degrees: float) -> str:
    return f"{abs(degrees):g} degrees {'N' if degrees >= 0 else 'S'}"
