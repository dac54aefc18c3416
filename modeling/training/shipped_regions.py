"""The simulated regions that the shipped models are trained, chosen and judged on."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from modeling import simulate
from modeling.data.dataset import StoredRegion, open_region, store_region

log = logging.getLogger(__name__)

TRAINING_DOMAINS = ("iburi", "jiuzhaigou", "palu")
HELD_OUT_DOMAIN = "luding"
REGION_PX = 768
DATES = (2, 4)
"""Acquisitions a phase, fewest and most."""


@dataclass(frozen=True)
class RegionPlan:
    """One region to simulate."""

    domain: str
    """Preset of the simulator."""
    seed: int
    """Decides everything in it."""

    @property
    def name(self) -> str:
        """As the cache names it."""
        return f"{self.domain}-{self.seed}"


@dataclass(frozen=True)
class Split:
    """The regions of the shipped models; no region is in two of them, and the held-out domain in one only."""

    training: tuple[RegionPlan, ...]
    """Weights, normalisation and the baseline's thresholds are fitted to these."""
    validation: tuple[RegionPlan, ...]
    """Checkpoint, temperature and threshold are chosen on these."""
    held_out: tuple[RegionPlan, ...]
    """Only ever reported on."""


def shipped_split(training: int = 20, validation: int = 4, held_out: int = 4) -> Split:
    """`training` and `validation` regions of each training domain, `held_out` regions of the held-out domain.

    No two regions share a seed, so that seasons, clouds and terrain differ between domains as well.
    """

    def plans(first: int, each: int) -> tuple[RegionPlan, ...]:
        return tuple(
            RegionPlan(domain, first + 100 * number + index)
            for index in range(each)
            for number, domain in enumerate(TRAINING_DOMAINS)
        )

    held = tuple(RegionPlan(HELD_OUT_DOMAIN, 9000 + index) for index in range(held_out))
    return Split(plans(1000, training), plans(2000, validation), held)


def simulate_into(cache: Path, plan: RegionPlan, size_px: int = REGION_PX) -> Path:
    """Simulate one region, store it, return its folder; one that is there already is kept.

    Training domains are randomised by `simulate.vary`, the held-out domain is taken as it is.
    """
    folder = cache / plan.name
    if (folder / "region.json").is_file():
        return folder
    rng = np.random.default_rng(plan.seed)
    domain = simulate.domain(plan.domain)
    if plan.domain != HELD_OUT_DOMAIN:
        domain = simulate.vary(domain, rng)
    dates_pre, dates_post = (int(count) for count in rng.integers(DATES[0], DATES[1] + 1, 2))
    region = simulate.simulate_region(
        domain, seed=plan.seed, shape_yx=(size_px, size_px), dates_pre=dates_pre, dates_post=dates_post
    )
    layers, valid = simulate.layers_of(region)
    return store_region(cache, plan.domain, plan.seed, layers=layers, truth=region.truth, valid=valid)


def regions_of(cache: Path, plans: Sequence[RegionPlan], workers: int) -> list[StoredRegion]:
    """Open the planned regions, simulating the missing ones in `workers` processes."""
    missing = [plan for plan in plans if not (cache / plan.name / "region.json").is_file()]
    if missing:
        started = time.monotonic()
        with ProcessPoolExecutor(max_workers=workers) as pool:
            for done, folder in enumerate(pool.map(simulate_into, [cache] * len(missing), missing), start=1):
                left = (time.monotonic() - started) / done * (len(missing) - done)
                log.info("simulated %s (%d/%d)  ETA %.1f min", folder.name, done, len(missing), left / 60)
    return [open_region(cache / plan.name) for plan in plans]
