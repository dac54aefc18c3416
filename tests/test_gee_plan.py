"""From an area and two windows to a cube, over the real wire: found, planned, pulled, read."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.catalogue import CatalogueWriter
from fakes.cubes import area_in
from fakes.servers import serve

from gee.cube import create_cube, missing_tiles, pull_tile, seal_cube
from gee.errors import CubeError, NoScenesError
from gee.masks import CloudScorePlus
from gee.phases import ImageryChoice
from gee.plan import CubePlan, CubeRules, plan_cube
from gee.scenecube import Block, open_cube
from gee.session import Session, open_session
from gee.types import Grid, Observed, Window
from infra.local.earthengine import create_app

COLLECTION = "COPERNICUS/S2_HARMONIZED"
SCORES = "GOOGLE/CLOUD_SCORE_PLUS/V1/S2_HARMONIZED"
SRTM = "USGS/SRTMGL1_003"
EVENT = dt.datetime(2018, 9, 5, 18, 7, 59, tzinfo=dt.UTC)
SCENE_GRID = Grid("EPSG:32654", (10.0, 0.0, 600_000.0, 0.0, -10.0, 4_730_000.0), (90, 100))
AREA = area_in(SCENE_GRID, 10.3, 12.2, 88.1, 79.9)
STEP = 1 / 3600
COLOURS = ("blue", "green", "red", "nir")


def write_catalogue(catalogue: CatalogueWriter) -> None:
    rng = np.random.default_rng(5)
    for index, day in {"a": -30, "b": -12, "p": 4, "q": 9}.items():
        bands = {name: rng.integers(100, 4000, (90, 100)).astype(np.uint16) for name in ("B2", "B3", "B4", "B8")}
        if index in "ab":
            bands = {name: np.where(np.arange(100) < 80, values, 0).astype(np.uint16) for name, values in bands.items()}
        time = EVENT.replace(microsecond=0) + dt.timedelta(days=day)
        catalogue.image(f"{COLLECTION}/{index}", bands, SCENE_GRID, time, {"CLOUDY_PIXEL_PERCENTAGE": 10.0})
        if index in "pq":
            score = rng.random((90, 100), np.float32)
            catalogue.image(f"{SCORES}/{index}", {"cs": score}, SCENE_GRID, time)
    y, x = np.mgrid[:60, :60]
    height = (300 + 100 * np.sin(x / 5.0) + 80 * np.cos(y / 4.0)).astype(np.int16)
    west, south, _, _ = AREA.bounds
    west, north = west - STEP / 3, south - 4 * STEP + 60 * STEP  # its outermost column, without slope, is in the area
    catalogue.image(SRTM, {"elevation": height}, Grid("EPSG:4326", (STEP, 0, west, 0, -STEP, north), (60, 60)))
    for index, day, echo in (("before", -8, -12.0), ("after", 4, -9.0)):
        bands = {name: np.full((90, 100), echo, np.float32) for name in ("VV", "VH")}
        orbit = {"instrumentMode": "IW", "orbitProperties_pass": "ASCENDING", "relativeOrbitNumber_start": 68}
        catalogue.image(f"COPERNICUS/S1_GRD/{index}", bands, SCENE_GRID, EVENT + dt.timedelta(days=day), orbit)
    catalogue.image("ONE/BAND/a", {"B9": np.ones((90, 100), np.uint16)}, SCENE_GRID, EVENT - dt.timedelta(days=3))
    catalogue.image("ONE/BAND/b", {"B9": np.ones((90, 100), np.uint16)}, SCENE_GRID, EVENT + dt.timedelta(days=3))


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    folder = tmp_path_factory.mktemp("catalogue")
    write_catalogue(CatalogueWriter(folder))
    app = create_app(folder, tmp_path_factory.mktemp("state"))
    with serve(app) as url, open_session(url, "local", timeout_s=30.0, max_attempts=2) as opened:
        yield opened


def planned(session: Session, folder: Path, tile_px: int = 32, **changes: Any) -> CubePlan:
    arguments: dict[str, Any] = {
        "uri": str(folder / "cube.zarr"),
        "geometry": AREA,
        "pre": Window(EVENT - dt.timedelta(days=90), EVENT),
        "post": Window(EVENT, EVENT + dt.timedelta(days=60)),
        "rules": rules(tile_px=tile_px),
        "code_version": "0.1.0",
    }
    return plan_cube(session, **{**arguments, **changes})


def rules(**changes: Any) -> CubeRules:
    score = ImageryChoice((CloudScorePlus(0.6, collection=SCORES),))
    return replace(CubeRules((COLLECTION,), score, ("NASA/NASADEM_HGT/001", SRTM)), **changes)


def read_whole(session: Session, plan: CubePlan) -> Block:
    create_cube(plan)
    for tile in missing_tiles(plan):
        pull_tile(plan, session, tile)
    seal_cube(plan)
    return open_cube(plan.uri).read_tile(slice(0, plan.grid.shape_yx[0]), slice(0, plan.grid.shape_yx[1]))


def test_a_plan_says_what_will_be_in_the_cube_and_why(session: Session, tmp_path: Path) -> None:
    plan = planned(session, tmp_path)
    assert plan.grid.crs == "EPSG:32654"
    assert plan.grid.transform == (10.0, 0.0, 600_100.0, 0.0, -10.0, 4_729_880.0)
    assert plan.grid.shape_yx == (68, 79)
    reflectance = [f"{colour}_{phase}" for phase in ("pre", "post") for colour in COLOURS]
    assert [layer.name for layer in plan.layers] == ["elevation", "slope", "hillshade", *reflectance]
    assert [scene.id[-1] for phase in plan.scenes for scene in phase.scenes] == ["a", "b", "p", "q"]
    assert plan.mask_rule.startswith("pre: no cloud mask")
    assert f"; post: cs >= 0.60 of {SCORES}" in plan.mask_rule
    assert (plan.dem.id, plan.dem.why) == (SRTM, "NASA/NASADEM_HGT/001 does not exist here")
    assert len(plan.tiles) == 9
    assert CubePlan.from_json(plan.to_json()) == plan
    assert planned(session, tmp_path).plan_hash == plan.plan_hash, "the same search makes the same plan"
    assert set(json.loads(plan.expression)) == {"result", "values"}


def test_a_cube_is_the_same_in_whatever_tiles_it_was_pulled(session: Session, tmp_path: Path) -> None:
    small = read_whole(session, planned(session, tmp_path / "small", 17))
    whole = read_whole(session, planned(session, tmp_path / "whole", 128))
    np.testing.assert_array_equal(small.observed, whole.observed)
    np.testing.assert_array_equal(small.date, whole.date)
    for name, values in small.layers.items():
        np.testing.assert_array_equal(values, whole.layers[name], err_msg=name)
    assert set(np.unique(whole.observed)) == {
        Observed.SWATH_GAP, Observed.CLEAR, Observed.CLOUD, Observed.SHADOW, Observed.NO_TERRAIN, Observed.OUTSIDE,
    }  # fmt: skip
    inside = whole.observed[0] != Observed.OUTSIDE
    assert np.isnan(whole.layers["red_pre"][:, 72:]).all(), "the swath ends there"
    clear = np.isin(whole.observed[1], (Observed.CLEAR, Observed.NO_TERRAIN)) & inside
    np.testing.assert_array_equal(np.isfinite(whole.layers["red_post"][clear]), True)
    assert 0.01 < np.nanmin(whole.layers["red_post"]) < np.nanmax(whole.layers["red_post"]) <= 0.4
    lost = (whole.observed == Observed.NO_TERRAIN).any(axis=0)
    assert np.isnan(whole.layers["slope"][lost]).all()
    assert np.nanmax(whole.layers["slope"]) > 20


def test_radar_and_more_of_the_terrain_are_layers_like_the_others(session: Session, tmp_path: Path) -> None:
    wanted = rules(radar=True, terrain=("elevation", "slope", "aspect", "relief"), tile_px=128)
    plan = planned(session, tmp_path, rules=wanted)
    names = [layer.name for layer in plan.layers]
    assert (names[:4], names[-2:]) == (["elevation", "slope", "aspect", "relief"], ["vv_change", "vh_change"])
    assert plan.radar is not None
    assert (plan.radar.relative_orbit, plan.radar_why) == (68, "")
    assert plan.scene_ids[-3:] == (*plan.radar.scene_ids, SRTM)
    assert CubePlan.from_json(plan.to_json()) == plan
    block = read_whole(session, plan)
    np.testing.assert_allclose(block.layers["vv_change"][20:40, 20:40], 3.0, atol=0.01)
    assert np.nanmax(block.layers["relief"]) > 50


def test_without_an_orbit_that_serves_both_the_plan_goes_without_radar_and_says_why(
    session: Session, tmp_path: Path
) -> None:
    soon = Window(EVENT - dt.timedelta(days=90), EVENT - dt.timedelta(days=9))
    plan = planned(session, tmp_path, rules=rules(radar=True), pre=soon)
    assert plan.radar is None
    assert "orbit" in plan.radar_why
    assert CubePlan.from_json(plan.to_json()) == plan


def test_without_a_scene_after_there_is_no_plan(session: Session, tmp_path: Path) -> None:
    with pytest.raises(NoScenesError, match="2 scenes before and 0 after"):
        planned(session, tmp_path, post=Window(EVENT, EVENT + dt.timedelta(days=3)))


def test_scenes_without_a_colour_make_no_cube(session: Session, tmp_path: Path) -> None:
    with pytest.raises(CubeError, match="no band in common"):
        planned(session, tmp_path, rules=rules(collections=("ONE/BAND",)))
