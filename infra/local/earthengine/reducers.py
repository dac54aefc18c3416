"""Reducers: many values to few.

One function serves pixels and numbers: it takes arrays whose first axis is what is reduced, with the mask of the valid
ones, and gives the outputs with their masks. Reducers that collect (lists, histograms, groups) work on rows of plain
values and have no pixel form.

Weights are the masks' fractions, and in regions the smaller of that and the part of the pixel that is covered. As in
Earth Engine, means, sums, deviations, histograms, modes, medians and percentiles are weighted unless `unweighted` says
otherwise; counts, extremes, lists and first and last values are not, and take in a region the pixels whose centre is
inside.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from infra.local.earthengine.errors import ArgumentError
from infra.local.earthengine.grid import Array
from infra.local.earthengine.pixeltype import DOUBLE, PixelType, floating, union

Outputs = list[tuple[Any, Any]]
Compute = Callable[[list[Array], Array], Outputs]
"""Inputs (n, ...) and their common mask, or weights, (n, ...) to outputs (...) with masks (...)."""
Typed = Callable[[list[PixelType], int], PixelType]
"""Types of the inputs and the number of elements to the type of the outputs."""


@dataclass(frozen=True)
class Rows:
    """Plain values to be collected."""

    items: list[tuple[Any, ...]]
    """One tuple of inputs for each element."""
    counted: list[bool] | None = None
    """Which of them reducers without weights take; None: all."""
    weights: list[float] | None = None
    """Weight of each, 0 to leave it out; None: all are 1."""

    def plain(self) -> list[tuple[Any, ...]]:
        """The rows that reducers without weights take."""
        return self.items if self.counted is None else [r for r, c in zip(self.items, self.counted, strict=True) if c]

    def weighted(self) -> list[tuple[tuple[Any, ...], float]]:
        """The rows with weights above 0."""
        weights = self.weights if self.weights is not None else [1.0] * len(self.items)
        return [(r, w) for r, w in zip(self.items, weights, strict=True) if w > 0]

    def of(self, change: Callable[[tuple[Any, ...]], tuple[Any, ...]]) -> Rows:
        """The rows with each one's inputs changed."""
        return replace(self, items=[change(r) for r in self.items])

    def where(self, test: Callable[[tuple[Any, ...]], bool]) -> Rows:
        """The rows that pass a test."""
        return self.take([i for i, r in enumerate(self.items) if test(r)])

    def take(self, kept: list[int]) -> Rows:
        """The rows at some places."""
        return Rows(
            [self.items[i] for i in kept],
            None if self.counted is None else [self.counted[i] for i in kept],
            None if self.weights is None else [self.weights[i] for i in kept],
        )


Collect = Callable[[Rows], list[Any]]
"""Rows of input values to one value for each output."""


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
    weighted: Compute | None = None
    """`compute` with weights in place of the mask; None when weights do not matter."""
    rebuilt: Callable[[Callable[[Reducer], Reducer]], Reducer] | None = None
    """For a reducer made of others: the same one, made of changed others."""

    def pixels(self, values: list[Array], mask: Array, weights: Array | None = None) -> Outputs:
        """Outputs of stacks of pixels; without weights all valid ones count alike."""
        if self.compute is None:
            raise ArgumentError(f"Reducer.{self.name}: This reducer does not give pixels.")
        if len(values) != self.inputs:
            raise ArgumentError(
                f"Reducer.{self.name}: Need {self.inputs} input(s) for this reducer, got {len(values)}."
            )
        with np.errstate(all="ignore"):
            if weights is not None and isinstance(self, Combined):
                return self.with_weights(values, mask, weights)
            if weights is not None and self.weighted is not None:
                return self.weighted(values, weights)
            return self.compute(values, mask)

    def rows(self, items: list[tuple[Any, ...]] | Rows) -> dict[str, Any]:
        """Outputs of rows of plain values, by name; rows with a null are left out unless it collects."""
        rows = items if isinstance(items, Rows) else Rows(items)
        if self.collect is not None:
            return dict(zip(self.outputs, self.collect(rows), strict=True))
        kept = rows.where(lambda row: all(v is not None for v in row))
        for row in kept.items:
            for v in row:
                if not isinstance(v, int | float):
                    raise ArgumentError(f"Reducer.{self.name}: Expected numbers, got {v!r}.")
        columns = [np.asarray([r[i] for r in kept.items]) for i in range(self.inputs)]
        mask = np.ones(len(kept.items), bool) if kept.counted is None else np.asarray(kept.counted, bool)
        weights = None if kept.weights is None else np.asarray(kept.weights, "float64")
        found = self.pixels(columns, mask, weights)
        return {name: plain(v, m) for name, (v, m) in zip(self.outputs, found, strict=True)}


@dataclass(frozen=True)
class Combined(Reducer):
    """Two reducers side by side: each takes the pixels, and the weights, that it would take alone."""

    with_weights: Callable[[list[Array], Array, Array], Outputs] = lambda values, mask, weights: []
    """Values, mask and weights to the outputs of both."""


def unweighted(reducer: Reducer) -> Reducer:
    """The same reducer with every weight taken as 1."""
    if reducer.rebuilt is not None:
        return reducer.rebuilt(unweighted)
    return replace(reducer, weighted=None, collect=_unweighed(reducer.collect))


def _unweighed(collect: Collect | None) -> Collect | None:
    return None if collect is None else lambda rows: collect(Rows(rows.plain()))


def plain(value: Any, valid: Any = True) -> Any:
    """A numpy scalar as a JSON number; None when it is not valid."""
    if not bool(valid):
        return None
    number = np.asarray(value).item()
    return None if isinstance(number, float) and not math.isfinite(number) else number


def to_list(rows: Rows) -> list[Any]:
    """The values in order, nulls left out; tuples as lists."""
    kept = [r for r in rows.plain() if all(v is not None for v in r)]
    return [[r[0] if len(r) == 1 else list(r) for r in kept]]


def picked(last: bool, null: bool) -> Collect:
    """The first or last of any values; with `null` also when it is null."""

    def collect(rows: Rows) -> list[Any]:
        kept = [r[0] for r in rows.plain() if null or r[0] is not None]
        return [kept[-1 if last else 0] if kept else None]

    return collect


def count_distinct(rows: Rows) -> list[Any]:
    """How many different values there are."""
    return [len({r for r in rows.plain() if r[0] is not None})]


def repeated(base: Reducer, count: int) -> Reducer:
    """The same reducer on several inputs at once; each output becomes a list with one entry for each input."""

    def collect(rows: Rows) -> list[Any]:
        parts = [base.rows(Rows([(row[i],) for row in rows.items], rows.counted, rows.weights)) for i in range(count)]
        return [[part[name] for part in parts] for name in base.outputs]

    return Reducer(
        base.name,
        base.outputs,
        inputs=count,
        collect=collect,
        rebuilt=lambda change: repeated(change(base), count),
    )


def combined(first: Reducer, second: Reducer, prefix: str, shared: bool) -> Reducer:
    """Two reducers side by side, on the same inputs or on following ones."""
    if shared and first.inputs != second.inputs:
        raise ArgumentError(
            f"Reducer.combine: Reducers that share inputs must have as many, got {first.inputs} and {second.inputs}."
        )
    taken = set(first.outputs)
    names = tuple(f"{prefix}{n}" for n in second.outputs)
    if taken & set(names):
        raise ArgumentError(f"Reducer.combine: Both reducers have an output named '{min(taken & set(names))}'.")
    start = 0 if shared else first.inputs
    end = start + second.inputs

    def compute(values: list[Array], mask: Array) -> Outputs:
        return [*first.pixels(values[: first.inputs], mask), *second.pixels(values[start:end], mask)]

    def with_weights(values: list[Array], mask: Array, weights: Array) -> Outputs:
        left = first.pixels(values[: first.inputs], mask, weights)
        return [*left, *second.pixels(values[start:end], mask, weights)]

    def collect(rows: Rows) -> list[Any]:
        left = first.rows(rows.of(lambda row: row[: first.inputs]))
        return [*left.values(), *second.rows(rows.of(lambda row: row[start:end])).values()]

    return Combined(
        f"{first.name}+{second.name}",
        (*first.outputs, *names),
        inputs=max(first.inputs, end),
        compute=compute if first.compute is not None and second.compute is not None else None,
        with_weights=with_weights,
        collect=collect,
        rebuilt=lambda change: combined(change(first), change(second), prefix, shared),
    )


def grouped(base: Reducer, field: int, name: str) -> Reducer:
    """A reducer for each value of one of the inputs."""

    def collect(rows: Rows) -> list[Any]:
        places: dict[Any, list[int]] = {}
        for i, row in enumerate(rows.items):
            if row[field] is not None:
                places.setdefault(row[field], []).append(i)
        rest = rows.of(lambda row: row[:field] + row[field + 1 :])
        return [[{name: key, **base.rows(rest.take(places[key]))} for key in sorted(places)]]

    return Reducer(
        base.name,
        ("groups",),
        inputs=base.inputs + 1,
        collect=collect,
        rebuilt=lambda change: grouped(change(base), field, name),
    )


def with_outputs(base: Reducer, outputs: list[str]) -> Reducer:
    """The same reducer under other output names."""
    if len(outputs) != len(base.outputs):
        raise ArgumentError(f"Reducer.setOutputs: Expected {len(base.outputs)} names, got {len(outputs)}.")
    named = replace(base, outputs=tuple(outputs))
    if base.rebuilt is None:
        return named
    return replace(named, rebuilt=lambda change: with_outputs(base.rebuilt(change), outputs) if base.rebuilt else named)


def split_weights(base: Reducer) -> Reducer:
    """The same reducer of one input, with that input's weight as a second input."""
    if base.inputs != 1 or base.weighted is None:
        raise ArgumentError(f"Reducer.splitWeights: The reducer {base.name} has no weighted input of its own.")
    weigh = base.weighted

    def compute(values: list[Array], mask: Array) -> Outputs:
        return weigh([values[0]], np.where(mask, values[1], 0.0))

    return Reducer(base.name, base.outputs, inputs=2, compute=compute, kind=base.kind)
