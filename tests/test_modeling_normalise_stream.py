"""A normalisation fitted to values that come in parts is the one fitted to all of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeling.data.normalise import METHODS, fit, fit_stream
from modeling.errors import DataError


@pytest.mark.parametrize("method", METHODS)
@given(cuts=st.lists(st.integers(0, 3000), max_size=5), seed=st.integers(0, 99))
@settings(max_examples=10, deadline=None)
def test_parts_give_what_the_whole_gives(method: str, cuts: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = np.stack([rng.normal(-300, 80, 3000), rng.gamma(2, 1e-3, 3000)]).astype(np.float32)
    values[0, rng.integers(3000)] = np.nan
    parts = np.split(values, sorted(cuts), axis=1)
    whole, streamed = fit(method, values), fit_stream(method, parts)
    np.testing.assert_allclose(streamed.offset, whole.offset, rtol=1e-9)
    np.testing.assert_allclose(streamed.scale, whole.scale, rtol=1e-9)


@given(seed=st.integers(0, 999), scale=st.sampled_from([1e-6, 1e-3, 1.0, 1e4]))
@settings(max_examples=25, deadline=None)
def test_percentiles_are_right_to_a_fifth_of_a_percent(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    values = (scale * rng.standard_normal((1, 20_000))).astype(np.float32)
    values[0, :300] = 0
    fitted = fit("percentile", values)
    low, high = np.percentile(values[0].astype(np.float64), (2, 98))
    assert fitted.offset[0] == pytest.approx(low, rel=2.5e-3)
    assert fitted.offset[0] + fitted.scale[0] == pytest.approx(high, rel=2.5e-3)


def test_standardise_is_exact_far_from_zero() -> None:
    values = (1e4 + np.random.default_rng(0).standard_normal((1, 9000))).astype(np.float32)
    fitted = fit_stream("standardise", np.array_split(values, 7, axis=1))
    assert fitted.offset[0] == pytest.approx(float(values.astype(np.float64).mean()), rel=1e-12)
    assert fitted.scale[0] == pytest.approx(float(values.astype(np.float64).std()), rel=1e-9)


def test_nothing_to_fit_to_is_said() -> None:
    with pytest.raises(DataError, match="no training data"):
        fit_stream("standardise", [])
    with pytest.raises(DataError, match=r"channels \[1\] have no finite"):
        fit_stream("min-max", [np.array([[1, 2], [np.nan, np.inf]], np.float32)])
    with pytest.raises(DataError, match="2 channels, the ones before it 1"):
        fit_stream("min-max", [np.ones((1, 2), np.float32), np.ones((2, 2), np.float32)])
