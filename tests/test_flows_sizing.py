"""flows/sizing.py: what a run will take, from what is known before it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fakes.plans import map_plan

from flows.campaign.budget import STORED_SHARE, cost_of_plan, tile_pixels
from flows.planning import MapPlan
from flows.settings import EarthEngineSettings, Settings
from flows.sizing import BASE_MEMORY_MB, REQUEST_S, estimate, measured_speed, plan_rows
from flows.speed import Speed
from modeling.prediction.inference import Execution


@pytest.fixture
def plan() -> MapPlan:
    return map_plan()


def settings(concurrent: int = 2) -> Settings:
    return Settings(
        earthengine=EarthEngineSettings(max_concurrent_requests=concurrent),
    )


def execution(tile_px: int = 512, halo_px: int = 0, batch: int = 1) -> Execution:
    return Execution("cpu", "float32", tile_px, halo_px, batch)


def test_requests_bytes_and_time_add_up(plan: MapPlan) -> None:
    tiles = plan.cube.tiles
    assert len(tiles) == 6
    cost = estimate(plan, settings(concurrent=2), 93 * 121 / 10, execution(), 100)
    assert (cost.requests, cost.request_bytes) == (6, plan.cube.total_request_bytes)
    assert cost.seconds == pytest.approx(6 * REQUEST_S / 2 + 10)
    haloed = estimate(plan, settings(), 1e3, execution(halo_px=128), 100)
    assert haloed.seconds > estimate(plan, settings(), 1e3, execution(), 100).seconds


def test_memory_grows_with_tiles_in_flight_not_with_the_scene(plan: MapPlan) -> None:
    few = replace(plan, cube=replace(plan.cube, tiles=plan.cube.tiles[:2]))
    small, large = (estimate(each, settings(), 1e6, execution(), 100) for each in (few, plan))
    assert small.memory_mb == large.memory_mb > BASE_MEMORY_MB
    wider = estimate(plan, settings(), 1e6, execution(tile_px=1024), 100).memory_mb
    assert wider - large.memory_mb == pytest.approx(100 * (1024**2 - 512**2) / 1e6)
    assert estimate(plan, settings(), 1e6, execution(batch=4), 100).memory_mb == wider


def test_minutes_go_by_the_rate_that_is_told(plan: MapPlan) -> None:
    slow = Speed(tile_pixels(plan.cube) / 180, "measured by version 3")
    assert dict(plan_rows(plan, slow))["mapping"].startswith("3.0 minutes of the device that maps")
    assert cost_of_plan(plan, slow).network_minutes == pytest.approx(3)


def test_the_second_run_of_a_tile_is_timed() -> None:
    runs = []

    def run_tile() -> int:
        runs.append(1)
        return 1000

    assert measured_speed(run_tile) > 0
    assert len(runs) == 2


def test_a_plan_is_told_with_its_notes(plan: MapPlan) -> None:
    rows = plan_rows(plan)
    told = dict(rows)
    assert told["event"] == plan.event.title
    assert told["before"] == "2018-06-07 to 2018-09-05: 2 scenes"
    assert told["grid"] == "EPSG:32654, 121 x 93 px of 10 m"
    assert told["tiles"] == "6 of 50 px"
    assert told["requests"] == f"6, {plan.cube.total_request_bytes / 1e6:,.0f} MB"
    assert told["mapping"].endswith(
        "of the device that maps, GPU or CPU (at 150,000 px/s, assumed, as nothing was measured yet)"
    )
    assert told["storage"] == f"{STORED_SHARE * plan.cube.total_request_bytes / 1e6:,.0f} MB kept in the bucket"
    assert [value for what, value in rows if what == "note"] == ["a note on the area", "a note on the plan"]
