"""Bodies of a mask as polygons with their attributes, window by window: what is held follows the landslides.

Windows come in rows. Of each, the runs of its bodies are kept and what the rasters say about them. When a row of windows
is complete, the runs that meet across their edges are joined, bodies are told from each other, and those that do not
reach the last line are finished: measured, outlined and, when they are too small, forgotten. Bodies are connected over
pixel edges, not corners, and are the same however the mask is cut into windows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from affine import Affine

from modeling.errors import InventoryError
from modeling.vectors.outlines import Polygons, outlines
from modeling.vectors.runs import BoolArray, Index, Runs, components, meeting, merged, offsets
from modeling.vectors.zonal import Moments, Votes

Array = npt.NDArray[Any]
SlicesYX = tuple[slice, slice]
Rasters = Mapping[str, Array]

_BAND_PX = 512
_NOTHING: Rasters = {}


@dataclass(frozen=True)
class Attributes:
    """What is known of some bodies, or parts of bodies; arrays are (body,)."""

    pixels: Index
    """Number of pixels."""
    place: Index
    """The first pixel in reading order: row times width of the raster plus column."""
    cut: BoolArray
    """Whether it has a pixel that was not seen, or meets one across a pixel edge, or the edge of the raster."""
    moments: Mapping[str, Moments]
    """Of each quantity."""
    votes: Mapping[str, Votes]
    """Of each code."""

    def merged(self, owner: Index, count: int) -> Attributes:
        """Of `count` larger bodies: part i goes into `owner[i]`."""
        place = np.full(count, np.iinfo(np.int64).max)
        np.minimum.at(place, owner, self.place)
        return Attributes(
            np.bincount(owner, self.pixels, count).astype(np.int64),
            place,
            np.bincount(owner[self.cut], minlength=count) > 0,
            {name: each.merged(owner, count) for name, each in self.moments.items()},
            {name: each.merged(owner, count) for name, each in self.votes.items()},
        )

    def taken(self, which: Index) -> Attributes:
        """Of some of the bodies, in that order."""
        return Attributes(
            self.pixels[which],
            self.place[which],
            self.cut[which],
            {name: each.taken(which) for name, each in self.moments.items()},
            {name: each.taken(which) for name, each in self.votes.items()},
        )

    @classmethod
    def together(cls, parts: Sequence[Attributes]) -> Attributes:
        """Of the bodies of all parts, one part behind the other; all parts know the same of their bodies."""
        return cls(
            np.concatenate([part.pixels for part in parts]),
            np.concatenate([part.place for part in parts]),
            np.concatenate([part.cut for part in parts]),
            {name: Moments.together([part.moments[name] for part in parts]) for name in parts[0].moments},
            {name: Votes.together([part.votes[name] for part in parts]) for name in parts[0].votes},
        )


@dataclass(frozen=True)
class Found:
    """The bodies of a mask, the largest (of equals the northernmost) first."""

    polygons: Polygons
    """Outlines along pixel edges, (body,)."""
    attributes: Attributes
    """What was measured."""


class Vectoriser:
    """Takes a mask window by window: `add` each, then `finish`.

    Windows come from left to right and from top to bottom, in rows of one height each, and cover the raster; each brings
    the same quantities and codes. Raises `InventoryError` otherwise.
    """

    def __init__(self, shape_yx: tuple[int, int], transform: Affine, *, minimum_px: float = 1) -> None:
        """`transform` takes columns and rows to the polygons' coordinates; bodies of fewer pixels are dropped."""
        self._shape, self._transform, self._minimum = shape_yx, transform, minimum_px
        self._rows, self._column = slice(0, 0), shape_yx[1]
        self._parts: list[tuple[Runs, Attributes]] = []
        self._unseen = np.ones((1, shape_yx[1]), bool)
        self._open: tuple[Runs, Index, Attributes] | None = None
        self._finished: list[tuple[Polygons, Attributes]] = []

    def add(
        self,
        where: SlicesYX,
        mask: BoolArray,
        *,
        quantities: Rasters = _NOTHING,
        codes: Rasters = _NOTHING,
        seen: BoolArray | None = None,
    ) -> None:
        """Take a window, (y, x): where bodies are, what is to be averaged (NaN unknown) or counted over each (negative
        none), and which pixels were seen, all when it is not told."""
        rows, columns = where
        shape = rows.stop - rows.start, columns.stop - columns.start
        for name, raster in {"the mask": mask, **quantities, **codes, "seen": mask if seen is None else seen}.items():
            if raster.shape != shape:
                raise InventoryError(f"{name} has shape {raster.shape} in a window of {shape}")
        self._expect(rows, columns)
        runs = Runs.of(mask, rows.start, columns.start)
        counts, at = runs.pixels, (rows.start, columns.start)
        attributes = Attributes(
            counts,
            runs.row * self._shape[1] + runs.start,
            np.zeros(len(runs), bool),
            {name: Moments.of(runs.picked(raster, *at), counts) for name, raster in quantities.items()},
            {name: Votes.of(runs.picked(raster, *at), counts) for name, raster in codes.items()},
        )
        self._parts.append((runs, attributes))
        if seen is not None:
            np.logical_not(seen, out=self._unseen[1:, columns])
        self._column = columns.stop
        if columns.stop == self._shape[1]:
            self._close_row()

    def finish(self) -> Found:
        """All bodies; nothing can be added after that."""
        if self._rows.stop != self._shape[0] or self._column != self._shape[1]:
            raise InventoryError(
                f"the windows end at row {self._rows.stop}, column {self._column} of a mask of {self._shape} pixels"
            )
        polygons = np.concatenate([each for each, _ in self._finished])
        attributes = Attributes.together([each for _, each in self._finished])
        order = np.lexsort((attributes.place, -attributes.pixels))
        return Found(polygons[order], attributes.taken(order))

    def _expect(self, rows: slice, columns: slice) -> None:
        """Begin a row of windows where the last one ended; refuse a window that does not follow the one before it."""
        if self._column == self._shape[1]:
            expected: tuple[int, int | None, int] = self._rows.stop, None, 0
        else:
            expected = self._rows.start, self._rows.stop, self._column
        if (rows.start, rows.stop if expected[1] else None, columns.start) != expected:
            raise InventoryError(f"window {rows}, {columns} does not follow the one before it in rows of windows")
        if rows.stop > self._shape[0] or columns.stop > self._shape[1]:
            raise InventoryError(f"window {rows}, {columns} is not inside a mask of {self._shape} pixels")
        if columns.start == 0:
            self._rows = rows
            above = self._unseen[-1:]
            self._unseen = np.concatenate([above, np.zeros((rows.stop - rows.start, self._shape[1]), bool)])

    def _close_row(self) -> None:
        """Join the windows of a row to each other and to the bodies that have reached it, and finish what ends here."""
        last = self._rows.stop == self._shape[0]
        new, became = merged([runs for runs, _ in self._parts])
        attributes = Attributes.together([each for _, each in self._parts]).merged(became, len(new))
        attributes = replace(attributes, cut=self._cut(new, last=last))
        self._parts.clear()
        runs, node = new, np.arange(len(new))
        bridge, bridge_node = new, node
        if self._open is not None:
            open_runs, open_node, open_attributes = self._open
            reaching = open_runs.row == self._rows.start - 1
            bottom, bottom_node = open_runs.taken(reaching), open_node[reaching]
            cut = open_attributes.cut.copy()
            cut[bottom_node[self._meets_unseen(bottom)]] = True
            attributes = Attributes.together([replace(open_attributes, cut=cut), attributes])
            node = node + len(cut)
            bridge, bridge_node = _chained(bottom, new), np.concatenate([bottom_node, node])
            runs, node = _chained(open_runs, new), np.concatenate([open_node, node])
        lower, upper = meeting(bridge)
        number, body = components(len(attributes.pixels), bridge_node[lower], bridge_node[upper])
        self._settle(runs, body[node], attributes.merged(body, number), last=last)

    def _settle(self, runs: Runs, body: Index, attributes: Attributes, *, last: bool) -> None:
        """Finish the bodies that do not reach the last line of this row of windows; keep the others."""
        goes_on = np.zeros(len(attributes.pixels), bool)
        if not last:
            goes_on[body[runs.row == self._rows.stop - 1]] = True
        for stays, which in ((True, goes_on), (False, ~goes_on & (attributes.pixels >= self._minimum))):
            chosen = np.flatnonzero(which)
            renumbered = np.cumsum(which) - 1
            own = which[body]
            part = runs.taken(own), renumbered[body[own]], attributes.taken(chosen)
            if stays:
                self._open = part
            else:
                self._finished.append((outlines(part[0], part[1], self._transform), part[2]))

    def _cut(self, runs: Runs, *, last: bool) -> BoolArray:
        """Whether each run has or meets an unseen pixel of this row of windows or the line above, or the raster's edge."""
        height, width = self._shape
        if not self._unseen[int(self._rows.start == 0) :].any():
            at_edge: BoolArray = (runs.start == 0) | (runs.stop == width) | (runs.row == 0) | (runs.row == height - 1)
            return at_edge
        # A frame around the row of windows: the line above it, and to all other sides what lies beyond is not known
        # (below) or not there.
        framed = np.pad(self._unseen, ((0, 1), (1, 1)), constant_values=True)
        framed[-1] = last
        inner = framed[1:-1, 1:-1]
        near = inner | framed[:-2, 1:-1] | framed[2:, 1:-1] | framed[1:-1, :-2] | framed[1:-1, 2:]
        return _any_of(runs.picked(near, self._rows.start), runs)

    def _meets_unseen(self, bottom: Runs) -> BoolArray:
        """Whether each run of the line above this row of windows lies over an unseen pixel of it."""
        return _any_of(bottom.picked(self._unseen[1:2], self._rows.start - 1), bottom)


def mask_polygons(mask: BoolArray, transform: Affine) -> Polygons:
    """The bodies of `mask` (y, x) as polygons along pixel edges, the largest first."""
    height, width = mask.shape
    vectoriser = Vectoriser(mask.shape, transform)
    for top in range(0, height, _BAND_PX):
        rows = slice(top, min(top + _BAND_PX, height))
        vectoriser.add((rows, slice(0, width)), mask[rows])
    return vectoriser.finish().polygons


def _chained(first: Runs, second: Runs) -> Runs:
    """Runs that all lie above others, and those."""
    return Runs(
        *(np.concatenate([getattr(each, name) for each in (first, second)]) for name in ("row", "start", "stop"))
    )


def _any_of(pixels: BoolArray, runs: Runs) -> BoolArray:
    """Whether any pixel of each run is true."""
    return np.logical_or.reduceat(pixels, offsets(runs.pixels)[:-1]) if len(runs) else np.zeros(0, bool)
