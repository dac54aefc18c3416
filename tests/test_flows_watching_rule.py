"""The rule that decides which earthquakes are mapped."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from fakes.usgs_records import T0, T0_MS, feature
from hypothesis import given
from hypothesis import strategies as st

from flows.campaign.model import Decision
from flows.event import EarthquakeEvent
from flows.settings import Settings, WatchSettings
from flows.usgs_geojson import parse_detail, parse_summary
from flows.watching.rule import COLOURS, decide, urgency


def decided(steep_km2: float | None = None, **change: Any) -> Decision:
    return decide(parse_summary(feature(**change)), Settings(), T0, steep_km2)


def with_ground_failure(alert: str | None, hazard: str | None, **change: Any) -> EarthquakeEvent:
    own = {"landslide-alert": alert, "landslide-hazard-alert-value": hazard, "version": "2"}
    product = {
        "source": "us", "code": "2000h8ty", "type": "ground-failure", "updateTime": T0_MS, "status": "UPDATE",
        "preferredWeight": 1, "properties": {name: value for name, value in own.items() if value is not None},
    }  # fmt: skip
    return parse_detail(feature(products={"ground-failure": [product]}, **change))


@pytest.mark.parametrize(
    ("change", "wanted", "reason"),
    [
        ({"mag": 5.5}, True, "M 5.5 is not below the rule's 5.5"),
        ({"mag": 4.3}, False, "M 4.3 is below the rule's 5.5"),
        ({"mag": None}, False, "event us2000h8ty has no magnitude yet"),
        ({"type": "quarry blast"}, False, "event us2000h8ty is not an earthquake but: quarry blast"),
        ({"status": "deleted"}, False, "the USGS has deleted event us2000h8ty"),
    ],
)
def test_the_rule_gives_its_reason(change: dict[str, Any], wanted: bool, reason: str) -> None:
    made = decided(**change)
    assert (made.wanted, made.reason) == (wanted, reason)
    assert (made.urgency > 0) is wanted


@pytest.mark.parametrize(
    ("depth_km", "magnitude", "wanted"),
    [(70.0, 5.5, True), (70.1, 7.4, False), (600.0, 7.5, True), (None, 5.5, True), (-1.0, 5.5, True)],
)
def test_two_magnitudes_more_are_asked_of_a_deep_one(depth_km: float | None, magnitude: float, wanted: bool) -> None:
    made = decided(mag=magnitude, geometry={"type": "Point", "coordinates": [142.0, 42.0, depth_km]})
    assert made.wanted is wanted
    assert made.basis == "magnitude"
    assert ("deeper than 70 km" in made.reason) is (depth_km is not None and depth_km > 70)


def test_too_little_steep_land_under_shaking_is_not_mapped_once_it_is_known() -> None:
    assert decided().wanted
    assert decided(steep_km2=25.0).reason.endswith("25.0 km² of steep land under shaking are not less than 25 km²")
    flat = decided(steep_km2=24.9)
    assert not flat.wanted
    assert flat.reason.endswith("24.9 km² of steep land under shaking are less than 25 km²")
    assert not decided(steep_km2=1e6, mag=5.4).wanted


@pytest.mark.parametrize(
    ("alert", "hazard", "wanted", "reason"),
    [
        ("green", "0.2", False, "landslide alert green is below yellow, landslide hazard 0.2 km² is below 1 km²"),
        ("yellow", "0.2", True, "landslide alert yellow is not below yellow, landslide hazard 0.2 km² is below 1 km²"),
        ("green", "1.0", True, "landslide alert green is below yellow, landslide hazard 1 km² is not below 1 km²"),
        ("red", None, True, "landslide alert red is not below yellow"),
        (None, "0", False, "landslide hazard 0 km² is below 1 km²"),
    ],
)
def test_a_ground_failure_product_decides_against_any_magnitude(
    alert: str | None, hazard: str | None, wanted: bool, reason: str
) -> None:
    for magnitude in (4.1, 7.9):
        made = decide(with_ground_failure(alert, hazard, mag=magnitude), Settings(), T0, steep_km2=0.0)
        assert (made.wanted, made.basis) == (wanted, "ground-failure")
        assert made.reason == f"{reason} (ground failure us/2000h8ty version 2)"


@pytest.mark.parametrize(("alert", "hazard"), [("pending", None), ("", "nan"), (None, "-3"), ("purple", "inf")])
def test_a_ground_failure_product_that_says_nothing_leaves_the_magnitude(alert: str | None, hazard: str | None) -> None:
    assert decide(with_ground_failure(alert, hazard), Settings(), T0).basis == "magnitude"
    assert not decide(with_ground_failure(alert, hazard, mag=5.4), Settings(), T0).wanted


def test_the_limits_are_settings() -> None:
    strict = Settings(watch=WatchSettings(landslide_alert="red", minimum_hazard=50.0))
    assert not decide(with_ground_failure("orange", "49"), strict, T0).wanted
    assert decide(with_ground_failure("orange", "50"), strict, T0).wanted
    assert decide(with_ground_failure("red", "49"), strict, T0).wanted


def test_an_event_given_by_hand_has_no_magnitude_to_go_by() -> None:
    made = decide(dataclasses.replace(parse_detail(feature()), magnitude=float("nan")), Settings(), T0)
    assert (made.wanted, made.magnitude, made.reason) == (False, None, "event us2000h8ty has no magnitude yet")


@given(st.floats(5.5, 9.4), st.floats(0.01, 0.5), st.sampled_from(COLOURS))
def test_larger_shallower_and_worse_alerts_are_more_urgent(magnitude: float, more: float, colour: str) -> None:
    def of(mag: float, depth_km: float = 10.0, alert: str | None = colour) -> float:
        point = {"type": "Point", "coordinates": [142.0, 42.0, depth_km]}
        return urgency(parse_summary(feature(mag=mag, geometry=point, alert=alert)), WatchSettings())

    assert 0 < of(magnitude) < of(magnitude + more)
    assert of(magnitude, 71.0) < of(magnitude, 70.0)
    assert of(magnitude, alert="green") <= of(magnitude) <= of(magnitude, alert="red")


def test_the_urgency_of_a_ground_failure_product_is_its_hazard() -> None:
    assert [urgency(with_ground_failure(*given), WatchSettings()) for given in
            (("orange", "11.0"), ("orange", None), ("green", "0.2"), ("red", "4"))] == [11.0, 10.0, 0.2, 100.0]  # fmt: skip
