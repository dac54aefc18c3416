"""Fit a model's uncertainty to events of domains that it has not seen, and measure it on domains left out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from scipy import special

from modeling.calibrated import calibrated_logit, plain_sure_margin
from modeling.data.batches import IGNORE, Block, Blocks
from modeling.domains.fingerprint import Fingerprint, fingerprint_of
from modeling.domains.select import distances
from modeling.errors import DataError
from modeling.model import LandslideModel
from modeling.scoring.calibrate import fit_temperature
from modeling.scoring.evaluate import PIXEL_M2, block_margins
from modeling.scoring.reliability import MarginHistogram, reliability
from modeling.uncertainty.conformal import LEVEL, Coverage, coverage, fit_totals
from modeling.uncertainty.shift import HighConfidence, ShiftCalibration, fit_shift, high_confidence, recalibrated
from modeling.uncertainty.stored import Uncertainty, with_uncertainty
from modeling.uncertainty.totals import MINIMUM_AREA_M2, EventTotals, totals_of

NOVELTY = "mean squared MMD to the sample of the model's training ground"
_ROWS = 1000


@dataclass(frozen=True)
class Calibrated:
    """A model with its uncertainty, and what that was worth on domains left out."""

    model: LandslideModel
    """With fitted intervals, and probabilities for unseen ground; its mask is what it was."""
    covered: Coverage
    """Of the intervals, every domain by those fitted to the others."""
    before: Mapping[str, HighConfidence]
    """Domain -> claims of 0.9 and more as the model stated them."""
    after: Mapping[str, HighConfidence]
    """The same with what the other domains give."""
    errors: Mapping[str, tuple[float, float]]
    """Domain -> expected calibration error of the mapped pixels' probabilities, before and after in the same sense."""


def calibrated_on(
    model: LandslideModel,
    events: Blocks,
    *,
    sample: Fingerprint | None = None,
    level: float = LEVEL,
    minimum_area_m2: float = MINIMUM_AREA_M2,
    about: Mapping[str, Any] | None = None,
    told: Callable[[int, int], None] | None = None,
) -> Calibrated:
    """Fit intervals and probabilities to `events`, one block an event, of domains that the model has not seen.

    `sample` is the model's (`modeling.domains`): with it the intervals widen with an event's distance. Raises `DataError`
    when a domain is one of the sample's, or there are too few domains: one more than the level asks for, to leave one out.
    """
    found: list[EventTotals] = []
    margins: dict[str, MarginHistogram] = {}
    for block, margin in block_margins(model.margin, events):
        if sample is not None and block.domain in sample.domains:
            raise DataError(
                f"{model.name} has learned from {block.domain}: take events of domains that it has not seen"
            )
        probability = torch.sigmoid(
            calibrated_logit(torch.from_numpy(margin), model.temperature, model.sure_margin)
        ).numpy()
        made = totals_of(
            probability, model.threshold, block.truth, name=block.name, domain=block.domain,
            pixel_m2=block.pixel_m2 if math.isfinite(block.pixel_m2) else PIXEL_M2, minimum_area_m2=minimum_area_m2,
        )  # fmt: skip
        if sample is not None:
            region = fingerprint_of(_One(block), model.channels, rows=_ROWS)
            made = replace(made, novelty=max(distances(sample, region).mean, 0.0))
        found.append(made)
        counts = MarginHistogram.of(margin, block.truth == 1, block.truth != IGNORE)
        margins[block.domain] = margins.get(block.domain, MarginHistogram.empty()) + counts
        if told is not None:
            told(len(found), len(events))
    novelty = NOVELTY if sample is not None else ""
    fitted = fit_totals(found, level=level, minimum_area_m2=minimum_area_m2, novelty=novelty)
    covered = coverage(found, level=level, novelty=novelty)
    before, after, errors = {}, {}, {}
    for domain, histogram in margins.items():
        others = _recalibrated(model, {name: each for name, each in margins.items() if name != domain})
        before[domain], after[domain] = _claims(model, histogram), _claims(others, histogram)
        errors[domain] = _error(model, histogram), _error(others, histogram)
    ready = _recalibrated(model, margins)
    told_of = {
        **(about or {}),
        "coverage": covered.to_json(),
        "wrong_at_090": {
            name: {domain: each.share for domain, each in some.items()}
            for name, some in (("before", before), ("after", after))
        },
        "reached_at_090": {domain: each.reached for domain, each in after.items()},
        "calibration_error_of_mapped": {
            name: {domain: each[at] for domain, each in errors.items()} for at, name in enumerate(("before", "after"))
        },
        "temperature_before": model.temperature,
    }
    return Calibrated(
        with_uncertainty(ready, Uncertainty(fitted, _shift(margins), told_of)), covered, before, after, errors
    )


def _shift(margins: Mapping[str, MarginHistogram]) -> ShiftCalibration:
    """By the highest temperature: of a handful of domains each may be the one that the next region is like."""
    return fit_shift({domain: [histogram] for domain, histogram in margins.items()}, caution=1.0)


def _recalibrated(model: LandslideModel, margins: Mapping[str, MarginHistogram]) -> LandslideModel:
    """With the likely temperature of all these domains, and claims of 0.9 by the cautious one."""
    likely = fit_temperature(sum(margins.values(), MarginHistogram.empty()))
    return recalibrated(model, likely, _shift(margins).temperature())


def _claims(model: LandslideModel, histogram: MarginHistogram) -> HighConfidence:
    return high_confidence(
        histogram, (model.sure_margin or plain_sure_margin(model.temperature)) / plain_sure_margin(1.0)
    )


def _error(model: LandslideModel, histogram: MarginHistogram) -> float:
    """Of the pixels that the model maps as landslide: among all, background hides every error."""
    cut = model.temperature * float(special.logit(model.threshold))
    mapped = histogram.above(cut)
    return reliability(mapped, model.temperature, sure_margin=model.sure_margin).ece if mapped.pixels else 0.0


@dataclass(frozen=True)
class _One:
    block: Block

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[Block]:
        yield self.block
