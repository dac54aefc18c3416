"""Intervals on an event's totals: they cover unseen domains at their rate, widen with novelty, and refuse too much."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeling.errors import DataError
from modeling.uncertainty.conformal import (
    TotalsCalibration,
    coverage,
    fit_totals,
    hierarchical_quantile,
    highest_level,
    measurable_level,
)
from modeling.uncertainty.totals import EventTotals


def events(
    seed: int,
    domains: int,
    each: int,
    *,
    between: float = 0.4,
    within: float = 0.3,
    bias: float = 0.2,
    far: float = 0.0,
) -> list[EventTotals]:
    """Events whose maps are off by a factor of the domain and one of the event; with `far`, more where novelty is high."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(domains):
        novelty = float(rng.uniform(0, 1))
        spread = 1 + far * novelty
        own = bias + between * spread * rng.standard_normal()
        for index in range(each):
            true = float(np.exp(rng.normal(12, 0.7)))
            factor = math.exp(-own - within * spread * rng.standard_normal())
            mapped = true * factor
            count = round(50 * factor)
            made.append(
                EventTotals(f"{number}-{index}", f"domain{number}", mapped, mapped, count, true, 50, 1e9, novelty)
            )
    return made


def test_the_stated_rate_is_reached_on_new_domains_and_not_by_far() -> None:
    covered = []
    for seed in range(150):
        *known, new = np.array_split(np.array(events(seed, 9, 6), dtype=object), 9)
        fitted = fit_totals([event for part in known for event in part], level=0.8)
        for event in new:
            found = fitted.area_range(event.mapped_m2)
            covered.append(found.low <= event.true_m2 <= found.high)
    assert 0.77 < np.mean(covered) < 0.92


def test_sums_of_pixel_variances_would_be_far_too_narrow() -> None:
    # 20,000 pixels with p = 0.9 have a total known to 0.3 % if they were independent; maps are off by half.
    some = events(3, 6, 10)
    fitted = fit_totals(some)
    event = some[0]
    found = fitted.area_range(event.mapped_m2)
    assert (found.high - found.low) / event.mapped_m2 > 0.5


def test_what_maps_miss_on_the_whole_is_added() -> None:
    fitted = fit_totals(events(1, 12, 12, bias=0.5, between=0.1, within=0.1))
    assert fitted.area.centre == pytest.approx(0.5, abs=0.12)
    found = fitted.area_range(1e6)
    assert found.low < 1e6 * math.exp(0.5) < found.high


def test_intervals_widen_with_novelty_only_as_far_as_errors_do() -> None:
    wide = fit_totals(events(2, 14, 10, far=6.0, bias=0), novelty="a distance")
    assert wide.area.widening > 0.5
    near, far = wide.area_range(1e6, 0.0), wide.area_range(1e6, 1.0)
    assert far.low < near.low < near.high < far.high
    unmeasured = fit_totals(events(2, 14, 10, far=6.0, bias=0))
    assert unmeasured.area.widening == 0
    assert unmeasured.area_range(1e6, 5.0) == unmeasured.area_range(1e6, 0.0)
    narrower = [replace(event, novelty=1 - event.novelty) for event in events(2, 14, 10, far=6.0, bias=0)]
    assert fit_totals(narrower, novelty="a distance").area.widening == 0


def test_measured_coverage_leaves_the_domain_out_that_it_is_counted_on() -> None:
    even = coverage(events(5, 9, 8))
    assert 0.6 < even.share["area"] <= 1
    assert even.low["area"] <= even.share["area"] <= even.high["area"]
    assert set(even.by_domain) == {f"domain{number}" for number in range(9)}
    assert 1 < even.factor_of_all["area"] <= even.factor["area"]
    # One domain that is nothing like the others must show, which in-sample coverage would hide.
    odd = [
        replace(event, mapped_m2=event.mapped_m2 * 50) if event.domain == "domain3" else event
        for event in events(5, 9, 8)
    ]
    assert coverage(odd).by_domain["domain3"]["area"] < 0.2


def test_too_few_domains_cannot_state_a_rate() -> None:
    with pytest.raises(DataError, match=r"80 %.*4 domains.*there are 3"):
        fit_totals(events(0, 3, 20))
    with pytest.raises(DataError, match="19 domains"):
        fit_totals(events(0, 8, 20), level=0.95)
    fit_totals(events(0, 4, 2))


@pytest.mark.parametrize(("domains", "level"), [(3, 2 / 3), (4, 0.75), (5, 0.8), (9, 0.8)])
def test_the_highest_level_can_be_measured_with_a_domain_left_out(domains: int, level: float) -> None:
    assert highest_level(domains) == pytest.approx(level)
    assert coverage(events(0, domains, 4), level=highest_level(domains)).level == pytest.approx(level)
    with pytest.raises(DataError, match="3 domains"):
        highest_level(2)


def test_a_level_that_cannot_be_measured_is_known_before_there_is_an_event() -> None:
    names = ("haiti", "haiti", "hualien", "papua")
    assert measurable_level(names) == highest_level(3)
    assert measurable_level(names, 2 / 3) == 2 / 3
    for level, needed in ((0.7, 4), (0.8, 5), (0.9, 10)):
        with pytest.raises(
            DataError, match=rf"need events of {needed} domains .*there are 3 \(haiti, hualien, papua\)"
        ):
            measurable_level(names, level)
    with pytest.raises(DataError, match="of 3 domains and more"):
        measurable_level(("haiti", "haiti"))
    for count in range(2, 12):
        least = (count - 1) / count
        assert measurable_level([str(k) for k in range(count)], least) == least


def test_an_event_without_landslides_has_an_interval_from_nothing() -> None:
    fitted = fit_totals(events(4, 6, 6))
    found = fitted.area_range(0.0)
    assert found.low == 0
    assert 0 < found.high < 100_000
    counted = fitted.count_range(0)
    assert counted.low == 0
    assert counted.high == round(counted.high) >= 1


def test_an_area_is_never_larger_than_what_was_observed() -> None:
    assert fit_totals(events(4, 6, 6)).area_range(9e5, observed_m2=1e6).high <= 1e6


def test_fitted_numbers_survive_json_and_damage_is_told() -> None:
    fitted = fit_totals(events(6, 5, 4), novelty="mean MMD²")
    stored = json.loads(json.dumps(fitted.to_json()))
    assert TotalsCalibration.from_json(stored) == fitted
    for damaged in (
        {**stored, "level": 1.5},
        {**stored, "area": {}},
        {k: v for k, v in stored.items() if k != "count"},
    ):
        with pytest.raises(DataError):
            TotalsCalibration.from_json(damaged)


def test_the_quantile_by_hand() -> None:
    # Two groups: 1/3 each, a third of the weight at infinity. Group a: 1 and 3 with 1/6 each; b: 2 with 1/3.
    scores, groups = [1.0, 3.0, 2.0], ["a", "a", "b"]
    assert hierarchical_quantile(scores, groups, 0.1) == 1
    assert hierarchical_quantile(scores, groups, 0.5) == 2
    assert hierarchical_quantile(scores, groups, 0.6) == 3
    assert hierarchical_quantile(scores, groups, 0.7) == math.inf


@given(
    st.lists(st.tuples(st.floats(0, 100), st.sampled_from("abcde")), min_size=1, max_size=30),
    st.floats(0.01, 0.99),
    st.floats(0.01, 0.99),
)
def test_the_quantile_rises_with_the_level_and_not_with_copies_of_a_group(
    scored: list[tuple[float, str]], one: float, other: float
) -> None:
    scores, groups = [score for score, _ in scored], [group for _, group in scored]
    low, high = sorted((one, other))
    assert hierarchical_quantile(scores, groups, low) <= hierarchical_quantile(scores, groups, high)
    # What a group weighs does not depend on how many events it has: all of one group twice changes nothing.
    twice = [*scored, *((score, group) for score, group in scored if group == groups[0])]
    again = hierarchical_quantile([score for score, _ in twice], [group for _, group in twice], one)
    assert again == hierarchical_quantile(scores, groups, one)
