"""Bootstrap intervals over blocks hold the truth as often as they say, and pairs of maps are compared as pairs."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from modeling.errors import DataError
from modeling.scoring import bootstrap
from modeling.scoring.bootstrap import Interval, difference, intervals, object_intervals, size_intervals
from modeling.scoring.metrics import SCORES, Confusion
from modeling.scoring.objects import ObjectCounts


def blocks(rng: np.random.Generator, count: int, recall: float = 0.7) -> list[Confusion]:
    made = []
    for _ in range(count):
        real = int(rng.integers(50, 400))
        tp = int(real * np.clip(recall + rng.normal(0, 0.1), 0, 1))
        made.append(Confusion(tp=tp, fp=int(rng.integers(0, 80)), fn=real - tp, tn=5000))
    return made


def test_the_value_is_the_score_of_all_blocks_together() -> None:
    parts = blocks(np.random.default_rng(0), 30)
    found = intervals(parts, resamples=200)
    whole = sum(parts, Confusion()).scores()
    assert {name: interval.value for name, interval in found.items()} == pytest.approx(whole)
    assert set(found) == set(SCORES)
    for interval in found.values():
        assert interval.low <= interval.value <= interval.high
        assert (interval.blocks, interval.resamples, interval.level) == (30, 200, 0.95)


def test_the_same_seed_gives_the_same_interval_and_blocks_drawn_alone_are_as_good(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts = blocks(np.random.default_rng(1), 20)
    one = intervals(parts, resamples=100, seed=3)
    assert intervals(parts, resamples=100, seed=3) == one
    assert intervals(parts, resamples=100, seed=4) != one
    monkeypatch.setattr(bootstrap, "_MOST_AT_ONCE", 7 * 20)
    assert intervals(parts, resamples=100, seed=3) == one


def test_equal_blocks_leave_no_doubt() -> None:
    interval = intervals([Confusion(tp=3, fp=1, fn=2, tn=9)] * 8, resamples=50)["iou"]
    assert interval.low == interval.value == interval.high == 0.5


def test_an_interval_covers_the_expected_score_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(2)
    truth = sum(blocks(rng, 20_000), Confusion()).scores()["recall"]
    hits = 0
    for seed in range(120):
        interval = intervals(blocks(rng, 40), resamples=200, seed=seed, level=0.9)["recall"]
        hits += interval.low <= truth <= interval.high
    assert 0.8 <= hits / 120 <= 0.97


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_the_ends_are_the_quantiles_of_the_draws(level: float) -> None:
    """100 equal blocks, half of them found: the draws' recall is binomial."""
    parts = [Confusion(tp=1)] * 50 + [Confusion(fn=1)] * 50
    interval = intervals(parts, resamples=4000, level=level)["recall"]
    low, high = stats.binom(100, 0.5).ppf(((1 - level) / 2, (1 + level) / 2)) / 100
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.011)


def test_strata_keep_their_share_of_every_draw() -> None:
    good, bad = Confusion(tp=10), Confusion(fn=10)
    names = ["a"] * 10 + ["b"] * 10
    mixed = intervals([good] * 10 + [bad] * 10, resamples=100)["recall"]
    fixed = intervals([good] * 10 + [bad] * 10, strata=names, resamples=100)["recall"]
    assert mixed.low < 0.5 < mixed.high
    assert fixed.low == fixed.high == 0.5
    with pytest.raises(DataError, match="strata"):
        intervals([good], strata=[], resamples=10)


def test_pairing_finds_a_small_difference_that_the_two_intervals_hide() -> None:
    rng = np.random.default_rng(3)
    worse = blocks(rng, 25)
    better = [Confusion(part.tp + 5, part.fp, part.fn - 5, part.tn) for part in worse]
    first, second = intervals(better)["f1"], intervals(worse)["f1"]
    assert first.low < second.high  # the intervals overlap
    found = difference(better, worse)
    assert found.interval.value == pytest.approx(first.value - second.value)
    assert 0 < found.interval.low < found.interval.high
    assert found.share_above == 1
    assert difference(worse, worse).share_above == 0
    assert difference(worse, better, "recall").interval.high < 0
    with pytest.raises(DataError, match="25 and 24"):
        difference(better, worse[1:])
    with pytest.raises(DataError, match="f2"):
        difference(better, worse, "f2")


def test_landslides_are_drawn_by_block_too() -> None:
    one = ObjectCounts((100.0,), (4, 2), (2, 2), (20, 40), (10, 40), (5, 1), (3, 1))
    other = ObjectCounts((100.0,), (4, 0), (0, 0), (20, 0), (0, 0), (1, 0), (0, 0))
    parts = [one, other] * 10
    found = object_intervals(parts, resamples=100)
    whole = sum(parts, ObjectCounts.none((100.0,))).scores()
    assert {name: interval.value for name, interval in found.items()} == pytest.approx(
        {name: whole[name] for name in ("precision", "recall", "f1")}
    )
    sizes = size_intervals(parts, resamples=100)
    for name, small in {"recall": 2 / 8, "precision": 3 / 6, "f1": 2 * 0.25 * 0.5 / (0.25 + 0.5)}.items():
        assert [interval.value for interval in sizes[name]] == pytest.approx([small, 1])
        assert sizes[name][0].low < small < sizes[name][0].high
        assert sizes[name][1].low == sizes[name][1].high == 1


def test_an_interval_comes_back_from_json_and_no_block_is_refused() -> None:
    interval = intervals(blocks(np.random.default_rng(5), 4), resamples=10)["f1"]
    assert Interval.from_json(json.loads(json.dumps(interval.to_json()))) == interval
    with pytest.raises(DataError, match="cannot be read"):
        Interval.from_json({"value": 1})
    with pytest.raises(DataError, match="at least one block"):
        intervals([])
