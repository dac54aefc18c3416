"""Campaigns of an earthquake that never was."""

from __future__ import annotations

import datetime as dt
from typing import Any

from flows.campaign.model import Area, Campaign, Decision, Quake, Sight, VersionNote

NOW = dt.datetime(2026, 1, 10, tzinfo=dt.UTC)


def a_quake(**changes: Any) -> Quake:
    """A simulated M 6.6 earthquake five days before `NOW`."""
    values: dict[str, Any] = {
        "id": "us1", "ids": ("us1",), "time": NOW - dt.timedelta(days=5), "updated": NOW - dt.timedelta(days=5),
        "lon": 142.0, "lat": 42.7, "depth_km": 35.0, "magnitude": 6.6, "title": "M 6.6 - simulated", "simulated": True,
        "status": "automatic", "shakemap": "us/us1 version 1",
    }  # fmt: skip
    return Quake(**{**values, **changes})


def a_decision(**changes: Any) -> Decision:
    """The rule wants it."""
    values: dict[str, Any] = {
        "at": NOW, "event_id": "us1", "magnitude": 6.6, "wanted": True, "basis": "magnitude", "reason": "M 6.6",
        "urgency": 1.0,
    }  # fmt: skip
    return Decision(**{**values, **changes})


def a_campaign(versions: int = 0, **changes: Any) -> Campaign:
    """An open campaign of `a_quake` with so many versions."""
    quake = a_quake()
    values: dict[str, Any] = {
        "id": "us1", "quakes": (quake,), "opened": NOW, "decisions": (a_decision(),), "urgency": 1.0, "look_after": NOW,
        "horizon": quake.time + dt.timedelta(days=60),
        "versions": tuple(a_version(number) for number in range(1, versions + 1)),
    }  # fmt: skip
    return Campaign(**{**values, **changes})


def a_version(number: int = 1, **changes: Any) -> VersionNote:
    """What a campaign remembers of a version that saw half of its area."""
    values: dict[str, Any] = {
        "version": number, "run_key": f"{number:016x}", "published": NOW, "kind": "whole", "why": "first scenes",
        "area_km2": 100.0, "shares": {"observed": 0.5, "cloud": 0.3, "not imaged": 0.2}, "scenes_after": ("S2/a",),
        "landslides": 10, "landslide_area_m2": 9_000.0,
    }  # fmt: skip
    return VersionNote(**{**values, **changes})


def an_area(**changes: Any) -> Area:
    """A square of a tenth of a degree, said to have 100 km²."""
    values: dict[str, Any] = {
        "wkt": "POLYGON ((142 42.6, 142.1 42.6, 142.1 42.7, 142 42.7, 142 42.6))", "reason": "MMI >= 6",
        "source": "shakemap", "products": ("us/us1 version 1",), "area_km2": 100.0, "since": NOW, "steep_km2": 100.0,
    }  # fmt: skip
    return Area(**{**values, **changes})


def a_sight(**changes: Any) -> Sight:
    """A look that expects half of the area to be seen in one scene."""
    values: dict[str, Any] = {"at": NOW, "scenes": ("S2/a",), "expected_share": 0.5, "tiles": 9}
    return Sight(**{**values, **changes})
