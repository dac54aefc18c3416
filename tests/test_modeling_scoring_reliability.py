"""Histograms of margins add up exactly and say of the pixels what the pixels say."""

from __future__ import annotations

import json

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from modeling.errors import DataError
from modeling.scoring.metrics import confusion
from modeling.scoring.reliability import BINS, MarginHistogram, margin_edges, reliability

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]


def some(seed: int, scale: float = 3.0, count: int = 20_000) -> tuple[FloatArray, BoolArray]:
    rng = np.random.default_rng(seed)
    truth = rng.random(count) < 0.15
    return (scale * rng.normal(np.where(truth, 1, -1), 1.5)).astype(np.float32), truth


def same(one: MarginHistogram, other: MarginHistogram) -> bool:
    return np.array_equal(one.landslide, other.landslide) and np.array_equal(one.background, other.background)


def test_blocks_add_up_to_the_whole_in_any_order() -> None:
    margin, truth = some(0)
    parts = [MarginHistogram.of(margin[k::3], truth[k::3]) for k in range(3)]
    whole = MarginHistogram.of(margin, truth)
    assert same(sum(parts, MarginHistogram.empty()), whole)
    assert same(sum(parts[::-1], MarginHistogram.empty()), whole)
    assert whole.pixels == margin.size


def test_what_is_not_valid_is_not_counted() -> None:
    margin, truth = some(1, count=100)
    valid = np.arange(100) % 3 > 0
    spoilt = np.where(valid, margin, np.nan).astype(np.float32).reshape(10, 10)
    counted = MarginHistogram.of(spoilt, truth.reshape(10, 10), valid.reshape(10, 10))
    assert same(counted, MarginHistogram.of(margin[valid], truth[valid]))


@given(st.integers(0, BINS - 1), st.sampled_from([0.3, 1.0, 2.5]))
@settings(max_examples=60, deadline=None)
def test_a_threshold_on_an_edge_gives_the_map_of_the_pixels(edge: int, temperature: float) -> None:
    margin, truth = some(2, count=3000)
    cut = margin_edges()[edge]
    counted = MarginHistogram.of(margin, truth).confusion_at(float(special.expit(cut / temperature)), temperature)
    if -30 * temperature < cut < 15 * temperature:  # beyond, a probability near 1 cannot tell the edges apart
        assert counted == confusion(margin >= cut, truth, np.ones_like(truth))


@pytest.mark.parametrize("scale", [0.5, 3.0, 60.0])
def test_the_diagram_is_that_of_the_pixels(scale: float) -> None:
    margin, truth = some(3, scale)
    probability = special.expit(margin.astype(np.float64) / 1.3)
    diagram = reliability(MarginHistogram.of(margin, truth), 1.3, bins=10)
    index = np.minimum((probability * 10).astype(int), 9)
    gap = [abs((probability - truth)[index == k].sum()) for k in range(10)]
    assert sum(diagram.pixels) == margin.size
    assert diagram.ece == pytest.approx(sum(gap) / margin.size, abs=1e-3)
    assert diagram.brier == pytest.approx(((probability - truth) ** 2).mean(), abs=1e-4)
    signed = np.where(truth, margin, -margin).astype(np.float64)
    assert diagram.nll == pytest.approx(-special.log_expit(signed / 1.3).mean(), rel=1e-3)


def test_an_honest_forecast_lies_on_the_diagonal() -> None:
    rng = np.random.default_rng(4)
    margin = rng.normal(0, 2, 400_000).astype(np.float32)
    diagram = reliability(MarginHistogram.of(margin, rng.random(margin.size) < special.expit(margin)))
    assert np.abs(np.subtract(diagram.probability, diagram.observed)).max() == pytest.approx(diagram.mce)
    assert diagram.mce < 0.02
    assert diagram.ece <= diagram.mce


def test_what_lies_above_a_margin_is_kept_alone() -> None:
    rng = np.random.default_rng(5)
    margin = rng.normal(0, 5, 5000).astype(np.float32)
    truth = rng.random(5000) < 0.3
    kept = MarginHistogram.of(margin, truth).above(1.0)
    counts = MarginHistogram.of(margin, truth).confusion_at(float(special.expit(1.0)))
    assert (kept.landslide.sum(), kept.background.sum()) == (counts.tp, counts.fp)
    assert abs(kept.pixels - (margin >= 1.0).sum()) <= 5  # those of the edge's bin


def test_claims_that_are_kept_back_lie_in_the_bin_below() -> None:
    margin = np.array([1.0, 4.0, 12.0], np.float32)
    found = reliability(MarginHistogram.of(margin, np.array([True, True, True])), 1.0, 10, sure_margin=10.0)
    assert found.pixels == (0, 0, 0, 0, 0, 0, 0, 1, 1, 1)
    assert found.probability[8] == pytest.approx(0.89)


def test_extreme_margins_are_counted_and_nan_is_refused() -> None:
    extreme = np.array([-np.inf, -1e30, 0, 1e30, np.inf], dtype=np.float32)
    counted = MarginHistogram.of(extreme, extreme > 0)
    assert (counted.background[0], counted.landslide[-1], counted.pixels) == (2, 2, 5)
    assert counted.confusion_at(0.0).fp == 3
    assert counted.confusion_at(1.0).tp == 2
    with pytest.raises(DataError, match="1 of 2"):
        MarginHistogram.of(np.array([0, np.nan], dtype=np.float32), np.array([False, True]))
    with pytest.raises(DataError, match="shape"):
        MarginHistogram.of(extreme, np.zeros((5, 1), dtype=bool))


def test_a_stored_histogram_comes_back_and_a_damaged_one_is_refused() -> None:
    histogram = MarginHistogram.of(*some(5))
    stored = json.loads(json.dumps(histogram.to_json()))
    assert same(MarginHistogram.from_json(stored), histogram)
    for change in ({"bins": 10}, {"filled": [BINS]}, {"filled": "x"}, {"landslide": [1, 2]}):
        with pytest.raises(DataError, match="stored histogram"):
            MarginHistogram.from_json({**stored, **change})
