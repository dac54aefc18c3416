"""Distances between samples: known shifts, symmetry, intervals over blocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeling.errors import DataError
from modeling.realism.distance import Sample, blocks_of, measure


def sample(shift: float, seed: int, blocks: int = 12, each: int = 60) -> Sample:
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(blocks), each)
    return Sample.of(rng.normal(shift, 1, owner.size) + 0.2 * rng.standard_normal(blocks)[owner], owner)


def test_a_shift_is_the_wasserstein_distance_in_its_own_unit() -> None:
    found = measure("x", "m", sample(0, 1), sample(3, 2), resamples=40)
    assert found.wasserstein.value == pytest.approx(3, abs=0.3)
    assert found.wasserstein.low <= found.wasserstein.value <= found.wasserstein.high
    assert found.ks.value > 0.8
    assert found.in_spreads == pytest.approx(found.wasserstein.value / (found.real[3] - found.real[1]))
    assert found.wasserstein.blocks == 12


@settings(max_examples=15, deadline=None)
@given(st.floats(-5, 5), st.integers(0, 100))
def test_a_distance_to_itself_is_nothing_and_both_ways_are_alike(shift: float, seed: int) -> None:
    one, other = sample(shift, seed), sample(0, seed + 1)
    assert measure("x", "m", one, one, resamples=1).wasserstein.value == 0
    there, back = (measure("x", "m", a, b, resamples=1) for a, b in ((one, other), (other, one)))
    assert there.wasserstein.value == pytest.approx(back.wasserstein.value)
    assert there.ks.value == pytest.approx(back.ks.value)


def test_few_blocks_make_the_interval_wide() -> None:
    few, many = (measure("x", "m", sample(0, 1, n, 600 // n), sample(0, 2, n, 600 // n)) for n in (4, 60))
    assert few.wasserstein.high - few.wasserstein.low > many.wasserstein.high - many.wasserstein.low


def test_unknown_values_do_not_count_and_no_block_outweighs_others() -> None:
    values = np.concatenate([np.full(5, np.nan), np.zeros(5000), np.ones(10)])
    one = Sample.of(values, np.concatenate([np.zeros(5005), np.ones(10)]))
    assert np.isfinite(one.values).all()
    assert (one.block == 0).sum() == 300
    assert (one.values == 1).sum() == 10
    with pytest.raises(DataError, match="no finite value"):
        Sample.of(np.full(4, np.nan), np.zeros(4))


def test_blocks_are_squares_of_ground() -> None:
    block = blocks_of((10, 12), 5, first=100)
    assert block[0, 0] == 100
    assert np.unique(block).size == 6
    assert (np.bincount((block - 100).ravel())[:2] == 25).all()
