"""Any area, any tile size: every pixel exactly once, on one snapped grid."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Transformer
from shapely.geometry import MultiPolygon, Polygon, box

from gee.errors import GridError
from gee.grid import (
    MAX_REQUEST_BYTES,
    geometry_mask,
    grid_for,
    request_bytes,
    tiles,
    tiles_over,
    to_grid_crs,
    unwrap,
    utm_crs,
    wrap_longitude,
)
from gee.types import Grid

SMALL = st.floats(0.002, 0.05)


@st.composite
def areas(draw: st.DrawFn) -> shapely.Geometry:
    """A triangle of a few kilometres anywhere on land or sea, split at the antimeridian when it crosses it."""
    lon, lat = draw(st.floats(-180, 180)), draw(st.floats(-75, 75))
    width, height = draw(SMALL) / math.cos(math.radians(lat)), draw(SMALL)
    triangle = Polygon([(lon, lat), (lon + width, lat + height / 3), (lon + width / 4, lat + height)])
    east = triangle.intersection(box(-180, -90, 180, 90))
    west = shapely.transform(triangle.intersection(box(180, -90, 540, 90)), lambda xy: xy - [360, 0])
    parts = [part for part in (east, west) if part.area > 0]
    return parts[0] if len(parts) == 1 else MultiPolygon(parts)


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    """A grid of up to 90 x 90 pixels."""
    x0, y0 = 10.0 * draw(st.integers(0, 90_000)), 10.0 * draw(st.integers(0, 900_000))
    shape = draw(st.integers(1, 90)), draw(st.integers(1, 90))
    return Grid("EPSG:32654", (10.0, 0.0, x0, 0.0, -10.0, y0), shape)


@given(grids(), st.integers(1, 120))
def test_tiles_hold_every_pixel_exactly_once(grid: Grid, tile_px: int) -> None:
    count = np.zeros(grid.shape_yx, dtype=int)
    for tile in tiles(grid, tile_px):
        count[tile.slices_yx] += 1
        assert count[tile.slices_yx].shape == tile.shape_yx
        assert (tile.y0, tile.x0) == (tile.row * tile_px, tile.col * tile_px)
    assert (count == 1).all()


@given(grids(), st.integers(1, 120))
def test_windows_of_tiles_abut_without_gap_or_shift(grid: Grid, tile_px: int) -> None:
    for tile in tiles(grid, tile_px):
        window = grid.window(tile)
        assert (window.affine.c, window.affine.f) == (grid.bounds[0] + 10 * tile.x0, grid.bounds[3] - 10 * tile.y0)
        assert (window.crs, window.pixel_m, window.shape_yx) == (grid.crs, grid.pixel_m, tile.shape_yx)


@settings(deadline=None, max_examples=60)
@given(areas(), st.sampled_from([10.0, 20.0, 30.0]))
def test_the_grid_holds_the_area_tightly_and_is_snapped(area: shapely.Geometry, pixel_m: float) -> None:
    grid = grid_for(area, pixel_m)
    west, south, east, north = grid.bounds
    inner = to_grid_crs(area, grid.crs).bounds
    for outer, inside, sign in zip((west, south, east, north), inner, (1, 1, -1, -1), strict=True):
        assert outer % pixel_m == 0
        assert 0 <= sign * (inside - outer) < pixel_m + 1e-6
    assert grid.shape_yx[0] * grid.shape_yx[1] < 10_000_000, "an area of a few km does not make a world-wide grid"


@settings(deadline=None, max_examples=40)
@given(areas(), st.integers(37, 400))
def test_every_pixel_of_the_area_is_in_a_tile_over_it(area: shapely.Geometry, tile_px: int) -> None:
    grid = grid_for(area, 30.0)
    inside = geometry_mask(grid, area)
    covered = np.zeros(grid.shape_yx, dtype=bool)
    for tile in tiles_over(grid, tile_px, area):
        covered[tile.slices_yx] = True
        in_tile = geometry_mask(grid.window(tile), area)
        np.testing.assert_array_equal(in_tile, inside[tile.slices_yx])
    assert not (inside & ~covered).any()


def test_the_mask_is_by_pixel_centre() -> None:
    grid = Grid("EPSG:32654", (10.0, 0.0, 500_000.0, 0.0, -10.0, 4_700_040.0), (4, 4))
    square = shapely.box(500_004.0, 4_700_004.0, 500_026.0, 4_700_026.0)  # centres at 5, 15, 25
    to_lonlat = Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True)
    area = shapely.transform(square, lambda xy: np.column_stack(to_lonlat.transform(*xy.T)))
    np.testing.assert_array_equal(geometry_mask(grid, area), [[0, 0, 0, 0], [1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 0]])


def test_the_mask_leaves_out_holes_and_what_is_elsewhere() -> None:
    area = box(142.0, 42.0, 142.02, 42.02)
    holed = area.difference(box(142.008, 42.008, 142.012, 42.012))
    grid = grid_for(area)
    hole = geometry_mask(grid, area) & ~geometry_mask(grid, holed)
    assert 0.9 < hole.sum() * 100 / (331.0 * 444.3) < 1.1  # 0.004 degrees of longitude and latitude, in metres
    assert not geometry_mask(grid, box(10, 10, 10.1, 10.1)).any()


@pytest.mark.parametrize(
    ("lon", "lat", "crs"),
    [
        (141.9, 42.7, "EPSG:32654"), (137.2, 37.5, "EPSG:32653"), (-72.5, -13.2, "EPSG:32718"),
        (0.0, 0.0, "EPSG:32631"),
        (180.0, 10.0, "EPSG:32601"), (-180.0, 10.0, "EPSG:32601"), (179.999, -17.0, "EPSG:32760"),
        (181.0, 1.0, "EPSG:32601"),
        (-0.001, -0.001, "EPSG:32730"),
    ],
)  # fmt: skip
def test_utm_zone(lon: float, lat: float, crs: str) -> None:
    assert utm_crs(lon, lat) == crs


@given(st.floats(-180, 179.99))
def test_the_zone_is_the_nearest_one(lon: float) -> None:
    zone = int(utm_crs(lon, 1.0)[-2:])
    assert abs(wrap_longitude(lon - (zone * 6 - 183))) <= 3.0 + 1e-9


def test_an_area_across_the_antimeridian_makes_one_small_grid() -> None:
    taveuni = MultiPolygon([box(179.9, -17.0, 180.0, -16.9), box(-180.0, -17.0, -179.95, -16.9)])
    grid = grid_for(taveuni)
    assert grid.crs == "EPSG:32760"
    assert unwrap(taveuni).bounds == pytest.approx((179.9, -17.0, 180.05, -16.9))
    height_m, width_m = (side * 10 for side in grid.shape_yx)
    assert width_m == pytest.approx(0.15 * 111_320 * math.cos(math.radians(17)), rel=0.02)
    assert height_m == pytest.approx(11_064, rel=0.03)
    inside = geometry_mask(grid, taveuni)
    assert inside.mean() > 0.96, "the two halves meet: no seam is left between them"


def test_a_line_of_equator_points_takes_the_hemisphere_of_its_centroid() -> None:
    assert grid_for(box(30.0, -0.2, 30.1, 0.1)).crs == "EPSG:32736"
    assert grid_for(box(30.0, -0.1, 30.1, 0.2)).crs == "EPSG:32636"


@pytest.mark.parametrize(
    ("area", "words"),
    [
        (Polygon(), "empty"),
        (box(0, 84.5, 1, 85), "outside UTM"),
        (box(10, 10, 40, 20), "cut it into several areas"),
    ],
)
def test_an_area_that_fits_no_grid_is_refused(area: Polygon, words: str) -> None:
    with pytest.raises(GridError, match=words):
        grid_for(area)


def test_impossible_sizes_are_refused() -> None:
    grid = Grid("EPSG:32654", (10.0, 0.0, 0.0, 0.0, -10.0, 0.0), (5, 5))
    for tile_px in (0, -3, 40_000):
        with pytest.raises(GridError, match=str(tile_px)):
            tiles(grid, tile_px)
    with pytest.raises(GridError, match="positive"):
        grid_for(box(0, 0, 1, 1), 0.0)


def test_request_bytes_counts_a_mask_byte_for_each_pixel_and_band() -> None:
    assert request_bytes((512, 256), ["int16", "uint8", "float64"]) == 512 * 256 * (3 + 2 + 9)
    assert request_bytes((2048, 2048), ["int16"] * 4) == MAX_REQUEST_BYTES


def test_threads_may_ask_the_same_area_at_once() -> None:
    """In a process of its own: GEOS writes into a prepared geometry while it is asked, and crashes when two ask at once."""
    code = """
import time
import numpy as np, shapely
from concurrent.futures import ThreadPoolExecutor
from gee.grid import to_grid_crs

angle = np.linspace(0, 2 * np.pi, 4000)
area = shapely.Polygon(np.column_stack([141.9 + 0.2 * np.cos(angle), 42.7 + 0.2 * np.sin(angle)]))
west, south, east, north = to_grid_crs(area, "EPSG:32654").bounds
end = time.monotonic() + 2

def ask(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(west, east, 300), rng.uniform(south, north, 300)
    asked = to_grid_crs(area, "EPSG:32654")
    while time.monotonic() < end:
        shapely.contains_properly(asked, shapely.box(x, y, x + 500, y + 500))

with ThreadPoolExecutor(8) as pool:
    list(pool.map(ask, range(8)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[:300]
