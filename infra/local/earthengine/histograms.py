"""Histograms of rows of values; counts are sums of weights."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from infra.local.earthengine.reducers import Collect, Rows

MAX_BUCKETS = 256
"""Of a histogram whose buckets are not given."""

Number = int | float


def _plain(weight: float) -> Number:
    """A sum of weights; a whole number when it is one."""
    return int(weight) if float(weight).is_integer() else weight


def frequency_histogram(rows: Rows) -> list[Any]:
    """How often each value occurs; the keys are text, whole numbers without decimals."""
    counts: dict[Any, float] = {}
    for row, weight in rows.weighted():
        if row[0] is not None:
            counts[row[0]] = counts.get(row[0], 0.0) + weight
    return [{_key(k): _plain(v) for k, v in sorted(counts.items(), key=lambda kv: (isinstance(kv[0], str), kv[0]))}]


def _key(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _numbers(rows: Rows) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    pairs = [(r[0], w) for r, w in rows.weighted() if r[0] is not None]
    return np.array([p[0] for p in pairs], "float64"), np.array([p[1] for p in pairs], "float64")


def fixed(low: float, high: float, steps: int, cumulative: bool) -> Collect:
    """[lower bound, count] of `steps` buckets over [low, high); values outside are left out."""

    def collect(rows: Rows) -> list[Any]:
        values, weights = _numbers(rows)
        width = (high - low) / steps
        inside = (values >= low) & (values < high)
        place = np.minimum(((values[inside] - low) / width).astype(int), steps - 1)
        counts = np.bincount(place, weights[inside], steps)
        shown = np.cumsum(counts) if cumulative else counts
        return [[[low + i * width, float(c)] for i, c in enumerate(shown)] if inside.any() else None]

    return collect


def _adaptive(
    values: np.ndarray[Any, Any], max_buckets: int, least: float | None
) -> tuple[float, float, np.ndarray[Any, Any]]:
    """Lower bound, width and bucket of each value: the narrowest width, a power of two (times `least`), that fits."""
    low, high = float(values.min()), float(values.max())
    unit = least or 2.0 ** math.floor(math.log2(max((high - low) / max_buckets, 2.0**-40)))
    # Values on both sides of zero never fit into one bucket.
    while math.floor(high / unit) - math.floor(low / unit) + 1 > max(max_buckets, 2):
        unit *= 2
    first = math.floor(low / unit)
    return first * unit, unit, np.floor(values / unit).astype(int) - first


def adaptive(max_buckets: int | None, min_width: float | None) -> Collect:
    """A dictionary of bucketMin, bucketWidth, histogram and bucketMeans.

    Earth Engine's own choice of buckets is not documented beyond their number and that widths are powers of two times
    `minBucketWidth`; here it is the narrowest width that fits.
    """

    def collect(rows: Rows) -> list[Any]:
        values, weights = _numbers(rows)
        if not values.size:
            return [None]
        low, width, place = _adaptive(values, max_buckets or MAX_BUCKETS, min_width)
        counts = np.bincount(place, weights)
        sums = np.bincount(place, weights * values)
        middles = low + (np.arange(counts.size) + 0.5) * width
        means = np.where(counts > 0, sums / np.where(counts > 0, counts, 1), middles)
        found = {"bucketMeans": means, "histogram": counts}
        return [{"bucketMin": low, "bucketWidth": width, **{k: [float(x) for x in v] for k, v in found.items()}}]

    return collect


def automatic(max_buckets: int | None, min_width: float | None, cumulative: bool) -> Collect:
    """[lower bound, count] of buckets as `adaptive` chooses them."""
    whole = adaptive(max_buckets, min_width)

    def collect(rows: Rows) -> list[Any]:
        found = whole(rows)[0]
        if found is None:
            return [None]
        counts = np.cumsum(found["histogram"]) if cumulative else found["histogram"]
        return [[[found["bucketMin"] + i * found["bucketWidth"], float(c)] for i, c in enumerate(counts)]]

    return collect
