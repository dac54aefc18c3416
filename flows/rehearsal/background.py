"""A week of the feed, repeated: the recorded real one with new ids and shifted times, or a simulated one of its statistics.

Around the sites the simulated world is sea, so that no earthquake of these weeks has land to be mapped.
"""

from __future__ import annotations

import copy
import datetime as dt
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.usgs_geojson import parse_json
from infra.local.simulated import SIMULATED
from infra.local.usgs.events import Json, read_event
from infra.local.usgs.invented import quake
from infra.local.usgs.storyline import Beat, from_ms, record_beat, to_ms

WEEK = dt.timedelta(weeks=1)
RECORDED = "usgs/summary_feeds/all_week_2023-08-04.geojson"
"""The recorded week below the folder of shared data."""
EVENTS = 2124
"""Events of a simulated week: those of the recorded one."""
LARGE_SHARE = 0.15
"""Share of a simulated week that was recorded from afar, with magnitudes from 4 up."""
REVISED, DELETED = 0.3, 0.004
"""Share of the larger events whose magnitude is revised, and of all that are deleted again."""
REVISED_ABOVE = 4.0


@dataclass(frozen=True)
class Told:
    """What the feed tells of one earthquake of the background."""

    event_id: str
    """Its id."""
    time: dt.datetime
    """Origin time."""
    depth_km: float
    """Depth."""
    magnitude: float | None
    """As it was last told."""
    kind: str
    """earthquake, quarry blast, …"""
    deleted: bool
    """Whether it was deleted in the end."""
    beats: tuple[Beat, ...]
    """The records."""


def read_week(data: Path) -> list[Json] | None:
    """The features of the recorded week, None where it is not beside the checkout."""
    file = data / RECORDED
    if not file.is_file():
        return None
    whole: Any = parse_json(file.read_bytes(), file.name)
    return list(whole["features"])


def invented_week(seed: int) -> list[Json]:
    """A simulated week: as many events as the recorded one, of magnitudes and depths like there, all of them at sea."""
    draw = random.Random(seed)  # noqa: S311 - a repeatable draw, no secret
    start = dt.datetime(2023, 7, 28, tzinfo=dt.UTC)
    records = []
    for number in range(EVENTS):
        time = start + draw.random() * WEEK
        large = draw.random() < LARGE_SHARE
        magnitude = 4.0 - math.log10(1 - draw.random()) if large else 0.3 + min(3.2, draw.expovariate(1.2))
        depth = draw.choice((10.0, 10.0, 15.0, 35.0, 60.0, 120.0, 400.0)) if large else draw.uniform(1, 15)
        place = (draw.uniform(-179, -20), draw.uniform(-60, 60), depth)
        updated = time + dt.timedelta(hours=draw.expovariate(1 / 20))
        records.append(quake(f"bg{number:05d}", time, place, round(min(magnitude, 7.4), 1), updated=updated))
    return records


def background(week: list[Json], start: dt.datetime, end: dt.datetime, seed: int) -> Iterator[Told]:
    """The events of `week`, week after week from `start` up to `end`, each as it is first told, revised, or deleted."""
    draw = random.Random(f"background {seed}")  # noqa: S311 - likewise
    first = min(from_ms(one["properties"]["time"]) for one in week)
    shift, turn = start - first, 0
    while start + turn * WEEK < end:
        for feature in week:
            told = _told(feature, shift + turn * WEEK, f"w{turn:02d}", draw)
            if told is not None and told.time < end:
                yield told
        turn += 1


def _told(feature: Json, shift: dt.timedelta, mark: str, draw: random.Random) -> Told | None:
    last = _shifted(feature, shift, mark)
    known = last["properties"]
    time, updated = from_ms(known["time"]), from_ms(known["updated"])
    reported = time + dt.timedelta(minutes=draw.uniform(2, 20))
    early = copy.deepcopy(last)
    early["properties"] |= {"updated": to_ms(min(reported, updated)), "status": "automatic"}
    magnitude = known.get("mag")
    if magnitude is not None and magnitude >= REVISED_ABOVE and draw.random() < REVISED:
        early["properties"]["mag"] = round(magnitude + draw.choice((-0.3, -0.2, -0.1, 0.1, 0.2, 0.3)), 1)
    beats = [record_beat(early)]
    if updated - beats[0].at > dt.timedelta(minutes=1):
        beats.append(record_beat(last))
    deleted = draw.random() < DELETED
    if deleted:
        beats.append(Beat(beats[-1].at + dt.timedelta(minutes=draw.uniform(30, 600)), deleted=str(last["id"])))
    event = read_event(last)
    kind = str(known.get("type") or "earthquake")
    return Told(event.id, time, event.lon_lat_depth[2], event.magnitude, kind, deleted, tuple(beats))


def _shifted(feature: Json, shift: dt.timedelta, mark: str) -> Json:
    """A record at another time, under other ids, marked as simulated: nothing of the kind happened then."""
    known: dict[str, Any] = {key: value for key, value in feature["properties"].items() if key not in ("url", "detail")}
    ids = [f"{name}{mark}" for name in str(known.get("ids") or feature["id"]).split(",") if name]
    moved = {name: known[name] + round(shift.total_seconds() * 1000) for name in ("time", "updated")}
    code = f"{known.get('code')}{mark}"
    return {
        "type": "Feature", "id": f"{feature['id']}{mark}", "geometry": feature["geometry"],
        "properties": {**known, **moved, "ids": f",{','.join(ids)},", "code": code, **SIMULATED},
    }  # fmt: skip
