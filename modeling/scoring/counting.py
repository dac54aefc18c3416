"""Counting landslides as the tables of Xu et al. (DFPENet-geology) do: right, wrong and missed, one for one.

`modeling.scoring.objects` counts true landslides that were found and mapped ones that are right, two different numbers when
scars grow together or apart. The paper's precision, recall and IoU follow from ONE number of right ones: its
91.80 / 88.55 / 82.06 obey 1/IoU = 1/P + 1/R - 1, as do all rows of the table. When two landslides are the same is not
stated; taken here are the halves of `objects`:

- a mapped landslide is right for a true one when it covers at least half of it, and is itself true by at least half;
- each mapped landslide is right for one true one at most, and the other way round (maximum matching).

So two scars mapped as one count once right and once missed, and a scar mapped in two pieces, each less than half of it,
twice wrong and once missed. `LandslideCounts` is the plain count, `MatchedCounts` the same by the landslides' size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage, sparse
from scipy.sparse import csgraph

from modeling.errors import DataError
from modeling.scoring.objects import OVERLAP, SIZE_EDGES_M2, Counts

BoolArray = npt.NDArray[np.bool_]
_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True)
class LandslideCounts:
    """Landslides counted one for one; add those of several maps, then ask for scores."""

    right: int = 0
    """Mapped landslides that are one true landslide each."""
    wrong: int = 0
    """Mapped landslides that are none, or are one that another mapped one is already."""
    missed: int = 0
    """True landslides that no mapped one is."""

    def __add__(self, other: LandslideCounts) -> LandslideCounts:
        return LandslideCounts(self.right + other.right, self.wrong + other.wrong, self.missed + other.missed)

    def scores(self) -> dict[str, float]:
        """precision, recall, iou and f1; a quotient 0/0 counts as 0."""
        right, wrong, missed = astuple(self)
        return {
            "precision": _ratio(right, right + wrong),
            "recall": _ratio(right, right + missed),
            "iou": _ratio(right, right + wrong + missed),
            "f1": _ratio(2 * right, 2 * right + wrong + missed),
        }

    def to_json(self) -> list[int]:
        """right, wrong, missed."""
        return [self.right, self.wrong, self.missed]

    @classmethod
    def from_json(cls, stored: Any) -> LandslideCounts:
        """The inverse of `to_json`; raises `DataError` when these are not three counts."""
        try:
            right, wrong, missed = (int(count) for count in stored)
        except (TypeError, ValueError) as error:
            raise DataError(f"stored counts of landslides cannot be read: {error!r}") from error
        return cls(right, wrong, missed)


@dataclass(frozen=True)
class MatchedCounts:
    """Landslides counted one for one, by size class; add those of several maps, then ask for scores."""

    edges_m2: tuple[float, ...]
    """Rising areas at which the classes meet; the first class begins at 0, the last is open."""
    true: Counts
    """True landslides, by their size."""
    found: Counts
    """Of these, those that a mapped one is right for."""
    mapped: Counts
    """Mapped landslides, by their own size."""
    right: Counts
    """Of these, those that are right for a true one: as many as are found, though maybe of other sizes."""

    def __add__(self, other: MatchedCounts) -> MatchedCounts:
        if self.edges_m2 != other.edges_m2:
            raise DataError(f"landslides were counted in other size classes: {self.edges_m2} and {other.edges_m2} m²")
        names = [field.name for field in fields(self)[1:]]
        sums = (tuple(map(sum, zip(getattr(self, name), getattr(other, name), strict=True))) for name in names)
        return MatchedCounts(self.edges_m2, *sums)

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """true, found, mapped, right: over all sizes."""
        return sum(self.true), sum(self.found), sum(self.mapped), sum(self.right)

    def whole(self) -> LandslideCounts:
        """Over all sizes."""
        true, _, mapped, right = self.counts
        return LandslideCounts(right, mapped - right, true - right)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {name: list(value) for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> MatchedCounts:
        """The inverse of `to_json`; raises `DataError` when fields are missing or uneven."""
        try:
            edges = tuple(float(edge) for edge in stored["edges_m2"])
            counts = [tuple(int(count) for count in stored[field.name]) for field in fields(cls)[1:]]
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"stored counts of landslides cannot be read: {error!r}") from error
        if any(len(part) != len(edges) + 1 for part in counts):
            raise DataError(f"stored counts of landslides do not have the {len(edges) + 1} size classes of their edges")
        return cls(edges, *counts)


def count_landslides(predicted: BoolArray, truth: BoolArray, valid: BoolArray) -> LandslideCounts:
    """Count one map; bool arrays (y, x). Landslides are 8-connected; of one that lies less than half inside `valid`
    nothing is counted, and of the others only what is inside."""
    return matched_counts(predicted, truth, valid).whole()


def matched_counts(
    predicted: BoolArray,
    truth: BoolArray,
    valid: BoolArray,
    *,
    pixel_area_m2: float = 100.0,
    edges_m2: tuple[float, ...] = SIZE_EDGES_M2,
) -> MatchedCounts:
    """As `count_landslides`, by the sizes of the landslides as they were drawn, inside `valid` and beyond it."""
    mapped, true = _objects(predicted, valid), _objects(truth, valid)
    both = (mapped.labels > 0) & (true.labels > 0) & valid
    shared = sparse.coo_matrix(
        (np.ones(int(both.sum()), np.int64), (mapped.labels[both] - 1, true.labels[both] - 1)),
        shape=(len(mapped.seen), len(true.seen)),
    ).tocsr()
    is_true = np.asarray(shared.sum(axis=1)).ravel() >= OVERLAP * mapped.seen
    shared = shared.tocoo()
    pairs = (
        (shared.data >= OVERLAP * true.seen[shared.col])
        & is_true[shared.row]
        & mapped.counts[shared.row]
        & true.counts[shared.col]
    )
    graph = sparse.csr_matrix((np.ones(int(pairs.sum())), (shared.row[pairs], shared.col[pairs])), shape=shared.shape)
    right, found = np.zeros(len(mapped.seen), np.bool_), np.zeros(len(true.seen), np.bool_)
    if graph.nnz:
        partner = csgraph.maximum_bipartite_matching(graph, perm_type="column")
        right = partner >= 0
        found[partner[right]] = True
    edges_px = np.asarray(edges_m2, dtype=np.float64) / pixel_area_m2
    by_size = (
        each.by_size(some, edges_px)
        for each, some in ((true, true.counts), (true, found), (mapped, mapped.counts), (mapped, right))
    )
    return MatchedCounts(edges_m2, *by_size)


def total(parts: Mapping[str, LandslideCounts]) -> LandslideCounts:
    """All maps together."""
    return sum(parts.values(), LandslideCounts())


@dataclass(frozen=True)
class _Objects:
    """The 8-connected components of a mask."""

    labels: npt.NDArray[np.int32]
    """(y, x), from 1."""
    size: npt.NDArray[np.int64]
    """Pixels of each."""
    seen: npt.NDArray[np.int64]
    """Of these, inside what is valid."""
    counts: BoolArray
    """Whether it counts: at least half of it is valid."""

    def by_size(self, some: BoolArray, edges_px: npt.NDArray[np.float64]) -> Counts:
        """How many of `some` there are in each size class."""
        group = np.searchsorted(edges_px, self.size[some], side="right")
        return tuple(np.bincount(group, minlength=len(edges_px) + 1).tolist())


def _objects(mask: BoolArray, valid: BoolArray) -> _Objects:
    labels, count = ndimage.label(mask, structure=_EIGHT_NEIGHBOURS)
    size = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    seen = np.bincount(labels[valid], minlength=count + 1)[1:]
    return _Objects(labels.astype(np.int32), size, seen, (seen >= OVERLAP * size) & (seen > 0))


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
