"""Planted earthquakes: what the feed tells of each, and what is to come of it."""

from __future__ import annotations

import copy
import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from flows.rehearsal.sites import Site
from infra.local.simulated import simulated_event
from infra.local.usgs.events import Json
from infra.local.usgs.invented import ground_failure, quake, revised
from infra.local.usgs.storyline import Beat, record_beat, to_ms

DEPTH_KM, DEEP_KM = 10.0, 400.0
WEAKER_MMI = -0.4
"""What the first ShakeMap of a growing area shows less than the second."""
BOUNDING_MMI = 6.0
"""As `area.minimum_mmi`."""


class Outcome(StrEnum):
    """What is to come of an earthquake."""

    MAPPED = "mapped"
    """One campaign, and a version once there is imagery."""
    MARKED = "mapped, then withdrawn"
    """One campaign, a version, and the mark that the USGS has deleted the event."""
    WITHDRAWN = "withdrawn"
    """One campaign without a version."""
    CLOSED = "closed without a version"
    """One campaign without a version, closed by the rule."""
    NOTHING = "nothing"
    """No version; a campaign only if a record that did not last asked for one."""


@dataclass(frozen=True)
class Planted:
    """One planted earthquake."""

    kind: str
    """A key of `KINDS`."""
    site: int
    """Where."""
    time: dt.datetime
    """Origin time."""
    ids: tuple[str, ...]
    """Every id that it is ever listed under."""
    outcome: Outcome
    """What is to come of it."""
    beats: tuple[Beat, ...]
    """What the feed tells."""
    second: tuple[str, ...] = ()
    """Ids of a second earthquake, which belongs into the same campaign."""
    mapped_by: dt.datetime | None = None
    """When a version is to be there at the latest; None when none is to come."""


@dataclass(frozen=True)
class _Scene:
    """What a kind is told of."""

    site: Site
    time: dt.datetime
    name: str
    seen: dt.datetime
    """When the first useful scene is in the catalogue."""
    hazard_km2: float = 21.0
    """Of the estimate of landslides, where the alert is orange."""

    def at(self, minutes: float) -> dt.datetime:
        return self.time + dt.timedelta(minutes=minutes)

    def first(self, magnitude: float, name: str = "", later_s: float = 0.0, depth_km: float = DEPTH_KM) -> Json:
        lon, lat = self.site.lon_lat
        moment = self.time + dt.timedelta(seconds=later_s)
        return quake(
            name or f"us{self.name}", moment, (lon, lat, depth_km), magnitude, updated=self.at(6) + (moment - self.time)
        )

    def shaken(self, record: Json, at: dt.datetime, version: int = 1, boost: float = 0.0) -> Beat:
        """The record with a ShakeMap, and its files."""
        region, known = self.site.region, record["properties"]
        event = replace(region.event, time=self.time, magnitude=known["mag"], depth_km=DEPTH_KM)
        shown = replace(region, event=event, mmi=region.mmi + boost)
        detail, files = simulated_event(shown, f"us{self.name}")
        product = copy.deepcopy(detail["properties"]["products"]["shakemap"][0])
        before, now = str(product["updateTime"]), to_ms(at)
        product |= {"updateTime": now, "id": product["id"].replace(before, str(now))}
        product["properties"]["version"] = str(version)
        for content in product["contents"].values():
            content["url"] = content["url"].replace(before, str(now))
        newer = revised(record, at)
        products = newer["properties"]["products"]
        products["shakemap"] = [*products.get("shakemap", []), product]
        newer["properties"]["types"] = f",{','.join(sorted({'origin', *products}))},"
        prefix = "https://earthquake.usgs.gov"
        contents = {path.replace(before, str(now)).removeprefix(prefix): data for path, data in files.items()}
        return record_beat(newer, contents)


_Told = tuple[list[Beat], Outcome, tuple[str, ...], tuple[str, ...]]
"""Beats, outcome, further ids, ids of a second earthquake."""


def _followed(scene: _Scene, record: Json, *, boost: float = 0.0, alert: tuple[str, float] | None = None) -> list[Beat]:
    """What usually follows a record: a ShakeMap, an estimate of landslides, a review that changes the magnitude a little."""
    start = max(scene.at(22), _updated(record) + dt.timedelta(minutes=3))
    shaken = scene.shaken(record, start, boost=boost)
    assert shaken.record is not None
    estimated = ground_failure(
        shaken.record, start + dt.timedelta(minutes=14), *(alert or ("orange", scene.hazard_km2))
    )
    magnitude = round(estimated["properties"]["mag"] + 0.1, 1)
    reviewed = revised(estimated, start + dt.timedelta(hours=5), mag=magnitude, status="reviewed")
    return [shaken, record_beat(estimated), record_beat(reviewed)]


def _updated(record: Json) -> dt.datetime:
    return record_beat(record).at


def _plain(scene: _Scene) -> _Told:
    first = scene.first(6.1)
    return [record_beat(first), *_followed(scene, first)], Outcome.MAPPED, (), ()


def _networks(scene: _Scene) -> _Told:
    one, other = scene.first(6.2), scene.first(6.5, f"at{scene.name}", later_s=4.0)
    other["geometry"]["coordinates"][0] += 0.2
    both = f",us{scene.name},at{scene.name},"
    united = revised(one, scene.at(40), f"usx{scene.name}", ids=both, mag=6.3, status="reviewed")
    beats = [record_beat(one), record_beat(other), record_beat(united), *_followed(scene, united)]
    return beats, Outcome.MAPPED, (f"at{scene.name}", f"usx{scene.name}"), ()


def _revised_up(scene: _Scene) -> _Told:
    first = scene.first(5.2)
    second = revised(first, scene.at(50), mag=5.8)
    return [record_beat(first), record_beat(second), *_followed(scene, second)], Outcome.MAPPED, (), ()


def _revised_down(scene: _Scene) -> _Told:
    first = scene.first(5.6)
    return [record_beat(first), record_beat(revised(first, scene.at(45), mag=5.3))], Outcome.CLOSED, (), ()


def _to_and_fro(scene: _Scene) -> _Told:
    first = scene.first(5.8)
    down = revised(first, scene.at(30), mag=5.2)
    up = revised(down, scene.at(80), mag=5.9)
    return [*map(record_beat, (first, down, up)), *_followed(scene, up)], Outcome.MAPPED, (), ()


def _grows(scene: _Scene) -> _Told:
    first = scene.first(6.4)
    beats = [record_beat(first), *_followed(scene, first, boost=WEAKER_MMI)]
    last = beats[-1].record
    assert last is not None
    at = max(scene.seen + dt.timedelta(hours=18), _updated(last) + dt.timedelta(hours=1))
    return [*beats, scene.shaken(last, at, version=2)], Outcome.MAPPED, (), ()


def _sequence(scene: _Scene) -> _Told:
    main = scene.first(6.3)
    after = scene.first(5.7, f"us{scene.name}b", later_s=30 * 3600)
    return [record_beat(main), *_followed(scene, main), record_beat(after)], Outcome.MAPPED, (), (f"us{scene.name}b",)


def _doublet(scene: _Scene) -> _Told:
    main, other = scene.first(6.1), scene.first(6.0, f"us{scene.name}b", later_s=5.0)
    return [record_beat(main), record_beat(other), *_followed(scene, main)], Outcome.MAPPED, (), (f"us{scene.name}b",)


def _yellow(scene: _Scene) -> _Told:
    first = scene.first(5.1)
    return [record_beat(first), *_followed(scene, first, alert=("yellow", 1.4))], Outcome.MAPPED, (), ()


def _green(scene: _Scene) -> _Told:
    first = scene.first(6.6)
    return [record_beat(first), *_followed(scene, first, alert=("green", 0.2))], Outcome.CLOSED, (), ()


def _deleted_early(scene: _Scene) -> _Told:
    first = scene.first(6.0)
    deleted = Beat(scene.at(70), deleted=f"us{scene.name}")
    return [record_beat(first), scene.shaken(first, scene.at(22)), deleted], Outcome.WITHDRAWN, (), ()


def _deleted_late(scene: _Scene) -> _Told:
    first = scene.first(6.0)
    beats = [record_beat(first), *_followed(scene, first)]
    at = max(scene.seen + dt.timedelta(hours=30), beats[-1].at + dt.timedelta(hours=1))
    return [*beats, Beat(at, deleted=f"us{scene.name}")], Outcome.MARKED, (), ()


def _renamed(scene: _Scene) -> _Told:
    first = scene.first(6.3)
    again = scene.first(6.2, f"usn{scene.name}", later_s=3.0)
    again["properties"]["updated"] = to_ms(scene.at(31))
    beats = [record_beat(first), Beat(scene.at(30), deleted=f"us{scene.name}"), record_beat(again)]
    return [*beats, *_followed(scene, again)], Outcome.MAPPED, (f"usn{scene.name}",), ()


def _deep(scene: _Scene) -> _Told:
    return [record_beat(scene.first(6.4, depth_km=DEEP_KM))], Outcome.NOTHING, (), ()


def _blast(scene: _Scene) -> _Told:
    record = scene.first(5.7, depth_km=0.0)
    record["properties"]["type"] = "explosion"
    return [record_beat(record)], Outcome.NOTHING, (), ()


KINDS: Mapping[str, tuple[str, Callable[[_Scene], _Told]]] = {
    "networks": ("two networks report it under two ids, put together under a third", _networks),
    "revised up": ("its magnitude is revised from below the rule to above", _revised_up),
    "grows": ("its second ShakeMap, after the first scene, shakes more ground", _grows),
    "sequence": ("an aftershock joins it a day later", _sequence),
    "yellow": ("small, but with a yellow landslide alert", _yellow),
    "deleted late": ("deleted when a version is there", _deleted_late),
    "renamed": ("deleted and listed again under an id that shares none with the first", _renamed),
    "to and fro": ("its magnitude is revised below the rule and above again", _to_and_fro),
    "green": ("large, but with a green landslide alert", _green),
    "in an outage": ("it comes while the USGS is out of order", _plain),
    "revised down": ("its magnitude is revised to below the rule", _revised_down),
    "doublet": ("two earthquakes within five seconds, side by side in the feed", _doublet),
    "deleted early": ("deleted before there is a scene", _deleted_early),
    "while off": ("it comes while the whole machine is off", _plain),
    "deep": ("large and deep", _deep),
    "blast": ("an explosion", _blast),
    "plain": ("nothing special", _plain),
}
"""Kinds of planted earthquakes in the order in which they come: what it is, for people, and what the feed tells."""


def plant(
    kind: str, site: Site, time: dt.datetime, seen: dt.datetime, grace: dt.timedelta, hazard_km2: float = 21.0
) -> Planted:
    """An earthquake of a kind at a site; `seen` is when its first useful scene is in the catalogue."""
    name = f"{time:%j}{site.name.lower()}"
    beats, outcome, more, second = KINDS[kind][1](_Scene(site, time, name, seen, hazard_km2))
    mapped = outcome in (Outcome.MAPPED, Outcome.MARKED)
    ids = (f"us{name}", *more)
    by = seen + grace if mapped else None
    return Planted(kind, site.number, time, ids, outcome, tuple(sorted(beats, key=lambda beat: beat.at)), second, by)
