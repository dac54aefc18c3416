"""The rules that tell a landslide from what a network takes for one, as numbers with units; each drop has its reason.

A rule looks at one region of connected pixels at a time, so the rules' order does not matter, applying them twice changes
nothing, and no ground is ever added. What is not known of a region (slope where there is no elevation) breaks no rule.

- Area (Xu et al., DFPENet-geology): regions below A_min are noise. The paper takes 4 to 25 times the resolution in
  metres as square metres, and at its 1.5 m and 3 m the upper end: 37.5 and 75 m². At 10 m that is 250 m², 2.5 pixels.
- Elongation (the same paper): roads and rivers are long and narrow. The paper prints the inequality with the other sign,
  which would keep the roads and drop the landslides; what is dropped here is what is MORE elongated than the threshold.
- Slope (not in the paper): ground that is flat all over cannot slide. Looked at is the slope that 95 % of a region's
  pixels do not exceed, since a landslide runs out on flat ground but begins on a slope.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from modeling.errors import DataError

Doubles = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

AREA, ELONGATION, SLOPE, BEFORE = "area", "elongation", "slope", "before"
RULES = (AREA, ELONGATION, SLOPE)
"""The rules' names, as a reason begins; `BEFORE` is the subtraction's."""

AREA_M2_PER_M = 25.0
"""Smallest area in m² for each metre of a pixel's side: the paper's upper end."""
LENGTH_WIDTH_RATIO = 10.0
"""Most elongated shape that is kept, by the smallest rotated rectangle. The paper's number is not known here: of the 2,334
landslides that were mapped after the Noto earthquake of 2024, one in a thousand is longer than 9.9 times its width."""
SLOPE_DEG = 5.0
"""Flattest ground that is kept: set by hand. Landslides that need no more than 1 degree exist (soft sediments: Keefer 1984,
GSA Bulletin 95, 406-421), such as lateral spreads and rapid flows, and are lost by this rule."""


@dataclass(frozen=True)
class GeologyRules:
    """Thresholds; None switches a rule off. Raises `DataError` for one that is no positive number."""

    minimum_area_m2: float | None = None
    """Regions with a smaller area are dropped."""
    maximum_length_width_ratio: float | None = None
    """Regions whose smallest rotated rectangle is longer than so many times its width are dropped."""
    minimum_slope_deg: float | None = None
    """Regions of which 95 % are flatter are dropped."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise DataError(f"{name} of the geology rules is {value}: give a number from 0 upwards, or none")

    def to_json(self) -> dict[str, float | None]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> GeologyRules:
        """The inverse of `to_json`; raises `DataError` for other fields or values."""
        names = set(cls.__dataclass_fields__)
        if set(stored) != names:
            raise DataError(f"geology rules are {', '.join(sorted(names))}, not {', '.join(sorted(map(str, stored)))}")
        try:
            return cls(**{name: None if value is None else float(value) for name, value in stored.items()})
        except (TypeError, ValueError) as error:
            raise DataError(f"a threshold of the geology rules is no number: {error}") from error

    def described(self) -> str:
        """The thresholds in words, with their units."""
        parts = []
        if self.minimum_area_m2 is not None:
            parts.append(f"at least {self.minimum_area_m2:g} m²")
        if self.maximum_length_width_ratio is not None:
            parts.append(f"at most {self.maximum_length_width_ratio:g} times as long as wide")
        if self.minimum_slope_deg is not None:
            parts.append(f"not flatter than {self.minimum_slope_deg:g}°")
        return ", ".join(parts) or "no rule"


NO_RULES = GeologyRules()
"""Keeps everything."""


def default_rules(pixel_m: float) -> GeologyRules:
    """The rules for a map of `pixel_m` metres a pixel: 37.5 m² at 1.5 m, 75 m² at 3 m, 250 m² at 10 m."""
    if not (math.isfinite(pixel_m) and pixel_m > 0):
        raise DataError(f"a pixel cannot be {pixel_m} m wide")
    return GeologyRules(AREA_M2_PER_M * pixel_m, LENGTH_WIDTH_RATIO, SLOPE_DEG)


@dataclass(frozen=True)
class Measures:
    """What the rules look at; arrays are (region,), NaN where not known."""

    area_m2: Doubles
    """Area of the pixels."""
    length_width_ratio: Doubles
    """Longer over shorter side of the smallest rotated rectangle, 1 or more."""
    slope_p95_deg: Doubles
    """Slope that 95 % of the pixels do not exceed."""


@dataclass(frozen=True)
class Verdicts:
    """What the rules say of some regions."""

    broken: Mapping[str, BoolArray]
    """Rule of `RULES` -> which regions break it, (region,)."""
    dropped_because: tuple[str, ...]
    """Every rule that a region breaks with its measure and the threshold; empty for a region that is kept."""

    @property
    def kept(self) -> BoolArray:
        """Which regions break no rule, (region,)."""
        kept: BoolArray = ~np.any(list(self.broken.values()), axis=0)
        return kept

    @property
    def counts(self) -> dict[str, int]:
        """Rule -> how many regions break it; one that breaks two rules counts for both."""
        return {rule: int(which.sum()) for rule, which in self.broken.items()}


def judge(measures: Measures, rules: GeologyRules) -> Verdicts:
    """Which regions break which rule. A measure at its threshold is kept."""
    area, ratio, slope = measures.area_m2, measures.length_width_ratio, measures.slope_p95_deg
    nobody = np.zeros(len(area), bool)
    smallest, longest, flattest = rules.minimum_area_m2, rules.maximum_length_width_ratio, rules.minimum_slope_deg
    broken: dict[str, BoolArray] = {
        AREA: nobody if smallest is None else area < smallest,
        ELONGATION: nobody if longest is None else ratio > longest,
        SLOPE: nobody if flattest is None else slope < flattest,
    }
    reasons: list[list[str]] = [[] for _ in area]
    for index in np.flatnonzero(broken[AREA]).tolist():
        reasons[index].append(f"{AREA}: {area[index]:g} m² is less than {smallest:g} m²")
    for index in np.flatnonzero(broken[ELONGATION]).tolist():
        reasons[index].append(f"{ELONGATION}: {ratio[index]:.1f} times as long as wide, more than {longest:g}")
    for index in np.flatnonzero(broken[SLOPE]).tolist():
        reasons[index].append(f"{SLOPE}: 95 % is at most {slope[index]:g}° steep, less than {flattest:g}°")
    return Verdicts(broken, tuple("; ".join(each) for each in reasons))
