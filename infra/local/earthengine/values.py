"""The server's other kinds of values: features, collections, dates, reducers' inputs and error margins."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from infra.local.earthengine.errors import ArgumentError
from infra.local.earthengine.geometry import Geometry
from infra.local.earthengine.image import Element

MAX_ELEMENTS = 5000
"""More elements than this are not sent to a client in one answer."""


@dataclass(frozen=True)
class Feature(Element):
    """A geometry with properties."""

    geometry: Geometry | None = None
    """None for a row without geometry."""

    def to_json(self) -> dict[str, Any]:
        """As `getInfo` shows it."""
        body: dict[str, Any] = {
            "type": "Feature",
            "geometry": None if self.geometry is None else self.geometry.to_json(),
            "properties": self.properties,
        }
        return body if self.id is None else {**body, "id": self.id}


@dataclass(frozen=True)
class Collection(Element):
    """An image collection or a feature collection: its elements are known, their pixels are not."""

    elements: tuple[Any, ...] = ()
    """Images or features, in order."""
    images: bool = True
    """Whether it is an image collection, also when it is empty."""
    version: int | None = None
    """Version of the asset."""

    def to_json(self) -> dict[str, Any]:
        """As `getInfo` shows it; at most MAX_ELEMENTS elements."""
        if len(self.elements) > MAX_ELEMENTS:
            raise ArgumentError(f"Collection query aborted after accumulating over {MAX_ELEMENTS} elements.")
        body: dict[str, Any] = {"type": "ImageCollection" if self.images else "FeatureCollection"}
        if self.id is not None:
            body["id"] = self.id
        if self.version is not None:
            body["version"] = self.version
        if self.images:
            body["bands"] = []
        else:
            body["columns"] = self._columns()
        if self.properties:
            body["properties"] = self.properties
        return {**body, "features": list(self.elements)}

    def _columns(self) -> dict[str, str]:
        columns: dict[str, str] = {}
        for name, value in (self.elements[0].properties if self.elements else {}).items():
            if name.startswith("system:"):
                continue
            kind = {bool: "Boolean", int: "Long", float: "Float", str: "String"}.get(type(value))
            if kind:
                columns[name] = kind
        return columns


@dataclass(frozen=True)
class Date:
    """An instant."""

    millis: int
    """Milliseconds since 1970-01-01 UTC."""

    def to_json(self) -> dict[str, Any]:
        """As `getInfo` shows it."""
        return {"type": "Date", "value": self.millis}

    @property
    def datetime(self) -> dt.datetime:
        """In UTC."""
        return dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(milliseconds=self.millis)

    @classmethod
    def parse(cls, text: str) -> Date:
        """From ISO 8601, UTC unless it says otherwise: `2018-09-06`, `2018-09`, `2018-09-06T03:07:59.3Z`."""
        value = text.strip()
        padded = f"{value}-01" if len(value) == 7 else f"{value}-01-01" if len(value) == 4 else value
        try:
            moment = dt.datetime.fromisoformat(padded)
        except ValueError as error:
            raise ArgumentError(f"Date: Bad date/time '{text}'.") from error
        aware = moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment
        return cls.of(aware)

    @classmethod
    def of(cls, moment: dt.datetime) -> Date:
        """From a datetime with a time zone."""
        return cls(round((moment - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) / dt.timedelta(milliseconds=1)))


@dataclass(frozen=True)
class DateRange:
    """A half-open interval of time [start, end)."""

    start: Date | None
    """None: from the beginning of time."""
    end: Date | None
    """None: to the end of time."""

    def contains(self, millis: float) -> bool:
        """Whether an instant lies in it."""
        after = self.start is None or millis >= self.start.millis
        return after and (self.end is None or millis < self.end.millis)

    def to_json(self) -> dict[str, Any]:
        """As `getInfo` shows it."""
        return {"type": "DateRange", "dates": [None if d is None else d.millis for d in (self.start, self.end)]}


@dataclass(frozen=True)
class ErrorMargin:
    """How far a geometry operation may be off."""

    value: float | None
    """In `unit`."""
    unit: str = "meters"
    """`meters`, `projected` or `infinite`."""

    def to_json(self) -> dict[str, Any]:
        """As `getInfo` shows it."""
        return {"type": "ErrorMargin", "value": self.value, "unit": self.unit}


@dataclass(frozen=True)
class Function:
    """A function of the expression, as `map` and `iterate` take it."""

    names: tuple[str, ...]
    """Names of its arguments."""
    call: Callable[..., Any] = field(compare=False)
    """Takes the arguments in order."""

    def __call__(self, *args: Any) -> Any:
        """Apply it."""
        if len(args) != len(self.names):
            raise ArgumentError(f"A function of {len(self.names)} arguments was called with {len(args)}.")
        return self.call(*args)


def to_json(value: Any) -> Any:
    """A value as the plain JSON that `value:compute` answers."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [to_json(v) for v in value]
    if isinstance(value, dict):
        return {str(k): to_json(v) for k, v in value.items()}
    shown = getattr(value, "to_json", None)
    if shown is None:
        raise ArgumentError(f"A value of type {type(value).__name__} cannot be sent to a client.")
    return to_json(shown())
