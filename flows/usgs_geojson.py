"""Reads the USGS's GeoJSON: feeds, FDSN queries and event details. Pure, and trusts nothing in what it reads."""

from __future__ import annotations

import datetime as dt
import json
import math
import re
from typing import Any, NoReturn

from flows.errors import EventError
from flows.event import KEPT_PRODUCTS, EarthquakeEvent, EventSummary, ProductRef

EVENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
"""What an event id may look like; ids become object keys and file names, so nothing else is let in."""

SIMULATED_PROPERTY = "quakeslide:simulated"
MAX_TEXT = 500
MAX_IDS = 200
MAX_PRODUCT_VERSIONS = 2000
MAX_PRODUCT_ITEMS = 1000
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")


def parse_json(body: bytes, what: str) -> Any:
    """The JSON value in `body`. Raises `EventError` naming `what` for no JSON, NaN, bottomless nesting."""

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not JSON")

    try:
        return json.loads(body, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        reason = str(error)[:200] or type(error).__name__
        raise EventError(f"{what} is not JSON: {reason}") from error


def parse_feed(value: Any, what: str = "the feed") -> tuple[list[EventSummary], list[str]]:
    """The events of a feed or query, and one line for each entry that cannot be read.

    One spoilt entry does not hide the others. Raises `EventError` when `value` is no feature collection at all.
    """
    features = value.get("features") if isinstance(value, dict) else None
    if not isinstance(features, list):
        raise EventError(f"{what} is not a GeoJSON feature collection: it has no list `features`")
    events: list[EventSummary] = []
    rejected: list[str] = []
    for number, feature in enumerate(features):
        try:
            events.append(parse_summary(feature))
        except EventError as error:
            rejected.append(f"entry {number} of {what}: {error}")
    return events, rejected


def parse_summary(feature: Any) -> EventSummary:
    """One feature of a feed or query.

    What a record may lack (magnitude, place, coordinates of a deleted event) is None; what it has must be of its
    type. Raises `EventError` otherwise.
    """
    if not isinstance(feature, dict) or not isinstance(feature.get("properties"), dict):
        raise EventError("an event record is not a GeoJSON feature with properties")
    event_id = feature.get("id")
    if not isinstance(event_id, str) or not EVENT_ID.fullmatch(event_id):
        raise EventError(f"an event record has the unusable id {str(event_id)[:80]!r}")
    known = feature["properties"]
    lon, lat, depth_km = _coordinates(feature.get("geometry"), event_id)
    updated = _time(known.get("updated"), "updated", event_id)
    time = _time(known.get("time"), "time", event_id)
    if updated is None and time is None:
        raise EventError(f"event {event_id} has neither a time nor a time of update")
    magnitude = _number(known.get("mag"), "mag", event_id)
    if magnitude is not None and not -5 <= magnitude <= 11:
        raise EventError(f"event {event_id} has the impossible magnitude {magnitude:g}")
    return EventSummary(
        id=event_id,
        ids=_alias_ids(known.get("ids"), event_id),
        time=time,
        updated=updated or time or _EPOCH,
        lon=lon,
        lat=lat,
        depth_km=depth_km,
        magnitude=magnitude,
        magnitude_type=_text(known.get("magType")),
        place=_text(known.get("place")),
        title=_text(known.get("title")),
        status=_text(known.get("status")).lower(),
        alert=_text(known.get("alert")).lower() or None,
        event_type=_text(known.get("type")).lower() or "earthquake",
        simulated=known.get(SIMULATED_PROPERTY) is True,
        product_types=_types(known.get("types")),
    )


def parse_detail(value: Any) -> EarthquakeEvent:
    """An event detail.

    Raises `EventError` when the record has no time, coordinates or magnitude (the message says which), or when it is
    not an event record at all. A deleted event that is still complete is returned with its status.
    """
    known = parse_summary(value)
    if known.time is None:
        raise EventError(f"event {known.id} has no origin time in the USGS record: it cannot be mapped yet")
    if known.lon is None or known.lat is None:
        raise EventError(f"event {known.id} has no coordinates in the USGS record: it cannot be mapped yet")
    if known.magnitude is None:
        raise EventError(f"event {known.id} has no magnitude in the USGS record: wait until it is determined")
    return EarthquakeEvent(
        id=known.id,
        ids=known.ids,
        time=known.time,
        updated=known.updated,
        lon=known.lon,
        lat=known.lat,
        depth_km=known.depth_km,
        magnitude=known.magnitude,
        magnitude_type=known.magnitude_type,
        place=known.place,
        title=known.title or f"M {known.magnitude:.1f} - {known.place or known.id}",
        status=known.status,
        alert=known.alert,
        event_type=known.event_type,
        simulated=known.simulated,
        products=_products(value["properties"].get("products"), known.id),
    )


def _products(value: Any, event_id: str) -> tuple[ProductRef, ...]:
    """Every readable version of the kept product types, oldest first; an unreadable one counts as not there."""
    if not isinstance(value, dict):
        return ()
    found: list[ProductRef] = []
    for product_type in KEPT_PRODUCTS:
        versions = value.get(product_type)
        if isinstance(versions, list):
            found += [
                p for v in versions[:MAX_PRODUCT_VERSIONS] if (p := _product(v, product_type, event_id)) is not None
            ]
    return tuple(sorted(found, key=lambda p: (p.updated, p.identity)))


def _product(value: Any, product_type: str, event_id: str) -> ProductRef | None:
    """One version of a product, None when what makes its identity is missing."""
    if not isinstance(value, dict):
        return None
    source, code = _text(value.get("source")), _text(value.get("code"))
    try:
        updated = _time(value.get("updateTime"), "updateTime", event_id)
        weight = _number(value.get("preferredWeight"), "preferredWeight", event_id)
    except EventError:
        return None
    if not source or not code or updated is None:
        return None
    own = value.get("properties")
    texts = {_text(k): _text(v) for k, v in list(own.items())[:MAX_PRODUCT_ITEMS]} if isinstance(own, dict) else {}
    return ProductRef(
        source=source,
        type=product_type,
        code=code,
        updated=updated,
        version=texts.get("version", ""),
        status=_text(value.get("status")) or "UPDATE",
        preferred_weight=int(weight or 0),
        contents=_contents(value.get("contents")),
        properties=tuple(sorted(texts.items())),
    )


def _contents(value: Any) -> tuple[tuple[str, str], ...]:
    """Name and address of a product's files, sorted by name."""
    if not isinstance(value, dict):
        return ()
    files = {
        _text(name): _text(entry.get("url"))
        for name, entry in list(value.items())[:MAX_PRODUCT_ITEMS]
        if isinstance(entry, dict)
    }
    return tuple(sorted((name, url) for name, url in files.items() if name and url))


def _coordinates(geometry: Any, event_id: str) -> tuple[float | None, float | None, float | None]:
    """Longitude, latitude (deg) and depth (km) of a GeoJSON point; None for what is null."""
    if geometry is None:
        return None, None, None
    values = geometry.get("coordinates") if isinstance(geometry, dict) else None
    if not isinstance(values, list) or not 2 <= len(values) <= 3:
        raise EventError(f"event {event_id} has no point for a geometry")
    lon, lat, depth_km = (_number(v, "coordinates", event_id) for v in (*values, None)[:3])
    if lon is None or lat is None:
        return None, None, depth_km
    if not -90 <= lat <= 90 or not -360 <= lon <= 360:
        raise EventError(f"event {event_id} lies at the impossible longitude {lon:g}, latitude {lat:g}")
    if depth_km is not None and not -20 <= depth_km <= 1000:
        raise EventError(f"event {event_id} has the impossible depth {depth_km:g} km")
    return (lon if -180 <= lon <= 180 else (lon + 180) % 360 - 180), lat, depth_km


def _alias_ids(value: Any, event_id: str) -> tuple[str, ...]:
    """The ids of a `,a,b,` list without those that no id can look like; the preferred id is always among them."""
    listed = value.split(",")[:MAX_IDS] if isinstance(value, str) else []
    ids = dict.fromkeys(i for i in listed if EVENT_ID.fullmatch(i))
    return tuple(ids) if event_id in ids else (event_id, *ids)


def _types(value: Any) -> tuple[str, ...]:
    """The product types of a `,a,b,` list."""
    listed = value.split(",")[:MAX_PRODUCT_ITEMS] if isinstance(value, str) else []
    return tuple(dict.fromkeys(name for part in listed if (name := _text(part))))


def _number(value: Any, name: str, event_id: str) -> float | None:
    """A finite number or None. JSON's 1e999 becomes infinite when read, so finiteness is checked here."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise EventError(f"event {event_id} has {str(value)[:80]!r} for `{name}`, not a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise EventError(f"event {event_id} has a `{name}` that is not finite")
    return number


def _time(value: Any, name: str, event_id: str) -> dt.datetime | None:
    """Milliseconds since 1970 as UTC, None for null. Times before 1970 are negative."""
    milliseconds = _number(value, name, event_id)
    if milliseconds is None:
        return None
    try:
        return _EPOCH + dt.timedelta(milliseconds=round(milliseconds))
    except OverflowError as error:
        raise EventError(f"event {event_id} has the impossible `{name}` {milliseconds:g}") from error


def _text(value: Any) -> str:
    """A short line of text without control characters; empty for anything that is not text or a number."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    return _CONTROL.sub(" ", str(value))[:MAX_TEXT].strip()
