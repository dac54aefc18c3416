"""gee/budget.py: what a cube costs is said before it is spent, and never goes far beyond what it may."""

from __future__ import annotations

import dataclasses
import math
import re

import pytest
from fakes import cubes
from hypothesis import given, settings
from hypothesis import strategies as st

from gee.budget import ASSUMED_EECU_S, PILOT_TILES, Account, Budget
from gee.errors import BudgetError
from gee.records import TileRecord
from gee.types import Tile

PLAN = cubes.plan("somewhere/cube.zarr", tile_px=20)
PIXELS = 93 * 121


def test_a_tile_that_was_taken_over_costs_nothing_and_says_nothing_of_the_others() -> None:
    plan = cubes.plan("cube.zarr")
    account = Account(plan, Budget(1.0))
    account.add(record(plan.tiles[0], 10.0))
    alone = account.estimate()
    account.add(dataclasses.replace(record(plan.tiles[1], None), taken_from="gs://bucket/earlier.zarr"))
    both = account.estimate()
    assert both.spent_s == alone.spent_s == 10.0
    assert (both.measured, both.tiles) == (1, len(plan.tiles))
    assert 0 < both.to_come_s < alone.to_come_s


def record(tile: Tile, eecu_s: float | None) -> TileRecord:
    return TileRecord(tile.name, "", {}, 0, 0.0, "", eecu_s)


def seconds(tile: Tile) -> float:
    """A thousandth a pixel."""
    return math.prod(tile.shape_yx) / 1000


def test_the_rest_costs_as_much_a_pixel_as_what_was_measured() -> None:
    some = [record(tile, seconds(tile)) for tile in PLAN.tiles[:4]] + [record(PLAN.tiles[5], None)]
    estimate = Account(PLAN, Budget(1.0), some).estimate()
    assert estimate.hours * 3600 == pytest.approx(PIXELS / 1000)
    assert estimate.spent_s == pytest.approx(5 * 20 * 20 / 1000)
    assert (estimate.measured, estimate.tiles) == (4, len(PLAN.tiles))
    assert "measured on 4 of them" in str(estimate)


def test_an_assumption_is_called_one() -> None:
    estimate = Account(PLAN, Budget(1.0)).estimate()
    assert estimate.hours * 3600 == pytest.approx(PIXELS * 3 * ASSUMED_EECU_S / 1e6), "three scenes"
    assert "assumed, since none was profiled: 5 EECU-seconds a million pixels and scene" in str(estimate)


def test_the_pilot_is_spread_and_profiled_and_not_repeated() -> None:
    account = Account(PLAN, Budget(1.0))
    pilot = account.pilot(PLAN.tiles)
    assert [job.tile for job in pilot] == [PLAN.tiles[0], PLAN.tiles[(len(PLAN.tiles) - 1) // 2], PLAN.tiles[-1]]
    assert all(job.profiled for job in pilot)
    assert len(account.pilot(PLAN.tiles[:1])) == 1
    for job in pilot[:2]:
        account.add(record(job.tile, 1.0))
    assert len(account.pilot(PLAN.tiles[3:])) == PILOT_TILES - 2
    account.add(record(pilot[2].tile, 1.0))
    assert account.pilot(PLAN.tiles) == ()
    assert Account(PLAN, Budget()).pilot(PLAN.tiles) == (), "without a limit there is nothing to find out first"


@settings(deadline=None)
@given(st.floats(0, 20), st.integers(1, 9), st.floats(0.3, 3), st.data())
def test_the_bulk_ends_where_the_budget_does(
    limit_s: float, under_way: int, dearer: float, data: st.DataObject
) -> None:
    """Whatever the order in which tiles arrive, and also when later tiles cost more than the first, or less."""
    account = Account(PLAN, Budget(limit_s / 3600, profiled_every=1))
    for tile in PLAN.tiles[:3]:
        account.add(record(tile, seconds(tile)))
    pulled: list[Tile] = []
    refused = False
    while len(pulled) + 3 < len(PLAN.tiles) and not refused:  # as `gee.pulling.pull_cube` does
        try:
            account.check()
        except BudgetError as error:
            assert re.search(r"EECU-hours for 35 tiles, .* more than the .* raise earthengine", str(error))
            refused = True
        else:
            before = len(pulled)
            pulled += spread(account, under_way, dearer, data)
            assert len(pulled) > before, "a cube that is within its budget goes on"
    spent = account.estimate().spent_s
    most = under_way * 0.4 * max(1.0, dearer)
    assert spent <= max(limit_s, 1.2) + most, "at most by what was under way"
    if dearer <= 1:
        assert spent <= max(limit_s, 1.2) + 1e-9
    assert len(set(pulled)) == len(pulled)


def spread(account: Account, under_way: int, dearer: float, data: st.DataObject) -> list[Tile]:
    """The tiles of one round of the bulk, so many at a time, which arrive in any order."""
    jobs, waiting, pulled = account.bulk(PLAN.tiles), [], []

    def fill() -> None:
        while len(waiting) < under_way and (job := next(jobs, None)) is not None:
            waiting.append(job)

    fill()
    while waiting:
        job = waiting.pop(data.draw(st.integers(0, len(waiting) - 1)))
        pulled.append(job.tile)
        account.add(record(job.tile, seconds(job.tile) * dearer))
        fill()
    return pulled


def test_without_a_limit_everything_is_handed_out_and_every_eighth_profiled() -> None:
    account = Account(PLAN, Budget())
    account.add(record(PLAN.tiles[1], None))
    jobs = list(account.bulk(PLAN.tiles))
    assert [job.tile for job in jobs] == [PLAN.tiles[0], *PLAN.tiles[2:]]
    assert [job.tile for job in jobs if job.profiled] == list(PLAN.tiles[::8])
    account.check()


def test_what_was_spent_before_counts() -> None:
    there = [record(tile, seconds(tile)) for tile in PLAN.tiles[:20]]
    assert list(Account(PLAN, Budget(7.2 / 3600), there).bulk(PLAN.tiles)) == []
    assert len(list(Account(PLAN, Budget(20.0 / 3600), there).bulk(PLAN.tiles))) == len(PLAN.tiles) - 20
