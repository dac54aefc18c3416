"""Simulated events that a model's uncertainty is fitted to: of domains that it has not learned from, one region an event."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from modeling.data.patch_simulate import RegionPlan
from modeling.simulate.domains import DOMAINS

FIRST_SEED = 7_000_000
"""Seeds of these events begin here: no data set, benchmark or shipped model has regions of the same seeds."""
EVENTS, EVENT_PX = 12, 512
"""How many events a domain, and the side of their ground in pixels, where nobody says otherwise."""


def unseen_domains(learnt: Collection[str]) -> tuple[str, ...]:
    """The simulator's domains that are not among those that a model has learned from."""
    return tuple(name for name in DOMAINS if name not in learnt)


def event_plans(domains: Sequence[str], each: int = EVENTS, region_px: int = EVENT_PX) -> tuple[RegionPlan, ...]:
    """What to simulate: `each` events of every domain, always of the same seeds."""
    known = list(DOMAINS)
    return tuple(
        RegionPlan(name, FIRST_SEED + 1000 * known.index(name) + number, region_px)
        for name in domains
        for number in range(each)
    )
