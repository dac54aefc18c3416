"""What Earth Engine has for an area and a time: scenes, their cloud scores, an elevation model. One request each."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

import ee
import numpy as np
import shapely
from shapely.affinity import translate
from shapely.geometry import LinearRing, Polygon, box, shape
from shapely.geometry.base import BaseGeometry
from shapely.validation import make_valid

from gee.errors import NoScenesError, PermanentError
from gee.grid import crosses_antimeridian, unwrap
from gee.session import Session
from gee.types import Scene, Window

KEPT_PROPERTIES = (
    "MGRS_TILE", "SPACECRAFT_NAME", "PROCESSING_BASELINE", "SENSING_ORBIT_NUMBER", "SENSING_ORBIT_DIRECTION",
    "MEAN_SOLAR_AZIMUTH_ANGLE", "MEAN_SOLAR_ZENITH_ANGLE", "attribution", "quakeslide:simulated",
    "quakeslide:time_assumed",
)  # fmt: skip
"""Properties of a scene that are kept in a cube's provenance."""

COVERS = 0.99
"""An elevation model that covers this share of the area covers it: its edge lies somewhere at sea."""


@dataclass(frozen=True)
class SceneSearch:
    """The scenes of both phases, from one collection."""

    collection: str
    """The collection they belong to."""
    pre: tuple[Scene, ...]
    """Scenes before, by time."""
    post: tuple[Scene, ...]
    """Scenes after, by time."""


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


def asset_info(session: Session, asset_id: str) -> dict[str, Any] | None:
    """Earth Engine's description of an asset, None when there is none that this account may see."""
    name = ee.data.convert_asset_id_to_asset_name(asset_id)
    try:
        info: dict[str, Any] = session.call("GET", f"/v1/{quote(name)}")
    except PermanentError as error:
        if error.status in (403, 404):  # without permission Earth Engine says either
            return None
        raise
    return info


def asset_exists(session: Session, asset_id: str) -> bool:
    """Whether an asset exists and may be read."""
    return asset_info(session, asset_id) is not None


def list_scenes(
    session: Session,
    collection: str,
    geometry: BaseGeometry,
    window: Window,
    *,
    maximum_cloud_percent: float = 100.0,
) -> list[Scene]:
    """The scenes of a collection that meet an area (WGS84) in a window, sorted by time; one request.

    Scenes without `CLOUDY_PIXEL_PERCENTAGE` are kept. Raises `PermanentError` when the collection does not exist.
    """
    found = (
        ee.ImageCollection(collection)
        .filterDate(_milliseconds(window.start), _milliseconds(window.end))
        .filterBounds(search_boxes(geometry))
    )
    scenes = [_scene(feature) for feature in session.compute(found).get("features", [])]
    area = unwrap(geometry)
    wanted = [
        scene
        for scene in scenes
        if (scene.cloud_percent is None or scene.cloud_percent <= maximum_cloud_percent)
        and _meets(shapely.from_wkt(scene.footprint_wkt), area)
    ]
    return sorted(wanted, key=lambda scene: (scene.time, scene.id))


def find_scenes(
    session: Session,
    collections: Sequence[str],
    geometry: BaseGeometry,
    pre: Window,
    post: Window,
    *,
    maximum_cloud_percent: float = 100.0,
) -> SceneSearch:
    """The scenes of the first of `collections` that has some in both windows.

    Raises `NoScenesError` that says what each collection had.
    """
    tried = []
    for collection in collections:
        if not asset_exists(session, collection):
            tried.append(f"{collection} does not exist here")
            continue
        before, after = (
            list_scenes(session, collection, geometry, window, maximum_cloud_percent=maximum_cloud_percent)
            for window in (pre, post)
        )
        if before and after:
            return SceneSearch(collection, tuple(before), tuple(after))
        tried.append(f"{collection} has {len(before)} scenes before and {len(after)} after")
    raise NoScenesError(
        f"no collection has scenes of the area in both windows, {pre.start:%Y-%m-%d} to {pre.end:%Y-%m-%d} and "
        f"{post.start:%Y-%m-%d} to {post.end:%Y-%m-%d}, at most {maximum_cloud_percent:g} % cloudy "
        f"({'; '.join(tried) or 'no collection given'}): wait for the next pass, or widen the windows"
    )


def scored_scenes(session: Session, cloud_score: str, scenes: Sequence[Scene]) -> frozenset[str]:
    """The ids of those scenes that have an image of the same `system:index` in the cloud-score collection.

    Empty without a collection (`cloud_score` empty or not there).
    """
    if not scenes or not cloud_score or not asset_exists(session, cloud_score):
        return frozenset()
    by_index = {scene.id.rpartition("/")[2]: scene.id for scene in scenes}
    found = ee.ImageCollection(cloud_score).filter(ee.Filter.inList("system:index", list(by_index)))
    indices = session.compute(found.aggregate_array("system:index"))
    return frozenset(by_index[index] for index in indices if index in by_index)


def choose_dem(session: Session, candidates: Sequence[str], geometry: BaseGeometry) -> DemChoice:
    """The first elevation model that covers the area; else the one that covers most of it.

    Raises `PermanentError` naming every candidate with what is wrong with it.
    """
    reasons: list[str] = []
    partial: list[tuple[float, str, dict[str, Any]]] = []
    for asset_id in candidates:
        info = asset_info(session, asset_id)
        if info is None:
            reasons.append(f"{asset_id} does not exist here")
            continue
        share = _share_covered(session, asset_id, info, geometry)
        if share >= COVERS:
            return _dem(session, asset_id, info, reasons)
        known = _KNOWN_DEMS.get(asset_id, _KnownDem(""))
        ends = f", it ends at {_latitude(known.north)} and {_latitude(known.south)}" if known.north < 90 else ""
        reasons.append(f"{asset_id} covers {share:.0%} of the area{ends}")
        partial.append((share, asset_id, info))
    best = max(partial, key=lambda item: item[0], default=None)
    if best is None or best[0] <= 0:
        raise PermanentError(f"no elevation model for the area: {'; '.join(reasons) or 'none given'}; name another one")
    return _dem(session, best[1], best[2], [*reasons, "none covers all of it"])


def search_boxes(geometry: BaseGeometry) -> ee.Geometry:
    """The bounds of an area as an Earth Engine geometry: one box, or one on each side of 180 degrees."""
    if not crosses_antimeridian(geometry):
        rectangle: ee.Geometry = ee.Geometry.Rectangle(list(geometry.bounds), None, False)
        return rectangle
    west, south, east, north = unwrap(geometry).bounds
    boxes = ((west, south, 180.0, north), (-180.0, south, east - 360.0, north))
    rings = [[[list(corner) for corner in box(*edges).exterior.coords]] for edges in boxes]
    both: ee.Geometry = ee.Geometry.MultiPolygon(rings, None, False)
    return both


def _milliseconds(time: dt.datetime) -> int:
    return int(time.timestamp() * 1000)


def _meets(footprint: BaseGeometry, area: BaseGeometry) -> bool:
    """Whether a footprint meets an (unwrapped) area, on whichever turn of the globe it was written."""
    whole = unwrap(footprint)
    return any(area.intersects(translate(whole, turn)) for turn in (0, 360, -360))


def _scene(feature: dict[str, Any]) -> Scene:
    properties = feature["properties"]
    cloud = properties.get("CLOUDY_PIXEL_PERCENTAGE")
    return Scene(
        id=feature["id"],
        time=dt.datetime.fromtimestamp(properties["system:time_start"] / 1000, dt.UTC),
        cloud_percent=None if cloud is None else float(cloud),
        bands=tuple(band["id"] for band in feature["bands"]),
        footprint_wkt=_footprint(properties.get("system:footprint")).wkt,
        properties=tuple((name, properties[name]) for name in sorted(KEPT_PROPERTIES) if name in properties),
    )


def _footprint(geojson: dict[str, Any] | None) -> BaseGeometry:
    """`system:footprint` of the archive is a ring of lon/lat; an image without one may be anywhere."""
    if not geojson:
        return box(-180.0, -90.0, 180.0, 90.0)
    geometry = shape(geojson)
    if isinstance(geometry, LinearRing):
        geometry = Polygon(geometry)
    return geometry if geometry.is_valid else make_valid(geometry)


def _dem(session: Session, asset_id: str, info: dict[str, Any], reasons: Sequence[str]) -> DemChoice:
    kind: Literal["image", "collection"] = "collection" if info["type"] == "IMAGE_COLLECTION" else "image"
    known = _KNOWN_DEMS.get(asset_id)
    band = known.band if known else _first_band(session, asset_id, kind)
    return DemChoice(asset_id, band, kind, "; ".join(reasons))


def _first_band(session: Session, asset_id: str, kind: str) -> str:
    image = ee.Image(asset_id) if kind == "image" else ee.ImageCollection(asset_id).first()
    return str(session.compute(image.bandNames())[0])


def _share_covered(session: Session, asset_id: str, info: dict[str, Any], geometry: BaseGeometry) -> float:
    known = _KNOWN_DEMS.get(asset_id, _KnownDem(""))
    area = unwrap(geometry)
    west, _, east, _ = area.bounds
    inside = area.intersection(box(west, known.south, east, known.north))
    if info["type"] == "IMAGE_COLLECTION":
        found = session.compute(ee.ImageCollection(asset_id).filterBounds(search_boxes(geometry)).size())
        return inside.area / area.area if found else 0.0
    outline = _outline(info)
    if outline is not None:
        inside = inside.intersection(shapely.union_all([translate(outline, turn) for turn in (0, 360)]))
    return inside.area / area.area if area.area > 0 else float(not inside.is_empty)


def _outline(info: dict[str, Any]) -> BaseGeometry | None:
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
