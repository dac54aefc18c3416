"""Arguments brought to the type that an algorithm declares, as the service does: a number becomes an image, a string
the asset or the projection or the date that it names, a feature its geometry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import shapely

from infra.local.earthengine import geometry as geometries
from infra.local.earthengine.context import Context
from infra.local.earthengine.errors import ArgumentError
from infra.local.earthengine.geometry import WORLD, Geometry
from infra.local.earthengine.grid import Projection, parse_crs
from infra.local.earthengine.image import Element, Image, constant
from infra.local.earthengine.pixeltype import NAMED, PixelType
from infra.local.earthengine.values import Collection, Date, DateRange, ErrorMargin, Feature, Function

Number = (int, float)


class Mismatch(Exception):  # noqa: N818 - turned into an ArgumentError with the algorithm's name
    """The value cannot be brought to the type."""


def promote(kind: str, value: Any, context: Context, where: str) -> Any:
    """A value as the declared type. None stays None. ArgumentError in the service's words when it does not fit."""
    if value is None:
        return None
    try:
        return _promote(kind, value, context)
    except Mismatch as error:
        raise ArgumentError(
            f"{where}: Invalid type.\nExpected type: {kind}.\nActual type: {type_name(value)}."
        ) from error


def _promote(kind: str, value: Any, context: Context) -> Any:
    if kind.startswith("List<"):
        if not isinstance(value, list | tuple):
            raise Mismatch
        inner = kind[5:-1]
        return [_promote(inner, v, context) if v is not None else None for v in value]
    if kind.startswith("Dictionary<"):
        return _to_dictionary(value, context)
    change = _CHANGES.get(kind)
    return value if change is None else change(value, context)


def type_name(value: Any) -> str:
    """The service's name of a value's type."""
    if isinstance(value, Collection):
        return "ImageCollection" if value.images else "FeatureCollection"
    names = {bool: "Boolean", int: "Integer", float: "Float", str: "String", list: "List", dict: "Dictionary"}
    return names.get(type(value), type(value).__name__)


def _to_image(value: Any, context: Context) -> Image:
    if isinstance(value, Image):
        return value
    if isinstance(value, bool):
        return constant(int(value))
    if isinstance(value, Number) or (isinstance(value, list) and value and all(isinstance(v, Number) for v in value)):
        return constant(value)
    if isinstance(value, str):
        return context.assets.image(value)
    raise Mismatch


def _to_element(value: Any, context: Context) -> Element:
    if isinstance(value, Element):
        return value
    if isinstance(value, Geometry):
        return Feature(geometry=value)
    return _to_image(value, context)


def _to_feature(value: Any, context: Context) -> Feature:
    if isinstance(value, Feature):
        return value
    if isinstance(value, Geometry):
        return Feature(geometry=value)
    if isinstance(value, Image):
        return Feature(id=value.id, properties=value.properties, geometry=value.footprint)
    raise Mismatch


def to_geometry(value: Any, context: Context | None = None) -> Geometry:
    """A geometry from whatever has one; the union of a collection's."""
    if isinstance(value, Geometry):
        return value
    if isinstance(value, Feature):
        return value.geometry if value.geometry is not None else Geometry(shapely.GeometryCollection())
    if isinstance(value, Image):
        return value.footprint
    if isinstance(value, Collection):
        parts = [to_geometry(e) for e in value.elements]
        if any(p.unbounded for p in parts):
            return WORLD
        return Geometry(shapely.union_all([p.lonlat() for p in parts]), geodesic=False)
    if isinstance(value, dict) and "type" in value:
        return geometries.from_json(value)
    raise Mismatch


def _to_collection(value: Any, context: Context) -> Collection:
    if isinstance(value, Collection):
        return value
    if isinstance(value, str):
        return context.assets.table(value)
    if isinstance(value, Feature | Image):
        return Collection(elements=(value,), images=isinstance(value, Image))
    if isinstance(value, Geometry):
        return Collection(elements=(Feature(id="0", geometry=value),), images=False)
    if isinstance(value, list):
        return Collection(elements=tuple(_to_element(v, context) for v in value), images=False)
    raise Mismatch


def _to_image_collection(value: Any, context: Context) -> Collection:
    if isinstance(value, str):
        return context.assets.collection(value)
    if isinstance(value, list):
        return Collection(elements=tuple(_to_image(v, context) for v in value))
    made = _to_collection(value, context)
    if not all(isinstance(e, Image) for e in made.elements):
        raise Mismatch
    return made


def to_date(value: Any, context: Context | None = None) -> Date:
    """A date from milliseconds or text."""
    if isinstance(value, Date):
        return value
    if isinstance(value, Number) and not isinstance(value, bool):
        return Date(int(value))
    if isinstance(value, str):
        return Date.parse(value)
    if isinstance(value, dict) and value.get("type") == "Date":
        return Date(int(value["value"]))
    raise Mismatch


def _to_range(value: Any, context: Context) -> DateRange:
    if isinstance(value, DateRange):
        return value
    raise Mismatch


def to_projection(value: Any, context: Context | None = None) -> Projection:
    """A projection from a code or from its JSON form."""
    if isinstance(value, Projection):
        return value
    if isinstance(value, str):
        parse_crs(value)
        return Projection(value, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0))
    if isinstance(value, dict) and "crs" in value:
        a, b, c, d, e, f = (float(v) for v in value.get("transform", (1, 0, 0, 0, 1, 0)))
        return Projection(str(value["crs"]), (a, b, c, d, e, f))
    if isinstance(value, Image) and value.bands:
        return value.bands[0].projection
    raise Mismatch


def _to_margin(value: Any, context: Context) -> ErrorMargin:
    if isinstance(value, ErrorMargin):
        return value
    if isinstance(value, Number):
        return ErrorMargin(float(value))
    if isinstance(value, dict):
        return ErrorMargin(value.get("value"), str(value.get("unit", "meters")))
    raise Mismatch


def _to_number(value: Any, context: Context) -> float:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, Number):
        return value
    if isinstance(value, Date):
        return value.millis
    raise Mismatch


def _to_integer(value: Any, context: Context) -> int:
    return int(_to_number(value, context))


def _to_string(value: Any, context: Context) -> str:
    if isinstance(value, str):
        return value
    raise Mismatch


def _to_boolean(value: Any, context: Context) -> bool:
    if isinstance(value, bool | int | float):
        return bool(value)
    raise Mismatch


def _to_dictionary(value: Any, context: Context) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    if isinstance(value, Feature | Image):
        return value.properties
    raise Mismatch


def _to_function(value: Any, context: Context) -> Function:
    if isinstance(value, Function):
        return value
    raise Mismatch


def to_pixel_type(value: Any, context: Context | None = None) -> PixelType:
    """A pixel type from its name or its JSON form."""
    if isinstance(value, PixelType):
        return value
    if isinstance(value, str) and value in NAMED:
        return NAMED[value]
    if isinstance(value, dict) and "precision" in value:
        return PixelType(str(value["precision"]), value.get("min"), value.get("max"))
    raise Mismatch


_CHANGES: dict[str, Callable[[Any, Context], Any]] = {
    "Image": _to_image,
    "ImageCollection": _to_image_collection,
    "FeatureCollection": _to_collection,
    "Element": _to_element,
    "Feature": _to_feature,
    "Geometry": to_geometry,
    "Date": to_date,
    "DateRange": _to_range,
    "Projection": to_projection,
    "ErrorMargin": _to_margin,
    "Number": _to_number,
    "Float": _to_number,
    "Integer": _to_integer,
    "Long": _to_integer,
    "String": _to_string,
    "Boolean": _to_boolean,
    "Dictionary": _to_dictionary,
    "Algorithm": _to_function,
    "PixelType": to_pixel_type,
}
