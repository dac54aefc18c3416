"""Temperature and threshold: chosen on validation data, stored with the weights."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from modeling.errors import DataError

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

_BINS = 1000


def fit_temperature(margin: FloatArray, truth: BoolArray) -> float:
    """The T that minimises the mean negative log likelihood of sigmoid(margin / T) (Guo et al. 2017); 1-D arrays.

    Raises `DataError` when there is nothing to fit to.
    """
    if margin.size == 0:
        raise DataError("temperature cannot be fitted: there is no validation pixel")
    signed = np.where(truth, margin, -margin).astype(np.float64)

    def loss(log_temperature: float) -> float:
        return float(-special.log_expit(signed / np.exp(log_temperature)).mean())

    return float(np.exp(optimize.minimize_scalar(loss, bounds=(-3.0, 3.0), method="bounded").x))


def best_threshold(probability: FloatArray, truth: BoolArray) -> tuple[float, float]:
    """The threshold in [0, 1] with the highest F1 of `probability >= threshold`, and that F1; 1-D arrays.

    Thresholds are multiples of 0.001. Raises `DataError` when no pixel is a landslide.
    """
    if not truth.any():
        raise DataError("a threshold cannot be chosen: no validation pixel is a landslide")
    bins = np.clip((probability * _BINS).astype(np.int64), 0, _BINS - 1)
    positives = np.bincount(bins[truth], minlength=_BINS)[::-1].cumsum()[::-1]
    claimed = np.bincount(bins, minlength=_BINS)[::-1].cumsum()[::-1]
    f1 = 2 * positives / (claimed + positives[0])
    best = int(np.argmax(f1))
    return best / _BINS, float(f1[best])


def calibration_error(probability: FloatArray, truth: BoolArray, bins: int = 15) -> float:
    """Expected calibration error over equal-width bins (Guo et al. 2017, equation 3); 1-D arrays."""
    index = np.clip((probability * bins).astype(np.int64), 0, bins - 1)
    gap = np.bincount(index, weights=probability, minlength=bins) - np.bincount(index, weights=truth, minlength=bins)
    return float(np.abs(gap).sum() / max(probability.size, 1))
