"""Terrain of the stand-in against gdaldem's, from a real elevation model (Norwegian Polar Institute, by way of xDEM)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ee
import numpy as np
import pytest
import rasterio
from fakes.catalogue import CatalogueWriter
from fakes.earthengine import earth_engine, values

from gee.types import Grid

INNER = (slice(3, -3), slice(3, -3))


def read(path: Path) -> np.ndarray[Any, Any]:
    with rasterio.open(path) as file:
        return np.where(file.read_masks(1) > 0, file.read(1).astype(np.float64), np.nan)


@pytest.fixture(scope="module")
def folder(shared_data: Path) -> Path:
    return shared_data / "terrain_reference"


@pytest.fixture(scope="module")
def grid(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grid]:
    with rasterio.open(folder / "shifted_reprojected_xoff20.0_yoff20.0.tif") as file:
        z, t, crs = file.read(1).astype(np.float32), file.transform, f"EPSG:{file.crs.to_epsg()}"
    found = Grid(crs, (t.a, t.b, t.c, t.d, t.e, t.f), z.shape)
    root = tmp_path_factory.mktemp("catalogue")
    CatalogueWriter(root).image("dem", {"z": z}, found, masked=False)
    with earth_engine(root, tmp_path_factory.mktemp("state")):
        yield found


def reference(folder: Path, name: str) -> np.ndarray[Any, Any]:
    """gdaldem's result; the model lies one pixel off against it: its row r, column c is row r - 1, column c + 1 there."""
    return np.roll(read(folder / f"{name}.tif"), (1, -1), (0, 1))


def difference(found: np.ndarray[Any, Any], wanted: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    apart = np.abs(found - wanted)[INNER]
    return np.asarray(apart[np.isfinite(apart)])


def test_slope_is_that_of_zevenbergen_and_thorne(folder: Path, grid: Grid) -> None:
    found = values(ee.Terrain.slope(ee.Image("dem")), grid)
    apart = difference(found, reference(folder, "slope_Zevenberg"))
    assert apart.size > 1500
    assert apart.max() < 1e-3
    assert difference(found, reference(folder, "slope_Horn")).max() > 1


def test_aspect_is_that_of_zevenbergen_and_thorne(folder: Path, grid: Grid) -> None:
    found = values(ee.Terrain.aspect(ee.Image("dem")), grid)
    apart = difference(found, reference(folder, "aspect_Zevenberg"))
    assert np.minimum(apart, 360 - apart).max() < 1e-2


def test_hillshade_is_gdaldem_s_but_for_the_factor_that_earth_engine_leaves_out(folder: Path, grid: Grid) -> None:
    """gdaldem: 1 + 254 (cos z cos s + sin z sin s cos(az - aspect)), sun at 315 and 45 degrees."""
    slope, aspect = (np.radians(values(f(ee.Image("dem")), grid)) for f in (ee.Terrain.slope, ee.Terrain.aspect))
    shade = values(ee.Terrain.hillshade(ee.Image("dem"), 315, 45), grid)
    first, second = np.cos(np.pi / 4), np.sin(np.pi / 4) * np.sin(slope) * np.cos(np.radians(315) - aspect)
    np.testing.assert_array_equal(shade[INNER], np.floor(np.clip(255 * (first + second), 0, 255) + 0.5)[INNER])
    gdal = np.maximum(1 + 254 * (first * np.cos(slope) + second), 1)
    assert difference(gdal, reference(folder, "hillshade_Zevenberg")).max() < 1.01


def test_roughness_and_position_by_focal_operations(folder: Path, grid: Grid) -> None:
    dem = ee.Image("dem")
    rough = values(dem.focalMax(1, "square").subtract(dem.focalMin(1, "square")), grid)
    assert difference(rough, reference(folder, "roughness")).max() < 1e-3
    nine = values(dem.toDouble().focalMean(1, "square"), grid) * 9
    centre = values(dem, grid)
    assert difference(centre - (nine - centre) / 8, reference(folder, "tpi")).max() < 1e-3
