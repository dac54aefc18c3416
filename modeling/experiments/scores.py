"""Scores of finished runs with intervals: ground and seeds are drawn again, as in `modeling.benchmark.compare`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from modeling.benchmark.compare import DoubleArray, Draws, Estimate, Statistic, object_f1, pixel_score
from modeling.errors import DataError
from modeling.experiments.findings import Chart
from modeling.scoring.evaluate import BlockScore, Evaluation

EVERYWHERE = "all"
"""All tested domains together."""
OBJECT_F1 = "object_f1"

Result = Mapping[str, Any]
"""What a run found, with an `evaluation`."""
Arms = Mapping[tuple[str, str, str], Sequence[Result]]
"""(network, target, arm) -> its runs, one a seed."""


def score(results: Sequence[Result], metric: str, domain: str = EVERYWHERE) -> Estimate:
    """A score of one arm of an experiment, over the runs of all its seeds, on one tested domain or everywhere.

    `metric` is a name of `modeling.scoring.metrics.SCORES` or `object_f1`. Raises `DataError` when there is no run, or
    nothing of the domain was tested.
    """
    counts, ground = _counts(results, metric, domain)
    return _draws(ground).estimate(counts, _statistic(metric))


def chart_of_arms(title: str, networks: Sequence[str], arms: Arms, target: str, names: Sequence[str]) -> Chart:
    """Pixel F1 on `target` of the arms called `names`, a series a network."""
    series = {
        network: tuple(
            score(runs, "f1", target) if (runs := arms.get((network, target, name))) else None for name in names
        )
        for network in networks
    }
    return Chart(title, tuple(names), series)


def difference(better: Sequence[Result], worse: Sequence[Result], metric: str, domain: str = EVERYWHERE) -> Estimate:
    """The first arm's score minus the second's, on the same ground drawn again for both."""
    first, ground = _counts(better, metric, domain)
    second, other = _counts(worse, metric, domain)
    if [piece.name for piece in ground] != [piece.name for piece in other]:
        raise DataError("two arms were tested on different ground, so they cannot be compared")
    return _draws(ground).difference(first, second, _statistic(metric))


def mean(results: Sequence[Result], metric: str, domain: str = EVERYWHERE) -> float:
    """The value of `score`, without its interval: the mean over seeds."""
    counts, _ = _counts(results, metric, domain)
    return float(_statistic(metric)(counts.sum(axis=1)).mean())


def evaluation(result: Result, domain: str = EVERYWHERE) -> Evaluation:
    """The stored evaluation of a run; raises `DataError` when it has none, or none of the domain."""
    if "evaluation" not in result:
        raise DataError("a run has no evaluation: it was not tested")
    stored = _read(_Same(result))
    return stored if domain == EVERYWHERE else stored.of(domain)


class _Same:
    """A result as a key: equal to itself only."""

    def __init__(self, result: Result) -> None:
        self.result = result

    def __hash__(self) -> int:
        return id(self.result)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.result is self.result


@lru_cache(maxsize=1024)
def _read(held: _Same) -> Evaluation:
    return Evaluation.from_json(held.result["evaluation"])


def _counts(results: Sequence[Result], metric: str, domain: str) -> tuple[DoubleArray, tuple[BlockScore, ...]]:
    """(seed, piece of ground, 4), and the pieces."""
    if not results:
        raise DataError("there is no run to score")
    grounds = [evaluation(result, domain).ground() for result in results]
    if len({tuple(piece.name for piece in ground) for ground in grounds}) > 1:
        raise DataError("the seeds of one arm were tested on different ground")
    objects = metric == OBJECT_F1
    counts = [[(piece.objects if objects else piece.pixels).counts for piece in ground] for ground in grounds]
    return np.array(counts, dtype=np.float64), grounds[0]


def _draws(ground: Sequence[BlockScore]) -> Draws:
    return _drawn(tuple(piece.domain for piece in ground))


@lru_cache(maxsize=16)
def _drawn(strata: tuple[str, ...]) -> Draws:
    return Draws.of(strata)


def _statistic(metric: str) -> Statistic:
    return object_f1 if metric == OBJECT_F1 else pixel_score(metric)
