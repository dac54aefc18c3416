"""`modeling.geology.rules` and `regions`: thresholds with units, reasons, and the laws that a filter must obey."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from modeling.errors import DataError
from modeling.geology.regions import apply_rules, regions_in, regions_of
from modeling.geology.rules import NO_RULES, GeologyRules, Measures, default_rules, judge

Mask = npt.NDArray[np.bool_]
PIXEL_M = 10.0

MASKS = arrays(bool, st.tuples(st.integers(1, 24), st.integers(1, 24)))
RULES = st.builds(
    GeologyRules,
    st.none() | st.sampled_from([150.0, 250.0, 450.0, 1000.0]),
    st.none() | st.sampled_from([1.5, 3.0, 6.0]),
    st.none() | st.sampled_from([5.0, 20.0]),
)


def slopes(shape: tuple[int, int], seed: int = 0) -> npt.NDArray[np.float32]:
    """Slopes of 0 to 40 degrees, some of them unknown."""
    rng = np.random.default_rng(seed)
    values = ndimage.gaussian_filter(rng.random(shape), 2) * 120 - 40
    return np.where(rng.random(shape) < 0.05, np.nan, np.clip(values, 0, 40)).astype(np.float32)


@pytest.mark.parametrize(("pixel_m", "area_m2"), [(1.5, 37.5), (3.0, 75.0), (10.0, 250.0)])
def test_the_smallest_area_follows_the_resolution_as_in_the_paper(pixel_m: float, area_m2: float) -> None:
    assert default_rules(pixel_m).minimum_area_m2 == pytest.approx(area_m2)


def test_a_road_a_speck_and_a_flat_field_go_and_a_landslide_stays() -> None:
    mask = np.zeros((60, 60), bool)
    mask[5, 2:42] = True  # a road: 40 x 1
    mask[20, 20] = True  # a speck: 100 m²
    mask[30:36, 5:11] = True  # a field
    mask[30:42, 30:34] = True  # a landslide: 12 x 4, its lower half on flat ground
    slope = np.full(mask.shape, 30, np.float32)
    slope[28:38, 3:13] = 1
    slope[36:42, 30:34] = 0
    done = apply_rules(mask, default_rules(PIXEL_M), slope_deg=slope, pixel_m=PIXEL_M)
    expected = np.zeros_like(mask)
    expected[30:42, 30:34] = True
    assert np.array_equal(done.mask, expected)
    assert done.verdicts.counts == {"area": 1, "elongation": 1, "slope": 1}
    assert done.verdicts.dropped_because == (
        "",
        "elongation: 40.0 times as long as wide, more than 10",
        "slope: 95 % is at most 1° steep, less than 5°",
        "area: 100 m² is less than 250 m²",
    )


def test_the_elongated_are_dropped_and_not_the_round_whatever_the_paper_prints() -> None:
    measures = Measures(*(np.array(each, float) for each in ([900, 900], [1.2, 14.0], [30, 30])))
    assert judge(measures, GeologyRules(maximum_length_width_ratio=10)).kept.tolist() == [True, False]


def test_a_road_that_does_not_follow_the_grid_is_as_long_as_it_is() -> None:
    mask = np.zeros((80, 80), bool)
    for step in range(60):
        mask[step + 5, step + 5 : step + 7] = True
    measures = regions_of(mask, pixel_m=PIXEL_M).measures
    assert measures.length_width_ratio.max() > 20


def test_what_is_not_known_breaks_no_rule_and_a_threshold_itself_is_kept() -> None:
    measures = Measures(np.array([250.0]), np.array([10.0]), np.array([np.nan]))
    assert judge(measures, default_rules(PIXEL_M)).kept.all()
    assert judge(replace(measures, slope_p95_deg=np.array([5.0])), default_rules(PIXEL_M)).kept.all()


def test_every_broken_rule_is_a_reason() -> None:
    measures = Measures(np.array([100.0]), np.array([20.0]), np.array([2.0]))
    verdicts = judge(measures, default_rules(PIXEL_M))
    assert [part.partition(":")[0] for part in verdicts.dropped_because[0].split("; ")] == [
        "area",
        "elongation",
        "slope",
    ]


@settings(max_examples=60, deadline=None)
@given(mask=MASKS, rules=RULES)
def test_rules_only_drop_whole_regions_and_twice_is_once(mask: Mask, rules: GeologyRules) -> None:
    slope = slopes(mask.shape)
    once = apply_rules(mask, rules, slope_deg=slope, pixel_m=PIXEL_M)
    assert not (once.mask & ~mask).any()
    assert np.array_equal(apply_rules(once.mask, rules, slope_deg=slope, pixel_m=PIXEL_M).mask, once.mask)
    labels, count = ndimage.label(mask)
    left = np.bincount(labels[once.mask], minlength=count + 1)[1:]
    whole = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    assert ((left == 0) | (left == whole)).all()
    # Nothing disappears unexplained, and nothing that stays is explained away.
    assert int((left == 0).sum()) == sum(bool(why) for why in once.verdicts.dropped_because)


@settings(max_examples=30, deadline=None)
@given(mask=MASKS, rules=RULES)
def test_the_order_of_rules_does_not_matter(mask: Mask, rules: GeologyRules) -> None:
    slope = slopes(mask.shape, 1)
    single = [
        replace(NO_RULES, **{name: value}) for name, value in rules.to_json().items() if value is not None
    ]  # fmt: skip
    together = apply_rules(mask, rules, slope_deg=slope, pixel_m=PIXEL_M).mask
    for order in itertools.permutations(single):
        left = mask
        for rule in order:
            left = apply_rules(left, rule, slope_deg=slope, pixel_m=PIXEL_M).mask
        assert np.array_equal(left, together)


@settings(max_examples=40, deadline=None)
@given(mask=MASKS, rows=st.integers(1, 9), columns=st.integers(1, 9))
def test_how_a_scene_is_cut_changes_nothing(mask: Mask, rows: int, columns: int) -> None:
    slope, (height, width) = slopes(mask.shape, 2), mask.shape
    windows = (
        ((slice(y, min(y + rows, height)), slice(x, min(x + columns, width))))
        for y in range(0, height, rows)
        for x in range(0, width, columns)
    )
    cut = regions_in(((where, mask[where], slope[where]) for where in windows), (height, width), PIXEL_M)
    whole = regions_of(mask, slope_deg=slope, pixel_m=PIXEL_M)
    for name, values in vars(whole.measures).items():
        assert np.array_equal(getattr(cut.measures, name), values, equal_nan=True), name
    assert np.array_equal(cut.numbers(), whole.numbers())


@settings(max_examples=30, deadline=None)
@given(mask=MASKS)
def test_measures_are_those_of_the_pixels(mask: Mask) -> None:
    slope = slopes(mask.shape, 3)
    regions = regions_of(mask, slope_deg=slope, pixel_m=PIXEL_M)
    number = regions.numbers()
    assert np.array_equal(number > 0, mask)
    for index in range(len(regions)):
        inside = number == index + 1
        assert regions.measures.area_m2[index] == inside.sum() * 100
        known = np.sort(np.rint(slope[inside & np.isfinite(slope)]))
        expected = known[int(np.ceil(0.95 * len(known) - 1e-6)) - 1] if len(known) else np.nan
        assert np.array_equal(regions.measures.slope_p95_deg[index], expected, equal_nan=True)


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_a_threshold_must_be_a_number(value: float) -> None:
    with pytest.raises(DataError, match="maximum_length_width_ratio"):
        GeologyRules(maximum_length_width_ratio=value)


@pytest.mark.parametrize(
    "stored",
    [
        {},
        {"minimum_area_m2": 1},
        {"minimum_area_m2": "x", "maximum_length_width_ratio": None, "minimum_slope_deg": None},
        {"minimum_area_m2": 1, "maximum_length_width_ratio": None, "minimum_slope_deg": None, "more": 1},
    ],
)
def test_stored_rules_that_are_none_are_refused(stored: dict[str, Any]) -> None:
    with pytest.raises(DataError):
        GeologyRules.from_json(stored)


def test_rules_survive_json_and_say_their_units() -> None:
    rules = default_rules(3.0)
    assert GeologyRules.from_json(rules.to_json()) == rules
    assert rules.described() == "at least 75 m², at most 10 times as long as wide, not flatter than 5°"
    assert NO_RULES.described() == "no rule"
