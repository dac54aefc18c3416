"""`modeling.vectors.inventory`: bodies, measures and files, against answers known by construction or brute force."""

from __future__ import annotations

import json
import resource
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pyogrio
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pyproj import Transformer
from scipy import ndimage

from modeling.errors import InventoryError
from modeling.vectors.inventory import SCHEMA, empty_inventory, validate_inventory, vectorise
from modeling.vectors.inventory_files import write_inventory

CRS, TRANSFORM = "EPSG:32654", (10.0, 0.0, 500_000.0, 0.0, -10.0, 4_740_000.0)
PRE_DAY, POST_DAY = 17_770, 17_784  # 2018-08-27, 2018-09-10


def inventory(
    probability: npt.NDArray[np.floating[Any]], *, crs: str = CRS, minimum_area_m2: float = 0.0, **rasters: Any
) -> gpd.GeoDataFrame:
    """Vectorise at 0.5 with flat, fully observed ground unless `rasters` say otherwise."""
    shape = probability.shape
    given_rasters = {
        "slope_deg": np.full(shape, 30.0, np.float32),
        "elevation_m": np.full(shape, 100.0, np.float32),
        "pre_date_days": np.full(shape, PRE_DAY, np.int32),
        "post_date_days": np.full(shape, POST_DAY, np.int32),
        "observed": np.ones(shape, np.uint8),
    } | rasters
    return vectorise(
        probability.astype(np.float32),
        threshold=0.5,
        transform=TRANSFORM,
        crs=crs,
        event_id="us2000h8ty",
        version="v3",
        model="abc",
        minimum_area_m2=minimum_area_m2,
        **given_rasters,
    )


def two_slides() -> npt.NDArray[np.float32]:
    """A slide of 8 x 3 pixels with a hole, and one of 2 x 2, in 20 x 20 pixels."""
    probability = np.full((20, 20), 0.1, np.float32)
    probability[10:12, 14:16] = 0.8
    probability[3:11, 4:7] = 0.9
    probability[5, 5] = 0.2
    return probability


def test_the_measures_of_a_slide_are_those_of_its_pixels() -> None:
    elevation = np.add.outer(np.arange(20) * -5.0, np.zeros(20)).astype(np.float32) + 400
    frame = inventory(two_slides(), elevation_m=elevation)
    first, second = frame.itertuples(index=False)
    assert (first.landslide_id, second.landslide_id) == (1, 2)
    assert (first.area_m2, second.area_m2) == (2300, 400)
    assert first.perimeter_m == pytest.approx(2 * (80 + 30) + 40)
    assert (first.length_m, second.length_m) == (pytest.approx(80), pytest.approx(20))
    assert first.width_m == pytest.approx(2300 / 80)
    assert (first.elevation_max_m, first.elevation_min_m, first.elevation_range_m) == (385, 350, 35)
    assert first.slope_mean_deg == 30
    assert (first.probability_mean, first.probability_max) == (pytest.approx(0.9), pytest.approx(0.9))
    assert (first.observed_pre, first.observed_post) == ("2018-08-27", "2018-09-10")
    assert (first.event_id, first.version, first.model) == ("us2000h8ty", "v3", "abc")
    assert not first.touches_unobserved
    assert second.geometry.bounds == (500_140, 4_739_880, 500_160, 4_739_900)
    assert len(first.geometry.interiors) == 1
    lon, lat = Transformer.from_crs(CRS, "EPSG:4326", always_xy=True).transform(500_150, 4_739_890)
    assert (second.centroid_lon, second.centroid_lat) == (pytest.approx(lon, abs=1e-9), pytest.approx(lat, abs=1e-9))


def test_a_slanted_slide_is_measured_along_itself() -> None:
    probability = np.zeros((60, 60))
    for step in range(50):  # a staircase, 2 pixels wide
        probability[5 + step, 5 + step : 7 + step] = 1
    (slide,) = inventory(probability).itertuples(index=False)
    assert slide.length_m == pytest.approx(500 * np.sqrt(2), rel=0.03)
    assert slide.width_m == pytest.approx(slide.area_m2 / slide.length_m)


def test_slides_that_touch_at_a_corner_only_are_two() -> None:
    probability = np.zeros((6, 6))
    probability[1:3, 1:3] = probability[3:5, 3:5] = 1
    assert list(inventory(probability)["area_m2"]) == [400, 400]


def test_small_bodies_are_dropped_and_the_rest_is_numbered_without_gaps() -> None:
    frame = inventory(two_slides(), minimum_area_m2=401)
    assert list(frame["landslide_id"]) == [1]
    assert list(inventory(two_slides(), minimum_area_m2=400)["area_m2"]) == [2300, 400]


def test_unknown_pixels_are_no_landslide_and_cut_one_is_marked() -> None:
    probability = two_slides()
    observed = np.ones((20, 20), np.uint8)
    observed[10, 16] = 2  # a cloud beside the small slide
    probability[10, 16] = np.nan
    assert list(inventory(probability, observed=observed)["touches_unobserved"]) == [False, True]
    observed[:] = 1
    observed[12, 16] = 2  # only at its corner
    assert list(inventory(probability, observed=observed)["touches_unobserved"]) == [False, False]


def test_a_slide_at_the_edge_of_the_map_is_marked_as_cut() -> None:
    probability = np.zeros((8, 8))
    probability[0:2, 3:5] = 1
    assert list(inventory(probability)["touches_unobserved"]) == [True]


def test_a_slide_seen_on_several_days_carries_the_commonest_and_one_without_terrain_none() -> None:
    post = np.full((20, 20), POST_DAY, np.int32)
    post[3:10, 4] = POST_DAY - 10
    pre = np.full((20, 20), -1, np.int32)
    pre[10, 14:16], pre[11, 14:16] = PRE_DAY, PRE_DAY - 1
    frame = inventory(
        two_slides(), pre_date_days=pre, post_date_days=post, slope_deg=np.full((20, 20), np.nan, np.float32)
    )
    assert list(frame["observed_post"]) == ["2018-09-10", "2018-09-10"]
    assert frame["observed_pre"].isna().tolist() == [True, False]
    assert frame["observed_pre"][1] == "2018-08-26"
    assert frame["slope_mean_deg"].isna().all()


@settings(max_examples=60, deadline=None)
@given(arrays(np.bool_, st.tuples(st.integers(1, 14), st.integers(1, 14))))
def test_polygons_are_valid_and_cover_exactly_the_pixels(mask: npt.NDArray[np.bool_]) -> None:
    frame = inventory(mask.astype(float))
    assert frame["area_m2"].sum() == 100 * mask.sum()
    rows, columns = np.nonzero(np.ones_like(mask))
    centres = shapely.points(TRANSFORM[2] + 10 * (columns + 0.5), TRANSFORM[5] - 10 * (rows + 0.5))
    inside = shapely.contains(shapely.union_all(frame.geometry.to_numpy()), centres)
    assert np.array_equal(inside.reshape(mask.shape), mask)
    assert len(frame) == ndimage.label(mask)[1]


def test_a_map_without_landslides_gives_an_empty_inventory_with_every_column() -> None:
    frame = inventory(np.full((5, 5), np.nan))
    assert len(frame) == 0
    assert list(frame.columns) == list(SCHEMA)
    assert frame.dtypes.astype(str).to_dict() == inventory(two_slides()).dtypes.astype(str).to_dict()
    assert frame.crs == CRS


@pytest.mark.parametrize("frame", [inventory(two_slides()), empty_inventory(CRS)], ids=["two", "empty"])
def test_each_file_reads_back_with_its_crs_and_rows(tmp_path: Path, frame: gpd.GeoDataFrame) -> None:
    paths = write_inventory(frame, tmp_path / "new", "landslides")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(path.name for path in paths.values())
    package = gpd.read_file(paths["gpkg"])
    table = gpd.read_parquet(paths["parquet"])
    for read in (package, table):
        assert read.crs == CRS
        assert list(read.columns) == list(SCHEMA)
        assert read.to_wkb().astype(object).equals(frame.to_wkb().astype(object))
    assert table.dtypes.equals(frame.dtypes)
    validate_inventory(table)
    assert pyogrio.read_info(paths["gpkg"])["geometry_type"] == "Polygon"
    web = gpd.read_file(paths["geojson"])
    assert web.crs == "EPSG:4326"
    assert len(web) == len(frame)
    assert web.to_crs(CRS).geom_equals_exact(frame, 0.05, align=False).all()


def test_geojson_follows_rfc_7946(tmp_path: Path) -> None:
    path = write_inventory(inventory(two_slides()), tmp_path, "landslides")["geojson"]
    content = json.loads(path.read_text())
    assert "crs" not in content
    first = content["features"][0]
    outer, hole = first["geometry"]["coordinates"]
    assert shapely.LinearRing(outer).is_ccw
    assert not shapely.LinearRing(hole).is_ccw
    assert 140.9 < outer[0][0] < 141.1
    assert first["properties"]["touches_unobserved"] is False
    assert first["properties"]["observed_post"] == "2018-09-10"


def test_geojson_is_cut_at_the_antimeridian(tmp_path: Path) -> None:
    at_fiji = (10.0, 0.0, 815_000.0, 0.0, -10.0, 8_100_000.0)
    lon = Transformer.from_crs("EPSG:32760", "EPSG:4326", always_xy=True).transform(815_000, 8_100_000)[0]
    assert 179.9 < lon < 180
    probability = np.zeros((4, 6000))
    probability[1:3, 1:5999] = 1
    frame = vectorise(
        probability.astype(np.float32), threshold=0.5, transform=at_fiji, crs="EPSG:32760",
        slope_deg=probability.astype(np.float32), elevation_m=probability.astype(np.float32),
        pre_date_days=np.zeros(probability.shape, np.int32), post_date_days=np.zeros(probability.shape, np.int32),
        observed=np.ones(probability.shape, np.uint8), event_id="x", version="v1", model="abc", minimum_area_m2=0,
    )  # fmt: skip
    geometry = json.loads(write_inventory(frame, tmp_path, "x")["geojson"].read_text())["features"][0]["geometry"]
    assert geometry["type"] == "MultiPolygon"
    widths = [np.ptp([point[0] for point in part[0]]) for part in geometry["coordinates"]]
    assert max(widths) < 1


def test_what_is_no_inventory_is_refused_with_the_reason(tmp_path: Path) -> None:
    good = inventory(two_slides())
    for bad, reason in (
        (good.drop(columns="model"), "columns"),
        (good.assign(area_m2=good["area_m2"] * 2), "area of the geometry"),
        (good.assign(landslide_id=good["landslide_id"] + np.int32(1)), "count from 1"),
        (
            good.assign(landslide_id=good["landslide_id"].astype("int64")),
            "landslide_id of an inventory is int32, not int64",
        ),
        (good.assign(probability_max=1.5), "between 0 and 1"),
        (good.assign(area_m2=np.nan), "area_m2 of an inventory must have a value"),
        (good.to_crs("EPSG:4326"), "must be projected, not EPSG:4326"),
        (good.set_geometry(good.centroid), "one valid polygon"),
    ):
        with pytest.raises(InventoryError, match=reason):
            write_inventory(bad, tmp_path, "landslides")
    assert list(tmp_path.iterdir()) == []


def test_rasters_that_do_not_fit_together_are_named() -> None:
    with pytest.raises(InventoryError, match=r"observed has shape \(3, 3\), the probability \(20, 20\)"):
        inventory(two_slides(), observed=np.ones((3, 3), np.uint8))


def test_a_folder_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(InventoryError, match="cannot be written"):
        write_inventory(inventory(two_slides()), tmp_path / "file", "landslides")


@pytest.mark.parametrize("size", [4_000, 60_000, 90_000])
def test_a_disk_that_fills_up_on_the_way_is_a_clear_error_and_leaves_nothing(tmp_path: Path, size: int) -> None:
    """The limits fall into the GeoPackage; each file is read back before any is kept."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        with pytest.raises(InventoryError, match="cannot be written"):
            write_inventory(inventory(two_slides()), tmp_path, "landslides")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []
