"""Terrain layers against their formulas on the model's own grid, resampled bilinearly."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import ee
import numpy as np
import numpy.typing as npt
import pytest
from fakes.catalogue import CatalogueWriter
from fakes.servers import serve
from pyproj import Transformer
from shapely.geometry import box

from gee.dem import DemChoice, DemZone
from gee.errors import PermanentError
from gee.grid import pixel_centres, tiles
from gee.pixels import fetch_pixels
from gee.relief import circle
from gee.session import Session, open_session
from gee.terrain import DEFAULT_LAYERS, FLAT_ASPECT, LAYERS, NODATA, Layer, check_layers, coarse_terrain, terrain_image
from gee.types import Grid
from infra.local.earthengine import create_app

STEP = 1 / 3600
NATIVE = Grid("EPSG:4326", (STEP, 0.0, 141.9, 0.0, -STEP, 42.75), (70, 80))
HALVED = Grid("EPSG:4326", (STEP / 2, 0.0, 141.9, 0.0, -STEP / 2, 42.75), (140, 160))
UTM = Grid("EPSG:32654", (10.0, 0.0, 574_000.0, 0.0, -10.0, 4_732_800.0), (120, 110))
MERIT = Grid("EPSG:4326", (3 * STEP, 0.0, 141.9 - STEP, 0.0, -3 * STEP, 42.75 + STEP), (30, 35))
AREA = box(141.905, 42.735, 141.918, 42.746)
EARTH_RADIUS_M = 6_371_007.18
ZONE = DemZone(NATIVE.crs, NATIVE.transform)
IMAGE = DemChoice("USGS/SRTMGL1_003", "elevation", "image", "", (ZONE,))
TILED = DemChoice(
    "JAXA/ALOS/AW3D30/V3_2", "DSM", "collection", "", (DemZone(NATIVE.crs, NATIVE.transform, ("E", "W")),)
)
SPIKY = DemChoice("CUSTOM/SPIKES", "z", "image", "", (ZONE,))


def elevation() -> npt.NDArray[np.int16]:
    """Hills of a few hundred metres, the sea in a corner, and a hole in the model."""
    y, x = np.mgrid[: NATIVE.shape_yx[0], : NATIVE.shape_yx[1]]
    hills = 400 + 250 * np.sin(x / 6.0) * np.cos(y / 8.0) + 5.0 * ((x * 7 + y * 3) % 5)
    hills[60:, :20] = 0
    values = hills.astype(np.int16)
    values[35, 40] = -32_768
    return values


def spikes() -> npt.NDArray[np.float32]:
    """A plain with a peak and a pit that no mountain has."""
    plain = np.zeros(NATIVE.shape_yx, np.float32)
    plain[20, 20], plain[40, 40] = 9_000, -9_000
    return plain


def drained() -> npt.NDArray[np.float32]:
    """Areas upslope in km2, from a crest's to a river's; the sea in a corner, by its value and by its mask."""
    y, x = np.mgrid[: MERIT.shape_yx[0], : MERIT.shape_yx[1]]
    areas = (0.006 * np.exp((x + 2 * y) / 8)).astype(np.float32)
    areas[24:, :3], areas[24:, 3:5] = -9999, np.nan
    return areas


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    folder = tmp_path_factory.mktemp("catalogue")
    catalogue, values = CatalogueWriter(folder), elevation()
    catalogue.image(IMAGE.id, {"elevation": values}, NATIVE)
    catalogue.image(SPIKY.id, {"z": spikes()}, NATIVE)
    catalogue.image("MERIT/Hydro/v1_0_1", {"upa": drained(), "elv": drained()}, MERIT)
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
    steep = np.where(np.isnan(slope), np.nan, slope > 0)
    zenith = np.radians(45.0)
    shade = np.cos(zenith) + np.sin(zenith) * np.sin(slope) * np.cos(np.radians(270.0) - facing)
    return {"elevation": z, "slope": np.degrees(slope), "hillshade": np.round(np.clip(255 * shade, 0, 255)),
            "sine": np.sin(facing) * steep, "cosine": np.cos(facing) * steep}  # fmt: skip


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


def fetch(
    session: Session, dem: DemChoice, grid: Grid, layers: Sequence[Layer] = DEFAULT_LAYERS
) -> dict[str, npt.NDArray[Any]]:
    expression = ee.serializer.encode(terrain_image(dem, AREA, layers), for_cloud_api=True)
    stored = fetch_pixels(session, expression, grid, dict.fromkeys(layers, "int16"))
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


def test_aspect_is_resampled_by_its_sine_and_cosine(session: Session) -> None:
    native = native_layers()
    sine, cosine = bilinear(native["sine"], HALVED), bilinear(native["cosine"], HALVED)
    got = fetch(session, IMAGE, HALVED, ["aspect"])["aspect"]
    np.testing.assert_array_equal(np.isfinite(got), np.isfinite(sine))
    facing = np.isfinite(got) & (np.hypot(sine, cosine) > 0.01)
    wanted = np.degrees(np.arctan2(sine, cosine)) % 360
    difference = (got - wanted + 180) % 360 - 180
    assert np.abs(difference[facing]).max() < 0.02
    assert got[facing].min() >= 0
    assert got[facing].max() < 360
    flat = np.isfinite(got) & (np.hypot(sine, cosine) == 0)
    assert flat.sum() > 50, "the sea"
    assert (got[flat] == FLAT_ASPECT).all()


def test_aspect_turns_through_north(session: Session) -> None:
    got, native = fetch(session, IMAGE, UTM, ["aspect"])["aspect"], native_layers()
    nearest = np.degrees(np.arctan2(native["sine"], native["cosine"])) % 360
    assert (nearest[np.isfinite(nearest)] > 350).any()
    northward = np.isfinite(got) & (bilinear(np.asarray(native["cosine"]), UTM) > 0.98)
    assert northward.any()
    assert (np.minimum(got[northward], 360 - got[northward]) < 15).all(), "never the south between 350 and 10"


def test_curvatures_are_those_of_the_native_grid(session: Session) -> None:
    z = elevation().astype(float)
    z[z == NODATA] = np.nan
    metres_y = np.radians(STEP) * EARTH_RADIUS_M
    metres_x = metres_y * np.cos(np.radians(42.75 - STEP * (np.arange(70) + 0.5)))[1:-1, None]
    p, q = (z[1:-1, 2:] - z[1:-1, :-2]) / (2 * metres_x), (z[:-2, 1:-1] - z[2:, 1:-1]) / (2 * metres_y)
    r = (z[1:-1, 2:] + z[1:-1, :-2] - 2 * z[1:-1, 1:-1]) / metres_x**2
    t = (z[2:, 1:-1] + z[:-2, 1:-1] - 2 * z[1:-1, 1:-1]) / metres_y**2
    s = (z[:-2, 2:] + z[2:, :-2] - z[:-2, :-2] - z[2:, 2:]) / (4 * metres_x * metres_y)
    steep = np.maximum(p**2 + q**2, 1e-12)
    layers: list[Layer] = ["profile_curvature", "plan_curvature"]
    got = fetch(session, IMAGE, UTM, layers)
    assert list(got) == layers
    for name, native in (
        ("profile_curvature", -(r * p**2 + 2 * s * p * q + t * q**2) / steep),
        ("plan_curvature", -(r * q**2 - 2 * s * p * q + t * p**2) / steep),
    ):
        wanted = bilinear(np.pad(native, 1, constant_values=np.nan), UTM)
        known = np.isfinite(wanted)
        assert known.mean() > 0.9
        assert np.nanmax(np.abs(wanted)) > 0.005
        np.testing.assert_allclose(got[name][known], wanted[known], atol=1.01e-5, rtol=1e-4, err_msg=name)


def test_what_no_step_can_hold_is_cut_off(session: Session) -> None:
    layers: list[Layer] = ["plan_curvature", "profile_curvature", "relief"]
    stored = fetch_pixels(
        session,
        ee.serializer.encode(terrain_image(SPIKY, AREA, layers), for_cloud_api=True),
        Grid("EPSG:4326", NATIVE.transform, NATIVE.shape_yx),
        dict.fromkeys(layers, "int16"),
    )
    assert (stored["relief"].max(), stored["relief"][30, 60]) == (-NODATA - 1, 0)
    assert stored["plan_curvature"][20, 20] == 0, "on the very peak the ground is level"
    assert (stored["profile_curvature"].max(), NODATA + 1) == (
        -NODATA - 1,
        stored["profile_curvature"].clip(NODATA + 1).min(),
    )


def test_relief_is_from_the_lowest_to_the_highest_within_a_circle(session: Session) -> None:
    window = np.array(circle(ZONE, 42.74, 250.0), bool)
    assert window.shape == (17, 23), "8 pixels of 31 m to the north, 11 of 23 m to the east"
    z = elevation().astype(float)
    z[z == NODATA] = np.nan
    top, low = np.full(z.shape, -np.inf), np.full(z.shape, np.inf)
    padded = np.pad(z, ((8, 8), (11, 11)), constant_values=np.nan)
    for row, col in np.argwhere(window):
        part = padded[row : row + 70, col : col + 80]
        top, low = np.fmax(top, part), np.fmin(low, part)
    wanted = bilinear(np.where(np.isnan(z), np.nan, top - low), UTM)
    got = fetch(session, IMAGE, UTM, ["relief"])["relief"]
    np.testing.assert_array_equal(np.isfinite(got), np.isfinite(wanted))
    np.testing.assert_allclose(got, wanted, atol=0.051)
    assert np.nanmax(got) > 300


def test_a_circle_is_as_wide_in_metres_as_it_is_high_at_any_latitude() -> None:
    for latitude in (0.0, 42.0, 65.0, -80.0):
        window = np.array(circle(ZONE, latitude, 250.0), bool)
        rows, cols = (np.flatnonzero(window.any(axis=axis)).size // 2 for axis in (1, 0))
        metres = np.radians(STEP) * EARTH_RADIUS_M
        assert 250 - metres < rows * metres <= 250
        assert 250 - metres < cols * metres * np.cos(np.radians(latitude)) <= 250
    metric = DemZone("EPSG:32654", (90.0, 0.0, 0.0, 0.0, -90.0, 0.0))
    np.testing.assert_array_equal(np.sum(circle(metric, 40.0, 180.0)), 13)
    np.testing.assert_array_equal(circle(metric, 40.0, 20.0), [[0, 1, 0], [1, 1, 1], [0, 1, 0]])


def test_wetness_is_of_the_area_upslope_and_the_slope(session: Session) -> None:
    areas = drained().astype(float)
    areas[~(areas > 0)] = np.nan
    latitude = np.radians(42.75 + STEP - 3 * STEP * (np.arange(30) + 0.5))
    side = np.radians(3 * STEP) * EARTH_RADIUS_M * np.sqrt(np.cos(latitude))[:, None]
    gathered = np.log(areas * 1e6 / side)
    rows, cols = np.mgrid[:70, :80]
    row, col = (rows + 0.5 + 1) / 3 - 0.5, (cols + 0.5 + 1) / 3 - 0.5
    top, left = np.floor(row).astype(int), np.floor(col).astype(int)
    v, u = row - top, col - left
    upper = gathered[top, left] * (1 - u) + gathered[top, left + 1] * u
    lower = gathered[top + 1, left] * (1 - u) + gathered[top + 1, left + 1] * u
    slopes = np.maximum(np.tan(np.radians(native_layers()["slope"])), 0.001)
    native = upper * (1 - v) + lower * v - np.log(slopes)
    wanted, got = bilinear(native, UTM), fetch(session, IMAGE, UTM, ["twi"])["twi"]
    known = np.isfinite(wanted)
    assert known.mean() > 0.8
    np.testing.assert_allclose(got[known], wanted[known], atol=0.002)
    assert np.nanmax(got) > np.nanmin(got) + 4


def test_a_cube_of_all_layers_is_the_same_in_tiles_and_whole(session: Session) -> None:
    layers = get_args(Layer)
    expression = ee.serializer.encode(terrain_image(TILED, AREA, layers), for_cloud_api=True)
    types = dict.fromkeys(layers, "int16")
    whole = fetch_pixels(session, expression, UTM, types)
    for tile in tiles(UTM, 47):
        part = fetch_pixels(session, expression, UTM.window(tile), types)
        for name in layers:
            np.testing.assert_array_equal(part[name], whole[name][tile.slices_yx], err_msg=f"{name} {tile.name}")


def test_layers_are_checked_before_they_are_asked_for(session: Session) -> None:
    assert check_layers(session, ["twi", "slope", "elevation"]) == ("elevation", "slope", "twi")
    for wrong in (["slope", "sloop"], [], ["slope", "slope"]):
        with pytest.raises(PermanentError, match="plan_curvature"):
            check_layers(session, wrong)


def test_wetness_without_its_data_set_is_refused(tmp_path: Path) -> None:
    (tmp_path / "catalogue").mkdir()
    with (
        serve(create_app(tmp_path / "catalogue", tmp_path / "state")) as url,
        open_session(url, "local", timeout_s=30.0, max_attempts=2) as empty,
    ):
        assert check_layers(empty, ["relief"]) == ("relief",)
        with pytest.raises(PermanentError, match="needs MERIT/Hydro/v1_0_1"):
            check_layers(empty, ["twi"])
