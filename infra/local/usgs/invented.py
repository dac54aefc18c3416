"""Earthquakes that never happened, and an hour and a half of a feed with everything that real ones do to it.

Every record says that it is simulated: a property of it, and its title.
"""

from __future__ import annotations

import copy
import datetime as dt
from typing import Any

from infra.local.usgs.events import Json
from infra.local.usgs.storyline import Beat, record_beat, to_ms

SIMULATED = {"quakeslide:simulated": True}
SERVICE = "^/(earthquakes|fdsnws|product)/"
"""What the real service answers to, for faults; the stand-in's control stays as it is."""


def quake(
    event_id: str,
    time: dt.datetime,
    lon_lat_depth: tuple[float, float, float],
    magnitude: float | None,
    *,
    updated: dt.datetime | None = None,
    ids: tuple[str, ...] = (),
    **properties: Any,
) -> Json:
    """The record of an invented earthquake without products, as a feed lists it a minute after it."""
    known: dict[str, Any] = {
        "mag": magnitude, "place": "simulated place", "time": to_ms(time),
        "updated": to_ms(updated or time + dt.timedelta(minutes=1)), "ids": f",{','.join((event_id, *ids))},",
        "sources": f",{event_id[:2]},", "types": ",origin,", "status": "automatic", "alert": None, "magType": "mww",
        "type": "earthquake", "sig": 500, "net": event_id[:2], "code": event_id[2:],
        "title": _title(magnitude), "products": {}, **SIMULATED,
    }  # fmt: skip
    point = {"type": "Point", "coordinates": list(lon_lat_depth)}
    return {"type": "Feature", "id": event_id, "geometry": point, "properties": known | properties}


def revised(record: Json, at: dt.datetime, event_id: str = "", **properties: Any) -> Json:
    """A newer record of an earthquake; with `event_id` under another preferred id, the old ones among its ids."""
    newer = copy.deepcopy(record)
    newer["properties"] |= {"updated": to_ms(at), **properties}
    if "mag" in properties:
        newer["properties"]["title"] = _title(properties["mag"])
    if event_id:
        newer["id"] = event_id
        newer["properties"]["ids"] = f",{event_id}{newer['properties']['ids']}"
    return newer


def with_product(
    record: Json, at: dt.datetime, kind: str, *, version: str, status: str = "UPDATE", **properties: str
) -> Json:
    """A newer record of an earthquake with a further version of a product, for example a `ground-failure`."""
    newer = revised(record, at)
    sent = {
        "type": kind, "source": "sim", "code": record["id"], "updateTime": to_ms(at), "status": status,
        "preferredWeight": 1, "properties": {"version": version, **properties}, "contents": {},
    }  # fmt: skip
    products = newer["properties"]["products"]
    products[kind] = [*products.get(kind, []), sent]
    newer["properties"]["types"] = f",{','.join(sorted({'origin', *products}))},"
    return newer


def ground_failure(record: Json, at: dt.datetime, alert: str, hazard_km2: float, version: str = "1") -> Json:
    """A newer record with a ground-failure product of a landslide alert and hazard."""
    values = {"landslide-alert": alert, "landslide-hazard-alert-value": f"{hazard_km2}"}
    return with_product(record, at, "ground-failure", version=version, **values)


def ninety_minutes(start: dt.datetime) -> list[Beat]:
    """A busy hour and a half; what is to come of it, by event:

    | event | what happens | what is to come of it |
    |---|---|---|
    | sima1 | M 6.4, then a ShakeMap, then an orange alert | one campaign |
    | simb1, atb1 | one earthquake, two networks, put together later | one campaign |
    | simc1, simd1 | M 6.1 and M 6.0 within 5 s and 60 km, side by side | two earthquakes |
    | sime1 | M 5.4, then 5.6, then 5.3 | opened and closed |
    | simf1 | M 5.8, then 5.2, then 5.9 | opened, closed, opened again |
    | simg1 | M 6.8 that was none: deleted | withdrawn |
    | simh1, simh2 | deleted, and listed again under an id that shares none with the first | one campaign |
    | simi1 | M 6.0 in 400 km depth | nothing |
    | simj1 | M 7.0 with a green alert | nothing after it |
    | simk1 | M 5.1 with a yellow alert | one campaign |
    | sima2 | M 5.7 aftershock beside sima1 | joins it |
    | siml1 | a blast of M 5.6 | nothing |
    | simm1 | M 6.2 while the service is out of order | one campaign |
    """

    def at(minutes: float) -> dt.datetime:
        return start + dt.timedelta(minutes=minutes)

    a1 = quake("sima1", at(1), (102.1, 29.6, 16.0), 6.4)
    a1_map = with_product(a1, at(12), "shakemap", version="1", maxmmi="8.1")
    b1, b2 = (
        quake("simb1", at(3), (142.0, 42.7, 30.0), 6.2, updated=at(4)),
        quake("atb1", at(3.1), (142.3, 42.6, 40.0), 6.5, updated=at(5)),
    )
    e1 = quake("sime1", at(6), (-71.0, -30.5, 40.0), 5.4)
    f1 = quake("simf1", at(7), (22.0, 38.2, 12.0), 5.8)
    g1 = quake("simg1", at(8), (-120.5, 37.0, 8.0), 6.8)
    h1 = quake("simh1", at(9), (121.6, 24.0, 20.0), 6.3)
    h2 = quake("simh2", at(9.05), (121.7, 24.1, 18.0), 6.2, updated=at(31))
    j1 = quake("simj1", at(11), (-155.0, 19.0, 35.0), 7.0)
    k1 = quake("simk1", at(13), (-118.5, 34.2, 9.0), 5.1)
    records = [
        a1, a1_map, ground_failure(a1_map, at(22), "orange", 23.0),
        b1, b2, revised(b1, at(40), "usb1", ids=",simb1,atb1,", mag=6.3, status="reviewed"),
        quake("simc1", at(5), (70.4, 36.5, 15.0), 6.1), quake("simd1", at(5 + 5 / 60), (70.9, 36.1, 15.0), 6.0),
        e1, revised(e1, at(15), mag=5.6), revised(e1, at(45), mag=5.3),
        f1, revised(f1, at(20), mag=5.2), revised(f1, at(50), mag=5.9),
        g1, h1, h2,
        quake("simi1", at(10), (179.0, -18.0, 400.0), 6.0),
        j1, ground_failure(j1, at(30), "green", 0.3), k1, ground_failure(k1, at(35), "yellow", 1.4),
        quake("sima2", at(55), (102.2, 29.7, 12.0), 5.7),
        quake("siml1", at(56), (128.0, 50.0, 0.0), 5.6, type="explosion"),
        quake("simm1", at(61), (43.0, 38.6, 10.0), 6.2),
        *(quake(f"sims{n}", at(2 + 2.2 * n), (-150.0 + 7 * n, 60.0 - n, 10.0), 2.5 + n / 20) for n in range(40)),
    ]  # fmt: skip
    return sorted(
        [
            *map(record_beat, records),
            Beat(at(25), deleted="simg1"),
            Beat(at(30), deleted="simh1"),
            Beat(at(60), fault={"match": SERVICE, "status": 503, "for_s": 3600}),
            Beat(at(66), calm=True),
            Beat(at(70), fault={"match": "summary", "answer": "<html>sign in</html>", "for_s": 3600}),
            Beat(at(72), calm=True),
        ],
        key=lambda beat: beat.at,
    )


def _title(magnitude: float | None) -> str:
    return f"M {'?' if magnitude is None else f'{magnitude:.1f}'} - simulated earthquake"
