"""What reducers compute: functions of stacks of values, without and with weights.

The first axis is what is reduced. Without weights a mask (n, ...) says which values are valid; with weights, float
(n, ...), those above 0 are.
"""

from __future__ import annotations

import numpy as np
from scipy import special

from infra.local.earthengine.grid import Array
from infra.local.earthengine.reducers import Compute, Outputs


def _empty(mask: Array) -> bool:
    return bool(mask.shape[0] == 0)


def _nothing(mask: Array, count: int = 1) -> Outputs:
    return [(np.zeros(mask.shape[1:]), np.zeros(mask.shape[1:], bool))] * count


def median(values: list[Array], mask: Array) -> Outputs:
    """The middle value, or the mean of the two middle ones."""
    return percentiles([50.0])(values, mask)


def percentiles(wanted: list[float]) -> Compute:
    """Percentiles by linear interpolation between the sorted values; 50 is the median."""

    def compute(values: list[Array], mask: Array) -> Outputs:
        if _empty(mask):
            return _nothing(mask, len(wanted))
        x = values[0]
        work = x if x.dtype == np.float32 else x.astype("float64")
        ordered = np.sort(np.where(mask, work, np.inf), axis=0)
        count = mask.sum(axis=0)
        valid = count > 0
        outputs = []
        for percent in wanted:
            place = (np.maximum(count, 1) - 1) * (percent / 100.0)
            low = np.floor(place).astype(np.int64)
            high = np.ceil(place).astype(np.int64)
            a = np.take_along_axis(ordered, low[None], axis=0)[0]
            b = np.take_along_axis(ordered, high[None], axis=0)[0]
            both = a + (b - a) * (place - low).astype(a.dtype)
            outputs.append((np.where(valid, np.where(low == high, a, both), 0), valid))
        return outputs

    return compute


def mean(values: list[Array], mask: Array) -> Outputs:
    """Sum over count."""
    count = mask.sum(axis=0)
    summed = np.where(mask, values[0], 0).sum(axis=0, dtype="float64")
    return [(summed / np.maximum(count, 1), count > 0)]


def total(values: list[Array], mask: Array) -> Outputs:
    """Sum; 0 of nothing for numbers, masked for pixels where nothing is valid."""
    if mask.ndim == 1:
        return [(np.where(mask, values[0], 0).sum(axis=0, dtype=_sum_dtype(values[0])), np.asarray(True))]
    return [(np.where(mask, values[0], 0).sum(axis=0, dtype="float64"), mask.any(axis=0))]


def _sum_dtype(values: Array) -> str:
    return "int64" if values.dtype.kind in "iub" and values.size else "float64"


def product(values: list[Array], mask: Array) -> Outputs:
    """Product."""
    return [(np.where(mask, values[0], 1).prod(axis=0, dtype="float64"), mask.any(axis=0))]


def number_valid(values: list[Array], mask: Array) -> Outputs:
    """How many are valid; 0 and valid where none is."""
    count = mask.sum(axis=0)
    return [(count, np.ones(count.shape, bool))]


def extreme(largest: bool) -> Compute:
    """The smallest or largest of the first input, and the other inputs where that is."""

    def compute(values: list[Array], mask: Array) -> Outputs:
        if _empty(mask):
            return _nothing(mask, len(values))
        first = values[0]
        wide = first if first.dtype.kind == "f" else first.astype("float64")
        at = (
            np.argmax(np.where(mask, wide, -np.inf), axis=0)
            if largest
            else np.argmin(np.where(mask, wide, np.inf), axis=0)
        )
        valid = mask.any(axis=0)
        return [(np.take_along_axis(v, at[None], axis=0)[0], valid) for v in values]

    return compute


def chosen(last: bool, null: bool = False) -> Compute:
    """The first or last valid value; with `null` the first or last of all, valid or not."""

    def compute(values: list[Array], mask: Array) -> Outputs:
        if _empty(mask):
            return _nothing(mask)
        if null:
            return [(values[0][-1 if last else 0], mask[-1 if last else 0])]
        order = mask[::-1] if last else mask
        at = np.argmax(order, axis=0)
        at = mask.shape[0] - 1 - at if last else at
        return [(np.take_along_axis(values[0], at[None], axis=0)[0], mask.any(axis=0))]

    return compute


def spread(root: bool, sample: bool) -> Compute:
    """Variance or standard deviation, of the population or of a sample."""

    def compute(values: list[Array], mask: Array) -> Outputs:
        (average, _valid), *_ = mean(values, mask)
        count = mask.sum(axis=0)
        divisor = count - 1 if sample else count
        squares = (np.where(mask, values[0] - average, 0.0) ** 2).sum(axis=0)
        variance = squares / np.maximum(divisor, 1)
        return [(np.sqrt(variance) if root else variance, divisor > 0)]

    return compute


def mode(values: list[Array], mask: Array) -> Outputs:
    """The most frequent value, the smallest of those that are equally frequent."""
    if _empty(mask):
        return _nothing(mask)
    x = values[0]
    best, best_count = np.zeros(x.shape[1:], x.dtype), np.zeros(x.shape[1:], np.int64)
    for candidate in x:
        count = (mask & (x == candidate)).sum(axis=0)
        better = (count > best_count) | ((count == best_count) & (candidate < best) & (count > 0))
        best, best_count = np.where(better, candidate, best), np.where(better, count, best_count)
    return [(best, best_count > 0)]


def truth(every: bool) -> Compute:
    """1 when all, or any, of the valid values are not zero."""

    def compute(values: list[Array], mask: Array) -> Outputs:
        found = (np.where(mask, values[0] != 0, True).all(axis=0)) if every else (mask & (values[0] != 0)).any(axis=0)
        return [(found.astype("uint8"), mask.any(axis=0))]

    return compute


def min_max(values: list[Array], mask: Array) -> Outputs:
    """The smallest and the largest value."""
    return [*extreme(False)(values, mask), *extreme(True)(values, mask)]


def weighted_mean(values: list[Array], weights: Array) -> Outputs:
    """Weighted sum over the sum of weights."""
    whole = weights.sum(axis=0, dtype="float64")
    summed = (np.where(weights > 0, values[0], 0) * weights.astype("float64")).sum(axis=0)
    return [(summed / np.where(whole > 0, whole, 1), whole > 0)]


def weighted_total(values: list[Array], weights: Array) -> Outputs:
    """Sum of value times weight; 0 of nothing for numbers, masked for pixels where nothing is valid."""
    summed = (np.where(weights > 0, values[0], 0) * weights.astype("float64")).sum(axis=0)
    return [(summed, np.asarray(True) if weights.ndim == 1 else (weights > 0).any(axis=0))]


def weighted_spread(root: bool, sample: bool) -> Compute:
    """Variance or standard deviation; of a sample the sum of weights less one takes the place of the count less one."""

    def compute(values: list[Array], weights: Array) -> Outputs:
        (average, _valid), *_ = weighted_mean(values, weights)
        whole = weights.sum(axis=0, dtype="float64")
        divisor = whole - 1 if sample else whole
        squares = (np.where(weights > 0, values[0] - average, 0.0) ** 2 * weights).sum(axis=0)
        variance = squares / np.where(divisor > 0, divisor, 1)
        return [(np.sqrt(variance) if root else variance, divisor > 0)]

    return compute


def weighted_mode(values: list[Array], weights: Array) -> Outputs:
    """The value with the largest sum of weights, the smallest of those that are equal."""
    if _empty(weights):
        return _nothing(weights)
    x, w = values[0], weights.astype("float64")
    best, most = np.zeros(x.shape[1:], x.dtype), np.zeros(x.shape[1:])
    for candidate, own in zip(x, w, strict=True):
        found = np.where(x == candidate, w, 0).sum(axis=0)
        better = (own > 0) & ((found > most + 1e-12) | ((np.abs(found - most) <= 1e-12) & (candidate < best)))
        best, most = np.where(better, candidate, best), np.where(better, found, most)
    return [(best, most > 0)]


def weighted_percentiles(wanted: list[float]) -> Compute:
    """Percentiles by linear interpolation between sorted values that lie at the cumulated mean of neighbours' weights.

    With equal weights these are the percentiles without weights.
    """

    def compute(values: list[Array], weights: Array) -> Outputs:
        if _empty(weights):
            return _nothing(weights, len(wanted))
        x, w = values[0].astype("float64"), weights.astype("float64")
        order = np.argsort(np.where(w > 0, x, np.inf), axis=0, kind="stable")
        x, w = np.take_along_axis(x, order, axis=0), np.take_along_axis(w, order, axis=0)
        count = (w > 0).sum(axis=0)
        steps = np.where(w[1:] > 0, (w[1:] + w[:-1]) / 2, 0)
        places = np.concatenate([np.zeros((1, *x.shape[1:])), np.cumsum(steps, axis=0)])
        outputs = []
        for percent in wanted:
            target = places[-1] * (percent / 100.0)
            # A rounding error must not push a target beyond the value that it lies on.
            low = np.clip((places <= target + 1e-12).sum(axis=0) - 1, 0, np.maximum(count - 1, 0))
            high = np.minimum(low + 1, np.maximum(count - 1, 0))
            a, b = (np.take_along_axis(x, i[None], axis=0)[0] for i in (low, high))
            start, end = (np.take_along_axis(places, i[None], axis=0)[0] for i in (low, high))
            part = np.where(end > start, (target - start) / np.where(end > start, end - start, 1), 0)
            outputs.append((np.where(count > 0, a + (b - a) * np.maximum(part, 0), 0), count > 0))
        return outputs

    return compute


def linear_fit(values: list[Array], weights: Array) -> Outputs:
    """Slope and offset of the second input over the first, by (weighted) least squares; a mask counts as weights of 1."""
    x, y = (v.astype("float64") for v in values)
    (mean_x, known), *_ = weighted_mean([x], weights)
    (mean_y, _), *_ = weighted_mean([y], weights)
    dx, dy = (np.where(weights > 0, v - m, 0) for v, m in ((x, mean_x), (y, mean_y)))
    spread_x = (weights * dx * dx).sum(axis=0)
    slope = np.where(spread_x > 0, (weights * dx * dy).sum(axis=0) / np.where(spread_x > 0, spread_x, 1), 0.0)
    return [(slope, known), (mean_y - slope * mean_x, known)]


def pearson(values: list[Array], mask: Array) -> Outputs:
    """Correlation of two inputs, and the two-sided probability of one as large by chance (Student's t)."""
    x, y = (v.astype("float64") for v in values)
    (mean_x, _), *_ = mean([x], mask)
    (mean_y, _), *_ = mean([y], mask)
    dx, dy = (np.where(mask, v - m, 0) for v, m in ((x, mean_x), (y, mean_y)))
    norm = np.sqrt((dx * dx).sum(axis=0) * (dy * dy).sum(axis=0))
    r = np.clip((dx * dy).sum(axis=0) / np.where(norm > 0, norm, 1), -1, 1)
    free = mask.sum(axis=0) - 2
    t = np.abs(r) * np.sqrt(np.maximum(free, 1) / np.maximum(1 - r * r, 1e-300))
    known = (norm > 0) & (free > 0)
    return [(r, known), (2 * special.stdtr(np.maximum(free, 1), -t), known)]
