"""Reducers against known answers: over regions with partial pixels, over images of a collection, and over lists."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import ee
import numpy as np
import pytest
from fakes.catalogue import CatalogueWriter
from fakes.earthengine import earth_engine, pixels, values
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats

from gee.types import Grid
from infra.local.earthengine import stacks
from infra.local.earthengine.histograms import adaptive, fixed
from infra.local.earthengine.reducers import Rows

GRID = Grid("EPSG:32654", (10.0, 0.0, 500_000.0, 0.0, -10.0, 4_700_000.0), (20, 30))
ROWS, COLS = np.mgrid[:20, :30]
COLLECTION = "COPERNICUS/S2_HARMONIZED"


@pytest.fixture(scope="module", autouse=True)
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("catalogue")
    write = CatalogueWriter(root)
    ramp = {"a": (30 * ROWS + COLS).astype(np.int16), "b": (COLS % 3).astype(np.int16)}
    write.image("ramp", ramp, GRID, masked=False)
    for i, value in enumerate((5, 1, 9, 3)):
        band = np.where(i == COLS % 4, 0, value + COLS).astype(np.uint16)
        write.image(f"{COLLECTION}/s{i}", {"B2": band}, GRID, dt.datetime(2018, 9, 1 + i, tzinfo=dt.UTC))
    with earth_engine(root, tmp_path_factory.mktemp("state")) as url:
        yield url


def box(west: float, south: float, east: float, north: float) -> Any:
    return ee.Geometry.Rectangle(
        [500_000 + west, 4_700_000 - south, 500_000 + east, 4_700_000 - north], "EPSG:32654", False
    )


def reduced(reducer: Any, area: Any, image: Any = None, **options: Any) -> Any:
    asked = ee.Image("ramp").select("a") if image is None else image
    return asked.reduceRegion(reducer, area, 10, **options).getInfo()


EDGE = (4, 50, 36, 0)
"""Columns 0 to 3 of rows 0 to 4: the outer two are covered by 0.6."""
WEIGHTS = np.broadcast_to([0.6, 1, 1, 0.6], (5, 4))
INNER = (30 * ROWS + COLS)[:5, :4].astype(float)


def test_weighted_reducers_take_the_part_of_a_pixel_that_is_covered() -> None:
    both = ee.Reducer.mean().combine(ee.Reducer.sum(), "", True).combine(ee.Reducer.count(), "", True)
    both = both.combine(ee.Reducer.stdDev(), "", True).combine(ee.Reducer.max(), "", True)
    found = reduced(both, box(*EDGE))
    mean = np.average(INNER, weights=WEIGHTS)
    spread = np.sqrt(np.average((INNER - mean) ** 2, weights=WEIGHTS))
    assert found["a_mean"] == pytest.approx(mean)
    assert found["a_sum"] == pytest.approx((INNER * WEIGHTS).sum())
    assert found["a_stdDev"] == pytest.approx(spread)
    assert (found["a_count"], found["a_max"]) == (20, 123), "counts and extremes have no weights"
    plain = reduced(both.unweighted(), box(*EDGE))
    assert plain["a_mean"] == pytest.approx(INNER.mean())
    assert plain["a_sum"] == INNER.sum()


def test_without_weights_a_pixel_counts_when_its_centre_is_inside() -> None:
    just_not = box(4, 50, 34.9, 0)
    assert reduced(ee.Reducer.count(), just_not) == {"a": 15}
    assert reduced(ee.Reducer.toList(), box(4, 10, 34.9, 0)) == {"a": [0, 1, 2]}
    assert reduced(ee.Reducer.sum(), box(4, 10, 34.9, 0))["a"] == pytest.approx(0.6 * 0 + 1 + 2 + 0.49 * 3)
    assert reduced(ee.Reducer.max().unweighted(), just_not) == {"a": 122}
    hair = box(-10, 10, 0.04, 0)
    assert reduced(ee.Reducer.mean(), hair) == {"a": None}, "less than half a percent of a pixel is nothing"


def test_the_weight_is_the_smaller_of_mask_and_coverage() -> None:
    half = ee.Image("ramp").select("a").updateMask(0.7)
    wanted = np.minimum(WEIGHTS, 0.7)
    assert reduced(ee.Reducer.sum(), box(*EDGE), half)["a"] == pytest.approx((INNER * wanted).sum(), rel=1e-6)


def test_histograms_count_weights() -> None:
    b = ee.Image("ramp").select("b")
    assert reduced(ee.Reducer.frequencyHistogram(), box(*EDGE), b) == {"b": {"0": pytest.approx(6), "1": 5, "2": 5}}
    assert reduced(ee.Reducer.frequencyHistogram().unweighted(), box(*EDGE), b) == {"b": {"0": 10, "1": 5, "2": 5}}
    found = reduced(ee.Reducer.fixedHistogram(0, 90, 3), box(*EDGE))["a"]
    assert found == [[0, pytest.approx(3.2)], [30, pytest.approx(3.2)], [60, pytest.approx(3.2)]]
    cumulative = reduced(ee.Reducer.fixedHistogram(0, 150, 5, True), box(0, 50, 40, 0))["a"]
    assert [count for _, count in cumulative] == [4, 8, 12, 16, 20]
    whole = reduced(ee.Reducer.histogram(), box(0, 10, 40, 0))["a"]
    assert sum(whole["histogram"]) == 4
    assert whole["bucketMin"] + whole["bucketWidth"] * len(whole["histogram"]) > 3
    assert reduced(ee.Reducer.autoHistogram(4, 1), box(0, 10, 40, 0))["a"] == [[0, 1], [1, 1], [2, 1], [3, 1]]


def test_groups_and_repeats() -> None:
    grouped = reduced(ee.Reducer.sum().group(1, "kind"), box(0, 50, 40, 0), ee.Image("ramp"))["groups"]
    wanted = {k: float(INNER[:, (COLS[:5, :4] % 3 == k)[0]].sum()) for k in (0, 1, 2)}
    assert {g["kind"]: g["sum"] for g in grouped} == wanted
    twice = reduced(ee.Reducer.minMax().repeat(2), box(0, 50, 40, 0), ee.Image("ramp"))
    assert twice == {"min": [0, 0], "max": [123, 2]}
    named = reduced(ee.Reducer.mean().setOutputs(["mittel"]).combine(ee.Reducer.max(), "big_", True), box(0, 50, 40, 0))
    assert set(named) == {"a_mittel", "a_big_max"}
    with pytest.raises(ee.EEException, match="share inputs must have as many"):
        reduced(ee.Reducer.mean().combine(ee.Reducer.linearFit(), "", True), box(0, 50, 40, 0))


def test_fits_and_correlations() -> None:
    x, noise = INNER.ravel(), (np.arange(20) * 7 % 11).astype(float)
    pairs = [[float(a), float(3 * a + 5 + n)] for a, n in zip(x, noise, strict=True)]
    slope, offset = np.polyfit(x, 3 * x + 5 + noise, 1)
    fit = ee.List(pairs).reduce(ee.Reducer.linearFit()).getInfo()
    assert (fit["scale"], fit["offset"]) == (pytest.approx(slope), pytest.approx(offset))
    found = ee.List(pairs).reduce(ee.Reducer.pearsonsCorrelation()).getInfo()
    wanted = stats.pearsonr(x, 3 * x + 5 + noise)
    assert found["correlation"] == pytest.approx(wanted.statistic)
    assert found["p-value"] == pytest.approx(wanted.pvalue, rel=1e-6, abs=1e-30)
    weighted = ee.List([[10, 1], [20, 3], [30, 0]]).reduce(ee.Reducer.mean().splitWeights())
    assert weighted.getInfo() == 17.5


@pytest.mark.parametrize(
    ("name", "values_in", "wanted"),
    [
        ("median", [4, 1, 3, 2], 2.5), ("median", [5, 1, 3], 3), ("mode", [3, 1, 3, 1, 2], 1), ("mode", [7], 7),
        ("stdDev", [2, 4, 4, 4, 5, 5, 7, 9], 2), ("sampleStdDev", [1, 2, 3, 4], 1.2909944487358056),
        ("variance", [1, 3], 1), ("sampleVariance", [1, 3], 2), ("product", [2, 3, 4], 24), ("count", [1, 1, 1], 3),
        ("countDistinct", [1, 2, 2], 2), ("first", [9, 8], 9), ("last", [9, 8], 8), ("first", [None, 8], None),
        ("firstNonNull", [None, 8], 8), ("lastNonNull", ["a", None], "a"), ("allNonZero", [1, 0], 0),
        ("anyNonZero", [1, 0], 1), ("minMax", [3, 1, 2], {"min": 1, "max": 3}), ("toList", [3, None, 1], [3, 1]),
        ("sum", [], 0), ("count", [], 0), ("mean", [], None), ("max", [], None), ("median", [], None),
    ],
)  # fmt: skip
def test_lists(name: str, values_in: list[Any], wanted: Any) -> None:
    assert ee.List(values_in).reduce(getattr(ee.Reducer, name)()).getInfo() == wanted


def stack() -> np.ndarray[Any, Any]:
    layers = [np.where(i == COLS % 4, np.nan, value + COLS) for i, value in enumerate((5, 1, 9, 3))]
    return np.stack(layers)


def test_types_and_medians_over_time() -> None:
    collection = ee.ImageCollection(COLLECTION)
    np.testing.assert_array_equal(values(collection.median(), GRID), np.nanmedian(stack(), axis=0))
    kinds = {
        name: str(pixels(getattr(collection, name)(), GRID).dtype["B2"]) for name in ("median", "min", "mode", "count")
    }
    assert kinds == {"median": "float64", "min": "uint16", "mode": "uint16", "count": "uint8"}
    six = collection.reduce(ee.Reducer.percentile([0, 50, 100]).combine(ee.Reducer.sampleStdDev(), "", True))
    assert six.bandNames().getInfo() == ["B2_p0", "B2_p50", "B2_p100", "B2_stdDev"]
    np.testing.assert_allclose(values(six.select("B2_stdDev"), GRID), np.nanstd(stack(), axis=0, ddof=1), rtol=1e-9)
    first = values(collection.reduce(ee.Reducer.first()), GRID)
    np.testing.assert_array_equal(first, stack()[0]), "the first image, also where it is masked"
    best = collection.map(lambda i: i.addBands(i.multiply(2).rename("twice"))).reduce(ee.Reducer.max(2))
    np.testing.assert_array_equal(values(best.select("max1"), GRID), 2 * np.nanmax(stack(), axis=0))


def test_over_time_masks_are_weights() -> None:
    half = ee.ImageCollection([ee.Image(0).updateMask(0.25), ee.Image(8)])
    assert (values(half.mean(), GRID) == 6.4).all()
    assert (values(half.reduce(ee.Reducer.mean().unweighted()), GRID) == 4).all()
    assert (values(half.count(), GRID) == 2).all()


def test_regions_of_several_features() -> None:
    features = ee.FeatureCollection([ee.Feature(box(0, 50, 40, 0), {"n": 1}), ee.Feature(box(0, 10, 10, 0), {"n": 2})])
    one = ee.Image("ramp").select("a").reduceRegions(features, ee.Reducer.mean(), 10).getInfo()["features"]
    assert [(f["properties"]["n"], f["properties"]["mean"]) for f in one] == [(1, 61.5), (2, 0)]
    two = ee.Image("ramp").reduceRegions(features, ee.Reducer.mean(), 10).first().toDictionary(["a", "b"]).getInfo()
    assert two == {"a": 61.5, "b": pytest.approx(0.75)}


def test_too_many_pixels() -> None:
    with pytest.raises(ee.EEException, match=r"Too many pixels in the region\. Found 20, but maxPixels allows only 5"):
        reduced(ee.Reducer.mean(), box(0, 50, 40, 0), maxPixels=5)
    rough = reduced(ee.Reducer.mean(), box(0, 50, 40, 0), maxPixels=5, bestEffort=True, tileScale=4)
    assert rough["a"] == pytest.approx(61.5, abs=15)


@given(
    arrays.arrays(np.float64, st.tuples(st.integers(1, 12), st.just(3)), elements=st.floats(-1e3, 1e3)),
    st.floats(0.05, 8),
)
def test_equal_weights_change_nothing(stack: np.ndarray[Any, Any], weight: float) -> None:
    mask, weights = np.ones(stack.shape, bool), np.full(stack.shape, weight)
    for plain, weighted in (
        (stacks.mean, stacks.weighted_mean),
        (stacks.percentiles([0.0, 30.0, 50.0, 100.0]), stacks.weighted_percentiles([0.0, 30.0, 50.0, 100.0])),
        (stacks.spread(False, False), stacks.weighted_spread(False, False)),
        (stacks.mode, stacks.weighted_mode),
    ):
        for (a, _), (b, _) in zip(plain([stack], mask), weighted([stack], weights), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-6)


# Rounded: a number so small that a quotient of it is zero has no bucket of its own.
@given(st.lists(st.floats(-1e6, 1e6).map(lambda v: round(v, 6)), min_size=1, max_size=50), st.integers(1, 64))
def test_a_histogram_holds_every_value_once(numbers: list[float], buckets: int) -> None:
    found = adaptive(buckets, None)(Rows([(v,) for v in numbers]))[0]
    assert sum(found["histogram"]) == len(numbers)
    assert len(found["histogram"]) <= max(buckets, 2)
    assert found["bucketMin"] <= min(numbers)
    inside = fixed(-10.0, 10.0, 7, False)(Rows([(v,) for v in numbers]))[0]
    assert sum(c for _, c in inside or ()) == sum(-10 <= v < 10 for v in numbers)
