"""Arithmetic of single numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from infra.local.earthengine import pixeltype
from infra.local.earthengine.algorithms.images_math import ALIASES, BINARY, COMPARISONS, UNARY
from infra.local.earthengine.algorithms.registry import algorithm, register
from infra.local.earthengine.errors import ArgumentError
from infra.local.earthengine.grid import Array
from infra.local.earthengine.pixeltype import NAMED, PixelType
from infra.local.earthengine.reducers import plain


def _binary(left: float, right: float, *, function: Callable[[Array, Array], Array], name: str) -> Any:
    """A function of two numbers, as of the pixels of images; whole numbers stay whole where they can."""
    whole = isinstance(left, int) and isinstance(right, int) and name not in ("divide", "pow", "atan2", "hypot")
    dtype = "int64" if whole else "float64"
    with np.errstate(all="ignore"):
        return plain(function(np.asarray(left, dtype), np.asarray(right, dtype)))


def _compare(left: float, right: float, *, function: Callable[[Array, Array], Array]) -> int:
    """1 when the comparison holds, else 0."""
    return int(function(np.asarray(left), np.asarray(right)))


for _name, (_function, _types) in BINARY.items():
    for _alias in {_name, ALIASES.get(_name, _name)}:
        register(f"Number.{_alias}", partial(_binary, function=_function, name=_name))
for _name, _function in COMPARISONS.items():
    register(f"Number.{_name}", partial(_compare, function=_function))


def _unary(input: float, *, function: Callable[[Array], Array], name: str) -> Any:
    """A function of one number, as of the pixels of an image."""
    with np.errstate(all="ignore"):
        found = plain(function(np.asarray(input, "float64" if name != "bitwiseNot" else "int64")))
    return int(found) if name in ("floor", "ceil", "round", "signum") and found is not None else found


for _name, (_single, _kind) in UNARY.items():
    register(f"Number.{_name}", partial(_unary, function=_single, name=_name))


@algorithm("Number.abs")
def absolute(input: float) -> float:
    """Absolute value."""
    return abs(input)


@algorithm("Number.not")
def negated(input: float) -> int:
    """1 of zero, 0 of anything else."""
    return int(input == 0)


def _cast(input: float, *, target: PixelType) -> Any:
    """A number as a type: decimals are cut off, values beyond an integer's range become its limit."""
    return plain(pixeltype.cast(np.asarray(input), target))


for _name, _target in NAMED.items():
    for _alias in (_name, f"to{_name[0].upper()}{_name[1:]}"):
        register(f"Number.{_alias}", partial(_cast, target=_target))


@algorithm("Number.clamp")
def clamp(number: float, min: float, max: float) -> float:
    """The value brought into [min, max]."""
    return min if number < min else max if number > max else number


@algorithm("Number.unitScale")
def unit_scale(number: float, min: float, max: float) -> float:
    """(value - min) / (max - min)."""
    return (number - min) / (max - min)


@algorithm("Number.format")
def format_number(number: float, pattern: str = "%s") -> str:
    """Text by a printf pattern."""
    value: Any = number
    if pattern.endswith("d") or (
        pattern == "%s" and isinstance(number, float) and number.is_integer() and math.isfinite(number)
    ):
        value = int(number)
    try:
        return str(pattern % value)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"Number.format: '{pattern}' does not fit {number}: {error}.") from error


@algorithm("Number.parse")
def parse(input: str, radix: int = 10) -> float:
    """A number from text."""
    try:
        if radix != 10:
            return int(input, radix)
        return int(input) if input.strip().lstrip("+-").isdigit() else float(input)
    except ValueError as error:
        raise ArgumentError(f"Number.parse: Cannot parse '{input}' as a number.") from error
