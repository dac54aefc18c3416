"""The recorded Iburi pair as a catalogue: bands, gap, assumed dates, and the surface model on its own grid."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from shapely.geometry import shape

from infra.local.recorded import IBURI_EVENT_TIME, RecordedDataError, iburi_catalogue, native_dem


@pytest.fixture(scope="module")
def catalogue(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("iburi")
    iburi_catalogue(shared_data, folder)
    return folder


def record(catalogue: Path, image_id: str) -> dict[str, Any]:
    return dict(json.loads((catalogue / f"{image_id}.json").read_text()))


@pytest.mark.parametrize("phase", ["pre", "post"])
def test_scenes_carry_the_recorded_pixels_and_say_what_is_assumed(
    catalogue: Path, shared_data: Path, phase: str
) -> None:
    image = record(catalogue, f"COPERNICUS/S2_HARMONIZED/iburi2018_{phase}")
    assert image["properties"]["quakeslide:time_assumed"] is True
    assert "Copernicus" in image["properties"]["attribution"]
    assert "CLOUDY_PIXEL_PERCENTAGE" not in image["properties"], "it was not recorded"
    before = dt.datetime.fromisoformat(image["time_start"]) < IBURI_EVENT_TIME
    assert before == (phase == "pre")
    assert [band["id"] for band in image["bands"]] == ["B2", "B3", "B4"]
    path = catalogue / "COPERNICUS/S2_HARMONIZED" / image["bands"][0]["file"]
    with rasterio.open(path, driver="GTiff") as source:
        assert (source.crs.to_epsg(), source.nodata) == (4326, 0)
        for band in image["bands"]:
            with rasterio.open(shared_data / "iburi2018" / f"s2_{phase}_{band['id']}.tif", driver="GTiff") as recorded:
                assert source.transform == recorded.transform
                np.testing.assert_array_equal(source.read(band["band"]), recorded.read(1))


def test_the_footprint_leaves_out_the_swath_gap(catalogue: Path) -> None:
    areas = [
        shape(record(catalogue, f"COPERNICUS/S2_HARMONIZED/iburi2018_{phase}")["footprint"]).area
        for phase in ("pre", "post")
    ]
    assert 0.55 < areas[0] / areas[1] < 0.65, "601,271 of 1,487,010 pixels of the image before the event are empty"


def test_the_native_dem_gives_earth_engine_s_own_slope(shared_data: Path) -> None:
    folder = shared_data / "iburi2018"
    elevation, transform = native_dem(folder / "dsm_aw3d30.tif")
    assert elevation.shape == (314, 497)
    assert transform.a * 3600 == pytest.approx(1)
    assert transform.c * 3600 == pytest.approx(round(transform.c * 3600), abs=1e-6)

    latitude = np.radians(transform.f + (np.arange(314) + 0.5) * transform.e)[1:-1, None]
    metre = 6371007.18 * np.radians(1 / 3600)
    z = elevation.astype(float)
    east = (z[1:-1, 2:] - z[1:-1, :-2]) / (2 * metre * np.cos(latitude))
    north = (z[:-2, 1:-1] - z[2:, 1:-1]) / (2 * metre)
    slope = np.degrees(np.arctan(np.hypot(east, north)))
    with rasterio.open(folder / "ee_terrain_slope.tif", driver="GTiff") as source:
        rows, columns = np.meshgrid(np.arange(1, 313), np.arange(1, 496), indexing="ij")
        x, y = transform @ (columns + 0.5, rows + 0.5)
        column, row = ~source.transform @ (x, y)
        recorded = source.read(1)[row.astype(int), column.astype(int)]
    # Earth Engine masks the pixels at the edge of its download.
    np.testing.assert_allclose(slope[:, :-1], recorded[:, :-1], atol=1e-4)


def test_another_dem_is_refused(catalogue: Path, tmp_path: Path) -> None:
    elevation, transform = native_dem(catalogue / "JAXA/ALOS/AW3D30/V3_2/iburi2018.tif")
    profile = {"driver": "GTiff", "dtype": "int16", "count": 1, "crs": "EPSG:4326", "height": 314, "width": 497}
    shrunk = transform @ Affine.scale(0.5)
    with rasterio.open(tmp_path / "d.tif", "w", **profile, transform=shrunk) as target:
        target.write(elevation, 1)
    with pytest.raises(RecordedDataError, match="nearest-neighbour"):
        native_dem(tmp_path / "d.tif")


def test_missing_and_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(RecordedDataError, match=r"s2_pre_B2\.tif is missing"):
        iburi_catalogue(tmp_path, tmp_path / "out")
    (tmp_path / "iburi2018").mkdir()
    (tmp_path / "iburi2018" / "s2_pre_B2.tif").write_text("<VRTDataset/>")
    with pytest.raises(RecordedDataError, match="not a readable GeoTIFF"):
        iburi_catalogue(tmp_path, tmp_path / "out")
