"""Earthquakes as ComCat records them, and how a newer record of the same quake changes an older one.

A record is a GeoJSON Feature as the service writes it. The *detail* of an event holds all its products (ShakeMap,
ground failure, ...) in every version; the *summary* is the same Feature without them. A product's identity is its
source, type and code; its `updateTime` is its version, and a version with status DELETE withdraws it.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

EVENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
DELETED = "deleted"


class RecordError(ValueError):
    """A Feature is not an event; the message says why."""


@dataclass(frozen=True)
class Event:
    """One earthquake."""

    id: str
    """The preferred id."""
    aliases: frozenset[str]
    """Every id that it is or was known by, the preferred one among them."""
    time_ms: int
    """Origin time, milliseconds since 1970, UTC."""
    updated_ms: int
    """When the record was last changed, milliseconds since 1970."""
    lon_lat_depth: tuple[float, float, float]
    """Degrees, degrees, kilometres."""
    magnitude: float | None
    """None while it is not determined."""
    feature: Json
    """The record."""

    @property
    def deleted(self) -> bool:
        """Whether the event was withdrawn."""
        return bool(self.feature["properties"].get("status") == DELETED)

    @property
    def has_products(self) -> bool:
        """Whether the record is a detail rather than a summary."""
        return "products" in self.feature["properties"]

    def property(self, name: str) -> Any:
        """A field of the record's properties, None when it has none."""
        return self.feature["properties"].get(name)


def read_event(feature: Any) -> Event:
    """Read a Feature; raises `RecordError` when something that every event has is missing or of the wrong type."""
    try:
        properties = feature["properties"]
        event_id = feature["id"]
        longitude, latitude, depth = (float(v or 0.0) for v in feature["geometry"]["coordinates"])
        magnitude = properties.get("mag")
        listed = str(properties.get("ids") or "").split(",")
        event = Event(
            id=event_id,
            aliases=frozenset({event_id, *(part for part in listed if part)}),
            time_ms=int(properties["time"]),
            updated_ms=int(properties["updated"]),
            lon_lat_depth=(longitude, latitude, depth),
            magnitude=None if magnitude is None else float(magnitude),
            feature=feature,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RecordError(f"not a USGS event: {type(error).__name__} {error}") from None
    for alias in event.aliases:
        if not EVENT_ID.fullmatch(alias):
            raise RecordError(f"{alias[:80]!r} is not an event id")
    if not (-90 <= latitude <= 90 and -360 <= longitude <= 360):
        raise RecordError(f"event {event_id} lies at {longitude}, {latitude}")
    if not _well_formed(properties.get("products", {})):
        raise RecordError(f"the products of event {event_id} are not lists by type")
    return event


def _well_formed(products: Any) -> bool:
    return isinstance(products, dict) and all(
        isinstance(versions, list)
        and all(isinstance(p, dict) and isinstance(p.get("updateTime", 0), int) for p in versions)
        and all(isinstance(p.get("preferredWeight", 0), int) for p in versions)
        for versions in products.values()
    )


def merge(older: Event, newer: Event) -> Event:
    """`newer` with every id and product version that `older` had; its own id is the preferred one."""
    aliases = sorted((older.aliases | newer.aliases) - {newer.id})
    feature = copy.deepcopy(newer.feature)
    feature["properties"]["ids"] = f",{','.join([newer.id, *aliases])},"
    if older.has_products:
        products: dict[str, list[Json]] = feature["properties"].setdefault("products", {})
        for kind, versions in older.feature["properties"]["products"].items():
            known = {_version(product) for product in products.get(kind, [])}
            products.setdefault(kind, []).extend(copy.deepcopy([p for p in versions if _version(p) not in known]))
    return read_event(feature)


def withdraw(event: Event, now_ms: int) -> Event:
    """`event`, deleted at `now_ms`."""
    feature = copy.deepcopy(event.feature)
    feature["properties"] |= {"status": DELETED, "updated": max(now_ms, event.updated_ms + 1)}
    return read_event(feature)


def summary(event: Event, detail_url: str) -> Json:
    """The Feature as feeds and searches show it."""
    properties = {key: value for key, value in event.feature["properties"].items() if key != "products"}
    return {
        "type": "Feature",
        "properties": {**properties, "detail": detail_url},
        "geometry": event.feature["geometry"],
        "id": event.id,
    }


def detail(event: Event, *, superseded: bool = False, deleted: bool = False) -> Json:
    """The Feature with its products, the preferred one of each type first.

    Only the newest version of each product, without withdrawn ones; `superseded` shows every version, `deleted` the
    withdrawn ones too.
    """
    products: dict[str, list[Json]] = {}
    for kind, versions in event.feature["properties"].get("products", {}).items():
        shown = versions if superseded else _newest(versions)
        if not (deleted or superseded):
            shown = [product for product in shown if product.get("status") != "DELETE"]
        if shown:
            products[kind] = sorted(shown, key=_current_first(versions))
    return {**event.feature, "properties": {**event.feature["properties"], "products": products}}


def _version(product: Json) -> tuple[Any, Any, Any]:
    return product.get("source"), product.get("code"), product.get("updateTime")


def _newest(versions: Iterable[Json]) -> list[Json]:
    latest: dict[tuple[Any, Any], Json] = {}
    for product in versions:
        key = product.get("source"), product.get("code")
        if key not in latest or product.get("updateTime", 0) > latest[key].get("updateTime", 0):
            latest[key] = product
    return list(latest.values())


def _current_first(versions: list[Json]) -> Any:
    current = {_version(product) for product in _newest(versions)}
    return lambda p: (_version(p) not in current, -p.get("preferredWeight", 0), -p.get("updateTime", 0))
