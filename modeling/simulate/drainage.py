"""Water runs downhill: D8 flow routing through depressions, drained area, and heights from gradients, in numpy.

Depressions are not filled: the pit of every closed basin is joined straight to the far side of a pass, basins being
linked by a minimum spanning tree of passes (after Cordonnier, Bovy and Braun 2019, Earth Surf. Dynam. 7, 549-562).
Sums along the flow are done by pointer doubling or one sparse triangular solve: no loop visits cells, one visits pits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse import csgraph
from scipy.sparse.linalg import spsolve_triangular

from modeling.errors import DataError
from modeling.simulate.noise import BoolArray, FloatArray

IndexArray = npt.NDArray[np.int64]

_NEIGHBOURS = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0))


@dataclass(frozen=True)
class Drainage:
    """A drainage network: a forest whose roots are the outlets. Cells are flat indices into (y, x)."""

    receiver: IndexArray
    """The cell that each cell drains to; an outlet drains to itself."""
    distance_m: FloatArray
    """Distance to the receiver; zero at outlets."""
    depth: IndexArray
    """Steps to the outlet."""
    breached: int
    """How many pits had to be joined over a pass."""


def route(height: FloatArray, outlet: BoolArray, cell_m: float) -> Drainage:
    """Drain every cell of `height` (y, x), metres, to one of the `outlet` cells (y, x); cells are `cell_m` wide.

    Raises `DataError` when there is no outlet.
    """
    if not outlet.any():
        raise DataError("water needs somewhere to go: mark at least one cell as an outlet")
    cols = height.shape[1]
    receiver, distance = _steepest(height, cell_m)
    here = np.arange(height.size)
    is_outlet = outlet.ravel()
    receiver = np.where(is_outlet, here, receiver)
    pits = np.flatnonzero((receiver == here) & ~is_outlet)
    if pits.size:
        _breach(height, receiver, is_outlet, pits)
        away_y, away_x = here[pits] // cols - receiver[pits] // cols, here[pits] % cols - receiver[pits] % cols
        distance[pits] = cell_m * np.hypot(away_y, away_x)
    distance = np.where(is_outlet, np.float32(0), distance)
    depth = _sum_downstream(receiver, np.where(receiver == here, 0, 1)).astype(np.int64)
    return Drainage(receiver, distance.astype(np.float32), depth, int(pits.size))


def accumulate(network: Drainage, per_cell: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Sum of `per_cell` (flat) over everything that drains through each cell, itself included."""
    size = per_cell.size
    order = np.argsort(-network.depth, kind="stable")
    rank = np.empty(size, dtype=np.int64)
    rank[order] = np.arange(size)
    flows = np.flatnonzero(network.receiver != np.arange(size))
    rows = np.concatenate([np.arange(size), rank[network.receiver[flows]]])
    cols = np.concatenate([np.arange(size), rank[flows]])
    data = np.concatenate([np.ones(size), np.full(flows.size, -1.0)])
    matrix = sparse.csr_matrix((data, (rows, cols)), shape=(size, size))
    return np.asarray(spsolve_triangular(matrix, per_cell[order], lower=True, unit_diagonal=True))[rank]


def climb(network: Drainage, rise: npt.NDArray[np.float64], base: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Heights (flat), metres, when each cell lies `rise` above its receiver and outlets lie at `base`; both flat."""
    root = network.receiver == np.arange(rise.size)
    return _sum_downstream(network.receiver, np.where(root, base, rise), keep_roots=True)


def _sum_downstream(
    receiver: IndexArray, value: npt.NDArray[np.generic], keep_roots: bool = False
) -> npt.NDArray[np.float64]:
    """Sum of `value` along the path to the outlet, whose own value counts (once) only when `keep_roots`."""
    here = np.arange(receiver.size)
    root = receiver == here
    total = value.astype(np.float64)
    roots_value = total[root] if keep_roots else np.zeros(int(root.sum()))
    total[root] = 0.0
    pointer = receiver.copy()
    while True:
        total += total[pointer]
        following = pointer[pointer]
        if np.array_equal(following, pointer):
            break
        pointer = following
    at_root = np.zeros(receiver.size)
    at_root[root] = roots_value
    return np.asarray(total + at_root[pointer])


def _steepest(height: FloatArray, cell_m: float) -> tuple[IndexArray, FloatArray]:
    """(receiver, distance to it in metres), both flat: the steepest of eight ways down, or the cell itself in a pit."""
    rows, cols = height.shape
    padded = np.pad(height, 1, constant_values=np.inf)
    best = np.zeros(height.shape, dtype=np.float32)
    shift = np.zeros(height.shape, dtype=np.int64)
    distance = np.full(height.shape, cell_m, dtype=np.float32)
    for dy, dx in _NEIGHBOURS:
        length = np.float32(cell_m * math.hypot(dy, dx))
        slope = (height - padded[1 + dy : 1 + dy + rows, 1 + dx : 1 + dx + cols]) / length
        better = slope > best
        np.copyto(best, slope, where=better)
        shift[better] = dy * cols + dx
        distance[better] = length
    receiver = np.arange(height.size).reshape(height.shape) + shift
    return receiver.ravel(), distance.ravel()


def _breach(height: FloatArray, receiver: IndexArray, outlet: BoolArray, pits: IndexArray) -> None:
    """Join each pit to the far side of the pass over which its basin drains; changes `receiver` in place."""
    root = receiver.copy()
    while not np.array_equal(root[root], root):
        root = root[root]
    label = np.zeros(height.size, dtype=np.int64)
    label[pits] = np.arange(1, pits.size + 1)
    basin = label[root]  # 0: drains to an outlet already
    inner, outer, level = _passes(height, basin)
    pair = basin[inner] * (pits.size + 1) + basin[outer]
    order = np.lexsort((level, pair))
    first = order[np.concatenate([[True], np.diff(pair[order]) != 0])]
    # csgraph takes a zero weight for a missing edge, so the ranks of the passes stand for their heights.
    weight = np.argsort(np.argsort(level[first], kind="stable"), kind="stable") + 1.0
    shape = (pits.size + 1, pits.size + 1)
    graph = sparse.csr_matrix((weight, (basin[inner[first]], basin[outer[first]])), shape=shape)
    tree = csgraph.minimum_spanning_tree(graph)
    _, parent = csgraph.breadth_first_order(tree, 0, directed=False)
    low = {(int(basin[i]), int(basin[o])): (int(i), int(o)) for i, o in zip(inner[first], outer[first], strict=True)}
    for number, pit in enumerate(pits, start=1):
        into = int(parent[number])
        key = (min(number, into), max(number, into))
        one, other = low[key]
        receiver[pit] = other if basin[one] == number else one


def _passes(height: FloatArray, basin: IndexArray) -> tuple[IndexArray, IndexArray, FloatArray]:
    """Adjacent cells of different basins, the smaller basin number first, and the height of the step between them."""
    rows, cols = height.shape
    index = np.arange(height.size).reshape(rows, cols)
    flat = height.ravel()
    pieces = [
        (index[:, :-1].ravel(), index[:, 1:].ravel()),
        (index[:-1].ravel(), index[1:].ravel()),
        (index[:-1, :-1].ravel(), index[1:, 1:].ravel()),
        (index[:-1, 1:].ravel(), index[1:, :-1].ravel()),
    ]
    one = np.concatenate([p[0] for p in pieces])
    other = np.concatenate([p[1] for p in pieces])
    differs = basin[one] != basin[other]
    one, other = one[differs], other[differs]
    swap = basin[one] > basin[other]
    inner, outer = np.where(swap, other, one), np.where(swap, one, other)
    return inner, outer, np.maximum(flat[inner], flat[outer])
