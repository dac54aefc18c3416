"""Pixels by the real client over a real socket: types, masks, reductions, projections and tiles against numpy."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import ee
import numpy as np
import numpy.typing as npt
import pytest
from fakes.catalogue import CatalogueWriter
from fakes.earthengine import earth_engine, pixels, values
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Transformer

from gee.types import Grid

SIDE = 64
GRID = Grid("EPSG:32654", (10.0, 0.0, 500_000.0, 0.0, -10.0, 4_700_000.0), (SIDE, SIDE))
ZONE_53 = Grid("EPSG:32653", (10.0, 0.0, 992_950.0, 0.0, -10.0, 4_718_000.0), (160, 160))
DEGREES = Grid("EPSG:4326", (1 / 3600, 0.0, 140.98, 0.0, -1 / 3600, 42.47), (100, 120))
COLLECTION = "COPERNICUS/S2_HARMONIZED"


def scene(index: int) -> dict[str, npt.NDArray[Any]]:
    """Three bands of uint16 whose 0 is masked, different for each index."""
    rng = np.random.default_rng(index)
    return {
        name: np.where(rng.random(GRID.shape_yx) < 0.3, 0, rng.integers(1, 6000, GRID.shape_yx)).astype(np.uint16)
        for name in ("B2", "B3", "B4")
    }


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("catalogue")
    write = CatalogueWriter(root)
    for index in range(5):
        time = dt.datetime(2018, 9, 1 + index, tzinfo=dt.UTC)
        write.image(f"{COLLECTION}/s{index}", scene(index), GRID, time, {"order": 5 - index})
    rng = np.random.default_rng(9)
    write.image("kinds/byte", {"b": rng.integers(0, 255, GRID.shape_yx).astype(np.uint8)}, GRID, masked=False)
    write.image("kinds/short", {"b": rng.integers(-9, 9, GRID.shape_yx).astype(np.int16)}, GRID, masked=False)
    single = rng.normal(size=GRID.shape_yx).astype(np.float32)
    single[:5] = np.nan
    write.image("kinds/single", {"b": single}, GRID)
    write.image("kinds/double", {"b": rng.normal(size=GRID.shape_yx)}, GRID)
    write.image("other_zone", {"b": rng.integers(1, 9000, ZONE_53.shape_yx).astype(np.uint16)}, ZONE_53)
    write.image("dem", {"elevation": ramp()}, DEGREES, masked=False)
    with earth_engine(root, tmp_path_factory.mktemp("state")) as url:
        yield url


def ramp() -> npt.NDArray[np.int16]:
    rows, cols = np.mgrid[: DEGREES.shape_yx[0], : DEGREES.shape_yx[1]]
    return (7 * rows + 11 * cols + (rows * cols) % 13).astype(np.int16)


def image(index: int = 0) -> Any:
    return ee.Image(f"{COLLECTION}/s{index}")


def masked(array: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    return np.where(array == 0, np.nan, array.astype(np.float64))


@pytest.mark.parametrize(
    ("expression", "dtype"),
    [
        (image, "uint16"),
        (lambda: ee.Image("kinds/byte"), "uint8"),
        (lambda: ee.Image("kinds/short"), "int16"),
        (lambda: ee.Image("kinds/single"), "float32"),
        (lambda: ee.Image("kinds/double"), "float64"),
        (lambda: ee.Image(1), "uint8"),
        (lambda: ee.Image(-300), "int16"),
        (lambda: ee.Image(0.5), "float64"),
        (lambda: image().add(image(1)), "int32"),
        (lambda: image().subtract(image(1)), "int32"),
        (lambda: image().divide(10000), "float32"),
        (lambda: image().multiply(0.0001), "float64"),
        (lambda: image().gt(3), "uint8"),
        (lambda: image().toInt16(), "int16"),
        (lambda: image().toFloat(), "float32"),
        (lambda: image().sqrt(), "float32"),
        (lambda: image().normalizedDifference(["B2", "B3"]), "float32"),
        (lambda: ee.ImageCollection(COLLECTION).median(), "float64"),
        (lambda: ee.ImageCollection(COLLECTION).max(), "uint16"),
        (lambda: ee.ImageCollection(COLLECTION).mosaic(), "uint16"),
        (lambda: ee.ImageCollection(COLLECTION).count(), "uint8"),
        (lambda: image().clamp(0, 100), "uint8"),
        (lambda: image().unmask(-1), "int32"),
        (lambda: image().mask(), "float32"),
        (lambda: image().resample("bilinear"), "float32"),
        (lambda: image().cast({"B2": "int32"}).select("B2"), "int32"),
    ],
)
def test_types(server: str, expression: Any, dtype: str) -> None:
    found = pixels(expression(), GRID)
    assert {str(found.dtype[name]) for name in found.dtype.names or ()} == {dtype}


def test_masked_pixels_are_zero(server: str) -> None:
    found = pixels(image().add(1000), GRID)
    made = scene(0)
    for name in made:
        np.testing.assert_array_equal(found[name], np.where(made[name] == 0, 0, made[name].astype(int) + 1000))


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("add", np.add), ("subtract", np.subtract), ("multiply", np.multiply), ("divide", np.divide),
        ("min", np.minimum), ("max", np.maximum), ("mod", np.fmod), ("hypot", np.hypot),
        ("eq", np.equal), ("neq", np.not_equal), ("lt", np.less), ("lte", np.less_equal),
        ("gt", np.greater), ("gte", np.greater_equal), ("And", np.logical_and), ("Or", np.logical_or),
    ],
)  # fmt: skip
def test_binary_functions(server: str, name: str, reference: Any) -> None:
    a, b = masked(scene(0)["B2"]), masked(scene(1)["B3"])
    got = values(getattr(image(0).select("B2"), name)(image(1).select("B3")), GRID)
    wanted = np.where(np.isnan(a) | np.isnan(b), np.nan, reference(a, b))
    np.testing.assert_allclose(got, wanted, rtol=1e-6)


def test_what_is_divided_by_zero_is_zero(server: str) -> None:
    assert values(ee.Image(5).divide(0), GRID).max() == 0
    assert values(ee.Image(5).mod(0), GRID).max() == 0


@pytest.mark.parametrize(
    ("name", "number", "wanted"),
    [
        ("toByte", 300, 255), ("toByte", -3, 0), ("toInt16", 1e6, 32767), ("toInt16", -2.9, -2), ("toInt", 3e9, 2**31 - 1),
        ("round", 2.5, 3), ("round", -2.5, -2), ("floor", -2.5, -3), ("ceil", 2.1, 3), ("abs", -7, 7), ("Not", 0, 1),
        ("signum", -4.2, -1),
    ],
)  # fmt: skip
def test_casts_cut_decimals_and_stop_at_the_limits(server: str, name: str, number: float, wanted: float) -> None:
    assert (values(getattr(ee.Image(number), name)(), GRID) == wanted).all()


def test_bands_are_matched_by_name_then_by_place_and_one_goes_with_all(server: str) -> None:
    one = pixels(image(0).subtract(image(0).select("B2")), GRID)
    assert one.dtype.names == ("B2", "B3", "B4")
    assert one["B2"].max() == 0
    swapped = pixels(image(0).subtract(image(0).select(["B4", "B3", "B2"])), GRID)
    assert all(swapped[name].max() == 0 for name in swapped.dtype.names or ())
    renamed = pixels(image(0).subtract(image(0).rename(["x", "y", "z"])), GRID)
    assert renamed.dtype.names == ("B2", "B3", "B4")
    assert all(renamed[name].max() == 0 for name in renamed.dtype.names or ())


def test_negative_values_have_no_normalized_difference(server: str) -> None:
    two = ee.Image([-1, 3]).rename(["a", "b"])
    assert np.isnan(values(two.normalizedDifference(["a", "b"]), GRID)).all()
    assert (values(ee.Image([1, 3]).rename(["a", "b"]).normalizedDifference(["b", "a"]), GRID) == 0.5).all()


def test_masks(server: str) -> None:
    a, b = masked(scene(0)["B2"]), masked(scene(1)["B2"])
    first, second = image(0).select("B2"), image(1).select("B2")
    np.testing.assert_array_equal(values(first.updateMask(second.gt(3000)), GRID), np.where(b > 3000, a, np.nan))
    np.testing.assert_array_equal(values(first.unmask(7), GRID), np.where(np.isnan(a), 7, a))
    np.testing.assert_array_equal(values(first.unmask(second), GRID), np.where(np.isnan(a), b, a))
    np.testing.assert_array_equal(values(first.mask(), GRID), (~np.isnan(a)).astype(float))
    np.testing.assert_array_equal(values(first.gt(3000).selfMask(), GRID), np.where(a > 3000, 1, np.nan))
    wanted = np.where((b > 3000) & ~np.isnan(b), np.where(np.isnan(a), np.nan, -1), a)
    np.testing.assert_array_equal(values(first.where(second.gt(3000), -1), GRID), wanted)
    np.testing.assert_array_equal(values(first.blend(second), GRID), np.where(np.isnan(b), a, b))


def test_unmask_keeps_to_the_footprint_unless_told_otherwise(server: str) -> None:
    wide = Grid(GRID.crs, (10.0, 0.0, 499_900.0, 0.0, -10.0, 4_700_100.0), (84, 84))
    inside = values(image().select("B2").unmask(0), wide)
    assert np.isnan(inside[:10]).all()
    assert np.isfinite(inside[10:74, 10:74]).all()
    assert np.isfinite(values(image().select("B2").unmask(0, False), wide)).all()
    assert np.isfinite(values(ee.ImageCollection(COLLECTION).select("B2").mosaic().unmask(0), wide)).all()


def stack(band: str = "B2") -> npt.NDArray[np.float64]:
    return np.stack([masked(scene(i)[band]) for i in range(5)])


@pytest.mark.filterwarnings("ignore:All-NaN slice")
@pytest.mark.filterwarnings("ignore:Mean of empty slice")
@pytest.mark.filterwarnings("ignore:Degrees of freedom")
@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("median", np.nanmedian),
        ("mean", np.nanmean),
        ("min", np.nanmin),
        ("max", np.nanmax),
        ("sum", lambda x, axis: np.where(np.isnan(x).all(axis), np.nan, np.nansum(x, axis=axis))),
        ("count", lambda x, axis: np.isfinite(x).sum(axis).astype(float)),
        ("stdDev", np.nanstd),
    ],
)
def test_reductions_over_time(server: str, name: str, reference: Any) -> None:
    collection = ee.ImageCollection(COLLECTION).select("B2")
    wanted = reference(stack(), axis=0)
    if name != "stdDev":
        np.testing.assert_allclose(values(getattr(collection, name)(), GRID), wanted, rtol=1e-12)
    np.testing.assert_allclose(
        values(collection.reduce(getattr(ee.Reducer, name)()), GRID), wanted, rtol=1e-9, atol=1e-6
    )


@pytest.mark.filterwarnings("ignore:All-NaN slice")
def test_percentiles_and_names(server: str) -> None:
    reduced = ee.ImageCollection(COLLECTION).reduce(ee.Reducer.percentile([25, 75]))
    assert reduced.bandNames().getInfo()[:3] == ["B2_p25", "B2_p75", "B3_p25"]
    np.testing.assert_allclose(
        values(reduced.select("B2_p25"), GRID), np.nanpercentile(stack(), 25, axis=0), rtol=1e-12
    )


def last_valid(layers: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    result = np.full(layers.shape[1:], np.nan)
    for layer in layers:
        result = np.where(np.isnan(layer), result, layer)
    return result


def test_a_mosaic_has_the_last_valid_pixel(server: str) -> None:
    collection = ee.ImageCollection(COLLECTION).select("B2")
    np.testing.assert_array_equal(values(collection.mosaic(), GRID), last_valid(stack()))
    np.testing.assert_array_equal(values(collection.sort("order").mosaic(), GRID), last_valid(stack()[::-1]))
    np.testing.assert_array_equal(values(collection.reduce(ee.Reducer.lastNonNull()), GRID), last_valid(stack()))
    np.testing.assert_array_equal(values(collection.reduce(ee.Reducer.firstNonNull()), GRID), last_valid(stack()[::-1]))


def test_a_quality_mosaic_takes_all_bands_from_the_best_image(server: str) -> None:
    got = pixels(ee.ImageCollection(COLLECTION).qualityMosaic("B4"), GRID)
    quality = np.nan_to_num(stack("B4"), nan=-1)
    best = 4 - quality[::-1].argmax(0)  # the last of equally good ones
    chosen = np.take_along_axis(np.nan_to_num(stack("B2")), best[None], 0)[0]
    np.testing.assert_array_equal(got["B2"], np.where(quality.max(0) < 0, 0, chosen))


def test_an_empty_collection_gives_an_image_without_bands(server: str) -> None:
    none = ee.ImageCollection(COLLECTION).filterDate("1999-01-01", "1999-02-01")
    assert none.median().bandNames().getInfo() == []
    with pytest.raises(ee.EEException, match="no bands"):
        pixels(none.median(), GRID)


def test_linked_bands_are_masked_where_nothing_is_linked(server: str) -> None:
    scores = ee.ImageCollection([image(1).select(["B2"], ["cs"]).set("system:index", "s1")])
    scores = scores.map(lambda i: i.set("system:index", "s1"))
    linked = ee.ImageCollection(COLLECTION).linkCollection(scores, ["cs"])
    found = linked.toList(5)
    np.testing.assert_array_equal(values(ee.Image(found.get(1)).select("cs"), GRID), masked(scene(1)["B2"]))
    assert np.isnan(values(ee.Image(found.get(0)).select("cs"), GRID)).all()


def centres(grid: Grid) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    cols, rows = np.arange(grid.shape_yx[1]) + 0.5, np.arange(grid.shape_yx[0]) + 0.5
    x, y = np.meshgrid(grid.transform[2] + grid.transform[0] * cols, grid.transform[5] + grid.transform[4] * rows)
    return x, y


def test_another_zone_is_sampled_by_nearest_neighbour(server: str) -> None:
    x, y = Transformer.from_crs(GRID.crs, ZONE_53.crs, always_xy=True).transform(*centres(GRID))
    cols = np.floor((x - ZONE_53.transform[2]) / 10).astype(int)
    rows = np.floor((ZONE_53.transform[5] - y) / 10).astype(int)
    made = np.random.default_rng(9)
    for kind in ("u1", "i2"):
        made.integers(0 if kind == "u1" else -9, 255 if kind == "u1" else 9, GRID.shape_yx)
    made.normal(size=GRID.shape_yx)
    made.normal(size=GRID.shape_yx)
    stored = made.integers(1, 9000, ZONE_53.shape_yx)
    assert ((rows >= 0) & (rows < 160) & (cols >= 0) & (cols < 160)).all(), "the test's grids overlap"
    np.testing.assert_array_equal(pixels(ee.Image("other_zone"), GRID)["b"], stored[rows, cols])


def test_bilinear_resampling(server: str) -> None:
    lon, lat = Transformer.from_crs(GRID.crs, "EPSG:4326", always_xy=True).transform(*centres(GRID))
    col, row = (lon - 140.98) * 3600 - 0.5, (42.47 - lat) * 3600 - 0.5
    left, top = np.floor(col).astype(int), np.floor(row).astype(int)
    u, v, z = col - left, row - top, ramp().astype(float)
    upper = z[top, left] * (1 - u) + z[top, left + 1] * u
    lower = z[top + 1, left] * (1 - u) + z[top + 1, left + 1] * u
    got = values(ee.Image("dem").resample("bilinear"), GRID)
    np.testing.assert_allclose(got, upper * (1 - v) + lower * v, atol=2e-3)
    composite = ee.ImageCollection([ee.Image("dem")]).mosaic()
    np.testing.assert_array_equal(values(composite.resample("bilinear"), GRID), values(composite, GRID))


def test_bilinear_is_masked_beside_masked_pixels(server: str) -> None:
    holed = ee.Image("kinds/single").resample("bilinear")
    half = Grid(GRID.crs, (10.0, 0.0, 500_005.0, 0.0, -10.0, 4_699_995.0), (62, 62))
    got = values(holed, half)
    assert np.isnan(got[:5]).all()
    assert np.isfinite(got[5:]).all()
    assert np.isfinite(values(holed, GRID)[5:]).all(), "at the centres nothing is interpolated"


def test_reproject_forces_its_own_pixels(server: str) -> None:
    coarse = image().select("B2").unmask(0).reproject("EPSG:32654", [50, 0, 500_000, 0, -50, 4_700_000])
    got = values(coarse, Grid(GRID.crs, GRID.transform, (60, 60)))
    blocks = got.reshape(12, 5, 12, 5)
    assert (blocks == blocks[:, :1, :, :1]).all()
    assert len(np.unique(got)) > 50


def test_coarse_pixels_come_from_a_mean_pyramid(server: str) -> None:
    coarse = Grid(GRID.crs, (20.0, 0.0, 500_000.0, 0.0, -20.0, 4_700_000.0), (32, 32))
    got = values(ee.Image("kinds/double"), coarse)
    full = values(ee.Image("kinds/double"), GRID)
    np.testing.assert_allclose(got, full.reshape(32, 2, 32, 2).mean((1, 3)), rtol=1e-9)


def test_reduce_resolution_averages(server: str) -> None:
    fine = ee.Image("kinds/double").reduceResolution(ee.Reducer.max(), maxPixels=100)
    coarse = Grid(GRID.crs, (40.0, 0.0, 500_000.0, 0.0, -40.0, 4_700_000.0), (16, 16))
    full = values(ee.Image("kinds/double"), GRID)
    np.testing.assert_allclose(values(fine, coarse), full.reshape(16, 4, 16, 4).max((1, 3)))
    with pytest.raises(ee.EEException, match="Too many input pixels"):
        values(ee.Image("kinds/double").reduceResolution(ee.Reducer.max(), maxPixels=9), coarse)


def test_coordinates_and_areas(server: str) -> None:
    found = pixels(ee.Image.pixelLonLat().addBands(ee.Image.pixelArea()), GRID)
    lon, lat = Transformer.from_crs(GRID.crs, "EPSG:4326", always_xy=True).transform(*centres(GRID))
    np.testing.assert_allclose(found["longitude"], lon, atol=1e-9)
    np.testing.assert_allclose(found["latitude"], lat, atol=1e-9)
    np.testing.assert_allclose(found["area"], 100 / 0.9996**2, rtol=1e-5)


def test_expressions(server: str) -> None:
    a, b = masked(scene(0)["B2"]), masked(scene(0)["B3"])
    got = values(image().expression("(i.B3 - b('B2')) / 2 + k ** 2", {"i": image(), "k": 3}), GRID)
    np.testing.assert_allclose(got, (b - a) / 2 + 9)
    picked = image().expression("b('B2') > 3000 && !(b(1) < 100) ? -1 : max(b('B2'), 500)").select(0)
    wanted = np.where((a > 3000) & ~(b < 100) & ~np.isnan(b), -1, np.maximum(a, 500))
    np.testing.assert_allclose(values(picked, GRID), wanted)
    for text, words in (
        ("b('B2') +", "ends too early"),
        ("nope + 1", "unknown name 'nope'"),
        ("b(1) ) 2", "unexpected"),
    ):
        with pytest.raises(ee.EEException, match=words):
            image().expression(text).getInfo()


def test_a_focal_maximum(server: str) -> None:
    full = np.pad(values(ee.Image("kinds/double"), GRID), 1, constant_values=-np.inf)
    shifts = [full[1 + r : 1 + r + SIDE, 1 + c : 1 + c + SIDE] for r, c in ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0))]
    got = values(ee.Image("kinds/double").focalMax(1, "plus"), GRID)
    np.testing.assert_array_equal(got, np.max(shifts, axis=0))


def cube() -> Any:
    """What a cube holds: a composite, another zone, and terrain from a grid in degrees."""
    median = ee.ImageCollection(COLLECTION).median().unmask(-1)
    dem = ee.Image("dem")
    terrain = ee.Terrain.slope(dem).addBands(ee.Terrain.hillshade(dem)).resample("bilinear").multiply(100)
    return median.addBands(ee.Image("other_zone")).addBands(terrain).round().toInt16()


WHOLE = Grid(GRID.crs, (10.0, 0.0, 499_000.0, 0.0, -10.0, 4_701_500.0), (300, 300))


@pytest.fixture(scope="module")
def whole(server: str) -> npt.NDArray[Any]:
    return pixels(cube(), WHOLE)


@settings(max_examples=12, deadline=None)
@given(row=st.integers(0, 200), col=st.integers(0, 200), height=st.integers(1, 150), width=st.integers(1, 150))
def test_a_tile_equals_its_part_of_the_whole(
    whole: npt.NDArray[Any], row: int, col: int, height: int, width: int
) -> None:
    height, width = min(height, 300 - row), min(width, 300 - col)
    tile = Grid(GRID.crs, (10.0, 0.0, 499_000.0 + 10 * col, 0.0, -10.0, 4_701_500.0 - 10 * row), (height, width))
    np.testing.assert_array_equal(pixels(cube(), tile), whole[row : row + height, col : col + width])
