"""Whether an adapted model is better, judged on polygons that it has not seen.

Several adaptations are tried, and the best of them on held-out polygons is chosen; the score of that one on the same
polygons is too good, because it was chosen by it. Here the choice is part of what is judged: each bootstrap draws groups
of polygons with replacement, chooses on those that were drawn, and scores on those that were not (bootstrap bias corrected
cross-validation: Tsamardinos, Greasidou and Borboudakis, Machine Learning 107, 2018, algorithm 3).

Two scores decide. Matthews' correlation on the polygons: an analyst draws as many of each class as she likes, and F1 rises
when everything is called a landslide where most of what was drawn is one; Matthews' correlation is then 0, and 0 for
guessing too. And the F1 of the whole map, estimated: where one pixel in a hundred is a landslide, claiming more everywhere
finds more of what was drawn and errs on hardly any of it, while the map gets worse. How much ground a map claims can be
counted without labels, and the drawn landslides tell what share of them it finds (`WholeMap`). On simulated events whose
maps were shifted (840 judgements by 20 polygons), the sign of the first alone was right in 60 % and that of the second in 87 %
of the changes above 1 %.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from modeling.errors import DataError
from modeling.scoring.bootstrap import Interval
from modeling.scoring.metrics import scores_of

Verdict = Literal["better", "unproven", "worse"]
DoubleArray = npt.NDArray[np.float64]

DECIDING = ("map_f1", "mcc")
"""The scores that decide."""
JUDGED = (*DECIDING, "f1", "precision", "recall", "iou")
"""Scores that are told, the deciding ones first."""
RESAMPLES = 2000
LEVEL = 0.95
CONVINCED = 0.9
"""Share of the draws in which an adaptation must be better to count as better."""
AS_IT_WAS = "as it was"
"""The candidate that is no adaptation."""


@dataclass(frozen=True)
class WholeMap:
    """What is known of a map without labels, in pixels."""

    claimed: float
    """Those that it calls landslide."""
    right: float
    """The sum of its probabilities there: how many of them are landslides, as it has it."""

    def landslides(self, recall: float, drawn: float) -> float:
        """How many pixels of the scene are landslides, when the map finds this share of the `drawn` pixels of landslides."""
        return max(self.right / recall if recall > 0 else 0.0, drawn)

    @staticmethod
    def f1(recall: npt.ArrayLike, claimed: npt.ArrayLike, landslides: float) -> DoubleArray:
        """F1 of maps that find the share `recall` of so many landslides and claim so much: 2 TP / (claimed + landslides)."""
        found = np.asarray(recall, np.float64) * landslides
        return np.minimum(2 * found / np.maximum(np.asarray(claimed, np.float64) + landslides, 1e-9), 1.0)


@dataclass(frozen=True)
class Judgement:
    """Held-out scores before and after, and what follows from them."""

    verdict: Verdict
    """`better`, `worse`, or `unproven`: higher, but not in nine draws of ten, or no better than guessing."""
    chosen: str
    """The candidate that did best over all held-out polygons: the one that is fitted to all of them in the end."""
    before: Mapping[str, Interval]
    """Scores of the model as it was, on held-out polygons."""
    after: Mapping[str, Interval]
    """Scores of the adapted model on the same, the choice among candidates being part of it."""
    gain: Mapping[str, Interval]
    """After minus before, pair by pair."""
    share_above: float
    """Share of the draws in which both deciding scores rose."""
    share_above_chance: float
    """Share of the draws in which Matthews' correlation was above 0 afterwards: less than `LEVEL` is no better than guessing."""
    candidates: Mapping[str, Mapping[str, float]]
    """Scores of each candidate over all held-out polygons together. That of the chosen one is a little too good."""
    landslides_px: float
    """How many pixels of the scene are taken for landslides: what the map before claims rightly, as its probabilities have
    it, by the share of the drawn landslides that it finds."""
    groups: int
    """How many groups of polygons were drawn from."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Judgement:
        """The inverse of `to_json`; raises `DataError` when fields are missing."""
        try:
            scores = {
                part: {name: Interval.from_json(value) for name, value in stored[part].items()}
                for part in ("before", "after", "gain")
            }
            return cls(
                verdict=stored["verdict"], chosen=str(stored["chosen"]), share_above=float(stored["share_above"]),
                share_above_chance=float(stored["share_above_chance"]),
                candidates=stored["candidates"], landslides_px=float(stored["landslides_px"]),
                groups=int(stored["groups"]), **scores,
            )  # fmt: skip
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"a stored judgement cannot be read: {error!r}") from error


def judge(
    counts: Mapping[str, DoubleArray], groups: Sequence[int], whole: WholeMap, claimed: Mapping[str, float],
    *, resamples: int = RESAMPLES, seed: int = 0,
) -> Judgement:  # fmt: skip
    """Judge candidates by their held-out `counts`: name -> (polygon, 4) of tp, fp, fn, tn; `groups` of the polygons.

    `whole` is the map before, `claimed` how many pixels of the scene each candidate would call landslide. `AS_IT_WAS` must be
    among the candidates and comes first; of equally good ones the earlier is chosen, so put the simpler first. Raises
    `DataError` when there are fewer than two groups or the bootstrap leaves no draw with both classes on both sides.
    """
    names = list(counts)
    if not names or names[0] != AS_IT_WAS:
        raise DataError(f"the first candidate must be {AS_IT_WAS!r}, not {names[:1]}")
    _, number = np.unique(np.asarray(groups), return_inverse=True)
    size = int(number.max()) + 1 if len(number) else 0
    if size < 2:
        raise DataError(f"{size} groups of polygons: two at least are needed to hold one out")
    table = np.zeros((len(names), size, 4))
    for row, name in enumerate(names):
        np.add.at(table[row], number, counts[name])
    drawn = np.random.default_rng(seed).multinomial(size, np.full(size, 1 / size), size=resamples).astype(np.float64)
    inside = np.einsum("bg,cgk->bck", drawn, table)
    outside = np.einsum("bg,cgk->bck", (drawn == 0).astype(np.float64), table)
    usable = _both_classes(inside[:, 0]) & _both_classes(outside[:, 0])
    if not usable.any():
        raise DataError("the polygons of one class lie in one place: draw some of it further away")
    inside, outside = inside[usable], outside[usable]
    area, every = np.array([claimed[name] for name in names]), table.sum(axis=1)
    landslides = whole.landslides(float(scores_of(every[0])["recall"]), float(every[0, 0] + every[0, 2]))

    def scores(sums: DoubleArray, of: npt.NDArray[np.int64]) -> dict[str, DoubleArray]:
        found = scores_of(sums)
        return {**found, "map_f1": whole.f1(found["recall"], area[of], landslides)}

    everyone = np.arange(len(names))
    picked = best_of(scores(inside, everyone))
    before = scores(outside[:, 0], everyone[:1])
    after = scores(outside[np.arange(len(picked)), picked], picked)
    together = scores(every, everyone)
    gain = {name: _interval(after[name] - before[name], size) for name in JUDGED}
    share = float(np.logical_and.reduce([after[name] > before[name] for name in DECIDING]).mean())
    above_chance = float((after["mcc"] > 0).mean())
    if min(gain[name].value for name in (*DECIDING, "f1")) < 0:
        verdict: Verdict = "worse"
    else:
        verdict = "better" if share >= CONVINCED and above_chance >= LEVEL else "unproven"
    return Judgement(
        verdict, names[int(best_of(together))], {name: _interval(before[name], size) for name in JUDGED},
        {name: _interval(after[name], size) for name in JUDGED}, gain, share, above_chance,
        {name: {score: float(together[score][row]) for score in JUDGED} for row, name in enumerate(names)},
        landslides, size,
    )  # fmt: skip


def best_of(scores: Mapping[str, DoubleArray]) -> npt.NDArray[np.int64]:
    """(...) which of the candidates on the last axis of each deciding score is best; the first is no adaptation.

    The one with the highest F1 of the whole map among those that are in neither below the first; the earlier of equals.
    """
    allowed = np.logical_and.reduce([scores[name] >= scores[name][..., :1] for name in DECIDING])
    return np.asarray(np.where(allowed, scores["map_f1"], -np.inf).argmax(axis=-1))


def _both_classes(sums: DoubleArray) -> npt.NDArray[np.bool_]:
    """Whether counts (..., 4) hold pixels of both classes in truth."""
    tp, fp, fn, tn = np.moveaxis(sums, -1, 0)
    return np.asarray((tp + fn > 0) & (fp + tn > 0))


def _interval(draws: DoubleArray, groups: int) -> Interval:
    low, high = np.quantile(draws, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return Interval(float(draws.mean()), float(low), float(high), LEVEL, len(draws), groups)
