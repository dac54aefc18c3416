"""Intervals on a version's totals, from what was fitted for its network; without that nothing is claimed."""

from __future__ import annotations

import math
from dataclasses import replace

from flows.facts import ReportFacts, TotalsRange
from flows.settings import ModelSettings
from modeling.model import LandslideModel
from modeling.uncertainty.stored import uncertainty_of


def with_totals_range(facts: ReportFacts, model: LandslideModel, settings: ModelSettings) -> ReportFacts:
    """`facts` with intervals on area and count, where `quakeslide calibrate` has fitted them for such a map.

    They hold for maps made as those were that they were fitted to: of the same network, the same smallest landslide, no
    rules, no mirrored tiles, no moved means of light. Where novelty widens them it must be known. Else the totals stay
    without an interval.
    """
    stored = uncertainty_of(model)
    fitted = None if stored is None else stored.totals
    plain = facts.rules is None and facts.adaptation is None and settings.symmetries == 1 and settings.scene_means == 0
    if stored is None or fitted is None or not plain or not facts.coverage.observed_km2:
        return facts
    if not math.isclose(fitted.minimum_area_m2, settings.minimum_area_m2):
        return facts
    winner = None if facts.selection is None else facts.selection.winner
    novelty = 0.0
    if fitted.novelty:
        if winner is None or winner.mean is None:
            return facts
        novelty = max(winner.mean.distance, 0.0)
    inventory, observed_m2 = facts.inventory, 1e6 * facts.coverage.observed_km2
    area = fitted.area_range(inventory.total_area_m2, novelty, observed_m2)
    count = fitted.count_range(inventory.count, novelty, observed_m2)
    made = TotalsRange(
        level=fitted.level,
        area_low_m2=area.low,
        area_high_m2=area.high,
        count_low=int(count.low),
        count_high=int(count.high),
        events=fitted.events,
        regions=fitted.domains,
        simulated=bool(stored.about.get("simulated", True)),
        beyond=bool(winner is not None and winner.novel),
    )
    return replace(facts, totals=made)
