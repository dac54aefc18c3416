"""Statistics of rasters over labelled bodies, from the pixels of the bodies alone: bincount, not one mask a body."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.integer[Any]]
_Index = npt.NDArray[np.intp]
_Doubles = npt.NDArray[np.float64]

_EDGE_NEIGHBOURS = ((-1, 0), (0, -1), (0, 1), (1, 0))


@dataclass(frozen=True)
class Bodies:
    """The pixels of all labelled bodies of one raster; every statistic is (body,), of rasters (y, x) of its shape."""

    rows: _Index
    """Row of each pixel."""
    columns: _Index
    """Column of each pixel."""
    owner: _Index
    """Index of the body that each pixel belongs to, from 0."""
    count: int
    """Number of bodies."""

    @classmethod
    def of(cls, labels: npt.NDArray[np.int32]) -> Bodies:
        """The bodies of `labels` (y, x): 0 is no body, 1 to n the bodies, without gaps."""
        rows, columns = np.nonzero(labels)
        owner = labels[rows, columns].astype(np.intp) - 1
        return cls(rows, columns, owner, int(owner.max(initial=-1)) + 1)

    def pixels(self) -> npt.NDArray[np.int64]:
        """Number of pixels of each body."""
        return np.bincount(self.owner, minlength=self.count)

    def mean(self, raster: FloatArray) -> _Doubles:
        """Mean of the finite values of each body, NaN where none is."""
        owner, values = self._known(raster)
        total = np.bincount(owner, weights=values, minlength=self.count)
        number = np.bincount(owner, minlength=self.count)
        mean: _Doubles = np.divide(total, number, out=np.full(self.count, np.nan), where=number > 0)
        return mean

    def range(self, raster: FloatArray) -> tuple[_Doubles, _Doubles]:
        """Lowest and highest finite value of each body, NaN where none is."""
        owner, values = self._known(raster)
        lowest, highest = np.full(self.count, np.inf), np.full(self.count, -np.inf)
        np.minimum.at(lowest, owner, values)
        np.maximum.at(highest, owner, values)
        return np.where(np.isfinite(lowest), lowest, np.nan), np.where(np.isfinite(highest), highest, np.nan)

    def most_common(self, raster: IntArray) -> npt.NDArray[np.int64]:
        """The most frequent value of each body that is not negative, the smallest of equals; -1 where none is."""
        values = raster[self.rows, self.columns].astype(np.int64)
        known = values >= 0
        base = int(values.max(initial=0)) + 1
        pairs, counts = np.unique(self.owner[known] * base + values[known], return_counts=True)
        owner, value = np.divmod(pairs, base)
        # Later assignments win: rising counts, and of equal counts falling values.
        order = np.lexsort((-value, counts))
        found = np.full(self.count, -1, np.int64)
        found[owner[order]] = value[order]
        return found

    def any_neighbour_differs(self, raster: IntArray, expected: int) -> npt.NDArray[np.bool_]:
        """Whether the body or a pixel across one of its edges is not `expected`, or it meets the raster's edge."""
        height, width = raster.shape
        differs = raster[self.rows, self.columns] != expected
        for down, right in _EDGE_NEIGHBOURS:
            y, x = self.rows + down, self.columns + right
            beyond = (y < 0) | (y >= height) | (x < 0) | (x >= width)
            differs |= beyond | (raster[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)] != expected)
        return np.bincount(self.owner, weights=differs, minlength=self.count) > 0

    def _known(self, raster: FloatArray) -> tuple[_Index, _Doubles]:
        values = raster[self.rows, self.columns].astype(np.float64)
        known = np.isfinite(values)
        return self.owner[known], values[known]
