"""Pixel types and error margins as values."""

from __future__ import annotations

from functools import partial
from typing import Any

from infra.local.earthengine.algorithms.registry import algorithm, register
from infra.local.earthengine.errors import ArgumentError
from infra.local.earthengine.pixeltype import NAMED, PixelType
from infra.local.earthengine.values import ErrorMargin


def _named(name: str) -> PixelType:
    """The pixel type of this name."""
    return NAMED[name]


for _name in ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "float", "double"):
    register(f"PixelType.{_name}", partial(_named, _name))


@algorithm("PixelType")
def pixel_type(
    precision: Any, minValue: float | None = None, maxValue: float | None = None, dimensions: int = 0
) -> PixelType:
    """A type by its precision and range, or by its name."""
    if isinstance(precision, PixelType):
        return precision
    if minValue is None and maxValue is None and not dimensions and precision in NAMED:
        return NAMED[precision]
    if precision not in ("int", "float", "double"):
        raise ArgumentError(f"PixelType: Unknown precision '{precision}'.")
    return PixelType(precision, minValue, maxValue, dimensions or 0)


@algorithm("PixelType.precision")
def precision(pixelType: PixelType) -> str:
    """`int`, `float` or `double`."""
    return pixelType.precision


@algorithm("PixelType.minValue")
def minimum(pixelType: PixelType) -> float | None:
    """The smallest value."""
    return pixelType.minimum


@algorithm("PixelType.maxValue")
def maximum(pixelType: PixelType) -> float | None:
    """The largest value."""
    return pixelType.maximum


@algorithm("PixelType.dimensions")
def dimensions(pixelType: PixelType) -> int:
    """Axes of the array that each pixel is; 0 for numbers."""
    return pixelType.dimensions


@algorithm("ErrorMargin")
def error_margin(value: float | None = None, unit: str = "meters") -> ErrorMargin:
    """How far a geometry operation may be off."""
    return ErrorMargin(value, unit)
