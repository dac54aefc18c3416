"""Scene-sized prediction: overlapping tiles stream through a network and are blended into one seamless map.

A tile has a *core* (the cores cut the scene into pieces), and is read with a halo around it. The outer half of the
halo only gives the network context and is thrown away; across the inner half and as much of the core, two neighbours
fade into each other with weights that add up to one. So a network that looks no further than half the halo gives
exactly what it would give for the whole scene at once, and one that does (pooling over the tile) changes gradually
from tile to tile.

Memory is bounded by two rows of tiles, whatever the height of the scene.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from math import ceil
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from modeling.bands import BandSet, FloatArray, assemble, band_set
from modeling.errors import ModelingError

BoolArray = npt.NDArray[np.bool_]
SlicesYX = tuple[slice, slice]
Layers = Mapping[str, FloatArray]
TileReader = Callable[[SlicesYX], tuple[Layers, BoolArray]]
"""Gives the layers of a window, each (y, x) in physical units, and its valid pixels (y, x)."""
TileWriter = Callable[[SlicesYX, FloatArray], None]
"""Takes a finished window of the map, (y, x)."""


class ProbabilityModel(Protocol):
    """What prediction asks of a model."""

    @property
    def band_set(self) -> BandSet | str:
        """The channels that `probability` takes, or the name of their set."""
        ...

    def probability(self, channels: torch.Tensor, /) -> torch.Tensor:
        """Probability (batch, y, x) in [0, 1] of (batch, channel, y, x) physical values, NaN where unknown."""
        ...


@dataclass(frozen=True)
class Span:
    """One tile along one axis, in pixels of the scene."""

    core: slice
    """The part that belongs to this tile alone."""
    window: slice
    """The part that is read: the core and its halo, within the scene."""
    blend: slice
    """The part that this tile contributes to."""
    weight: FloatArray
    """The share of this tile in each pixel of `blend`, (n,)."""


def spans(size: int, tile_px: int, halo_px: int) -> list[Span]:
    """Cut an axis of `size` pixels into tiles of `tile_px` (the last may be shorter) with `halo_px` on either side."""
    return [_span(start, min(start + tile_px, size), size, halo_px) for start in range(0, size, tile_px)]


def _span(start: int, stop: int, size: int, halo_px: int) -> Span:
    reach = halo_px / 2
    blend = slice(max(0, start - ceil(reach)), min(size, stop + ceil(reach)))
    centre = np.arange(blend.start, blend.stop) + 0.5
    weight = np.ones(len(centre))
    # At the scene's own edges there is no neighbour to fade into.
    if halo_px and start > 0:
        weight = np.minimum(weight, (centre - (start - reach)) / halo_px)
    if halo_px and stop < size:
        weight = np.minimum(weight, (stop + reach - centre) / halo_px)
    window = slice(max(0, start - halo_px), min(size, stop + halo_px))
    return Span(slice(start, stop), window, blend, np.clip(weight, 0.0, 1.0).astype(np.float32))


def predict_tiles(
    model: ProbabilityModel,
    read: TileReader,
    shape_yx: tuple[int, int],
    write: TileWriter,
    *,
    tile_px: int = 512,
    halo_px: int = 32,
    wanted: Callable[[SlicesYX], bool] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Map a scene of `shape_yx` pixels: float32 probability in [0, 1], NaN where a pixel is not valid.

    `read` is called from one other thread, one window at a time, so that the next tile is read while the network
    works. `write` gets rows of tiles from top to bottom over the full width, every pixel once. A tile whose core
    `wanted` refuses is not read and is NaN; one without a valid pixel is read but never sent to the network.
    `progress(done, total)` counts tiles. Raises `ModelingError` for impossible sizes and for a network that gives NaN
    or another shape.
    """
    if min(shape_yx) < 1 or tile_px < 1 or halo_px < 0:
        raise ModelingError(f"cannot tile {shape_yx} pixels by {tile_px} with a halo of {halo_px}")
    rows, columns = (spans(size, tile_px, halo_px) for size in shape_yx)
    channels = model.band_set if isinstance(model.band_set, BandSet) else band_set(model.band_set)
    strip = _Strip(shape_yx[1])
    waiting = [row.core for row in rows]
    for done, (tile, content) in enumerate(_read_ahead(_tiles(rows, columns), read, wanted), start=1):
        if content is not None:
            _map_tile(model, channels, tile, content, strip)
        if progress is not None:
            progress(done, len(rows) * len(columns))
        row_index, column_index = divmod(done, len(columns))
        if column_index == 0:
            untouched_from = rows[row_index].blend.start if row_index < len(rows) else shape_yx[0]
            while waiting and waiting[0].stop <= untouched_from:
                core = waiting.pop(0)
                write((core, slice(0, shape_yx[1])), strip.take(core.stop))


_Tile = tuple[Span, Span]


def _tiles(rows: Sequence[Span], columns: Sequence[Span]) -> Iterator[_Tile]:
    return ((row, column) for row in rows for column in columns)


def _read_ahead(
    tiles: Iterator[_Tile], read: TileReader, wanted: Callable[[SlicesYX], bool] | None
) -> Iterator[tuple[_Tile, tuple[Layers, BoolArray] | None]]:
    """Every tile with what was read for it (None when not wanted), reading one tile ahead of the consumer."""
    with ThreadPoolExecutor(1, thread_name_prefix="tile-reader") as thread:

        def start(tile: _Tile) -> tuple[_Tile, Future[tuple[Layers, BoolArray]] | None]:
            row, column = tile
            if wanted is not None and not wanted((row.core, column.core)):
                return tile, None
            return tile, thread.submit(read, (row.window, column.window))

        begun = (start(tile) for tile in tiles)
        current = next(begun, None)
        while current is not None:
            following = next(begun, None)
            tile, future = current
            yield tile, None if future is None else future.result()
            current = following


def _map_tile(
    model: ProbabilityModel, channels: BandSet, tile: _Tile, content: tuple[Layers, BoolArray], strip: _Strip
) -> None:
    """Send one tile through the network and add it to the strip."""
    (row, column), (layers, valid) = tile, content
    blend = _within(row.blend, row.window), _within(column.blend, column.window)
    if not valid[blend].any():
        return
    probability = _probability(model, assemble(channels, layers))
    if np.isnan(probability[blend][valid[blend]]).any():
        raise ModelingError(
            f"the network gave NaN for valid pixels of rows {row.core.start}-{row.core.stop}, columns "
            f"{column.core.start}-{column.core.stop}: its weights or the layers there are damaged"
        )
    strip.add(row.blend, column.blend, probability[blend], row.weight[:, np.newaxis] * column.weight)
    strip.mark(row.core, column.core, valid[_within(row.core, row.window), _within(column.core, column.window)])


def _probability(model: ProbabilityModel, channels: FloatArray) -> FloatArray:
    """(channel, y, x) to (y, x)."""
    with torch.inference_mode():
        batch = torch.from_numpy(channels).unsqueeze(0).contiguous(memory_format=torch.channels_last)
        result: FloatArray = model.probability(batch).float().cpu().numpy()
    if result.shape != (1, *channels.shape[1:]):
        raise ModelingError(f"the network gave shape {result.shape} for an input of {tuple(batch.shape)}")
    probability: FloatArray = result[0]
    return probability


def _within(part: slice, whole: slice) -> slice:
    return slice(part.start - whole.start, part.stop - whole.start)


class _Strip:
    """The rows of the map that are still being added to, over the full width."""

    def __init__(self, width: int) -> None:
        self._top = 0
        self._total = np.zeros((0, width), np.float32)
        self._weight = np.zeros((0, width), np.float32)
        self._valid = np.zeros((0, width), np.bool_)

    def add(self, rows: slice, columns: slice, values: FloatArray, weight: FloatArray) -> None:
        """Add `values` (y, x) with `weight` (y, x); NaN at pixels that are not valid counts as nothing."""
        self._reach(rows.stop)
        where = _within(rows, slice(self._top, None)), columns
        known = np.nan_to_num(values, nan=0.0)
        known *= weight
        self._total[where] += known
        self._weight[where] += weight

    def mark(self, rows: slice, columns: slice, valid: BoolArray) -> None:
        """Say which pixels get a value."""
        self._valid[_within(rows, slice(self._top, None)), columns] = valid

    def take(self, stop: int) -> FloatArray:
        """Remove and return the rows above `stop`, finished: (y, x), NaN where no pixel was marked valid."""
        self._reach(stop)
        count = stop - self._top
        total, weight, valid = self._total[:count], self._weight[:count], self._valid[:count]
        finished = np.full(total.shape, np.nan, np.float32)
        # Rounding of the weights must not carry a probability of one beyond one.
        np.divide(total, weight, out=finished, where=valid)
        np.minimum(finished, 1.0, out=finished)
        self._top = stop
        # Copies, because a view would keep the rows above it alive.
        self._total, self._weight = self._total[count:].copy(), self._weight[count:].copy()
        self._valid = self._valid[count:].copy()
        return finished

    def _reach(self, stop: int) -> None:
        """Make room for the rows above `stop`."""
        if (missing := stop - self._top - len(self._total)) > 0:
            self._total, self._weight, self._valid = (
                np.concatenate([kept, np.zeros((missing, kept.shape[1]), kept.dtype)])
                for kept in (self._total, self._weight, self._valid)
            )
