"""A larger area or a new ShakeMap: only the added tiles are pulled and mapped, and the map is the one made anew."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely
from fakes.quakes import EVENT_ID
from fakes.wiring import forget_requests, requests_of, wired
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.alignment import Alignment
from flows.copies import download_version
from flows.layout import EventLayout
from flows.map_event import map_event
from flows.planning import MapPlan, find_event, make_plan
from flows.publish import Publication
from flows.reaching import connected
from flows.remap import MARGIN_PX, Again, Ground, alignment_digest, changed_tiles
from flows.request import MapRequest
from flows.settings import load_settings
from flows.storage import Store
from flows.usgs import UsgsClient
from gee.scenecube import open_cube
from gee.types import Grid
from infra.local.stack import LocalStack
from modeling.prediction.inference import Execution
from modeling.prediction.predict import lattice_tiles
from modeling.rasters.coregister import Shift

BUCKET, ALONE = "grown-area", "grown-area-alone"


def plan_now(request: MapRequest) -> MapPlan:
    here = load_settings()
    with UsgsClient(here.usgs.url) as usgs, connected(here) as session:
        return make_plan(request, find_event(request, usgs), here, session, usgs)


def tiles_asked_for(stack: LocalStack) -> int:
    log: Any = requests_of(stack.endpoints.earthengine_url)
    grids = [entry["detail"]["grid"] for entry in log if "computePixels" in entry["path"]]
    return sum(grid["affineTransform"]["scaleX"] == 10.0 for grid in grids)


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUAKESLIDE_CUBE__TILE_PX", "64")
    monkeypatch.setenv("QUAKESLIDE_ALIGNMENT__CORRECT_ABOVE_PX", "99")


@pytest.fixture
def wiring(stack: LocalStack, some_weights: Path, tmp_path: Path) -> Iterator[dict[str, str]]:
    with wired(stack, BUCKET, some_weights, tmp_path) as environment:
        yield environment


def rasters(folder: Path) -> dict[str, Any]:
    found = {}
    for name in ("probability", "mask", "observed"):
        with rasterio.open(folder / f"{name}.tif") as file:
            found[name] = file.read(1)
            found[f"{name} tags"] = file.tags()
    return found


def test_a_grown_area_is_pulled_and_mapped_where_it_is_new(
    stack: LocalStack, wiring: dict[str, str], some_weights: Path, small_tiles: None, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("QUAKESLIDE_CUBE__TILE_PX", "64")  # after the wiring, which sets it too
    whole = plan_now(MapRequest(event_id=EVENT_ID))
    west, south, east, north = whole.area.geometry.bounds
    part = whole.area.geometry.intersection(shapely.box(west, south, west + 0.7 * (east - west), north))
    smaller = MapRequest(event_id=EVENT_ID, area_wkt=part.wkt, cut=False)
    larger = MapRequest(event_id=EVENT_ID, area_wkt=whole.area.geometry.wkt, cut=False)

    forget_requests(stack.endpoints.earthengine_url)
    first: Publication = map_event(smaller)
    pulled_first = tiles_asked_for(stack)
    plan = plan_now(larger)
    assert plan.takeover.names
    assert len(plan.takeover.names) == pulled_first, "all that was pulled"
    assert plan.takeover.describe(plan.cube) in dict(rows_of(plan))["taken over"]
    forget_requests(stack.endpoints.earthengine_url)
    second = map_event(larger)
    assert tiles_asked_for(stack) == len(plan.cube.tiles) - pulled_first == len(plan.to_pull) > 0
    assert (first.version, second.version) == (1, 2)

    with Store(f"gs://{BUCKET}", stack.endpoints.storage_url) as store:
        grown = rasters(download_version(store, second, tmp_path / "grown"))
        cube_hash = open_cube(plan.cube.uri, stack.endpoints.storage_url).cube_hash
    taken = grown["probability tags"]["taken_over"]
    assert taken.endswith("tiles of the map are those of version 1, whose ground has not changed")
    with wired(stack, ALONE, some_weights, tmp_path):
        monkeypatch.setenv("QUAKESLIDE_CUBE__TILE_PX", "64")
        alone = map_event(larger)
        with Store(f"gs://{ALONE}", stack.endpoints.storage_url) as store:
            anew = rasters(download_version(store, alone, tmp_path / "anew"))
            uri = EventLayout(f"gs://{ALONE}", EVENT_ID).cube(plan.cube.plan_hash)
            assert open_cube(uri, stack.endpoints.storage_url).cube_hash == cube_hash
    assert "taken_over" not in anew["probability tags"]
    for name in ("probability", "mask", "observed"):
        np.testing.assert_array_equal(grown[name], anew[name], err_msg=name)
    assert np.isfinite(grown["probability"]).any()


def rows_of(plan: MapPlan) -> list[tuple[str, str]]:
    from flows.sizing import plan_rows

    return plan_rows(plan)


# --- which tiles of the network have changed --------------------------------------------------------------------------

CPU = Execution("cpu", "float32", 64, 16)


def ground(
    origin: tuple[int, int], shape: tuple[int, int], hashes: dict[tuple[int, int], str], side: int = 64
) -> Ground:
    """Grid whose first tile is `origin` (row, column) of the lattice; hashes by absolute row and column."""
    grid = Grid(
        "EPSG:32654",
        (10.0, 0, 10.0 * side * origin[1], 0, -10.0, -10.0 * side * origin[0]),
        (shape[0] * side, shape[1] * side),
    )
    own = {(r - origin[0], c - origin[1]): value for (r, c), value in hashes.items()}
    height, width = shape
    return Ground(grid, side, {at: value for at, value in own.items() if 0 <= at[0] < height and 0 <= at[1] < width})


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_tile_stands_only_if_all_ground_that_it_reads_does(data: st.DataObject) -> None:
    rows, columns = st.integers(0, 3), st.integers(0, 3)
    old_at, new_at = (data.draw(st.tuples(rows, columns)) for _ in range(2))
    old_shape, new_shape = (data.draw(st.tuples(st.integers(1, 6), st.integers(1, 6))) for _ in range(2))
    places = [(r, c) for r in range(10) for c in range(10)]
    absent = data.draw(st.sets(st.sampled_from(places), max_size=12))
    hashes = {at: f"{at}" for at in places if at not in absent}
    touched = data.draw(st.lists(st.sampled_from(places), max_size=4))
    then = ground(old_at, old_shape, hashes)
    now = ground(new_at, new_shape, {**hashes, **{at: f"new {at}" for at in touched}})
    tiles = lattice_tiles(now.grid.shape_yx, CPU.tile_px, CPU.halo_px)
    changed = changed_tiles(tiles, now, then, CPU)
    for number, (row, column) in enumerate(tiles):
        window = row.window, column.window
        same = now.under(*window)[4] == then_under(now, then, window)
        if number not in changed:
            assert same, "every byte that it reads is what it was"


def then_under(now: Ground, then: Ground, window: tuple[slice, slice]) -> object:
    """The hashes of the earlier ground under a window of the new grid, looked up tile by tile."""
    (down, right), (old_down, old_right) = now.origin_px(), then.origin_px()
    height, width = now.grid.shape_yx
    top, bottom = max(0, window[0].start - MARGIN_PX), min(height, window[0].stop + MARGIN_PX)
    left, end = max(0, window[1].start - MARGIN_PX), min(width, window[1].stop + MARGIN_PX)
    return tuple(
        then.tiles.get((row + (down - old_down) // 64, column + (right - old_right) // 64))
        for row in range(top // 64, -(-bottom // 64))
        for column in range(left // 64, -(-end // 64))
    )


def test_the_same_ground_has_no_changed_tile_and_other_ground_only_changed_ones() -> None:
    hashes = {(r, c): f"{r} {c}" for r in range(5) for c in range(5)}
    here = ground((0, 0), (5, 5), hashes)
    tiles = lattice_tiles(here.grid.shape_yx, 64, 16)
    assert changed_tiles(tiles, here, here, CPU) == frozenset()
    everything = frozenset(range(25))
    assert changed_tiles(tiles, here, replace(here, grid=replace(here.grid, crs="EPSG:32655")), CPU) == everything
    assert changed_tiles(tiles, here, ground((0, 0), (5, 5), {}), CPU) == everything
    moved = Grid(here.grid.crs, (10.0, 0, 10.0, 0, -10.0, 0), here.grid.shape_yx)
    assert changed_tiles(tiles, here, replace(here, grid=moved), CPU) == everything
    one = {**hashes, (2, 2): "new"}
    assert changed_tiles(tiles, ground((0, 0), (5, 5), one), here, CPU) == frozenset({6, 7, 8, 11, 12, 13, 16, 17, 18})
    grown = ground((0, 0), (5, 8), {**hashes, **{(r, c): "added" for r in range(5) for c in range(5, 8)}})
    kept = set(range(40)) - changed_tiles(lattice_tiles(grown.grid.shape_yx, 64, 16), grown, here, CPU)
    assert kept == {row * 8 + column for row in range(5) for column in range(4)}, "the last column saw the old edge"


def test_two_alignments_that_do_the_same_are_the_same() -> None:
    small = Alignment(Shift(True, "", 0.1, 0.2), False, 10.0)
    assert alignment_digest(small) == alignment_digest(
        replace(small, shift=Shift(True, "", 0.3, -0.2), ground="gentle")
    )
    assert alignment_digest(small) != alignment_digest(replace(small, corrected=True))
    moved = replace(small, corrected=True)
    assert alignment_digest(moved) != alignment_digest(replace(moved, shift=Shift(True, "", 0.1, 0.21)))


def test_the_network_s_tiles_are_the_cube_s_unless_another_size_is_asked_for() -> None:
    again = Again(ground((0, 0), (5, 5), {}, side=512), {}, [])
    large = Execution("cpu", "float32", 1984, 16)
    assert again.execution(large, None) == replace(large, tile_px=512)
    assert again.execution(large, 1984) == large
    assert again.execution(replace(large, tile_px=256), None).tile_px == 256
    gpu = Execution("cuda", "bfloat16", 2048, 16, batch=1)
    assert again.execution(gpu, None) == replace(gpu, tile_px=512, batch=8)
