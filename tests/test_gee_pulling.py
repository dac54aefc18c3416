"""gee/pulling.py: a cube within its budget, gone on with, repaired; nothing asked twice, nothing lost."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path

import ee
import numpy as np
import pytest
from fakes import cubes
from fakes.earthengine import PROJECT, earth_engine
from fakes.pixel_server import PixelServer
from fakes.servers import serve

from gee.budget import Budget, Job
from gee.cube import missing_tiles, survey
from gee.errors import BudgetError, CubeError
from gee.plan import CubePlan
from gee.pulling import cost_of, pull_cube, repair_cube
from gee.records import TileRecord
from gee.scenecube import open_cube
from gee.session import Session, SessionConfig, connect

EVERYTHING = slice(0, cubes.GRID.shape_yx[0]), slice(0, cubes.GRID.shape_yx[1])


@pytest.fixture(scope="module")
def source() -> Iterator[tuple[PixelServer, Session]]:
    """Answers without profiles."""
    fake = PixelServer(cubes.pixels)
    with serve(fake.app) as url, connect(SessionConfig(url, "p", 20.0, 3, 8, 0.01)) as session:
        yield fake, session


@pytest.fixture
def earth(source: tuple[PixelServer, Session]) -> tuple[PixelServer, Session]:
    source[0].reset()
    return source


@pytest.fixture(scope="module")
def profiling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Session, str]]:
    """The stand-in, which gives profiles, and an expression with the bands of `cubes.plan`."""
    home = tmp_path_factory.mktemp("ee")
    (home / "catalogue").mkdir()
    config = SessionConfig("", PROJECT, 20.0, 3, 8, 0.01)
    with earth_engine(home / "catalogue", home / "state") as url:
        image = ee.Image.constant([7, 8, 9, 10]).toInt16().rename([layer.name for layer in cubes.LAYERS])
        for phase in ("pre", "post"):
            image = image.addBands(ee.Image.constant(1).toUint8().rename(f"observed_{phase}"))
            image = image.addBands(ee.Image.constant(17_000).toInt32().rename(f"date_{phase}"))
        text = json.dumps(ee.serializer.encode(image, for_cloud_api=True))
        with connect(dataclasses.replace(config, url=url)) as session:
            yield session, text


def side_by_side(work: Callable[[Job], TileRecord], jobs: Iterable[Job]) -> Iterator[TileRecord]:
    """Three at a time, as a cluster would."""
    jobs = iter(jobs)
    with ThreadPoolExecutor(3) as pool:
        running = set()
        while True:
            while len(running) < 3 and (job := next(jobs, None)) is not None:
                running.add(pool.submit(work, job))
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)


def test_a_cube_is_pulled_side_by_side_and_told_of(earth: tuple[PixelServer, Session], tmp_path: Path) -> None:
    plan = cubes.plan(str(tmp_path / "cube.zarr"))
    told: list[tuple[int, int, str]] = []
    sealed = pull_cube(
        plan, earth[1], spread=side_by_side, told=lambda done, of, record: told.append((done, of, record.name))
    )
    assert [count[:2] for count in told] == [(done, 6) for done in range(1, 7)]
    assert {count[2] for count in told} == {tile.name for tile in plan.tiles}
    assert sealed == open_cube(plan.uri).cube_hash == pull_cube(plan, earth[1])
    assert len(earth[0].asked) == 6
    assert not any(
        "x-earth-engine-computation-profiling" in headers for headers in earth[0].headers[1:6] if not headers
    )


def test_too_dear_by_the_assumption_is_said_after_the_pilot(earth: tuple[PixelServer, Session], tmp_path: Path) -> None:
    plan = cubes.plan(str(tmp_path / "cube.zarr"))
    with pytest.raises(BudgetError, match=r"cube\.zarr takes .*assumed, since none was profiled.* more than the 1e-05"):
        pull_cube(plan, earth[1], budget=Budget(1e-5))
    assert len(earth[0].asked) == 3
    assert len(missing_tiles(plan)) == 3, "what was pulled stays"
    sealed = pull_cube(plan, earth[1], budget=Budget(1.0), spread=side_by_side)
    assert len(earth[0].asked) == 6, "and is not asked for again"
    assert pull_cube(plan, earth[1], budget=Budget(1e-5)) == sealed, "what is complete costs nothing more"


def test_the_cost_is_measured_and_written_down(profiling: tuple[Session, str], tmp_path: Path) -> None:
    plan = dataclasses.replace(cubes.plan(str(tmp_path / "cube.zarr"), tile_px=20), expression=profiling[1])
    with pytest.raises(BudgetError, match=r"measured on 3 of them") as raised:
        pull_cube(plan, profiling[0], budget=Budget(1e-9, profiled_every=4), spread=side_by_side)
    assert "35 tiles" in str(raised.value)
    pull_cube(plan, profiling[0], budget=Budget(1.0, profiled_every=4), spread=side_by_side)
    costs = [record.eecu_s for record in survey(plan)[0].values()]
    assert 3 + 7 <= sum(cost is not None for cost in costs) <= 3 + 9
    assert all(cost is None or 0 <= cost < 10 for cost in costs)
    told = cost_of(plan)
    assert (told.measured, told.to_come_s) == (sum(cost is not None for cost in costs), 0)
    assert told.spent_s >= math.fsum(cost for cost in costs if cost is not None)
    block = open_cube(plan.uri).read_tile(*EVERYTHING)
    np.testing.assert_allclose(block.layers["red_post"], 10e-4, rtol=1e-6)


def test_a_budget_that_runs_out_on_the_way_stops_and_goes_on_later(
    profiling: tuple[Session, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pilot was cheap, what came after is not: said with the measured cost, before all is spent."""
    costs = iter([1.0, 1.0, 1.0, *[5.0] * 100])
    monkeypatch.setattr("gee.cube.eecu_seconds", lambda session, profiles: next(costs) if profiles else None)
    plan = dataclasses.replace(cubes.plan(str(tmp_path / "cube.zarr"), tile_px=20), expression=profiling[1])
    budget = Budget(60.0 / 3600, profiled_every=1)
    with pytest.raises(BudgetError, match="spent so far"):
        pull_cube(plan, profiling[0], budget=budget)
    records, missing = survey(plan)
    spent = math.fsum(record.eecu_s or 0.0 for record in records.values())
    assert 45 <= spent <= 60
    assert len(records) + len(missing) == 35
    again = pull_cube(plan, profiling[0], budget=Budget(1.0))
    assert open_cube(plan.uri).cube_hash == again
    assert {name: record for name, record in survey(plan)[0].items() if name in records} == records


def test_repair_reads_every_byte_and_pulls_what_is_damaged(earth: tuple[PixelServer, Session], tmp_path: Path) -> None:
    plan = cubes.plan(str(tmp_path / "cube.zarr"))
    sealed = pull_cube(plan, earth[1])
    flipped = Path(plan.uri, "date", "c", "0", "1", "1")
    flipped.write_bytes(flipped.read_bytes()[:-9] + b"\x00" + flipped.read_bytes()[-8:])
    Path(plan.uri, "stack", "c", "0", "0", "2").unlink()
    Path(plan.uri, "y", "c", "0").write_bytes(b"")
    (tmp_path / "cube.tiles" / "0000-0000.json").write_bytes(b"{}")
    (tmp_path / "cube.manifest.json").write_bytes(b"{}")
    with pytest.raises(CubeError):
        open_cube(plan.uri)
    earth[0].asked.clear()
    assert [tile.name for tile in repair_cube(plan, earth[1])] == ["0000-0000", "0000-0002", "0001-0001"]
    assert len(earth[0].asked) == 3
    cube = open_cube(plan.uri)
    assert cube.cube_hash == sealed
    cube.read_tile(*EVERYTHING)
    assert repair_cube(plan, earth[1]) == ()


def test_a_worker_refuses_a_plan_that_is_no_longer_the_one(earth: tuple[PixelServer, Session], tmp_path: Path) -> None:
    plan = cubes.plan(str(tmp_path / "cube.zarr"))

    def meanwhile(work: Callable[[Job], TileRecord], jobs: Iterable[Job]) -> Iterator[TileRecord]:
        (tmp_path / "cube.plan.json").unlink()
        other: CubePlan = cubes.plan(plan.uri, dem="another")
        from gee.cube import create_cube

        create_cube(other)
        return map(work, jobs)

    with pytest.raises(CubeError, match="another plan by now"):
        pull_cube(plan, earth[1], spread=meanwhile)
