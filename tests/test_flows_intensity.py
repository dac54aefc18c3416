"""The intensity prediction equation and the radius drawn from it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.intensity import magnitude_radius_km, predicted_mmi


@pytest.mark.parametrize(
    ("magnitude", "hypocentral_km", "mmi"),
    [(7.0, 10.0, 8.0344), (7.0, 100.0, 5.6633), (5.0, 20.0, 5.0191), (6.0, 50.0, 5.1604)],
)
def test_the_equation_gives_values_worked_out_by_hand(magnitude: float, hypocentral_km: float, mmi: float) -> None:
    assert predicted_mmi(magnitude, hypocentral_km) == pytest.approx(mmi, abs=2e-4)


@given(st.floats(4.5, 8.5), st.floats(0, 200), st.floats(4.5, 8.0))
def test_the_radius_grows_with_magnitude_and_shrinks_with_depth_and_intensity(
    m: float, depth: float, mmi: float
) -> None:
    radius = magnitude_radius_km(m, depth, mmi)
    assert magnitude_radius_km(m + 0.2, depth, mmi) >= radius
    assert magnitude_radius_km(m, depth + 5, mmi) <= radius
    assert magnitude_radius_km(m, depth, mmi + 0.2) <= radius
    if 0 < radius < 300:
        assert predicted_mmi(m, math.hypot(radius, depth)) == pytest.approx(mmi, abs=1e-3)


def test_depths_that_are_missing_or_above_sea_level_have_a_meaning() -> None:
    assert magnitude_radius_km(6.6, None, 6.0) == magnitude_radius_km(6.6, 10.0, 6.0)
    assert magnitude_radius_km(6.6, -2.0, 6.0) == magnitude_radius_km(6.6, 0.0, 6.0)
    assert magnitude_radius_km(5.6, 600.0, 6.0) == 0.0
    assert magnitude_radius_km(9.5, 10.0, 6.0) == 300.0
