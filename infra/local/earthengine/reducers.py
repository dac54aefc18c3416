"""Reducers: many values to few.

One function serves pixels and numbers: it takes arrays whose first axis is what is reduced, with the mask of the valid
ones, and gives the outputs with their masks. Reducers that collect (lists, histograms, groups) work on rows of plain
values and have no pixel form. Weights are not kept: every pixel whose centre lies in a region counts as one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from infra.local.earthengine.errors import ArgumentError
from infra.local.earthengine.grid import Array
from infra.local.earthengine.pixeltype import DOUBLE, PixelType, floating, union

Outputs = list[tuple[Any, Any]]
Compute = Callable[[list[Array], Array], Outputs]
"""Inputs (n, ...) and their common mask (n, ...) to outputs (...) with masks (...)."""
Collect = Callable[[list[tuple[Any, ...]]], list[Any]]
"""Rows of input values to one value for each output."""
Typed = Callable[[list[PixelType], int], PixelType]
"""Types of the inputs and the number of elements to the type of the outputs."""


def same_type(types: list[PixelType], count: int) -> PixelType:
    """The outputs are some of the inputs."""
    return union(types)


def mean_type(types: list[PixelType], count: int) -> PixelType:
    """The outputs lie between the inputs."""
    return floating(union(types))


def double_type(types: list[PixelType], count: int) -> PixelType:
    """The outputs are any number."""
    return DOUBLE


def count_type(types: list[PixelType], count: int) -> PixelType:
    """The outputs are counts."""
    return PixelType("int", 0, max(count, 1))


@dataclass(frozen=True)
class Reducer:
    """A reducer of the server."""

    name: str
    """Earth Engine's name."""
    outputs: tuple[str, ...]
    """Names of its outputs."""
    inputs: int = 1
    """How many inputs it takes."""
    compute: Compute | None = None
    """For pixels and numbers; None when it only collects."""
    collect: Collect | None = None
    """For rows of any values; None: by `compute`."""
    kind: Typed = double_type
    """Type of the outputs."""
    named: bool = True
    """False: one output that goes under the name of what is reduced."""

    def pixels(self, values: list[Array], mask: Array) -> Outputs:
        """Outputs of stacks of pixels."""
        if self.compute is None:
            raise ArgumentError(f"Reducer.{self.name}: This reducer does not give pixels.")
        if len(values) != self.inputs:
            raise ArgumentError(
                f"Reducer.{self.name}: Need {self.inputs} input(s) for this reducer, got {len(values)}."
            )
        with np.errstate(all="ignore"):
            return self.compute(values, mask)

    def rows(self, rows: list[tuple[Any, ...]]) -> dict[str, Any]:
        """Outputs of rows of plain values, by name; rows with a null are left out unless it collects."""
        if self.collect is not None:
            return dict(zip(self.outputs, self.collect(rows), strict=True))
        kept = [r for r in rows if all(v is not None for v in r)]
        for row in kept:
            for v in row:
                if not isinstance(v, int | float):
                    raise ArgumentError(f"Reducer.{self.name}: Expected numbers, got {v!r}.")
        columns = [np.asarray([r[i] for r in kept]) for i in range(self.inputs)]
        found = self.pixels(columns, np.ones(len(kept), bool))
        return {name: plain(v, m) for name, (v, m) in zip(self.outputs, found, strict=True)}


def plain(value: Any, valid: Any = True) -> Any:
    """A numpy scalar as a JSON number; None when it is not valid."""
    if not bool(valid):
        return None
    number = np.asarray(value).item()
    return None if isinstance(number, float) and not math.isfinite(number) else number


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
    total = np.where(mask, values[0], 0).sum(axis=0, dtype="float64")
    return [(total / np.maximum(count, 1), count > 0)]


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


def to_list(rows: list[tuple[Any, ...]]) -> list[Any]:
    """The values in order, nulls left out; tuples as lists."""
    kept = [r for r in rows if all(v is not None for v in r)]
    return [[r[0] if len(r) == 1 else list(r) for r in kept]]


def frequency_histogram(rows: list[tuple[Any, ...]]) -> list[Any]:
    """How often each value occurs; the keys are text, whole numbers without decimals."""
    counts = Counter(r[0] for r in rows if r[0] is not None)
    return [{_key(k): v for k, v in sorted(counts.items(), key=lambda kv: (isinstance(kv[0], str), kv[0]))}]


def _key(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def count_distinct(rows: list[tuple[Any, ...]]) -> list[Any]:
    """How many different values there are."""
    return [len({r for r in rows if r[0] is not None})]


def repeated(base: Reducer, count: int) -> Reducer:
    """The same reducer on several inputs at once; each output becomes a list with one entry for each input."""

    def collect(rows: list[tuple[Any, ...]]) -> list[Any]:
        parts = [base.rows([(row[i],) for row in rows]) for i in range(count)]
        return [[part[name] for part in parts] for name in base.outputs]

    return Reducer(base.name, base.outputs, inputs=count, collect=collect)


def combined(first: Reducer, second: Reducer, prefix: str, shared: bool) -> Reducer:
    """Two reducers side by side, on the same inputs or on following ones."""
    taken = set(first.outputs)
    names = tuple(f"{prefix}{n}" for n in second.outputs)
    if taken & set(names):
        raise ArgumentError(f"Reducer.combine: Both reducers have an output named '{min(taken & set(names))}'.")
    inputs = max(first.inputs, second.inputs) if shared else first.inputs + second.inputs

    def split(values: list[Any]) -> tuple[list[Any], list[Any]]:
        start = 0 if shared else first.inputs
        return values[: first.inputs], values[start : start + second.inputs]

    def compute(values: list[Array], mask: Array) -> Outputs:
        a, b = split(values)
        return [*first.pixels(a, mask), *second.pixels(b, mask)]

    def collect(rows: list[tuple[Any, ...]]) -> list[Any]:
        pairs = [split(list(row)) for row in rows]
        a = first.rows([tuple(p[0]) for p in pairs])
        b = second.rows([tuple(p[1]) for p in pairs])
        return [*a.values(), *b.values()]

    numeric = first.compute is not None and second.compute is not None
    return Reducer(
        f"{first.name}+{second.name}",
        (*first.outputs, *names),
        inputs=inputs,
        compute=compute if numeric else None,
        collect=collect,
    )


def grouped(base: Reducer, field: int, name: str) -> Reducer:
    """A reducer for each value of one of the inputs."""

    def collect(rows: list[tuple[Any, ...]]) -> list[Any]:
        groups: dict[Any, list[tuple[Any, ...]]] = {}
        for row in rows:
            if row[field] is not None:
                groups.setdefault(row[field], []).append(row[:field] + row[field + 1 :])
        return [[{name: key, **base.rows(groups[key])} for key in sorted(groups)]]

    return Reducer(base.name, ("groups",), inputs=base.inputs + 1, collect=collect)


def with_outputs(base: Reducer, outputs: list[str]) -> Reducer:
    """The same reducer under other output names."""
    if len(outputs) != len(base.outputs):
        raise ArgumentError(f"Reducer.setOutputs: Expected {len(base.outputs)} names, got {len(outputs)}.")
    return replace(base, outputs=tuple(outputs))
