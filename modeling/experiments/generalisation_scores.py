"""Counts of arms over the regions of `generalisation` that are judged and decided, and the figures made of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from modeling.benchmark.compare import Estimate
from modeling.experiments.generalisation_arms import MULTI, ON_MEANS
from modeling.experiments.generalisation_choice import (
    RESAMPLES,
    Choice,
    DoubleArray,
    estimate,
    events_of,
    macro,
    picked,
    pixels,
    totals,
)
from modeling.experiments.generalisation_works import SURE, TEMPERATURES
from modeling.scoring.metrics import scores_of

NEAR = 0.05
"""A pick is good when its F1 is within this of the best model of the zoo."""
Judgements = Mapping[str, Mapping[int, Mapping[str, Any]]]
"""Region -> seed -> judgement."""
PerEvent = Callable[[str, Mapping[str, Any]], list[tuple[float, float]]]
"""Of a region and a judgement of it: for each event a numerator and a denominator, which add up over events."""


class Scored:
    """Arms over regions, and their figures with intervals."""

    def __init__(self, there: Judgements, choices: Mapping[str, Choice]) -> None:
        self.there, self.choices = there, choices
        self.regions = list(there)
        self.seeds = max(len(each) for each in there.values())
        self.events = sum(len(next(iter(each.values()))["zoo"]) for each in there.values())
        self._counts: dict[tuple[str, str], DoubleArray] = {}

    def counts(self, target: str, arm: str) -> DoubleArray:
        """(seed, event, 4) tp, fp, fn, tn."""
        if (target, arm) not in self._counts:
            self._counts[target, arm] = np.stack([pixels(result, arm) for result in self.there[target].values()])
        return self._counts[target, arm]

    def default(self, target: str) -> DoubleArray:
        """The same of what the other regions decided."""
        return self.counts(target, self.choices[target].arm)

    def singles(self, target: str) -> list[str]:
        """Domains of the single-domain models in a region's zoo."""
        first = next(iter(self.there[target].values()))
        return [name for name in next(iter(first["zoo"].values())) if name != MULTI]

    def best_single(self, target: str) -> str:
        """The single-domain model that is best on the region by its own labels: nobody could have known it."""
        return max(self.singles(target), key=lambda arm: _mean_f1(self.counts(target, arm)))

    def best_single_on_means(self, target: str) -> DoubleArray:
        """Counts of the same among those models when each is on scene means."""
        arms = (f"{name}{ON_MEANS}" for name in self.singles(target))
        return self.counts(target, max(arms, key=lambda arm: _mean_f1(self.counts(target, arm))))

    def fixed_single(self) -> str:
        """The domain whose model is best on the mean over all other regions."""
        domains = {name for target in self.regions for name in self.singles(target)}

        def mean(domain: str) -> float:
            unseen = [target for target in self.regions if domain in self.singles(target)]
            return float(np.mean([_mean_f1(self.counts(target, domain)) for target in unseen]))

        return max(sorted(domains), key=mean)

    def macro(self, arm: str | Callable[[str], DoubleArray], regions: Sequence[str] | None = None) -> DoubleArray:
        """`generalisation_choice.macro` of the F1 of an arm, or of what `arm` gives for each region."""
        counts = (lambda target: self.counts(target, arm)) if isinstance(arm, str) else arm
        return macro([counts(target) for target in regions or self.regions])

    def of_region(self, counts: DoubleArray) -> Estimate:
        """F1 in one region."""
        return estimate(macro([counts], draws=RESAMPLES // 4), self.seeds, counts.shape[1])

    def estimate(self, values: DoubleArray) -> Estimate:
        """With the seeds and events behind it."""
        return estimate(values, self.seeds, self.events)

    def has(self, arm: str) -> bool:
        """Whether every judgement has an arm."""
        return all(arm in result["arms"] for each in self.there.values() for result in each.values())

    def ratio(self, per_event: PerEvent) -> Estimate:
        """Mean over regions and seeds of a ratio of sums over events, those left out where the denominator is 0."""
        by_region = [
            np.stack([np.array(per_event(target, result), np.float64) for result in self.there[target].values()])
            for target in self.regions
        ]
        return self.estimate(macro(by_region, _ratio))

    def in_region(self, per_event: PerEvent, target: str) -> float:
        """The same of one region; NaN when the denominator is 0 for all seeds."""
        every = np.array([np.array(per_event(target, each), float).sum(axis=0) for each in self.there[target].values()])
        known = every[every[:, 1] > 0]
        return float(np.mean(known[:, 0] / known[:, 1])) if len(known) else math.nan

    def sure(self, part: str, whole: str, *, as_trained: bool = False, correct: bool = False) -> PerEvent:
        """Of what `SURE` counts of the default arm; with `correct` the numerator is `claimed` less `part`."""

        def found(target: str, result: Mapping[str, Any]) -> list[tuple[float, float]]:
            choice = self.choices[target]
            at = TEMPERATURES.index(TEMPERATURES[0] if as_trained else choice.temperature)
            rows = [dict(zip(SURE, each["sure"][at], strict=True)) for each in events_of(result, choice.arm).values()]
            return [(row["claimed"] - row[part] if correct else row[part], row[whole]) for row in rows]

        return found

    def covered(self, quantity: str) -> PerEvent:
        """Whether an event's interval of `area` or `count` holds the truth."""

        def found(target: str, result: Mapping[str, Any]) -> list[tuple[float, float]]:
            choice = self.choices[target]
            fitted, hits = choice.totals, []
            for event in totals(events_of(result, choice.arm)):
                if quantity == "area":
                    held, true = fitted.area_range(event.mapped_m2, event.novelty, event.observed_m2), event.true_m2
                else:
                    held, true = fitted.count_range(event.mapped_count, event.novelty), float(event.true_count)
                hits.append((float(held.low <= true <= held.high), 1.0))
            return hits

        return found

    def width(self, target: str) -> float:
        """Median over events of upper / lower end of the area's interval, both with its floor."""
        choice = self.choices[target]
        floor = choice.totals.area.floor
        held = [
            choice.totals.area_range(event.mapped_m2, event.novelty, event.observed_m2)
            for each in self.there[target].values()
            for event in totals(events_of(each, choice.arm))
        ]
        return float(np.median([(one.high + floor) / (one.low + floor) for one in held]))

    def near(self, signal: str = "") -> PerEvent:
        """Whether the model that a signal picks is nearly the best of the zoo; without `signal` the one decided on.

        A name of the zoo in place of a signal: whether that model is.
        """

        def found(target: str, result: Mapping[str, Any]) -> list[tuple[float, float]]:
            hits = []
            for event in result["zoo"]:
                scores = zoo_f1(result, event)
                best = max(scores.values())
                own = scores[
                    signal if signal in scores else picked(result, event, signal or self.choices[target].signal)
                ]
                hits.append((float(own >= best - NEAR), 1.0))
            return hits

        return found


def rank_correlation(signal: str) -> PerEvent:
    """Spearman's correlation of F1 and the signal turned round, over the zoo of an event; 0 where one is constant."""

    def found(target: str, result: Mapping[str, Any]) -> list[tuple[float, float]]:
        rows = []
        for event, zoo in result["zoo"].items():
            scores = zoo_f1(result, event)
            values = np.array([-zoo[name][signal] for name in scores], float)
            theirs = np.array(list(scores.values()))
            flat = np.ptp(values) == 0 or np.ptp(theirs) == 0
            rows.append((0.0 if flat else float(spearmanr(values, theirs).statistic), 1.0))
        return rows

    return found


def zoo_f1(result: Mapping[str, Any], event: str) -> dict[str, float]:
    """Model of the zoo -> its F1 on an event, on scene means as the signals are."""
    return {
        name: float(scores_of(np.array(result["arms"][f"{name}{ON_MEANS}"][event]["pixels"], float))["f1"])
        for name in result["zoo"][event]
    }


def _mean_f1(counts: DoubleArray) -> float:
    return float(np.mean(scores_of(counts.sum(axis=1))["f1"]))


def _ratio(sums: DoubleArray) -> DoubleArray:
    part, whole = sums[..., 0], sums[..., 1]
    found: DoubleArray = np.divide(part, whole, out=np.full_like(part, np.nan), where=whole != 0)
    return found
