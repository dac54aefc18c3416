"""The pixels of bodies as runs: stretches of one row. What is kept of a mask follows its landslides, not its size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse import csgraph

Array = npt.NDArray[Any]
Index = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Runs:
    """Stretches of pixels of one row each, in the order of rows and columns; arrays are (run,)."""

    row: Index
    """Row."""
    start: Index
    """First column."""
    stop: Index
    """Column behind the last one."""

    def __len__(self) -> int:
        return len(self.row)

    @property
    def pixels(self) -> Index:
        """Number of pixels of each run."""
        return self.stop - self.start

    @classmethod
    def of(cls, mask: BoolArray, top: int = 0, left: int = 0) -> Runs:
        """The runs of `mask` (y, x), whose first pixel lies at row `top` and column `left`."""
        height, width = mask.shape
        # One empty column between rows: no run reaches from one into the next, and all changes are found at once.
        flat = np.zeros(height * (width + 1) + 1, bool)
        flat[1:].reshape(height, width + 1)[:, :width] = mask
        changes = np.flatnonzero(flat[1:] != flat[:-1])
        row, start = np.divmod(changes[::2], width + 1)
        return cls(row + top, start + left, start + left + changes[1::2] - changes[::2])

    def taken(self, which: Array) -> Runs:
        """Some of the runs: a mask of them, or their indices."""
        return Runs(self.row[which], self.start[which], self.stop[which])

    def clipped(self, columns: slice) -> Runs:
        """The parts of the runs, all of which meet `columns`, that are inside them."""
        return Runs(self.row, np.maximum(self.start, columns.start), np.minimum(self.stop, columns.stop))

    def flat(self, width: int, top: int = 0, left: int = 0) -> Index:
        """Index of each pixel in a raster (y, x) of `width` columns that begins at row `top` and column `left`."""
        return counted_from((self.row - top) * width + self.start - left, self.pixels)

    def picked(self, raster: Array, top: int = 0, left: int = 0) -> Array:
        """The values of the pixels, run by run, of a raster (y, x) that begins at row `top` and column `left`."""
        if raster.flags.c_contiguous:
            return raster.reshape(-1)[self.flat(raster.shape[1], top, left)]
        # Of a part of a larger raster only these pixels are touched.
        return raster[np.repeat(self.row - top, self.pixels), counted_from(self.start - left, self.pixels)]


def offsets(counts: Index) -> Index:
    """Where each group begins among the elements of all, and where the last one ends: (group + 1,)."""
    return np.concatenate(([0], np.cumsum(counts)))


def counted_from(first: Index, counts: Index) -> Index:
    """`first[i]`, `first[i] + 1` and so on, `counts[i]` numbers each."""
    return np.repeat(first - offsets(counts)[:-1], counts) + np.arange(counts.sum())


def merged(parts: Sequence[Runs]) -> tuple[Runs, Index]:
    """The runs of tiles side by side, those that meet at an edge made one; and of each run, in turn, what it became."""
    every = Runs(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("row", "start", "stop")))
    order = _in_order(every)
    runs = every.taken(order)
    goes_on = np.zeros(len(runs), bool)
    goes_on[1:] = (runs.row[1:] == runs.row[:-1]) & (runs.start[1:] == runs.stop[:-1])
    first = np.flatnonzero(~goes_on)
    became = np.empty(len(runs), np.int64)
    became[order] = np.cumsum(~goes_on) - 1
    last = np.append(first[1:], len(runs)) - 1 if len(runs) else first
    return Runs(runs.row[first], runs.start[first], runs.stop[last]), became


def _in_order(runs: Runs) -> Index:
    return np.argsort(_key(runs.row, runs.start, _stride(runs)), kind="stable")


def meeting(runs: Runs) -> tuple[Index, Index]:
    """All pairs of runs of neighbouring rows that share a pixel edge: index of the lower one, of the upper one."""
    stride = _stride(runs)
    starts, stops = _key(runs.row, runs.start, stride), _key(runs.row, runs.stop, stride)
    # Of the row above: the first that ends behind this one's start, and the first that begins at or behind its end.
    first = np.searchsorted(stops, starts - stride, side="right")
    behind = np.searchsorted(starts, stops - stride, side="left")
    count = behind - first
    return np.repeat(np.arange(len(runs)), count), counted_from(first, count)


def components(count: int, one: Index, other: Index) -> tuple[int, Index]:
    """Number of the groups that `count` nodes fall into when `one[i]` is linked to `other[i]`, and each node's group."""
    graph = sparse.coo_matrix((np.ones(len(one), np.bool_), (one, other)), shape=(count, count))
    number, group = csgraph.connected_components(graph, directed=False)
    return int(number), group.astype(np.int64)


def _stride(runs: Runs) -> int:
    return int(runs.stop.max(initial=0)) + 1


def _key(row: Index, column: Index, stride: int) -> Index:
    return row * stride + column
