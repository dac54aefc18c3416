"""From windows of any size to the compressed tiles of a raster and of its overviews, while the windows come.

A tile is coded, and halved into its quarter of an overview tile, as soon as all its pixels have come. So what is held is
the tiles that are not complete: with windows that come row by row, one row of tiles a resolution. Threads code; the
caller's thread alone writes to the spool.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from modeling.errors import RasterError
from modeling.rasters.cog_tiles import TILE_PX, Coded, Halving, code

Array = npt.NDArray[Any]
SlicesYX = tuple[slice, slice]
_Place = tuple[int, int]


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass
class Resolution:
    """The tiles of the raster or of one overview: arrays are (tile row, tile column)."""

    shape_yx: tuple[int, int]
    """Height and width in pixels."""
    at: npt.NDArray[np.int64] = field(init=False)
    """Where each tile begins in the spool; -1 as long as it is not there."""
    tile_bytes: npt.NDArray[np.uint64] = field(init=False)
    """Its compressed size."""
    check: npt.NDArray[np.uint32] = field(init=False)
    """CRC-32 of its pixels inside the raster."""
    begun: npt.NDArray[np.bool_] = field(init=False)
    """Whether all its pixels have come."""
    waiting: dict[_Place, _Partial] = field(init=False, default_factory=dict)
    """The tiles of which some have."""

    def __post_init__(self) -> None:
        tiles = tuple(-(-side // TILE_PX) for side in self.shape_yx)
        self.at = np.full(tiles, -1, np.int64)
        self.tile_bytes, self.check = np.zeros(tiles, np.uint64), np.zeros(tiles, np.uint32)
        self.begun = np.zeros(tiles, bool)

    def inside(self, place: _Place) -> tuple[int, int]:
        """How many rows and columns of a tile are inside the raster."""
        height, width = (min(TILE_PX, side - TILE_PX * index) for side, index in zip(self.shape_yx, place, strict=True))
        return height, width


@dataclass
class _Partial:
    """A tile that has not come in full."""

    pixels: Array
    """(band, y, x), nodata where nothing has come."""
    came: npt.NDArray[np.bool_]
    """(y, x) of the part inside the raster."""


class Pyramid:
    """Takes windows, gives tiles to `spool`; `resolutions` tells where they are, full resolution first."""

    def __init__(
        self, shape_yx: tuple[int, int], bands: int, dtype: str, nodata: float | None, halve: Halving, spool: BinaryIO
    ) -> None:
        self.resolutions = [Resolution(shape_yx)]
        while max(self.resolutions[-1].shape_yx) > TILE_PX:
            height, width = self.resolutions[-1].shape_yx
            self.resolutions.append(Resolution((-(-height // 2), -(-width // 2))))
        self._bands, self._dtype, self._nodata = bands, np.dtype(dtype), nodata
        self._halve, self._spool, self._end = halve, spool, 0
        workers = processors()
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="tiles")
        self._room = 2 * workers
        self._coding: deque[tuple[int, _Place, Future[Coded]]] = deque()

    def add(self, where: SlicesYX, values: Array) -> None:
        """Take a window, (band, y, x); raises `RasterError` for a pixel that came before."""
        self._put(0, where, values)

    def finish(self) -> None:
        """Take what never came as unknown, and wait until all tiles are in the spool."""
        blank = np.full((self._bands, TILE_PX, TILE_PX), 0 if self._nodata is None else self._nodata, self._dtype)
        for level, resolution in enumerate(self.resolutions):
            self._drain(0)
            for place, partial in list(resolution.waiting.items()):
                del resolution.waiting[place]
                self._code(level, place, partial.pixels)
            for row, column in np.argwhere(~resolution.begun):
                self._code(level, (int(row), int(column)), blank)
        self._drain(0)

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown(cancel_futures=True)
        self._coding.clear()

    def _put(self, level: int, where: SlicesYX, values: Array) -> None:
        resolution = self.resolutions[level]
        for place, in_tile, in_window in _cut(where):
            if resolution.begun[place]:
                raise RasterError(f"tile {place} was given pixels again after all of it had come")
            part = values[:, *in_window]
            height, width = resolution.inside(place)
            if part.shape[1:] == (height, width):
                if place in resolution.waiting:
                    raise RasterError(f"tile {place} was given pixels twice")
                tile = part.copy() if height == width == TILE_PX else self._padded(part)
                self._code(level, place, tile)
                continue
            partial = resolution.waiting.get(place)
            if partial is None:
                partial = _Partial(self._padded(values[:, :0, :0]), np.zeros((height, width), bool))
                resolution.waiting[place] = partial
            if partial.came[in_tile].any():
                raise RasterError(f"tile {place} was given pixels twice")
            partial.pixels[:, *in_tile] = part
            partial.came[in_tile] = True
            if partial.came.all():
                del resolution.waiting[place]
                self._code(level, place, partial.pixels)

    def _padded(self, part: Array) -> Array:
        tile = np.full((self._bands, TILE_PX, TILE_PX), 0 if self._nodata is None else self._nodata, self._dtype)
        tile[:, : part.shape[1], : part.shape[2]] = part
        return tile

    def _code(self, level: int, place: _Place, tile: Array) -> None:
        resolution = self.resolutions[level]
        resolution.begun[place] = True
        halve = self._halve if level + 1 < len(self.resolutions) else None
        job = self._pool.submit(code, tile, resolution.inside(place), self._nodata, halve)
        self._coding.append((level, place, job))
        self._drain(self._room)

    def _drain(self, room: int) -> None:
        while len(self._coding) > room:
            level, place, job = self._coding.popleft()
            coded = job.result()
            resolution = self.resolutions[level]
            self._spool.write(coded.data)
            resolution.at[place], resolution.tile_bytes[place] = self._end, len(coded.data)
            resolution.check[place] = coded.check
            self._end += len(coded.data)
            if coded.half is not None:
                top, left = (index * TILE_PX // 2 for index in place)
                height, width = coded.half.shape[1:]
                self._put(level + 1, (slice(top, top + height), slice(left, left + width)), coded.half)


def _cut(where: SlicesYX) -> Iterator[tuple[_Place, SlicesYX, SlicesYX]]:
    """The tiles that a window meets: place, the part of the tile, the part of the window."""
    rows, columns = where
    for row, y_tile, y_window in _cut_axis(rows):
        for column, x_tile, x_window in _cut_axis(columns):
            yield (row, column), (y_tile, x_tile), (y_window, x_window)


def _cut_axis(along: slice) -> Iterator[tuple[int, slice, slice]]:
    for index in range(along.start // TILE_PX, -(-along.stop // TILE_PX)):
        start, stop = max(along.start, index * TILE_PX), min(along.stop, (index + 1) * TILE_PX)
        yield (
            index,
            slice(start - index * TILE_PX, stop - index * TILE_PX),
            slice(start - along.start, stop - along.start),
        )
