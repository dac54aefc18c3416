"""Statistics of rasters over bodies, from the pixels of the bodies alone and mergeable: tile by tile, then as a whole.

A measure holds one value (or several) for each of its groups. It begins with one group a run of pixels, whose pixels lie
one behind the other, and groups are merged as runs turn out to be of one body.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from affine import Affine

from modeling.vectors.burn import polygon_runs
from modeling.vectors.runs import Index, offsets

Array = npt.NDArray[Any]
Doubles = npt.NDArray[np.float64]
SlicesYX = tuple[slice, slice]

_WINDOW_PX = 1024


@dataclass(frozen=True)
class Moments:
    """Number, mean, spread and range of the finite values of each group; arrays are (group,)."""

    number: Index
    """How many values are finite."""
    total: Doubles
    """Their sum."""
    squares: Doubles
    """Sum of their squared distances from their mean."""
    lowest: Doubles
    """The lowest, inf where none is."""
    highest: Doubles
    """The highest, -inf where none is."""

    @classmethod
    def of(cls, values: Array, counts: Index) -> Moments:
        """Of groups that lie one behind the other in `values` (pixel,): `counts` (group,), at least 1 each."""
        if not len(counts):
            return cls.none(0)
        first = offsets(counts)[:-1]
        known = np.isfinite(values)
        if known.all():
            low = high = numbers = values.astype(np.float64)
            number = counts
        else:
            low, high, numbers = (np.where(known, values, blank).astype(np.float64) for blank in (np.inf, -np.inf, 0))
            number = np.add.reduceat(known, first, dtype=np.int64)
        total = np.add.reduceat(numbers, first)
        distance = numbers - np.repeat(_ratio(total, number, 0.0), counts)
        if number is not counts:
            distance[~known] = 0
        squares = np.add.reduceat(distance * distance, first)
        return cls(number, total, squares, np.minimum.reduceat(low, first), np.maximum.reduceat(high, first))

    @classmethod
    def none(cls, count: int) -> Moments:
        """Of groups without a value."""
        zeros = np.zeros(count)
        return cls(np.zeros(count, np.int64), zeros, zeros, np.full(count, np.inf), np.full(count, -np.inf))

    @property
    def mean(self) -> Doubles:
        """Mean, NaN where no value is finite."""
        return _ratio(self.total, self.number, np.nan)

    @property
    def std(self) -> Doubles:
        """Standard deviation of the values themselves (by n), NaN where none is finite."""
        return np.sqrt(_ratio(self.squares, self.number, np.nan))

    @property
    def min(self) -> Doubles:
        """Lowest value, NaN where none is finite."""
        return np.where(self.number > 0, self.lowest, np.nan)

    @property
    def max(self) -> Doubles:
        """Highest value, NaN where none is finite."""
        return np.where(self.number > 0, self.highest, np.nan)

    def merged(self, owner: Index, count: int) -> Moments:
        """Of `count` larger groups (Chan, Golub and LeVeque 1979): group i goes into `owner[i]`."""

        def added(values: Array) -> Doubles:
            return np.bincount(owner, values, count).astype(np.float64, copy=False)

        number, total = added(self.number).astype(np.int64), added(self.total)
        shift = _ratio(self.total, self.number, 0.0) - _ratio(total, number, 0.0)[owner]
        lowest, highest = np.full(count, np.inf), np.full(count, -np.inf)
        np.minimum.at(lowest, owner, self.lowest)
        np.maximum.at(highest, owner, self.highest)
        return Moments(number, total, added(self.squares + self.number * shift * shift), lowest, highest)

    def taken(self, which: Index) -> Moments:
        """Of some of the groups, in that order."""
        return Moments(*(each[which] for each in self._arrays()))

    @classmethod
    def together(cls, parts: Sequence[Moments]) -> Moments:
        """Of the groups of all parts, one part behind the other."""
        return cls(*(np.concatenate(each) for each in zip(*(part._arrays() for part in parts), strict=True)))

    def _arrays(self) -> tuple[Array, ...]:
        return self.number, self.total, self.squares, self.lowest, self.highest


@dataclass(frozen=True)
class Votes:
    """How often each value that is not negative occurs in each group; arrays are (group and value,)."""

    groups: int
    """Number of groups."""
    group: Index
    """A group."""
    value: Index
    """A value in it."""
    number: Index
    """How often it is there."""

    @classmethod
    def of(cls, values: Array, counts: Index) -> Votes:
        """Of groups that lie one behind the other in `values` (pixel,): `counts` (group,)."""
        group = np.repeat(np.arange(len(counts)), counts)
        known = values >= 0
        group, value = group[known], values[known].astype(np.int64)
        # Neighbours mostly agree: what is sorted is stretches of equal values.
        begins = np.flatnonzero(np.append(True, (group[1:] != group[:-1]) | (value[1:] != value[:-1]))[: len(group)])
        return cls(len(counts), group[begins], value[begins], np.diff(np.append(begins, len(group))))

    def merged(self, owner: Index, count: int) -> Votes:
        """Of `count` larger groups: group i goes into `owner[i]`."""
        group = owner[self.group]
        order = np.lexsort((self.value, group))
        group, value, number = group[order], self.value[order], self.number[order]
        begins = np.flatnonzero(np.append(True, (group[1:] != group[:-1]) | (value[1:] != value[:-1]))[: len(group)])
        together = np.add.reduceat(number, begins) if len(begins) else number
        return Votes(count, group[begins], value[begins], together)

    def taken(self, which: Index) -> Votes:
        """Of some of the groups, in that order."""
        place = np.full(self.groups, -1, np.int64)
        place[which] = np.arange(len(which))
        kept = place[self.group] >= 0
        return Votes(len(which), place[self.group[kept]], self.value[kept], self.number[kept])

    @classmethod
    def together(cls, parts: Sequence[Votes]) -> Votes:
        """Of the groups of all parts, one part behind the other."""
        before = offsets(np.array([part.groups for part in parts], np.int64))
        group = np.concatenate([part.group + first for part, first in zip(parts, before[:-1], strict=True)])
        value, number = (np.concatenate([getattr(part, name) for part in parts]) for name in ("value", "number"))
        return cls(int(before[-1]), group, value, number)

    def quantile(self, share: float) -> Doubles:
        """The smallest value of each group that at least `share` of its values do not exceed; NaN where there is none."""
        order = np.lexsort((self.value, self.group))
        group, value, number = self.group[order], self.value[order], self.number[order]
        total = np.bincount(group, number, self.groups).astype(np.int64)
        upto = np.cumsum(number) - offsets(total)[group]
        # A hair less than the share, so that 0.95 of 20 is 19 in spite of rounding.
        enough = np.flatnonzero(upto >= (share - 1e-9) * total[group])
        found = np.full(self.groups, np.nan)
        found[group[enough][::-1]] = value[enough][::-1]  # of a group, the first that is enough is written last
        return found

    @property
    def most_common(self) -> Index:
        """The most frequent value of each group, the smallest of equals; -1 where there is none."""
        # Later assignments win: rising counts, and of equal counts falling values.
        order = np.lexsort((-self.value, self.number))
        found = np.full(self.groups, -1, np.int64)
        found[self.group[order]] = self.value[order]
        return found


def polygon_moments(
    polygons: Sequence[Any] | Array,
    read: Callable[[SlicesYX], Array],
    shape_yx: tuple[int, int],
    transform: Affine,
    *,
    window_px: int = _WINDOW_PX,
) -> Moments:
    """Moments of a raster over each of `polygons`: of the pixels whose centre is inside.

    `read` gives a window (y, x) of the raster, which has `shape_yx` pixels and whose `transform` takes columns and rows to
    the polygons' coordinates; it is asked for windows with a polygon in them only. Polygons along pixel edges are
    measured exactly; each of polygons that overlap has all its pixels.
    """
    runs, owner = polygon_runs(polygons, shape_yx, transform)
    found, owners = [Moments.none(len(polygons))], [np.arange(len(polygons))]
    by_row = np.argsort(runs.row, kind="stable")
    for top in range(0, shape_yx[0], window_px):
        rows = slice(top, min(top + window_px, shape_yx[0]))
        here = np.sort(by_row[slice(*np.searchsorted(runs.row, (rows.start, rows.stop), sorter=by_row))])
        for left in range(0, shape_yx[1], window_px):
            columns = slice(left, min(left + window_px, shape_yx[1]))
            inside = here[(runs.start[here] < columns.stop) & (runs.stop[here] > columns.start)]
            if len(inside):
                raster = read((rows, columns))
                part = runs.taken(inside).clipped(columns)
                # By polygon, row and column: the pixels of a polygon lie one behind the other.
                whose, first = np.unique(owner[inside], return_index=True)
                counts = np.add.reduceat(part.pixels, first)
                found.append(Moments.of(part.picked(raster, rows.start, columns.start), counts))
                owners.append(whose)
    return Moments.together(found).merged(np.concatenate(owners), len(polygons))


def _ratio(total: Array, number: Array, blank: float) -> Doubles:
    ratio: Doubles = np.divide(total, number, out=np.full(len(total), blank), where=number > 0)
    return ratio
