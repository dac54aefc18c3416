"""Connected pixels: their number, their outlines as features; and lines cut in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ee
import numpy as np
import pytest
from fakes.catalogue import CatalogueWriter
from fakes.earthengine import earth_engine, pixels
from pyproj import Geod
from shapely.geometry import shape

from gee.types import Grid

GRID = Grid("EPSG:32654", (10.0, 0.0, 500_000.0, 0.0, -10.0, 4_700_000.0), (8, 8))
CLASSES = np.array([[int(c) for c in row] for row in (
    "11000020", "11000020", "00110000", "00110000", "00000033", "00000333", "40000000", "00000000",
)], np.uint8)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("catalogue")
    write = CatalogueWriter(root)
    write.image("classes", {"c": CLASSES, "w": np.arange(64, dtype=np.uint8).reshape(8, 8)}, GRID, masked=False)
    with earth_engine(root, tmp_path_factory.mktemp("state")) as url:
        yield url


def classes() -> Any:
    return ee.Image("classes").select("c").selfMask().updateMask(ee.Image("classes").select("c").gt(0))


def test_connected_pixels_are_counted() -> None:
    eight = pixels(classes().connectedPixelCount(100), GRID)["c"]
    four = pixels(classes().connectedPixelCount(100, False), GRID)["c"]
    assert (eight[0, 0], four[0, 0], eight[2, 2], eight[0, 6], eight[5, 5], eight[6, 0]) == (8, 4, 8, 2, 5, 1)
    assert pixels(classes().connectedPixelCount(3), GRID)["c"].max() == 3
    tile = Grid(GRID.crs, (10.0, 0.0, 500_010.0, 0.0, -10.0, 4_699_990.0), (3, 3))
    np.testing.assert_array_equal(pixels(classes().connectedPixelCount(100), tile)["c"], eight[1:4, 1:4])


def test_segments_become_features() -> None:
    found = (
        classes().reduceToVectors(scale=10, eightConnected=False, geometryInNativeProjection=True).getInfo()["features"]
    )
    rows = [(f["properties"]["label"], f["properties"]["count"], shape(f["geometry"]).area) for f in found]
    assert rows == [(1, 4, 400), (2, 2, 200), (1, 4, 400), (3, 5, 500), (4, 1, 100)]
    joined = classes().reduceToVectors(scale=10).aggregate_array("count").getInfo()
    assert joined == [8, 2, 5, 1]
    area = sum(f.area(1).getInfo() for f in [ee.Feature(classes().reduceToVectors(scale=10).first()).geometry()])
    assert area == pytest.approx(800, rel=2e-3)
    pair = classes().addBands(ee.Image("classes").select("w"))
    means = pair.reduceToVectors(ee.Reducer.mean(), scale=10, geometryType="centroid", eightConnected=False)
    assert means.aggregate_array("mean").getInfo()[:2] == [4.5, 10.0]
    one = ee.Geometry.Rectangle([500_000, 4_699_980, 500_020, 4_700_000], "EPSG:32654", False)
    assert classes().reduceToVectors(None, one, 10, "bb").size().getInfo() == 1
    with pytest.raises(ee.EEException, match="integer type"):
        classes().toFloat().reduceToVectors(scale=10).size().getInfo()


def test_lines_are_cut_at_distances() -> None:
    line = ee.Geometry.LineString([[141.0, 42.0], [141.0, 42.01], [141.02, 42.01]])
    cut = shape(line.cutLines([0, 500, 1500]).getInfo())
    lengths = [Geod(ellps="WGS84").geometry_length(part) for part in cut.geoms]
    whole = Geod(ellps="WGS84").geometry_length(shape(line.getInfo()))
    assert lengths[:2] == pytest.approx([500, 1000], abs=0.1)
    assert sum(lengths) == pytest.approx(whole, abs=0.1)
    assert ee.Geometry.Point([141, 42]).cutLines([0, 10]).coordinates().getInfo() == []
