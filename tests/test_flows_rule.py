"""The rule that decides which earthquakes are mapped."""

from __future__ import annotations

from typing import Any

import pytest
from fakes.usgs_records import feature

from flows.rule import qualifies
from flows.settings import AreaSettings
from flows.usgs_geojson import parse_summary


@pytest.mark.parametrize(
    ("change", "wanted", "reason"),
    [
        ({"mag": 5.5}, True, "M 5.5 is not below the rule's 5.5"),
        ({"mag": 4.3}, False, "M 4.3 is below the rule's 5.5"),
        ({"mag": None}, False, "event us2000h8ty has no magnitude yet"),
        ({"type": "quarry blast"}, False, "event us2000h8ty is a quarry blast, not an earthquake"),
    ],
)
def test_the_rule_gives_its_reason(change: dict[str, Any], wanted: bool, reason: str) -> None:
    assert qualifies(parse_summary(feature(**change)), AreaSettings()) == (wanted, reason)
