"""Intervals on an event's totals that cover the truth at their stated rate, for events of domains never seen.

Neighbouring pixels err together, and so do all pixels of a region, so that sums of per-pixel variances are far too
narrow. What is exchangeable is domains: the errors of whole events are taken, log((true + f) / (mapped + f)), from domains
that the model had not seen, and a new event is an event of one more domain. Hierarchical conformal prediction (Lee,
Barber and Willett 2023, arXiv 2306.06342) then gives every domain the weight 1 / (K + 1), shared among its events, and
the unseen one the weight 1 / (K + 1) at infinity. With K domains no interval of more than K / (K + 1) can be stated.

The error is taken from its median over domains, and divided by 1 + widening * novelty, where novelty says how far an
event lies from what the model knows: far events get wider intervals as far as far events erred more (never narrower
ones). Median and widening are fitted to the same events, so the rate is measured as well: `coverage`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize

from modeling.errors import DataError
from modeling.uncertainty.totals import MINIMUM_AREA_M2, EventTotals

DoubleArray = npt.NDArray[np.float64]

LEVEL = 0.8
"""Rate of the intervals: 4 domains can state it, 5 can measure it."""
_LEAST_DOMAINS = 3
FLOOR_M2 = 20_000.0
"""Added to areas before their ratio is taken: two hectares. Below that an error counts in m² and not as a factor, or one
event of which the map shows nothing would make all intervals a hundred times as wide; beyond it changes nothing."""
FLOOR_COUNT = 2.0
"""As `FLOOR_M2`, of counts."""
QUANTITIES = ("area", "count")


@dataclass(frozen=True)
class Range:
    """An interval on a total over the observed ground."""

    low: float
    """Lower end, 0 or more."""
    high: float
    """Upper end."""
    level: float
    """Share of events of unseen domains whose truth lies between the ends."""


@dataclass(frozen=True)
class ErrorModel:
    """How far a mapped total is off in domains that the model has not seen."""

    centre: float
    """Median over domains of log((true + floor) / (mapped + floor)): above 0 where maps show too little."""
    widening: float
    """An event's interval is 1 + widening * novelty times as wide on a logarithmic axis."""
    reach: float
    """Half width of the interval at novelty 0, on a logarithmic axis."""
    floor: float
    """Added before ratios are taken, in the total's unit."""

    def range(self, mapped: float, novelty: float, level: float) -> Range:
        """The interval for a mapped total."""
        width = self.reach * (1.0 + self.widening * max(novelty, 0.0))
        ends = ((mapped + self.floor) * math.exp(self.centre + sign * width) - self.floor for sign in (-1, 1))
        low, high = (max(0.0, end) for end in ends)
        return Range(low, high, level)


@dataclass(frozen=True)
class TotalsCalibration:
    """Fitted intervals on area and count of an event's landslides on observed ground."""

    area: ErrorModel
    """Of the total area, m²."""
    count: ErrorModel
    """Of the number of landslides."""
    level: float
    """Rate that the intervals state."""
    domains: tuple[str, ...]
    """Domains that they were fitted to, none of which the model had seen."""
    events: int
    """How many events of them."""
    minimum_area_m2: float = MINIMUM_AREA_M2
    """Smallest landslide that was counted: intervals hold for maps with the same one."""
    novelty: str = ""
    """What the events' novelty was measured by; empty: it was not measured, and intervals do not widen."""

    def area_range(self, mapped_m2: float, novelty: float = 0.0, observed_m2: float = math.inf) -> Range:
        """The interval on the total area, m², never above the ground that was observed."""
        found = self.area.range(mapped_m2, novelty, self.level)
        return Range(min(found.low, observed_m2), min(found.high, observed_m2), self.level)

    def count_range(self, mapped: int, novelty: float = 0.0, observed_m2: float = math.inf) -> Range:
        """The interval on the number of landslides, in whole numbers, rounded outwards.

        Never more than have room, at their minimum area, on the ground that was observed.
        """
        found, most = self.count.range(mapped, novelty, self.level), observed_m2 / max(self.minimum_area_m2, 1.0)
        return Range(math.floor(min(found.low, most)), math.ceil(min(found.high, most)), self.level)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "domains": list(self.domains)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> TotalsCalibration:
        """The inverse of `to_json`; raises `DataError` when it is none or its numbers cannot be."""
        try:
            area, count = (
                ErrorModel(**{key: float(stored[name][key]) for key in ("centre", "widening", "reach", "floor")})
                for name in QUANTITIES
            )
            made = cls(
                area, count, float(stored["level"]), tuple(str(name) for name in stored["domains"]),
                int(stored["events"]), float(stored["minimum_area_m2"]), str(stored["novelty"]),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"stored intervals of totals cannot be read: {error!r}") from error
        numbers = [value for each in (made.area, made.count) for value in asdict(each).values()]
        if not all(map(math.isfinite, numbers)) or not 0 < made.level < 1 or min(area.reach, count.reach) < 0:
            raise DataError(f"stored intervals of totals are out of range: {dict(stored)}")
        return made


@dataclass(frozen=True)
class Coverage:
    """How often intervals covered the truth on domains that they were not fitted to."""

    level: float
    """Rate that was stated."""
    share: Mapping[str, float]
    """`area` and `count` -> share of events covered, every domain counting alike."""
    low: Mapping[str, float]
    """Lower ends of 95 % intervals of these shares, domains drawn again."""
    high: Mapping[str, float]
    """Upper ends."""
    factor: Mapping[str, float]
    """`area` and `count` -> median over events of upper end / lower end, both with their floor."""
    factor_of_all: Mapping[str, float]
    """The same of intervals fitted to all domains, which are those that a model then states: with one domain more they need
    not reach as far."""
    by_domain: Mapping[str, Mapping[str, float]]
    """Domain -> the same shares."""
    events: int
    """How many events."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def highest_level(domains: int) -> float:
    """The highest rate, at most `LEVEL`, that so many domains can state with one left out; `DataError` for fewer than 3."""
    if domains < _LEAST_DOMAINS:
        raise DataError(
            f"intervals need events of {_LEAST_DOMAINS} domains and more that the model has not seen, not of {domains}"
        )
    return min(LEVEL, (domains - 1) / domains)


def measurable_level(domains: Sequence[str], level: float | None = None) -> float:
    """`level`, or the highest, if these domains can state it with one left out; raises `DataError` if they cannot."""
    count = len(set(domains))
    if level is None:
        return highest_level(count)
    if level > (count - 1) / max(count, 1):
        raise DataError(
            f"intervals of {100 * level:g} % need events of {_least_domains(level) + 1} domains that the model has not seen, "
            f"as each is left out in turn, there are {count} ({', '.join(dict.fromkeys(domains)) or 'none'}): add domains, or "
            "state a lower level"
        )
    return level


def fit_totals(
    events: Sequence[EventTotals],
    *,
    level: float = LEVEL,
    minimum_area_m2: float = MINIMUM_AREA_M2,
    novelty: str = "",
) -> TotalsCalibration:
    """Fit intervals to events of domains that the model had not seen; `novelty` says what theirs was measured by.

    Raises `DataError` when there are too few domains for the level.
    """
    domains = tuple(dict.fromkeys(event.domain for event in events))
    if level > len(domains) / (len(domains) + 1):
        raise DataError(
            f"intervals of {100 * level:g} % need events of {_least_domains(level)} domains that the model has not seen, there "
            f"are {len(domains)} ({', '.join(domains) or 'none'}): add domains, or state a lower level"
        )
    groups = [event.domain for event in events]
    far = np.array([max(event.novelty, 0.0) if novelty else 0.0 for event in events])
    area, count = (_fitted(errors(events, name), far, groups, level, floor_of(name)) for name in QUANTITIES)
    return TotalsCalibration(area, count, level, domains, len(events), minimum_area_m2, novelty)


def _least_domains(level: float) -> int:
    return math.ceil(level / (1 - level) - 1e-9)


def coverage(events: Sequence[EventTotals], *, level: float = LEVEL, novelty: str = "", seed: int = 0) -> Coverage:
    """Leave one domain out: intervals fitted to all others, counted on it, for every domain in turn."""
    covered: dict[str, dict[str, list[bool]]] = {}
    factors: dict[str, list[float]] = {name: [] for name in QUANTITIES}
    factors_of_all: dict[str, list[float]] = {name: [] for name in QUANTITIES}
    of_all = fit_totals(events, level=level, novelty=novelty)
    for domain in dict.fromkeys(event.domain for event in events):
        fitted = fit_totals([event for event in events if event.domain != domain], level=level, novelty=novelty)
        for event in (event for event in events if event.domain == domain):
            truth = {"area": event.true_m2, "count": float(event.true_count)}
            for name, found in _ranges(fitted, event).items():
                covered.setdefault(domain, {}).setdefault(name, []).append(found.low <= truth[name] <= found.high)
                factors[name].append(_factor(found, name))
            for name, found in _ranges(of_all, event).items():
                factors_of_all[name].append(_factor(found, name))
    by_domain = {
        domain: {name: float(np.mean(hits)) for name, hits in each.items()} for domain, each in covered.items()
    }
    drawn = np.random.default_rng(seed).integers(0, len(by_domain), (2000, len(by_domain)))
    shares = {name: np.array([each[name] for each in by_domain.values()]) for name in QUANTITIES}
    ends = {name: np.quantile(values[drawn].mean(axis=1), (0.025, 0.975)) for name, values in shares.items()}
    return Coverage(
        level=level,
        share={name: float(values.mean()) for name, values in shares.items()},
        low={name: float(low) for name, (low, _) in ends.items()},
        high={name: float(high) for name, (_, high) in ends.items()},
        factor={name: float(np.median(values)) for name, values in factors.items()},
        factor_of_all={name: float(np.median(values)) for name, values in factors_of_all.items()},
        by_domain=by_domain,
        events=len(events),
    )


def _ranges(fitted: TotalsCalibration, event: EventTotals) -> dict[str, Range]:
    far = event.novelty if fitted.novelty else 0.0
    return {
        "area": fitted.area_range(event.mapped_m2, far, event.observed_m2),
        "count": fitted.count_range(event.mapped_count, far),
    }


def _factor(found: Range, name: str) -> float:
    return (found.high + floor_of(name)) / (found.low + floor_of(name))


def errors(events: Sequence[EventTotals], quantity: str) -> DoubleArray:
    """(event,) log((true + floor) / (mapped + floor)) of `area` or `count`."""
    if quantity == "area":
        true, mapped = [event.true_m2 for event in events], [event.mapped_m2 for event in events]
    else:
        true, mapped = [event.true_count for event in events], [event.mapped_count for event in events]
    floor = floor_of(quantity)
    found: DoubleArray = np.log(np.array(true, np.float64) + floor) - np.log(np.array(mapped, np.float64) + floor)
    return found


def floor_of(quantity: str) -> float:
    """What is added to an `area` or a `count` before ratios are taken."""
    return FLOOR_M2 if quantity == "area" else FLOOR_COUNT


def hierarchical_quantile(scores: Sequence[float] | DoubleArray, groups: Sequence[str], level: float) -> float:
    """The `level` quantile of scores in groups for a score of one more group; infinite beyond K / (K + 1).

    Every group weighs 1 / (K + 1), shared alike among its scores; 1 / (K + 1) lies at infinity (Lee et al. 2023).
    """
    values = np.asarray(scores, np.float64)
    if len(values) != len(groups) or not len(groups):
        raise DataError(f"{len(values)} scores have {len(groups)} groups: one for each is needed")
    counts = Counter(groups)
    weights = np.array([1.0 / (len(counts) + 1) / counts[name] for name in groups])
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    first = int(np.searchsorted(reached, level - 1e-12))
    return float(values[order[first]]) if first < len(order) else math.inf


def _fitted(error: DoubleArray, far: DoubleArray, groups: list[str], level: float, floor: float) -> ErrorModel:
    names = list(dict.fromkeys(groups))
    members = [[index for index, name in enumerate(groups) if name == wanted] for wanted in names]
    centre = float(np.median([np.median(error[rows]) for rows in members]))
    size = np.abs(error - centre)
    weight = np.empty(len(error))
    for rows in members:
        weight[rows] = 1.0 / math.sqrt(len(rows))
    # |error| = a + b * novelty with a, b >= 0: intervals may widen with novelty, and never narrow.
    design = np.stack([np.ones_like(far), far], axis=1)
    (base, slope), _ = optimize.nnls(design * weight[:, None], size * weight)
    # Without a floor a base near zero would make the interval of a near event a point.
    base = max(float(base), 0.25 * float(np.median(size)))
    widening = float(slope) / base if base > 0 else 0.0
    reach = hierarchical_quantile(size / (1.0 + widening * far), groups, level)
    return ErrorModel(centre, widening, reach, floor)
