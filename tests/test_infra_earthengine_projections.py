"""Grids: resampling kernels, pyramids, reduced resolution, default projections, and distances between pixels."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ee
import numpy as np
import pytest
from fakes.catalogue import CatalogueWriter
from fakes.earthengine import earth_engine, pixels, values
from hypothesis import given
from hypothesis import strategies as st
from rasterio._env import get_gdal_config
from scipy import ndimage

from gee.types import Grid
from infra.local.earthengine.pixeltype import NAMED
from infra.local.earthengine.raster import Constant, Node, Pointwise
from infra.local.earthengine.render import block_side
from infra.local.earthengine.sampling import cubic, linear
from infra.local.earthengine.sources import CACHE_BYTES, Reader

SIDE = 32
GRID = Grid("EPSG:32654", (10.0, 0.0, 500_000.0, 0.0, -10.0, 4_700_000.0), (SIDE, SIDE))
ROWS, COLS = np.mgrid[:SIDE, :SIDE]
PLANE = (3.0 * COLS - 2.0 * ROWS + 100).astype(np.float32)
CURVED = (0.5 * COLS**2 - 0.25 * ROWS * COLS).astype(np.float32)
CLASSES = ((ROWS // 3 + COLS // 5) % 4 + 1).astype(np.uint8)


@pytest.fixture(scope="module", autouse=True)
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("catalogue")
    write = CatalogueWriter(root)
    write.image("plane", {"z": PLANE}, GRID)
    write.image("curved", {"z": CURVED}, GRID)
    write.image("holed", {"z": np.where((ROWS < 8) & (COLS < 8), np.nan, PLANE)}, GRID)
    write.image("dots", {"d": ((ROWS == 10) & (COLS == 12)).astype(np.uint8)}, GRID, masked=False)
    for policy in ("MEAN", "SAMPLE", "MODE", "MIN", "MAX", "MEDIAN"):
        write.image(f"classes/{policy}", {"c": CLASSES}, GRID, masked=False)
        described = root / "classes" / f"{policy}.json"
        body = json.loads(described.read_text())
        body["bands"][0]["pyramid"] = policy
        described.write_text(json.dumps(body))
    with earth_engine(root, tmp_path_factory.mktemp("state")) as url:
        yield url


def moved(east: float, south: float, size: float = 10.0, shape: tuple[int, int] = (20, 20)) -> Grid:
    return Grid(GRID.crs, (size, 0.0, 500_000.0 + east, 0.0, -size, 4_700_000.0 - south), shape)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_a_plane_stays_a_plane(mode: str) -> None:
    got = values(ee.Image("plane").resample(mode), moved(53, 37))
    rows, cols = np.mgrid[:20, :20]
    np.testing.assert_allclose(got, 3.0 * (cols + 5.3) - 2.0 * (rows + 3.7) + 100, atol=1e-3)


def test_cubic_convolution_is_exact_for_parabolas_and_bilinear_is_not() -> None:
    rows, cols = np.mgrid[:20, :20]
    wanted = 0.5 * (cols + 5.5) ** 2 - 0.25 * (rows + 3.5) * (cols + 5.5)
    np.testing.assert_allclose(values(ee.Image("curved").resample("bicubic"), moved(55, 35)), wanted, atol=2e-3)
    assert np.abs(values(ee.Image("curved").resample("bilinear"), moved(55, 35)) - wanted).max() > 0.1
    assert str(pixels(ee.Image("dots").resample("bicubic"), moved(5, 5)).dtype["d"]) == "float32"


def test_nearest_takes_the_pixel_whose_area_holds_the_centre() -> None:
    np.testing.assert_array_equal(values(ee.Image("plane"), moved(54, 36)), PLANE[4:24, 5:25])
    np.testing.assert_array_equal(values(ee.Image("plane"), moved(56, 34)), PLANE[3:23, 6:26])
    assert np.isnan(values(ee.Image("plane"), moved(-100, 0))[:, :10]).all()


def test_interpolation_needs_all_the_pixels_that_count() -> None:
    for mode, reach in (("bilinear", 1), ("bicubic", 2)):
        known = np.isfinite(values(ee.Image("holed").resample(mode), moved(5, 5)))
        rows, cols = np.mgrid[:20, :20]
        assert known[(rows >= 7 + reach) & (cols >= 1)].all()
        assert not known[(rows < 7 + reach) & (cols < 7 + reach)].any()


@given(st.floats(0, 0.999999))
def test_weights_sum_to_one(part: float) -> None:
    place = np.asarray(part)
    assert sum(linear(place, k) for k in (0, 1)) == pytest.approx(1)
    assert sum(cubic(place, k) for k in (-1, 0, 1, 2)) == pytest.approx(1)
    assert sum(k * cubic(place, k) for k in (-1, 0, 1, 2)) == pytest.approx(part, abs=1e-9)


def test_pyramids_follow_their_policy() -> None:
    coarse = Grid(GRID.crs, (40.0, 0.0, 500_000.0, 0.0, -40.0, 4_700_000.0), (8, 8))
    blocks = np.moveaxis(CLASSES.reshape(8, 4, 8, 4), (1, 3), (0, 1)).reshape(16, 8, 8)
    modes = [np.bincount(b, minlength=5).argmax() for b in blocks.reshape(16, -1).T]
    wanted = {
        "SAMPLE": CLASSES[::4, ::4], "MIN": blocks.min(0), "MAX": blocks.max(0), "MEDIAN": np.median(blocks, 0).astype(int),
        "MODE": np.reshape(modes, (8, 8)),
    }  # fmt: skip
    for policy, expected in wanted.items():
        np.testing.assert_array_equal(pixels(ee.Image(f"classes/{policy}"), coarse)["c"], expected, policy)
    mean = values(ee.Image("classes/MEAN"), coarse)
    np.testing.assert_allclose(mean, blocks.mean(0), atol=0.51)


def test_a_coarse_pixel_s_mask_is_the_mean_of_the_masks() -> None:
    coarse = Grid(GRID.crs, (20.0, 0.0, 500_010.0, 0.0, -20.0, 4_699_990.0), (15, 15))
    aligned = Grid(GRID.crs, (40.0, 0.0, 500_000.0, 0.0, -40.0, 4_700_000.0), (8, 8))
    fine = np.isfinite(np.where((ROWS < 8) & (COLS < 8), np.nan, 1.0))
    assert set(np.unique(values(ee.Image("holed").mask(), coarse))) <= {0, 0.25, 0.5, 0.75, 1}
    np.testing.assert_array_equal(values(ee.Image("holed").mask(), aligned), fine.reshape(8, 4, 8, 4).mean((1, 3)))


def test_reduced_resolution_weighs_by_masks_and_names_its_bands() -> None:
    coarse = Grid(GRID.crs, (160.0, 0.0, 500_000.0, 0.0, -160.0, 4_700_000.0), (2, 2))
    both = ee.Image("holed").reduceResolution(ee.Reducer.mean().combine(ee.Reducer.count(), "", True), maxPixels=256)
    assert both.bandNames().getInfo() == ["z_mean", "z_count"]
    quarter = np.where((ROWS < 8) & (COLS < 8), np.nan, PLANE)[:16, :16]
    assert values(both.select("z_mean"), coarse)[0, 0] == pytest.approx(np.nanmean(quarter), rel=1e-6)
    assert values(both.select("z_count"), coarse)[0, 0] == 192
    assert values(both.select("z_mean").mask(), coarse)[0, 0] == pytest.approx(0.75)
    with pytest.raises(ee.EEException, match="Too many input pixels"):
        values(ee.Image("plane").reduceResolution(ee.Reducer.mean()), coarse)
    best = ee.Image("plane").reduceResolution(ee.Reducer.mean(), True)
    np.testing.assert_allclose(values(best, coarse), PLANE.reshape(2, 16, 2, 16).mean((1, 3)), rtol=1e-5)


def test_default_projections() -> None:
    def projection(image: Any) -> tuple[str, list[float]]:
        info = ee.Image(image).projection().getInfo()
        return info["crs"], info["transform"]

    degree = ("EPSG:4326", [1, 0, 0, 0, 1, 0])
    own = ("EPSG:32654", [10, 0, 500_000, 0, -10, 4_700_000])
    assert projection(ee.Image("plane")) == own
    assert projection(ee.Image(1)) == degree
    assert projection(ee.ImageCollection([ee.Image("plane")]).mean()) == degree
    assert projection(ee.Image(1).add(ee.Image("plane"))) == own
    assert projection(
        ee.ImageCollection([ee.Image("plane")]).mosaic().setDefaultProjection("EPSG:32654", None, 20)
    ) == (
        "EPSG:32654",
        [20, 0, 0, 0, -20, 0],
    )
    assert projection(ee.Image("plane").reproject("EPSG:3857", None, 30))[0] == "EPSG:3857"
    assert ee.Image("plane").projection().nominalScale().getInfo() == 10
    mixed = ee.Image("plane").addBands(ee.Image("plane").reproject("EPSG:3857", None, 30))
    with pytest.raises(ee.EEException, match="different projections"):
        mixed.projection().getInfo()


def test_distances_to_the_nearest_pixel_that_is_not_zero() -> None:
    empty = ~((ROWS == 10) & (COLS == 12))
    dots = ee.Image("dots")
    squared = values(dots.fastDistanceTransform(64), GRID)
    np.testing.assert_allclose(squared, ndimage.distance_transform_edt(empty) ** 2)
    np.testing.assert_allclose(
        values(dots.fastDistanceTransform(64, "pixels", "manhattan"), GRID), np.abs(ROWS - 10) + np.abs(COLS - 12)
    )
    near = values(dots.fastDistanceTransform(5), GRID)
    np.testing.assert_array_equal(np.isfinite(near), (ROWS - 10) ** 2 + (COLS - 12) ** 2 <= 25)
    tile = moved(120, 80, shape=(5, 7))
    np.testing.assert_allclose(values(dots.fastDistanceTransform(64), tile), squared[8:13, 12:19])


def test_spectral_distances() -> None:
    a, b = ee.Image([3, 4]), ee.Image([4, 3])
    small = moved(0, 0, shape=(1, 1))
    assert values(a.spectralDistance(b, "sed"), small) == 2
    assert values(a.spectralDistance(b), small) == pytest.approx(np.arccos(24 / 25))
    p, q = np.array([3, 4]) / 7, np.array([4, 3]) / 7
    assert values(a.spectralDistance(b, "sid"), small) == pytest.approx(((p - q) * np.log(p / q)).sum())
    with pytest.raises(ee.EEException, match="'emd' is not known"):
        values(a.spectralDistance(b, "emd"), small)
    curve = [ee.Image(v).interpolate([0, 10, 20], [0, 1, 3], how) for v, how in
             ((5, "extrapolate"), (25, "extrapolate"), (25, "clamp"), (25, "input"), (-10, "extrapolate"))]  # fmt: skip
    assert [float(values(c, small)[0, 0]) for c in curve] == [0.5, 4.0, 3.0, 25.0, -1.0]
    assert np.isnan(values(ee.Image(25).interpolate([0, 10], [0, 1], "mask"), small)).all()


def test_files_are_read_where_they_are_needed(tmp_path: Path) -> None:
    """A tile of the file's own pixels, a shifted one and one beyond the edge say the same."""
    whole = values(ee.Image("plane"), GRID)
    for east, south, shape in ((0, 0, (5, 5)), (-30, -20, (10, 10)), (290, 300, (9, 9))):
        part = values(ee.Image("plane"), moved(east, south, shape=shape))
        padded = np.pad(whole, 20, constant_values=np.nan)
        r, c = 20 + south // 10, 20 + east // 10
        np.testing.assert_array_equal(part, padded[r : r + shape[0], c : c + shape[1]])


def test_what_was_decoded_once_is_kept() -> None:
    """GDAL takes a small number for bytes: a cache of 256 bytes made every plain tile five times as slow."""
    with Reader().environment():
        assert get_gdal_config("GDAL_CACHEMAX") == CACHE_BYTES
    assert CACHE_BYTES >= 2**28


def test_blocks_are_as_large_as_their_nodes_allow() -> None:
    kind = NAMED["uint8"]
    few: list[Node] = [Constant(i, kind) for i in range(16)]
    many: list[Node] = [Pointwise((Constant(i, kind), few[0]), np.add, kind) for i in range(300)]
    assert block_side(few) == 1024
    assert block_side(few * 50) == 1024, "a node that is used often is computed once"
    assert block_side(many[:50]) == 512
    assert block_side(many) == 256
