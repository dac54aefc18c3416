"""Band types: a precision and a range of values, and how arithmetic widens them.

Earth Engine describes a band as `{"type": "PixelType", "precision": "int" | "float" | "double", "min", "max"}`. The
result of integer arithmetic is an integer whose range is computed from the ranges of its operands; a quotient is
floating point; a double operand makes the result double. The smallest storage type that holds the range is the dtype
of the pixels that travel to the client.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

_INTEGER_DTYPES = ("uint8", "int8", "uint16", "int16", "int32", "uint32", "int64")
_INT64 = np.iinfo("int64")


@dataclass(frozen=True)
class PixelType:
    """The type of the pixels of one band."""

    precision: str
    """`int`, `float` (32 bit) or `double` (64 bit)."""
    minimum: float | None = None
    """Smallest possible value; None when unknown."""
    maximum: float | None = None
    """Largest possible value; None when unknown."""
    dimensions: int = 0
    """Axes of the array that each pixel is; 0 for numbers."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The smallest numpy dtype that holds every value of the type."""
        if self.precision != "int":
            return np.dtype("float32" if self.precision == "float" else "float64")
        low, high = self.minimum, self.maximum
        if low is None or high is None:
            return np.dtype("int64")
        for name in _INTEGER_DTYPES:
            info = np.iinfo(name)
            if info.min <= low and high <= info.max:
                return np.dtype(name)
        return np.dtype("int64")

    def to_json(self) -> dict[str, Any]:
        """As `getInfo` shows it."""
        limits = {"min": self.minimum, "max": self.maximum, "dimensions": self.dimensions or None}
        return {"type": "PixelType", "precision": self.precision, **{k: v for k, v in limits.items() if v is not None}}

    @classmethod
    def of_dtype(cls, dtype: Any) -> PixelType:
        """The type of a raster file's band."""
        kind = np.dtype(dtype)
        if kind.kind == "f":
            return FLOAT if kind.itemsize <= 4 else DOUBLE
        if kind.kind == "b":
            return BOOLEAN
        info = np.iinfo(kind)
        return cls("int", info.min, info.max)

    @classmethod
    def of_value(cls, value: float) -> PixelType:
        """The type of a constant: an integer is `int` with its own value as range, anything else `double`."""
        if isinstance(value, (int, np.integer)):
            return cls("int", int(value), int(value))
        return cls("double", float(value), float(value))


FLOAT = PixelType("float")
DOUBLE = PixelType("double")
BOOLEAN = PixelType("int", 0, 1)
MASK = PixelType("float", 0, 1)

NAMED: dict[str, PixelType] = {
    **{name: PixelType("int", np.iinfo(name).min, np.iinfo(name).max) for name in _INTEGER_DTYPES},
    "byte": PixelType("int", 0, 255),
    "short": PixelType("int", -32768, 32767),
    "int": PixelType("int", np.iinfo("int32").min, np.iinfo("int32").max),
    "long": PixelType("int", _INT64.min, _INT64.max),
    "float": FLOAT,
    "double": DOUBLE,
}
"""The types that have a name, as in `toInt16`."""


def _precision(types: Iterable[PixelType]) -> str:
    found = {t.precision for t in types}
    return "double" if "double" in found else "float" if "float" in found else "int"


def union(types: Iterable[PixelType]) -> PixelType:
    """The type that holds the values of all the types: of a mosaic, of `where`, of `unmask`."""
    all_types = tuple(types)
    lows = [t.minimum for t in all_types]
    highs = [t.maximum for t in all_types]
    low = None if None in lows else min(v for v in lows if v is not None)
    high = None if None in highs else max(v for v in highs if v is not None)
    return PixelType(_precision(all_types), low, high)


def floating(source: PixelType, *, ranged: bool = True) -> PixelType:
    """The type of a mean or a median: integers become double, floats stay what they are."""
    precision = "double" if source.precision == "int" else source.precision
    return PixelType(precision, *((source.minimum, source.maximum) if ranged else (None, None)))


def real(*types: PixelType) -> PixelType:
    """The type of a transcendental function: float for integers and floats, double for doubles; no range."""
    return DOUBLE if _precision(types) == "double" else FLOAT


def _limits(t: PixelType) -> tuple[float, float] | None:
    return None if t.minimum is None or t.maximum is None else (t.minimum, t.maximum)


def _bounded(precision: str, values: list[float]) -> PixelType:
    low, high = min(values), max(values)
    if precision == "int" and (low < _INT64.min or high > _INT64.max):
        return PixelType("double", float(low), float(high))
    return PixelType(precision, low, high)


def added(a: PixelType, b: PixelType) -> PixelType:
    """The type of a + b."""
    precision, la, lb = _precision((a, b)), _limits(a), _limits(b)
    if la is None or lb is None:
        return PixelType(precision)
    return _bounded(precision, [la[0] + lb[0], la[1] + lb[1]])


def subtracted(a: PixelType, b: PixelType) -> PixelType:
    """The type of a - b."""
    precision, la, lb = _precision((a, b)), _limits(a), _limits(b)
    if la is None or lb is None:
        return PixelType(precision)
    return _bounded(precision, [la[0] - lb[1], la[1] - lb[0]])


def multiplied(a: PixelType, b: PixelType) -> PixelType:
    """The type of a * b."""
    precision, la, lb = _precision((a, b)), _limits(a), _limits(b)
    if la is None or lb is None:
        return PixelType(precision)
    return _bounded(precision, [x * y for x in la for y in lb])


def divided(a: PixelType, b: PixelType) -> PixelType:
    """The type of a / b: floating point, with a range when the divisor cannot be zero."""
    precision = "double" if _precision((a, b)) == "double" else "float"
    la, lb = _limits(a), _limits(b)
    if la is None or lb is None or lb[0] <= 0 <= lb[1]:
        return PixelType(precision)
    return PixelType(precision, *_ordered([x / y for x in la for y in lb]))


def _ordered(values: list[float]) -> tuple[float, float]:
    return min(values), max(values)


def whole(source: PixelType) -> PixelType:
    """The type of round, floor and ceil: the precision stays, the range is rounded outwards."""
    limits = _limits(source)
    if limits is None or not all(map(math.isfinite, limits)):
        return PixelType(source.precision)
    return PixelType(source.precision, math.floor(limits[0]), math.ceil(limits[1]))


def cast(values: np.ndarray[Any, Any], target: PixelType) -> np.ndarray[Any, Any]:
    """Values as the type's dtype: decimals are cut off, values beyond an integer type's range become its limit."""
    dtype = target.dtype
    if values.dtype == dtype:
        return values
    if dtype.kind == "f" or values.dtype.kind == "b":
        return values.astype(dtype)
    info = np.iinfo(dtype)
    if values.dtype.kind == "f":
        clean = np.nan_to_num(values, nan=0.0, posinf=float(info.max), neginf=float(info.min))
        # float64(2**63 - 1) rounds up to 2**63, which does not fit: clip to the largest float below it.
        high = float(info.max) if dtype.itemsize < 8 else np.nextafter(float(info.max), 0)
        return np.asarray(np.clip(clean.astype("float64"), float(info.min), high).astype(dtype))
    have = np.iinfo(values.dtype)
    if have.min >= info.min and have.max <= info.max:
        return values.astype(dtype)
    return np.asarray(np.clip(values, max(info.min, have.min), min(info.max, have.max)).astype(dtype))
