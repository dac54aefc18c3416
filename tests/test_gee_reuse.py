"""gee/reuse.py: a new plan of an event pulls what is new and nothing else, and never takes a stale or foreign tile."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import shapely
from fakes.catalogue import CatalogueWriter
from fakes.cubes import area_in
from fakes.servers import serve
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import box

from gee.cube import create_cube, damaged_tiles, pull_tile, survey
from gee.grid import geometry_mask, grid_for, lattice_offset_px, serves, tiles, tiles_over
from gee.masks import CloudScorePlus
from gee.phases import ImageryChoice
from gee.plan import FORMAT, CubePlan, CubeRules, plan_cube
from gee.pulling import pull_cube
from gee.records import with_checksum
from gee.reuse import Takeover, find_takeover, settled_crs, tile_keys
from gee.scenecube import open_cube
from gee.session import Session, open_session
from gee.types import Grid, Observed, Window
from infra.local.earthengine import create_app
from infra.local.storage import create_app as create_storage

COLLECTION = "COPERNICUS/S2_HARMONIZED"
SCORES = "GOOGLE/CLOUD_SCORE_PLUS/V1/S2_HARMONIZED"
SRTM = "USGS/SRTMGL1_003"
PIECES = "COPERNICUS/DEM/GLO30"
EVENT = dt.datetime(2018, 9, 5, 18, 7, 59, tzinfo=dt.UTC)
SIDE = 32
"""Of a tile; the ground below starts on its lattice."""
GROUND = Grid("EPSG:32654", (10.0, 0.0, 600_000.0, 0.0, -10.0, 4_729_920.0), (256, 320))
WEST, EAST = slice(0, 150), slice(120, 320)
"""Columns of the two granules: neither reaches the whole ground."""
SMALL: Any = area_in(GROUND, 40.3, 70.2, 150.1, 190.9)
LARGE: Any = area_in(GROUND, 40.3, 40.6, 262.1, 190.9)
FIRST, LATER = Window(EVENT, EVENT + dt.timedelta(days=10)), Window(EVENT, EVENT + dt.timedelta(days=20))
SCENES = {"west-a": -30, "east-b": -12, "west-p": 4, "east-q": 9, "east-r": 14}


def write_catalogue(catalogue: CatalogueWriter) -> None:
    rng = np.random.default_rng(5)
    height, _ = GROUND.shape_yx
    for index, day in SCENES.items():
        columns = WEST if index.startswith("west") else EAST
        width = columns.stop - columns.start
        grid = Grid(GROUND.crs, (10.0, 0, 600_000.0 + 10 * columns.start, 0, -10.0, 4_729_920.0), (height, width))
        bands = {
            name: rng.integers(100, 4000, (height, width)).astype(np.uint16) for name in ("B2", "B3", "B4", "B8", "B11")
        }
        time = EVENT.replace(microsecond=0) + dt.timedelta(days=day)
        catalogue.image(f"{COLLECTION}/{index}", bands, grid, time, {"CLOUDY_PIXEL_PERCENTAGE": 10.0})
        catalogue.image(f"{SCORES}/{index}", {"cs": rng.random((height, width), np.float32)}, grid, time)
    step, (west, south, _, _) = 1 / 3600, LARGE.bounds
    y, x = np.mgrid[:200, :240]
    heights = (300 + 100 * np.sin(x / 5.0) + 80 * np.cos(y / 4.0)).astype(np.int16)
    place = Grid("EPSG:4326", (step, 0, west - 40 * step, 0, -step, south + 160 * step), (200, 240))
    catalogue.image(SRTM, {"elevation": heights}, place)
    half = Grid("EPSG:4326", (step, 0, west - 40 * step, 0, -step, south + 160 * step), (200, 120))
    other = Grid("EPSG:4326", (step, 0, west + 80 * step, 0, -step, south + 160 * step), (200, 120))
    catalogue.image(f"{PIECES}/one", {"DEM": heights[:, :120].astype(np.float32)}, half, EVENT)
    catalogue.image(f"{PIECES}/two", {"DEM": heights[:, 120:].astype(np.float32)}, other, EVENT)


@pytest.fixture(scope="module")
def earth(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Session, str]]:
    folder = tmp_path_factory.mktemp("catalogue")
    write_catalogue(CatalogueWriter(folder))
    app = create_app(folder, tmp_path_factory.mktemp("state"))
    with serve(app) as url, open_session(url, "local", timeout_s=30.0, max_attempts=2) as opened:
        yield opened, url


def planned(session: Session, folder: Path | str, name: str = "cube", **changes: Any) -> CubePlan:
    rules = CubeRules((COLLECTION,), ImageryChoice((CloudScorePlus(0.6, collection=SCORES),)), (SRTM,), lattice=True)
    arguments: dict[str, Any] = {
        "uri": f"{folder}/{name}.zarr",
        "geometry": SMALL,
        "pre": Window(EVENT - dt.timedelta(days=90), EVENT),
        "post": FIRST,
        "rules": replace(rules, tile_px=SIDE, **changes.pop("rules", {})),
        "code_version": "0.1.0",
    }
    return plan_cube(session, **{**arguments, **changes})


def pixels_asked_for(url: str) -> int:
    log = httpx.get(f"{url}/_standin/log", timeout=30).json()["requests"]
    return sum("computePixels" in str(request["path"]) for request in log)


def pulled(plan: CubePlan, earth: tuple[Session, str], endpoint: str = "") -> int:
    """Take over what is there, pull the rest, and give the number of requests for pixels that this took."""
    session, url = earth
    takeover = find_takeover(plan, endpoint)
    httpx.delete(f"{url}/_standin/log", timeout=30).raise_for_status()
    pull_cube(plan, session, endpoint, takeover=takeover)
    assert pixels_asked_for(url) >= len(plan.tiles) - len(takeover.tiles)
    return pixels_asked_for(url)


def assert_equals_a_fresh_pull(plan: CubePlan, earth: tuple[Session, str], folder: Path, endpoint: str = "") -> None:
    """The cube, however much was taken over, is to the bit the one that is pulled where nothing else is."""
    alone = replace(plan, uri=f"{folder}/alone/cube.zarr")
    assert pull_cube(alone, earth[0]) == open_cube(plan.uri, endpoint).cube_hash
    assert damaged_tiles(plan, endpoint) == ()


def test_a_grown_area_pulls_only_the_added_tiles(earth: tuple[Session, str], tmp_path: Path) -> None:
    small = planned(earth[0], tmp_path / "event", "small")
    assert pulled(small, earth) == len(small.tiles) == 16
    large = planned(earth[0], tmp_path / "event", "large", geometry=LARGE)
    assert large.grid != small.grid
    takeover = find_takeover(large)
    windows = {small.grid.window(tile) for tile in small.tiles}
    assert {large.grid.window(large.tile(name)) for name in takeover.names} == windows, "every tile of before"
    assert pulled(large, earth) == len(large.tiles) - 16 == 24
    assert takeover.describe(large) == "16 of 40 tiles are taken over from 1 earlier cube of the event"
    assert_equals_a_fresh_pull(large, earth, tmp_path)
    records = survey(large)[0].values()
    cut_anew = [one for one in takeover.tiles if one.record.blake3 != survey(large)[0][one.name].blake3]
    assert 0 < len(cut_anew) < 16, "those at the edge of the area, where it has grown"
    assert sum(record.pulled_bytes > 0 for record in records) == 24
    assert {record.taken_from for record in records} == {"", small.uri}


def test_a_shrunk_area_pulls_nothing(earth: tuple[Session, str], tmp_path: Path) -> None:
    pulled(planned(earth[0], tmp_path / "event", "large", geometry=LARGE), earth)
    small = planned(earth[0], tmp_path / "event", "small")
    assert pulled(small, earth) == 0
    assert_equals_a_fresh_pull(small, earth, tmp_path)


def test_a_new_scene_pulls_only_the_tiles_that_it_reaches(earth: tuple[Session, str], tmp_path: Path) -> None:
    first = planned(earth[0], tmp_path / "event", "first", geometry=LARGE)
    pulled(first, earth)
    later = planned(earth[0], tmp_path / "event", "later", geometry=LARGE, post=LATER)
    assert {scene.index for scene in later.post_scenes.scenes} == {"west-p", "east-q", "east-r"}
    reach = 600_000.0 + 10 * EAST.start - 200.0
    reached = {tile.name for tile in later.tiles if later.grid.window(tile).bounds[2] >= reach}
    assert find_takeover(later).names == {tile.name for tile in later.tiles} - reached
    assert 0 < len(reached) < len(later.tiles)
    assert pulled(later, earth) == len(reached)
    assert_equals_a_fresh_pull(later, earth, tmp_path)


def test_nothing_is_taken_when_a_pixel_could_be_another(earth: tuple[Session, str], tmp_path: Path) -> None:
    first = planned(earth[0], tmp_path / "event", "first")
    pulled(first, earth)
    stricter = ImageryChoice((CloudScorePlus(0.7, collection=SCORES),))
    for change in (
        {"rules": {"imagery": stricter}},
        {"rules": {"imagery": replace(stricter, masks=(CloudScorePlus(0.6, collection=SCORES),), reasons=())}},
        {"rules": {"terrain": ("elevation", "slope", "hillshade", "aspect")}},
        {"rules": {"dems": (PIECES,)}},
        {"rules": {"pixel_m": 20.0}},
        {"rules": {"lattice": False}},
        {"pre": Window(EVENT - dt.timedelta(days=20), EVENT)},
        {"crs": "EPSG:32655"},
    ):
        plan = planned(earth[0], tmp_path / "event", "other", **change)
        assert find_takeover(plan).tiles == (), change
    assert len(find_takeover(planned(earth[0], tmp_path / "event", "other", geometry=LARGE)).tiles) == 16
    elsewhere = planned(earth[0], tmp_path / "another-event", "other", geometry=LARGE)
    assert find_takeover(elsewhere).tiles == (), "the cubes of another event are not looked at"


def test_a_cube_of_other_expressions_is_not_believed(earth: tuple[Session, str], tmp_path: Path) -> None:
    """Its plan names the same scenes and rules, but what was asked of Earth Engine then was not what is asked now."""
    first = planned(earth[0], tmp_path / "event", "first")
    older = replace(first, expression=first.expression.replace("0.6", "0.61"))
    assert older.expression != first.expression
    pulled(older, earth)
    assert tile_keys(older) == {}
    assert find_takeover(planned(earth[0], tmp_path / "event", "second", geometry=LARGE)).tiles == ()


def test_a_cube_of_another_format_or_with_a_damaged_plan_is_passed_over(
    earth: tuple[Session, str], tmp_path: Path
) -> None:
    pulled(planned(earth[0], tmp_path / "event", "first"), earth)
    second = planned(earth[0], tmp_path / "event", "second", geometry=LARGE)
    path = tmp_path / "event" / "first.plan.json"
    whole = path.read_bytes()
    assert len(find_takeover(second).tiles) == 16
    path.write_bytes(with_checksum({"plan": {**json.loads(whole)["plan"], "format": FORMAT - 1}}))
    assert find_takeover(second).tiles == ()
    path.write_bytes(whole.replace(b"EPSG:32654", b"EPSG:32655"))
    assert find_takeover(second).tiles == ()
    path.write_bytes(whole)
    assert len(find_takeover(second).tiles) == 16


def test_what_is_damaged_is_pulled(earth: tuple[Session, str], tmp_path: Path) -> None:
    folder = tmp_path / "event"
    first = planned(earth[0], folder, "first")
    pulled(first, earth)
    second = planned(earth[0], folder, "second", geometry=LARGE)
    takeover = find_takeover(second)
    sources = [taken.source for taken in takeover.tiles]
    stack, date, observed = (folder / "first.zarr" / name / "c" / "0" for name in ("stack", "date", "observed"))
    flipped = stack / str(sources[1].row) / str(sources[1].col)
    flipped.write_bytes(flipped.read_bytes()[:40] + bytes([flipped.read_bytes()[40] ^ 1]) + flipped.read_bytes()[41:])
    (date / str(sources[2].row) / str(sources[2].col)).unlink()
    swapped = observed / str(sources[3].row) / str(sources[3].col)
    swapped.write_bytes((observed / str(sources[4].row) / str(sources[4].col)).read_bytes())
    cut = next(taken for taken in takeover.tiles if taken.record.seen is not None and taken.source not in sources[:5])
    seen = folder / "first.seen" / cut.source.name
    seen.write_bytes(seen.read_bytes()[:-6] + b"\x07" + seen.read_bytes()[-5:])
    httpx.delete(f"{earth[1]}/_standin/log", timeout=30).raise_for_status()
    pull_cube(second, earth[0], takeover=takeover)
    assert pixels_asked_for(earth[1]) == 24 + 4
    assert_equals_a_fresh_pull(second, earth, tmp_path)


def test_a_tile_of_before_its_uncut_codes_were_kept_serves_where_the_area_has_not_grown(
    earth: tuple[Session, str], tmp_path: Path
) -> None:
    first = planned(earth[0], tmp_path / "event", "first")
    pulled(first, earth)
    for tile in first.tiles:  # as an earlier program wrote it
        record = replace(survey(first)[0][tile.name], seen=None)
        (tmp_path / "event" / "first.tiles" / f"{tile.name}.json").write_bytes(record.to_json())
        (tmp_path / "event" / "first.seen" / tile.name).unlink(missing_ok=True)
    second = planned(earth[0], tmp_path / "event", "second", geometry=LARGE)
    inner = {
        tile.name
        for tile in second.tiles
        if second.grid.window(tile) in {first.grid.window(one) for one in first.tiles}
        and not (geometry_mask(second.grid.window(tile), LARGE) & ~geometry_mask(second.grid.window(tile), SMALL)).any()
    }
    assert 0 < len(inner) < 16
    httpx.delete(f"{earth[1]}/_standin/log", timeout=30).raise_for_status()
    pull_cube(second, earth[0], takeover=find_takeover(second))
    assert pixels_asked_for(earth[1]) == 40 - len(inner)
    assert_equals_a_fresh_pull(second, earth, tmp_path)
    assert not [record for record in survey(second)[0].values() if record.taken_from and record.seen is not None]


def test_what_vanishes_after_the_plan_is_pulled(earth: tuple[Session, str], tmp_path: Path) -> None:
    first = planned(earth[0], tmp_path / "event", "first")
    pulled(first, earth)
    second = planned(earth[0], tmp_path / "event", "second", geometry=LARGE)
    takeover = find_takeover(second)
    for path in sorted((tmp_path / "event").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    pull_cube(second, earth[0], takeover=takeover)
    assert_equals_a_fresh_pull(second, earth, tmp_path)


def test_a_takeover_of_another_plan_is_passed_over(earth: tuple[Session, str], tmp_path: Path) -> None:
    first = planned(earth[0], tmp_path / "event", "first")
    pulled(first, earth)
    takeover = find_takeover(planned(earth[0], tmp_path / "event", "second", geometry=LARGE))
    later = planned(earth[0], tmp_path / "event", "later", geometry=LARGE, post=LATER)
    httpx.delete(f"{earth[1]}/_standin/log", timeout=30).raise_for_status()
    pull_cube(later, earth[0], takeover=takeover)
    assert pixels_asked_for(earth[1]) == len(later.tiles)
    assert {record.taken_from for record in survey(later)[0].values()} == {""}
    assert Takeover().describe(later) == ""


def test_tiles_of_a_killed_pull_count_too_and_so_do_those_taken_over(
    earth: tuple[Session, str], tmp_path: Path
) -> None:
    first = planned(earth[0], tmp_path / "event", "first")
    create_cube(first)
    for tile in first.tiles[:7]:
        pull_tile(first, earth[0], tile)
    second = planned(earth[0], tmp_path / "event", "second", geometry=LARGE)
    assert pulled(second, earth) == 40 - 7
    for path in (tmp_path / "event").glob("first*"):
        path.rename(tmp_path / path.name)
    third = planned(earth[0], tmp_path / "event", "third", geometry=SMALL.union(LARGE.buffer(-1e-3)))
    assert pulled(third, earth) == 0, "a tile that was taken over can be taken over"
    assert_equals_a_fresh_pull(third, earth, tmp_path)


def test_the_worst_tiles_are_pulled_first(earth: tuple[Session, str], tmp_path: Path) -> None:
    plan = planned(earth[0], tmp_path / "event")
    wanted = [plan.tiles[number].name for number in (13, 2, 15)]
    came: list[str] = []
    sealed = pull_cube(plan, earth[0], first=wanted, told=lambda done, of, record: came.append(record.name))
    assert came == [*wanted, *(tile.name for tile in plan.tiles if tile.name not in wanted)]
    assert_equals_a_fresh_pull(plan, earth, tmp_path)
    assert sealed == open_cube(plan.uri).cube_hash


def test_in_a_bucket_it_is_the_same(earth: tuple[Session, str], tmp_path: Path) -> None:
    with serve(create_storage(tmp_path / "bucket")) as endpoint:
        httpx.post(f"{endpoint}/storage/v1/b", json={"name": "maps"}, timeout=30).raise_for_status()
        folder = "gs://maps/events/one/cubes"
        assert settled_crs(folder, 10.0, endpoint) == ""
        first = planned(earth[0], folder, "first")
        assert pulled(first, earth, endpoint) == 16
        second = planned(earth[0], folder, "second", geometry=LARGE)
        assert pulled(second, earth, endpoint) == 24
        assert_equals_a_fresh_pull(second, earth, tmp_path, endpoint)
        assert settled_crs(folder, 10.0, endpoint) == "EPSG:32654"
        assert settled_crs(folder, 20.0, endpoint) == "", "another pixel is another lattice"


def test_an_area_that_grows_over_the_zone_s_edge_stays_in_the_zone(earth: tuple[Session, str], tmp_path: Path) -> None:
    pulled(planned(earth[0], tmp_path / "event", "first"), earth)
    wide = SMALL.union(box(144.05, 42.70, 144.2, 42.71))
    assert grid_for(wide).crs == "EPSG:32654"
    farther = box(*SMALL.bounds).union(box(144.4, 42.5, 145.3, 42.9))
    assert grid_for(farther).crs == "EPSG:32655"
    kept = grid_for(farther, crs=settled_crs(str(tmp_path / "event"), 10.0), snap_px=SIDE)
    assert kept.crs == "EPSG:32654"


@pytest.mark.parametrize(
    ("crs", "area", "fits"),
    [
        ("EPSG:32654", box(140, 40, 142, 42), True),
        ("EPSG:32754", box(140, 40, 142, 42), True),  # the other hemisphere: a map with a false northing of 10,000 km
        ("EPSG:32654", box(143, 40, 146.9, 42), True),
        ("EPSG:32654", box(143, 40, 147.1, 42), False),
        ("EPSG:32654", box(134.9, 40, 140, 42), False),
        ("EPSG:32601", box(179.0, -17, 179.9, -16), True),
        ("EPSG:32760", shapely.MultiPolygon([box(179.9, -17, 180, -16), box(-180, -17, -179.9, -16)]), True),
        ("EPSG:32601", shapely.MultiPolygon([box(179.9, -17, 180, -16), box(-180, -17, -179.9, -16)]), True),
        ("", box(140, 40, 142, 42), False),
        ("EPSG:4326", box(140, 40, 142, 42), False),
    ],
)
def test_a_zone_serves_ground_near_it(crs: str, area: Any, fits: bool) -> None:
    assert serves(crs, area) is fits


def test_a_model_in_pieces_is_taken_over_only_well_inside(earth: tuple[Session, str], tmp_path: Path) -> None:
    """Near the edge of an area pieces beyond it were not looked for: what a tile holds there may change when it grows."""
    pieces = {"dems": (PIECES,)}
    first = planned(earth[0], tmp_path / "event", "first", rules=dict(pieces), geometry=LARGE)
    pulled(first, earth)
    assert find_takeover(replace(first, uri=f"{tmp_path}/event/again.zarr", code_version="2")).tiles == ()
    grown = planned(earth[0], tmp_path / "event", "grown", rules=dict(pieces), geometry=LARGE.buffer(1e-4))
    assert find_takeover(grown).tiles == ()


# --- the lattice ------------------------------------------------------------------------------------------------------

corner = st.tuples(st.floats(137.5, 142.5), st.floats(-50.0, 60.0))
size = st.tuples(st.floats(0.001, 0.08), st.floats(0.001, 0.08))


@settings(deadline=None, max_examples=60)
@given(corner, size, st.floats(0.0, 0.1), st.sampled_from([64, 128, 512, 600]), st.sampled_from([10.0, 20.0]))
def test_a_larger_area_has_the_tiles_of_a_smaller_one(
    at: tuple[float, float], extent: tuple[float, float], growth: float, tile_px: int, pixel_m: float
) -> None:
    inner = box(*at, at[0] + extent[0], at[1] + extent[1])
    outer = box(at[0] - growth, at[1], at[0] + extent[0], at[1] + extent[1] + growth / 2)
    small = grid_for(inner, pixel_m, snap_px=tile_px)
    large = grid_for(outer, pixel_m, crs=small.crs, snap_px=tile_px)
    for grid in (small, large):
        assert lattice_offset_px(grid, tile_px) == (0, 0)
        assert all(tile.shape_yx == (tile_px, tile_px) for tile in tiles(grid, tile_px))
    windows = {large.window(tile) for tile in tiles_over(large, tile_px, outer)}
    assert {small.window(tile) for tile in tiles_over(small, tile_px, inner)} <= windows


@settings(deadline=None, max_examples=40)
@given(corner, size, st.sampled_from([64, 512]))
def test_the_lattice_holds_the_area_with_less_than_a_tile_to_spare(
    at: tuple[float, float], extent: tuple[float, float], tile_px: int
) -> None:
    area = box(*at, at[0] + extent[0], at[1] + extent[1])
    tight = grid_for(area)
    snapped = grid_for(area, snap_px=tile_px)
    for outer, inner, sign in zip(snapped.bounds, tight.bounds, (1, 1, -1, -1), strict=True):
        assert 0 <= sign * (inner - outer) < 10 * tile_px
    rows, columns = np.nonzero(geometry_mask(tight, area))
    shift = [
        round((snapped.transform[5] - tight.transform[5]) / 10),
        round((tight.transform[2] - snapped.transform[2]) / 10),
    ]
    there = geometry_mask(snapped, area)
    assert there.sum() == len(rows)
    assert there[rows + shift[0], columns + shift[1]].all()


def test_a_step_of_no_pixels_is_refused() -> None:
    from gee.errors import GridError

    with pytest.raises(GridError, match="snapped to 0 px"):
        grid_for(shapely.box(140, 40, 140.1, 40.1), snap_px=0)


def test_what_is_cut_away_is_kept_beside_a_tile_and_outside_it_is_still_told(
    earth: tuple[Session, str], tmp_path: Path
) -> None:
    plan = planned(earth[0], tmp_path / "event")
    pulled(plan, earth)
    records = survey(plan)[0]
    for tile in plan.tiles:
        inside = geometry_mask(plan.grid.window(tile), plan.geometry)
        assert (records[tile.name].seen is None) == inside.all()
        observed = open_cube(plan.uri).read_tile(*tile.slices_yx).observed
        assert ((observed == Observed.OUTSIDE) == ~inside).all()
