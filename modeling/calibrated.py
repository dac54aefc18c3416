"""From a margin to a calibrated probability, the claims that people act on kept for where they hold.

A temperature (Guo et al. 2017) makes probabilities right on the mean. Of the pixels that it calls landslide with 0.9 and more,
far more than a tenth can be none on ground unlike the training ground. A higher temperature for all of them would mend that
and spoil every other probability. So two numbers are used: the temperature up to `LARGEST_UNSURE`, and from `sure_margin` on a
line through the margin at which 0.9 may be said. Between the two the probability stays at `LARGEST_UNSURE`. Order is kept.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch  # charts are drawn where it need not be loaded

CONFIDENT = 0.9
"""A probability from which people act."""
LARGEST_UNSURE = 0.89
"""The largest probability below it, where claims of 0.9 and more are kept back: far enough to be none when it is rounded."""

_CONFIDENT_LOGIT = math.log(CONFIDENT / (1 - CONFIDENT))
_UNSURE_LOGIT = math.log(LARGEST_UNSURE / (1 - LARGEST_UNSURE))
_LEAST = 1e-6  # nearer to 0 and 1 a probability in float32 tells its logit badly
_ROUNDED = 1e-4

Values = TypeVar("Values", "torch.Tensor", npt.NDArray[np.float32], npt.NDArray[np.float64])


def calibrated_logit(margin: Values, temperature: float, sure_margin: float = 0.0) -> Values:
    """The logit of the calibrated probability, of any shape, by `temperature` and the margin from which 0.9 may be said.

    With `sure_margin` 0 nothing is kept back: margin / temperature.
    """
    logit = margin / temperature
    if not sure_margin:
        return logit
    beyond = margin * (_CONFIDENT_LOGIT / sure_margin) - _UNSURE_LOGIT
    kept: Values = logit.clip(max=_UNSURE_LOGIT) + beyond.clip(min=0.0)
    return kept


def margin_range(
    probability: npt.NDArray[np.float32], temperature: float, sure_margin: float = 0.0
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The smallest and the largest margin that can have been behind a stated probability: the inverse of `calibrated_logit`.

    They differ where probabilities are kept back, and where one is so near to 0 or 1 that float32 tells no more.
    """
    stated = probability.astype(np.float64)
    logit = np.log(np.clip(stated, _LEAST, 1 - _LEAST)) - np.log1p(-np.clip(stated, _LEAST, 1 - _LEAST))
    low = high = logit * temperature
    if sure_margin:
        sure = logit * (sure_margin / _CONFIDENT_LOGIT)
        low = np.where(logit > _UNSURE_LOGIT + _ROUNDED, sure, np.minimum(low, _UNSURE_LOGIT * temperature))
        high = np.where(logit > _UNSURE_LOGIT - _ROUNDED, sure, high)
    return np.where(stated <= _LEAST, -np.inf, low), np.where(stated >= 1 - _LEAST, np.inf, high)


def moved_sure_margin(sure_margin: float, before: float, after: float, threshold: float) -> float:
    """`sure_margin` when a network's temperature goes from `before` to `after`: as much is kept back of it as before.

    0, nothing, where the map begins among the probabilities that would be kept back.
    """
    return sure_margin * after / before if threshold < LARGEST_UNSURE else 0.0


def is_calibration(temperature: float, sure_margin: float, threshold: float) -> bool:
    """Whether three numbers can be a model's: finite, the map not beginning among what is kept back."""
    if not (0 < temperature < math.inf and 0 <= threshold <= 1):
        return False
    least = plain_sure_margin(temperature) * 0.999  # rounded in a file
    return sure_margin == 0 or (least <= sure_margin < math.inf and threshold < LARGEST_UNSURE)


def plain_sure_margin(temperature: float) -> float:
    """The margin that `temperature` alone calls 0.9: the smallest `sure_margin` there can be with it."""
    return temperature * _CONFIDENT_LOGIT
