"""The pixels of polygons, as runs: the way back from `modeling.vectors.outlines`, for any polygons, all of them at once.

A pixel is inside when its centre is. Each line of the raster is cut by the polygons' edges along its centres; between
the first and the second cut of a polygon, the third and the fourth, and so on, is inside (even-odd rule), which leaves
holes out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from affine import Affine

from modeling.vectors.runs import Index, Runs, counted_from

Array = npt.NDArray[Any]
_Doubles = npt.NDArray[np.float64]


def polygon_runs(polygons: Sequence[Any] | Array, shape_yx: tuple[int, int], transform: Affine) -> tuple[Runs, Index]:
    """The runs of the pixels of each polygon inside a raster of `shape_yx`, and the index of the polygon of each run.

    They are ordered by polygon, row and column, so not by row alone. Polygons and multipolygons may overlap: each has its
    own runs. `transform` takes columns and rows to the polygons' coordinates; other geometries, empty and missing ones
    have no runs.
    """
    x, y, ring, owner = _corners(np.asarray(polygons, object), ~transform)
    height, width = shape_yx
    # Half-open, so that a corner on a line of centres counts for one of its two edges.
    line = _centre_from(y, height)
    edge = np.flatnonzero((line[1:] != line[:-1]) & (ring[1:] == ring[:-1]))
    first, behind = np.minimum(line[edge], line[edge + 1]), np.maximum(line[edge], line[edge + 1])
    row = counted_from(first, behind - first)
    edge = np.repeat(edge, behind - first)
    slope = (x[1:] - x[:-1])[edge] / (y[1:] - y[:-1])[edge]
    cut = _centre_from(x[edge] + (row + 0.5 - y[edge]) * slope, width)
    # One number a cut, in the order of polygons, rows and columns.
    cuts = np.sort((owner[ring[edge]] * height + row) * (width + 1) + cut)
    line, column = np.divmod(cuts, width + 1)
    left, right = column[::2], column[1::2]
    kept = right > left
    whose, row = np.divmod(line[::2][kept], height)
    return Runs(row, left[kept], right[kept]), whose


def burn(polygons: Sequence[Any] | Array, shape_yx: tuple[int, int], transform: Affine) -> npt.NDArray[np.bool_]:
    """Which pixels (y, x) are inside any polygon."""
    mask = np.zeros(shape_yx, bool)
    mask.reshape(-1)[polygon_runs(polygons, shape_yx, transform)[0].flat(shape_yx[1])] = True
    return mask


def _corners(polygons: Array, to_pixels: Affine) -> tuple[_Doubles, _Doubles, Index, Index]:
    """Column, row and ring of every corner, ring by ring, and the polygon of every ring."""
    parts, owner = shapely.get_parts(polygons, return_index=True)
    rings, part = shapely.get_rings(parts, return_index=True)
    points, ring = shapely.get_coordinates(rings, return_index=True)
    across, along = np.ascontiguousarray(points.T)
    a, b, c, d, e, f = to_pixels[:6]
    return a * across + b * along + c, d * across + e * along + f, ring, owner[part].astype(np.int64)


def _centre_from(at: _Doubles, size: int) -> Index:
    """Index of the first of `size` pixels whose centre lies at `at` or behind it; `size` when none does."""
    return np.clip(np.ceil(at - 0.5), 0, size).astype(np.int64)
