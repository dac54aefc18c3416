"""The stand-in's numbers against Earth Engine's own, recorded for the 2018 Iburi earthquake."""

from __future__ import annotations

from pathlib import Path

import ee
import numpy as np
import rasterio
from fakes.earthengine import earth_engine, pixels

from gee.types import Grid
from infra.local.recorded import iburi_catalogue


def test_terrain_is_that_of_earth_engine(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "iburi2018"
    iburi_catalogue(shared_data, tmp_path / "catalogue")
    with rasterio.open(folder / "ee_terrain_slope.tif") as file:
        slope, t = file.read(1), file.transform
    with rasterio.open(folder / "ee_terrain_hillshade.tif") as file:
        shade = file.read(1)
    grid = Grid("EPSG:4326", (t.a, t.b, t.c, t.d, t.e, t.f), slope.shape)
    with earth_engine(tmp_path / "catalogue", tmp_path / "state"):
        dem = ee.ImageCollection("JAXA/ALOS/AW3D30/V3_2").first().select("DSM")
        got = pixels(ee.Terrain.slope(dem).addBands(ee.Terrain.hillshade(dem)), grid)
    inner = (slice(3, -3), slice(3, -3))
    np.testing.assert_allclose(got["slope"][inner], slope[inner], atol=1e-4, rtol=0)
    np.testing.assert_array_equal(got["hillshade"][inner], shade[inner])


def test_scenes_come_back_as_they_were_recorded(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "iburi2018"
    iburi_catalogue(shared_data, tmp_path / "catalogue")
    with rasterio.open(folder / "s2_pre_B4.tif") as file:
        red, t, crs = file.read(1), file.transform, f"EPSG:{file.crs.to_epsg()}"
    grid = Grid(crs, (t.a, t.b, t.c, t.d, t.e, t.f), red.shape)
    with earth_engine(tmp_path / "catalogue", tmp_path / "state"):
        scene = ee.ImageCollection("COPERNICUS/S2_HARMONIZED").sort("system:time_start").first()
        got = pixels(scene.select("B4").addBands(scene.select("B4").mask().rename("valid")), grid)
    np.testing.assert_array_equal(got["B4"], red)
    np.testing.assert_array_equal(got["valid"], red > 0)
