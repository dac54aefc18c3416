"""The presets of the simulator, and random relatives of them."""

from __future__ import annotations

import datetime as dt
from dataclasses import fields

import numpy as np
import pytest

from modeling.errors import DataError
from modeling.simulate import DOMAINS, Domain, domain, vary

SHARES = [one.name for one in fields(Domain) if one.name.endswith("_share")]


def relatives(name: str, count: int) -> list[Domain]:
    rng = np.random.default_rng(11)
    return [vary(domain(name), rng) for _ in range(count)]


def test_the_papers_regions_are_there_by_name() -> None:
    assert tuple(DOMAINS)[:4] == ("iburi", "jiuzhaigou", "palu", "luding")
    assert all(domain(name).name == name for name in DOMAINS)


def test_the_order_of_domains_is_that_of_the_seeds_of_benchmarks() -> None:
    # Simulated regions of the nth domain have seeds from 1000 n on, and another part begins 10,000 later.
    assert tuple(DOMAINS) == (
        "iburi", "jiuzhaigou", "palu", "luding", "gorkha", "kaikoura", "noto", "haiti", "papua",
        "hualien",
    )  # fmt: skip
    assert len(DOMAINS) <= 10


def test_regions_differ_in_climate_relief_season_noise_and_density() -> None:
    every = list(DOMAINS.values())
    assert min(one.latitude for one in every) < -40 < 40 < max(one.latitude for one in every)
    assert len({one.event_date[5:7] for one in every}) >= 5
    assert max(one.hillslope for one in every) - min(one.hillslope for one in every) > 12
    assert max(one.slide_share for one in every) > 4 * min(one.slide_share for one in every)
    assert len({one.sensor_noise for one in every}) >= 4
    assert all(domain(name).sensor_noise == 1 for name in ("iburi", "jiuzhaigou", "palu", "luding"))


def test_an_unknown_domain_is_named_with_the_known_ones() -> None:
    with pytest.raises(DataError, match=r"'wenchuan'.*iburi.*hualien"):
        domain("wenchuan")


@pytest.mark.parametrize("name", DOMAINS)
def test_presets_are_physically_possible(name: str) -> None:
    one = domain(name)
    assert all(0 <= getattr(one, share) <= 1 for share in SHARES)
    assert -90 < one.latitude < 90
    assert -180 <= one.longitude < 180
    assert one.slide_min_m2 < one.slide_max_m2
    assert one.pre_gap_days[0] > 1
    assert one.post_gap_days[0] > 1
    dt.date.fromisoformat(one.event_date)


@pytest.mark.parametrize("name", DOMAINS)
def test_relatives_stay_in_range_and_keep_the_character(name: str) -> None:
    base = domain(name)
    for one in relatives(name, 60):
        assert 24 <= one.hillslope <= 48
        assert 0.02 <= one.cloudiness <= 0.4
        assert 0.03 <= one.aerosol <= 0.6
        assert 0.14 <= one.soil_brightness <= 0.36
        assert 0 <= one.conifer_share <= 0.9
        assert one.swath_edge in (0.0, 0.3)
        assert one.pre_gap_days in (base.pre_gap_days, (60, 200))
        assert abs(one.latitude - base.latitude) < 12
        assert dt.date.fromisoformat(one.event_date).year == dt.date.fromisoformat(base.event_date).year
        assert (one.name, one.longitude, one.magnitude) == (base.name, base.longitude, base.magnitude)


def test_relatives_differ_from_each_other_in_relief_soil_season_and_valley() -> None:
    some = relatives("iburi", 60)
    for name in ("hillslope", "soil_redness", "slide_share", "aerosol", "latitude"):
        assert len({getattr(one, name) for one in some}) > 50
    assert len({one.event_date for one in some}) > 25
    wide = sum(one.floodplain > 2 * domain("iburi").floodplain for one in some)
    other_season = sum(one.pre_gap_days == (60, 200) for one in some)
    assert 8 < wide < 35
    assert 8 < other_season < 35


def test_the_same_generator_state_gives_the_same_relative() -> None:
    one, same = (vary(domain("palu"), np.random.default_rng(3)) for _ in range(2))
    assert one == same
    assert vary(domain("palu"), np.random.default_rng(4)) != one
