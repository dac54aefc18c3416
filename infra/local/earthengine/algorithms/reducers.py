"""The constructors of reducers."""

from __future__ import annotations

from functools import partial
from typing import Any

from infra.local.earthengine import reducers as r
from infra.local.earthengine.algorithms.registry import algorithm, register
from infra.local.earthengine.pixeltype import BOOLEAN
from infra.local.earthengine.reducers import Reducer


def _boolean(types: list[Any], count: int) -> Any:
    return BOOLEAN


SIMPLE: dict[str, Reducer] = {
    "count": Reducer("count", ("count",), compute=r.number_valid, kind=r.count_type),
    "sum": Reducer("sum", ("sum",), compute=r.total),
    "mean": Reducer("mean", ("mean",), compute=r.mean, kind=r.mean_type),
    "product": Reducer("product", ("product",), compute=r.product),
    "allNonZero": Reducer("allNonZero", ("all",), compute=r.truth(True), kind=_boolean),
    "anyNonZero": Reducer("anyNonZero", ("any",), compute=r.truth(False), kind=_boolean),
    "stdDev": Reducer("stdDev", ("stdDev",), compute=r.spread(True, False)),
    "sampleStdDev": Reducer("sampleStdDev", ("stdDev",), compute=r.spread(True, True)),
    "variance": Reducer("variance", ("variance",), compute=r.spread(False, False)),
    "sampleVariance": Reducer("sampleVariance", ("variance",), compute=r.spread(False, True)),
    "minMax": Reducer("minMax", ("min", "max"), compute=r.min_max, kind=r.same_type),
    "first": Reducer("first", ("first",), compute=r.chosen(False, null=True), kind=r.same_type),
    "firstNonNull": Reducer("firstNonNull", ("first",), compute=r.chosen(False), kind=r.same_type),
    "last": Reducer("last", ("last",), compute=r.chosen(True, null=True), kind=r.same_type),
    "lastNonNull": Reducer("lastNonNull", ("last",), compute=r.chosen(True), kind=r.same_type),
    "frequencyHistogram": Reducer("frequencyHistogram", ("histogram",), collect=r.frequency_histogram),
    "countDistinct": Reducer("countDistinct", ("count",), collect=r.count_distinct),
    "countDistinctNonNull": Reducer("countDistinctNonNull", ("count",), collect=r.count_distinct),
}
"""Reducers without parameters."""


def _simple(name: str) -> Reducer:
    return SIMPLE[name]


for _name in SIMPLE:
    register(f"Reducer.{_name}", partial(_simple, _name))


@algorithm("Reducer.median")
def median(maxBuckets: Any = None, minBucketWidth: Any = None, maxRaw: Any = None) -> Reducer:
    """The exact median; the parameters of Earth Engine's approximation are not needed."""
    return Reducer("median", ("median",), compute=r.median, kind=r.mean_type)


@algorithm("Reducer.mode")
def mode(maxBuckets: Any = None, minBucketWidth: Any = None, maxRaw: Any = None) -> Reducer:
    """The most frequent value."""
    return Reducer("mode", ("mode",), compute=r.mode, kind=r.same_type)


@algorithm("Reducer.min")
def minimum(numInputs: int = 1) -> Reducer:
    """The smallest value, with further inputs where that is."""
    names = ("min",) if numInputs == 1 else ("min", *(f"min{i}" for i in range(1, numInputs)))
    return Reducer("min", names, inputs=numInputs, compute=r.extreme(False), kind=r.same_type)


@algorithm("Reducer.max")
def maximum(numInputs: int = 1) -> Reducer:
    """The largest value, with further inputs where that is."""
    names = ("max",) if numInputs == 1 else ("max", *(f"max{i}" for i in range(1, numInputs)))
    return Reducer("max", names, inputs=numInputs, compute=r.extreme(True), kind=r.same_type)


@algorithm("Reducer.percentile")
def percentile(
    percentiles: list[float],
    outputNames: list[str] | None = None,
    maxBuckets: Any = None,
    minBucketWidth: Any = None,
    maxRaw: Any = None,
) -> Reducer:
    """Exact percentiles, named `p25` and so on."""
    names = outputNames or [f"p{int(p) if float(p).is_integer() else p}" for p in percentiles]
    return Reducer("percentile", tuple(names), compute=r.percentiles([float(p) for p in percentiles]), kind=r.mean_type)


@algorithm("Reducer.toList")
def to_list(tupleSize: int | None = None, numOptional: int = 0) -> Reducer:
    """The values as a list."""
    return Reducer("toList", ("list",), inputs=tupleSize or 1, collect=r.to_list)


@algorithm("Reducer.repeat")
def repeat(reducer: Reducer, count: int) -> Reducer:
    """The reducer on `count` inputs at once."""
    return r.repeated(reducer, count)


@algorithm("Reducer.combine")
def combine(reducer1: Reducer, reducer2: Reducer, outputPrefix: str = "", sharedInputs: bool = False) -> Reducer:
    """Two reducers side by side."""
    return r.combined(reducer1, reducer2, outputPrefix, sharedInputs)


@algorithm("Reducer.group")
def group(reducer: Reducer, groupField: int = 0, groupName: str = "group") -> Reducer:
    """The reducer for each value of an input."""
    return r.grouped(reducer, groupField, groupName)


@algorithm("Reducer.unweighted")
def unweighted(reducer: Reducer) -> Reducer:
    """The reducer itself: nothing is weighted here."""
    return reducer


@algorithm("Reducer.setOutputs")
def set_outputs(reducer: Reducer, outputs: list[str]) -> Reducer:
    """The reducer under other output names."""
    return r.with_outputs(reducer, outputs)


@algorithm("Reducer.getOutputs")
def get_outputs(reducer: Reducer) -> list[str]:
    """Names of the outputs."""
    return list(reducer.outputs)
