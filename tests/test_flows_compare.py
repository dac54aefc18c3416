"""flows/compare.py: two versions differ only where both saw the ground; the rest is newly or no longer seen."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from flows.compare import UNSEEN, Difference, differences, matched, write_differences

CRS = "EPSG:32654"
masks = arrays.arrays(np.uint8, (6, 7), elements=st.sampled_from([0, 1, UNSEEN]))


def write(path: Path, mask: np.ndarray, west: float = 500_000.0, north: float = 4_700_000.0, crs: str = CRS) -> Path:
    transform = Affine(10, 0, west, 0, -10, north)
    height, width = mask.shape
    with rasterio.open(
        path, "w", driver="GTiff", crs=crs, transform=transform, width=width, height=height, count=1, dtype="uint8",
        nodata=UNSEEN,
    ) as file:  # fmt: skip
        file.write(mask, 1)
    return path


@given(masks, masks)
def test_every_pixel_that_one_of_them_saw_is_told_and_no_other(first: np.ndarray, second: np.ndarray) -> None:
    codes = differences(first, second)
    assert ((codes == UNSEEN) == ((first == UNSEEN) & (second == UNSEEN))).all()
    changed = np.isin(codes, [Difference.ADDED, Difference.REMOVED])
    assert (changed == ((first != UNSEEN) & (second != UNSEEN) & (first != second))).all()
    now = np.isin(codes, [Difference.BOTH, Difference.ADDED, Difference.NEWLY_SEEN_LANDSLIDE])
    assert (now == (second == 1)).all()


@given(masks, masks)
def test_the_other_way_round_everything_is_reversed(first: np.ndarray, second: np.ndarray) -> None:
    there, back = differences(first, second), differences(second, first)
    for one, other in ((2, 3), (4, 6), (5, 7), (0, 0), (1, 1)):
        assert ((there == one) == (back == other)).all()


def test_maps_of_different_extent_are_compared_on_the_grid_that_holds_both(tmp_path: Path) -> None:
    first = np.full((20, 20), 0, np.uint8)
    first[5:10, 5:10] = 1
    second = np.full((30, 30), 0, np.uint8)
    second[5:10, 5:12] = 1
    second[25, 25] = UNSEEN
    one = write(tmp_path / "one.tif", first, west=500_050.0, north=4_700_040.0)
    two = write(tmp_path / "two.tif", second)
    counts, grid = write_differences(one, two, tmp_path / "compare.tif")
    assert grid.shape_yx == (34, 30)
    assert (grid.transform[2], grid.transform[5]) == (500_000.0, 4_700_040.0)
    assert sum(counts.values()) == 34 * 30
    # In the coordinates of the second: the first lies 5 px to the right and 4 px up.
    assert counts[Difference.BOTH] == 1 * 2
    assert counts[Difference.REMOVED] == 25 - counts[Difference.BOTH]
    assert counts[Difference.NO_LONGER_SEEN] == 4 * 20
    assert counts[Difference.NEWLY_SEEN] == 900 - 1 - 16 * 20
    with rasterio.open(tmp_path / "compare.tif") as file:
        assert file.colormap(1)[int(Difference.ADDED)] == (215, 48, 39, 255)
        assert int((file.read(1) == Difference.BOTH).sum()) == counts[Difference.BOTH]


def test_a_map_in_another_zone_is_brought_onto_the_second(tmp_path: Path) -> None:
    mask = np.zeros((400, 400), np.uint8)
    mask[100:300, 100:300] = 1
    two = write(tmp_path / "two.tif", mask, west=750_000.0)
    with rasterio.open(two) as file:
        left, _, _, top = rasterio.warp.transform_bounds(CRS, "EPSG:32655", *file.bounds)
    one = write(tmp_path / "one.tif", np.zeros((500, 500), np.uint8), round(left, -1), round(top, -1), "EPSG:32655")
    counts, _ = write_differences(one, two, tmp_path / "compare.tif")
    assert counts[Difference.ADDED] == pytest.approx(40_000, rel=0.01)


def squares(*places: float) -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame(geometry=[shapely.box(x, 0, x + 10, 10) for x in places], crs=CRS)


def test_landslides_of_two_versions_are_matched_by_touching() -> None:
    assert matched(squares(0, 100, 200), squares(5, 205, 209, 300)) == {
        "in both": 3, "only in the second": 1, "only in the first": 1,
    }  # fmt: skip
    assert matched(squares(), squares(0)) == {"in both": 0, "only in the second": 1, "only in the first": 0}
    assert matched(squares(0), squares())["only in the first"] == 1
