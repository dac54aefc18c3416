"""Geometries: shapely shapes with a coordinate system, and the edges between their vertices.

Edges of a geodesic geometry follow great circles, those of a planar one are straight in its own system. Areas,
lengths and distances are those of the WGS84 ellipsoid. Topological tests are made in longitude and latitude with
straight edges, which is the same thing to well below a pixel for the areas of one earthquake.
"""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from pyproj import Geod
from shapely.geometry import mapping, shape
from shapely.geometry.base import BaseGeometry

from infra.local.earthengine.errors import ArgumentError
from infra.local.earthengine.grid import PixelGrid, transformer

WGS84 = "EPSG:4326"
GEOD = Geod(ellps="WGS84")
MAX_SEGMENT_DEG = 0.05
"""Longer edges are cut before they are transformed; a planar edge of this length bends by under 2 m on the ground."""


@dataclass(frozen=True)
class Geometry:
    """A geometry of the server."""

    shape: BaseGeometry | None
    """Coordinates (x, y); None means the whole world (the footprint of a constant or a composite)."""
    crs: str = WGS84
    """The system of the coordinates."""
    geodesic: bool = True
    """Whether edges follow great circles."""

    @property
    def unbounded(self) -> bool:
        """True for the whole world."""
        return self.shape is None

    def require(self, caller: str) -> BaseGeometry:
        """The shape, or Earth Engine's words that there is none."""
        if self.shape is None:
            raise ArgumentError(f"{caller}: Unable to perform this geometry operation on an unbounded geometry.")
        return self.shape

    def lonlat(self) -> BaseGeometry:
        """The shape in longitude and latitude with its edges densified as they run."""
        return _in_crs(self, WGS84)

    def in_crs(self, crs: str) -> BaseGeometry:
        """The shape in another system with its edges densified as they run."""
        return _in_crs(self, crs)

    def to_json(self) -> dict[str, Any]:
        """As GeoJSON with Earth Engine's additions."""
        if self.shape is None:
            return {
                "type": "Polygon",
                "coordinates": [[[-180, -90], [180, -90], [180, 90], [-180, 90], [-180, -90]]],
                "geodesic": False,
            }
        body: dict[str, Any] = _listed(mapping(self.shape))
        if self.crs != WGS84:
            body["crs"] = {"type": "name", "properties": {"name": self.crs}}
        if not self.geodesic and self.shape.geom_type not in ("Point", "MultiPoint"):
            body["geodesic"] = False
        return body


WORLD = Geometry(None, geodesic=False)


def _listed(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _listed(v) for k, v in value.items()}
    return [_listed(v) for v in value] if isinstance(value, list | tuple) else value


def from_json(value: dict[str, Any], *, default_geodesic: bool = True) -> Geometry:
    """A geometry from GeoJSON; rings may come unclosed."""
    crs = value.get("crs", {})
    code = crs.get("properties", {}).get("name", WGS84) if isinstance(crs, dict) else str(crs)
    try:
        made = shape(_closed(value))
    except (ValueError, TypeError, KeyError, AttributeError, shapely.errors.ShapelyError) as error:
        raise ArgumentError(f"Geometry: Invalid GeoJSON geometry: {error}") from error
    geodesic = bool(value.get("geodesic", default_geodesic))
    return Geometry(repaired(made), WGS84 if code in ("OGC:CRS84", "urn:ogc:def:crs:OGC:1.3:CRS84") else code, geodesic)


def _closed(value: dict[str, Any]) -> dict[str, Any]:
    kind = value.get("type")
    if kind == "GeometryCollection":
        return {"type": kind, "geometries": [_closed(g) for g in value["geometries"]]}
    rings = value["coordinates"]
    if kind == "Polygon":
        return {"type": kind, "coordinates": [_ring(r) for r in rings]}
    if kind == "MultiPolygon":
        return {"type": kind, "coordinates": [[_ring(r) for r in p] for p in rings]}
    return {"type": "LineString" if kind == "LinearRing" else kind, "coordinates": rings}


def _ring(points: Any) -> Any:
    return points if not points or list(points[0]) == list(points[-1]) else [*points, points[0]]


def repaired(made: BaseGeometry) -> BaseGeometry:
    """A valid shape: a bow tie becomes two triangles by the even-odd rule."""
    return made if made.is_valid else shapely.make_valid(made)


@functools.lru_cache(maxsize=512)
def _in_crs(geometry: Geometry, crs: str) -> BaseGeometry:
    made = geometry.shape
    if made is None:
        raise ArgumentError("Geometry: Unable to perform this geometry operation on an unbounded geometry.")
    if geometry.geodesic and geometry.crs == WGS84 and made.geom_type not in ("Point", "MultiPoint"):
        made = _along_great_circles(made)
    if geometry.crs == crs:
        return made
    from_units = 1.0 if geometry.crs == WGS84 else 111319.49
    dense = shapely.segmentize(made, MAX_SEGMENT_DEG * from_units)
    change = transformer(geometry.crs, crs)
    moved = shapely.transform(dense, lambda xy: np.column_stack(change.transform(xy[:, 0], xy[:, 1])))
    return repaired(moved)


def _along_great_circles(made: BaseGeometry) -> BaseGeometry:
    """Points added on the great circles between vertices, so that the edges are right in any system."""

    def dense(xy: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        parts = [xy[:1]]
        for (x0, y0), (x1, y1) in itertools.pairwise(xy):
            count = math.ceil(max(abs(x1 - x0), abs(y1 - y0)) / MAX_SEGMENT_DEG) - 1
            if 0 < count <= 4000 and x0 != x1:  # a meridian is a great circle already
                parts.append(np.asarray(GEOD.npts(x0, y0, x1, y1, count)))
            parts.append(np.asarray([[x1, y1]]))
        return np.concatenate(parts)

    def polygon(p: Any) -> shapely.Polygon:
        return shapely.Polygon(
            dense(np.asarray(p.exterior.coords)[:, :2]), [dense(np.asarray(r.coords)[:, :2]) for r in p.interiors]
        )

    if made.is_empty:
        return made
    kind = made.geom_type
    if kind == "Polygon":
        return polygon(made)
    if kind == "MultiPolygon":
        return shapely.MultiPolygon([polygon(p) for p in made.geoms])  # type: ignore[attr-defined]
    if kind in ("LineString", "LinearRing"):
        return shapely.LineString(dense(np.asarray(made.coords)[:, :2]))
    if kind == "MultiLineString":
        return shapely.MultiLineString([dense(np.asarray(p.coords)[:, :2]) for p in made.geoms])  # type: ignore[attr-defined]
    return made


def area_m2(geometry: Geometry, caller: str = "Geometry.area") -> float:
    """Area on the ellipsoid in square metres; holes are not counted, lines and points have none."""
    geometry.require(caller)
    return float(sum(_polygon_area(p) for p in _polygons(geometry.lonlat())))


def _polygons(made: BaseGeometry) -> list[Any]:
    if made.geom_type == "Polygon":
        return [made]
    return [p for part in getattr(made, "geoms", ()) for p in _polygons(part)]


def _polygon_area(polygon: Any) -> float:
    oriented = shapely.geometry.polygon.orient(polygon)
    return float(abs(GEOD.geometry_area_perimeter(oriented)[0]))


def length_m(geometry: Geometry, caller: str = "Geometry.length", *, rings: bool = False) -> float:
    """Length of lines on the ellipsoid in metres, or with `rings` the perimeter of polygons."""
    geometry.require(caller)
    made = geometry.lonlat()
    parts = [made] if not hasattr(made, "geoms") else list(made.geoms)
    wanted = ("Polygon",) if rings else ("LineString", "LinearRing")
    return float(sum(GEOD.geometry_length(p) for p in parts if p.geom_type in wanted))


def box(west: float, south: float, east: float, north: float, crs: str = WGS84, *, geodesic: bool = False) -> Geometry:
    """A rectangle."""
    return Geometry(shapely.box(west, south, east, north), crs, geodesic)


def of_grid(grid: PixelGrid) -> Geometry:
    """The outline of a grid: planar in its own system."""
    return box(*grid.bounds, grid.crs)
