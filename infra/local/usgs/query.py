"""The FDSN event service's search: its parameters, read strictly, and which events match."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from infra.local.usgs.events import Event

MAX_EVENTS = 20_000
DEFAULT_DAYS = 30
EARTH_RADIUS_KM = 6371.0
_ORDERS: dict[str, tuple[Callable[[Event], float], bool]] = {
    "time": (lambda e: e.time_ms, True),
    "time-asc": (lambda e: e.time_ms, False),
    "magnitude": (lambda e: -math.inf if e.magnitude is None else e.magnitude, True),
    "magnitude-asc": (lambda e: -math.inf if e.magnitude is None else e.magnitude, False),
}


class QueryError(ValueError):
    """A parameter is unknown, malformed, or not evaluated by the stand-in."""


@dataclass(frozen=True)
class Query:
    """A search. None means that the client did not say. Names are those of the service."""

    format: str | None = None
    """Format of the answer; `geojson` for searches, `text` or `geojson` for counts."""
    eventid: str | None = None
    """Any id of one event, whose detail is the answer."""
    includesuperseded: bool = False
    """Show every version of every product; with `eventid` only."""
    includedeleted: bool = False
    """Find withdrawn events and products too."""
    starttime: dt.datetime | None = None
    """Not before; default 30 days ago."""
    endtime: dt.datetime | None = None
    """Not after; default now."""
    updatedafter: dt.datetime | None = None
    """Changed after."""
    minmagnitude: float | None = None
    """At least this magnitude."""
    maxmagnitude: float | None = None
    """At most this magnitude."""
    mindepth: float | None = None
    """At least this depth in km."""
    maxdepth: float | None = None
    """At most this depth in km."""
    minlatitude: float = -90.0
    """South edge in degrees."""
    maxlatitude: float = 90.0
    """North edge in degrees."""
    minlongitude: float = -180.0
    """West edge in degrees; -360 to 360, so that a box may cross the antimeridian."""
    maxlongitude: float = 180.0
    """East edge in degrees."""
    latitude: float | None = None
    """Centre of a circle."""
    longitude: float | None = None
    """Centre of a circle."""
    maxradiuskm: float | None = None
    """Radius of the circle in km."""
    maxradius: float | None = None
    """Radius of the circle in degrees of arc."""
    minsig: float | None = None
    """At least this significance."""
    alertlevel: str | None = None
    """PAGER alert level."""
    producttype: str | None = None
    """Has a product of this type."""
    eventtype: str | None = None
    """`earthquake` and the like."""
    reviewstatus: str | None = None
    """`automatic` or `reviewed`."""
    catalog: str | None = None
    """One of the event's networks."""
    limit: int | None = None
    """At most so many events."""
    offset: int | None = None
    """Begin at this event, counted from 1."""
    orderby: str = "time"
    """`time`, `time-asc`, `magnitude` or `magnitude-asc`."""
    nodata: int = 204
    """Status when `format` is not geojson and nothing matches; accepted, without effect on geojson."""

    @classmethod
    def parse(cls, parameters: Mapping[str, str]) -> Query:
        """Read a query string; raises `QueryError`."""
        kinds = {field.name: str(field.type) for field in fields(cls)}
        values: dict[str, Any] = {}
        for name, text in parameters.items():
            if name not in kinds:
                raise QueryError(f'Unknown parameter "{name}".')
            values[name] = _value(name, text, kinds[name])
        query = cls(**values)
        query._check()
        return query

    def _check(self) -> None:
        if self.includesuperseded and self.includedeleted:
            raise QueryError("includesuperseded and includedeleted are mutually exclusive.")
        if self.includesuperseded and self.eventid is None:
            raise QueryError("includesuperseded only works for queries by eventid.")
        if self.orderby not in _ORDERS:
            raise QueryError(f'Bad orderby value "{self.orderby}". Valid values are {", ".join(_ORDERS)}.')
        if self.limit is not None and not 1 <= self.limit <= MAX_EVENTS:
            raise QueryError(f'Bad limit value "{self.limit}". Valid values are 1 to {MAX_EVENTS}.')
        if self.offset is not None and self.offset < 1:
            raise QueryError(f'Bad offset value "{self.offset}". Valid values are 1 and above.')
        if self.minlatitude > self.maxlatitude or self.minlongitude > self.maxlongitude:
            raise QueryError("The minimum latitude and longitude must not exceed the maximum.")
        circle = [self.latitude, self.longitude, self.maxradiuskm if self.maxradius is None else self.maxradius]
        if any(v is None for v in circle) and any(v is not None for v in circle):
            raise QueryError("A circle needs latitude, longitude and maxradiuskm (or maxradius).")

    def select(self, events: Iterable[Event], now: dt.datetime) -> list[Event]:
        """The matching events in order, before `offset` and `limit`."""
        key, descending = _ORDERS[self.orderby]
        return sorted((event for event in events if self.matches(event, now)), key=key, reverse=descending)

    def page(self, selected: list[Event]) -> list[Event]:
        """What `offset` and `limit` leave; raises `QueryError` when that is more than the service hands out."""
        first = (self.offset or 1) - 1
        shown = selected[first : None if self.limit is None else first + self.limit]
        if len(shown) > MAX_EVENTS:
            raise QueryError(f"{len(shown)} matching events exceed search limit of {MAX_EVENTS}. Modify the search.")
        return shown

    def matches(self, event: Event, now: dt.datetime) -> bool:
        """Whether `event` is what the query asks for."""
        start = self.starttime or now - dt.timedelta(days=DEFAULT_DAYS)
        longitude, latitude, depth = event.lon_lat_depth
        return (
            _milliseconds(start) <= event.time_ms <= _milliseconds(self.endtime or now)
            and (self.updatedafter is None or event.updated_ms > _milliseconds(self.updatedafter))
            and (self.includedeleted or not event.deleted)
            and _within(event.magnitude, self.minmagnitude, self.maxmagnitude)
            and _within(depth, self.mindepth, self.maxdepth)
            and self.minlatitude <= latitude <= self.maxlatitude
            and any(self.minlongitude <= longitude + turn <= self.maxlongitude for turn in (-360, 0, 360))
            and self._in_circle(longitude, latitude)
            and _within(float(event.property("sig") or 0), self.minsig, None)
            and self._in_words(event)
        )

    def _in_circle(self, longitude: float, latitude: float) -> bool:
        if self.latitude is None or self.longitude is None:
            return True
        a, b, turn = math.radians(latitude), math.radians(self.latitude), math.radians(longitude - self.longitude)
        half = math.sin((a - b) / 2) ** 2 + math.cos(a) * math.cos(b) * math.sin(turn / 2) ** 2
        arc = 2 * math.asin(math.sqrt(min(1.0, half)))
        if self.maxradius is not None:
            return math.degrees(arc) <= self.maxradius
        return arc * EARTH_RADIUS_KM <= (self.maxradiuskm or 0.0)

    def _in_words(self, event: Event) -> bool:
        return (
            self.alertlevel in (None, event.property("alert"))
            and self.eventtype in (None, event.property("type"))
            and self.reviewstatus in (None, "all", event.property("status"))
            and (self.producttype is None or self.producttype in str(event.property("types")).split(","))
            and (self.catalog is None or self.catalog in str(event.property("sources")).split(","))
        )


def _within(value: float | None, low: float | None, high: float | None) -> bool:
    if low is None and high is None:
        return True
    return value is not None and (low is None or value >= low) and (high is None or value <= high)


def _milliseconds(time: dt.datetime) -> float:
    return time.timestamp() * 1000


def _value(name: str, text: str, kind: str) -> Any:
    try:
        if kind.startswith("dt.datetime"):
            time = dt.datetime.fromisoformat(text)
            return time if time.tzinfo else time.replace(tzinfo=dt.UTC)
        if kind.startswith("float"):
            number = float(text)
            if not math.isfinite(number):
                raise ValueError
            return number
        if kind.startswith("int"):
            return int(text)
        if kind == "bool":
            return {"true": True, "false": False}[text.lower()]
    except (ValueError, KeyError):
        valid = {"d": "ISO-8601 timestamps", "f": "numbers", "i": "integers", "b": "true, false"}[kind[0]]
        raise QueryError(f'Bad {name} value "{text[:80]}". Valid values are {valid}.') from None
    return text
