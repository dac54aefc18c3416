"""Seam-free to the last pixel: a cube pulled in tiles of any size equals the cube pulled whole.

Through the real client, the real wire and the stand-in's evaluation of the real expressions: composites of masked scenes,
dates, and terrain that is computed on the elevation model's own grid and looks at neighbours.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import shapely
import shapely.affinity
from fakes.catalogue import CatalogueWriter
from fakes.quakes import BANDS, SmallQuake
from fakes.servers import HTTP, serve
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pyproj import Transformer

from gee.grid import geometry_mask, tiles_over
from gee.masks import CloudScorePlus
from gee.phases import ImageryChoice
from gee.plan import CubePlan, CubeRules, plan_cube
from gee.pulling import pull_cube
from gee.scenecube import Block, open_cube
from gee.session import Session, open_session
from gee.terrain import LAYERS
from gee.types import Grid, Observed, Window
from gee.wetness import MERIT_HYDRO
from infra.local.earthengine import create_app

TERRAIN = tuple(LAYERS)


@pytest.fixture(scope="module")
def session(small_quake: SmallQuake, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    drained = tmp_path_factory.mktemp("drained")
    event, step = small_quake.region.event, 1 / 1200
    grid = Grid("EPSG:4326", (step, 0.0, round(event.lon, 2) - 0.1, 0.0, -step, round(event.lat, 2) + 0.1), (240, 240))
    upstream = np.random.default_rng(3).lognormal(0, 2, grid.shape_yx).astype(np.float32)
    CatalogueWriter(drained).image(MERIT_HYDRO, {"upa": upstream}, grid)
    app = create_app([small_quake.catalogue, drained], tmp_path_factory.mktemp("state"))
    with serve(app) as url, open_session(url, "local", timeout_s=60.0, max_attempts=2) as opened:
        yield opened


def planned(session: Session, quake: SmallQuake, area: shapely.Geometry, uri: str, **composites: Any) -> CubePlan:
    """The cube of an area with every terrain layer and the given composites."""
    time = quake.region.event.time
    imagery = ImageryChoice((CloudScorePlus(),), **composites)
    return plan_cube(
        session,
        uri=uri,
        geometry=area,
        pre=Window(time - dt.timedelta(days=40), time),
        post=Window(time, time + dt.timedelta(days=40)),
        code_version="0",
        rules=CubeRules(("COPERNICUS/S2_HARMONIZED",), imagery, ("srtm",), terrain=TERRAIN, tile_px=2048),
    )


def everything(plan: CubePlan) -> Block:
    height, width = plan.grid.shape_yx
    return open_cube(plan.uri).read_tile(slice(0, height), slice(0, width))


@pytest.mark.parametrize("before", ["median", pytest.param("medoid", marks=pytest.mark.slow)])
@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(corners=[(8, 8), (8, 9), (8, 117)], tile_px=49)  # an edge that runs through pixel centres
@given(
    corners=st.lists(st.tuples(st.integers(40, 200), st.integers(40, 200)), min_size=3, max_size=6, unique=True),
    tile_px=st.integers(61, 200),
)
def test_a_cube_in_tiles_equals_the_cube_pulled_whole(
    session: Session,
    small_quake: SmallQuake,
    tmp_path_factory: pytest.TempPathFactory,
    before: str,
    corners: list[tuple[int, int]],
    tile_px: int,
) -> None:
    folder = tmp_path_factory.mktemp("seams")
    region = small_quake.region
    grid = Grid(region.crs, tuple(region.transform)[:6], region.elevation_m.shape)
    polygon = shapely.MultiPoint([(x * 10.0, y * 10.0) for x, y in corners]).convex_hull.buffer(25.0)
    a, _, c, _, e, f = grid.transform
    area = _geographic(shapely.affinity.affine_transform(polygon, [1, 0, 0, e / a, c, f]), grid.crs)
    whole = planned(session, small_quake, area, str(folder / "whole.zarr"), pre_composite=before)
    cut = replace(
        whole, uri=str(folder / "cut.zarr"), tile_px=tile_px, tiles=tiles_over(whole.grid, tile_px, whole.geometry)
    )
    pull_cube(whole, session)
    HTTP.delete(f"{session.config.url}/_standin/log")
    pull_cube(cut, session)
    one, other = everything(whole), everything(cut)

    log = HTTP.get(f"{session.config.url}/_standin/log").json()["requests"]
    asked = [entry["detail"]["grid"] for entry in log if "computePixels" in entry["path"]]
    sizes = sorted((each["dimensions"]["height"], each["dimensions"]["width"]) for each in asked)
    assert sizes == sorted(tile.shape_yx for tile in cut.tiles), "each tile once, and no pixel twice"

    pulled = np.zeros(whole.grid.shape_yx, bool)
    for tile in cut.tiles:
        assert not pulled[tile.slices_yx].any()
        pulled[tile.slices_yx] = True
    assert pulled[geometry_mask(whole.grid, whole.geometry)].all(), "every pixel of the area is in a tile"
    assert set(one.layers) == {
        *TERRAIN,
        *(f"{c}_{p}" for c in ("blue", "green", "red", "nir") for p in ("pre", "post")),
    }
    assert len(BANDS) == 4
    for name, values in one.layers.items():
        np.testing.assert_array_equal(other.layers[name], np.where(pulled, values, np.nan), err_msg=name)
    np.testing.assert_array_equal(other.observed, one.observed)
    np.testing.assert_array_equal(other.date, np.where(pulled, one.date, -1))
    inside = one.observed[:, geometry_mask(whole.grid, whole.geometry)]
    assert (inside != Observed.OUTSIDE).all()


def _geographic(polygon: shapely.Geometry, crs: str) -> shapely.Geometry:
    back = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    return shapely.transform(shapely.segmentize(polygon, 200.0), lambda xy: np.column_stack(back.transform(*xy.T)))
