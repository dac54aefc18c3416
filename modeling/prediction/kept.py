"""A map of which a part stands already: only what has changed is computed, and the rest is taken as it is. Pure.

A pixel is the blend of the tiles that contribute to it, and a tile's contribution depends on its whole window. So with
the tiles whose windows have changed their neighbours are computed, too: where they fade into each other both are needed.
A pixel to which no changed tile contributes is what it was, to the bit, when the tiles are the same (`lattice_tiles`) and
the network rounds a tile alike whatever shares its batch: always so on a CPU, which takes them one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from modeling.bands import FloatArray
from modeling.prediction.predict import SlicesYX, Tile, TileWriter


@dataclass(frozen=True)
class KeptMap:
    """The tiles of a scene, and an earlier map of those that have not changed."""

    tiles: Sequence[Tile]
    """All tiles, row by row."""
    changed: frozenset[int]
    """Positions in `tiles` of those whose windows are not what they were."""
    earlier: Callable[[SlicesYX], FloatArray]
    """Reads the earlier map over a window (pixels of the scene); asked only for pixels that stand."""

    @cached_property
    def computed(self) -> frozenset[int]:
        """Positions of the tiles that the network has to see: the changed ones and those beside them."""
        columns = sum(1 for row, _ in self.tiles if row.core.start == 0)
        rows = len(self.tiles) // columns
        grid = np.zeros((rows + 2, columns + 2), bool)
        inner = np.zeros(rows * columns, bool)
        inner[sorted(self.changed)] = True
        grid[1:-1, 1:-1] = inner.reshape(rows, columns)
        near = np.zeros((rows, columns), bool)
        for down in range(3):
            for across in range(3):
                near |= grid[down : down + rows, across : across + columns]
        return frozenset(np.flatnonzero(near).tolist())

    @cached_property
    def _cores(self) -> frozenset[tuple[int, int]]:
        return frozenset((self.tiles[n][0].core.start, self.tiles[n][1].core.start) for n in self.computed)

    def wanted(self, core: SlicesYX) -> bool:
        """Whether the network has to see the tile with this core."""
        return (core[0].start, core[1].start) in self._cores

    def writer(self, write: TileWriter) -> TileWriter:
        """`write`, given every window with the pixels that stand taken from the earlier map."""

        def merged(where: SlicesYX, values: FloatArray) -> None:
            stands = self.stands(where)
            if stands.any():
                rows, columns = (np.flatnonzero(stands.any(axis=axis)) for axis in (1, 0))
                inner = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
                place = tuple(slice(w.start + i.start, w.start + i.stop) for w, i in zip(where, inner, strict=True))
                part = values[inner]
                part[stands[inner]] = self.earlier((place[0], place[1]))[stands[inner]]
            write(where, values)

        return merged

    def stands(self, where: SlicesYX) -> npt.NDArray[np.bool_]:
        """Which pixels of a window are what they were, (y, x)."""
        rows, columns = where
        stands = np.ones((rows.stop - rows.start, columns.stop - columns.start), bool)
        for number in self.changed:
            row, column = self.tiles[number]
            top, bottom = row.blend.start - rows.start, row.blend.stop - rows.start
            left, right = column.blend.start - columns.start, column.blend.stop - columns.start
            if bottom > 0 and right > 0:
                stands[max(0, top) : bottom, max(0, left) : right] = False
        return stands
