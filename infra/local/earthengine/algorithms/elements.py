"""Properties of images, features and collections."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from infra.local.earthengine.algorithms.registry import algorithm
from infra.local.earthengine.errors import ArgumentError
from infra.local.earthengine.geometry import Geometry
from infra.local.earthengine.image import Element, Image
from infra.local.earthengine.values import Date, Feature


def get_property(element: Element, name: str) -> Any:
    """A property; the footprint of an image as a geometry."""
    if isinstance(element, Image) and name in OF_IMAGES:
        return OF_IMAGES[name](element)
    return element.get(name)


OF_IMAGES: dict[str, Callable[[Image], Any]] = {
    "system:footprint": lambda image: image.footprint,
    "system:version": lambda image: image.version,
    "system:band_names": lambda image: [b.id for b in image.bands],
    "system:bands": lambda image: {b.id: b.to_json() for b in image.bands},
}
"""Properties that every image has."""


def set_properties(element: Any, values: dict[str, Any]) -> Any:
    """The element with some properties set; null removes one, a geometry property becomes a feature's geometry."""
    properties = dict(element.properties)
    geometry: Geometry | None = None
    for name, value in values.items():
        if name in ("geo", ".geo", "system:footprint") and isinstance(value, Geometry):
            geometry = value
        elif value is None:
            properties.pop(name, None)
        else:
            properties[name] = value.millis if isinstance(value, Date) and name.startswith("system:time_") else value
    changed = replace(element, properties=properties)
    if geometry is None:
        return changed
    return (
        replace(changed, footprint=geometry)
        if isinstance(changed, Image)
        else Feature(changed.id, changed.properties, geometry)
    )


@algorithm("Element.get")
def get(object: Element, property: str) -> Any:
    """A property, null when there is none."""
    return get_property(object, property)


@algorithm("Element.getNumber")
def get_number(object: Element, property: str) -> Any:
    """A numeric property."""
    value = get_property(object, property)
    if value is not None and not isinstance(value, int | float):
        raise ArgumentError(f"Element.getNumber: The property '{property}' is not a number: {value!r}.")
    return value


@algorithm("Element.getString")
def get_string(object: Element, property: str) -> Any:
    """A property as text."""
    value = get_property(object, property)
    if value is not None and not isinstance(value, str):
        raise ArgumentError(f"Element.getString: The property '{property}' is not a string: {value!r}.")
    return value


@algorithm("Element.set")
def set_one(object: Element, key: str, value: Any = None) -> Any:
    """The element with a property set."""
    return set_properties(object, {key: value})


@algorithm("Element.setMulti")
def set_many(object: Element, properties: dict[str, Any]) -> Any:
    """The element with several properties set."""
    return set_properties(object, properties)


@algorithm("Element.propertyNames")
def property_names(element: Element) -> list[str]:
    """Names of all properties; images have an id, bands and an index besides."""
    names = sorted(element.properties)
    if isinstance(element, Image):
        names += [n for n in ("system:id", *OF_IMAGES) if n not in names]
    return names


@algorithm("Element.toDictionary")
def to_dictionary(element: Element, properties: list[str] | None = None) -> dict[str, Any]:
    """Properties by name: the given ones, or all that are not the system's."""
    if properties is None:
        return {k: v for k, v in element.properties.items() if not k.startswith("system:")}
    return {name: get_property(element, name) for name in properties}


@algorithm("Element.copyProperties", "Image.copyProperties")
def copy_properties(
    destination: Element | None = None,
    source: Element | None = None,
    properties: list[str] | None = None,
    exclude: list[str] | None = None,
) -> Any:
    """The destination with properties of the source: the given ones, or all that are not the system's."""
    if destination is None or source is None:
        return destination
    names = properties if properties is not None else [n for n in source.properties if not n.startswith("system:")]
    chosen = [n for n in names if n not in (exclude or ())]
    return set_properties(destination, {n: v for n in chosen if (v := get_property(source, n)) is not None})


@algorithm("Element.replaceProperties")
def replace_properties(destination: Any, source: Element | None = None) -> Any:
    """The destination with the properties of the source and no others."""
    return replace(destination, properties=dict(source.properties) if source is not None else {})


@algorithm("Image.id", "Feature.id")
def element_id(element: Element) -> Any:
    """The id: of an image within its collection, of a feature its index."""
    if isinstance(element, Image):
        return element.get("system:index") or (element.id.rsplit("/", 1)[-1] if element.id else None)
    return element.id
