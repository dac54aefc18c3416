"""From margins to probabilities: order is kept, and 0.9 is said from the stated margin on and nowhere below it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from modeling.calibrated import (
    CONFIDENT,
    LARGEST_UNSURE,
    calibrated_logit,
    is_calibration,
    margin_range,
    moved_sure_margin,
    plain_sure_margin,
)

TEMPERATURES = st.floats(0.05, 50)
TIMES = st.floats(1, 40)
MARGINS = st.lists(st.floats(-300, 300, width=32), min_size=1, max_size=50)


def probability(margin: list[float], temperature: float, sure_margin: float) -> np.ndarray:
    made: np.ndarray = special.expit(calibrated_logit(np.sort(np.array(margin, np.float64)), temperature, sure_margin))
    return made


@given(MARGINS, TEMPERATURES, TIMES)
def test_order_is_kept_and_nothing_is_surer_than_by_the_temperature(
    margin: list[float], temperature: float, times: float
) -> None:
    made = probability(margin, temperature, times * plain_sure_margin(temperature))
    assert (np.diff(made) >= 0).all()
    assert (made <= probability(margin, temperature, 0.0) + 1e-12).all()


@given(MARGINS, TEMPERATURES, TIMES)
def test_below_what_is_kept_back_it_is_the_temperature_alone(
    margin: list[float], temperature: float, times: float
) -> None:
    plain = probability(margin, temperature, 0.0)
    made = probability(margin, temperature, times * plain_sure_margin(temperature))
    np.testing.assert_allclose(made[plain < LARGEST_UNSURE], plain[plain < LARGEST_UNSURE], rtol=1e-9)
    assert (made[plain >= LARGEST_UNSURE] >= LARGEST_UNSURE - 1e-9).all()


@given(st.floats(-300, 300), TEMPERATURES, TIMES)
def test_it_is_confident_from_the_stated_margin_on(margin: float, temperature: float, times: float) -> None:
    sure = times * plain_sure_margin(temperature)
    if abs(margin - sure) > 1e-6 * sure:
        made = probability([margin], temperature, sure)[0]
        assert (made >= CONFIDENT) == (margin > sure)


@given(MARGINS, TEMPERATURES)
def test_the_smallest_margin_keeps_nothing_back(margin: list[float], temperature: float) -> None:
    made = probability(margin, temperature, plain_sure_margin(temperature))
    np.testing.assert_allclose(made, probability(margin, temperature, 0.0), rtol=1e-9)


@given(MARGINS, TEMPERATURES, st.sampled_from([0.0, 1.0, 2.5]))
def test_the_margin_lies_in_the_range_that_its_probability_tells(
    margin: list[float], temperature: float, times: float
) -> None:
    ordered, sure = np.sort(np.array(margin, np.float64)), times * plain_sure_margin(temperature)
    made = probability(margin, temperature, sure).astype(np.float32)
    low, high = margin_range(made, temperature, sure)
    slack = 0.05 * max(temperature, sure) + 1e-9
    assert ((low - slack <= ordered) & (ordered <= high + slack)).all()
    open_ends = np.isinf(low) | np.isinf(high) | (abs(made - LARGEST_UNSURE) < 1e-4)
    assert (high[~open_ends] - low[~open_ends] < slack).all(), "and is known where nothing is kept back"


@given(TEMPERATURES, TEMPERATURES, TIMES, st.floats(0, 1))
def test_with_another_temperature_as_much_is_kept_back_and_it_is_a_calibration(
    before: float, after: float, times: float, threshold: float
) -> None:
    moved = moved_sure_margin(times * plain_sure_margin(before), before, after, threshold)
    assert is_calibration(after, moved, threshold)
    if threshold < LARGEST_UNSURE:
        assert moved == pytest.approx(times * plain_sure_margin(after))
    else:
        assert moved == 0


@pytest.mark.parametrize(
    "numbers", [(0, 0, 0.5), (math.inf, 0, 0.5), (1, 0, 1.1), (1, 1, 0.5), (1, 9, 0.9), (1, math.nan, 0.5)]
)
def test_numbers_that_do_not_go_together_are_no_calibration(numbers: tuple[float, float, float]) -> None:
    assert not is_calibration(*numbers)


def test_what_is_not_confident_is_not_so_when_it_is_rounded_to_hundredths_either() -> None:
    assert round(LARGEST_UNSURE, 2) < CONFIDENT


@pytest.mark.parametrize("sure", [0.0, 9.0])
def test_tensors_and_arrays_agree(sure: float) -> None:
    margin = np.linspace(-20, 20, 401, dtype=np.float32).reshape(1, -1)
    by_torch = calibrated_logit(torch.from_numpy(margin), 1.5, sure)
    assert by_torch.dtype == torch.float32
    np.testing.assert_allclose(by_torch.numpy(), calibrated_logit(margin, 1.5, sure), rtol=1e-6)
