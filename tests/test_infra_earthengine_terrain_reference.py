"""The stand-in's terrain and neighbourhoods against gdaldem, on a real elevation model, through the real client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import ee
import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from fakes.catalogue import CatalogueWriter
from fakes.earthengine import earth_engine, values

from gee.types import Grid

Array = npt.NDArray[np.float64]


def read(path: Path) -> tuple[Array, Grid]:
    with rasterio.open(path, driver="GTiff") as file:
        found = file.read(1, masked=True).astype(np.float64).filled(np.nan)
        t = file.transform
        return found, Grid(file.crs.to_string(), (t.a, t.b, t.c, t.d, t.e, t.f), file.shape)


@pytest.fixture(scope="module")
def folder(shared_data: Path) -> Path:
    return shared_data / "terrain_reference"


@pytest.fixture(scope="module")
def grid(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grid]:
    heights, grid = read(folder / "shifted_reprojected_xoff20.0_yoff20.0.tif")
    root = tmp_path_factory.mktemp("catalogue")
    CatalogueWriter(root).image("dem", {"elevation": heights.astype(np.float32)}, grid)
    with earth_engine(root, tmp_path_factory.mktemp("state")):
        yield grid


def reference(folder: Path, name: str) -> Array:
    """A reference on the model's grid: it was made of the same model one pixel to the north-east (SOURCE.txt)."""
    found, _ = read(folder / f"{name}.tif")
    placed = np.full(found.shape, np.nan)
    placed[1:, :-1] = found[:-1, 1:]
    return placed


def compare(got: Array, wanted: Array, atol: float, period: float | None = None) -> None:
    known = np.isfinite(got) & np.isfinite(wanted)
    known[[0, -1]] = known[:, [0, -1]] = False  # there gdaldem saw pixels that this model does not have
    assert known.sum() > 2_200
    difference = got[known] - wanted[known]
    if period is not None:
        difference = (difference + period / 2) % period - period / 2
    assert np.abs(difference).max() < atol


def test_slope_and_aspect_are_those_of_zevenbergen_and_thorne(folder: Path, grid: Grid) -> None:
    dem = ee.Image("dem")
    slope = values(ee.Terrain.slope(dem), grid)
    compare(slope, reference(folder, "slope_Zevenberg"), 1e-4)
    steep = slope > 0.01
    aspect = np.where(steep, values(ee.Terrain.aspect(dem), grid), np.nan)
    compare(aspect, reference(folder, "aspect_Zevenberg"), 0.01, 360)


def test_hillshade_is_gdaldem_s_but_for_the_factor_that_earth_engine_leaves_out(folder: Path, grid: Grid) -> None:
    """gdaldem: 1 + 254 (cos z cos s + sin z sin s cos(az - aspect)), sun at 315 and 45 degrees."""
    dem = ee.Image("dem")
    slope, aspect = (np.radians(values(function(dem), grid)) for function in (ee.Terrain.slope, ee.Terrain.aspect))
    shade = values(ee.Terrain.hillshade(dem, 315, 45), grid)
    first, second = np.cos(np.pi / 4), np.sin(np.pi / 4) * np.sin(slope) * np.cos(np.radians(315) - aspect)
    known = np.isfinite(shade)
    np.testing.assert_array_equal(shade[known], np.floor(np.clip(255 * (first + second), 0, 255) + 0.5)[known])
    gdal = np.maximum(1 + 254 * (first * np.cos(slope) + second), 1)
    compare(gdal, reference(folder, "hillshade_Zevenberg"), 1.01)


def test_position_index_is_the_height_above_the_mean_of_the_neighbours(folder: Path, grid: Grid) -> None:
    dem = ee.Image("dem")
    ring = ee.Kernel.fixed(weights=[[1, 1, 1], [1, 0, 1], [1, 1, 1]], normalize=True)
    compare(values(dem.subtract(dem.convolve(ring)), grid), reference(folder, "tpi"), 1e-3)
    mean = dem.reduceNeighborhood(ee.Reducer.mean(), ring)
    compare(values(dem.subtract(mean), grid), reference(folder, "tpi"), 1e-3)


def test_roughness_is_the_range_of_the_neighbourhood(folder: Path, grid: Grid) -> None:
    dem, window = ee.Image("dem"), ee.Kernel.square(1)
    both = dem.reduceNeighborhood(ee.Reducer.minMax(), window)
    between = both.select("elevation_max").subtract(both.select("elevation_min"))
    compare(values(between, grid), reference(folder, "roughness"), 1e-3)
    compare(values(dem.focalMax(1, "square").subtract(dem.focalMin(1, "square")), grid), values(between, grid), 1e-9)


def test_ruggedness_is_made_of_the_steps_to_the_neighbours(folder: Path, grid: Grid) -> None:
    dem = ee.Image("dem")
    steps = dem.neighborhoodToBands(ee.Kernel.square(1)).subtract(dem)
    compare(values(steps.abs().reduce(ee.Reducer.sum()).divide(8), grid), reference(folder, "tri_Wilson"), 1e-3)
    compare(values(steps.pow(2).reduce(ee.Reducer.sum()).sqrt(), grid), reference(folder, "tri_Riley"), 1e-2)
