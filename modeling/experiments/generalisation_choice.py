"""What is decided for a region by other regions: the way of mapping it, its temperature, its intervals.

A judgement is of a target, of models that had seen none of a set of domains. Choices for a region use only judgements of
other targets by models that had not seen the region either, so no label of it takes part in any way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from modeling.benchmark.compare import Estimate
from modeling.experiments.covering import held_out_sets
from modeling.experiments.engine import Finished
from modeling.experiments.generalisation_arms import FEW, ON_MEANS, OWN
from modeling.experiments.generalisation_works import SURE, TEMPERATURES, judged
from modeling.experiments.setting import Setting
from modeling.scoring.metrics import scores_of
from modeling.uncertainty.conformal import LEVEL, TotalsCalibration, fit_totals
from modeling.uncertainty.shift import CAUTION, WRONG, ShiftCalibration
from modeling.uncertainty.totals import EventTotals

DoubleArray = npt.NDArray[np.float64]
RESAMPLES = 2000
PICK = "picked by "
"""An arm of this name is, for every event, the model on scene means with the best value of the signal that follows."""
NOVELTY = "mean squared MMD to the multi-domain training mix"
_LOW_LEVEL = 0.5


@dataclass(frozen=True)
class Choice:
    """What was decided for a region without a label of it."""

    target: str
    """The region."""
    arm: str
    """The default way of mapping it."""
    signal: str
    """What selects a model of the zoo."""
    temperature: float
    """Factor on the arm's own temperature, one of `TEMPERATURES`."""
    totals: TotalsCalibration
    """Intervals on an event's area and count."""


def outer(setting: Setting, found: Finished, target: str) -> dict[int, Mapping[str, Any]]:
    """Seed -> judgement of a target by models that have seen everything but it."""
    keys = {seed: judged(target, (target,), seed) for seed in setting.seeds}
    return {seed: found[name] for seed, name in keys.items() if name in found}


def inner(setting: Setting, found: Finished, target: str) -> dict[str, list[Mapping[str, Any]]]:
    """Other region -> judgements of it by models that had seen neither it nor the target."""
    there: dict[str, list[Mapping[str, Any]]] = {}
    for held_out in held_out_sets(setting.domains):
        for other in (name for name in held_out if target in held_out and name != target):
            name = judged(other, held_out, setting.seeds[0])
            if name in found:
                there.setdefault(other, []).append(found[name])
    return there


def decide(setting: Setting, found: Finished, target: str) -> Choice | None:
    """What the other regions decide for a target; None when nothing is judged yet."""
    others = inner(setting, found, target)
    if not others:
        return None
    every = [result for results in others.values() for result in results]
    names = [arm for arm in arms_of(every[0]) if all(arm in arms_of(result) for result in every)]
    # An arm that is named after a domain is one model of the zoo: it stands behind the arms that pick it.
    names = [arm for arm in names if arm.removesuffix(ON_MEANS) not in setting.domains]

    def mean(arm: str) -> float:
        return float(np.mean([np.mean([f1(result, arm) for result in results]) for results in others.values()]))

    arm = max(names, key=mean)
    signal = max((name for name in names if name.startswith(PICK)), key=mean, default="").removeprefix(PICK)
    temperatures = {
        other: max(cautious(events_of(result, arm)) for result in results) for other, results in others.items()
    }
    fitted = shift(temperatures, outer_distances(setting, found))
    apart = outer_distances(setting, found).get(target)
    wanted = fitted.temperature({name: apart[name] for name in temperatures} if apart else None)
    factor = next((each for each in TEMPERATURES if each >= wanted * 0.999), TEMPERATURES[-1])
    events = [total for result in every for total in totals(events_of(result, arm))]
    level = LEVEL if len(others) >= LEVEL / (1 - LEVEL) - 1e-9 else _LOW_LEVEL
    return Choice(target, arm, signal, factor, fit_totals(events, level=level, novelty=NOVELTY))


def shift(temperatures: Mapping[str, float], between: Mapping[str, Mapping[str, float]]) -> ShiftCalibration:
    """Temperatures of other regions, weighted by their distances from each other."""
    rows = {name: {other: value for other, value in row.items() if other in temperatures}
            for name, row in between.items() if name in temperatures}  # fmt: skip
    every = [value for name, row in rows.items() for other, value in row.items() if other != name]
    nearest = [min(row.values()) for row in rows.values() if row]
    scale = float(np.std(every)) if len(every) > 1 else 1e9
    return ShiftCalibration(temperatures, max(scale, 1e-9), max(nearest, default=1e9), CAUTION)


def outer_distances(setting: Setting, found: Finished) -> dict[str, dict[str, float]]:
    """Region -> distance of its events to the training ground of each other one, mean over events; no label is read."""
    there = {}
    for target in setting.domains:
        judgements = outer(setting, found, target)
        if not judgements:
            continue
        zoo = next(iter(judgements.values()))["zoo"]
        names = [name for name in next(iter(zoo.values())) if name in setting.domains]
        there[target] = {name: float(np.mean([event[name]["mean_mmd2"] for event in zoo.values()])) for name in names}
    return there


def arms_of(result: Mapping[str, Any]) -> list[str]:
    """The label-free arms of a judgement, and one for each signal that picks models."""
    signals = next(iter(next(iter(result["zoo"].values())).values()))
    usable = [name for name in signals if _known(result, name)]
    unlabelled = [arm for arm in result["arms"] if not arm.startswith((OWN, FEW))]
    return [*unlabelled, *(f"{PICK}{name}" for name in usable)]


def _known(result: Mapping[str, Any], signal: str) -> bool:
    return all(each[signal] is not None for event in result["zoo"].values() for each in event.values())


def events_of(result: Mapping[str, Any], arm: str) -> dict[str, Mapping[str, Any]]:
    """Event -> counts of an arm; an arm that picks takes those of the model that the signal picks."""
    if not arm.startswith(PICK):
        return dict(result["arms"][arm])
    signal = arm.removeprefix(PICK)
    return {event: result["arms"][picked(result, event, signal) + ON_MEANS][event] for event in result["zoo"]}


def picked(result: Mapping[str, Any], event: str, signal: str) -> str:
    """The model of the zoo with the smallest value of a signal for an event."""
    zoo: Mapping[str, Mapping[str, float]] = result["zoo"][event]
    return min(zoo, key=lambda name: (zoo[name][signal], name))


def pixels(result: Mapping[str, Any], arm: str) -> DoubleArray:
    """(event, 4) tp, fp, fn, tn."""
    return np.array([each["pixels"] for each in events_of(result, arm).values()], dtype=np.float64)


def f1(result: Mapping[str, Any], arm: str) -> float:
    """Pixel F1 over all events of a judgement."""
    return float(scores_of(pixels(result, arm).sum(axis=0))["f1"])


def sure(events: Mapping[str, Mapping[str, Any]], temperature: float) -> dict[str, float]:
    """What `SURE` counts, over events, at one of `TEMPERATURES`."""
    rows = np.array([each["sure"][TEMPERATURES.index(temperature)] for each in events.values()])
    return dict(zip(SURE, rows.sum(axis=0).tolist(), strict=True))


def cautious(events: Mapping[str, Mapping[str, Any]]) -> float:
    """The smallest of `TEMPERATURES` at which no more than `WRONG` of the confident claims are wrong; else the largest."""
    for temperature in TEMPERATURES:
        counts = sure(events, temperature)
        if counts["wrong"] <= WRONG * counts["claimed"]:
            return temperature
    return TEMPERATURES[-1]


def totals(events: Mapping[str, Mapping[str, Any]]) -> list[EventTotals]:
    """The totals of the events."""
    return [EventTotals.from_json(each["totals"]) for each in events.values()]


Statistic = Callable[[DoubleArray], DoubleArray]
"""Counts (..., k), summed over events, to a score (...)."""


def macro(
    by_region: Sequence[DoubleArray], statistic: Statistic | None = None, *, draws: int = RESAMPLES
) -> DoubleArray:
    """(1 + draws,) mean over regions of the mean over seeds of a score: first as it is, then drawn again.

    `by_region` holds counts (seed, event, k) for each region, (seed, event, 4) of pixels for F1, the default. Regions,
    events and seeds are drawn with replacement, always from the same stream, so that two arms over the same regions,
    events and seeds are drawn alike. Where a score is NaN (a share of nothing) its region and seed are left out; NaN when
    all are.
    """
    score = statistic or _score
    rng = np.random.default_rng(0)
    times = rng.multinomial(len(by_region), np.full(len(by_region), 1 / len(by_region)), size=draws)
    first, total, counted = [], np.zeros(draws), np.zeros(draws)
    for place, counts in enumerate(by_region):
        seeds, events = counts.shape[:2]
        some = np.random.default_rng((1, place))
        drawn = some.multinomial(events, np.full(events, 1 / events), size=draws).astype(np.float64)
        luck = some.multinomial(seeds, np.full(seeds, 1 / seeds), size=draws)
        by_seed = score(np.einsum("re,sek->rsk", drawn, counts))
        first.append(_mean_known(score(counts.sum(axis=1))))
        known = np.where(np.isfinite(by_seed), luck, 0)
        there = known.sum(axis=1)
        mean = np.divide((np.nan_to_num(by_seed) * known).sum(axis=1), there, out=np.zeros(draws), where=there > 0)
        total += times[:, place] * mean
        counted += times[:, place] * (there > 0)
    drawn_again = np.divide(total, counted, out=np.full(draws, np.nan), where=counted > 0)
    return np.concatenate([[_mean_known(np.array(first))], drawn_again])


def _mean_known(values: DoubleArray) -> float:
    """Mean of what is not NaN; NaN when nothing is."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else math.nan


def estimate(values: DoubleArray, seeds: int, events: int) -> Estimate:
    """A value and its 95 % interval from `macro`, or from a difference of two of it; draws without a value are left out."""
    known = values[1:][np.isfinite(values[1:])]
    low, high = np.quantile(known, (0.025, 0.975)) if known.size else (values[0], values[0])
    return Estimate(float(values[0]), float(low), float(high), seeds, events)


def _score(counts: DoubleArray) -> DoubleArray:
    return np.asarray(scores_of(counts)["f1"])
