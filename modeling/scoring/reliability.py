"""How far a probability can be believed: histograms of margins, and the reliability diagram drawn from them.

A test set may hold more pixels than fit into memory. All that calibration asks of them are counts of landslide and
background pixels over narrow bins of the margin, which add up exactly, in any order and over any number of processes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from modeling.calibrated import calibrated_logit
from modeling.errors import DataError
from modeling.scoring.metrics import Confusion

FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]
CountArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

BINS = 8192
_LARGEST = 8.0  # of asinh(margin): a margin of 1490, where any probability is 0 or 1
_STEP = 2 * _LARGEST / BINS


@dataclass(frozen=True, eq=False)
class MarginHistogram:
    """Pixels counted by margin, the uncalibrated logit of "landslide"; add those of several blocks.

    Bins are equally wide in asinh(margin): 0.002 around 0, and 0.2 % of the margin where it is large. A network trained
    with dice has margins of hundreds, one trained with cross-entropy of a few: both are resolved.
    """

    landslide: CountArray = field(repr=False)
    """(BINS,) pixels that are landslide in truth, lowest margin first."""
    background: CountArray = field(repr=False)
    """(BINS,) pixels that are not."""

    @classmethod
    def empty(cls) -> MarginHistogram:
        """No pixel yet."""
        return cls(np.zeros(BINS, dtype=np.int64), np.zeros(BINS, dtype=np.int64))

    @classmethod
    def of(cls, margin: FloatArray, truth: BoolArray, valid: BoolArray | None = None) -> MarginHistogram:
        """Count the pixels where `valid` (None: all); arrays of one shape. Raises `DataError` for a margin of NaN."""
        if margin.shape != truth.shape or (valid is not None and valid.shape != truth.shape):
            raise DataError(f"margins of shape {margin.shape} do not fit a truth of shape {truth.shape}")
        bins = _bin_of(margin if valid is None else margin[valid])
        real = truth.ravel() if valid is None else truth[valid]
        counts = np.bincount(bins + BINS * real, minlength=2 * BINS)
        return cls(background=counts[:BINS].astype(np.int64), landslide=counts[BINS:].astype(np.int64))

    def __add__(self, other: MarginHistogram) -> MarginHistogram:
        return MarginHistogram(self.landslide + other.landslide, self.background + other.background)

    @property
    def pixels(self) -> int:
        """How many were counted."""
        return int(self.landslide.sum() + self.background.sum())

    def confusion_at(self, threshold: float, temperature: float = 1.0) -> Confusion:
        """Counts of the map sigmoid(margin / temperature) >= threshold, with the threshold at the next bin's edge."""
        with np.errstate(divide="ignore"):
            first = _first_from(temperature * special.logit(threshold))
        tp, fp = int(self.landslide[first:].sum()), int(self.background[first:].sum())
        return Confusion(tp=tp, fp=fp, fn=int(self.landslide.sum()) - tp, tn=int(self.background.sum()) - fp)

    def above(self, margin: float) -> MarginHistogram:
        """The pixels with at least that margin, with the margin at the next bin's edge."""
        kept = np.arange(BINS) >= _first_from(margin)
        return MarginHistogram(np.where(kept, self.landslide, 0), np.where(kept, self.background, 0))

    def to_json(self) -> dict[str, Any]:
        """Plain values: only the bins that hold something."""
        filled = np.flatnonzero(self.landslide + self.background)
        return {
            "bins": BINS,
            "filled": filled.tolist(),
            "landslide": self.landslide[filled].tolist(),
            "background": self.background[filled].tolist(),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> MarginHistogram:
        """The inverse of `to_json`; raises `DataError` when it was made with other bins or is damaged."""
        made = cls.empty()
        try:
            if int(stored["bins"]) != BINS:
                raise DataError(f"the stored histogram has {stored['bins']} bins, not {BINS}: evaluate again")
            filled = np.asarray(stored["filled"], dtype=np.int64)
            if filled.size and not 0 <= filled.min() <= filled.max() < BINS:
                raise DataError(f"the stored histogram fills bins beyond its {BINS}")
            made.landslide[filled] = stored["landslide"]
            made.background[filled] = stored["background"]
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"the stored histogram cannot be read: {error!r}") from error
        return made


@dataclass(frozen=True)
class Reliability:
    """A reliability diagram: what was predicted, beside what was true."""

    edges: tuple[float, ...]
    """Edges of the probability bins, from 0 to 1."""
    pixels: tuple[int, ...]
    """Pixels a bin."""
    probability: tuple[float, ...]
    """Mean predicted probability of a bin's pixels; the bin's middle where it has none."""
    observed: tuple[float, ...]
    """Share of a bin's pixels that are landslide; 0 where it has none."""
    ece: float
    """Expected calibration error: |observed - probability|, averaged over pixels (Guo et al. 2017, equation 3)."""
    mce: float
    """Maximum calibration error: the largest gap of any bin (their equation 5)."""
    brier: float
    """Mean of (probability - truth)² over pixels (Brier 1950)."""
    nll: float
    """Mean negative log likelihood, in nats a pixel."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "edges": list(self.edges),
            "pixels": list(self.pixels),
            "probability": list(self.probability),
            "observed": list(self.observed),
            "ece": self.ece,
            "mce": self.mce,
            "brier": self.brier,
            "nll": self.nll,
        }


def reliability(
    histogram: MarginHistogram, temperature: float = 1.0, bins: int = 15, *, sure_margin: float = 0.0
) -> Reliability:
    """The diagram of the calibrated probability (`modeling.calibrated`) over `bins` equally wide bins of probability.

    Every pixel is taken to lie in the middle of its margin bin, which moves its probability by less than 0.0003.
    Raises `DataError` when nothing was counted.
    """
    if histogram.pixels == 0:
        raise DataError("there is no pixel to judge the calibration by")
    margin = calibrated_logit(margins(), temperature, sure_margin)
    probability = special.expit(margin)
    landslide, background = histogram.landslide.astype(np.float64), histogram.background.astype(np.float64)
    total = landslide + background
    group = np.minimum((probability * bins).astype(np.int64), bins - 1)

    def by_bin(amount: DoubleArray) -> DoubleArray:
        sums: DoubleArray = np.bincount(group, weights=amount, minlength=bins).astype(np.float64)
        return sums

    pixels, claimed, real = by_bin(total), by_bin(total * probability), by_bin(landslide)
    edges = np.linspace(0, 1, bins + 1)
    middle = (edges[1:] + edges[:-1]) / 2
    some = np.maximum(pixels, 1)
    gap = np.abs(claimed - real)
    brier = landslide * (1 - probability) ** 2 + background * probability**2
    nll = -(landslide * special.log_expit(margin) + background * special.log_expit(-margin))
    return Reliability(
        edges=_floats(edges),
        pixels=tuple(int(count) for count in pixels),
        probability=_floats(np.where(pixels > 0, claimed / some, middle)),
        observed=_floats(real / some),
        ece=float(gap.sum() / total.sum()),
        mce=float((gap / some).max()),
        brier=float(brier.sum() / total.sum()),
        nll=float(nll.sum() / total.sum()),
    )


def _first_from(margin: float) -> int:
    """The first bin that lies at or above a margin."""
    return int(np.clip(np.ceil(np.round((np.arcsinh(margin) + _LARGEST) / _STEP, 6)), 0, BINS - 1))


def margins() -> DoubleArray:
    """(BINS,) the margins in the middle of the histograms' bins."""
    middle: DoubleArray = np.sinh((np.arange(BINS) + 0.5) * _STEP - _LARGEST)
    return middle


def margin_edges() -> DoubleArray:
    """(BINS,) the lowest margin of each bin; the first and last bins also hold what lies beyond."""
    lowest: DoubleArray = np.sinh(np.arange(BINS) * _STEP - _LARGEST)
    return lowest


def _bin_of(margin: FloatArray) -> npt.NDArray[np.int64]:
    values = margin.ravel().astype(np.float64)
    if np.isnan(values).any():
        raise DataError(
            f"{int(np.isnan(values).sum())} of {values.size} margins are not a number: the network diverged or its weights"
            " are damaged; train it with a lower learning rate"
        )
    # Cut off before asinh, so that an infinite margin lands in the last bin and not beyond all integers.
    np.clip(values, -np.sinh(_LARGEST), np.sinh(_LARGEST), out=values)
    return np.clip(np.floor((np.arcsinh(values) + _LARGEST) / _STEP), 0, BINS - 1).astype(np.int64)


def _floats(values: DoubleArray) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
