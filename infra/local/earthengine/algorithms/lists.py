"""Lists."""

from __future__ import annotations

import math
from typing import Any

from infra.local.earthengine.algorithms.filters import Filter
from infra.local.earthengine.algorithms.registry import algorithm
from infra.local.earthengine.errors import ArgumentError
from infra.local.earthengine.reducers import Reducer
from infra.local.earthengine.values import Feature, Function, to_json

Values = list[Any]


def same(a: Any, b: Any) -> bool:
    """Equality by value."""
    return bool(a == b) if type(a) is type(b) or isinstance(a, int | float) else to_json(a) == to_json(b)


def place(list: Values, index: int, caller: str) -> int:
    """An index from the start; negative ones count from the end."""
    at = index if index >= 0 else len(list) + index
    if not 0 <= at < len(list):
        raise ArgumentError(
            f"{caller}: List index must be between 0 and {len(list) - 1}, or -{len(list)} and -1, got {index}."
        )
    return at


@algorithm("List.get", "List.getNumber", "List.getString", "List.getGeometry")
def get(list: Values, index: int) -> Any:
    """The element at an index."""
    return list[place(list, index, "List.get")]


@algorithm("List.size", "List.length")
def size(list: Values) -> int:
    """How many elements there are."""
    return len(list)


@algorithm("List.slice")
def slice_list(list: Values, start: int, end: int | None = None, step: int | None = None) -> Values:
    """Elements from `start` to before `end`."""
    return list[start:end:step]


@algorithm("List.add")
def add(list: Values, element: Any) -> Values:
    """With an element at the end."""
    return [*list, element]


@algorithm("List.cat")
def cat(list: Values, other: Values) -> Values:
    """Both, one after the other."""
    return [*list, *other]


@algorithm("List.contains")
def contains(list: Values, element: Any) -> bool:
    """Whether an element is among them."""
    return any(same(v, element) for v in list)


@algorithm("List.containsAll")
def contains_all(list: Values, other: Values) -> bool:
    """Whether all the others are among them."""
    return all(contains(list, v) for v in other)


@algorithm("List.distinct")
def distinct(list: Values) -> Values:
    """Each value once."""
    kept: Values = []
    for value in list:
        if not contains(kept, value):
            kept.append(value)
    return kept


@algorithm("List.equals")
def equals(list: Values, other: Values) -> bool:
    """Whether they hold the same values."""
    return bool(to_json(list) == to_json(other))


@algorithm("List.filter")
def filter_list(list: Values, filter: Filter) -> Values:
    """The elements that match a filter on the field `item`."""
    return [v for v in list if filter.matches(Feature(properties={"item": v}))]


@algorithm("List.flatten")
def flatten(list: Values) -> Values:
    """Without nesting."""
    flat: Values = []
    for value in list:
        flat.extend(flatten([*value]) if isinstance(value, type(list) | tuple) else [value])
    return flat


@algorithm("List.frequency")
def frequency(list: Values, element: Any) -> int:
    """How often an element is among them."""
    return sum(same(v, element) for v in list)


@algorithm("List.indexOf")
def index_of(list: Values, element: Any) -> int:
    """Place of the first such element, -1 when there is none."""
    return next((i for i, v in enumerate(list) if same(v, element)), -1)


@algorithm("List.insert")
def insert(list: Values, index: int, element: Any) -> Values:
    """With an element put in."""
    return [*list[:index], element, *list[index:]]


@algorithm("List.iterate")
def iterate(list: Values, function: Function, first: Any) -> Any:
    """The function applied to each element and the result of the one before."""
    result = first
    for value in list:
        result = function(value, result)
    return result


@algorithm("List.map")
def map_list(list: Values, baseAlgorithm: Function, dropNulls: bool = False) -> Values:
    """The function applied to each element."""
    made = [baseAlgorithm(v) for v in list]
    return [v for v in made if v is not None] if dropNulls else made


@algorithm("List.join")
def join(list: Values, separator: str = "") -> str:
    """As one text."""
    return separator.join(v if isinstance(v, str) else str(to_json(v)) for v in list)


@algorithm("List.reduce")
def reduce_list(list: Values, reducer: Reducer) -> Any:
    """A reducer over the elements; a single output as it is, several in a dictionary."""
    rows = [tuple(v) if reducer.inputs > 1 else (v,) for v in list]
    found = reducer.rows(rows)
    return next(iter(found.values())) if len(found) == 1 else found


@algorithm("List.remove")
def remove(list: Values, element: Any) -> Values:
    """Without the first such element."""
    at = index_of(list, element)
    return list if at < 0 else [*list[:at], *list[at + 1 :]]


@algorithm("List.removeAll")
def remove_all(list: Values, other: Values) -> Values:
    """Without any of the others."""
    return [v for v in list if not contains(other, v)]


@algorithm("List.repeat")
def repeat(value: Any, count: int) -> Values:
    """The same value several times."""
    return [value] * count


@algorithm("List.replace")
def replace(list: Values, oldval: Any, newval: Any) -> Values:
    """With the first such element replaced."""
    at = index_of(list, oldval)
    return list if at < 0 else [*list[:at], newval, *list[at + 1 :]]


@algorithm("List.replaceAll")
def replace_all(list: Values, oldval: Any, newval: Any) -> Values:
    """With all such elements replaced."""
    return [newval if same(v, oldval) else v for v in list]


@algorithm("List.reverse")
def reverse(list: Values) -> Values:
    """From the end."""
    return list[::-1]


@algorithm("List.rotate")
def rotate(list: Values, distance: int) -> Values:
    """Elements moved to the left, those that fall off put at the end."""
    at = distance % len(list) if list else 0
    return [*list[at:], *list[:at]]


@algorithm("List.sequence")
def sequence(start: float, end: float | None = None, step: float = 1, count: int | None = None) -> Values:
    """Numbers from `start` to `end`, both included."""
    if end is None and count is None:
        raise ArgumentError("List.sequence: Either end or count is needed.")
    if count is not None:
        width = step if end is None or count < 2 else (end - start) / (count - 1)
        return [_whole(start + i * width) for i in range(count)]
    if step == 0 or end is None:
        raise ArgumentError("List.sequence: The step must not be zero.")
    return [_whole(start + i * step) for i in range(max(0, math.floor((end - start) / step + 1e-9) + 1))]


def _whole(value: float) -> float:
    return int(value) if float(value).is_integer() else value


@algorithm("List.set")
def set_element(list: Values, index: int, element: Any) -> Values:
    """With one element replaced."""
    at = place(list, index, "List.set")
    return [*list[:at], element, *list[at + 1 :]]


@algorithm("List.sort")
def sort(list: Values, keys: Values | None = None) -> Values:
    """In order, or in the order of the keys."""
    order = keys if keys is not None else list
    pairs = sorted(zip(order, range(len(list)), strict=True), key=lambda p: (isinstance(p[0], str), p[0], p[1]))
    return [list[i] for _, i in pairs]


@algorithm("List.splice")
def splice(list: Values, start: int, count: int, other: Values | None = None) -> Values:
    """With some elements replaced by others."""
    return [*list[:start], *(other or []), *list[start + count :]]


@algorithm("List.swap")
def swap(list: Values, pos1: int, pos2: int) -> Values:
    """With two elements exchanged."""
    a, b = place(list, pos1, "List.swap"), place(list, pos2, "List.swap")
    made = [*list]
    made[a], made[b] = made[b], made[a]
    return made


@algorithm("List.zip")
def zip_lists(list: Values, other: Values) -> Values:
    """Pairs of elements at the same place."""
    return [[a, b] for a, b in zip(list, other, strict=False)]


@algorithm("List.unzip")
def unzip(list: Values) -> Values:
    """A list of lists turned: first elements, second elements, and so on."""
    return [[*column] for column in zip(*list, strict=True)]
