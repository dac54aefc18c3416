"""Whether an adapted model is better, judged on polygons that it has not seen.

One adaptation is tried, settled before any polygon is looked at, so that nothing is chosen by what it is judged by. Groups of
polygons that lie together are drawn with replacement, and the scores of both models on them compared draw by draw (paired
bootstrap: Efron and Tibshirani 1993, chapter 16).

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
"""The name of no adaptation."""


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
    """`better`, `worse`, or `unproven`: not lower, but not higher in nine draws of ten, or no better than guessing."""
    chosen: str
    """The adaptation; `AS_IT_WAS` where it got worse or changed nothing."""
    before: Mapping[str, Interval]
    """Scores of the model as it was."""
    after: Mapping[str, Interval]
    """Scores of the adapted model, on polygons that it had not seen."""
    gain: Mapping[str, Interval]
    """After minus before, pair by pair."""
    share_above: float
    """Share of the draws in which both deciding scores rose."""
    share_above_chance: float
    """Share of the draws in which Matthews' correlation was above 0 afterwards: less than `LEVEL` is no better than guessing."""
    pooled: Mapping[str, Mapping[str, float]]
    """Scores of `AS_IT_WAS` and of the adaptation over all polygons together."""
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
                pooled=stored["pooled"], landslides_px=float(stored["landslides_px"]),
                groups=int(stored["groups"]), **scores,
            )  # fmt: skip
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"a stored judgement cannot be read: {error!r}") from error


def judge(
    name: str, before: DoubleArray, after: DoubleArray, groups: Sequence[int], whole: WholeMap, claimed: float,
    *, resamples: int = RESAMPLES, seed: int = 0,
) -> Judgement:  # fmt: skip
    """Judge the adaptation `name` by the counts (polygon, 4) of tp, fp, fn, tn `before`, and `after` on held-out polygons.

    `groups` (polygon,) are drawn as one; `whole` is the map before, `claimed` how many pixels of the scene the one after would
    call landslide. Raises `DataError` when there are fewer than two groups or no draw holds both classes.
    """
    _, number = np.unique(np.asarray(groups), return_inverse=True)
    size = int(number.max()) + 1 if len(number) else 0
    if size < 2:
        raise DataError(f"{size} groups of polygons: two at least are needed to draw among them")
    table = np.zeros((2, size, 4))
    np.add.at(table[0], number, before)
    np.add.at(table[1], number, after)
    drawn = np.random.default_rng(seed).multinomial(size, np.full(size, 1 / size), size=resamples).astype(np.float64)
    sums = np.einsum("bg,cgk->cbk", drawn, table)
    sums = sums[:, _both_classes(sums[0])]
    if not sums.shape[1]:
        raise DataError("the polygons of one class lie in one place: draw some of it further away")
    every = table.sum(axis=1)
    landslides = whole.landslides(float(scores_of(every[0])["recall"]), float(every[0, 0] + every[0, 2]))

    def scores(of: DoubleArray, area: float) -> dict[str, DoubleArray]:
        found = scores_of(of)
        return {**found, "map_f1": whole.f1(found["recall"], area, landslides)}

    first, second = scores(sums[0], whole.claimed), scores(sums[1], claimed)
    together = {AS_IT_WAS: scores(every[0], whole.claimed), name: scores(every[1], claimed)}
    gain = {score: _interval(second[score] - first[score], size) for score in JUDGED}
    share = float(np.logical_and.reduce([second[score] > first[score] for score in DECIDING]).mean())
    above_chance = float((second["mcc"] > 0).mean())
    if min(gain[score].value for score in (*DECIDING, "f1")) < 0:
        verdict: Verdict = "worse"
    else:
        verdict = "better" if share >= CONVINCED and above_chance >= LEVEL else "unproven"
    nothing = verdict == "worse" or all(gain[score].value == 0 for score in DECIDING)
    return Judgement(
        verdict, AS_IT_WAS if nothing else name, {score: _interval(first[score], size) for score in JUDGED},
        {score: _interval(second[score], size) for score in JUDGED}, gain, share, above_chance,
        {of: {score: float(found[score]) for score in JUDGED} for of, found in together.items()}, landslides, size,
    )  # fmt: skip


def _both_classes(sums: DoubleArray) -> npt.NDArray[np.bool_]:
    """Whether counts (..., 4) hold pixels of both classes in truth."""
    tp, fp, fn, tn = np.moveaxis(sums, -1, 0)
    return np.asarray((tp + fn > 0) & (fp + tn > 0))


def _interval(draws: DoubleArray, groups: int) -> Interval:
    low, high = np.quantile(draws, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return Interval(float(draws.mean()), float(low), float(high), LEVEL, len(draws), groups)
