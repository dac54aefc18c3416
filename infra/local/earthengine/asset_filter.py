"""The filter of a listing: comparisons that are joined by AND, as the client composes them.

    properties.version >= 2 AND startTime >= "2018-09-01T00:00:00Z" AND intersects("{'type': 'Point', …}")

`properties.NAME:*` is true where there is such a property. Comparisons with what is not there are false.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import shapely
from shapely.geometry import shape

from infra.local.earthengine.errors import ArgumentError

Asset = Mapping[str, Any]
Test = Callable[[Asset], bool]

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_COMPARISON = re.compile(r'([A-Za-z_][\w.:"-]*?)\s*(<=|>=|!=|=|<|>)\s*("(?:[^"\\]|\\.)*"|[^\s"]+)')
_PRESENCE = re.compile(r'properties\.("?)([\w:-]+)\1:\*')
_INTERSECTS = re.compile(r'intersects\("(.*)"\)', re.DOTALL)
_AND = re.compile(r'\s+AND\s+(?=(?:[^"]*"[^"]*")*[^"]*$)')
FIELDS = ("id", "name", "type", "startTime", "endTime", "updateTime", "sizeBytes")


def parse(text: str) -> Test:
    """The test that a filter stands for; ArgumentError for what is no filter or is not known here."""
    tests = [_term(part.strip()) for part in _AND.split(text) if part.strip()]
    return lambda asset: all(test(asset) for test in tests)


def _term(text: str) -> Test:
    if found := _INTERSECTS.fullmatch(text):
        return _intersects(found.group(1))
    if found := _PRESENCE.fullmatch(text):
        name = found.group(2)
        return lambda asset: name in asset.get("properties", {})
    if found := _COMPARISON.fullmatch(text):
        return _comparison(*found.groups())
    raise ArgumentError(
        f"Invalid filter: '{text}'. The local stand-in knows comparisons of properties.NAME, {', '.join(FIELDS)}, "
        'properties.NAME:* and intersects("GEOJSON"), joined by AND.'
    )


def _comparison(field: str, sign: str, written: str) -> Test:
    name = field.removeprefix("properties.").strip('"') if field.startswith("properties.") else ""
    if not name and field not in FIELDS:
        raise ArgumentError(f"Invalid filter: '{field}' is no field; use properties.NAME or {', '.join(FIELDS)}.")
    wanted = _value(written)
    compare = _OPERATORS[sign]

    def test(asset: Asset) -> bool:
        present = asset.get("properties", {}).get(name) if name else asset.get(field)
        if present is None:
            return False
        if field.endswith("Time"):
            return compare(_moment(str(present)), _moment(str(wanted)))
        if field == "sizeBytes":
            return compare(float(present), float(wanted))
        if isinstance(present, str) != isinstance(wanted, str):
            return sign == "!="
        return compare(present, wanted)

    return test


def _value(written: str) -> str | float:
    if written.startswith('"'):
        text: str = json.loads(written)
        return text
    try:
        return float(written)
    except ValueError:
        return written


def _moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text))
    except ValueError as error:
        raise ArgumentError(f"Invalid filter: '{text}' is not a time.") from error


def _intersects(written: str) -> Test:
    try:
        area = shape(json.loads(written.replace("'", '"')))
    except (ValueError, KeyError, AttributeError, TypeError, shapely.errors.ShapelyError) as error:
        raise ArgumentError(f"Invalid filter: '{written}' is no GeoJSON geometry.") from error
    return lambda asset: bool(asset.get("geometry")) and bool(shape(asset["geometry"]).intersects(area))
