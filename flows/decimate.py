"""Small views of large rasters, for pictures: memory is bounded by one tile and the picture, never by the scene."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from geopandas import GeoDataFrame
from rasterio.enums import Resampling
from rasterio.windows import Window as PixelWindow

from gee.types import Grid, Observed

FloatArray = npt.NDArray[np.float32]
SlicesYX = tuple[slice, slice]
LayerReader = Callable[[SlicesYX], Mapping[str, FloatArray]]
"""Gives the layers of a window, each (y, x) in physical units and NaN where unknown."""
Bounds = tuple[float, float, float, float]
"""left, bottom, right, top in the units of a CRS."""

_LOOKED_PX = 512
"""Side of the view in which the area is looked for; what is thinner than one of its pixels may lie in the margin."""
READ_PX = 512
"""Side of the windows that are read at a time: the side of a chunk, so that none is read twice."""


@dataclass(frozen=True)
class Raster:
    """A small array and where it lies."""

    data: npt.NDArray[Any]
    """(y, x), or (band, y, x)."""
    bounds: Bounds
    """left, bottom, right, top of the array's outer edges."""


def whole(grid: Grid) -> SlicesYX:
    """The window that is all of `grid`."""
    return slice(0, grid.shape_yx[0]), slice(0, grid.shape_yx[1])


def area_window(observed: Path, grid: Grid, margin: float = 0.04) -> SlicesYX:
    """The window of `grid` around what is not outside the area in a GeoTIFF of codes, with a margin of its longer side.

    A grid of whole tiles reaches far beyond the area. All of `grid` when nothing is inside.
    """
    codes = decimate_tif(observed, window_bounds(grid, whole(grid)), _LOOKED_PX, codes=True).data
    inside = (codes != Observed.OUTSIDE).any(axis=0)
    if not inside.any():
        return whole(grid)
    edges = []
    for axis, size in enumerate(grid.shape_yx):
        (found,) = np.nonzero(inside.any(axis=1 - axis))
        step = size / inside.shape[axis]
        edges.append((found[0] * step, (found[-1] + 1) * step))
    room = margin * max(stop - start for start, stop in edges)
    rows, columns = (
        slice(max(0, int(start - room)), min(size, round(stop + room)))
        for (start, stop), size in zip(edges, grid.shape_yx, strict=True)
    )
    return rows, columns


def decimation(window: SlicesYX, max_px: int) -> int:
    """The smallest power of two that brings both sides of `window` to `max_px` pixels or fewer."""
    side = max(part.stop - part.start for part in window)
    factor = 1
    while side > max_px * factor:
        factor *= 2
    return factor


def decimate_layers(read: LayerReader, grid: Grid, names: Sequence[str], window: SlicesYX, max_px: int) -> Raster:
    """Block means of the layers `names` (band, y, x) over `window`, NaN where a whole block is unknown.

    Blocks at the right and bottom edge reach beyond the window; what is not there does not count.
    """
    factor = decimation(window, max_px)
    rows, columns = window
    shape = tuple(-(-(part.stop - part.start) // factor) for part in window)
    out = np.full((len(names), *shape), np.nan, dtype=np.float32)
    step = max(READ_PX // factor, 1) * factor
    for y in range(rows.start, rows.stop, step):
        for x in range(columns.start, columns.stop, step):
            part = slice(y, min(y + step, rows.stop)), slice(x, min(x + step, columns.stop))
            layers = read(part)
            means = np.stack([block_mean(layers[name], factor) for name in names])
            top, left = (y - rows.start) // factor, (x - columns.start) // factor
            out[:, top : top + means.shape[1], left : left + means.shape[2]] = means
    return Raster(out, _bounds(grid, rows.start, columns.start, (shape[0] * factor, shape[1] * factor)))


def block_mean(values: FloatArray, factor: int) -> FloatArray:
    """Means over blocks of `factor` x `factor` pixels of (y, x), ignoring NaN; NaN where a block has nothing else."""
    if factor == 1:
        return values.astype(np.float32, copy=False)
    pad = [(0, -size % factor) for size in values.shape]
    padded = np.pad(values.astype(np.float32, copy=False), pad, constant_values=np.nan)
    blocks = padded.reshape(padded.shape[0] // factor, factor, padded.shape[1] // factor, factor)
    known = np.isfinite(blocks)
    count = known.sum(axis=(1, 3))
    total = np.where(known, blocks, 0).sum(axis=(1, 3))
    means = np.full(total.shape, np.nan, dtype=np.float32)
    np.divide(total, count, out=means, where=count > 0)
    return means


def decimate_tif(path: Path, bounds: Bounds, max_px: int, *, codes: bool = False) -> Raster:
    """All bands (band, y, x) of a GeoTIFF over the part of `bounds` that it covers, at most `max_px` a side.

    Overviews are used where there are any. Values are averaged, `codes` are picked. Masked floats become NaN.
    """
    with rasterio.open(path, driver="GTiff") as source:
        grid = Grid("", tuple(source.transform)[:6], (source.height, source.width))
        rows, columns = _covered(grid, bounds)
        height, width = rows.stop - rows.start, columns.stop - columns.start
        scale = max(width, height, max_px) / max_px
        shape = (source.count, max(round(height / scale), 1), max(round(width / scale), 1))
        how = Resampling.nearest if codes else Resampling.average
        window = PixelWindow.from_slices(rows, columns)
        data = source.read(window=window, out_shape=shape, resampling=how, masked=not codes)
    if not codes:
        data = data.astype(np.float32).filled(np.nan)
    return Raster(data, window_bounds(grid, (rows, columns)))


def count_codes(path: Path, combine: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.uint8]]) -> dict[int, int]:
    """How many pixels of a GeoTIFF of codes have each value of `combine(bands)`, read block by block."""
    total = np.zeros(256, dtype=np.int64)
    with rasterio.open(path, driver="GTiff") as source:
        for _, window in source.block_windows(1):
            total += np.bincount(combine(source.read(window=window)).ravel(), minlength=256)
    return {code: int(count) for code, count in enumerate(total) if count}


def busiest_window(grid: Grid, landslides: GeoDataFrame, side_px: int) -> SlicesYX | None:
    """The window of `side_px` pixels around the most landslide area; None without landslides.

    Found on a mosaic of half windows: the best block of 2 x 2 halves, so that no cluster is cut by the mosaic.
    """
    if landslides.empty:
        return None
    half = max(side_px // 2, 1)
    polygons = landslides.geometry.to_crs(grid.crs)
    points = polygons.representative_point()
    a, _, c, _, e, f = grid.transform
    columns, rows = (points.x.to_numpy() - c) / a, (points.y.to_numpy() - f) / e
    cells = [-(-size // half) + 1 for size in grid.shape_yx]
    index = np.clip(rows // half, 0, cells[0] - 1), np.clip(columns // half, 0, cells[1] - 1)
    weight = np.zeros(cells)
    np.add.at(weight, (index[0].astype(int), index[1].astype(int)), polygons.area.to_numpy())
    blocks = weight[:-1, :-1] + weight[1:, :-1] + weight[:-1, 1:] + weight[1:, 1:]
    row, column = np.unravel_index(int(blocks.argmax()), blocks.shape)
    y, x = _span(int(row) * half, side_px, grid.shape_yx[0]), _span(int(column) * half, side_px, grid.shape_yx[1])
    return y, x


def window_bounds(grid: Grid, window: SlicesYX) -> Bounds:
    """The outer edges of a window of `grid`."""
    rows, columns = window
    return _bounds(grid, rows.start, columns.start, (rows.stop - rows.start, columns.stop - columns.start))


def _covered(grid: Grid, bounds: Bounds) -> SlicesYX:
    """The pixels of `grid` that touch `bounds`, to the nearest pixel; at least one."""
    a, _, c, _, e, f = grid.transform
    left, bottom, right, top = bounds
    height, width = grid.shape_yx
    x0, y0 = (min(max(round(value), 0), size - 1) for value, size in (((left - c) / a, width), ((top - f) / e, height)))
    x1, y1 = max(min(round((right - c) / a), width), x0 + 1), max(min(round((bottom - f) / e), height), y0 + 1)
    return slice(y0, y1), slice(x0, x1)


def _span(start: int, length: int, size: int) -> slice:
    start = max(min(start, size - length), 0)
    return slice(start, min(start + length, size))


def _bounds(grid: Grid, row: int, column: int, shape_yx: tuple[int, int]) -> Bounds:
    a, _, c, _, e, f = grid.transform
    return c + a * column, f + e * (row + shape_yx[0]), c + a * (column + shape_yx[1]), f + e * row
