"""Choices and comparisons of any values."""

from __future__ import annotations

from typing import Any

from infra.local.earthengine.algorithms.images_bands import add_bands
from infra.local.earthengine.algorithms.registry import algorithm
from infra.local.earthengine.graph import is_true
from infra.local.earthengine.image import Image
from infra.local.earthengine.promote import type_name
from infra.local.earthengine.values import Collection, to_json


@algorithm("If")
def choose(condition: Any = None, trueCase: Any = None, falseCase: Any = None) -> Any:
    """One value or the other; the graph has left out the case that is not met."""
    return trueCase if is_true(condition) else falseCase


@algorithm("IsEqual")
def is_equal(left: Any = None, right: Any = None) -> bool:
    """Whether two values are the same."""
    return bool(to_json(left) == to_json(right))


@algorithm("ObjectType")
def object_type(value: Any = None) -> str:
    """Name of the value's type."""
    return "Null" if value is None else type_name(value)


@algorithm("ImageCollection.combine")
def combine(primary: Collection, secondary: Collection, overwrite: bool = False) -> Collection:
    """The images of the first collection with the bands of those of the second that have the same index."""
    others = {e.get("system:index"): e for e in secondary.elements}
    made: list[Image] = []
    for image in primary.elements:
        other = others.get(image.get("system:index"))
        if other is not None:
            made.append(add_bands(image, other, None, overwrite))
    return Collection(elements=tuple(made))
