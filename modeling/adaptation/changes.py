"""What an adapted map changes, and where nobody has looked: the rule that keeps such ground as it was.

A pixel changes when its class does, at the threshold. Ground is *looked at* within a distance of a drawn polygon. Elsewhere a
change is accepted for a connected patch most of whose pixels are like what was drawn of the class that they change to:
nearer to it, in the network's normalised channels, than to the other class, and no further than a drawn polygon of that
class lies from its like. Even these are accepted only while they change less ground than a budget; beyond it, all changes
where nobody has looked are kept as before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage, spatial

from modeling.adaptation.drawn import BoolArray, Ground, Index
from modeling.data.batches import ByteArray, FloatArray
from modeling.data.normalise import Normalisation
from modeling.errors import DataError

SMOOTHED_PX = 5
"""Side of the square over which channels are averaged before they are compared."""
MARGIN_PX = SMOOTHED_PX // 2
_EACH_POLYGON = 200  # pixels that stand for a polygon


class Change(IntEnum):
    """What became of a pixel."""

    NONE = 0
    """The class is the same."""
    ADDED = 1
    """Became landslide, where somebody has looked."""
    REMOVED = 2
    """Is no landslide any more, where somebody has looked."""
    ADDED_ALIKE = 3
    """Became landslide where nobody has looked, and is like drawn landslides."""
    REMOVED_ALIKE = 4
    """Is no landslide any more where nobody has looked, and is like what was drawn as not landslide."""
    KEPT_BACKGROUND = 5
    """Would have become landslide where nobody has looked: kept as before."""
    KEPT_LANDSLIDE = 6
    """Would have been taken away where nobody has looked: kept as before."""
    UNOBSERVED = 255
    """Not observed."""


CHANGE_LABELS = {
    Change.NONE: "no change",
    Change.ADDED: "became landslide, within reach of a drawn polygon",
    Change.REMOVED: "no landslide any more, within reach of a drawn polygon",
    Change.ADDED_ALIKE: "became landslide where nobody looked, like drawn landslides",
    Change.REMOVED_ALIKE: "no landslide any more where nobody looked, like drawn other ground",
    Change.KEPT_BACKGROUND: "would have become landslide where nobody looked: kept as before",
    Change.KEPT_LANDSLIDE: "would have been taken away where nobody looked: kept as before",
}
"""What a reader sees."""


@dataclass(frozen=True)
class ChangeRule:
    """What may change where nobody has looked."""

    reach_m: float = 1000.0
    """Ground this near to a drawn polygon counts as looked at."""
    budget: float = 0.25
    """Changes elsewhere may amount to this share of the landslide area that the map before had there ..."""
    least_budget: float = 0.001
    """... or to this share of the observed ground there, if that is more; beyond, none of them is accepted."""
    alike: float = 0.9
    """Share of the drawn pixels that lie nearer to another polygon of their class than what still counts as alike."""

    def __post_init__(self) -> None:
        """Raise `DataError` for numbers that mean nothing."""
        for name, value in (("--reach", self.reach_m), ("--budget", self.budget), ("least budget", self.least_budget)):
            if not 0 <= value < math.inf:
                raise DataError(f"{name} {value:g} cannot be: give a finite number of 0 or more")
        if not 0 < self.alike < 1:
            raise DataError(f"alike: {self.alike:g} cannot be: give a share between 0 and 1")

    def allows(self, changed_px: int, landslide_px: int, observed_px: int) -> bool:
        """Whether so many changed pixels where nobody looked are within the budget, of what the map before had there."""
        return changed_px <= max(self.budget * landslide_px, self.least_budget * observed_px)


@dataclass(frozen=True, eq=False)
class Likeness:
    """What was drawn, to compare ground with; made by `likeness_of`."""

    scale: FloatArray
    """(channel,) what differences are divided by."""
    trees: tuple[spatial.KDTree, spatial.KDTree]
    """Drawn pixels of other ground and of landslides."""
    limits: tuple[float, float]
    """How far a pixel may lie from the nearest drawn one of each."""

    def like(self, features: FloatArray, landslide: BoolArray) -> BoolArray:
        """(pixel,) whether features (pixel, channel) are like what was drawn of the class that `landslide` says."""
        scaled = features / self.scale
        distance = np.stack([tree.query(scaled)[0] for tree in self.trees]) if len(scaled) else np.zeros((2, 0))
        own = landslide.astype(np.int64)
        columns = np.arange(len(own))
        near, limit = distance[own, columns], np.asarray(self.limits)[own]
        return np.asarray((near <= limit) & (near < distance[1 - own, columns]))


def features_of(channels: FloatArray, normalisation: Normalisation) -> FloatArray:
    """(channel, y, x) normalised channels, averaged over `SMOOTHED_PX` squared."""
    normalised = normalisation.apply(torch.from_numpy(channels[None])).numpy()[0]
    return np.stack([ndimage.uniform_filter(layer, SMOOTHED_PX, mode="nearest") for layer in normalised])


def likeness_of(
    drawn: Ground, landslide: BoolArray, group: Index, normalisation: Normalisation, rule: ChangeRule, seed: int = 0
) -> Likeness:
    """What was drawn, and how far a group of polygons lies from the others of its class.

    With one group of a class nothing is known of its variety, so nothing is alike.
    """
    rng = np.random.default_rng(seed)
    scored = drawn.scored
    rows: list[FloatArray] = []
    owners: list[int] = []
    for window, inside in zip(range(len(drawn)), scored, strict=True):
        where = np.flatnonzero(inside)
        if not where.size:
            continue
        chosen = rng.permutation(where)[:_EACH_POLYGON]
        features = features_of(drawn.channels[window], normalisation).reshape(drawn.channels.shape[1], -1)
        rows.append(features[:, chosen].T)
        owners += [int(drawn.own[window])] * len(chosen)
    values, owner = np.concatenate(rows), np.asarray(owners)
    scale = np.maximum(values.std(axis=0), 1e-3).astype(np.float32)
    scaled = values / scale
    trees, limits = [], []
    for wanted in (False, True):
        mine = landslide[owner] == wanted
        of_group = group[owner[mine]]
        apart = [
            spatial.KDTree(scaled[mine][of_group != one]).query(scaled[mine][of_group == one])[0]
            for one in np.unique(of_group)
            if (of_group != one).any()
        ]
        trees.append(spatial.KDTree(scaled[mine]))
        limits.append(float(np.quantile(np.concatenate(apart), rule.alike)) if apart else -1.0)
    return Likeness(scale, (trees[0], trees[1]), (limits[0], limits[1]))


@dataclass(frozen=True)
class Patch:
    """A connected patch of changed pixels where nobody has looked."""

    added: bool
    """Whether it would become landslide; else it would be taken away."""
    alike: bool
    """Whether most of it is like what was drawn of that class."""
    pixels: int
    """Its size."""
    row: float
    """Its middle, pixel row."""
    column: float
    """Its middle, pixel column."""


def flips(first: FloatArray, adapted: FloatArray, threshold: float) -> npt.NDArray[np.int8]:
    """(y, x) 1 where a pixel becomes landslide, -1 where it is none any more, 0 else and where one map is unknown."""
    known = np.isfinite(first) & np.isfinite(adapted)
    was, now = first >= threshold, adapted >= threshold
    return np.where(known, now.astype(np.int8) - was.astype(np.int8), 0).astype(np.int8)


def classify(
    flip: npt.NDArray[np.int8], observed: BoolArray, looked_at: BoolArray, alike: BoolArray
) -> tuple[ByteArray, list[Patch]]:
    """Codes of `Change` (y, x) as if the budget allowed everything alike, and the patches where nobody has looked.

    `alike` (y, x) is asked only where a pixel changes and nobody has looked. Patches are connected by sides and corners.
    """
    codes = np.full(flip.shape, Change.NONE, np.uint8)
    codes[(flip > 0) & looked_at], codes[(flip < 0) & looked_at] = Change.ADDED, Change.REMOVED
    patches: list[Patch] = []
    for sign, taken, kept in (
        (1, Change.ADDED_ALIKE, Change.KEPT_BACKGROUND),
        (-1, Change.REMOVED_ALIKE, Change.KEPT_LANDSLIDE),
    ):
        labels, count = ndimage.label((flip == sign) & ~looked_at, np.ones((3, 3), int))
        if not count:
            continue
        rows, columns = np.nonzero(labels)
        number = labels[rows, columns] - 1
        size = np.bincount(number, minlength=count)
        like = np.bincount(number, weights=alike[rows, columns], minlength=count) * 2 > size
        codes[rows, columns] = np.where(like[number], taken, kept)
        middle = [np.bincount(number, weights=axis, minlength=count) / size + 0.5 for axis in (rows, columns)]
        patches += [
            Patch(sign > 0, bool(like[i]), int(size[i]), float(middle[0][i]), float(middle[1][i])) for i in range(count)
        ]
    codes[~observed] = Change.UNOBSERVED
    return codes, patches


def within_budget(codes: ByteArray, allowed: bool) -> ByteArray:
    """The codes when changes alike are not `allowed`: these are kept as before, too."""
    if allowed:
        return codes
    table = np.arange(256, dtype=np.uint8)
    table[Change.ADDED_ALIKE], table[Change.REMOVED_ALIKE] = Change.KEPT_BACKGROUND, Change.KEPT_LANDSLIDE
    return table[codes]


def merged(first: FloatArray, adapted: FloatArray, codes: ByteArray) -> FloatArray:
    """The map that is published: the adapted probability, and the first one where a change is kept as before."""
    kept = (codes == Change.KEPT_BACKGROUND) | (codes == Change.KEPT_LANDSLIDE)
    return np.where(kept, first, adapted).astype(np.float32)
