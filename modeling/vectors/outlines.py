"""Outlines of bodies along their pixel edges, exact and valid, from their runs alone and without a loop over pixels.

The ends of runs are vertical pixel edges; those that continue each other down a column are one side of the outline.
Sides end in corners, and the corners of a line of the raster are joined in pairs from left to right: corner by corner
that gives the horizontal sides, and with them the rings. Where two pixels touch at a corner only, two corners coincide.
Pixels of two bodies are kept apart there; of one body, the ring is cut there instead, so that no ring meets itself and
every polygon is valid: holes may touch each other, or the outside, in a point.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from affine import Affine

from modeling.vectors.runs import Index, Runs, counted_from, offsets

Polygons = npt.NDArray[np.object_]


@dataclass(frozen=True)
class _Sides:
    """Vertical sides; arrays are (side,). The body lies to the left of who walks along: down on its left side."""

    x: Index
    top: Index
    bottom: Index
    down: npt.NDArray[np.bool_]
    body: Index


def outlines(runs: Runs, body: Index, transform: Affine) -> Polygons:
    """The polygon of every body: index i holds that of the runs whose `body` is i; each from 0 on has some.

    Runs are in the order of rows and columns, no two of them touch, and those that share a pixel edge are of one body,
    which is connected over pixel edges. `transform` takes columns and rows to the polygons' coordinates. Outer rings run
    counterclockwise on a north-up map, holes clockwise; a body's polygon does not depend on what else is there.
    """
    if not len(runs):
        return np.empty(0, object)
    sides = _sides(runs, body)
    order, first = _rings(_following(sides))
    ring_sides = np.diff(np.append(first, len(order)))
    ring_body = sides.body[order[first]]
    length = np.where(sides.down, -1, 1) * sides.x * (sides.bottom - sides.top)
    hole = np.add.reduceat(length[order], first) < 0
    sequence = np.lexsort((hole, ring_body))
    count = ring_sides[sequence]
    order = order[counted_from(first[sequence], count)]
    polygons: Polygons = shapely.from_ragged_array(
        shapely.GeometryType.POLYGON,
        _coordinates(sides, order, count, transform),
        (offsets(2 * count + 1), offsets(np.bincount(ring_body))),
    )
    return polygons


def _sides(runs: Runs, body: Index) -> _Sides:
    rows = int(runs.row.max()) + 2
    x = np.concatenate([runs.start, runs.stop])
    down = np.repeat([True, False], len(runs))
    # Left ends before right ones, by column, by row: in this order the edges of a side follow each other.
    key = (np.where(down, 0, int(runs.stop.max()) + 1) + x) * rows + np.tile(runs.row, 2)
    order = np.argsort(key)
    key = key[order]
    begins = np.flatnonzero(np.append(True, key[1:] != key[:-1] + 1))
    edge = order[begins]
    top = np.tile(runs.row, 2)[edge]
    return _Sides(x[edge], top, top + np.diff(np.append(begins, len(key))), down[edge], np.tile(body, 2)[edge])


def _following(sides: _Sides) -> Index:
    """The side that follows on each side along its ring."""
    number = len(sides.x)
    y, x = np.concatenate([sides.bottom, sides.top]), np.tile(sides.x, 2)
    # Where two corners coincide, the one that ends the upper side comes first.
    corners = np.argsort((y * (int(sides.x.max()) + 1) + x) * 2 + np.repeat([0, 1], number))
    y, x = y[corners], x[corners]
    upper = np.flatnonzero((y[1:] == y[:-1]) & (x[1:] == x[:-1]))
    above, below = corners[upper] % number, corners[upper + 1] % number
    # The first of the two goes on to the left, the second to the right. A right end above has its pixel to the left.
    swapped = sides.down[above] ^ (sides.body[above] == sides.body[below])
    upper = upper[swapped]
    corners[upper], corners[upper + 1] = corners[upper + 1], corners[upper]
    left, right = corners[::2], corners[1::2]
    is_end = sides.down[left % number] == (left < number)
    following = np.empty(number, np.int64)
    following[np.where(is_end, left, right) % number] = np.where(is_end, right, left) % number
    return following


def _rings(following: Index) -> tuple[Index, Index]:
    """All sides ring by ring, and where each ring begins among them: with its first side in the order of sides."""
    step = following.tolist()
    seen = bytearray(len(step))
    order: list[int] = []
    first: list[int] = []
    for start in range(len(step)):
        if seen[start]:
            continue
        first.append(len(order))
        side = start
        while not seen[side]:
            seen[side] = 1
            order.append(side)
            side = step[side]
    return np.array(order, np.int64), np.array(first, np.int64)


def _coordinates(sides: _Sides, order: Index, count: Index, transform: Affine) -> npt.NDArray[Any]:
    """Corners (corner, 2) ring by ring, each ring closed: `order` are its sides, `count` their number in each."""
    down = sides.down[order]
    begin, end = (
        np.where(down, sides.top[order], sides.bottom[order]),
        np.where(down, sides.bottom[order], sides.top[order]),
    )
    ring = np.repeat(np.arange(len(count)), count)
    at = 2 * np.arange(len(order)) + ring
    columns, rows = (np.empty(2 * len(order) + len(count)) for _ in range(2))
    columns[at] = columns[at + 1] = sides.x[order]
    rows[at], rows[at + 1] = begin, end
    starts = offsets(2 * count + 1)
    columns[starts[1:] - 1], rows[starts[1:] - 1] = columns[starts[:-1]], rows[starts[:-1]]
    a, b, c, d, e, f = transform[:6]
    return np.column_stack([a * columns + b * rows + c, d * columns + e * rows + f])
