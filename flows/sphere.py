"""Polygons on the globe: the antimeridian, the poles, geodesic circles and areas. Lon/lat in degrees, WGS84. Pure."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import shapely
from pyproj import Geod
from shapely.geometry import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

GEOD = Geod(ellps="WGS84")
CIRCLE_POINTS = 180
MAX_RADIUS_KM = 2000.0
_SEGMENT_DEG = 0.25
"""Edges are cut to this length before they are measured: an edge is straight in degrees, not a geodesic."""


def polygonal(geometry: BaseGeometry) -> Polygon | MultiPolygon:
    """The polygons of a geometry, valid and with exterior rings counter-clockwise; empty when it has none.

    Lines and points that a repair or an intersection leaves behind are dropped.
    """
    valid = geometry if geometry.is_valid else shapely.make_valid(geometry)
    parts = [part for part in _leaves(valid) if isinstance(part, Polygon) and part.area > 0]
    if not parts:
        return Polygon()
    merged = shapely.orient_polygons(shapely.union_all(parts))
    return merged if isinstance(merged, Polygon | MultiPolygon) else Polygon()


def _leaves(geometry: BaseGeometry) -> list[BaseGeometry]:
    """The single geometries in a collection, however deep."""
    if not hasattr(geometry, "geoms"):
        return [geometry]
    return [leaf for part in geometry.geoms for leaf in _leaves(part)]


def continuous(geometry: BaseGeometry) -> BaseGeometry:
    """Polygons whose rings jump from 180 to -180, as ones whose longitudes run on beyond 180.

    Two neighbouring vertices more than 180 degrees apart are taken to lie on both sides of the antimeridian. A ring
    that goes round a pole cannot be made continuous and is left as it is.
    """
    if not any(isinstance(part, Polygon) for part in _leaves(geometry)):
        return geometry
    return shapely.union_all(
        [_continuous_polygon(part) for part in _leaves(geometry) if isinstance(part, Polygon) and not part.is_empty]
    )


def _continuous_polygon(polygon: Polygon) -> Polygon | MultiPolygon:
    shell = _unwrapped(np.asarray(polygon.exterior.coords)[:, :2])
    middle = float(shell[:, 0].mean())
    holes = []
    for ring in polygon.interiors:
        hole = _unwrapped(np.asarray(ring.coords)[:, :2])
        hole[:, 0] += 360.0 * round((middle - float(hole[:, 0].mean())) / 360.0)
        holes.append(hole)
    return polygonal(Polygon(shell, holes))


def _unwrapped(ring: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """A closed ring (n, 2) whose longitudes do not jump, or a copy of it when it goes round a pole."""
    lon = np.unwrap(ring[:, 0], period=360.0)
    closes = abs(lon[-1] - lon[0]) < 180.0
    return np.column_stack([lon if closes else ring[:, 0], ring[:, 1]])


def split_at_antimeridian(geometry: BaseGeometry) -> Polygon | MultiPolygon:
    """Polygons with longitudes anywhere in [-540, 540], as RFC 7946 wants them: within [-180, 180], cut at 180.

    A geometry that crosses becomes a MultiPolygon with parts on both sides.
    """
    if geometry.is_empty:
        return Polygon()
    west, _, east, _ = geometry.bounds
    pieces = []
    for turn in range(math.floor((west + 180.0) / 360.0), math.ceil((east - 180.0) / 360.0) + 1):
        world = shapely.box(-180.0 + 360.0 * turn, -90.0, 180.0 + 360.0 * turn, 90.0)
        piece = polygonal(shapely.intersection(polygonal(geometry), world))
        if not piece.is_empty:
            pieces.append(shapely.transform(piece, lambda xy, by=360.0 * turn: xy - [by, 0.0]))
    return polygonal(shapely.union_all(pieces)) if pieces else Polygon()


def joined(geometry: BaseGeometry) -> Polygon | MultiPolygon:
    """The inverse of `split_at_antimeridian` for an area that crosses it: in one piece, longitudes beyond 180."""
    west, _, east, _ = geometry.bounds
    if east - west <= 180.0:
        return polygonal(geometry)
    return polygonal(shapely.transform(geometry, lambda xy: xy + np.where(xy < 0, [360.0, 0.0], 0.0)))


def area_km2(geometry: Polygon | MultiPolygon) -> float:
    """Area on the WGS84 ellipsoid in km²."""
    if geometry.is_empty:
        return 0.0
    parts = shapely.get_parts(shapely.orient_polygons(shapely.segmentize(geometry, _SEGMENT_DEG)))
    return float(sum(GEOD.geometry_area_perimeter(part)[0] for part in parts)) / 1e6


def geodesic_circle(lon: float, lat: float, radius_km: float) -> Polygon | MultiPolygon:
    """All points within `radius_km` of a point, as a polygon split at the antimeridian.

    A circle that holds a pole reaches along the whole of latitude 90. Raises `ValueError` for a centre that is not on
    the globe or a radius outside (0, `MAX_RADIUS_KM`].
    """
    if not (-180.0 <= lon <= 180.0 and -90.0 <= lat <= 90.0):
        raise ValueError(f"longitude {lon:g}, latitude {lat:g} is not on the globe")
    if not 0.0 < radius_km <= MAX_RADIUS_KM:
        raise ValueError(
            f"a radius of {radius_km:g} km is not possible: give more than 0 and at most {MAX_RADIUS_KM:g}"
        )
    pole = 90.0 if lat >= 0 else -90.0
    to_pole_km = GEOD.inv(lon, lat, lon, pole)[2] / 1000.0
    # A ring that all but touches the pole turns too fast to be followed from point to point: take the pole in.
    margin_km = 2.0 * math.pi * radius_km / CIRCLE_POINTS
    holds_pole = to_pole_km <= radius_km + margin_km
    reach_km = max(radius_km, to_pole_km + margin_km) if holds_pole else radius_km
    azimuth = np.linspace(0.0, 360.0, CIRCLE_POINTS, endpoint=False)
    same = np.ones_like(azimuth)
    ring_lon, ring_lat, _ = GEOD.fwd(lon * same, lat * same, azimuth, reach_km * 1000.0 * same)
    if not holds_pole:
        ring_lon = np.unwrap(np.asarray(ring_lon), period=360.0)
        return split_at_antimeridian(Polygon(np.column_stack([ring_lon, ring_lat])))
    return _polar_cap(np.asarray(ring_lon), np.asarray(ring_lat), pole)


def _polar_cap(
    ring_lon: npt.NDArray[np.float64], ring_lat: npt.NDArray[np.float64], pole: float
) -> Polygon | MultiPolygon:
    """Everything between a ring round a pole and the pole, as one polygon over all longitudes."""
    order = np.argsort(ring_lon)
    lon, lat = ring_lon[order], ring_lat[order]
    edge_lat = float(np.interp(180.0, [lon[-1], lon[0] + 360.0], [lat[-1], lat[0]]))
    outline = [(-180.0, edge_lat), *zip(lon.tolist(), lat.tolist(), strict=True), (180.0, edge_lat)]
    return polygonal(Polygon([*outline, (180.0, pole), (-180.0, pole)]))
