"""An evaluation as figures for programs: every score with its interval, by pixels, by landslides and by their size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from modeling.scoring.bootstrap import Interval, size_intervals
from modeling.scoring.counting import MatchedCounts
from modeling.scoring.evaluate import Evaluation
from modeling.scoring.objects import ObjectCounts


@dataclass(frozen=True)
class SizeScores:
    """What was found of landslides of one size; of the mapped ones of that size, what is right; both in one number."""

    low_m2: float
    """Smallest area."""
    high_m2: float | None
    """Area from which the next class begins; None for the largest."""
    true: int
    """True landslides of that size."""
    recall: Interval | None
    """Share of them that was found; None when there are none."""
    mapped: int
    """Mapped landslides of that size."""
    precision: Interval | None
    """Share of them that is right; None when there are none."""
    f1: Interval | None
    """2 precision recall / (precision + recall), 0 when both are; None when one of the two is."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "low_m2": self.low_m2, "high_m2": self.high_m2, "true": self.true, "recall": _plain(self.recall),
            "mapped": self.mapped, "precision": _plain(self.precision), "f1": _plain(self.f1),
        }  # fmt: skip


def by_size(counts: Sequence[ObjectCounts | MatchedCounts], strata: Sequence[str]) -> list[SizeScores]:
    """Recall, precision and F1 of each size class, smallest first, with 95 % intervals; one of `counts` a piece of ground.

    The landslides of a size and the mapped ones of it are different landslides, where sizes are mapped wrong.
    """
    edges, scores = counts[0].edges_m2, size_intervals(counts, strata=strata)
    true = [sum(numbers) for numbers in zip(*(each.true for each in counts), strict=True)]
    mapped = [sum(numbers) for numbers in zip(*(each.mapped for each in counts), strict=True)]
    bounds = zip((0.0, *edges), (*edges, None), strict=True)
    return [
        SizeScores(
            low, high,
            true[k], scores["recall"][k] if true[k] else None,
            mapped[k], scores["precision"][k] if mapped[k] else None,
            scores["f1"][k] if true[k] and mapped[k] else None,
        )
        for k, (low, high) in enumerate(bounds)
    ]  # fmt: skip


def summary(evaluation: Evaluation) -> dict[str, Any]:
    """Scores of the whole and of each domain with 95 % intervals, landslides by size, and the reliability diagram."""
    diagram = evaluation.reliability()
    domains = evaluation.domains if len(evaluation.domains) > 1 else ()
    return {
        "scores": _scores(evaluation),
        "by_domain": {domain: _scores(evaluation.of(domain)) for domain in domains},
        "reliability": None if diagram is None else diagram.to_json(),
    }


def _scores(evaluation: Evaluation) -> dict[str, Any]:
    ground = evaluation.ground()
    strata = [piece.domain for piece in ground]
    half = [piece.objects for piece in ground]
    made: dict[str, Any] = {
        "pixels": _all_plain(evaluation.intervals()),
        "half_covered": {
            **_all_plain(evaluation.object_intervals()), "by_size": [size.to_json() for size in by_size(half, strata)],
        },
    }  # fmt: skip
    matched = evaluation.matched_ground()
    if matched is not None:
        sizes = [size.to_json() for size in by_size(matched, strata)]
        made["landslides"] = {**_all_plain(evaluation.matched_intervals()), "by_size": sizes}
    return made


def _all_plain(scores: dict[str, Interval]) -> dict[str, Any]:
    return {name: interval.to_json() for name, interval in scores.items()}


def _plain(interval: Interval | None) -> dict[str, Any] | None:
    return None if interval is None else interval.to_json()
