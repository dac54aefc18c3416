"""flows/facts.py: what is said is counted right, also when there is nothing to count."""

from __future__ import annotations

import datetime as dt

import geopandas as gpd
import numpy as np
import pytest
from fakes.products import ALIGNMENT, SCORES, facts, landslide
from hypothesis import given
from hypothesis import strategies as st

from flows.facts import ReportFacts, combined_observed, coverage, inventory_facts, landslides_of
from gee.types import Observed
from modeling.vectors.inventory import SCHEMA, empty_inventory


def test_facts_survive_json() -> None:
    told = facts()
    told = ReportFacts(
        **{**vars(told), "scores": SCORES, "earth_engine_assets": {"probability": "p/x"}, "alignment": ALIGNMENT}
    )
    assert ReportFacts.from_json(told.to_json()) == told


def test_coverage_leaves_out_what_lies_outside() -> None:
    seen = coverage({Observed.CLEAR: 600, Observed.CLOUD: 300, Observed.NO_PASS: 100, Observed.OUTSIDE: 5000}, 10.0)
    assert [(row.label, row.percent) for row in seen.rows] == [
        ("observed", 60.0),
        ("cloud", 30.0),
        ("not imaged", 10.0),
    ]
    assert seen.area_km2 == pytest.approx(0.1)
    assert (seen.observed_km2, seen.unobserved_km2, seen.outside_km2) == pytest.approx((0.06, 0.04, 0.5))
    assert seen.observed_percent + seen.unobserved_percent == pytest.approx(100)


@pytest.mark.parametrize("counts", [{}, {Observed.OUTSIDE: 10}, {Observed.CLOUD: 10}, {Observed.CLEAR: 0}])
def test_coverage_of_nothing_observed_is_zero_and_said(counts: dict[int, int]) -> None:
    seen = coverage(counts, 10.0)
    assert seen.rows[0].label == "observed"
    assert (seen.observed_km2, seen.observed_percent) == (0, 0)


@given(st.dictionaries(st.sampled_from([int(code) for code in Observed]), st.integers(0, 10**9)))
def test_rows_of_coverage_always_add_up(counts: dict[int, int]) -> None:
    seen = coverage(counts, 10.0)
    inside = sum(n for code, n in counts.items() if code != Observed.OUTSIDE)
    assert sum(row.percent for row in seen.rows) == pytest.approx(100 if inside else 0)
    assert seen.area_km2 == pytest.approx(inside * 1e-4)


def test_a_pixel_is_observed_only_when_every_phase_saw_it() -> None:
    pre = np.array([[1, 0, 1, 2, 255, 1]], np.uint8)
    post = np.array([[1, 1, 2, 0, 1, 255]], np.uint8)
    assert combined_observed(np.stack([pre, post])).tolist() == [[1, 0, 2, 2, 255, 255]]
    assert combined_observed(post[None]).tolist() == post.tolist()


def test_size_classes_hold_every_landslide_once() -> None:
    areas = [400.0, 999.9, 1000.0, 2999.0, 3000.0, 99_999.0, 100_000.0, 5e6]
    told = inventory_facts([landslide(area) for area in areas])
    assert [size.count for size in told.sizes] == [2, 2, 1, 0, 1, 2]
    assert sum(size.area_m2 for size in told.sizes) == pytest.approx(told.total_area_m2) == pytest.approx(sum(areas))
    assert [slide.area_m2 for slide in told.largest] == sorted(areas, reverse=True)


def test_only_the_twenty_largest_are_listed_and_cut_off_ones_counted() -> None:
    told = inventory_facts([landslide(float(area), cut_off=area % 10 == 0) for area in range(1, 51)])
    assert (told.count, len(told.largest), told.largest[0].area_m2, told.cut_off) == (50, 20, 50.0, 5)


def test_an_empty_inventory_has_all_classes_and_no_landslide() -> None:
    told = inventory_facts(landslides_of(empty_inventory("EPSG:32654")))
    assert (told.count, told.total_area_m2, told.largest) == (0, 0, ())
    assert [size.count for size in told.sizes] == [0] * 6


def test_rows_of_the_inventory_are_read_with_their_gaps() -> None:
    row = {name: [0.5] for name in SCHEMA if name != "geometry"}
    row |= {"area_m2": [900.0], "slope_mean_deg": [float("nan")], "observed_post": [None], "landslide_id": [7]}
    row |= {"touches_unobserved": [True]}
    (slide,) = landslides_of(gpd.GeoDataFrame(row, geometry=gpd.points_from_xy([0], [0])))
    assert (slide.area_m2, slide.number, slide.touches_unobserved) == (900.0, 7, True)
    assert (slide.mean_slope_deg, slide.observed_date) == (None, None)
    row["observed_post"] = ["2018-09-10"]  # type: ignore[list-item]
    (slide,) = landslides_of(gpd.GeoDataFrame(row, geometry=gpd.points_from_xy([0], [0])))
    assert slide.observed_date == dt.date(2018, 9, 10)
