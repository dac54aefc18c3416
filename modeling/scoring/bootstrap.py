"""How sure a score is: the bootstrap over blocks of ground.

Neighbouring pixels are not independent, so it is blocks (regions, or patches that lie apart) that are drawn again with
replacement (Efron 1979; by blocks: Künsch 1989), and each draw's counts are summed before scoring, as the scores
themselves are. Intervals are the percentiles of the draws. With fewer than ten blocks they are too narrow: every
interval says how many it comes from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from modeling.errors import DataError
from modeling.scoring.counting import MatchedCounts
from modeling.scoring.metrics import SCORES, Confusion, scores_of
from modeling.scoring.objects import ObjectCounts

DoubleArray = npt.NDArray[np.float64]

RESAMPLES = 1000
LEVEL = 0.95
_MOST_AT_ONCE = 1 << 21  # draws x blocks in memory: 16 MB


@dataclass(frozen=True)
class Interval:
    """A score with its bootstrap interval."""

    value: float
    """The score of all blocks together."""
    low: float
    """Lower end."""
    high: float
    """Upper end."""
    level: float
    """Share of the draws between the ends."""
    resamples: int
    """How many draws."""
    blocks: int
    """How many blocks they were drawn from."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Interval:
        """The inverse of `to_json`; raises `DataError` when fields are missing."""
        try:
            value, low, high, level = (float(stored[name]) for name in ("value", "low", "high", "level"))
            return cls(value, low, high, level, int(stored["resamples"]), int(stored["blocks"]))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"a stored interval cannot be read: {error!r}") from error


class CountedObjects(Protocol):
    """Objects counted in a block: `objects.ObjectCounts`, or `counting.MatchedCounts`."""

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """true, found, mapped, right."""
        ...


@dataclass(frozen=True)
class Difference:
    """One map's score minus another's, on the same blocks."""

    interval: Interval
    """Of the difference; when it does not hold 0, the order of the two is not a chance of the blocks."""
    share_above: float
    """Share of the draws in which the first is strictly better."""


def intervals(
    parts: Sequence[Confusion],
    *,
    strata: Sequence[str] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> dict[str, Interval]:
    """Every score of `metrics.SCORES` with its interval; one part a block.

    `strata` names each block's domain: every draw then has as many blocks of each domain as the set itself. Raises
    `DataError` when there is no block, or not one stratum a block.
    """
    counts = _table([part.counts for part in parts])
    drawn = scores_of(_draws(counts, strata, resamples, seed))
    whole = scores_of(counts.sum(axis=0))
    return {name: _interval(float(whole[name]), drawn[name], level, len(parts)) for name in SCORES}


def object_intervals(
    parts: Sequence[CountedObjects],
    *,
    strata: Sequence[str] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> dict[str, Interval]:
    """precision, recall and f1 counted in landslides, with their intervals; see `intervals`."""
    counts = _table([part.counts for part in parts])
    drawn, whole = _object_scores(_draws(counts, strata, resamples, seed)), _object_scores(counts.sum(axis=0))
    return {name: _interval(float(whole[name]), drawn[name], level, len(parts)) for name in drawn}


def size_intervals(
    parts: Sequence[ObjectCounts | MatchedCounts],
    *,
    strata: Sequence[str] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> dict[str, list[Interval]]:
    """As `object_intervals`, for each size class, smallest first.

    Recall is of the true landslides of a size, precision of the mapped ones of it, f1 their harmonic mean.
    """
    counts = _table([(*part.true, *part.found, *part.mapped, *part.right) for part in parts])

    def scores(sums: DoubleArray) -> dict[str, DoubleArray]:
        return _object_scores(sums.reshape(*sums.shape[:-1], 4, -1).swapaxes(-1, -2))

    drawn, whole = scores(_draws(counts, strata, resamples, seed)), scores(counts.sum(axis=0))
    return {
        name: [_interval(float(value), drawn[name][:, k], level, len(parts)) for k, value in enumerate(values)]
        for name, values in whole.items()
    }


def difference(
    first: Sequence[Confusion],
    second: Sequence[Confusion],
    score: str = "f1",
    *,
    strata: Sequence[str] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> Difference:
    """`score` of the first minus that of the second, over the same blocks in the same order, drawn together.

    Pairing takes out what makes a block hard for both, so the interval is narrower than those of the two scores.
    Raises `DataError` when the two have other numbers of blocks or `score` is not one of `metrics.SCORES`.
    """
    if score not in SCORES:
        raise DataError(f"unknown score {score!r}: choose one of {', '.join(SCORES)}")
    if len(first) != len(second):
        raise DataError(f"scores over {len(first)} and {len(second)} blocks cannot be compared block by block")
    counts = _table([(*a.counts, *b.counts) for a, b in zip(first, second, strict=True)])

    def minus(sums: DoubleArray) -> DoubleArray:
        return np.asarray(scores_of(sums[..., :4])[score] - scores_of(sums[..., 4:])[score])

    drawn = minus(_draws(counts, strata, resamples, seed))
    value = float(minus(counts.sum(axis=0)))
    return Difference(_interval(value, drawn, level, len(first)), float((drawn > 0).mean()))


def _table(rows: Sequence[tuple[int, ...]]) -> DoubleArray:
    if not rows:
        raise DataError("a bootstrap needs at least one block")
    return np.array(rows, dtype=np.float64)


def _draws(counts: DoubleArray, strata: Sequence[str] | None, resamples: int, seed: int) -> DoubleArray:
    """(resamples, count) the summed counts of so many blocks drawn with replacement, within each stratum."""
    names = ["all"] * len(counts) if strata is None else list(strata)
    if len(names) != len(counts):
        raise DataError(f"{len(counts)} blocks have {len(names)} strata: one for each is needed")
    rng = np.random.default_rng(seed)
    sums = np.zeros((resamples, counts.shape[1]))
    for name in dict.fromkeys(names):
        members = counts[[index for index, other in enumerate(names) if other == name]]
        # How often each block is drawn, instead of which ones: a matrix product then does many draws.
        share = np.full(len(members), 1 / len(members))
        at_once = max(_MOST_AT_ONCE // len(members), 1)
        for first in range(0, resamples, at_once):
            rows = slice(first, min(first + at_once, resamples))
            sums[rows] += rng.multinomial(len(members), share, size=rows.stop - rows.start) @ members
    return sums


def _object_scores(sums: DoubleArray) -> dict[str, DoubleArray]:
    true, found, mapped, right = np.moveaxis(sums, -1, 0)
    precision, recall = _ratio(right, mapped), _ratio(found, true)
    return {"precision": precision, "recall": recall, "f1": _ratio(2 * precision * recall, precision + recall)}


def _interval(value: float, drawn: DoubleArray, level: float, blocks: int) -> Interval:
    low, high = np.quantile(drawn, ((1 - level) / 2, (1 + level) / 2))
    return Interval(value, float(low), float(high), level, len(drawn), blocks)


def _ratio(part: DoubleArray, whole: DoubleArray) -> DoubleArray:
    return np.divide(part, whole, out=np.zeros_like(whole), where=whole != 0)
