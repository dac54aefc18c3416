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

Who draws above all landslides that the map misses tells nothing of what share it misses: then it may not claim more, and is
never called better (`WholeMap.one_sided`).
"""

from __future__ import annotations

import math
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
Values = DoubleArray | float

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


LEAST_FOUND = 0.4
"""Share of all landslide pixels that a map is taken to find at least. The shipped ten-band network found less in 4 of 48
simulated events of domains that it had not seen; fewer of the drawn ones are found where they were drawn for being missed."""


@dataclass(frozen=True)
class WholeMap:
    """What is known of a map without labels, in pixels."""

    claimed: float
    """Those that it calls landslide."""
    right: float
    """The sum of its probabilities there: how many of them are landslides, as it has it."""

    def one_sided(self, found: float, missed: float) -> bool:
        """Whether so few of the drawn landslide pixels are `found` that they must have been drawn for being `missed`.

        Not where those that were drawn are themselves so many that the map misses most landslides.
        """
        drawn = found + missed
        return found < LEAST_FOUND * drawn and drawn * LEAST_FOUND < self.right

    def landslides(self, found: Values, missed: Values, least: float) -> DoubleArray:
        """How many pixels of the scene are landslides, by those that it has `found` and `missed` of drawn ones.

        No fewer than `least`, as many as were drawn in all.
        """
        here = np.asarray(found, np.float64)
        drawn = here + np.asarray(missed, np.float64)
        share = np.divide(here, drawn, out=np.ones_like(drawn), where=drawn > 0)
        return np.asarray(np.maximum(self.right / np.maximum(share, LEAST_FOUND), least))

    def found(
        self, landslides: Values, kept: Values, new: Values, lost: Values, gained: Values = math.inf
    ) -> DoubleArray:
        """How many pixels of landslides another map finds, which claims `gained` pixels beyond this one and gives up `lost`.

        `kept` and `new` are shares: of the landslides found that it finds, NaN where none was drawn (then the share of the
        claims), and of those missed. It finds no more beyond than it claims beyond, with the precision of the first map,
        and loses no more than it gives up.
        """
        kept = np.where(np.isnan(kept), 1 - lost / max(self.claimed, 1.0), kept)
        precision = self.right / self.claimed if self.claimed else 1.0
        losses = np.minimum(self.right * (1 - kept), lost)
        gains = np.minimum((landslides - self.right) * new, gained * precision)
        return np.asarray(self.right - losses + gains)

    @staticmethod
    def f1(found: Values, claimed: Values, landslides: Values) -> DoubleArray:
        """F1 of maps that find so many of so many landslides and claim so much, all in pixels."""
        return np.asarray(2 * found / np.maximum(claimed + landslides, 1e-9))


@dataclass(frozen=True)
class Held:
    """What an adapted map says, counted on polygons that it has not seen, and of the whole scene."""

    counts: DoubleArray
    """(polygon, 4) pixels: tp, fp, fn, tn."""
    kept: DoubleArray
    """(polygon,) pixels of landslides that the map before had found as well."""
    gained: float
    """Pixels of the scene that it claims and the map before does not."""
    lost: float
    """Pixels of the scene that the map before claims and it does not."""


@dataclass(frozen=True)
class Judgement:
    """Held-out scores before and after, and what follows from them."""

    verdict: Verdict
    """`better`, `worse`, or `unproven`: not lower, but not higher in nine draws of ten, or no better than guessing, or judged by
    landslides that were drawn for being missed."""
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
    whole: WholeMap
    """The map before."""
    landslides_px: float
    """How many pixels of the scene are taken for landslides."""
    kept: float | None
    """Share of the drawn landslide pixels found before that the adapted map, not having seen them, finds; None of none."""
    new: float
    """The same share of those missed before; 0 of none."""
    one_sided: bool
    """Whether landslides were drawn for being missed (`WholeMap.one_sided`)."""
    groups: int
    """How many groups of polygons were drawn from."""

    def map_f1(self, gained: float, lost: float) -> tuple[float, float]:
        """F1 of the map before and of one that came of this adaptation: its changes, counted over the scene in pixels."""
        whole, kept = self.whole, math.nan if self.kept is None else self.kept
        found = whole.found(self.landslides_px, kept, self.new, lost, gained)
        before = whole.f1(whole.right, whole.claimed, self.landslides_px)
        return float(before), float(whole.f1(found, whole.claimed + gained - lost, self.landslides_px))

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
                pooled=stored["pooled"], whole=WholeMap(**stored["whole"]),
                landslides_px=float(stored["landslides_px"]), new=float(stored["new"]),
                kept=None if stored["kept"] is None else float(stored["kept"]), one_sided=bool(stored["one_sided"]),
                groups=int(stored["groups"]), **scores,
            )  # fmt: skip
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"a stored judgement cannot be read: {error!r}") from error


def judge(
    name: str, before: DoubleArray, after: Held, groups: Sequence[int], whole: WholeMap,
    *, resamples: int = RESAMPLES, seed: int = 0,
) -> Judgement:  # fmt: skip
    """Judge the adaptation `name` by the counts (polygon, 4) of tp, fp, fn, tn `before`, and by what it says `after`.

    `groups` (polygon,) are drawn as one; `whole` is the map before. Raises `DataError` when there are fewer than two groups or
    no draw holds both classes.
    """
    _, number = np.unique(np.asarray(groups), return_inverse=True)
    size = int(number.max()) + 1 if len(number) else 0
    if size < 2:
        raise DataError(f"{size} groups of polygons: two at least are needed to draw among them")
    table = np.zeros((3, size, 4))
    np.add.at(table[0], number, before)
    np.add.at(table[1], number, after.counts)
    np.add.at(table[2, :, 0], number, after.kept)
    drawn = np.random.default_rng(seed).multinomial(size, np.full(size, 1 / size), size=resamples).astype(np.float64)
    sums = np.einsum("bg,cgk->cbk", drawn, table)
    sums = sums[:, _both_classes(sums[0])]
    if not sums.shape[1]:
        raise DataError("the polygons of one class lie in one place: draw some of it further away")
    every = table.sum(axis=1)
    found, missed = float(every[0, 0]), float(every[0, 2])
    first, second = _scores(sums, whole, after, found + missed)
    of_all = dict(zip((AS_IT_WAS, name), _scores(every, whole, after, found + missed), strict=True))
    kept, new = _shares(every)
    gain = {score: _interval(second[score] - first[score], size) for score in JUDGED}
    share = float(np.logical_and.reduce([second[score] > first[score] for score in DECIDING]).mean())
    above_chance = float((second["mcc"] > 0).mean())
    one_sided = whole.one_sided(found, missed)
    if min(gain[score].value for score in (*DECIDING, "f1")) < 0:
        verdict: Verdict = "worse"
    else:
        proven = share >= CONVINCED and above_chance >= LEVEL and not one_sided
        verdict = "better" if proven else "unproven"
    nothing = verdict == "worse" or all(gain[score].value == 0 for score in DECIDING)
    return Judgement(
        verdict, AS_IT_WAS if nothing else name, {score: _interval(first[score], size) for score in JUDGED},
        {score: _interval(second[score], size) for score in JUDGED}, gain, share, above_chance,
        {of: {score: float(made[score]) for score in JUDGED} for of, made in of_all.items()},
        whole, float(whole.landslides(found, missed, found + missed)), None if np.isnan(kept) else float(kept), float(new),
        one_sided, size,
    )  # fmt: skip


def _scores(
    sums: DoubleArray, whole: WholeMap, after: Held, least: float
) -> tuple[dict[str, DoubleArray], dict[str, DoubleArray]]:
    """All scores before and after of counts (3, ..., 4): before, after, and of what is kept."""
    landslides = whole.landslides(sums[0, ..., 0], sums[0, ..., 2], least)
    first, second = scores_of(sums[0]), scores_of(sums[1])
    kept, new = _shares(sums)
    found = whole.found(landslides, kept, new, after.lost, after.gained)
    changed = whole.f1(found, whole.claimed + after.gained - after.lost, landslides)
    return {**first, "map_f1": whole.f1(whole.right, whole.claimed, landslides)}, {**second, "map_f1": changed}


def _shares(sums: DoubleArray) -> tuple[DoubleArray, DoubleArray]:
    """Of the drawn landslide pixels those found before that are kept, NaN of none, and those missed that are found, 0 of none."""
    found, missed, kept = sums[0, ..., 0], sums[0, ..., 2], sums[2, ..., 0]
    new = sums[1, ..., 0] - kept
    return (
        np.divide(kept, found, out=np.full_like(found, np.nan), where=found > 0),
        np.divide(new, missed, out=np.zeros_like(missed), where=missed > 0),
    )


def _both_classes(sums: DoubleArray) -> npt.NDArray[np.bool_]:
    """Whether counts (..., 4) hold pixels of both classes in truth."""
    tp, fp, fn, tn = np.moveaxis(sums, -1, 0)
    return np.asarray((tp + fn > 0) & (fp + tn > 0))


def _interval(draws: DoubleArray, groups: int) -> Interval:
    low, high = np.quantile(draws, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return Interval(float(draws.mean()), float(low), float(high), LEVEL, len(draws), groups)
