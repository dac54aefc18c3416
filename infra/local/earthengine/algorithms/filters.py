"""Filters of collections, and the conditions of joins."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import shapely.ops

from infra.local.earthengine.algorithms.registry import algorithm, register
from infra.local.earthengine.errors import ArgumentError
from infra.local.earthengine.geometry import GEOD, Geometry, area_m2
from infra.local.earthengine.image import Image
from infra.local.earthengine.promote import Mismatch, to_date, to_geometry
from infra.local.earthengine.values import Date, DateRange, Feature

GEO_FIELDS = (".geo", ".all")
"""Names under which filters mean an element's geometry."""


@dataclass(frozen=True)
class Filter:
    """Which elements match, alone or as a pair (in a join)."""

    test: Callable[[Any, Any], bool]
    """Takes the left and the right element; the right one is None outside joins."""
    measure: Callable[[Any, Any], float | None] | None = None
    """How far a pair is apart, for filters that measure it."""

    def matches(self, element: Any, other: Any = None) -> bool:
        """Whether an element, or a pair, matches."""
        return self.test(element, other)


def field_value(element: Any, name: str) -> Any:
    """A property, or the geometry for `.geo` and `.all`."""
    if name in GEO_FIELDS:
        return to_geometry(element)
    if name == "system:footprint" and isinstance(element, Image):
        return element.footprint
    return element.get(name)


Compare = Callable[[Any, Any], bool]


def _comparison(
    leftField: str | None = None,
    rightValue: Any = None,
    rightField: str | None = None,
    leftValue: Any = None,
    *,
    compare: Compare,
    name: str,
) -> Filter:
    """A filter that compares two sides, each a field or a value.

    With one field and one value it is about single elements; with two fields about the pairs of a join. In the form
    `rightField` with `leftValue` the value stands on the left.
    """
    if leftField is None and rightField is None:
        raise ArgumentError(f"Filter.{name}: Need a leftField or a rightField.")

    def test(element: Any, other: Any) -> bool:
        if leftField is not None and rightField is not None:
            if other is None:
                raise ArgumentError(f"Filter.{name}: A filter with two fields can be used in joins only.")
            left, right = field_value(element, leftField), field_value(other, rightField)
        elif leftField is not None:
            left, right = field_value(element, leftField), rightValue
        else:
            # In a join the right field belongs to the secondary element.
            left, right = leftValue, field_value(element if other is None else other, str(rightField))
        if left is None or right is None:
            return False
        try:
            return compare(left, right)
        except TypeError:
            return False

    return Filter(test)


def _scalar(value: Any) -> Any:
    return value.millis if isinstance(value, Date) else value


def _equal(a: Any, b: Any) -> bool:
    return bool(_scalar(a) == _scalar(b))


def _range_contains(left: Any, right: Any) -> bool:
    if not isinstance(left, DateRange):
        raise ArgumentError("Filter.dateRangeContains: The left value must be a DateRange.")
    try:
        return left.contains(to_date(right).millis)
    except Mismatch:
        return False


def _intersects(a: Any, b: Any) -> bool:
    left, right = to_geometry(a), to_geometry(b)
    if left.unbounded or right.unbounded:
        return True
    return bool(left.lonlat().intersects(right.lonlat()))


def _contains(a: Any, b: Any) -> bool:
    left, right = to_geometry(a), to_geometry(b)
    if left.unbounded or right.unbounded:
        return left.unbounded
    return bool(left.lonlat().covers(right.lonlat()))


COMPARISONS: dict[str, Compare] = {
    "equals": _equal,
    "notEquals": lambda a, b: not _equal(a, b),
    "lessThan": lambda a, b: _scalar(a) < _scalar(b),
    "lessThanOrEquals": lambda a, b: _scalar(a) <= _scalar(b),
    "greaterThan": lambda a, b: _scalar(a) > _scalar(b),
    "greaterThanOrEquals": lambda a, b: _scalar(a) >= _scalar(b),
    "stringStartsWith": lambda a, b: str(a).startswith(str(b)),
    "stringEndsWith": lambda a, b: str(a).endswith(str(b)),
    "stringContains": lambda a, b: str(b) in str(a),
    "inList": lambda a, b: any(_equal(a, v) for v in b),
    "listContains": lambda a, b: any(_equal(v, b) for v in a),
    "dateRangeContains": _range_contains,
    "intersects": _intersects,
    "disjoint": lambda a, b: not _intersects(a, b),
    "contains": _contains,
    "isContained": lambda a, b: _contains(b, a),
}
"""Comparisons of a left and a right side; an element that lacks the property never matches."""

ALIASES = {
    "equals": "eq",
    "notEquals": "neq",
    "lessThan": "lt",
    "lessThanOrEquals": "lte",
    "greaterThan": "gt",
    "greaterThanOrEquals": "gte",
}


def _spatial(maxError: Any = None, **sides: Any) -> Filter:
    """The geometries meet, do not meet, or one holds the other; see `_comparison` for the sides."""
    return _comparison(**sides)


for _name, _compare in COMPARISONS.items():
    _made = _spatial if _name in ("intersects", "disjoint", "contains", "isContained") else _comparison
    for _alias in {_name, ALIASES.get(_name, _name)}:
        register(f"Filter.{_alias}", partial(_made, compare=_compare, name=_name))


@algorithm("Filter.and")
def both(filters: list[Filter]) -> Filter:
    """All of the filters match."""
    return Filter(lambda e, o: all(f.test(e, o) for f in filters))


@algorithm("Filter.or")
def either(filters: list[Filter]) -> Filter:
    """One of the filters matches."""
    return Filter(lambda e, o: any(f.test(e, o) for f in filters))


@algorithm("Filter.not")
def negated(filter: Filter) -> Filter:
    """The filter does not match."""
    return Filter(lambda e, o: not filter.test(e, o))


@algorithm("Filter.always")
def always() -> Filter:
    """Everything matches."""
    return Filter(lambda e, o: True)


@algorithm("Filter.never")
def never() -> Filter:
    """Nothing matches."""
    return Filter(lambda e, o: False)


@algorithm("Filter.notNull")
def not_null(properties: list[str]) -> Filter:
    """All the properties are there."""
    return Filter(lambda e, o: all(field_value(e, p) is not None for p in properties))


@algorithm("Filter.hasGeometry")
def has_geometry() -> Filter:
    """The element has a geometry."""
    return Filter(lambda e, o: isinstance(e, Image) or (isinstance(e, Feature) and e.geometry is not None))


@algorithm("Filter.rangeContains")
def range_contains(field: str, minValue: Any, maxValue: Any) -> Filter:
    """The property lies between two values, both included."""

    def test(element: Any, other: Any) -> bool:
        value = _scalar(field_value(element, field))
        return value is not None and bool(_scalar(minValue) <= value <= _scalar(maxValue))

    return Filter(test)


@algorithm("Filter.maxDifference")
def max_difference(
    difference: float,
    leftField: str | None = None,
    rightValue: Any = None,
    rightField: str | None = None,
    leftValue: Any = None,
) -> Filter:
    """The two sides differ by at most a value; in joins the difference can be saved as a measure."""

    def apart(element: Any, other: Any) -> float | None:
        left = field_value(element, leftField) if leftField else leftValue
        right = field_value(other if other is not None else element, rightField) if rightField else rightValue
        return None if left is None or right is None else abs(float(_scalar(left)) - float(_scalar(right)))

    def test(element: Any, other: Any) -> bool:
        found = apart(element, other)
        return found is not None and found <= difference

    return Filter(test, apart)


@algorithm("Filter.withinDistance")
def within_distance(
    distance: float,
    leftField: str | None = None,
    rightValue: Any = None,
    rightField: str | None = None,
    leftValue: Any = None,
    maxError: Any = None,
) -> Filter:
    """The geometries are at most so many metres apart."""

    def near(a: Any, b: Any) -> bool:
        return separation_m(to_geometry(a), to_geometry(b)) <= distance

    return _comparison(leftField, rightValue, rightField, leftValue, compare=near, name="withinDistance")


def separation_m(a: Geometry, b: Geometry) -> float:
    """Metres between the nearest points of two geometries (nearest in longitude and latitude)."""
    if a.unbounded or b.unbounded:
        return 0.0
    p, q = shapely.ops.nearest_points(a.lonlat(), b.lonlat())
    return float(GEOD.inv(p.x, p.y, q.x, q.y)[2])


@algorithm("Filter.area")
def by_area(min: float, max: float, maxError: Any = None, geometrySelector: str | None = None) -> Filter:
    """The geometry's area in square metres lies between two values."""
    return Filter(lambda e, o: min <= area_m2(to_geometry(e)) <= max)


CALENDAR: dict[str, Callable[[dt.datetime], int]] = {
    "year": lambda t: t.year,
    "month": lambda t: t.month,
    "day_of_month": lambda t: t.day,
    "day_of_year": lambda t: t.timetuple().tm_yday,
    "day_of_week": lambda t: t.isoweekday(),
    "hour": lambda t: t.hour,
    "minute": lambda t: t.minute,
}
"""Calendar fields of a date in UTC."""


@algorithm("Filter.calendarRange")
def calendar_range(start: int, end: int | None = None, field: str = "day_of_year") -> Filter:
    """A calendar field of the acquisition lies in a range, both ends included; it may run over the new year."""
    if field not in CALENDAR:
        raise ArgumentError(f"Filter.calendarRange: Unknown field '{field}'; use one of {', '.join(CALENDAR)}.")
    last = start if end is None else end

    def test(element: Any, other: Any) -> bool:
        time = element.get("system:time_start")
        if time is None:
            return False
        value = CALENDAR[field](to_date(time).datetime)
        return start <= value <= last if start <= last else (value >= start or value <= last)

    return Filter(test)


@algorithm("Filter.dayOfYear")
def day_of_year(start: int, end: int) -> Filter:
    """The acquisition's day of the year lies in [start, end)."""
    return calendar_range(start, end - 1, "day_of_year")
