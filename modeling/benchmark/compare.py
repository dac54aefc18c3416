"""How sure a difference between two networks is: blocks of ground and seeds are drawn again, together.

Two things decide a score by chance: which ground was tested on, and the random start of training. Both are drawn again
with replacement (a two-level bootstrap), the ground for all networks alike, so that what makes a block hard for both
drops out of their difference. A score is the mean over seeds of the score of the whole test set. With few seeds the
second part is too narrow: three seeds can say that a difference is not there, and hardly that a small one is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from modeling.errors import DataError
from modeling.scoring.metrics import SCORES, scores_of

DoubleArray = npt.NDArray[np.float64]
Statistic = Callable[[DoubleArray], DoubleArray]
"""Counts (..., k) to a score (...)."""

RESAMPLES = 2000
LEVEL = 0.95
HOLDS, REVERSED, UNDECIDED = "holds", "reversed", "undecided"


@dataclass(frozen=True)
class Estimate:
    """A score or a difference of two, with its interval."""

    value: float
    """Mean over seeds."""
    low: float
    """Lower end of the 95 % interval."""
    high: float
    """Upper end."""
    seeds: int
    """How many seeds; of two networks the fewer."""
    blocks: int
    """How many blocks of ground."""

    @property
    def verdict(self) -> str:
        """Of a difference that was claimed to be positive: `holds`, `reversed`, or `undecided` when 0 is inside."""
        if self.low > 0:
            return HOLDS
        return REVERSED if self.high < 0 else UNDECIDED

    def to_json(self) -> dict[str, float]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Draws:
    """The same ground drawn again for every network that is compared on it."""

    times: DoubleArray
    """(resamples, blocks) how often each block is drawn."""
    seed: int
    """Of the draws."""

    @classmethod
    def of(cls, strata: Sequence[str], *, resamples: int = RESAMPLES, seed: int = 0) -> Draws:
        """Draw blocks within each stratum (domain); raises `DataError` when there is none."""
        if not strata:
            raise DataError("a bootstrap needs at least one block")
        rng = np.random.default_rng(seed)
        times = np.zeros((resamples, len(strata)))
        for name in dict.fromkeys(strata):
            members = [index for index, other in enumerate(strata) if other == name]
            times[:, members] = rng.multinomial(len(members), np.full(len(members), 1 / len(members)), size=resamples)
        return cls(times, seed)

    def estimate(self, counts: DoubleArray, statistic: Statistic) -> Estimate:
        """A score of counts (seed, block, k), with its interval."""
        value, drawn = self._scores(counts, statistic, stream=1)
        return _estimate(value, drawn, counts.shape[0], counts.shape[1])

    def difference(self, better: DoubleArray, worse: DoubleArray, statistic: Statistic) -> Estimate:
        """The first score minus the second, both of counts (seed, block, k) over the same blocks."""
        if better.shape[1] != worse.shape[1]:
            raise DataError(f"{better.shape[1]} and {worse.shape[1]} blocks cannot be compared block by block")
        first, first_drawn = self._scores(better, statistic, stream=1)
        second, second_drawn = self._scores(worse, statistic, stream=2)
        seeds = min(better.shape[0], worse.shape[0])
        return _estimate(first - second, first_drawn - second_drawn, seeds, better.shape[1])

    def _scores(self, counts: DoubleArray, statistic: Statistic, stream: int) -> tuple[float, DoubleArray]:
        """The score, and (resamples,) of it over drawn blocks and drawn seeds; seeds differ by `stream`."""
        if counts.ndim != 3 or counts.shape[1] != self.times.shape[1] or counts.shape[0] == 0:
            raise DataError(f"counts of shape {counts.shape} do not fit {self.times.shape[1]} blocks")
        by_seed = statistic(np.einsum("rb,sbk->rsk", self.times, counts))
        seeds = np.random.default_rng((self.seed, stream)).integers(0, counts.shape[0], by_seed.shape)
        drawn = np.take_along_axis(by_seed, seeds, axis=1).mean(axis=1)
        return float(statistic(counts.sum(axis=1)).mean()), drawn


def pixel_score(name: str) -> Statistic:
    """A score of `metrics.SCORES` over counts (..., 4) of tp, fp, fn, tn."""
    if name not in SCORES:
        raise DataError(f"unknown score {name!r}: choose one of {', '.join(SCORES)}")
    return lambda counts: scores_of(counts)[name]


def object_f1(counts: DoubleArray) -> DoubleArray:
    """F1 in landslides over counts (..., 4) of true, found, mapped, right."""
    true, found, mapped, right = np.moveaxis(counts, -1, 0)
    recall = np.divide(found, true, out=np.zeros_like(true), where=true > 0)
    precision = np.divide(right, mapped, out=np.zeros_like(true), where=mapped > 0)
    total = recall + precision
    f1: DoubleArray = np.divide(2 * recall * precision, total, out=np.zeros_like(true), where=total > 0)
    return f1


def _estimate(value: float, drawn: DoubleArray, seeds: int, blocks: int) -> Estimate:
    low, high = np.quantile(drawn, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return Estimate(value, float(low), float(high), seeds, blocks)
