"""`modeling.geology.inventories`: an inventory under rules is the mask under the same rules, and nothing is lost."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pyogrio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pyproj import Transformer
from scipy import ndimage

from modeling.errors import InventoryError
from modeling.geology.inventories import BECAUSE, judged, write_dropped
from modeling.geology.regions import apply_rules
from modeling.geology.rules import NO_RULES, GeologyRules, default_rules
from modeling.vectors.inventory import SCHEMA, empty_inventory, validate_inventory, vectorise

CRS, TRANSFORM = "EPSG:32654", (10.0, 0.0, 500_000.0, 0.0, -10.0, 4_740_000.0)
Mask = npt.NDArray[np.bool_]


def inventory_of(mask: Mask, slope: npt.NDArray[np.float32]) -> gpd.GeoDataFrame:
    ones = np.ones(mask.shape, np.int32)
    return vectorise(
        mask.astype(np.float32), threshold=0.5, transform=TRANSFORM, crs=CRS, slope_deg=slope,
        elevation_m=np.zeros(mask.shape, np.float32), pre_date_days=ones, post_date_days=ones, observed=ones, event_id="e",
        version="v", model="m", minimum_area_m2=0.0,
    )  # fmt: skip


@settings(max_examples=10, deadline=None)
@given(
    mask=arrays(bool, (18, 22)),
    rules=st.sampled_from([NO_RULES, default_rules(10.0), GeologyRules(150.0, 2.0, 20.0)]),
)
def test_polygons_and_pixels_obey_the_same_rules(mask: Mask, rules: GeologyRules) -> None:
    slope = (np.random.default_rng(0).random(mask.shape) * 40).astype(np.float32)
    found = judged(inventory_of(mask, slope), rules)
    left = apply_rules(mask, rules, slope_deg=slope, pixel_m=10.0)
    assert found.kept["area_m2"].sum() == left.mask.sum() * 100
    assert len(found.kept) == ndimage.label(left.mask)[1]
    assert (found.kept["area_m2"].sum() + found.dropped["area_m2"].sum()) == mask.sum() * 100
    assert {name: found.counts[name] for name in left.verdicts.counts} == left.verdicts.counts
    assert (found.dropped[BECAUSE].str.len() > 0).all()
    validate_inventory(found.kept)
    assert found.dropped["landslide_id"].tolist() == list(range(1, len(found.dropped) + 1))


def sample() -> gpd.GeoDataFrame:
    mask = np.zeros((40, 60), bool)
    mask[5:9, 5:9] = True
    mask[20, 5:45] = True
    mask[30, 30] = True
    return inventory_of(mask, np.full(mask.shape, 30, np.float32))


def test_the_fields_of_the_paper_are_there_and_right() -> None:
    road, block, speck = sample().to_dict("records")
    assert (block["landslide_id"], block["area_m2"], block["perimeter_m"]) == (2, 1600.0, 160.0)
    assert [round(row["length_width_ratio"], 6) for row in (road, block, speck)] == [40.0, 1.0, 1.0]
    assert (block["centroid_x_m"], block["centroid_y_m"]) == (500_070.0, 4_739_930.0)
    lon, lat = Transformer.from_crs(CRS, "EPSG:4326", always_xy=True).transform(500_070.0, 4_739_930.0)
    assert (block["centroid_lon"], block["centroid_lat"]) == pytest.approx((lon, lat))
    assert block["slope_p95_deg"] == 30.0


def test_what_was_there_before_is_dropped_whatever_the_rules_say() -> None:
    mask = np.zeros((40, 60), bool)
    mask[10:20, 10:20] = True
    already = inventory_of(mask, np.full(mask.shape, 30, np.float32))
    found = judged(sample(), default_rules(10.0), already)
    assert found.counts == {"area": 1, "elongation": 1, "slope": 0, "before": 1}
    assert found.dropped["area_m2"].is_monotonic_decreasing
    assert len(found.kept) == 1
    alone = judged(empty_inventory(CRS), NO_RULES, already)
    assert (len(alone.kept), alone.counts["before"]) == (0, 1)


@pytest.mark.parametrize(("suffix", "epsg"), [(".gpkg", 32654), (".geojson", 4326)])
@pytest.mark.parametrize("rules", [NO_RULES, default_rules(10.0)])
def test_what_was_dropped_can_be_opened_and_edited(tmp_path: Path, suffix: str, epsg: int, rules: GeologyRules) -> None:
    dropped = judged(sample(), rules).dropped
    path = write_dropped(dropped, tmp_path / f"dropped{suffix}")
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    info = pyogrio.read_info(path)
    assert (info["features"], info["crs"]) == (len(dropped), f"EPSG:{epsg}")
    read = gpd.read_file(path)
    if len(dropped):
        assert {*SCHEMA, BECAUSE} == set(read.columns)
        read.loc[0, BECAUSE] = "a person looked at it"
        read.to_file(path)
        assert gpd.read_file(path)[BECAUSE][0] == "a person looked at it"


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(InventoryError, match="cannot be written"):
        write_dropped(judged(sample(), default_rules(10.0)).dropped, tmp_path / "missing" / "dropped.gpkg")
