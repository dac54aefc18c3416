"""What Earth Engine has for an area and a time: scenes, and which of them have an image in another collection."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import ee
import shapely
from shapely.affinity import translate
from shapely.geometry import LinearRing, Polygon, box, shape
from shapely.geometry.base import BaseGeometry
from shapely.validation import make_valid

from gee.errors import NoScenesError, PermanentError
from gee.grid import crosses_antimeridian, unwrap
from gee.session import Session
from gee.types import Grid, Scene, Window

KEPT_PROPERTIES = (
    "MGRS_TILE", "SPACECRAFT_NAME", "PROCESSING_BASELINE", "SENSING_ORBIT_NUMBER", "SENSING_ORBIT_DIRECTION",
    "MEAN_SOLAR_AZIMUTH_ANGLE", "MEAN_SOLAR_ZENITH_ANGLE", "attribution", "quakeslide:simulated",
    "quakeslide:time_assumed",
)  # fmt: skip
"""Properties of a scene that are kept in a cube's provenance."""
CLOUD_PERCENT = "CLOUDY_PIXEL_PERCENTAGE"
"""Property of a granule that holds its share of cloud."""
PAGE_SCENES = 2_000
"""Scenes in one answer. Earth Engine refuses to send more than 5,000 elements, and a long answer is slow to make."""


@dataclass(frozen=True)
class SceneSearch:
    """The scenes of both phases, from one collection."""

    collection: str
    """The collection they belong to."""
    pre: tuple[Scene, ...]
    """Scenes before, by time."""
    post: tuple[Scene, ...]
    """Scenes after, by time."""


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
    properties: Sequence[str] = KEPT_PROPERTIES,
    page: int = PAGE_SCENES,
) -> list[Scene]:
    """The scenes of a collection that meet an area (WGS84) in a window, sorted by time.

    One request, unless more than `page` scenes are found: then the window is cut in two until each part holds fewer,
    so that a long list is never cut off without a word. Scenes without `CLOUDY_PIXEL_PERCENTAGE` are kept, and of the
    properties those named. Raises `PermanentError` when the collection does not exist.
    """
    found = ee.ImageCollection(collection).filterBounds(search_boxes(geometry))
    if maximum_cloud_percent < 100.0:
        rated = ee.Filter.notNull([CLOUD_PERCENT])
        found = found.filter(ee.Filter.Or(ee.Filter.lte(CLOUD_PERCENT, maximum_cloud_percent), rated.Not()))
    names = [*dict.fromkeys((*properties, CLOUD_PERCENT, "system:time_start", "system:footprint"))]

    def ask(start: int, end: int) -> list[Any]:
        part = found.filterDate(start, end).limit(page).map(lambda image: _described(image, names))
        return list(session.compute(part).get("features", []))

    area = unwrap(geometry)
    scenes = (_scene(collection, feature, properties) for feature in in_pages(ask, window, page))
    wanted = [scene for scene in scenes if _meets(shapely.from_wkt(scene.footprint_wkt), area)]
    return sorted(wanted, key=lambda scene: (scene.time, scene.id))


def _described(image: ee.Image, names: Sequence[str]) -> Any:
    """An image with nothing but its bands and a few properties: arithmetic drops the hundred others of a granule."""
    return image.add(0).copyProperties(image, list(names))


def in_pages(ask: Callable[[int, int], list[Any]], window: Window, page: int) -> Iterator[Any]:
    """Everything that `ask` finds in a window, in as many questions as are needed for none to be answered by a full page.

    `ask(start, end)` gives what lies in [start, end), milliseconds since 1970, and at most `page` of it. Raises
    `PermanentError` when a page is full of one instant.
    """
    pending = [(_milliseconds(window.start), _milliseconds(window.end))]
    while pending:
        start, end = pending.pop()
        found = ask(start, end)
        if len(found) < page:
            yield from found
        elif end - start <= 1:
            raise PermanentError(f"{page} scenes or more share the time {start} ms since 1970: ask for a smaller area")
        else:
            middle = (start + end) // 2
            pending += [(middle, end), (start, middle)]


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


def linked_scenes(session: Session, collection: str, scenes: Sequence[Scene]) -> frozenset[str]:
    """The ids of those scenes that have an image of the same `system:index` in another collection.

    Cloud Score+, the cloud probability and the surface reflectance of a granule are named alike. Empty without a
    collection (`collection` empty or not there).
    """
    if not scenes or not collection or not asset_exists(session, collection):
        return frozenset()
    by_index = {scene.index: scene.id for scene in scenes}
    found: set[str] = set()
    indices = list(by_index)
    for start in range(0, len(indices), PAGE_SCENES):
        part = ee.Filter.inList("system:index", indices[start : start + PAGE_SCENES])
        found.update(session.compute(ee.ImageCollection(collection).filter(part).aggregate_array("system:index")))
    return frozenset(by_index[index] for index in found if index in by_index)


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


def _scene(collection: str, feature: dict[str, Any], names: Sequence[str]) -> Scene:
    properties = feature["properties"]
    cloud = properties.get(CLOUD_PERCENT)
    return Scene(
        id=f"{collection}/{properties['system:index']}",
        time=dt.datetime.fromtimestamp(properties["system:time_start"] / 1000, dt.UTC),
        cloud_percent=None if cloud is None else float(cloud),
        bands=tuple(band["id"] for band in feature["bands"]),
        footprint_wkt=_footprint(properties.get("system:footprint")).wkt,
        properties=tuple((name, properties[name]) for name in sorted(names) if name in properties),
        grid=_grid(feature["bands"][0]) if feature["bands"] else None,
    )


def _grid(band: dict[str, Any]) -> Grid | None:
    """The raster of a band; None when it has no size, no code for its system, or is not north-up."""
    if "dimensions" not in band or "crs" not in band:
        return None
    a, b, c, d, e, f = (float(value) for value in band["crs_transform"])
    if b or d or a <= 0 or e >= 0:
        return None
    width, height = band["dimensions"]
    return Grid(band["crs"], (a, 0.0, c, 0.0, e, f), (int(height), int(width)))


def _footprint(geojson: dict[str, Any] | None) -> BaseGeometry:
    """`system:footprint` of the archive is a ring of lon/lat; an image without one may be anywhere."""
    if not geojson:
        return box(-180.0, -90.0, 180.0, 90.0)
    geometry = shape(geojson)
    if isinstance(geometry, LinearRing):
        geometry = Polygon(geometry)
    return geometry if geometry.is_valid else make_valid(geometry)
