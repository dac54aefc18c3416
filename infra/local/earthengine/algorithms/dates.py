"""Dates and intervals of time. All dates are UTC; other time zones are refused."""

from __future__ import annotations

import calendar
import datetime as dt
import re
from collections.abc import Callable
from functools import partial
from typing import Any

from infra.local.earthengine.algorithms.filters import CALENDAR
from infra.local.earthengine.algorithms.registry import algorithm, register
from infra.local.earthengine.errors import ArgumentError
from infra.local.earthengine.promote import Mismatch, to_date
from infra.local.earthengine.values import Date, DateRange

MILLIS = {"week": 604_800_000, "day": 86_400_000, "hour": 3_600_000, "minute": 60_000, "second": 1000}
"""Units of fixed length in milliseconds."""
MEAN_MILLIS = {**MILLIS, "month": 2_629_746_000, "year": 31_556_952_000}
"""With the mean lengths of the Gregorian calendar's months and years."""


def _utc(timeZone: str | None) -> None:
    if timeZone not in (None, "UTC", "GMT", "Z"):
        raise ArgumentError(f"Date: The time zone '{timeZone}' is not known to the local stand-in; use UTC.")


def _unit(unit: str, caller: str) -> str:
    name = unit.rstrip("s") if unit not in MEAN_MILLIS else unit
    if name not in MEAN_MILLIS:
        raise ArgumentError(f"{caller}: Unknown unit '{unit}'; use one of {', '.join(MEAN_MILLIS)}.")
    return name


def as_date(value: Any, caller: str) -> Date:
    """A date from a date, milliseconds or text."""
    try:
        return to_date(value)
    except Mismatch as error:
        raise ArgumentError(f"{caller}: Not a date: {value!r}.") from error


@algorithm("Date")
def date(value: Any, timeZone: str | None = None) -> Date:
    """A date from milliseconds or text."""
    _utc(timeZone)
    return as_date(value, "Date")


@algorithm("Date.fromYMD")
def from_ymd(year: int, month: int, day: int, timeZone: str | None = None) -> Date:
    """Midnight of a day."""
    _utc(timeZone)
    try:
        return Date.of(dt.datetime(year, month, day, tzinfo=dt.UTC))
    except ValueError as error:
        raise ArgumentError(f"Date.fromYMD: {year}-{month}-{day} is not a date: {error}.") from error


@algorithm("Date.millis")
def millis(date: Date) -> int:
    """Milliseconds since 1970."""
    return date.millis


@algorithm("Date.advance")
def advance(date: Date, delta: float, unit: str, timeZone: str | None = None) -> Date:
    """A later or earlier date; months and years keep the day of the month where that exists."""
    _utc(timeZone)
    name = _unit(unit, "Date.advance")
    if name in MILLIS:
        return Date(date.millis + round(delta * MILLIS[name]))
    if not float(delta).is_integer():
        return Date(date.millis + round(delta * MEAN_MILLIS[name]))
    moment = date.datetime
    months = moment.year * 12 + moment.month - 1 + int(delta) * (12 if name == "year" else 1)
    year, month = divmod(months, 12)
    day = min(moment.day, calendar.monthrange(year, month + 1)[1])
    return Date.of(moment.replace(year=year, month=month + 1, day=day))


@algorithm("Date.difference")
def difference(date: Date, start: Date, unit: str) -> float:
    """Time between two dates in units; months and years have their mean length."""
    return (date.millis - start.millis) / MEAN_MILLIS[_unit(unit, "Date.difference")]


@algorithm("Date.get")
def get(date: Date, unit: str, timeZone: str | None = None) -> int:
    """A calendar field."""
    _utc(timeZone)
    fields: dict[str, Callable[[dt.datetime], int]] = {
        **CALENDAR,
        "day": lambda t: t.day,
        "second": lambda t: t.second,
        "week": lambda t: t.isocalendar().week,
    }
    if unit not in fields:
        raise ArgumentError(f"Date.get: Unknown unit '{unit}'; use one of {', '.join(fields)}.")
    return fields[unit](date.datetime)


def _start_of(moment: dt.datetime, unit: str) -> dt.datetime:
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    starts = {
        "year": midnight.replace(month=1, day=1),
        "month": midnight.replace(day=1),
        "week": midnight - dt.timedelta(days=moment.weekday()),
        "day": midnight,
        "hour": moment.replace(minute=0, second=0, microsecond=0),
        "minute": moment.replace(second=0, microsecond=0),
        "second": moment.replace(microsecond=0),
    }
    return starts[unit]


@algorithm("Date.getRelative")
def get_relative(date: Date, unit: str, inUnit: str, timeZone: str | None = None) -> int:
    """How many whole units lie between the start of the enclosing unit and the date; the day of the year from 0."""
    _utc(timeZone)
    inner, outer = _unit(unit, "Date.getRelative"), _unit(inUnit, "Date.getRelative")
    moment = date.datetime
    start = _start_of(moment, outer)
    if inner == "month":
        return (moment.year - start.year) * 12 + moment.month - start.month
    return int((moment - start) / dt.timedelta(milliseconds=MEAN_MILLIS[inner]))


@algorithm("Date.getRange")
def get_range(date: Date, unit: str, timeZone: str | None = None) -> DateRange:
    """The unit of time that the date lies in."""
    _utc(timeZone)
    start = Date.of(_start_of(date.datetime, _unit(unit, "Date.getRange")))
    return DateRange(start, advance(start, 1, unit))


JODA = {
    "YYYY": "{0.year:04d}",
    "yyyy": "{0.year:04d}",
    "YY": "{0:%y}",
    "yy": "{0:%y}",
    "MMM": "{0:%b}",
    "MM": "{0.month:02d}",
    "M": "{0.month}",
    "dd": "{0.day:02d}",
    "d": "{0.day}",
    "DDD": "{0:%j}",
    "D": "{0:%-j}",
    "HH": "{0.hour:02d}",
    "H": "{0.hour}",
    "mm": "{0.minute:02d}",
    "m": "{0.minute}",
    "ss": "{0.second:02d}",
    "s": "{0.second}",
    "SSS": "{1:03d}",
}
"""Letters of Joda time patterns."""


@algorithm("Date.format")
def format_date(date: Date, format: str | None = None, timeZone: str | None = None) -> str:
    """Text by a Joda time pattern; ISO 8601 by default."""
    _utc(timeZone)
    moment = date.datetime
    if format is None:
        return moment.strftime("%Y-%m-%dT%H:%M:%S")

    def replaced(match: re.Match[str]) -> str:
        text = match.group(0)
        if text.startswith("'"):
            return text[1:-1] or "'"
        if text not in JODA:
            raise ArgumentError(f"Date.format: The pattern '{text}' is not known to the local stand-in.")
        return JODA[text].format(moment, date.millis % 1000)

    return re.sub(r"'[^']*'|([A-Za-z])\1*", replaced, format)


@algorithm("Date.parse")
def parse(format: str, date: str, timeZone: str | None = None) -> Date:
    """A date from text by a Joda time pattern of digits."""
    _utc(timeZone)
    pattern = format
    for joda, strptime in (
        ("YYYY", "%Y"),
        ("yyyy", "%Y"),
        ("MM", "%m"),
        ("dd", "%d"),
        ("HH", "%H"),
        ("mm", "%M"),
        ("ss", "%S"),
    ):
        pattern = pattern.replace(joda, strptime)
    try:
        return Date.of(dt.datetime.strptime(date, pattern.replace("'", "")).replace(tzinfo=dt.UTC))
    except ValueError as error:
        raise ArgumentError(f"Date.parse: '{date}' does not match the pattern '{format}'.") from error


@algorithm("DateRange")
def date_range(start: Any, end: Any = None, timeZone: str | None = None) -> DateRange:
    """The interval [start, end); without an end one millisecond."""
    _utc(timeZone)
    if isinstance(start, DateRange):
        return start
    first = as_date(start, "DateRange")
    last = Date(first.millis + 1) if end is None else as_date(end, "DateRange")
    if last.millis <= first.millis:
        raise ArgumentError("DateRange: Invalid range: start must be before end (Empty date ranges not supported).")
    return DateRange(first, last)


@algorithm("DateRange.start")
def range_start(dateRange: DateRange) -> Date | None:
    """The first instant."""
    return dateRange.start


@algorithm("DateRange.end")
def range_end(dateRange: DateRange) -> Date | None:
    """The first instant after it."""
    return dateRange.end


@algorithm("DateRange.contains")
def range_contains(dateRange: DateRange, other: Any) -> bool:
    """Whether a date lies in it."""
    return dateRange.contains(as_date(other, "DateRange.contains").millis)


def _ends(value: DateRange) -> tuple[float, float]:
    first = -float("inf") if value.start is None else value.start.millis
    return first, float("inf") if value.end is None else value.end.millis


def _combined(dateRange: DateRange, other: DateRange, *, union: bool) -> DateRange:
    """The interval that spans both, or that both have in common."""
    (a0, a1), (b0, b1) = _ends(dateRange), _ends(other)
    first, last = (min(a0, b0), max(a1, b1)) if union else (max(a0, b0), min(a1, b1))
    return DateRange(
        None if first == -float("inf") else Date(int(first)), None if last == float("inf") else Date(int(last))
    )


register("DateRange.union", partial(_combined, union=True))
register("DateRange.intersection", partial(_combined, union=False))


@algorithm("DateRange.intersects")
def range_intersects(dateRange: DateRange, other: DateRange) -> bool:
    """Whether they have an instant in common."""
    (a0, a1), (b0, b1) = _ends(dateRange), _ends(other)
    return max(a0, b0) < min(a1, b1)
