"""Thresholds of the rules learnt on labelled ground, instead of guessed; never on ground that is reported on.

Every combination of candidate thresholds is tried on the regions of all maps, and the one with the best F1 counted in
landslides is taken: the mean of the domains' F1, so that a domain with many landslides does not decide alone. Of equal
ones the one that drops least. What the thresholds are worth elsewhere is told by leaving each domain out in turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage, sparse

from modeling.errors import DataError
from modeling.geology.regions import Regions, regions_of
from modeling.geology.rules import NO_RULES, GeologyRules, Measures, default_rules, judge
from modeling.geology.scheme import BlockMaps
from modeling.scoring.objects import OVERLAP

BoolArray = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]

AREAS_PX = (2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40)
"""Candidates for the smallest area, in pixels: a pixel's area decides how finely area can be told."""
RATIOS = (3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 10.0, 12.0, 15.0, 20.0)
"""Candidates for the most elongated shape."""
SLOPES_DEG = (2.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0, 14.0, 16.0, 18.0, 20.0, 24.0)
"""Candidates for the flattest ground."""

_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True)
class LabelledGround:
    """The regions of one map beside its truth, as far as rules can be judged by them."""

    name: str
    """Of the ground."""
    domain: str
    """Where it lies."""
    pixel_m: float
    """Side of a pixel in metres."""
    measures: Measures
    """Of the regions, which are 4-connected as in an inventory."""
    counts: BoolArray
    """Which regions lie at least half where the truth is known, (region,)."""
    right: BoolArray
    """Which are true by at least half, (region,)."""
    shared: sparse.csr_matrix
    """Pixels that a true landslide and a region share, (landslide, region)."""
    needed: npt.NDArray[np.float64]
    """Pixels of each true landslide that must be mapped for it to be found, (landslide,)."""

    @classmethod
    def of(cls, maps: BlockMaps, *, subtracted: bool = False) -> LabelledGround:
        """Measure a mapped block."""
        mask = maps.under(subtracted=subtracted)
        regions = regions_of(mask, slope_deg=maps.slope_deg, pixel_m=maps.pixel_m)
        return cls._of(maps, regions)

    @classmethod
    def _of(cls, maps: BlockMaps, regions: Regions) -> LabelledGround:
        number = regions.numbers()
        labels, _ = ndimage.label(maps.truth, structure=_EIGHT_NEIGHBOURS)
        size = np.bincount(labels.ravel())[1:]
        seen = np.bincount(labels[maps.valid], minlength=len(size) + 1)[1:]
        both = (labels > 0) & (number > 0) & maps.valid
        shape = (len(size), len(regions))
        shared = sparse.coo_matrix((np.ones(int(both.sum())), (labels[both] - 1, number[both] - 1)), shape=shape)
        inside = np.bincount(number[maps.valid], minlength=len(regions) + 1)[1:]
        true = np.bincount(number[maps.valid & maps.truth], minlength=len(regions) + 1)[1:]
        counted = (seen >= OVERLAP * size) & (seen > 0)
        return cls(
            maps.name, maps.domain, maps.pixel_m, regions.measures,
            (inside >= OVERLAP * regions.pixels) & (inside > 0), true >= OVERLAP * inside,
            shared.tocsr()[np.flatnonzero(counted)], (OVERLAP * seen[counted]).astype(np.float64),
        )  # fmt: skip

    def counted(self, kept: BoolArray) -> tuple[int, int, int, int]:
        """true, found, mapped, right landslides when only the regions `kept` (region,) are left."""
        found = int((self.shared @ kept.astype(np.float64) >= self.needed).sum())
        mapped = self.counts & kept
        return len(self.needed), found, int(mapped.sum()), int((mapped & self.right).sum())


@dataclass(frozen=True)
class HeldOut:
    """What thresholds learnt on the other domains do in one that they have not seen."""

    domain: str
    """The domain that was left out."""
    rules: GeologyRules
    """Learnt on the others."""
    f1_none: float
    """F1 counted in landslides, without rules."""
    f1_default: float
    """With the default rules."""
    f1_learnt: float
    """With the learnt ones."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**vars(self), "rules": self.rules.to_json()}


def learn_rules(grounds: Sequence[LabelledGround]) -> GeologyRules:
    """The thresholds with the best mean of the domains' F1; raises `DataError` without ground or with several pixel sizes."""
    candidates = _candidates(_pixel_m(grounds))
    counts = _table(grounds, candidates)
    return candidates[_best(counts, [ground.domain for ground in grounds])]


def leave_one_domain_out(grounds: Sequence[LabelledGround]) -> tuple[HeldOut, ...]:
    """Learn without each domain in turn and score on it; raises `DataError` for less than two domains."""
    domains = list(dict.fromkeys(ground.domain for ground in grounds))
    if len(domains) < 2:
        raise DataError(f"leaving a domain out needs two or more, here is only {', '.join(domains) or 'none'}")
    pixel_m = _pixel_m(grounds)
    candidates = _candidates(pixel_m)
    counts, whose = _table(grounds, candidates), np.array([ground.domain for ground in grounds])
    results = []
    for domain in domains:
        others = whose != domain
        best = _best(counts[:, others], whose[others].tolist())
        own = [ground for ground in grounds if ground.domain == domain]
        results.append(
            HeldOut(
                domain, candidates[best], landslide_f1(own, NO_RULES), landslide_f1(own, default_rules(pixel_m)),
                landslide_f1(own, candidates[best]),
            )
        )  # fmt: skip
    return tuple(results)


def landslide_f1(grounds: Sequence[LabelledGround], rules: GeologyRules) -> float:
    """F1 counted in landslides (`modeling.scoring.objects`) of all maps together under rules."""
    counts = [ground.counted(judge(ground.measures, rules).kept) for ground in grounds]
    return float(_f1(np.array(counts, np.int64).sum(axis=0)))


def mean_f1(grounds: Sequence[LabelledGround], rules: GeologyRules) -> float:
    """The mean of the domains' `landslide_f1`: what thresholds are chosen by."""
    domains = dict.fromkeys(ground.domain for ground in grounds)
    own = ([ground for ground in grounds if ground.domain == domain] for domain in domains)
    return float(np.mean([landslide_f1(each, rules) for each in own]))


def _candidates(pixel_m: float) -> tuple[GeologyRules, ...]:
    areas = (None, *(pixels * pixel_m * pixel_m for pixels in AREAS_PX))
    return tuple(GeologyRules(*each) for each in product(areas, (None, *RATIOS), (None, *SLOPES_DEG)))


def _pixel_m(grounds: Sequence[LabelledGround]) -> float:
    sizes = {round(ground.pixel_m, 3) for ground in grounds}
    if len(sizes) != 1:
        raise DataError(f"rules are learnt on ground of one pixel size, not of {sorted(sizes) or 'none'}")
    return grounds[0].pixel_m


def _table(grounds: Sequence[LabelledGround], candidates: Sequence[GeologyRules]) -> Counts:
    """true, found, mapped, right and dropped regions, (candidate, ground, 5)."""
    table = np.empty((len(candidates), len(grounds), 5), np.int64)
    for column, ground in enumerate(grounds):
        area, ratio, slope = (
            {value: _keeps(ground, name, value) for value in {getattr(rules, name) for rules in candidates}}
            for name in ("minimum_area_m2", "maximum_length_width_ratio", "minimum_slope_deg")
        )
        for row, rules in enumerate(candidates):
            kept = (
                area[rules.minimum_area_m2] & ratio[rules.maximum_length_width_ratio] & slope[rules.minimum_slope_deg]
            )
            table[row, column] = *ground.counted(kept), int((~kept).sum())
    return table


def _keeps(ground: LabelledGround, name: str, value: float | None) -> BoolArray:
    return judge(ground.measures, GeologyRules(**{name: value})).kept


def _best(counts: Counts, domains: Sequence[str]) -> int:
    """The candidate with the best mean of the domains' F1, of equal ones the one that drops fewest regions."""
    whose = np.array(domains)
    f1 = np.mean([_f1(counts[:, whose == domain].sum(axis=1)) for domain in dict.fromkeys(domains)], axis=0)
    dropped = counts[..., 4].sum(axis=1)
    return int(np.lexsort((dropped, -np.round(f1, 9)))[0])


def _f1(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """F1 of true, found, mapped, right (..., 4 or more)."""
    true, found, mapped, right = np.moveaxis(counts[..., :4].astype(np.float64), -1, 0)
    recall, precision = (_ratio(part, whole) for part, whole in ((found, true), (right, mapped)))
    return _ratio(2 * precision * recall, precision + recall)


def _ratio(part: npt.NDArray[np.float64], whole: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(np.divide(part, whole, out=np.zeros_like(whole), where=whole != 0))
