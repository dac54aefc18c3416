"""Dictionaries."""

from __future__ import annotations

import re
from typing import Any

from infra.local.earthengine.algorithms.registry import algorithm
from infra.local.earthengine.errors import ArgumentError
from infra.local.earthengine.image import Image, constant
from infra.local.earthengine.values import Function

Values = dict[str, Any]


@algorithm("Dictionary")
def dictionary(input: Any = None) -> Values:
    """From a dictionary, from pairs in a flat list, or the properties of an element."""
    if input is None:
        return {}
    if isinstance(input, dict):
        return input
    if isinstance(input, list):
        return dict(zip(input[::2], input[1::2], strict=True))
    found = getattr(input, "properties", None)
    if found is None:
        raise ArgumentError(f"Dictionary: Cannot make a dictionary of {type(input).__name__}.")
    return dict(found)


def _require(dictionary: Values, key: str, caller: str) -> None:
    if key not in dictionary:
        raise ArgumentError(f"{caller}: Dictionary does not contain key: '{key}'.")


@algorithm("Dictionary.get")
def get(dictionary: Values, key: str, defaultValue: Any = None) -> Any:
    """The value of a key; the default, or an error, when it is missing."""
    if defaultValue is None:
        _require(dictionary, key, "Dictionary.get")
    return dictionary.get(key, defaultValue)


@algorithm("Dictionary.getNumber", "Dictionary.getString", "Dictionary.getGeometry")
def get_typed(dictionary: Values, key: str) -> Any:
    """The value of a key."""
    _require(dictionary, key, "Dictionary.get")
    return dictionary[key]


@algorithm("Dictionary.set")
def set_value(dictionary: Values, key: str, value: Any) -> Values:
    """With a key set."""
    return {**dictionary, key: value}


@algorithm("Dictionary.contains")
def contains(dictionary: Values, key: str) -> bool:
    """Whether it has a key."""
    return key in dictionary


@algorithm("Dictionary.keys")
def keys(dictionary: Values) -> list[str]:
    """The keys in alphabetical order."""
    return sorted(dictionary)


@algorithm("Dictionary.values")
def values(dictionary: Values, keys: list[str] | None = None) -> list[Any]:
    """The values, in the order of the keys given or of the alphabet."""
    names = keys if keys is not None else sorted(dictionary)
    for name in names:
        _require(dictionary, name, "Dictionary.values")
    return [dictionary[name] for name in names]


@algorithm("Dictionary.size")
def size(dictionary: Values) -> int:
    """How many keys it has."""
    return len(dictionary)


@algorithm("Dictionary.combine")
def combine(first: Values, second: Values, overwrite: bool = True) -> Values:
    """Both; keys in both have the value of the second, or of the first without `overwrite`."""
    return {**first, **second} if overwrite else {**second, **first}


@algorithm("Dictionary.fromLists")
def from_lists(keys: list[str], values: list[Any]) -> Values:
    """From keys and values."""
    if len(keys) != len(values):
        raise ArgumentError(f"Dictionary.fromLists: {len(keys)} keys but {len(values)} values.")
    return dict(zip(keys, values, strict=True))


@algorithm("Dictionary.map")
def map_values(dictionary: Values, baseAlgorithm: Function) -> Values:
    """The function applied to every key and value."""
    return {k: baseAlgorithm(k, v) for k, v in dictionary.items()}


def chosen(dictionary: Values, selectors: list[str], ignoreMissing: bool, caller: str) -> list[str]:
    """The keys that match names or regular expressions."""
    found: list[str] = []
    for selector in selectors:
        matching = [selector] if selector in dictionary else [k for k in dictionary if re.fullmatch(selector, k)]
        if not matching and not ignoreMissing:
            raise ArgumentError(f"{caller}: Dictionary does not contain key: '{selector}'.")
        found += [k for k in matching if k not in found]
    return found


@algorithm("Dictionary.select")
def select(dictionary: Values, selectors: list[str], ignoreMissing: bool = False) -> Values:
    """Only the chosen keys."""
    return {k: dictionary[k] for k in chosen(dictionary, selectors, ignoreMissing, "Dictionary.select")}


@algorithm("Dictionary.remove")
def remove(dictionary: Values, selectors: list[str], ignoreMissing: bool = False) -> Values:
    """Without the chosen keys."""
    gone = chosen(dictionary, selectors, ignoreMissing, "Dictionary.remove")
    return {k: v for k, v in dictionary.items() if k not in gone}


@algorithm("Dictionary.rename")
def rename(dictionary: Values, overwrite: bool = False, **names: list[str]) -> Values:
    """With keys renamed; `from` and `to` are words of the language and come by name only."""
    changes = dict(zip(names["from"], names["to"], strict=True))
    return {changes.get(k, k): v for k, v in dictionary.items()}


@algorithm("Dictionary.toImage")
def to_image(dictionary: Values, names: list[str] | None = None) -> Image:
    """A constant image with a band for each key."""
    wanted = names if names is not None else sorted(dictionary)
    return Image(bands=tuple(constant(dictionary[n], n).bands[0] for n in wanted))
