"""Area, elongation, compactness and clustering of labelled pixels: the same numbers from polygons and from masks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import spatial

DoubleArray = npt.NDArray[np.float64]
IndexArray = npt.NDArray[np.int64]


def shapes(label: npt.NDArray[np.integer], pixel_m: float) -> dict[str, DoubleArray]:
    """Per number 1, 2, … of `label` (y, x): `area` (log10 m2), `elongation` (log10 of length/width), `compactness`.

    Length over width is the square root of the ratio of the second moments, each pixel being a square. Compactness is
    area over that of a circle of the same perimeter, the perimeter of pixels being shortened by pi/4 (as it is on
    average over directions).
    """
    y, x = np.nonzero(label)
    number = label[y, x].astype(np.int64)
    count = int(number.max(initial=0))
    edges = np.zeros(count + 1)
    padded = np.pad(label, 1)
    for axis in (0, 1):
        for shift in (-1, 1):
            beside = np.roll(padded, shift, axis)[1:-1, 1:-1]
            edges += np.bincount(number, (label != beside)[y, x], count + 1)
    return moments(y.astype(np.float64), x.astype(np.float64), number, edges, pixel_m)


def moments(
    y: DoubleArray, x: DoubleArray, number: IndexArray, edges: DoubleArray, pixel_m: float
) -> dict[str, DoubleArray]:
    """As `shapes`, from the pixels' rows, columns and numbers, and the count of outer pixel edges by number."""
    count = len(edges) - 1

    def total(values: DoubleArray | None = None) -> DoubleArray:
        return np.bincount(number, values, count + 1)[1:].astype(np.float64)

    n = np.maximum(total(), 1e-12)
    my, mx = total(y) / n, total(x) / n
    vy, vx = total(y * y) / n - my * my + 1 / 12, total(x * x) / n - mx * mx + 1 / 12
    cross = total(x * y) / n - my * mx
    half, root = 0.5 * (vy + vx), np.sqrt(0.25 * (vy - vx) ** 2 + cross**2)
    perimeter = np.maximum(edges[1:] * math.pi / 4, 1e-12)
    return {
        "area": np.log10(n * pixel_m**2),
        "elongation": 0.5 * np.log10((half + root) / np.maximum(half - root, 1e-9)),
        "compactness": np.minimum(4 * math.pi * n / perimeter**2, 1.5),
    }


def pair_correlation(
    points: DoubleArray, everywhere: DoubleArray, radii_m: Sequence[float], seed: int = 0
) -> DoubleArray:
    """How many times as many pairs lie within each ring of `radii_m` as among points spread evenly.

    `points` (n, 2) in metres; `everywhere` (m, 2): places drawn evenly from the ground that was looked at, which makes up
    for its edges. Rings run from one radius to the next, so there is one number less than radii.
    """
    tree, even = spatial.cKDTree(points), spatial.cKDTree(everywhere)
    found = np.diff(tree.count_neighbors(tree, radii_m)) / (len(points) * (len(points) - 1))
    expected = np.diff(even.count_neighbors(even, radii_m)) / (len(everywhere) * (len(everywhere) - 1))
    return np.asarray(found / np.maximum(expected, 1e-15))
