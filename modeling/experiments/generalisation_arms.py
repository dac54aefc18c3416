"""The ways of mapping one event that `generalisation` compares, all made of what each of its models says once.

A model is asked for the block as it lies and for its mirror images. Test-time augmentation is the mean of these
probabilities (`modeling.adaptation.tta`), models asked together are a mean over models (the linear pool of
`modeling.adaptation.ensemble`): means of means, so that no network sees the same pixels twice for two ways.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from modeling.adaptation.ensemble import weights_of_distances
from modeling.adaptation.tta import Symmetry, symmetries_of, turned, turned_back
from modeling.data.batches import Block, FloatArray
from modeling.model import LandslideModel
from modeling.scoring.evaluate import block_margins

MULTI, OWN, FEW, SELF = "multi-domain", "trained on the region", "20 patches", "self-training"
"""Arms beside those that are named after the domain of a single-domain model."""
NORMS = "batch norms"
"""The multi-domain model with the event's statistics; never on scene means, which it replaces."""
ON_MEANS = " on scene means"
"""Ends the name of an arm whose model was matched to each event (`modeling.adaptation.scene_means`)."""
TURNED = " + test-time augmentation"
"""Ends the name of an arm that takes the mean over mirror images."""
ALL = "all models"
"""Asked together: several domains count as much as all single ones."""
NEAR = "ensemble of near domains"
"""Single-domain models by their distance, with the mean of their logits."""
WITH_FEW = f"{FEW} and {ALL}{ON_MEANS}{TURNED}"
"""The arm that makes the most of a few labels: the model fine-tuned with them asked together with all single-domain ones."""

_ASKED_WITH_ALL = {MULTI: ALL, SELF: f"{SELF} and {ALL}", NORMS: f"{NORMS} and {ALL}", FEW: f"{FEW} and {ALL}"}
_SYMMETRIES = 4
_LEAST = 1e-7  # as test-time augmentation clips, so that every probability has a logit


@dataclass(frozen=True)
class Said:
    """What a model, or several, say of one event."""

    views: FloatArray
    """Calibrated probability, float32 (view, y, x): of the block as it lies first, of its mirror images after it."""
    threshold: float
    """Probability from which a pixel counts as landslide."""

    @property
    def plain(self) -> FloatArray:
        """Of the block as it lies, (y, x)."""
        first: FloatArray = self.views[0]
        return first

    @property
    def turned(self) -> FloatArray:
        """The mean over all views, (y, x)."""
        mean: FloatArray = self.views.mean(axis=0, dtype=np.float64).astype(np.float32)
        return mean


def said_of(model: LandslideModel, block: Block, *, device: str, mirrored: bool = True) -> Said:
    """Ask a model for one block; without `mirrored` there is one view only."""
    symmetries = symmetries_of(model.bands, _SYMMETRIES if mirrored else 1)
    return Said(np.stack([_view(model, block, each, device) for each in symmetries]), model.threshold)


def _view(model: LandslideModel, block: Block, symmetry: Symmetry, device: str) -> FloatArray:
    def margin(x: torch.Tensor) -> torch.Tensor:
        return turned_back(model.margin(turned(model.bands, x, symmetry)), symmetry) / model.temperature

    logit = next(values for _, values in block_margins(margin, [block], device=device))
    return torch.sigmoid(torch.from_numpy(logit)).numpy()


def together(members: Sequence[Said], weights: Sequence[float]) -> Said:
    """The linear pool of calibrated probabilities, view by view; thresholds are pooled alike."""
    pooled = np.average([member.views for member in members], axis=0, weights=weights)
    threshold = float(np.average([member.threshold for member in members], weights=weights))
    return Said(pooled.astype(np.float32), threshold)


def ways(
    fixed: Mapping[str, Said],
    matched: Mapping[str, Said],
    singles: Sequence[str],
    apart: Mapping[str, float],
) -> dict[str, tuple[FloatArray, float]]:
    """Arm -> probability (y, x) of one event and the threshold.

    `fixed` and `matched` hold what the models say as trained and on scene means, by arm; `singles` names those of one
    domain among them, `apart` their distances from the event. What the region's own labels made is never turned alone.
    """
    made: dict[str, tuple[FloatArray, float]] = {}
    for end, said in (("", fixed), (ON_MEANS, matched)):
        made |= {f"{arm}{end}": (each.plain, each.threshold) for arm, each in said.items()}
        made |= {
            f"{arm}{end}{TURNED}": (said[arm].turned, said[arm].threshold)
            for arm in (MULTI, SELF, NORMS)
            if arm in said
        }
        for arm, name in _ASKED_WITH_ALL.items():
            if arm in said:
                # Where the members differ it is unsure: what is wrong about one event is seldom so in all models.
                pool = together([said[arm], *(said[one] for one in singles)], [len(singles), *[1] * len(singles)])
                made[f"{name}{end}"] = (pool.plain, pool.threshold)
                made[f"{name}{end}{TURNED}"] = (pool.turned, pool.threshold)
    made[NEAR] = _near([fixed[name] for name in singles], [apart[name] for name in singles])
    return made


def _near(singles: Sequence[Said], distances: Sequence[float]) -> tuple[FloatArray, float]:
    shares = weights_of_distances(distances)
    logits = np.average([logit_of(each.plain) for each in singles], axis=0, weights=shares).astype(np.float32)
    threshold = float(np.average([each.threshold for each in singles], weights=shares))
    return torch.sigmoid(torch.from_numpy(logits)).numpy(), threshold


def logit_of(probability: FloatArray) -> FloatArray:
    """The logit, float32, of a probability clipped to where it has one."""
    values: FloatArray = torch.logit(torch.from_numpy(probability), eps=_LEAST).numpy()
    return values
