"""Probabilities for ground that is unlike the training ground: temperatures from domains near to it.

A temperature fitted on a model's own domains (Guo et al. 2017) is too low elsewhere (Ovadia et al. 2019). So it is fitted
for each domain to the margins of a model that had not seen that domain, and those of the domains nearest to a new region
count most. It is raised further, where that is needed, until of the pixels that are called landslide with a probability
of 0.9 and more no larger share than `WRONG` is none: a promise about the claims that people act on, which a good mean
likelihood does not give. A model takes that higher temperature for claims of 0.9 and more alone (`modeling.calibrated`), and
the likely one for all others. The mask does not change: the threshold moves with the temperature.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from modeling.calibrated import CONFIDENT, LARGEST_UNSURE, plain_sure_margin
from modeling.errors import DataError
from modeling.model import LandslideModel
from modeling.scoring.calibrate import fit_temperature
from modeling.scoring.reliability import MarginHistogram, margin_edges

WRONG = 0.02
"""Largest share of such claims that may be wrong."""
CAUTION = 0.75
"""Share of the weight of near domains whose temperature is at most the one that is taken; 1: the highest of all counts."""
_LARGEST = 1e4
_NOWHERE = 1e9  # a distance that no squared MMD reaches; JSON has no infinity


@dataclass(frozen=True)
class HighConfidence:
    """Pixels that were called landslide with high confidence, and how many of them are none."""

    claimed: int
    """Pixels with at least that probability of landslide."""
    wrong: int
    """Of these, no landslide."""
    landslides: int
    """True landslide pixels in all."""

    @property
    def share(self) -> float:
        """Wrong over claimed; 0 where nothing was claimed, which `claimed` tells."""
        return self.wrong / self.claimed if self.claimed else 0.0

    @property
    def reached(self) -> float:
        """Share of the true landslide pixels that were claimed with that confidence."""
        return (self.claimed - self.wrong) / self.landslides if self.landslides else 0.0


def high_confidence(histogram: MarginHistogram, temperature: float, probability: float = CONFIDENT) -> HighConfidence:
    """What sigmoid(margin / temperature) >= probability claims, and how much of it is wrong."""
    counts = histogram.confusion_at(probability, temperature)
    return HighConfidence(counts.tp + counts.fp, counts.fp, counts.tp + counts.fn)


def cautious_temperature(histogram: MarginHistogram, *, wrong: float = WRONG, probability: float = CONFIDENT) -> float:
    """The lowest temperature, at or above the most likely one, that keeps wrong claims of `probability` below `wrong`.

    Where no claim at all is that sure it is so high that none is made. Raises `DataError` when there is no pixel.
    """
    likely = fit_temperature(histogram)
    right = histogram.landslide[::-1].cumsum()[::-1]
    false = histogram.background[::-1].cumsum()[::-1]
    step = float(special.logit(probability))
    edges = margin_edges()
    possible = (edges >= likely * step) & (false <= wrong * (right + false)) & (right > 0)
    if high_confidence(histogram, likely, probability).share <= wrong:
        return likely
    if not possible.any():
        return min(_LARGEST, max(likely, float(edges[-1]) / step))
    return float(edges[int(np.argmax(possible))] / step)


@dataclass(frozen=True)
class ShiftCalibration:
    """Temperatures of domains, and how they are put together for a region that is none of them."""

    temperatures: Mapping[str, float]
    """Domain -> temperature of a model that had not seen it."""
    scale: float
    """Distance over which a domain's weight falls to 1/e."""
    far: float
    """Beyond this distance from all domains the highest temperature is taken."""
    caution: float = CAUTION
    """See `CAUTION`."""

    def temperature(self, distances: Mapping[str, float] | None = None) -> float:
        """The temperature for a region at these distances (squared MMD) from the domains.

        Without distances all domains count alike. Raises `DataError` when one of the domains has no distance.
        """
        names = list(self.temperatures)
        logs = np.log([self.temperatures[name] for name in names])
        if distances is None:
            return _weighted_quantile(logs, np.ones(len(names)), self.caution)
        if missing := [name for name in names if name not in distances]:
            raise DataError(f"no distance to {', '.join(missing)}: measure it to all of {', '.join(names)}")
        apart = np.array([max(distances[name], 0.0) for name in names])
        if float(apart.min()) > self.far:
            return float(np.exp(logs.max()))
        weights = np.exp(-(apart - apart.min()) / max(self.scale, 1e-9))
        return _weighted_quantile(logs, weights, self.caution)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "temperatures": dict(self.temperatures)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> ShiftCalibration:
        """The inverse of `to_json`; raises `DataError` when it is none."""
        try:
            temperatures = {str(name): float(value) for name, value in stored["temperatures"].items()}
            made = cls(temperatures, float(stored["scale"]), float(stored["far"]), float(stored["caution"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"stored temperatures cannot be read: {error!r}") from error
        if not temperatures or not all(0 < value < math.inf for value in temperatures.values()):
            raise DataError(f"stored temperatures are out of range: {temperatures}")
        return made


def fit_shift(
    histograms: Mapping[str, Sequence[MarginHistogram]],
    between: Mapping[str, Mapping[str, float]] | None = None,
    *,
    caution: float = CAUTION,
) -> ShiftCalibration:
    """Fit from margins on domains by models that had not seen them; of several models the highest temperature counts.

    `between` holds the distances of the domains from each other: their spread is the scale of weights, and the farthest
    nearest neighbour is where far begins. Raises `DataError` when there is no domain.
    """
    if not histograms or not all(histograms.values()):
        raise DataError("temperatures for unseen ground need margins on at least one domain that a model has not seen")
    temperatures = {name: max(cautious_temperature(each) for each in found) for name, found in histograms.items()}
    nearest = [
        min(value for other, value in row.items() if other != name)
        for name, row in (between or {}).items()
        if name in temperatures and len(row.keys() - {name}) > 0
    ]
    every = [value for name, row in (between or {}).items() for other, value in row.items() if other != name]
    scale = float(np.std(every)) if len(every) > 1 else _NOWHERE
    return ShiftCalibration(temperatures, scale, max(nearest, default=_NOWHERE), caution)


def recalibrated(model: LandslideModel, temperature: float, cautious: float = 0.0) -> LandslideModel:
    """`model` with another temperature and the same mask: its threshold is the same margin.

    With a `cautious` temperature above it 0.9 and more is stated from the margin on at which that one does. Where the map
    begins among the probabilities that are kept back, the cautious temperature is taken for all of them. Raises `DataError`
    for a temperature that cannot be.
    """
    if not (0 < temperature < math.inf and 0 <= cautious < math.inf):
        raise DataError(f"a temperature is above 0 and finite, not {temperature} and {cautious}")
    threshold = moved_threshold(model.threshold, model.temperature, temperature)
    if cautious <= temperature:
        return replace(model, temperature=temperature, threshold=threshold, sure_margin=0.0)
    if threshold >= LARGEST_UNSURE:
        return recalibrated(model, cautious)
    return replace(model, temperature=temperature, threshold=threshold, sure_margin=plain_sure_margin(cautious))


def moved_threshold(threshold: float, before: float, after: float) -> float:
    """The threshold that cuts the same margin at another temperature; 0 and 1 stay."""
    if threshold in {0.0, 1.0}:
        return threshold
    return float(special.expit(special.logit(threshold) * before / after))


def _weighted_quantile(logs: npt.NDArray[np.float64], weights: npt.NDArray[np.float64], at: float) -> float:
    """exp of the smallest of `logs` below or at which `at` of the weight lies."""
    order = np.argsort(logs)
    reached = np.cumsum(weights[order]) / weights.sum()
    return float(np.exp(logs[order[min(int(np.searchsorted(reached, at - 1e-12)), len(order) - 1)]]))
