"""What an adapted network makes of ground in another way than the one before: no label says which of them is right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from modeling.adaptation.target import TargetPool
from modeling.model import LandslideModel

_BATCH = 8


@dataclass(frozen=True)
class Flipped:
    """What a network made of the ground before and after, over the known pixels of some patches."""

    before: float
    """Share that was landslide."""
    after: float
    """Share that is now."""
    changed: float
    """Share whose class is another."""


def flipped(before: LandslideModel, after: LandslideModel, pool: TargetPool) -> Flipped:
    """What two networks make of the same patches."""
    known, ones, now, other = 0, 0, 0, 0
    for patches in pool.passes(_BATCH):
        there = np.isfinite(patches).all(axis=1)
        x = torch.from_numpy(patches)
        old, new = (model.probability(x).numpy() >= model.threshold for model in (before, after))
        known += int(there.sum())
        ones += int((old & there).sum())
        now += int((new & there).sum())
        other += int(((old != new) & there).sum())
    share = 1 / max(known, 1)
    return Flipped(ones * share, now * share, other * share)
