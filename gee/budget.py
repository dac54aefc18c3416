"""What a cube costs in Earth Engine's compute time, and when to stop. Pure.

Non-commercial projects have 150, 1,000 or 100,000 EECU-hours a month. The cost of an interactive request is known from
its profile only (`gee.profile`). A share of the tiles is profiled, a few of them before all others, and the rest is
taken to cost as much a pixel. Failed requests have no profile, and what a profile leaves out is not known: the service's
own account rules.
https://developers.google.com/earth-engine/guides/noncommercial_tiers
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from gee.errors import BudgetError
from gee.plan import CubePlan
from gee.records import TileRecord
from gee.types import Tile

PILOT_TILES = 3
"""Tiles that are pulled and profiled before the others: at both ends and in the middle of what is missing."""
ASSUMED_EECU_S = 5.0
"""EECU-seconds for a million pixels of the cube and each scene in its windows, where nothing can be measured. A guess,
meant to be high, that nobody has measured against the service: every estimate says when it rests on it."""


@dataclass(frozen=True)
class Budget:
    """What an event may cost."""

    limit_hours: float = math.inf
    """EECU-hours; infinite: as much as it takes."""
    profiled_every: int = 8
    """Of the tiles after the pilot every so many-th is profiled: that costs a second, small request."""


@dataclass(frozen=True)
class Job:
    """One tile to pull."""

    tile: Tile
    """Which."""
    profiled: bool = False
    """Whether to ask what it cost."""


@dataclass(frozen=True)
class Estimate:
    """What a cube has cost and will cost."""

    spent_s: float
    """EECU-seconds of the tiles that have arrived; those that were not profiled at the others' mean."""
    to_come_s: float
    """EECU-seconds of those that have not."""
    measured: int
    """Tiles with a profile; 0: everything here is assumed."""
    tiles: int
    """Tiles of the cube."""

    @property
    def hours(self) -> float:
        """EECU-hours of the whole cube."""
        return (self.spent_s + self.to_come_s) / 3600

    def __str__(self) -> str:
        """In words, with what it rests on."""
        basis = (
            f"measured on {self.measured} of them"
            if self.measured
            else f"assumed, since none was profiled: {ASSUMED_EECU_S:g} EECU-seconds a million pixels and scene"
        )
        return f"{self.hours:.3g} EECU-hours for {self.tiles} tiles, {self.spent_s / 3600:.3g} spent so far ({basis})"


class Account:
    """What a cube's tiles cost, kept while they arrive. For one thread."""

    def __init__(self, plan: CubePlan, budget: Budget, records: Iterable[TileRecord] = ()) -> None:
        """`records`: of the tiles that are there already; they count against the budget like the new ones."""
        self._plan, self._budget = plan, budget
        self._px = {tile.name: math.prod(tile.shape_yx) for tile in plan.tiles}
        self._arrived: set[str] = set()
        self._handed: set[str] = set()
        self._measured = self._arrived_px = self._handed_px = self._measured_px = self._free_px = 0
        self._measured_s = 0.0
        for record in records:
            self.add(record)

    def add(self, record: TileRecord) -> None:
        """A tile has arrived."""
        px = self._px[record.name]
        self._arrived.add(record.name)
        if record.taken_from:  # cost nothing, and says nothing of what the others will
            self._free_px += px
            return
        self._arrived_px += px
        if record.name in self._handed:
            self._handed.remove(record.name)
            self._handed_px -= px
        if record.eecu_s is not None:
            self._measured += 1
            self._measured_s += record.eecu_s
            self._measured_px += px

    def estimate(self) -> Estimate:
        """Of the whole cube, by what is known now."""
        to_come = sum(self._px.values()) - self._arrived_px - self._free_px
        return Estimate(self._spent_s(), self._rate() * to_come, self._measured, len(self._px))

    def check(self) -> None:
        """Raise `BudgetError` when the whole cube costs more than the budget."""
        estimate = self.estimate()
        if estimate.hours > self._budget.limit_hours:
            raise BudgetError(
                f"the cube {self._plan.uri} takes {estimate}: more than the {self._budget.limit_hours:g} EECU-hours that "
                "an event may cost. What was pulled stays: raise earthengine.eecu_hours_per_event and run again, or "
                "choose a smaller area or larger pixels"
            )

    def pilot(self, missing: Sequence[Tile]) -> tuple[Job, ...]:
        """The tiles to pull first, profiled; none without a limit, or when the cost is known already."""
        wanted = PILOT_TILES - self._measured
        if math.isinf(self._budget.limit_hours) or wanted <= 0 or not missing:
            return ()
        places = sorted({round(step * (len(missing) - 1) / max(1, wanted - 1)) for step in range(wanted)})
        return tuple(Job(missing[place], profiled=True) for place in places)

    def bulk(self, missing: Sequence[Tile]) -> Iterator[Job]:
        """The others, as long as the budget lasts: looks at what has arrived before each."""
        limit_s = self._budget.limit_hours * 3600 * (1 + 1e-9)  # so that rounding never contradicts `check`
        for number, tile in enumerate(missing):
            if tile.name in self._arrived:
                continue
            px = self._px[tile.name]
            if self._spent_s() + self._rate() * (self._handed_px + px) > limit_s:
                return
            self._handed.add(tile.name)
            self._handed_px += px
            yield Job(tile, profiled=number % self._budget.profiled_every == 0)

    def _spent_s(self) -> float:
        return self._measured_s + self._rate() * (self._arrived_px - self._measured_px)

    def _rate(self) -> float:
        """EECU-seconds a pixel."""
        if self._measured_px:
            return self._measured_s / self._measured_px
        return ASSUMED_EECU_S * sum(len(phase.scenes) for phase in self._plan.scenes) / 1e6
