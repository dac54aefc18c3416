"""A simulated region as scenes and as a USGS event: the files say what the region says, and that it is simulated."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import rasterio
import shapely
from fakes.servers import serve
from pyproj import Transformer
from rasterio.transform import rowcol
from rio_cogeo.cogeo import cog_validate
from scipy import ndimage

from flows.shakemap import grid_polygon, read_grid_xml
from infra.local.shakemap import ground_motion, sample_shaking
from infra.local.simulated import SimulatedQuakeFiles, write_simulated
from infra.local.usgs import create_app, play_event
from infra.local.usgs.events import RecordError
from modeling.simulate import Region, domain, simulate_region, srtm_like

EVENT = "sim0001"


@pytest.fixture(scope="module")
def region() -> Region:
    return simulate_region(domain("iburi"), seed=5, shape_yx=(200, 240), dates_pre=2, dates_post=1)


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("catalogue")


@pytest.fixture(scope="module")
def files(region: Region, catalogue: Path, tmp_path_factory: pytest.TempPathFactory) -> SimulatedQuakeFiles:
    return write_simulated(region, catalogue, tmp_path_factory.mktemp("usgs"), event_id=EVENT)


def read(catalogue: Path, image_id: str) -> tuple[dict[str, Any], np.ndarray[Any, Any], Any]:
    image = json.loads((catalogue / f"{image_id}.json").read_text())
    path = (catalogue / f"{image_id}.json").with_name(image["bands"][0]["file"])
    with rasterio.open(path, driver="GTiff") as source:
        return image, source.read([band["band"] for band in image["bands"]]), source.profile


def test_every_pass_is_an_image_with_a_cloud_score_of_the_same_index(
    region: Region, catalogue: Path, files: SimulatedQuakeFiles
) -> None:
    assert len(files.images) == 3
    for one, image_id in zip(region.passes, files.images, strict=True):
        image, dn, profile = read(catalogue, image_id)
        assert [band["id"] for band in image["bands"]] == list(region.bands)
        assert (dt.datetime.fromisoformat(image["time_start"]), image["id"]) == (one.time, image_id)
        assert image["properties"]["CLOUDY_PIXEL_PERCENTAGE"] == pytest.approx(one.cloud_percent, abs=0.01)
        np.testing.assert_array_equal(dn, one.dn)
        assert (profile["crs"], tuple(profile["transform"])[:6]) == (region.crs, region.transform)
        assert (profile["nodata"], profile["interleave"], profile["tiled"]) == (0, "band", True)

        score_id = f"GOOGLE/CLOUD_SCORE_PLUS/V1/S2_HARMONIZED/{image_id.rsplit('/', 1)[1]}"
        score_image, score, profile = read(catalogue, score_id)
        assert ([band["id"] for band in score_image["bands"]], np.isnan(profile["nodata"])) == (["cs", "cs_cdf"], True)
        np.testing.assert_allclose(score[0], one.cs, atol=6e-4)


def test_the_elevation_model_is_one_image(region: Region, catalogue: Path, files: SimulatedQuakeFiles) -> None:
    image, elevation, profile = read(catalogue, "USGS/SRTMGL1_003")
    expected, transform = srtm_like(region)
    assert ([band["id"] for band in image["bands"]], image["time_start"]) == (["elevation"], None)
    np.testing.assert_array_equal(elevation[0], expected)
    assert profile["transform"].almost_equals(transform)
    assert profile["crs"].to_epsg() == 4326


def test_everything_says_that_it_is_simulated(catalogue: Path, files: SimulatedQuakeFiles) -> None:
    images = [path for path in catalogue.rglob("*.json") if path.name != "collection.json"]
    assert len(images) == 7
    assert all(json.loads(path.read_text())["properties"]["quakeslide:simulated"] is True for path in images)
    properties = json.loads(files.detail.read_text())["properties"]
    assert properties["quakeslide:simulated"] is True
    assert "simulated" in properties["title"]
    assert "simulated" in properties["products"]["shakemap"][0]["properties"]["event-description"]


def test_the_truth_is_a_cog_on_the_region_s_grid(region: Region, files: SimulatedQuakeFiles) -> None:
    assert cog_validate(files.truth, quiet=True)[0]
    with rasterio.open(files.truth, driver="GTiff") as source:
        np.testing.assert_array_equal(source.read(1) == 1, region.truth)
        assert (source.crs, tuple(source.transform)[:6], source.nodata) == (region.crs, region.transform, 255)


def test_the_event_is_served_from_its_folder_under_both_ids(
    region: Region, files: SimulatedQuakeFiles, tmp_path: Path
) -> None:
    with serve(create_app([files.usgs_folder], tmp_path)) as url:
        now = (region.event.time + dt.timedelta(hours=1)).isoformat()
        httpx.post(f"{url}/_standin/clock", json={"now": now})
        feed = httpx.get(f"{url}/earthquakes/feed/v1.0/summary/4.5_day.geojson").json()
        assert [feature["id"] for feature in feed["features"]] == [EVENT]
        query = {"format": "geojson", "eventid": files.alias}
        detail = httpx.get(f"{url}/fdsnws/event/1/query", params=query).json()
        shakemap = detail["properties"]["products"]["shakemap"][0]
        for content in shakemap["contents"].values():
            data = httpx.get(content["url"]).raise_for_status().content
            assert len(data) == content["length"]
    assert detail["geometry"]["coordinates"] == pytest.approx(
        [region.event.lon, region.event.lat, region.event.depth_km], abs=0.06
    )
    assert detail["properties"]["time"] == region.event.time.timestamp() * 1000


def test_the_event_can_be_played_into_a_running_feed(files: SimulatedQuakeFiles, tmp_path: Path) -> None:
    with serve(create_app([], tmp_path)) as url:
        assert play_event(url, files.usgs_folder, files.event_id) == EVENT
        detail = httpx.get(f"{url}/earthquakes/feed/v1.0/detail/{EVENT}.geojson").json()
        contents = detail["properties"]["products"]["shakemap"][0]["contents"]
        assert httpx.get(contents["download/grid.xml"]["url"]).content.startswith(b"<?xml")


def test_the_grid_xml_is_read_by_the_pipeline_and_bounds_the_same_ground(
    region: Region, files: SimulatedQuakeFiles
) -> None:
    (path,) = files.usgs_folder.glob("products/*grid.xml")
    grid = read_grid_xml(path.read_bytes())
    level = float(np.percentile(region.mmi, 70))
    shaken = grid_polygon(grid, level)
    to_utm = Transformer.from_crs("EPSG:4326", region.crs, always_xy=True)
    area_px = shapely.transform(shaken, to_utm.transform, interleaved=False).area / region.transform[0] ** 2
    assert area_px == pytest.approx((region.mmi >= level).sum(), rel=0.03)


def test_contours_run_where_the_intensity_has_their_value(region: Region, files: SimulatedQuakeFiles) -> None:
    (path,) = files.usgs_folder.glob("products/*cont_mmi.json")
    features = json.loads(path.read_text())["features"]
    values = [feature["properties"]["value"] for feature in features]
    assert values == sorted(values)
    assert len(values) >= 3
    to_utm = Transformer.from_crs("EPSG:4326", region.crs, always_xy=True)
    for feature in features:
        points = np.concatenate([np.array(line) for line in feature["geometry"]["coordinates"]])
        x, y = to_utm.transform(points[:, 0], points[:, 1])
        rows, columns = rowcol(rasterio.Affine(*region.transform), x, y, op=lambda v: v)
        found = ndimage.map_coordinates(
            region.mmi, [np.array(rows) - 0.5, np.array(columns) - 0.5], order=1, mode="nearest"
        )
        np.testing.assert_allclose(found, feature["properties"]["value"], atol=0.05)


def test_shaking_keeps_its_values_on_the_wgs84_grid(region: Region) -> None:
    shaking = sample_shaking(region.mmi, region.crs, region.transform)
    assert shaking.mmi.shape == (len(shaking.lat), len(shaking.lon))
    assert np.all(np.diff(shaking.lon) > 0)
    assert np.all(np.diff(shaking.lat) < 0)
    middle = tuple(n // 2 for n in shaking.mmi.shape)
    x, y = Transformer.from_crs("EPSG:4326", region.crs, always_xy=True).transform(
        shaking.lon[middle[1]], shaking.lat[middle[0]]
    )
    row, column = rowcol(rasterio.Affine(*region.transform), x, y)
    assert shaking.mmi[middle] == pytest.approx(region.mmi[row, column], abs=0.05)


def test_ground_motion_inverts_worden_2012() -> None:
    mmi = np.array([2.0, 4.0, 5.0, 7.0, 9.0])
    pga, pgv = ground_motion(mmi)
    log_pga, log_pgv = np.log10(pga * 9.80665), np.log10(pgv)
    np.testing.assert_allclose(np.where(log_pga <= 1.57, 1.78 + 1.55 * log_pga, -1.60 + 3.70 * log_pga), mmi)
    np.testing.assert_allclose(np.where(log_pgv <= 0.53, 3.78 + 1.47 * log_pgv, 2.89 + 3.16 * log_pgv), mmi)


def test_writing_again_gives_the_same_files_and_another_event_adds_to_the_folder(
    region: Region, catalogue: Path, files: SimulatedQuakeFiles, tmp_path: Path
) -> None:
    def hashes(folder: Path) -> dict[str, str]:
        paths = [path for path in folder.rglob("*") if path.is_file()]
        return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in paths}

    usgs = tmp_path / "usgs"
    write_simulated(region, tmp_path / "c", usgs, event_id=EVENT)
    assert hashes(tmp_path / "c") == hashes(catalogue)
    assert hashes(usgs) == hashes(files.usgs_folder)
    write_simulated(region, tmp_path / "c", usgs, event_id="sim0002")
    index = (usgs / "index.tsv").read_text().splitlines()
    assert len(index) == 5
    assert all((usgs / line.split("\t")[0]).is_file() for line in index[1:])


def test_an_impossible_event_id_is_refused_before_anything_is_written(region: Region, tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="not an event id"):
        write_simulated(region, tmp_path / "c", tmp_path / "u", event_id="../x")
    assert not list(tmp_path.iterdir())
