"""The whole story of a rehearsal: what happens when, and what is to come of it. Pure: the same seed tells the same story."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flows.rehearsal.background import Told
from flows.rehearsal.planted import KINDS, Outcome, Planted, plant
from flows.rehearsal.sites import CLEAR_SCORE, PASS_HOUR, SceneDrop, Site
from infra.local.usgs.invented import SERVICE
from infra.local.usgs.storyline import Beat

START = dt.datetime(2026, 3, 2, tzinfo=dt.UTC)
"""When a rehearsal begins, on its own clock."""
REPEAT_DAYS = 5.0
"""A site is passed so often, by two satellites in turn."""
PASSES_AFTER = 7
"""So many passes after an earthquake come into the catalogue; the later ones show the earlier ones' images again."""
USEFUL_SHARE = 0.15
"""A scene is useful when it shows so much of the shaken ground that was clear before, too."""
SHAKEN_MMI = 6.0
"""As `area.minimum_mmi`."""
RULE_MAGNITUDE, RULE_DEPTH_KM, DEEPER_BY = 5.5, 70.0, 2.0
"""The published rule, written down a second time so that the story does not judge the watch by the watch's own code."""
LISTED_MAGNITUDE = 2.5
"""The smallest magnitude in the feed that is watched."""
GRACE = dt.timedelta(hours=24)
"""How long after a downtime everything is to be caught up."""
BAD_DAY_SCENES = dt.timedelta(hours=12)
"""When the scenes of a bad day are there, after its beginning."""
EVERY_OUTAGE_DAYS = 3.0
"""Each service fails once in so many days."""


@dataclass(frozen=True)
class Trouble:
    """A fault of a service; it lasts until `until`, or as long as its own conditions say."""

    at: dt.datetime
    """When it begins."""
    service: str
    """usgs, storage or earthengine."""
    fault: Mapping[str, Any]
    """As `infra.local.faults` reads it."""
    until: dt.datetime | None = None
    """When all faults of the service are taken away."""


@dataclass(frozen=True)
class Off:
    """The machine is off: nobody watches, nobody works."""

    at: dt.datetime
    """From."""
    until: dt.datetime
    """To."""


Happening = Beat | SceneDrop | Trouble | Off


@dataclass(frozen=True)
class Expected:
    """What is to be found of one earthquake when all is over."""

    kind: str
    """What sort of earthquake, for people."""
    ids: tuple[str, ...]
    """Every id that it was ever listed under."""
    outcome: Outcome
    """What is to come of it."""
    second: tuple[str, ...] = ()
    """Ids of a second earthquake of the same campaign."""
    mapped_by: dt.datetime | None = None
    """When a version is to be there at the latest."""


@dataclass(frozen=True)
class Story:
    """What happens, by time, and what is to come of it."""

    start: dt.datetime
    """When it begins."""
    end: dt.datetime
    """When it ends."""
    happenings: tuple[Happening, ...]
    """Everything that happens, by time."""
    expected: tuple[Expected, ...]
    """What is to come of the planted earthquakes, and of those of the background that the rule takes up."""
    listed: frozenset[str]
    """Ids of all that the feed lists long enough for a decision to be recorded."""
    counts: Mapping[str, int]
    """How much of each kind there is."""


def tell(sites: Sequence[Site], background: Iterable[Told], *, days: float, seed: int) -> Story:
    """The story of `days` days with an earthquake at every site."""
    end = START + dt.timedelta(days=days)
    draw = random.Random(f"story {seed}")  # noqa: S311 - a repeatable draw, no secret
    planted, drops = _planted(sites, days, draw)
    told = list(background)
    beats = [beat for one in planted for beat in one.beats] + [beat for one in told for beat in one.beats]
    happenings: list[Happening] = [*beats, *drops, *_troubles(days, draw)]
    happenings += [_off(one, draw) for one in planted if one.kind == "while off"]
    for one in planted:
        if one.kind == "in an outage":
            begun = one.time - dt.timedelta(minutes=20)
            fault = {"match": SERVICE, "status": 503, "count": None}
            happenings.append(Trouble(begun, "usgs", fault, begun + dt.timedelta(hours=min(3.0, 4 * days))))
    offs = [one for one in happenings if isinstance(one, Off)]
    expected = [Expected(one.kind, one.ids, one.outcome, one.second, _due_by(one, offs, end)) for one in planted]
    expected += [Expected("background", (one.event_id,), _rule(one), ()) for one in told if _settled(one, end)]
    counts = {f"planted: {name}": sum(one.kind == name for one in planted) for name in KINDS}
    counts |= {"background earthquakes": len(told), "of these deleted": sum(one.deleted for one in told)}
    counts |= {"scenes": len(drops), "records played": sum(beat.record is not None for beat in beats)}
    counts |= {f"faults of {name}": sum(isinstance(one, Trouble) and one.service == name for one in happenings)
               for name in ("usgs", "storage", "earthengine")}  # fmt: skip
    counts["times the machine was off"] = sum(isinstance(one, Off) for one in happenings)
    shown = sorted((one for one in happenings if one.at < end), key=lambda one: one.at)
    return Story(START, end, tuple(shown), tuple(expected), _listed(told, end), counts)


def tell_bad_day(sites: Sequence[Site], background: Iterable[Told], *, seed: int) -> Story:
    """A day with an earthquake at every site within half an hour, and a scene of each at the same moment in the evening."""
    end, scene_at = START + dt.timedelta(days=1), START + BAD_DAY_SCENES
    draw = random.Random(f"bad day {seed}")  # noqa: S311 - a repeatable draw, no secret
    planted, drops = [], []
    for site in sites:
        time = START + dt.timedelta(hours=2, seconds=draw.randrange(1800))
        grace = end - scene_at - dt.timedelta(hours=1)
        planted.append(plant("plain", site, time, scene_at, grace, hazard_km2=round(draw.uniform(11, 99), 1)))
        seen = max(range(len(site.passes("post"))), key=lambda number: _shown(site, number))
        before = [
            SceneDrop(
                START, site.number, "pre", number, START - dt.timedelta(days=REPEAT_DAYS * (number + 1)), "Sentinel-2A"
            )
            for number in range(len(site.passes("pre")))
        ]
        drops += [
            *before,
            SceneDrop(scene_at, site.number, "post", seen, scene_at - dt.timedelta(hours=3), "Sentinel-2B"),
        ]
    told = list(background)
    beats = [beat for one in planted for beat in one.beats] + [beat for one in told for beat in one.beats]
    happenings: list[Happening] = [*beats, *drops]
    expected = [Expected(one.kind, one.ids, one.outcome, one.second, one.mapped_by) for one in planted]
    counts = {
        "earthquakes within half an hour": len(planted),
        "background earthquakes": len(told),
        "scenes": len(drops),
    }
    shown = sorted((one for one in happenings if one.at < end), key=lambda one: one.at)
    return Story(START, end, tuple(shown), tuple(expected), _listed(told, end), counts)


def _due_by(one: Planted, offs: Sequence[Off], end: dt.datetime) -> dt.datetime | None:
    """When a version is to be there; None when none is to come, or the machine is off in the time that is left for it."""
    by = one.mapped_by
    while by is not None and (off := next((off for off in offs if off.at <= by < off.until + GRACE), None)) is not None:
        by = None if one.outcome is Outcome.MARKED else off.until + GRACE
    return by if by is not None and by <= end else None


def _planted(sites: Sequence[Site], days: float, draw: random.Random) -> tuple[list[Planted], list[SceneDrop]]:
    planted: list[Planted] = []
    drops: list[SceneDrop] = []
    repeat = dt.timedelta(days=min(REPEAT_DAYS, days / 6))
    last = max(0.1 * days, days - 2.5 * repeat / dt.timedelta(days=1))
    for number, site in enumerate(sites):
        kind = list(KINDS)[number % len(KINDS)]
        time = START + dt.timedelta(days=last * (number + draw.uniform(0.15, 0.85)) / len(sites))
        time = time.replace(microsecond=0)
        seen_from = _scenes(site, time, repeat, draw)
        useful = next((drop.at for drop in seen_from if drop.phase == "post" and is_useful(site, drop.number)), None)
        grace = dt.timedelta(hours=min(24.0, 4 * days))
        one = plant(kind, site, time, useful or time + repeat, grace)
        planted.append(one)
        drops += seen_from if one.outcome is not Outcome.NOTHING else []
    return planted, drops


def _scenes(site: Site, time: dt.datetime, repeat: dt.timedelta, draw: random.Random) -> list[SceneDrop]:
    """The scenes of a site round its earthquake, by when they are there."""
    before, after = len(site.passes("pre")), len(site.passes("post"))
    first = time + repeat * draw.uniform(0.15, 0.95)
    if repeat >= dt.timedelta(days=1):
        first = max(first.replace(hour=0, minute=0, second=0) + PASS_HOUR, time + dt.timedelta(hours=3))
    drops = []
    for turn in range(-2 * before, PASSES_AFTER):
        taken = first + turn * repeat
        phase, number = ("pre", turn % before) if turn < 0 else ("post", turn % after)
        if turn < 0 and turn % 2:
            continue  # of every second pass before nothing is kept
        late = dt.timedelta(hours=draw.uniform(3, 20)) if repeat >= dt.timedelta(days=1) else repeat * 0.1
        satellite = f"Sentinel-2{'AB'[turn % 2]}"
        drops.append(
            SceneDrop(taken + late, site.number, phase, (number // 2 if turn < 0 else number), taken, satellite)
        )
    return sorted(drops, key=lambda drop: drop.at)


def is_useful(site: Site, number: int) -> bool:
    """Whether a pass after shows enough of the shaken ground that a pass before shows as well."""
    return _shown(site, number) >= USEFUL_SHARE


def _shown(site: Site, number: int) -> float:
    """Share of the shaken ground that a pass after shows, and any before."""
    shaken = site.region.mmi >= SHAKEN_MMI
    before = np.any([np.nan_to_num(one.cs) >= CLEAR_SCORE for one in site.passes("pre")], axis=0)
    after = np.nan_to_num(site.passes("post")[number].cs) >= CLEAR_SCORE
    return float((before & after)[shaken].mean())


def _troubles(days: float, draw: random.Random) -> list[Trouble]:
    """Outages of every service. Those of the USGS last hours of the story; the others seconds while work is done."""
    found = []
    for service, faults in _FAULTS.items():
        count = max(1, round(days / EVERY_OUTAGE_DAYS))
        for number in range(count):
            at = START + dt.timedelta(days=days * (number + draw.random()) / count)
            fault = dict(faults[number % len(faults)])
            hours = fault.pop("hours", None)
            until = None if hours is None else at + dt.timedelta(hours=min(float(hours), 3 * days))
            found.append(Trouble(at, service, {**fault, "seed": number} if "share" in fault else fault, until))
    return found


_FAULTS: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "usgs": (
        {"match": SERVICE, "status": 503, "count": None, "hours": 1.0},
        {"match": "summary", "answer": "<html>sign in</html>", "count": None, "hours": 2.0},
        {"match": SERVICE, "share": 0.5, "reset": "before", "hours": 3.0},
        {"match": "fdsnws", "status": 500, "count": None, "hours": 2.0},
        {"match": "product", "status": 404, "count": 3},
    ),
    "storage": (
        {"match": "/o", "share": 0.3, "status": 503, "for_s": 20},
        {"match": "/o", "status": 503, "count": None, "for_s": 45},
        {"match": "/o", "share": 0.2, "reset": "before", "for_s": 15},
        {"match": "/upload/", "share": 0.4, "status": 429, "for_s": 20},
    ),
    "earthengine": (
        {"match": "Pixels", "share": 0.5, "status": 429, "for_s": 20},
        {"match": ".", "status": 503, "count": None, "for_s": 40},
        {"match": "Pixels", "share": 0.3, "reset": "after", "cut_after": 1000, "for_s": 20},
        {"match": "value:compute", "status": 500, "count": 6},
        {"match": "Pixels", "status": 400, "message": "Computation timed out.", "count": 2},
    ),
}
"""What each service does, in turn; `hours` of the story, `for_s` seconds."""


def _off(one: Planted, draw: random.Random) -> Off:
    begun = one.time - dt.timedelta(minutes=draw.uniform(5, 60))
    hours = draw.choice((3.0, 30.0, 75.0))
    return Off(begun, begun + dt.timedelta(hours=hours))


def _rule(one: Told) -> Outcome:
    """What is to come of an earthquake at sea: where the rule asks for it, a campaign that finds no land and is closed."""
    if one.deleted or one.kind != "earthquake" or one.magnitude is None or one.magnitude < RULE_MAGNITUDE:
        return Outcome.NOTHING
    deep = one.depth_km > RULE_DEPTH_KM and one.magnitude < RULE_MAGNITUDE + DEEPER_BY
    return Outcome.NOTHING if deep else Outcome.CLOSED


def _settled(one: Told, end: dt.datetime) -> bool:
    """Whether its last record comes in time to be worked off; the smallest are left to `listed`."""
    large = one.magnitude is not None and one.magnitude >= RULE_MAGNITUDE - 0.5
    return large and one.beats[-1].at < end - dt.timedelta(hours=3)


def _listed(told: Iterable[Told], end: dt.datetime) -> frozenset[str]:
    late = end - dt.timedelta(hours=3)
    return frozenset(
        one.event_id for one in told
        if one.magnitude is not None and one.magnitude >= LISTED_MAGNITUDE and not one.deleted and one.beats[-1].at < late
    )  # fmt: skip
