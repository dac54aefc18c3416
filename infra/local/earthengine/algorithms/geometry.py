"""Geometries and features: constructors, measures, relations and set operations."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import shapely
import shapely.affinity

from infra.local.earthengine import geometry as g
from infra.local.earthengine.algorithms.filters import separation_m
from infra.local.earthengine.algorithms.registry import algorithm, register
from infra.local.earthengine.errors import ArgumentError
from infra.local.earthengine.geometry import WGS84, WORLD, Geometry
from infra.local.earthengine.grid import Projection
from infra.local.earthengine.image import Element, Image
from infra.local.earthengine.promote import to_geometry
from infra.local.earthengine.values import Collection, ErrorMargin, Feature


def _made(kind: str, coordinates: list[Any], crs: Projection | None, geodesic: bool | None) -> Geometry:
    code = WGS84 if crs is None else crs.crs
    # Edges are geodesic unless the geometry has a projected system of its own.
    follows = (code == WGS84) if geodesic is None else geodesic
    made = g.from_json({"type": kind, "coordinates": _numbers(coordinates), "geodesic": follows})
    shape = made.shape
    if crs is not None and shape is not None and crs.transform not in ((1, 0, 0, 0, 1, 0),):
        a, b, c, d, e, f = crs.transform  # coordinates count pixels of the projection
        shape = shapely.affinity.affine_transform(shape, [a, b, d, e, c, f])
    return Geometry(shape, code, follows)


def _numbers(value: Any) -> Any:
    """Coordinates as nested lists; points may come as geometries."""
    if isinstance(value, Geometry):
        point = value.require("Geometry")
        return [point.x, point.y]  # type: ignore[attr-defined]
    if isinstance(value, list | tuple):
        return [_numbers(v) for v in value]
    return value


def _nested(coordinates: list[Any], depth: int) -> list[Any]:
    """Coordinates brought to the nesting that a kind needs: a flat list of numbers becomes pairs."""
    value: Any = _numbers(coordinates)
    if value and isinstance(value[0], int | float) and depth > 0:
        value = [list(pair) for pair in zip(value[::2], value[1::2], strict=True)]
    while _depth(value) < depth + 1:
        value = [value]
    return list(value)


def _depth(value: Any) -> int:
    return 1 + _depth(value[0]) if isinstance(value, list) and value else 0


def _construct(
    coordinates: list[Any],
    crs: Projection | None = None,
    geodesic: bool | None = None,
    maxError: ErrorMargin | None = None,
    evenOdd: bool = True,
    *,
    kind: str,
    depth: int,
) -> Geometry:
    """A geometry from GeoJSON coordinates; geodesic edges unless it has a projected system."""
    return _made(kind, _nested(coordinates, depth), crs, geodesic)


for _name, _depth_needed in {
    "Point": 0,
    "MultiPoint": 1,
    "LineString": 1,
    "LinearRing": 1,
    "MultiLineString": 2,
    "Polygon": 2,
    "MultiPolygon": 3,
}.items():
    register(f"GeometryConstructors.{_name}", partial(_construct, kind=_name, depth=_depth_needed))


@algorithm("GeometryConstructors.Rectangle")
def rectangle(
    coordinates: list[Any], crs: Projection | None = None, geodesic: bool | None = None, evenOdd: bool = True
) -> Geometry:
    """A rectangle from two corners: [[west, south], [east, north]] or flat."""
    (x0, y0), (x1, y1) = _nested(coordinates, 1)[:2]
    ring = [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]
    return _made("Polygon", [ring], crs, geodesic)


@algorithm("GeometryConstructors.BBox")
def bbox(west: float, south: float, east: float, north: float) -> Geometry:
    """A rectangle along meridians and parallels."""
    return g.box(west, max(south, -90.0), east, min(north, 90.0))


@algorithm("GeometryConstructors.MultiGeometry")
def multi_geometry(
    geometries: list[Geometry],
    crs: Projection | None = None,
    geodesic: bool | None = None,
    maxError: ErrorMargin | None = None,
) -> Geometry:
    """Several geometries as one."""
    return Geometry(shapely.GeometryCollection([x.lonlat() for x in geometries]), geodesic=False)


def bounds(geometry: Geometry, maxError: Any = None, proj: Projection | None = None) -> Geometry:
    """The bounding rectangle, in longitude and latitude or in the given projection; planar."""
    if geometry.unbounded:
        return g.box(-180, -90, 180, 90) if proj is None else WORLD
    crs = WGS84 if proj is None else proj.crs
    return g.box(*geometry.in_crs(crs).bounds, crs)


def buffer(geometry: Geometry, distance: float, maxError: Any = None, proj: Projection | None = None) -> Geometry:
    """Everything within so many metres; made in an azimuthal equidistant projection about the centroid."""
    made = geometry.require("Geometry.buffer")
    if proj is not None and proj.crs != WGS84:
        return Geometry(geometry.in_crs(proj.crs).buffer(distance), proj.crs, geodesic=False)
    centre = made.centroid if geometry.crs == WGS84 else geometry.lonlat().centroid
    local = f"+proj=aeqd +lat_0={centre.y} +lon_0={centre.x} +datum=WGS84 +units=m"
    grown = Geometry(geometry.in_crs(local).buffer(distance), local, geodesic=False)
    return Geometry(grown.lonlat(), geodesic=False)


def centroid(geometry: Geometry, maxError: Any = None, proj: Any = None) -> Geometry:
    """The centroid in longitude and latitude."""
    geometry.require("Geometry.centroid")
    return Geometry(geometry.lonlat().centroid)


def convex_hull(geometry: Geometry, maxError: Any = None, proj: Any = None) -> Geometry:
    """The convex hull in longitude and latitude."""
    geometry.require("Geometry.convexHull")
    return Geometry(geometry.lonlat().convex_hull)


def dissolve(geometry: Geometry, maxError: Any = None, proj: Any = None) -> Geometry:
    """The union of the parts."""
    geometry.require("Geometry.dissolve")
    return replace(geometry, shape=shapely.union_all([geometry.shape]))


def simplify(geometry: Geometry, maxError: ErrorMargin, proj: Any = None) -> Geometry:
    """Fewer vertices, within so many metres."""
    made = geometry.require("Geometry.simplify")
    unit = 111319.49 if geometry.crs == WGS84 else 1.0
    return replace(geometry, shape=made.simplify((maxError.value or 0.0) / unit))


def area(geometry: Geometry, maxError: Any = None, proj: Projection | None = None) -> float:
    """Square metres on the ellipsoid, or square units of the given projection."""
    if proj is not None and proj.crs != WGS84:
        return float(geometry.in_crs(proj.crs).area)
    return g.area_m2(geometry)


def perimeter(geometry: Geometry, maxError: Any = None, proj: Any = None) -> float:
    """Length of the polygons' outlines in metres."""
    return g.length_m(geometry, "Geometry.perimeter", rings=True)


def length(geometry: Geometry, maxError: Any = None, proj: Any = None) -> float:
    """Length of the lines in metres."""
    return g.length_m(geometry)


def transform(geometry: Geometry, proj: Projection, maxError: Any = None, geodesic: bool | None = None) -> Geometry:
    """The same geometry in another system."""
    geometry.require("Geometry.transform")
    return Geometry(geometry.in_crs(proj.crs), proj.crs, bool(geodesic) and proj.crs == WGS84)


SINGLE: dict[str, Callable[..., Any]] = {
    "bounds": bounds,
    "buffer": buffer,
    "centroid": centroid,
    "convexHull": convex_hull,
    "dissolve": dissolve,
    "simplify": simplify,
    "transform": transform,
}
"""Geometry to geometry; for a feature they change its geometry and keep its properties."""

MEASURES: dict[str, Callable[..., Any]] = {"area": area, "perimeter": perimeter, "length": length}


def _on_feature(feature: Element, *, function: Callable[..., Geometry], **parameters: Any) -> Feature:
    """The feature with its geometry changed as the geometry's own function does; properties stay."""
    changed = function(to_geometry(feature), **parameters)
    return Feature(feature.id, feature.properties, changed)


def _measure_feature(feature: Element, *, function: Callable[..., float], **parameters: Any) -> float:
    """Area, length or perimeter of a feature's geometry in metres."""
    return function(to_geometry(feature), **parameters)


for _name, _function in SINGLE.items():
    register(f"Geometry.{_name}", _function)
    register(f"Feature.{_name}", partial(_on_feature, function=_function))
for _name, _function in MEASURES.items():
    register(f"Geometry.{_name}", _function)
    register(f"Feature.{_name}", partial(_measure_feature, function=_function))


@algorithm("Collection.bounds")
def collection_bounds(collection: Collection, maxError: Any = None, proj: Projection | None = None) -> Geometry:
    """The bounding rectangle of the elements' geometries."""
    return bounds(to_geometry(collection), maxError, proj)


RELATIONS: dict[str, Callable[[Any, Any], bool]] = {
    "intersects": lambda a, b: a.intersects(b),
    "disjoint": lambda a, b: a.disjoint(b),
    "contains": lambda a, b: a.covers(b),
    "containedIn": lambda a, b: b.covers(a),
}

COMBINATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "intersection": lambda a, b: a.intersection(b),
    "union": lambda a, b: a.union(b),
    "difference": lambda a, b: a.difference(b),
    "symmetricDifference": lambda a, b: a.symmetric_difference(b),
}


def _relation(left: Any, right: Any, maxError: Any = None, proj: Any = None, *, test: Callable[..., bool]) -> bool:
    """Whether two geometries meet, do not meet, or one holds the other, in longitude and latitude."""
    return bool(test(to_geometry(left).lonlat(), to_geometry(right).lonlat()))


def _combination(left: Any, right: Any, maxError: Any = None, proj: Any = None, *, make: Callable[..., Any]) -> Any:
    """Points of both, of either, of the first alone, or of one alone; a feature keeps its properties."""
    result = Geometry(make(to_geometry(left).lonlat(), to_geometry(right).lonlat()), geodesic=False)
    return Feature(left.id, left.properties, result) if isinstance(left, Feature) else result


for _kind in ("Geometry", "Feature"):
    for _name, _test in RELATIONS.items():
        register(f"{_kind}.{_name}", partial(_relation, test=_test))
    for _name, _make in COMBINATIONS.items():
        register(f"{_kind}.{_name}", partial(_combination, make=_make))


@algorithm("Geometry.distance", "Feature.distance")
def distance(left: Any, right: Any, maxError: Any = None, proj: Any = None, spherical: bool = False) -> float:
    """Metres between the nearest points."""
    return separation_m(to_geometry(left), to_geometry(right))


@algorithm("Geometry.withinDistance", "Feature.withinDistance")
def within(left: Any, right: Any, distance: float, maxError: Any = None, proj: Any = None) -> bool:
    """Whether the nearest points are at most so many metres apart."""
    return separation_m(to_geometry(left), to_geometry(right)) <= distance


@algorithm("Geometry.coordinates")
def coordinates(geometry: Geometry) -> Any:
    """GeoJSON coordinates."""
    return geometry.to_json().get("coordinates", [])


@algorithm("Geometry.type")
def geometry_type(geometry: Geometry) -> str:
    """GeoJSON type."""
    return str(geometry.to_json()["type"])


@algorithm("Geometry.geometries")
def parts(geometry: Geometry) -> list[Geometry]:
    """The parts of a collection; the geometry itself otherwise."""
    members = getattr(geometry.require("Geometry.geometries"), "geoms", None)
    return [geometry] if members is None else [replace(geometry, shape=m) for m in members]


@algorithm("Geometry.projection")
def geometry_projection(geometry: Geometry) -> Projection:
    """The system of the coordinates."""
    return Projection(geometry.crs, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0))


@algorithm("Geometry.isUnbounded")
def is_unbounded(geometry: Geometry) -> bool:
    """Whether it is the whole world."""
    return geometry.unbounded


@algorithm("Geometry.geodesic", "Geometry.edgesAreGeodesics")
def is_geodesic(geometry: Geometry) -> bool:
    """Whether edges follow great circles."""
    return geometry.geodesic


@algorithm("Feature")
def feature(
    geometry: Geometry | None = None, metadata: dict[str, Any] | None = None, geometryKey: str | None = None
) -> Feature:
    """A feature of a geometry and properties."""
    return Feature(None, dict(metadata or {}), geometry)


@algorithm("Feature.setGeometry")
def set_geometry(feature: Element, geometry: Geometry | None = None) -> Feature:
    """The feature with another geometry."""
    return Feature(feature.id, feature.properties, geometry)


@algorithm("Feature.geometry", "Element.geometry")
def feature_geometry(feature: Element, maxError: Any = None, proj: Any = None, geodesics: Any = None) -> Geometry:
    """The geometry of a feature or the footprint of an image."""
    return to_geometry(feature)


def _named(element: Element, selector: str) -> list[str]:
    """The property of this name, else all whose whole name the pattern matches."""
    if selector in element.properties:
        return [selector]
    try:
        return [name for name in element.properties if re.fullmatch(selector, name)]
    except re.error as error:
        raise ArgumentError(f"Feature.select: '{selector}' is not a valid property pattern: {error}.") from error


@algorithm("Feature.select")
def select_properties(
    input: Element, propertySelectors: list[str], newProperties: list[str] | None = None, retainGeometry: bool = True
) -> Element:
    """Properties by name or regular expression, renamed when names are given; names that are not there are left out."""
    chosen: list[str | None] = [name for selector in propertySelectors for name in (_named(input, selector) or (None,))]
    names = newProperties or chosen
    if len(names) != len(chosen):
        raise ArgumentError(f"Feature.select: {len(chosen)} properties selected but {len(names)} names.")
    kept = {str(new): input.properties[old] for old, new in zip(chosen, names, strict=True) if old is not None}
    if isinstance(input, Image):
        return replace(input, properties=kept)
    return Feature(input.id, kept, to_geometry(input) if retainGeometry else None)
