"""`modeling.vectors.zonal`: moments and votes merge to those of the whole; polygons are measured by the pixels in them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st

from modeling.vectors.runs import offsets
from modeling.vectors.zonal import Moments, Votes, polygon_moments

Array = npt.NDArray[Any]
GRID = Affine(10.0, 0.0, 500_000.0, 0.0, -10.0, 4_740_000.0)
GROUPS = st.lists(st.lists(st.sampled_from([np.nan, 0.0, -1.5, 2.25, 1e6]), min_size=1, max_size=5), max_size=8)


def flat(groups: list[list[Any]], dtype: Any) -> tuple[Array, Array]:
    return np.array([value for group in groups for value in group], dtype), np.array([len(g) for g in groups], np.int64)


@settings(max_examples=80, deadline=None)
@given(GROUPS, st.integers(0, 100))
def test_merged_moments_are_those_of_all_values_together(groups: list[list[float]], seed: int) -> None:
    owner = np.random.default_rng(seed).integers(0, 3, len(groups))
    moments = Moments.of(*flat(groups, np.float64)).merged(owner, 3)
    for index in range(3):
        values = np.array([value for group, own in zip(groups, owner, strict=True) if own == index for value in group])
        known = values[~np.isnan(values)] if values.size else values
        expected = (known.mean(), known.std(), known.min(), known.max()) if known.size else (np.nan,) * 4
        found = moments.mean[index], moments.std[index], moments.min[index], moments.max[index]
        np.testing.assert_allclose(found, expected, atol=1e-6)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.lists(st.integers(-2, 3), min_size=1, max_size=6), max_size=8), st.integers(0, 100))
def test_merged_votes_count_every_value_once(groups: list[list[int]], seed: int) -> None:
    owner = np.random.default_rng(seed).integers(0, 3, len(groups))
    votes = Votes.of(*flat(groups, np.int32)).merged(owner, 3)
    for index in range(3):
        values = [v for group, own in zip(groups, owner, strict=True) if own == index for v in group if v >= 0]
        expected = max(sorted(set(values)), key=values.count) if values else -1
        assert votes.most_common[index] == expected
    kept = votes.taken(np.array([2, 0]))
    assert list(kept.most_common) == [votes.most_common[2], votes.most_common[0]]


def test_offsets_are_where_groups_begin_and_the_last_ends() -> None:
    assert list(offsets(np.array([2, 0, 3]))) == [0, 2, 2, 5]
    assert list(offsets(np.array([], np.int64))) == [0]


@pytest.mark.parametrize("window_px", [7, 16, 1000])
def test_polygons_are_measured_by_the_pixels_whose_centre_they_hold(window_px: int) -> None:
    raster = np.random.default_rng(1).normal(size=(40, 50)).astype(np.float32)
    raster[3, 4] = np.nan
    x, y = GRID @ (np.array([2.0, 10, 10, 2]), np.array([1.0, 1, 20, 20]))
    box = shapely.Polygon(zip(x, y, strict=True))
    beside = shapely.box(*(GRID @ (10, 9)), *(GRID @ (13, 1)))  # shares an edge with the first
    between = shapely.box(*(GRID @ (30.6, 30.4)), *(GRID @ (31.4, 29.6)))  # around no centre
    beyond = shapely.box(*(GRID @ (60, 60)), *(GRID @ (70, 50)))
    found = polygon_moments(
        [box, beside, between, beyond], lambda window: raster[window], raster.shape, GRID, window_px=window_px
    )
    first, second = raster[1:20, 2:10], raster[1:9, 10:13]
    assert list(found.number) == [first.size - 1, second.size, 0, 0]
    np.testing.assert_allclose(found.mean[:2], [np.nanmean(first), second.mean()], rtol=1e-5)
    np.testing.assert_allclose(found.std[:2], [np.nanstd(first), second.std()], rtol=1e-5)
    assert (found.min[1], found.max[1]) == (second.min(), second.max())
    assert np.isnan(found.mean[2:]).all() and np.isnan(found.min[2:]).all() and np.isnan(found.std[2:]).all()


def test_polygons_that_overlap_have_all_their_pixels_each() -> None:
    raster = np.arange(100, dtype=np.float32).reshape(10, 10)
    boxes = [shapely.box(*(GRID @ (0, 5)), *(GRID @ (5, 0))), shapely.box(*(GRID @ (3, 8)), *(GRID @ (8, 3)))]
    found = polygon_moments(boxes, lambda window: raster[window], raster.shape, GRID, window_px=4)
    assert list(found.number) == [25, 25]
    assert list(found.mean) == [raster[:5, :5].mean(), raster[3:8, 3:8].mean()]


def test_windows_without_a_polygon_are_not_read() -> None:
    asked: list[tuple[slice, slice]] = []

    def read(window: tuple[slice, slice]) -> Array:
        asked.append(window)
        return np.ones(tuple(side.stop - side.start for side in window), np.float32)

    polygon_moments([shapely.box(*(GRID @ (2, 5)), *(GRID @ (5, 2)))], read, (100, 100), GRID, window_px=10)
    assert asked == [(slice(0, 10), slice(0, 10))]


@settings(max_examples=80, deadline=None)
@given(st.lists(st.lists(st.integers(-2, 9), min_size=1, max_size=30), max_size=6), st.sampled_from([0.5, 0.95, 1.0]))
def test_quantiles_of_votes_are_those_of_the_values(groups: list[list[int]], share: float) -> None:
    found = Votes.of(*flat(groups, np.int32)).quantile(share)
    for index, group in enumerate(groups):
        values = sorted(value for value in group if value >= 0)
        reached = [v for n, v in enumerate(values, start=1) if n >= share * len(values) - 1e-9]
        assert np.array_equal(found[index], reached[0] if reached else np.nan, equal_nan=True)
