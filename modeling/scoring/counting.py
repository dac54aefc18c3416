"""Counting landslides as the tables of Xu et al. (DFPENet-geology) do: right, wrong and missed, one for one.

`modeling.scoring.objects` counts true landslides that were found and mapped ones that are right, two different numbers when
scars grow together or apart. The paper's precision, recall and IoU follow from ONE number of right ones: its
91.80 / 88.55 / 82.06 obey 1/IoU = 1/P + 1/R - 1, as do all rows of the table. When two landslides are the same is not
stated; taken here are the halves of `objects`:

- a mapped landslide is right for a true one when it covers at least half of it, and is itself true by at least half;
- each mapped landslide is right for one true one at most, and the other way round (maximum matching).

So two scars mapped as one count once right and once missed, and a scar mapped in two pieces, each less than half of it,
twice wrong and once missed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage, sparse
from scipy.sparse import csgraph

from modeling.errors import DataError
from modeling.scoring.objects import OVERLAP

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


def count_landslides(predicted: BoolArray, truth: BoolArray, valid: BoolArray) -> LandslideCounts:
    """Count one map; bool arrays (y, x). Landslides are 8-connected; of one that lies less than half inside `valid`
    nothing is counted, and of the others only what is inside."""
    mapped, mapped_px, mapped_counts = _objects(predicted, valid)
    true, true_px, true_counts = _objects(truth, valid)
    both = (mapped > 0) & (true > 0) & valid
    shared = sparse.coo_matrix(
        (np.ones(int(both.sum()), np.int64), (mapped[both] - 1, true[both] - 1)), shape=(len(mapped_px), len(true_px))
    ).tocsr()
    is_true = np.asarray(shared.sum(axis=1)).ravel() >= OVERLAP * mapped_px
    shared = shared.tocoo()
    pairs = (
        (shared.data >= OVERLAP * true_px[shared.col])
        & is_true[shared.row]
        & mapped_counts[shared.row]
        & true_counts[shared.col]
    )
    graph = sparse.csr_matrix((np.ones(int(pairs.sum())), (shared.row[pairs], shared.col[pairs])), shape=shared.shape)
    right = 0
    if graph.nnz:
        right = int((csgraph.maximum_bipartite_matching(graph, perm_type="column") >= 0).sum())
    return LandslideCounts(right, int(mapped_counts.sum()) - right, int(true_counts.sum()) - right)


def total(parts: Mapping[str, LandslideCounts]) -> LandslideCounts:
    """All maps together."""
    return sum(parts.values(), LandslideCounts())


def _objects(
    mask: BoolArray, valid: BoolArray
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Labels (y, x) from 1, pixels of each inside `valid`, and whether it counts."""
    labels, count = ndimage.label(mask, structure=_EIGHT_NEIGHBOURS)
    size = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    seen = np.bincount(labels[valid], minlength=count + 1)[1:]
    return labels.astype(np.int32), seen, (seen >= OVERLAP * size) & (seen > 0)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
