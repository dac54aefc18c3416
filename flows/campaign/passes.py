"""When a satellite will pass again, from when it has passed. Pure.

A Sentinel-2 satellite comes back over the same ground at the same minute every ten days (143 orbits); each of the two or
three in flight is expected where it has been seen lately.
https://sentiwiki.copernicus.eu/web/s2-mission
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence

import shapely
from shapely.affinity import translate
from shapely.geometry.base import BaseGeometry

from flows.campaign.model import ExpectedPass
from gee.grid import unwrap
from gee.passes import APART, Pass, passes_of
from gee.types import Scene

REPEAT = dt.timedelta(days=10)
"""After so long a satellite follows its own track."""
RECENT = dt.timedelta(days=45)
"""A track that has not been flown for longer is no longer expected: satellites are replaced and moved."""
AWAITED = dt.timedelta(days=1)
"""The images of a pass are looked for so long: Sentinel-2's come to the archives within hours to a day."""
LEAST_SHARE = 0.01
"""Passes that cover less of the area are not worth waiting for."""


def expected_passes(
    scenes: Sequence[Scene], area: BaseGeometry, now: dt.datetime, until: dt.datetime, most: int = 6
) -> tuple[ExpectedPass, ...]:
    """The passes over an area (WGS84) that are to come until `until`, soonest first, at most `most` of them.

    Those of the last day that are not in the catalogue yet come before them. `scenes` are those of the last weeks, cloudy
    ones too.
    """
    recent = [one for one in passes_of(scenes) if now - RECENT <= one.time <= now]
    found: list[ExpectedPass] = []
    for track in _tracks(recent):
        share = covered_share(track, area)
        if share < LEAST_SHARE:
            continue
        last = track[-1]
        moment = last.time + REPEAT * max(1, math.floor((now - AWAITED - last.time) / REPEAT) + 1)
        while moment <= until:
            found.append(
                ExpectedPass(satellite=_satellite(last), time=moment, orbit=_orbit(last), share=round(share, 4))
            )
            moment += REPEAT
    return tuple(sorted(found, key=lambda one: (one.time, one.satellite))[:most])


def covered_share(track: Sequence[Pass], area: BaseGeometry) -> float:
    """Share of an area (WGS84) within the footprints of a track's passes, 0 to 1."""
    whole = unwrap(area)
    if whole.area <= 0:
        return 0.0
    seen = [
        translate(unwrap(shapely.from_wkt(scene.footprint_wkt)), turn)
        for one in track
        for scene in one.scenes
        for turn in (0, 360, -360)
    ]
    return float(min(1.0, shapely.union_all(seen).intersection(whole).area / whole.area))


def _tracks(passes: Sequence[Pass]) -> list[list[Pass]]:
    """Passes of one satellite on one track: whole repeats apart, to half an hour; each by time."""
    tracks: list[list[Pass]] = []
    for one in passes:
        for track in tracks:
            turns = (one.time - track[-1].time) / REPEAT
            if abs(turns - round(turns)) * REPEAT <= APART and _satellite(one) == _satellite(track[-1]):
                track.append(one)
                break
        else:
            tracks.append([one])
    return tracks


def _satellite(one: Pass) -> str:
    name = dict(one.scenes[0].properties).get("SPACECRAFT_NAME")
    return str(name) if name else "Sentinel-2"


def _orbit(one: Pass) -> int:
    """The relative orbit, 0 when the catalogue does not tell."""
    value = dict(one.scenes[0].properties).get("SENSING_ORBIT_NUMBER")
    return int(value) if isinstance(value, int | float) else 0
