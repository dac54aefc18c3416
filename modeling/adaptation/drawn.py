"""Polygons that an analyst has drawn, cut into windows that a network can learn from, and split by space.

Each polygon has windows of its own. Their cores tile it without overlap, so that each of its pixels is scored once; around
them lies the context that the network sees. Windows of neighbours may overlap: every window knows all polygons in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from modeling.data.batches import FloatArray
from modeling.errors import DataError

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int32]
Index = npt.NDArray[np.int64]
DoubleArray = npt.NDArray[np.float64]

SIDE_PX = 96
"""Side of a window: what the light networks take, and little more than the patches that they were trained on."""
CORE_PX = 64
"""Side of the part of a window that is scored."""
MOST_WINDOWS = 4
"""Windows of one polygon; of a larger one so many parts, those with most of its pixels, are used."""
UNDRAWN = -1
"""Owner of a pixel that is in no polygon."""


@dataclass(frozen=True, eq=False)
class Ground:
    """Windows of a scene with the polygons drawn in them; without polygons: ground that nobody has drawn on."""

    channels: FloatArray
    """(window, channel, y, x), physical units, NaN where unknown."""
    observed: BoolArray
    """(window, y, x): whether the network's channels are all known and clear."""
    owner: IntArray
    """(window, y, x): index of the polygon that a pixel lies in, `UNDRAWN` outside of all."""
    own: IntArray
    """(window,): index of the polygon that a window was cut for, `UNDRAWN` for a window of undrawn ground."""
    mapped: FloatArray | None = None
    """(window, y, x): probability in the map before, NaN where it is not known or not this network's; None: nowhere known."""
    stands_for: FloatArray | None = None
    """(window, y, x): how many pixels of the scene each of these stands for; None: one each."""

    def __post_init__(self) -> None:
        """Raise `DataError` when the parts do not fit together."""
        count, _, *shape = self.channels.shape
        if self.observed.shape != (count, *shape) or self.owner.shape != self.observed.shape or len(self.own) != count:
            raise DataError(
                f"windows of shape {self.channels.shape} do not fit observed {self.observed.shape}, owner"
                f" {self.owner.shape} and {len(self.own)} polygons they were cut for"
            )

    def __len__(self) -> int:
        return len(self.own)

    @property
    def pixels(self) -> DoubleArray:
        """(window, y, x): how many pixels of the scene each stands for, 0 where it is not observed."""
        each = np.float64(1) if self.stands_for is None else self.stands_for.astype(np.float64)
        return np.where(self.observed, each, 0.0)

    @property
    def scored(self) -> BoolArray:
        """(window, y, x): the observed pixels of each window's own polygon in its core: each pixel of a polygon once."""
        side = self.observed.shape[-1]
        margin = (side - CORE_PX) // 2
        core = np.zeros(self.observed.shape[1:], bool)
        core[margin : side - margin, margin : side - margin] = True
        mine = (self.owner == self.own[:, None, None]) & (self.own[:, None, None] != UNDRAWN)
        return np.asarray(mine & self.observed & core)


def windows_around(bounds_px: tuple[float, float, float, float]) -> Iterator[tuple[int, int]]:
    """Top and left pixel of windows whose cores tile the box (top, left, bottom, right; pixels) of a polygon.

    They lie centred on the box and may reach beyond the scene.
    """
    top, left, bottom, right = bounds_px
    rows, columns = (max(1, int(np.ceil((high - low) / CORE_PX))) for low, high in ((top, bottom), (left, right)))
    y0 = round((top + bottom) / 2 - rows * CORE_PX / 2) - (SIDE_PX - CORE_PX) // 2
    x0 = round((left + right) / 2 - columns * CORE_PX / 2) - (SIDE_PX - CORE_PX) // 2
    for row in range(rows):
        for column in range(columns):
            yield y0 + row * CORE_PX, x0 + column * CORE_PX


def spatial_groups(apart: DoubleArray, reach: float) -> Index:
    """(polygon,) the number of the group of each polygon: chains of polygons not farther apart than `reach` (single linkage).

    `apart` (polygon, polygon) are distances, `reach` is in their unit. Groups are numbered in the order of their first
    polygon.
    """
    if len(apart) < 2:
        return np.zeros(len(apart), np.int64)
    labels = fcluster(linkage(squareform(apart, checks=False), "single"), reach, "distance")
    _, first, number = np.unique(labels, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first))
    return np.asarray(order[number], np.int64)


@dataclass(frozen=True, eq=False)
class Split:
    """Polygons split by space for cross-validation."""

    group: Index
    """(polygon,): polygons of one group lie near each other; they are held out, and drawn by the bootstrap, together."""
    fold: Index
    """(polygon,): the fold in which a polygon is held out."""
    reach: float
    """Polygons of two groups are farther than this from each other, in the unit of the distances."""

    @property
    def folds(self) -> int:
        """How many there are."""
        return int(self.fold.max()) + 1


def split_by_space(apart: DoubleArray, landslide: BoolArray, reaches: Sequence[float], folds: int) -> Split:
    """Split polygons into `folds` (fewer when there are fewer groups) with both classes outside of each fold.

    `apart` (polygon, polygon) holds the distances between their edges, m: long ones may lie end to end. The largest of
    `reaches` is taken that leaves so many groups, else the one with most. Raises `DataError` when the polygons cannot be
    split: all of them, or all of a class, lie in one place.
    """
    best: Split | None = None
    for reach in sorted(reaches, reverse=True):
        group = spatial_groups(apart, reach)
        fold = folds_of(group, landslide, folds)
        learnable = all(len(set(landslide[fold != k].tolist())) == 2 for k in range(int(fold.max()) + 1))
        if not learnable or fold.max() == 0:
            continue
        if best is None or fold.max() > best.fold.max():
            best = Split(group, fold, float(reach))
        if best.folds >= folds:
            break
    if best is None:
        raise DataError(
            "the polygons cannot be split into a part to learn from and a part to judge by: all of them, or all of one"
            f" class, lie within {min(reaches):g} m of each other; draw some further away"
        )
    return best


def folds_of(group: Index, landslide: BoolArray, folds: int) -> Index:
    """(polygon,) the fold of each polygon: whole groups, dealt out so that folds have equal numbers of each class.

    Groups go largest first to the fold that has fewest polygons of their main class (then fewest polygons, then the
    first), which is the same at each call.
    """
    counts = [(int((landslide & (group == g)).sum()), int((~landslide & (group == g)).sum())) for g in np.unique(group)]
    folds = min(folds, len(counts))
    held = np.zeros((folds, 2), np.int64)
    of_group = np.zeros(len(counts), np.int64)
    for g in sorted(range(len(counts)), key=lambda index: (-sum(counts[index]), index)):
        yes, no = counts[g]
        main = 0 if yes >= no else 1
        chosen = min(range(folds), key=lambda k: (held[k, main], held[k].sum(), k))
        held[chosen] += (yes, no)
        of_group[g] = chosen
    used = np.unique(of_group)
    return np.searchsorted(used, of_group[group]).astype(np.int64)


def pixel_weights(ground: Ground, landslide: BoolArray, kept: BoolArray) -> FloatArray:
    """(window, y, x) weights of drawn pixels of the `kept` polygons; 0 elsewhere.

    A polygon weighs as the square root of its pixels, shared by them, so that one large field does not drown ten small
    scars; each class weighs one half in all.
    """
    sizes = np.bincount(ground.owner[ground.owner >= 0], minlength=len(landslide)).astype(np.float64)
    weight = np.where(kept & (sizes > 0), np.sqrt(sizes), 0.0)
    for of_class in (landslide, ~landslide):
        total = weight[of_class].sum()
        if total > 0:
            weight[of_class] *= 0.5 / total
    each = np.divide(weight, sizes, out=np.zeros_like(weight), where=sizes > 0)
    values = np.append(each, 0.0)[ground.owner]  # UNDRAWN is the last
    return np.where(ground.observed, values, 0.0).astype(np.float32)
