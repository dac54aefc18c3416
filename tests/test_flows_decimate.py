"""flows/decimate.py: small views that lie where the large rasters lie."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from fakes.products import GRID, polygons, write_rasters
from hypothesis import given
from hypothesis import strategies as st

from flows.decimate import (
    SlicesYX,
    area_window,
    block_mean,
    busiest_window,
    count_codes,
    decimate_layers,
    decimate_tif,
    decimation,
    whole,
    window_bounds,
)
from flows.facts import combined_observed
from gee.types import Grid, Observed

LARGE = Grid("EPSG:32654", (10.0, 0.0, 500_000.0, 0.0, -10.0, 4_700_000.0), (1300, 1100))


def ramp(window: SlicesYX) -> Mapping[str, npt.NDArray[np.float32]]:
    """A layer whose value is its row number, and one that is its column number."""
    rows, columns = np.mgrid[window].astype(np.float32)
    return {"row": rows, "column": columns}


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 1500))
def test_decimation_is_the_smallest_power_of_two_that_fits(height: int, width: int, limit: int) -> None:
    factor = decimation((slice(0, height), slice(0, width)), limit)
    assert factor & (factor - 1) == 0
    assert max(height, width) <= limit * factor
    assert factor == 1 or max(height, width) > limit * factor / 2


def test_block_means_leave_out_what_is_unknown() -> None:
    values = np.array([[1, 3, np.nan], [5, np.nan, np.nan], [2, 4, 6]], np.float32)
    np.testing.assert_array_equal(block_mean(values, 2), np.array([[3, np.nan], [3, 6]], np.float32))


def test_a_decimated_scene_is_the_mean_of_its_blocks_across_all_windows_read() -> None:
    small = decimate_layers(ramp, LARGE, ("row", "column"), whole(LARGE), 400)
    assert small.data.shape == (2, 325, 275)
    np.testing.assert_array_equal(small.data[0][:, 0], np.arange(325) * 4 + 1.5)
    np.testing.assert_array_equal(small.data[1][0, :], np.arange(275) * 4 + 1.5)
    assert small.bounds == LARGE.bounds


def test_a_part_is_decimated_from_its_own_corner() -> None:
    part = slice(700, 800), slice(600, 723)
    small = decimate_layers(ramp, LARGE, ("row",), part, 50)
    assert small.data.shape == (1, 25, 31)
    assert small.data[0, 0, 0] == 701.5
    left, bottom, right, top = small.bounds
    assert (left, top) == (506_000.0, 4_693_000.0)
    assert (right, bottom) == (507_240.0, 4_692_000.0)  # one pixel more than the window: 31 blocks of 4
    assert window_bounds(LARGE, part) == (506_000.0, 4_692_000.0, 507_230.0, 4_693_000.0)


def test_windows_are_read_no_larger_than_a_chunk() -> None:
    largest = 0

    def read(window: SlicesYX) -> Mapping[str, npt.NDArray[np.float32]]:
        nonlocal largest
        layers = ramp(window)
        largest = max(largest, layers["row"].size)
        return layers

    decimate_layers(read, LARGE, ("row",), whole(LARGE), 300)
    assert largest <= 512 * 512


def test_a_geotiff_is_read_small_with_gaps_as_nan_and_codes_as_codes(tmp_path: Path) -> None:
    observed = np.full(GRID.shape_yx, Observed.CLEAR, np.uint8)
    observed[:60] = Observed.CLOUD
    write_rasters(tmp_path, observed)
    small = decimate_tif(tmp_path / "probability.tif", GRID.bounds, 40)
    assert small.data.shape == (1, 30, 40)
    assert np.isnan(small.data[0, :15]).all()
    assert np.isfinite(small.data[0, 15:]).all()
    assert small.bounds == GRID.bounds
    codes = decimate_tif(tmp_path / "observed.tif", GRID.bounds, 40, codes=True)
    assert np.unique(codes.data).tolist() == [1, 2]


def test_a_part_of_a_geotiff_that_reaches_beyond_its_edge_is_cut(tmp_path: Path) -> None:
    write_rasters(tmp_path)
    left, bottom, right, top = GRID.bounds
    part = decimate_tif(tmp_path / "observed.tif", (left + 800, bottom - 500, right + 500, top), 1000, codes=True)
    assert part.data.shape == (1, 120, 80)
    assert part.bounds == (left + 800, bottom, right, top)


def test_codes_are_counted_block_by_block(tmp_path: Path) -> None:
    observed = np.full(GRID.shape_yx, Observed.CLEAR, np.uint8)
    observed[:30, :50] = Observed.SNOW
    write_rasters(tmp_path, observed)
    assert count_codes(tmp_path / "observed.tif", combined_observed) == {
        Observed.CLEAR: observed.size - 1500,
        Observed.SNOW: 1500,
    }


def test_the_busiest_window_holds_the_cluster_and_stays_inside() -> None:
    slides = polygons(5).to_crs("EPSG:4326")
    window = busiest_window(GRID, slides, 60)
    assert window is not None
    rows, columns = window
    assert (rows.stop - rows.start, columns.stop - columns.start) == (60, 60)
    assert rows.start >= 0
    assert rows.stop <= GRID.shape_yx[0]
    left, bottom, right, top = window_bounds(GRID, window)
    inside = polygons(5).cx[left:right, bottom:top]
    assert len(inside) >= 4


def test_a_window_larger_than_the_grid_is_the_grid() -> None:
    assert busiest_window(GRID, polygons(1), 1000) == whole(GRID)


def test_without_landslides_no_window_is_busy() -> None:
    empty = gpd.GeoDataFrame(geometry=gpd.GeoSeries([], crs=GRID.crs), crs=GRID.crs)
    assert busiest_window(GRID, empty, 60) is None


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_block_means_keep_the_mean_of_whole_blocks(factor: int) -> None:
    values = np.random.default_rng(1).random((8, 16)).astype(np.float32)
    assert block_mean(values, factor).mean() == pytest.approx(values.mean(), rel=1e-5)


def test_the_window_of_an_area_leaves_out_whole_tiles_around_it(tmp_path: Path) -> None:
    grid = Grid("EPSG:32654", (10.0, 0.0, 500_000.0, 0.0, -10.0, 4_700_000.0), (1024, 1536))
    codes = np.full((2, *grid.shape_yx), Observed.OUTSIDE, np.uint8)
    codes[1, 600:800, 300:1000] = Observed.CLEAR
    path = tmp_path / "observed.tif"
    profile = {"driver": "GTiff", "count": 2, "height": 1024, "width": 1536, "dtype": "uint8"}
    with rasterio.open(path, "w", crs=grid.crs, transform=grid.affine, **profile) as file:
        file.write(codes)
    rows, columns = area_window(path, grid)
    for part, (start, stop) in ((rows, (600, 800)), (columns, (300, 1000))):
        assert start - 36 <= part.start <= start - 24
        assert stop + 24 <= part.stop <= stop + 36
    with rasterio.open(path, "r+") as file:
        file.write(np.full_like(codes, Observed.OUTSIDE))
    assert area_window(path, grid) == whole(grid)
