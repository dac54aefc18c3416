"""modeling/domains/mmd.py: the distance between two samples of ground is what the equation says, and its interval holds."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from modeling.domains.mmd import (
    KERNELS,
    bandwidth_of,
    distances_between,
    mmd2,
    mmd2_by_band,
    spread,
)
from modeling.errors import DataError

Doubles = npt.NDArray[np.float64]
SAMPLES = arrays(np.float32, st.tuples(st.integers(3, 20), st.just(3)), elements=st.floats(-3, 3, width=32))


def plainly(x: Doubles, y: Doubles, bandwidth: float) -> float:
    """The U-statistic by its definition, pair by pair."""

    def kernel(a: Doubles, b: Doubles) -> float:
        squared = float(((a - b) ** 2).sum())
        return sum(math.exp(-squared / (bandwidth * 2**i)) for i in range(KERNELS))

    n, m = len(x), len(y)
    own = sum(kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    other = sum(kernel(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return own + other - 2 * sum(kernel(a, b) for a in x for b in y) / (n * m)


def between_normals(apart: float, bandwidth: float) -> float:
    """The true squared MMD of N(0, 1) and N(apart, 1): the mean of a Gaussian kernel over a normal difference."""

    def mean(shift: float) -> float:
        widths = [bandwidth * 2**i for i in range(KERNELS)]
        return sum(math.sqrt(b / (b + 4)) * math.exp(-(shift**2) / (b + 4)) for b in widths)

    return 2 * mean(0) - 2 * mean(apart)


@settings(max_examples=25, deadline=None)
@given(SAMPLES, SAMPLES, st.floats(0.1, 10))
def test_it_is_the_unbiased_statistic(x: npt.NDArray[np.float32], y: npt.NDArray[np.float32], bandwidth: float) -> None:
    found = mmd2(x, y, bandwidth=bandwidth)
    assert found.squared == pytest.approx(plainly(x.astype(float), y.astype(float), bandwidth), abs=2e-4)
    assert (found.n, found.m) == (len(x), len(y))


@settings(max_examples=25, deadline=None)
@given(SAMPLES, SAMPLES, st.randoms(use_true_random=False))
def test_neither_the_order_of_rows_nor_of_samples_matters(
    x: npt.NDArray[np.float32], y: npt.NDArray[np.float32], order: object
) -> None:
    rows = np.random.default_rng(len(x)).permutation(len(x))
    found = mmd2(x, y)
    assert mmd2(y, x).squared == pytest.approx(found.squared, abs=1e-4)
    assert mmd2(y, x).error == pytest.approx(found.error, abs=1e-3)
    assert mmd2(x[rows], y).squared == pytest.approx(found.squared, abs=1e-4)


@settings(max_examples=20, deadline=None)
@given(SAMPLES, st.floats(0.2, 5), st.floats(-3, 3))
def test_the_unit_does_not_matter(x: npt.NDArray[np.float32], factor: float, offset: float) -> None:
    y = x[::-1] * np.float32(0.5) + np.float32(0.3)
    there = np.float32(factor), np.float32(offset)
    assert mmd2(x * there[0] + there[1], y * there[0] + there[1]).squared == pytest.approx(mmd2(x, y).squared, abs=2e-3)


def test_the_bandwidth_is_a_quarter_of_the_mean_squared_distance() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(400, 2)), rng.normal(1.5, 2, size=(400, 2))
    both = np.concatenate([x, y])
    squared = ((both[:, None] - both) ** 2).sum(axis=2)
    assert bandwidth_of(x, y) == pytest.approx(squared.sum() / (800 * 799) / 4, rel=2e-3)
    # It belongs to the ground, not to how much of it was drawn.
    assert bandwidth_of(x, y[:100]) == pytest.approx(bandwidth_of(x, y), rel=0.2)


def test_equal_ground_has_no_distance_on_average() -> None:
    rng = np.random.default_rng(2)
    found = [mmd2(rng.normal(size=60), rng.normal(size=60)).squared for _ in range(300)]
    standard = np.std(found) / math.sqrt(len(found))
    assert abs(np.mean(found)) < 4 * standard
    assert min(found) < 0 < max(found)
    biased = [value + 2 * KERNELS / 60 for value in found]  # what the diagonal would add at the least
    assert np.mean(biased) > 10 * standard


def test_it_grows_with_the_shift() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(300, 2)), rng.normal(size=(300, 2))
    found = [mmd2(x, y + shift).squared for shift in (0, 0.3, 0.6, 1.2, 2.4, 4.8)]
    assert found == sorted(found)
    assert found[-1] < 2 * KERNELS


@pytest.mark.parametrize(("apart", "n"), [(0.2, 80), (0.4, 150), (1.0, 80)])
def test_the_interval_covers_the_truth_at_its_rate(apart: float, n: int) -> None:
    rng = np.random.default_rng(4)
    truth = between_normals(apart, 1.0)
    covered: dict[float, list[bool]] = {0.95: [], 0.8: []}
    for _ in range(300):
        found = mmd2(rng.normal(size=n), rng.normal(apart, 1, size=n + 40), bandwidth=1.0)
        for level, held in covered.items():
            low, high = found.interval(level)
            held.append(low <= truth <= high)
    rates = {level: float(np.mean(held)) for level, held in covered.items()}
    assert rates[0.95] >= 0.9, rates
    assert 0.72 <= rates[0.8] <= (0.88 if apart > 0.2 else 1.0), rates
    assert rates[0.95] <= 0.985 or apart == 0.2


def test_where_nothing_differs_the_interval_covers_more_often() -> None:
    rng = np.random.default_rng(6)
    intervals = [mmd2(rng.normal(size=80), rng.normal(size=80), bandwidth=1.0).interval() for _ in range(300)]
    assert np.mean([low <= 0 <= high for low, high in intervals]) >= 0.95


def test_pixels_of_one_window_are_alike_and_the_interval_knows() -> None:
    rng = np.random.default_rng(7)
    truth = between_normals(0.8, 1.0)
    held: dict[bool, list[bool]] = {True: [], False: []}
    groups = np.repeat(np.arange(30), 10).astype(np.int32)
    for _ in range(150):
        x = rng.normal(size=300)
        y = 0.8 + (rng.normal(size=30)[groups] * math.sqrt(0.7) + rng.normal(size=300) * math.sqrt(0.3))
        for grouped, covered in held.items():
            low, high = mmd2(x, y, bandwidth=1.0, groups_y=groups if grouped else None).interval()
            covered.append(low <= truth <= high)
    assert np.mean(held[True]) > 0.87
    assert np.mean(held[False]) < np.mean(held[True]) - 0.1


def test_groups_of_one_row_are_no_groups() -> None:
    rng = np.random.default_rng(8)
    x, y = rng.normal(size=(40, 2)), rng.normal(0.5, 1, size=(30, 2))
    alone = np.arange(40, dtype=np.int32)
    assert mmd2(x, y, groups_x=alone).error == pytest.approx(mmd2(x, y).error, rel=1e-6)


def test_the_jackknife_is_that_of_leaving_out() -> None:
    rng = np.random.default_rng(9)
    x, y = rng.normal(size=24), rng.normal(0.5, 1, size=18)
    groups = np.repeat(np.arange(6), 4).astype(np.int32)
    without_x = [mmd2(x[groups != g], y, bandwidth=1.0).squared for g in range(6)]
    without_y = [mmd2(x, np.delete(y, j), bandwidth=1.0).squared for j in range(18)]
    first_order = 5 * np.var(without_x) + 17 * np.var(without_y)
    second_order = mmd2(x, y, bandwidth=1.0, groups_x=groups).error ** 2 - first_order

    def centred(a: Doubles, b: Doubles, diagonal: float) -> float:
        kernel = sum(np.exp(-((a[:, None] - b) ** 2) / 2.0**i) for i in range(KERNELS))
        kernel -= diagonal * np.eye(*kernel.shape)
        return float(((kernel - kernel.mean(axis=0) - kernel.mean(axis=1)[:, None] + kernel.mean()) ** 2).sum())

    expected = 2 * centred(x, x, KERNELS) / (24 * 23) ** 2 + 2 * centred(y, y, KERNELS) / (18 * 17) ** 2
    assert second_order == pytest.approx(expected + 4 * centred(x, y, 0) / (24 * 18) ** 2, rel=1e-2)


def test_bands_and_all_of_them_together() -> None:
    rng = np.random.default_rng(10)
    x, y = rng.normal(size=(200, 3)).astype(np.float32), rng.normal(size=(150, 3)).astype(np.float32)
    y[:, 1] = 30 + 40 * y[:, 1]
    found = distances_between(x, y, ("red", "slope", "nir"))
    assert found.farthest == "slope"
    for index, name in enumerate(found.bands):
        assert found.bands[name] == mmd2(x[:, index], y[:, index])
    assert mmd2_by_band(x, y, ("red", "slope", "nir")) == found.bands
    assert found.mean == pytest.approx(np.mean([band.squared for band in found.bands.values()]))
    scale = spread(x, y)
    assert found.joint == mmd2(x / scale, y / scale)
    # In other units of one channel nothing changes.
    metres = np.array([1, 1000, 1], np.float32)
    assert distances_between(x * metres, y * metres, ("a", "b", "c")).joint.squared == pytest.approx(
        found.joint.squared, abs=1e-3
    )
    low, high = found.mean_interval()
    assert low < found.mean < high
    assert math.isnan(distances_between(x, y, ("red", "slope", "nir"), joint=False).joint.squared)


def test_the_error_of_the_mean_knows_that_the_pixels_are_the_same() -> None:
    rng = np.random.default_rng(11)
    x, y = rng.normal(size=(100, 1)), rng.normal(0.7, 1, size=(100, 1))
    thrice = distances_between(np.repeat(x, 3, axis=1), np.repeat(y, 3, axis=1), ("a", "b", "c"), joint=False)
    assert thrice.mean_error == pytest.approx(thrice.bands["a"].error, rel=1e-6)


def test_a_channel_without_variance_is_compared() -> None:
    assert mmd2(np.full(20, 3.0), np.full(30, 3.0)).squared == pytest.approx(0, abs=1e-6)
    assert mmd2(np.full(20, 3.0), np.full(30, 4.0)).squared > 3


def test_memory_is_bounded() -> None:
    rng = np.random.default_rng(12)
    x, y = rng.normal(size=4000).astype(np.float32), rng.normal(size=4000).astype(np.float32)
    tracemalloc.start()
    mmd2(x, y)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 12e6, "a kernel matrix alone has 64 MB"


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (np.zeros((5, 2)), np.zeros((5, 3)), "2 and 3 channels"),
        (np.zeros((2, 2)), np.zeros((5, 2)), "at least 3 rows"),
        (np.array([1.0, np.nan, 2.0]), np.zeros(5), "not finite"),
        (np.zeros((3, 3, 3)), np.zeros(5), "shape"),
    ],
)
def test_samples_that_cannot_be_compared_are_refused(x: Doubles, y: Doubles, words: str) -> None:
    with pytest.raises(DataError, match=words):
        mmd2(x, y)


def test_groups_must_fit() -> None:
    rng = np.random.default_rng(13)
    x = rng.normal(size=10)
    with pytest.raises(DataError, match="3 groups are given for 10 rows"):
        mmd2(x, x, groups_x=np.zeros(3, np.int32))
    with pytest.raises(DataError, match="one piece of ground"):
        mmd2(x, x, groups_y=np.zeros(10, np.int32))
