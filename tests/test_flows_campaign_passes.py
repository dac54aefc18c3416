"""flows/campaign/passes.py: a satellite comes back after ten days, over the part that its track covers."""

from __future__ import annotations

import datetime as dt

import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from flows.campaign.passes import AWAITED, RECENT, REPEAT, expected_passes
from gee.types import Scene

NOW = dt.datetime(2026, 1, 30, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
AREA = shapely.box(142, 42, 143, 43)


def scene(
    time: dt.datetime, satellite: str = "Sentinel-2A", footprint: shapely.Polygon = AREA, orbit: int = 54
) -> Scene:
    known = {"SPACECRAFT_NAME": satellite, "SENSING_ORBIT_NUMBER": orbit} if satellite else {}
    return Scene(f"S2/{time:%Y%m%dT%H%M%S}", time, 99.0, ("B4",), footprint.wkt, tuple(sorted(known.items())))


def test_two_satellites_on_one_track_come_five_days_apart() -> None:
    seen = [scene(NOW - 8 * DAY), scene(NOW - 3 * DAY, "Sentinel-2B")]
    coming = expected_passes(seen, AREA, NOW, NOW + 15 * DAY)
    assert [(one.satellite, one.time - NOW) for one in coming] == [
        ("Sentinel-2A", 2 * DAY), ("Sentinel-2B", 7 * DAY), ("Sentinel-2A", 12 * DAY),
    ]  # fmt: skip
    assert {one.orbit for one in coming} == {54}
    assert all(one.share == 1.0 for one in coming)


def test_granules_and_repeats_of_one_track_are_one_pass() -> None:
    west, east = shapely.box(142, 42, 142.5, 43), shapely.box(142.5, 42, 143, 43)
    seen = [
        scene(NOW - 18 * DAY, footprint=west), scene(NOW - 8 * DAY + dt.timedelta(minutes=2), footprint=west),
        scene(NOW - 8 * DAY + dt.timedelta(minutes=3), footprint=east),
    ]  # fmt: skip
    coming = expected_passes(seen, AREA, NOW, NOW + 3 * DAY)
    assert len(coming) == 1
    assert coming[0].share == pytest.approx(1.0)


def test_a_track_that_touches_half_of_the_area_says_so_and_one_beside_it_is_left_out() -> None:
    half = scene(NOW - 8 * DAY, footprint=shapely.box(142.5, 42, 144, 43))
    beside = scene(NOW - 7 * DAY, "Sentinel-2B", shapely.box(150, 42, 151, 43))
    coming = expected_passes([half, beside], AREA, NOW, NOW + 5 * DAY)
    assert [one.share for one in coming] == [0.5]


def test_a_pass_whose_images_are_not_there_yet_is_told_for_a_day_and_gone_with_them() -> None:
    flown = NOW - dt.timedelta(hours=5)
    seen = [scene(flown - 10 * DAY)]
    assert [one.time for one in expected_passes(seen, AREA, NOW, NOW + 3 * DAY)] == [flown]
    assert expected_passes([*seen, scene(flown)], AREA, NOW, NOW + 3 * DAY) == ()
    assert expected_passes(seen, AREA, NOW + 20 * dt.timedelta(hours=1), NOW + 3 * DAY) == ()


def test_a_satellite_that_has_not_come_for_long_is_not_expected() -> None:
    assert expected_passes([scene(NOW - RECENT - DAY)], AREA, NOW, NOW + 20 * DAY) == ()
    assert expected_passes([], AREA, NOW, NOW + 20 * DAY) == ()


def test_scenes_without_a_name_of_their_satellite_are_expected_too() -> None:
    coming = expected_passes([scene(NOW - 8 * DAY, "")], AREA, NOW, NOW + 3 * DAY)
    assert [(one.satellite, one.orbit) for one in coming] == [("Sentinel-2", 0)]


def test_an_area_across_180_degrees_is_covered_by_scenes_on_either_side() -> None:
    area = shapely.union_all([shapely.box(179, -18, 180, -17), shapely.box(-180, -18, -179, -17)])
    one = scene(NOW - 8 * DAY, footprint=shapely.box(-180, -18, -179, -17))
    coming = expected_passes([one], area, NOW, NOW + 3 * DAY)
    assert coming[0].share == pytest.approx(0.5)


@given(st.lists(st.tuples(st.integers(0, 44 * 24), st.sampled_from(["Sentinel-2A", "Sentinel-2B"])), max_size=12))
def test_every_pass_lies_ahead_whole_repeats_after_one_that_was_seen(history: list[tuple[int, str]]) -> None:
    seen = [scene(NOW - hours * dt.timedelta(hours=1), name) for hours, name in history]
    coming = expected_passes(seen, AREA, NOW, NOW + 20 * DAY, most=100)
    assert list(coming) == sorted(coming, key=lambda one: (one.time, one.satellite))
    for one in coming:
        assert NOW - AWAITED <= one.time <= NOW + 20 * DAY
        assert any((one.time - known.time) % REPEAT == dt.timedelta() for known in seen)
    assert bool(coming) == bool(history)
