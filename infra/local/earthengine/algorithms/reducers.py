"""The constructors of reducers."""

from __future__ import annotations

from functools import partial
from typing import Any

from infra.local.earthengine import histograms
from infra.local.earthengine import reducers as r
from infra.local.earthengine import stacks as s
from infra.local.earthengine.algorithms.registry import algorithm, register
from infra.local.earthengine.errors import ArgumentError
from infra.local.earthengine.pixeltype import BOOLEAN
from infra.local.earthengine.reducers import Reducer


def _boolean(types: list[Any], count: int) -> Any:
    return BOOLEAN


def _deviation(name: str, root: bool, sample: bool) -> Reducer:
    output = "stdDev" if root else "variance"
    return Reducer(name, (output,), compute=s.spread(root, sample), weighted=s.weighted_spread(root, sample))


SIMPLE: dict[str, Reducer] = {
    "count": Reducer("count", ("count",), compute=s.number_valid, kind=r.count_type),
    "sum": Reducer("sum", ("sum",), compute=s.total, weighted=s.weighted_total),
    "mean": Reducer("mean", ("mean",), compute=s.mean, kind=r.mean_type, weighted=s.weighted_mean),
    "product": Reducer("product", ("product",), compute=s.product),
    "allNonZero": Reducer("allNonZero", ("all",), compute=s.truth(True), kind=_boolean),
    "anyNonZero": Reducer("anyNonZero", ("any",), compute=s.truth(False), kind=_boolean),
    "stdDev": _deviation("stdDev", True, False),
    "sampleStdDev": _deviation("sampleStdDev", True, True),
    "variance": _deviation("variance", False, False),
    "sampleVariance": _deviation("sampleVariance", False, True),
    "minMax": Reducer("minMax", ("min", "max"), compute=s.min_max, kind=r.same_type),
    **{
        f"{'last' if last else 'first'}{'' if null else 'NonNull'}": Reducer(
            f"{'last' if last else 'first'}{'' if null else 'NonNull'}",
            ("last" if last else "first",),
            compute=s.chosen(last, null=null),
            collect=r.picked(last, null),
            kind=r.same_type,
        )
        for last in (False, True)
        for null in (True, False)
    },
    "frequencyHistogram": Reducer("frequencyHistogram", ("histogram",), collect=histograms.frequency_histogram),
    "countDistinct": Reducer("countDistinct", ("count",), collect=r.count_distinct),
    "countDistinctNonNull": Reducer("countDistinctNonNull", ("count",), collect=r.count_distinct),
    "linearFit": Reducer("linearFit", ("scale", "offset"), 2, compute=s.linear_fit, weighted=s.linear_fit),
    "pearsonsCorrelation": Reducer("pearsonsCorrelation", ("correlation", "p-value"), 2, compute=s.pearson),
}
"""Reducers without parameters."""


def _simple(name: str) -> Reducer:
    """A reducer without parameters: counts, sums, means, deviations, extremes, truth, first, last, fits."""
    return SIMPLE[name]


for _name in SIMPLE:
    register(f"Reducer.{_name}", partial(_simple, _name))


@algorithm("Reducer.median")
def median(maxBuckets: Any = None, minBucketWidth: Any = None, maxRaw: Any = None) -> Reducer:
    """The exact median; the parameters of Earth Engine's approximation are not needed."""
    return Reducer("median", ("median",), compute=s.median, kind=r.mean_type, weighted=s.weighted_percentiles([50.0]))


@algorithm("Reducer.mode")
def mode(maxBuckets: Any = None, minBucketWidth: Any = None, maxRaw: Any = None) -> Reducer:
    """The most frequent value."""
    return Reducer("mode", ("mode",), compute=s.mode, kind=r.same_type, weighted=s.weighted_mode)


@algorithm("Reducer.min")
def minimum(numInputs: int = 1) -> Reducer:
    """The smallest value, with further inputs where that is."""
    names = ("min",) if numInputs == 1 else ("min", *(f"min{i}" for i in range(1, numInputs)))
    return Reducer("min", names, inputs=numInputs, compute=s.extreme(False), kind=r.same_type)


@algorithm("Reducer.max")
def maximum(numInputs: int = 1) -> Reducer:
    """The largest value, with further inputs where that is."""
    names = ("max",) if numInputs == 1 else ("max", *(f"max{i}" for i in range(1, numInputs)))
    return Reducer("max", names, inputs=numInputs, compute=s.extreme(True), kind=r.same_type)


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
    wanted = [float(p) for p in percentiles]
    return Reducer(
        "percentile",
        tuple(names),
        compute=s.percentiles(wanted),
        kind=r.mean_type,
        weighted=s.weighted_percentiles(wanted),
    )


@algorithm("Reducer.fixedHistogram")
def fixed_histogram(min: float, max: float, steps: int, cumulative: bool = False) -> Reducer:
    """Lower bounds and counts of so many buckets of one width; values outside [min, max) are left out."""
    if steps < 1 or max <= min:
        raise ArgumentError(
            f"Reducer.fixedHistogram: min ({min}) must be below max ({max}) and steps positive ({steps})."
        )
    return Reducer("fixedHistogram", ("histogram",), collect=histograms.fixed(min, max, steps, cumulative))


@algorithm("Reducer.histogram")
def histogram(maxBuckets: int | None = None, minBucketWidth: float | None = None, maxRaw: Any = None) -> Reducer:
    """Buckets of one width with their lower bound, counts and means."""
    return Reducer("histogram", ("histogram",), collect=histograms.adaptive(maxBuckets, minBucketWidth))


@algorithm("Reducer.autoHistogram")
def auto_histogram(
    maxBuckets: int | None = None, minBucketWidth: float | None = None, maxRaw: Any = None, cumulative: bool = False
) -> Reducer:
    """Lower bounds and counts of buckets of one width."""
    return Reducer(
        "autoHistogram", ("histogram",), collect=histograms.automatic(maxBuckets, minBucketWidth, cumulative)
    )


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
    """The reducer with every weight taken as 1, over the pixels whose centre is inside."""
    return r.unweighted(reducer)


@algorithm("Reducer.splitWeights")
def split_weights(reducer: Reducer) -> Reducer:
    """The reducer with its input's weight as a second input."""
    return r.split_weights(reducer)


@algorithm("Reducer.setOutputs")
def set_outputs(reducer: Reducer, outputs: list[str]) -> Reducer:
    """The reducer under other output names."""
    return r.with_outputs(reducer, outputs)


@algorithm("Reducer.getOutputs")
def get_outputs(reducer: Reducer) -> list[str]:
    """Names of the outputs."""
    return list(reducer.outputs)
