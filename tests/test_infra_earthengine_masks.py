"""Masks as fractions: setting, narrowing, filling, blending, clipping, and what they do to footprints and pictures."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import ee
import httpx
import numpy as np
import pytest
from fakes.catalogue import CatalogueWriter
from fakes.earthengine import earth_engine, pixels, values
from PIL import Image as Picture
from shapely.geometry import shape

from gee.types import Grid

GRID = Grid("EPSG:32654", (10.0, 0.0, 500_000.0, 0.0, -10.0, 4_700_000.0), (8, 10))
EAST = Grid("EPSG:32654", (10.0, 0.0, 500_050.0, 0.0, -10.0, 4_700_000.0), (8, 10))
ROWS, COLS = np.mgrid[:8, :10]


@pytest.fixture(scope="module", autouse=True)
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("catalogue")
    write = CatalogueWriter(root)
    write.image("ramp", {"a": (10 * ROWS + COLS + 1).astype(np.int16)}, GRID, masked=False)
    write.image("part", {"p": (COLS / 10).astype(np.float32)}, GRID, masked=False)
    write.image("holed", {"a": np.where(COLS < 3, 0, 7).astype(np.uint8)}, GRID)
    write.image("east", {"a": np.full(GRID.shape_yx, 50, np.int16)}, EAST, masked=False)
    with earth_engine(root, tmp_path_factory.mktemp("state")) as url:
        yield url


def ramp() -> Any:
    return ee.Image("ramp")


def mask_of(image: Any, grid: Grid = GRID) -> np.ndarray[Any, Any]:
    return values(ee.Image(image).mask(), grid)


def test_a_mask_may_be_a_fraction_and_is_cut_off_at_0_and_1() -> None:
    part = (COLS / 10).astype(np.float32)
    np.testing.assert_array_equal(mask_of(ramp().updateMask(ee.Image("part"))), part)
    np.testing.assert_array_equal(np.isfinite(values(ramp().updateMask(ee.Image("part")), GRID)), part > 0)
    assert (mask_of(ramp().updateMask(3)) == 1).all()
    assert (mask_of(ramp().updateMask(-1)) == 0).all()
    assert (mask_of(ramp().updateMask(ee.Image("holed"))) == (COLS >= 3)).all(), (
        "where the mask is masked, so is the image"
    )


def test_update_mask_sets_the_mask_where_it_is_not_zero_and_mask_everywhere() -> None:
    holed = ee.Image("holed")
    np.testing.assert_array_equal(mask_of(holed.updateMask(0.5)), np.where(COLS < 3, 0, 0.5))
    np.testing.assert_array_equal(mask_of(holed.updateMask(0.5).updateMask(1)), (COLS >= 3).astype(float))
    assert (mask_of(holed.mask(0.25)) == 0.25).all()
    revealed = values(holed.mask(ee.Image(1)), GRID)
    np.testing.assert_array_equal(revealed, np.where(COLS < 3, 0, 7)), "pixels that become valid are 0"


def test_self_mask_takes_the_values() -> None:
    centred = ee.Image("part").subtract(0.5)
    np.testing.assert_allclose(mask_of(centred.selfMask()), np.clip(COLS / 10 - 0.5, 0, 1), atol=1e-6)


def test_what_is_computed_of_two_images_has_the_smaller_mask() -> None:
    both = ramp().updateMask(ee.Image("part")).add(ee.Image("holed").updateMask(0.35))
    np.testing.assert_allclose(mask_of(both), np.where(COLS < 3, 0, np.minimum(COLS / 10, np.float32(0.35))), rtol=1e-6)
    for name in ("And", "Or"):
        logical = getattr(ramp(), name)(ee.Image("holed"))
        np.testing.assert_array_equal(mask_of(logical), COLS >= 3), "a masked operand masks even an Or"
    np.testing.assert_array_equal(values(ee.Image("holed").Not(), GRID), np.where(COLS < 3, np.nan, 0))


def test_unmask_fills_value_and_mask() -> None:
    filled = ee.Image("holed").updateMask(0.5).unmask(ee.Image(2).updateMask(0.25))
    np.testing.assert_array_equal(mask_of(filled), np.where(COLS < 3, 0.25, 0.5))
    np.testing.assert_array_equal(values(filled, GRID), np.where(COLS < 3, 2, 7))


def bounds(image: Any) -> tuple[float, ...]:
    return tuple(shape(ee.Image(image).geometry().transform("EPSG:32654", 1).getInfo()).bounds)


def test_footprints() -> None:
    assert bounds(ramp()) == pytest.approx((500_000, 4_699_920, 500_100, 4_700_000), abs=0.01)
    assert bounds(ramp().unmask(ee.Image("east"))) == pytest.approx(bounds(ramp()), abs=0.01)
    joined = ramp().unmask(ee.Image("east"), False)
    assert bounds(joined) == pytest.approx((500_000, 4_699_920, 500_150, 4_700_000), abs=0.01)
    wide = Grid(GRID.crs, GRID.transform, (8, 20))
    found = values(joined, wide)
    np.testing.assert_array_equal(found[:, 10:15], 50)
    assert np.isnan(found[:, 15:]).all()
    assert np.isnan(values(ramp().unmask(ee.Image("east")), wide)[:, 10:]).all()
    area = ee.Geometry.Rectangle([500_020, 4_699_900, 500_070, 4_699_960], "EPSG:32654", False)
    assert bounds(ramp().clip(area)) == pytest.approx((500_020, 4_699_920, 500_070, 4_699_960), abs=0.1)
    assert ramp().addBands(ee.Image(1)).geometry().isUnbounded().getInfo() is False
    assert ee.ImageCollection([ramp()]).mosaic().geometry().isUnbounded().getInfo() is True


def test_clip_masks_the_edge_by_the_part_that_is_inside() -> None:
    area = ee.Geometry.Rectangle([500_024, 4_699_925, 500_062.5, 4_699_971], "EPSG:32654", False)
    down = np.array([0, 0, 0.1, 1, 1, 1, 1, 0.5])
    across = np.array([0, 0, 0.6, 1, 1, 1, 0.25, 0, 0, 0])
    clipped = ramp().clip(area)
    np.testing.assert_allclose(mask_of(clipped), down[:, None] * across, atol=1e-4)
    found = pixels(clipped, GRID)["a"]
    np.testing.assert_array_equal(found, np.where(down[:, None] * across > 0, 10 * ROWS + COLS + 1, 0))
    hair = ee.Geometry.Rectangle([500_000, 4_699_920, 500_030.04, 4_700_000], "EPSG:32654", False)
    np.testing.assert_array_equal(mask_of(ramp().clip(hair))[0], [1, 1, 1, *[0] * 7]), "0.4 % of a pixel is nothing"
    tile = Grid(GRID.crs, (10.0, 0.0, 500_050.0, 0.0, -10.0, 4_699_980.0), (3, 4))
    np.testing.assert_array_equal(mask_of(clipped, tile), mask_of(clipped)[2:5, 5:9])


def test_clip_with_a_hole_and_to_features() -> None:
    outer = [[500_000, 4_699_920], [500_100, 4_699_920], [500_100, 4_700_000], [500_000, 4_700_000]]
    hole = [[500_030, 4_699_950], [500_050, 4_699_950], [500_050, 4_699_970], [500_030, 4_699_970]]
    ring = ee.Geometry.Polygon([outer, hole], "EPSG:32654", False)
    inside = (ROWS >= 3) & (ROWS < 5) & (COLS >= 3) & (COLS < 5)
    np.testing.assert_array_equal(mask_of(ramp().clip(ring)), ~inside)
    halves = [
        ee.Feature(ee.Geometry.Rectangle([x, 4_699_920, x + 20, 4_700_000], "EPSG:32654", False))
        for x in (500_000, 500_080)
    ]
    kept = mask_of(ramp().clipToCollection(ee.FeatureCollection(halves)))
    np.testing.assert_allclose(kept, (COLS < 2) | (COLS >= 8), atol=1e-4)


def test_layers_are_mixed_by_their_masks() -> None:
    top = ee.Image(100).updateMask(ee.Image("part"))
    mixed = values(ee.Image(0).toInt16().blend(top), GRID)
    np.testing.assert_array_equal(mixed[0], np.arange(10) * 10)
    mosaic = ee.ImageCollection([ee.Image(0), top.toInt32()]).mosaic()
    np.testing.assert_array_equal(values(mosaic, GRID)[0], np.arange(10) * 10)
    alone = ee.ImageCollection([top.updateMask(0.5)]).mosaic()
    assert (mask_of(alone)[0] == [0, *[0.5] * 9]).all()
    three = ee.Image(9).blend(ee.Image([1, 2, 3]))
    assert three.bandNames().size().getInfo() == 3


def test_pictures_are_as_opaque_as_the_mask() -> None:
    area = ee.Geometry.Rectangle([500_000, 4_699_920, 500_100, 4_700_000], "EPSG:32654", False)
    url = (
        ramp()
        .updateMask(ee.Image("part"))
        .getThumbURL({"min": 0, "max": 255, "region": area, "dimensions": "10x8", "crs": "EPSG:32654", "format": "png"})
    )
    shown = np.asarray(Picture.open(io.BytesIO(httpx.get(url).content)))
    assert shown[4, :, 3].tolist() == [0, 26, 51, 77, 102, 128, 153, 179, 204, 230]
    faded = ramp().visualize(min=0, max=255, opacity=0.5)
    assert (mask_of(faded) == 0.5).all()
    table = ee.FeatureCollection([ee.Feature(area.buffer(-20, 1), {})])
    styled = mask_of(table.style(color="red", fillColor="0000ff80", width=1))
    assert styled[4, 5] == pytest.approx(128 / 255, abs=1e-3)
    assert mask_of(table.style(color="00ff00", width=1))[4, 5] == pytest.approx(0.66, abs=3e-3)
