"""Terrain layers against Earth Engine's formulas on the model's own grid, resampled bilinearly."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import ee
import numpy as np
import numpy.typing as npt
import pytest
from fakes.catalogue import CatalogueWriter
from fakes.servers import serve
from pyproj import Transformer
from shapely.geometry import box

from gee.catalog import DemChoice
from gee.grid import pixel_centres
from gee.pixels import fetch_pixels
from gee.session import Session, open_session
from gee.terrain import LAYERS, NODATA, coarse_terrain, terrain_image
from gee.types import Grid
from infra.local.earthengine import create_app

STEP = 1 / 3600
NATIVE = Grid("EPSG:4326", (STEP, 0.0, 141.9, 0.0, -STEP, 42.75), (70, 80))
UTM = Grid("EPSG:32654", (10.0, 0.0, 574_000.0, 0.0, -10.0, 4_732_800.0), (120, 110))
AREA = box(141.905, 42.735, 141.918, 42.746)
EARTH_RADIUS_M = 6_371_007.18
IMAGE = DemChoice("USGS/SRTMGL1_003", "elevation", "image", "")
TILED = DemChoice("JAXA/ALOS/AW3D30/V3_2", "DSM", "collection", "")


def elevation() -> npt.NDArray[np.int16]:
    """Hills of a few hundred metres, the sea in a corner, and a hole in the model."""
    y, x = np.mgrid[: NATIVE.shape_yx[0], : NATIVE.shape_yx[1]]
    hills = 400 + 250 * np.sin(x / 6.0) * np.cos(y / 8.0) + 5.0 * ((x * 7 + y * 3) % 5)
    hills[60:, :20] = 0
    values = hills.astype(np.int16)
    values[35, 40] = -32_768
    return values


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    folder = tmp_path_factory.mktemp("catalogue")
    catalogue, values = CatalogueWriter(folder), elevation()
    catalogue.image(IMAGE.id, {"elevation": values}, NATIVE)
    east = Grid(NATIVE.crs, (STEP, 0.0, 141.9 + 40 * STEP, 0.0, -STEP, 42.75), (70, 40))
    catalogue.image(f"{TILED.id}/W", {"DSM": values[:, :40]}, Grid(NATIVE.crs, NATIVE.transform, (70, 40)))
    catalogue.image(f"{TILED.id}/E", {"DSM": values[:, 40:]}, east)
    with (
        serve(create_app(folder, tmp_path_factory.mktemp("state"))) as url,
        open_session(url, "local", timeout_s=30.0, max_attempts=2) as opened,
    ):
        yield opened


def native_layers() -> dict[str, npt.NDArray[np.float64]]:
    """Earth Engine's slope and hillshade of the model (DESIGN: central differences on a sphere), NaN where unknown."""
    z = elevation().astype(float)
    z[z == NODATA] = np.nan
    latitude = np.radians(42.75 - STEP * (np.arange(z.shape[0]) + 0.5))
    metres_y = np.radians(STEP) * EARTH_RADIUS_M
    metres_x = metres_y * np.cos(latitude)[:, None]
    dx, dy = np.full_like(z, np.nan), np.full_like(z, np.nan)
    dx[:, 1:-1] = (z[:, 2:] - z[:, :-2]) / (2 * metres_x)
    dy[1:-1] = (z[2:] - z[:-2]) / (2 * metres_y)  # downwards in the array: to the south
    slope = np.arctan(np.hypot(dx, dy))
    slope[np.isnan(z)] = np.nan
    facing = np.arctan2(-dx, dy)  # azimuth of steepest descent, clockwise from north
    zenith = np.radians(45.0)
    shade = np.cos(zenith) + np.sin(zenith) * np.sin(slope) * np.cos(np.radians(270.0) - facing)
    return {"elevation": z, "slope": np.degrees(slope), "hillshade": np.round(np.clip(255 * shade, 0, 255))}


def bilinear(native: npt.NDArray[np.float64], grid: Grid) -> npt.NDArray[np.float64]:
    """Values at the pixel centres of `grid`, NaN where one of the four neighbours is unknown or there is none."""
    x, y = pixel_centres(grid)
    lon, lat = Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True).transform(*np.meshgrid(x, y))
    col, row = (lon - 141.9) / STEP - 0.5, (42.75 - lat) / STEP - 0.5
    left, top = np.floor(col).astype(int), np.floor(row).astype(int)
    inside = (left >= 0) & (top >= 0) & (left < native.shape[1] - 1) & (top < native.shape[0] - 1)
    left, top = np.where(inside, left, 0), np.where(inside, top, 0)
    u, v = col - left, row - top
    upper = native[top, left] * (1 - u) + native[top, left + 1] * u
    lower = native[top + 1, left] * (1 - u) + native[top + 1, left + 1] * u
    return np.where(inside, upper * (1 - v) + lower * v, np.nan)


def fetch(session: Session, dem: DemChoice, grid: Grid) -> dict[str, npt.NDArray[Any]]:
    expression = ee.serializer.encode(terrain_image(dem, AREA), for_cloud_api=True)
    stored = fetch_pixels(session, expression, grid, dict.fromkeys(LAYERS, "int16"))
    return {
        name: np.where(values == NODATA, np.nan, values * LAYERS[name].scale)  # type: ignore[index]
        for name, values in stored.items()
    }


@pytest.mark.parametrize("dem", [IMAGE, TILED], ids=["image", "collection"])
def test_layers_are_those_of_the_native_grid_resampled_bilinearly(session: Session, dem: DemChoice) -> None:
    got, native = fetch(session, dem, UTM), native_layers()
    tolerance = {"elevation": 0.26, "slope": 0.0056, "hillshade": 0.0056}
    for name, values in got.items():
        wanted = bilinear(native[name], UTM)
        known = np.isfinite(wanted)
        assert known.mean() > 0.9
        np.testing.assert_allclose(values[known], wanted[known], atol=tolerance[name], err_msg=name)
    assert np.nanmax(got["slope"]) > 30


def test_where_the_model_has_nothing_there_is_nothing(session: Session) -> None:
    away = Grid(UTM.crs, (10.0, 0.0, 500_000.0, 0.0, -10.0, 4_600_000.0), (5, 5))
    assert all(np.isnan(values).all() for values in fetch(session, IMAGE, away).values())
    hole = np.isnan(fetch(session, IMAGE, UTM)["slope"])
    assert 0 < hole.sum() < 400, "the hole in the model is a hole in the slope, and a small one"


@pytest.mark.parametrize("dem", [IMAGE, TILED], ids=["image", "collection"])
def test_a_coarse_look_keeps_the_slopes_of_the_native_grid(session: Session, dem: DemChoice) -> None:
    wide = box(141.9, 42.731, 141.922, 42.75)
    height, slope, grid = coarse_terrain(session, dem, wide, max_px=1_500)
    assert grid.pixel_m == 60.0
    assert height.shape == slope.shape == grid.shape_yx
    assert height.size <= 2 * 1_500
    native = native_layers()
    x, y = pixel_centres(grid)
    lon, lat = Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True).transform(*np.meshgrid(x, y))
    col, row = np.floor((lon - 141.9) / STEP).astype(int), np.floor((42.75 - lat) / STEP).astype(int)
    inside = (col >= 0) & (row >= 0) & (col < 80) & (row < 70)
    for values, name, step in ((height, "elevation", 0.5), (slope, "slope", 0.01)):
        wanted = np.where(inside, native[name][np.clip(row, 0, 69), np.clip(col, 0, 79)], np.nan)
        np.testing.assert_allclose(values, wanted, atol=step / 2 + 1e-3, err_msg=name)
    assert (height[inside] == 0).any(), "the sea can be told"


def test_a_coarse_look_is_never_finer_than_the_model(session: Session) -> None:
    _, _, grid = coarse_terrain(session, IMAGE, AREA)
    assert grid.pixel_m == 30.0


def test_the_stored_steps_hold_every_elevation_on_earth() -> None:
    lowest, highest = NODATA + 1, -NODATA - 1
    assert lowest * LAYERS["elevation"].scale < -11_000
    assert highest * LAYERS["elevation"].scale > 8_849
    assert highest * LAYERS["slope"].scale > 90
    assert highest * LAYERS["hillshade"].scale > 255


def test_the_expression_is_plain_json(session: Session) -> None:
    text = json.dumps(ee.serializer.encode(terrain_image(TILED, AREA), for_cloud_api=True))
    assert "Terrain.slope" in text
    assert TILED.id in text
