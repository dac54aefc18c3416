"""Reads ShakeMap's `cont_mmi.json`: contour lines of intensity, used where there is no `grid.xml`. Pure."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from shapely.geometry import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

from flows.errors import EventError
from flows.shakemap import MAX_BYTES, MAX_MMI
from flows.sphere import polygonal, split_at_antimeridian
from flows.usgs_geojson import parse_json

MAX_POINTS = 2_000_000
MIN_RING_POINTS = 4
"""A closed ring of fewer points has no inside."""

Line = npt.NDArray[np.float64]
"""Points (n, 2) of a line, lon and lat in degrees."""


def contour_polygons(data: bytes, minimum_mmi: float) -> tuple[Polygon | MultiPolygon, float]:
    """The ground at or above an intensity, from contour lines, and the intensity of the lines that were used.

    The lines come in steps of half a unit: the highest step not above `minimum_mmi` is used, so that the area is never
    too small. Lines do not say which of their sides is the higher one. Rings of one level that lie in one another are
    taken as high, low, high, … from outside in, and the result must hold every ring of the higher levels. A line that
    does not close leaves the map, and on which side it would have to be closed is not known: such a level, and one that
    contradicts the levels above it, is refused with `EventError`, and the caller turns to another source. The geometry
    is empty when no line reaches `minimum_mmi`.
    """
    levels = _levels(data)
    usable = [level for level in levels if level <= minimum_mmi]
    if not any(level >= minimum_mmi for level in levels):
        return Polygon(), minimum_mmi
    if not usable:
        raise EventError(f"the ShakeMap contours begin at MMI {min(levels):g}, above the {minimum_mmi:g} asked for")
    level = max(usable)
    rings = _closed(levels[level], level)
    empty: BaseGeometry = Polygon()
    area = polygonal(reduce(shapely.symmetric_difference, [polygonal(Polygon(ring)) for ring in rings], empty))
    higher = [
        line for above, lines in levels.items() if above > level for line in lines if len(line) >= MIN_RING_POINTS
    ]
    if any(not area.intersects(shapely.LineString(line)) for line in higher):
        raise EventError(f"the ShakeMap contour of MMI {level:g} does not hold the contours above it: not used")
    return split_at_antimeridian(area) if not area.is_empty else Polygon(), level


def _levels(data: bytes) -> dict[float, list[Line]]:
    """The lines of each level, longitudes running on beyond 180 where the map does."""
    if len(data) > MAX_BYTES:
        raise EventError(f"the ShakeMap contours have {len(data)} bytes, more than the {MAX_BYTES} that are read")
    value = parse_json(data, "the file of ShakeMap contours")
    features = value.get("features") if isinstance(value, dict) else None
    if not isinstance(features, list):
        raise EventError("the file of ShakeMap contours is not a GeoJSON feature collection")
    levels: dict[float, list[Line]] = {}
    points = 0
    for feature in features:
        level, lines = _feature(feature)
        points += sum(len(line) for line in lines)
        if points > MAX_POINTS:
            raise EventError(f"the ShakeMap contours have more than {MAX_POINTS} points: not read")
        levels.setdefault(level, []).extend(lines)
    if points == 0:
        raise EventError("the file of ShakeMap contours has no lines")
    return _beside_each_other(levels)


def _feature(feature: Any) -> tuple[float, list[Line]]:
    """Level and lines of one feature."""
    try:
        level = feature["properties"]["value"]
        kind, coordinates = feature["geometry"]["type"], feature["geometry"]["coordinates"]
        if isinstance(level, bool) or not isinstance(level, int | float) or not 0 <= level <= MAX_MMI:
            raise ValueError(f"the level {str(level)[:20]!r}")
        if kind not in ("LineString", "MultiLineString"):
            raise ValueError(f"the geometry {str(kind)[:20]!r}")
        lines = coordinates if kind == "MultiLineString" else [coordinates]
        return float(level), [_line(line) for line in lines if len(line) > 0]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise EventError(f"the ShakeMap contours are malformed: {type(error).__name__}: {str(error)[:150]}") from error


def _line(coordinates: Any) -> Line:
    """Points (n, 2) without jumps at the antimeridian."""
    line = np.array([point[:2] for point in coordinates], dtype=np.float64)
    if line.shape != (len(coordinates), 2) or not bool(np.isfinite(line).all()) or bool((np.abs(line) > 360).any()):
        raise ValueError("a line is not a list of points on the globe")
    return np.column_stack([np.unwrap(line[:, 0], period=360.0), line[:, 1]])


def _beside_each_other(levels: dict[float, list[Line]]) -> dict[float, list[Line]]:
    """All lines of one map on one stretch of longitude, though some were written on the far side of 180."""
    first = next(line for lines in levels.values() for line in lines)[0, 0]

    def moved(line: Line) -> Line:
        turns = round(float(first - line[:, 0].mean()) / 360.0)
        return np.column_stack([line[:, 0] + 360.0 * turns, line[:, 1]])

    return {level: [moved(line) for line in lines] for level, lines in levels.items()}


def _closed(lines: list[Line], level: float) -> list[Line]:
    """The rings of a level. Raises `EventError` when one of its lines is open."""
    rings = [line for line in lines if len(line) >= MIN_RING_POINTS]
    for line in lines:
        if len(line) > 1 and not bool(np.allclose(line[0], line[-1], rtol=0, atol=1e-9)):
            raise EventError(
                f"the ShakeMap contour of MMI {level:g} leaves the map, so that lines alone do not bound the area"
            )
    return rings
