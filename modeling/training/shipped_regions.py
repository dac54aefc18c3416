"""The simulated regions that the shipped models are trained, chosen and judged on."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from modeling.data.dataset import StoredRegion, open_region
from modeling.data.patch_simulate import RegionPlan, region_of
from modeling.uncertainty.events import event_plans, unseen_domains

log = logging.getLogger(__name__)

TRAINING_DOMAINS = ("iburi", "jiuzhaigou", "palu", "gorkha", "kaikoura", "noto")
HELD_OUT_DOMAIN = "luding"


@dataclass(frozen=True)
class Split:
    """The regions of the shipped models; no region is in two of them, and the held-out domain in one only."""

    training: tuple[RegionPlan, ...]
    """Weights, normalisation and the baseline's thresholds are fitted to these."""
    validation: tuple[RegionPlan, ...]
    """Checkpoint, temperature and threshold are chosen on these."""
    held_out: tuple[RegionPlan, ...]
    """Checkpoint and mask are only ever reported on these."""
    events: tuple[RegionPlan, ...] = ()
    """Intervals on totals and the probabilities for unseen ground are fitted to these: of domains that are not learnt from."""


def shipped_split(training: int = 10, validation: int = 4, held_out: int = 4) -> Split:
    """`training` and `validation` regions of each training domain, `held_out` regions of the held-out domain.

    No two regions share a seed, so that seasons, clouds and terrain differ between domains as well. Training domains are
    randomised, the held-out domain is taken as it is; its events are other regions.
    """

    def plans(first: int, each: int) -> tuple[RegionPlan, ...]:
        return tuple(
            RegionPlan(domain, first + 100 * number + index)
            for index in range(each)
            for number, domain in enumerate(TRAINING_DOMAINS)
        )

    held = tuple(RegionPlan(HELD_OUT_DOMAIN, 9000 + index, varied=False) for index in range(held_out))
    events = event_plans(unseen_domains(TRAINING_DOMAINS))
    return Split(plans(1000, training), plans(2000, validation), held, events)


def regions_of(cache: Path, plans: Sequence[RegionPlan], workers: int) -> list[StoredRegion]:
    """Open the planned regions, simulating the missing ones in `workers` processes."""
    missing = [plan for plan in plans if not (cache / plan.folder / plan.name / "region.json").is_file()]
    if missing:
        started = time.monotonic()
        with ProcessPoolExecutor(max_workers=workers) as pool:
            for done, folder in enumerate(pool.map(region_of, [cache] * len(missing), missing), start=1):
                left = (time.monotonic() - started) / done * (len(missing) - done)
                log.info("simulated %s (%d/%d)  ETA %.1f min", folder.name, done, len(missing), left / 60)
    return [open_region(cache / plan.folder / plan.name) for plan in plans]
