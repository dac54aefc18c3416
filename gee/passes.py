"""Passes of the satellite: which scenes were taken together, how much of an area each saw clearly, and the best one."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import shapely
from shapely.affinity import translate
from shapely.geometry.base import BaseGeometry

from gee.errors import NoScenesError
from gee.grid import unwrap
from gee.types import Scene

APART = dt.timedelta(minutes=30)
"""Scenes further apart belong to different orbits: the granules of one pass follow each other within minutes, and the
next orbit over the same ground, near the poles, comes 100 minutes later."""


@dataclass(frozen=True)
class Pass:
    """The granules that one overflight took."""

    scenes: tuple[Scene, ...]
    """By time."""

    @property
    def time(self) -> dt.datetime:
        """When it began, UTC."""
        return self.scenes[0].time


@dataclass(frozen=True)
class PassShare:
    """A pass that was looked at, for the record."""

    time: dt.datetime
    """When it began, UTC."""
    scenes: int
    """How many of the listed scenes it took."""
    clear_share: float
    """Share of the area that it saw clearly, 0 to 1."""
    sampled: bool = True
    """Whether its pixels were looked at; False: as the catalogue lets expect (`listed_clear_share`)."""

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {**asdict(self), "time": self.time.isoformat()}

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> PassShare:
        """The inverse of `to_dict`."""
        time = dt.datetime.fromisoformat(value["time"])
        return cls(time, int(value["scenes"]), float(value["clear_share"]), bool(value["sampled"]))


def passes_of(scenes: Sequence[Scene]) -> tuple[Pass, ...]:
    """The passes that took the scenes, by time."""
    groups: list[list[Scene]] = []
    for scene in sorted(scenes, key=lambda scene: (scene.time, scene.id)):
        if groups and scene.time - groups[-1][-1].time <= APART:
            groups[-1].append(scene)
        else:
            groups.append([scene])
    return tuple(Pass(tuple(group)) for group in groups)


def listed_clear_share(one: Pass, area: BaseGeometry) -> float:
    """The share of an area (WGS84) that a pass saw clearly, as the catalogue lets expect.

    The footprint of each granule times what is not cloudy of it, by `CLOUDY_PIXEL_PERCENTAGE` (none: not cloudy); of
    two granules that overlap the clearer one counts.
    """
    whole = unwrap(area)
    if whole.area <= 0:
        return 0.0
    seen: BaseGeometry = shapely.Polygon()
    clear = 0.0
    for scene in sorted(one.scenes, key=lambda scene: scene.cloud_percent or 0.0):
        footprint = unwrap(shapely.from_wkt(scene.footprint_wkt))
        part = shapely.union_all([translate(footprint, turn) for turn in (0, 360, -360)]).intersection(whole)
        new = part.difference(seen)
        clear += new.area * (1 - (scene.cloud_percent or 0.0) / 100)
        seen = seen.union(part)
    return min(1.0, clear / whole.area)


def best_pass(
    passes: Sequence[Pass], shares: Sequence[float], *, latest: bool, sampled: bool = True
) -> tuple[Pass, tuple[PassShare, ...]]:
    """(The pass that saw most of the area, what was known of all of them).

    Of passes that saw as much to a hundredth, the `latest` is taken, or else the earliest: the one nearest to the event.
    Raises `NoScenesError` without a pass.
    """
    if not passes:
        raise NoScenesError("no pass to choose from: widen the window or wait for the next pass")
    looked_at = tuple(
        PassShare(one.time, len(one.scenes), round(share, 4), sampled)
        for one, share in zip(passes, shares, strict=True)
    )
    most = math.floor(100 * max(shares))
    good = [one for one, share in zip(passes, shares, strict=True) if math.floor(100 * share) >= most]
    return good[-1 if latest else 0], looked_at
