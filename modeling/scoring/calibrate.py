"""Temperature and threshold: chosen on validation data, stored with the weights.

Both are found from a `MarginHistogram`, which is as small for a million blocks as for one.
"""

from __future__ import annotations

import numpy as np
from scipy import optimize, special

from modeling.errors import DataError
from modeling.scoring.reliability import MarginHistogram, margin_edges, margins, reliability

_LOG_RANGE = (-5.0, 5.0)  # of the temperature's logarithm: 1/150 to 150


def fit_temperature(histogram: MarginHistogram) -> float:
    """The T that minimises the mean negative log likelihood of sigmoid(margin / T) (Guo et al. 2017).

    Raises `DataError` when there is nothing to fit to.
    """
    if histogram.pixels == 0:
        raise DataError("temperature cannot be fitted: there is no validation pixel")
    margin = margins()
    landslide, background = histogram.landslide / histogram.pixels, histogram.background / histogram.pixels

    def loss(log_temperature: float) -> float:
        scaled = margin / np.exp(log_temperature)
        return float(-(landslide @ special.log_expit(scaled) + background @ special.log_expit(-scaled)))

    found = optimize.minimize_scalar(loss, bounds=_LOG_RANGE, method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def best_threshold(histogram: MarginHistogram, temperature: float = 1.0) -> tuple[float, float]:
    """The threshold with the highest F1 of sigmoid(margin / temperature) >= threshold, and that F1.

    All bin edges of the histogram are tried, so the F1 is that of the pixels themselves. Raises `DataError` when no
    pixel is a landslide.
    """
    landslides = int(histogram.landslide.sum())
    if landslides == 0:
        raise DataError("a threshold cannot be chosen: no validation pixel is a landslide")
    found = histogram.landslide[::-1].cumsum()[::-1]
    claimed = found + histogram.background[::-1].cumsum()[::-1]
    f1 = 2 * found / (claimed + landslides)
    # Of equally good thresholds the one in the middle: it stands farthest from the pixels on either side.
    best = np.flatnonzero(f1 == f1.max())
    run = best[: int(np.argmax(np.diff(best, append=best[-1] + 2) > 1)) + 1]
    chosen = int(run[len(run) // 2])
    return float(special.expit(margin_edges()[chosen] / temperature)), float(f1[chosen])


def calibration_error(histogram: MarginHistogram, temperature: float = 1.0, bins: int = 15) -> float:
    """Expected calibration error of sigmoid(margin / temperature); see `modeling.scoring.reliability`."""
    return reliability(histogram, temperature, bins).ece
