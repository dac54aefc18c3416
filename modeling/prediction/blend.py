"""Where tiles lie, what each contributes to which pixel, and the sum of the contributions, finished tile by tile.

A tile has a *core* (the cores cut the scene into pieces), and is read with a halo around it. The outer half of the
halo only gives the network context and is thrown away; across the inner half and as much of the core, two neighbours
fade into each other with weights that add up to one. So a network that looks no further than half the halo gives
exactly what it would give for the whole scene at once, and one that does (pooling over the tile) changes gradually
from tile to tile.

Tiles come row by row. What a later tile adds to is kept in two *seams*: the columns to the right of the tile before, and
the rows below the row before. All else of a tile is finished, so the memory is that of the seams. They are torch
tensors on whatever device the network's results are on.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import ceil

import numpy as np
import numpy.typing as npt
import torch

FloatArray = npt.NDArray[np.float32]

_STEP_PX = 16
"""Windows are multiples of this, so that networks need not pad them (much) ..."""
_COARSE_PX = 256
"""... from this size on."""


@dataclass(frozen=True)
class Span:
    """One tile along one axis, in pixels of the scene."""

    core: slice
    """The part that belongs to this tile alone."""
    window: slice
    """The part that is read: the core and at least its halo, within the scene."""
    blend: slice
    """The part that this tile contributes to."""
    done: slice
    """The part that no later tile contributes to and no earlier one finished; these cut the axis, too."""
    weight: FloatArray
    """The share of this tile in each pixel of `blend`, (n,)."""


def spans(size: int, tile_px: int, halo_px: int) -> list[Span]:
    """Cut an axis of `size` pixels into as few tiles as allow cores of about `tile_px` with `halo_px` on either side.

    All windows have one length, at most `tile_px + 2 * halo_px`, and lie at even distances: tensors of one size find the
    same place in memory again, and no tile computes much more than another. Some halos are wider by a few pixels.
    """
    most = tile_px + 2 * halo_px
    count = 1 if size <= most else ceil((size - 2 * halo_px) / tile_px)
    step = _STEP_PX if most >= _COARSE_PX else 1
    window = min(most, size, ceil((size + 2 * halo_px * (count - 1)) / count / step) * step)
    starts = [number * (size - window) // max(1, count - 1) for number in range(count)]
    # Two neighbours meet in the middle of what both see.
    edges = [0, *((one + other + window) // 2 for one, other in pairwise(starts)), size]
    return [
        _span(slice(*core), slice(start, start + window), size, halo_px)
        for core, start in zip(pairwise(edges), starts, strict=True)
    ]


def regular_spans(size: int, tile_px: int, halo_px: int) -> list[Span]:
    """Cut an axis of `size` pixels at every `tile_px`, with `halo_px` (at most `tile_px`) on either side.

    Scenes whose first pixels lie on one lattice have the same tiles where they overlap, so that a map of one holds for
    the other (`modeling.prediction.kept`). Windows at the ends are smaller; a last tile that is thinner than the halo
    belongs to the one before.
    """
    stops = list(range(tile_px, size, tile_px))
    if stops and size - stops[-1] < halo_px:
        stops.pop()
    return [
        _span(slice(*core), slice(max(0, core[0] - halo_px), min(size, core[1] + halo_px)), size, halo_px)
        for core in pairwise([0, *stops, size])
    ]


def _span(core: slice, window: slice, size: int, halo_px: int) -> Span:
    half, reach = halo_px / 2, ceil(halo_px / 2)
    blend = slice(max(0, core.start - reach), min(size, core.stop + reach))
    centre = np.arange(blend.start, blend.stop) + 0.5
    weight = np.ones(len(centre))
    # At the scene's own edges there is no neighbour to fade into.
    if halo_px and core.start > 0:
        weight = np.minimum(weight, (centre - (core.start - half)) / halo_px)
    if halo_px and core.stop < size:
        weight = np.minimum(weight, (core.stop + half - centre) / halo_px)
    done = slice(blend.start, core.stop - reach if core.stop < size else size)
    return Span(core, window, blend, done, np.clip(weight, 0.0, 1.0).astype(np.float32))


class Seams:
    """The sum of all tiles' contributions: (value, weight, counts) a pixel, of which only the unfinished part is kept."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._right: torch.Tensor | None = None
        self._below: torch.Tensor | None = None
        self._next_below: torch.Tensor | None = None

    @torch.inference_mode()
    def add(
        self, row: Span, column: Span, values: torch.Tensor | None, counts: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add a tile and take what it finishes: the map and where it counts, (y, x) over `row.done` and `column.done`.

        `values` are float32 (y, x) over the tile's `blend`, `counts` bool over its core. None for both adds nothing: a
        tile that is not mapped. Tiles come row by row, from left to right. The map lies in `values`, which are overwritten.
        """
        if column.core.start == 0:  # a new row of tiles
            self._below, self._next_below, self._right = self._next_below, None, None
        top = 0 if self._below is None else self._below.shape[1]
        left = 0 if self._right is None else self._right.shape[2]
        down, across = row.done.stop - row.done.start, column.done.stop - column.done.start
        if values is None or counts is None or top > down or left > across:
            return self._add_whole(row, column, values, counts)
        # Only along its edges does a tile share pixels: what lies within is the map already.
        height, width = row.blend.stop - row.blend.start, column.blend.stop - column.blend.start
        upper, lower = (_planes(row, column, values, counts, rows) for rows in (slice(0, top), slice(down, height)))
        between = slice(top, down)
        west, east = (
            _planes(row, column, values, counts, between, columns) for columns in (slice(0, left), slice(across, width))
        )
        if self._right is not None:
            upper[:, :, :left] += self._right[:, :top]
            west += self._right[:, between]
            lower[:, :, :left] += self._right[:, down:]
        self._right = torch.cat([upper[:, :, across:], east, lower[:, :, across:]], dim=1)
        if self._below is not None:
            upper[:, :, :across] += self._below[:, :, column.done]
        self._keep_below(column, lower[:, :, :across])
        finished = values[:down, :across]
        counted = torch.empty((down, across), dtype=torch.bool, device=values.device)
        finished[:top], counted[:top] = _finished(upper[:, :, :across])
        finished[top:, :left], counted[top:, :left] = _finished(west)
        inner = slice(top, down), slice(left, across)
        own = (within(span.done, span.core) for span in (row, column))
        counted[inner] = counts[
            tuple(slice(o.start + i.start, o.start + i.stop) for o, i in zip(own, inner, strict=True))
        ]
        return finished, counted

    def _add_whole(
        self, row: Span, column: Span, values: torch.Tensor | None, counts: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As `add`, summing every pixel: of tiles that are all edge, or that are not mapped."""
        if values is None or counts is None:
            shape = row.blend.stop - row.blend.start, column.blend.stop - column.blend.start
            total = torch.zeros((3, *shape), device=self._device)
        else:
            total = _planes(row, column, values, counts)
        if self._right is not None:
            total[:, :, : self._right.shape[2]] += self._right
        across = column.done.stop - column.done.start
        self._right, total = total[:, :, across:].clone(), total[:, :, :across]
        if self._below is not None:
            total[:, : self._below.shape[1]] += self._below[:, :, column.done]
        down = row.done.stop - row.done.start
        self._keep_below(column, total[:, down:])
        return _finished(total[:, :down])

    def _keep_below(self, column: Span, rows: torch.Tensor) -> None:
        if rows.shape[1] == 0:
            return
        if self._next_below is None:
            self._next_below = rows.new_zeros((3, rows.shape[1], self._width))
        self._next_below[:, :, column.done] = rows

    @property
    def _device(self) -> torch.device:
        kept = self._right if self._right is not None else self._below
        return torch.device("cpu") if kept is None else kept.device


def _finished(total: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The map and where it counts, from sums (3, y, x)."""
    value, weight, counted = total
    # Rounding of the weights must not carry a probability of one beyond one.
    return (value / weight).clamp_(max=1.0), counted > 0


_ALL = slice(None)


def _planes(
    row: Span, column: Span, values: torch.Tensor, counts: torch.Tensor, rows: slice = _ALL, columns: slice = _ALL
) -> torch.Tensor:
    """(value * weight, weight, counts), (3, y, x), over `rows` and `columns` of the tile's `blend`."""
    weights = [torch.from_numpy(span.weight[part]).to(values.device) for span, part in ((row, rows), (column, columns))]
    total = torch.zeros((3, *(len(each) for each in weights)), device=values.device)
    torch.outer(*weights, out=total[1])
    torch.mul(values[rows, columns], total[1], out=total[0])
    places = []
    for span, part in ((row, rows), (column, columns)):
        start, stop, _ = part.indices(span.blend.stop - span.blend.start)
        core = within(span.core, span.blend)
        places.append((max(start, core.start), min(stop, core.stop), start, core.start))
    if all(first < last for first, last, _, _ in places):
        here, there = (
            tuple(slice(place[0] - place[which], place[1] - place[which]) for place in places) for which in (2, 3)
        )
        total[2][here] = counts[there].to(values.device).float()
    return total


def within(part: slice, whole: slice) -> slice:
    """`part`, counted from the start of `whole`."""
    return slice(part.start - whole.start, part.stop - whole.start)
