"""Which window before the event is taken, and what is said about it."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gee.windows import Candidate, Look, candidates, choose

EVENT = dt.datetime(2018, 9, 5, 18, tzinfo=dt.UTC)


def looks(*seen: tuple[float, float | None]) -> list[Look]:
    found = candidates(EVENT, days_before=90, days_after=60, years=2)
    return [Look(candidate, clear, ndvi) for candidate, (clear, ndvi) in zip(found, seen, strict=False)]


def chosen(*seen: tuple[float, float | None]) -> tuple[Candidate, str]:
    choice = choose(looks(*seen), minimum_clear=0.7, ndvi_drop=0.15)
    assert choice is not None
    return choice.candidate, choice.why


def test_the_months_before_come_first_then_earlier_years_then_longer_windows() -> None:
    found = candidates(EVENT, days_before=90, days_after=60, years=2)
    assert [(one.kind, one.years_back) for one in found] == [
        ("before", 0), ("same season", 1), ("same season", 2), ("longer", 0), ("longer", 0), ("longer", 0),
    ]  # fmt: skip
    assert [(one.window.end - one.window.start).days for one in found] == [90, 90, 90, 180, 360, 400]


def test_the_season_of_an_earlier_year_is_that_of_the_images_after_the_event() -> None:
    season = candidates(EVENT, days_before=90, days_after=60, years=1)[1].window
    assert (season.start.date(), season.end.date()) == (dt.date(2017, 8, 6), dt.date(2017, 11, 4))


@given(days_before=st.integers(1, 800), days_after=st.integers(1, 400), years=st.integers(0, 5))
def test_no_window_reaches_into_the_time_after_the_event_unless_its_year_is_too_long(
    days_before: int, days_after: int, years: int
) -> None:
    for one in candidates(EVENT, days_before=days_before, days_after=min(days_after, 365), years=years):
        assert one.window.start < one.window.end <= EVENT


def test_clear_and_green_months_before_are_kept_without_a_word() -> None:
    candidate, why = chosen((0.9, 0.8), (1.0, 0.85))
    assert (candidate.kind, why) == ("before", "")


def test_cloudy_months_before_give_way_to_the_first_clear_season() -> None:
    candidate, why = chosen((0.3, 0.8), (0.5, 0.8), (0.9, 0.8))
    assert candidate.years_back == 2
    assert "only 30% of the area is clear" in why
    assert "the same season 2 years before" in why


def test_leafless_months_before_give_way_to_a_green_season() -> None:
    candidate, why = chosen((0.9, 0.45), (0.8, 0.8))
    assert candidate.years_back == 1
    assert "leafless" in why


def test_a_season_that_is_itself_hidden_says_nothing_about_leaves() -> None:
    candidate, _ = chosen((0.9, 0.45), (0.1, 0.8))
    assert candidate.kind == "before"


def test_the_clearest_window_is_taken_when_none_is_clear_enough_and_the_preferred_one_of_equals() -> None:
    assert chosen((0.3, None), (0.5, None), (0.5, None))[0].years_back == 1
    candidate, why = chosen((0.6, None), (0.5, None))
    assert candidate.kind == "before"
    assert "no other window is better" in why


@pytest.mark.parametrize("seen", [[], [(0.0, None)], [(0.0, None), (0.0, None)]])
def test_no_window_is_chosen_when_nothing_was_seen(seen: list[tuple[float, float | None]]) -> None:
    assert choose(looks(*seen), minimum_clear=0.7, ndvi_drop=0.15) is None
