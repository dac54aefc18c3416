"""Arithmetic, comparison, logic and casts of images, band by band and pixel by pixel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from scipy import special

from infra.local.earthengine import pixeltype
from infra.local.earthengine.algorithms.registry import algorithm, register
from infra.local.earthengine.errors import ArgumentError
from infra.local.earthengine.grid import Array
from infra.local.earthengine.image import Band, Image, leading, mapped, matched
from infra.local.earthengine.pixeltype import BOOLEAN, FLOAT, NAMED, PixelType, divided, real
from infra.local.earthengine.raster import Pointwise

Types = Callable[[PixelType, PixelType], PixelType]


def _wide(function: Callable[[Array, Array], Array], result: PixelType) -> Callable[[Array, Array], Array]:
    """The function computed in the dtype of its result, so that uint16 - uint16 may be negative."""
    return lambda a, b: function(a.astype(result.dtype, copy=False), b.astype(result.dtype, copy=False))


def _divide(a: Array, b: Array) -> Array:
    """Quotient; division by zero gives 0, as Earth Engine's `divide` does."""
    b = np.asarray(b)
    return np.where(b == 0, 0, a / np.where(b == 0, 1, b))


def _mod(a: Array, b: Array) -> Array:
    """Remainder with the sign of the dividend; 0 where the divisor is 0."""
    return np.where(b == 0, 0, np.fmod(a, np.where(b == 0, 1, b)))


def _integers(a: PixelType, b: PixelType) -> PixelType:
    return NAMED["long"] if "int64" in (str(a.dtype), str(b.dtype)) else NAMED["int"]


def _either(a: PixelType, b: PixelType) -> PixelType:
    return pixeltype.union((a, b))


def _unranged(a: PixelType, b: PixelType) -> PixelType:
    kind = pixeltype.union((a, b))
    return PixelType(kind.precision) if kind.precision != "int" else NAMED["long"]


def _truth(a: PixelType, b: PixelType) -> PixelType:
    return BOOLEAN


BINARY: dict[str, tuple[Callable[[Array, Array], Array], Types]] = {
    "add": (np.add, pixeltype.added),
    "subtract": (np.subtract, pixeltype.subtracted),
    "multiply": (np.multiply, pixeltype.multiplied),
    "divide": (_divide, divided),
    "mod": (_mod, _either),
    "max": (np.maximum, _either),
    "min": (np.minimum, _either),
    "pow": (np.power, lambda a, b: pixeltype.DOUBLE if a.precision == b.precision == "int" else real(a, b)),
    "atan2": (lambda a, b: np.arctan2(b, a), real),
    "hypot": (np.hypot, real),
    "bitwiseAnd": (np.bitwise_and, _integers),
    "bitwiseOr": (np.bitwise_or, _integers),
    "bitwiseXor": (np.bitwise_xor, _integers),
    "leftShift": (np.left_shift, lambda a, b: NAMED["long"]),
    "rightShift": (np.right_shift, _integers),
    "firstNonZero": (lambda a, b: np.where(a != 0, a, b), _either),
}
"""Binary functions and the type of their result; operands are brought to that type first."""

COMPARISONS: dict[str, Callable[[Array, Array], Array]] = {
    "eq": np.equal,
    "neq": np.not_equal,
    "lt": np.less,
    "lte": np.less_equal,
    "gt": np.greater,
    "gte": np.greater_equal,
    "and": np.logical_and,
    "or": np.logical_or,
}
"""Functions whose result is 0 or 1."""

ALIASES = {
    "bitwiseAnd": "bitwise_and",
    "bitwiseOr": "bitwise_or",
    "bitwiseXor": "bitwise_xor",
    "leftShift": "left_shift",
    "rightShift": "right_shift",
}


def binary(image1: Image, image2: Image, *, name: str, function: Callable[..., Array], types: Types) -> Image:
    """A function of the matched bands of two images. Keeps the properties and footprint of the first."""
    bands = []
    for band_name, a, b in matched(image1, image2, f"Image.{name}"):
        kind = types(a.type, b.type)
        axes = max(a.type.dimensions, b.type.dimensions)
        if min(a.type.dimensions, b.type.dimensions) not in (0, axes):
            raise ArgumentError(f"Image.{name}: The arrays of '{a.id}' and '{b.id}' have different numbers of axes.")
        kind = kind if not axes else replace(kind, dimensions=axes)
        compute = function if types is _truth else _wide(function, kind)
        like = leading(a, b)
        bands.append(replace(like, id=band_name, node=Pointwise((a.node, b.node), compute, kind), type=kind))
    return _combined(image1, image2, bands)


def scalar(caller: str, *bands: Band) -> None:
    """ArgumentError for bands whose pixels are arrays, where the stand-in takes numbers only."""
    for band in bands:
        if band.type.dimensions:
            raise ArgumentError(
                f"{caller}: The band '{band.id}' has arrays as pixels, for which the local stand-in does not know this "
                "algorithm; use arrayGet, arrayFlatten or arrayReduce first."
            )


def _combined(image1: Image, image2: Image, bands: list[Band]) -> Image:
    footprint = image1.footprint if not image1.footprint.unbounded else image2.footprint
    return replace(image1, id=None, version=None, bands=tuple(bands), footprint=footprint, properties=_kept(image1))


def _kept(image: Image) -> dict[str, Any]:
    return {k: v for k, v in image.properties.items() if k in ("system:index", "system:footprint")}


for _name, (_function, _types) in BINARY.items():
    for _alias in {_name, ALIASES.get(_name, _name)}:
        register(f"Image.{_alias}", partial(binary, name=_name, function=_function, types=_types))
for _name, _function in COMPARISONS.items():
    register(f"Image.{_name}", partial(binary, name=_name, function=_function, types=_truth))


def _signed(kind: PixelType) -> PixelType:
    return NAMED["int"] if kind.precision == "int" else kind


UNARY: dict[str, tuple[Callable[[Array], Array], Callable[[PixelType], PixelType]]] = {
    **{
        name: (function, real)
        for name, function in {
            "sin": np.sin,
            "cos": np.cos,
            "tan": np.tan,
            "asin": np.arcsin,
            "acos": np.arccos,
            "atan": np.arctan,
            "sinh": np.sinh,
            "cosh": np.cosh,
            "tanh": np.tanh,
            "sqrt": np.sqrt,
            "log": np.log,
            "log10": np.log10,
            "exp": np.exp,
            "cbrt": np.cbrt,
            "gamma": special.gamma,
            "digamma": special.digamma,
            "erf": special.erf,
            "erfc": special.erfc,
        }.items()
    },
    "floor": (np.floor, pixeltype.whole),
    "ceil": (np.ceil, pixeltype.whole),
    "round": (lambda a: np.floor(a + 0.5) if a.dtype.kind == "f" else a, pixeltype.whole),
    "signum": (np.sign, lambda t: PixelType(t.precision, -1, 1)),
    "bitwiseNot": (lambda a: np.bitwise_not(a.astype("int64")), lambda t: NAMED["long"]),
}
"""Unary functions and the type of their result. Half values are rounded up; NaN and infinities become masked."""


def unary(value: Image, *, function: Callable[[Array], Array], types: Callable[[PixelType], PixelType]) -> Image:
    """A function of every band."""

    def changed(band: Band) -> Band:
        kind = replace(types(band.type), dimensions=band.type.dimensions)
        compute = (lambda a: function(a.astype(kind.dtype, copy=False))) if kind.precision != "int" else function
        node = Pointwise((band.node,), compute, kind, nan_is_masked=kind.precision != "int")
        return replace(band, node=node, type=kind)

    return replace(mapped(value, changed), id=None, version=None, properties=_kept(value))


for _name, (_unary, _kinds) in UNARY.items():
    register(f"Image.{_name}", partial(unary, function=_unary, types=_kinds))


@algorithm("Image.not")
def image_not(value: Image) -> Image:
    """1 where the value is zero, 0 elsewhere."""
    return unary(value, function=lambda a: a == 0, types=lambda t: BOOLEAN)


@algorithm("Image.abs")
def image_abs(value: Image) -> Image:
    """Absolute value."""

    def kind(t: PixelType) -> PixelType:
        if t.minimum is None or t.maximum is None:
            return t
        low = 0 if t.minimum <= 0 <= t.maximum else min(abs(t.minimum), abs(t.maximum))
        return PixelType(t.precision, low, max(abs(t.minimum), abs(t.maximum)))

    return unary(value, function=lambda a: np.abs(a.astype("int64") if a.dtype.kind in "iu" else a), types=kind)


def cast_image(value: Image, *, target: PixelType) -> Image:
    """Every band as a type: decimals are cut off and values beyond an integer's range become its limit."""
    return mapped(value, partial(cast_band, target=target))


def cast_band(band: Band, target: PixelType) -> Band:
    """A band as a type. The range of values stays known where the type can hold it."""
    if target.precision != "int":
        target = PixelType(target.precision, band.type.minimum, band.type.maximum)
    return replace(band, node=Pointwise((band.node,), lambda a: a, target), type=target)


for _name, _kind in NAMED.items():
    for _alias in (_name, f"to{_name[0].upper()}{_name[1:]}"):
        register(f"Image.{_alias}", partial(cast_image, target=_kind))


@algorithm("Image.clamp")
def clamp(input: Image, low: float, high: float) -> Image:
    """Values brought into [low, high]."""
    if low > high:
        raise ArgumentError(f"Image.clamp: low ({low}) must not be greater than high ({high}).")
    whole = float(low).is_integer() and float(high).is_integer()

    def kind(t: PixelType) -> PixelType:
        if t.precision == "int" and whole:
            return PixelType("int", int(low), int(high))
        return PixelType("double" if t.precision == "int" else t.precision, low, high)

    return unary(input, function=lambda a: np.clip(a.astype("float64"), low, high), types=kind)


@algorithm("Image.unitScale")
def unit_scale(input: Image, low: float, high: float) -> Image:
    """(value - low) / (high - low)."""
    return unary(
        input, function=lambda a: (a.astype("float64") - low) / (high - low), types=lambda t: PixelType("double")
    )


@algorithm("Image.normalizedDifference")
def normalized_difference(input: Image, bandNames: list[str] | None = None) -> Image:
    """(first - second) / (first + second), band `nd`; masked where either value is negative or the sum is zero."""
    first, second = (input.bands[:2]) if bandNames is None else (input.band(n) for n in bandNames)

    def compute(a: Array, b: Array) -> Array:
        x, y = a.astype("float64"), b.astype("float64")
        total = x + y
        bad = (x < 0) | (y < 0) | (total == 0)
        return np.where(bad, np.nan, (x - y) / np.where(bad, 1, total))

    kind = PixelType(FLOAT.precision, -1, 1)
    node = Pointwise((first.node, second.node), compute, kind, nan_is_masked=True)
    band = replace(leading(first, second), id="nd", node=node, type=kind)
    return replace(input, id=None, version=None, bands=(band,), properties=_kept(input))
