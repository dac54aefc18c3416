"""Channel normalisation: fitted on training data only, stored beside the weights, applied inside the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from modeling.errors import DataError, WeightsError

METHODS = ("min-max", "percentile", "standardise")
_SMALLEST_SCALE = 1e-6


@dataclass(frozen=True)
class Normalisation:
    """y = clip((x - offset) / scale) for each channel; unknown values become the training mean."""

    method: str
    """One of `METHODS`."""
    offset: tuple[float, ...]
    """Subtracted, in the channel's physical unit."""
    scale: tuple[float, ...]
    """Divided by, in the channel's physical unit, positive."""
    fill: tuple[float, ...]
    """The normalised value that stands for NaN: the channel's mean over the training data (0 for `standardise`)."""
    clip: tuple[float, float]
    """Normalised values beyond these are cut, so that snow or a sensor glitch cannot drown everything else."""

    def apply(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise (batch, channel, y, x) physical values; the result is finite."""
        if x.ndim != 4 or x.shape[1] != len(self.offset):
            raise DataError(f"expected (batch, {len(self.offset)}, y, x) channel values, got {tuple(x.shape)}")
        offset, scale, fill = (
            torch.tensor(values, dtype=torch.float32, device=x.device).view(1, -1, 1, 1)
            for values in (self.offset, self.scale, self.fill)
        )
        y = ((x.float() - offset) / scale).clamp(*self.clip)
        return torch.where(torch.isnan(y), fill, y)

    def to_json(self) -> dict[str, Any]:
        """Plain values for a model's JSON file."""
        return {
            "method": self.method,
            "offset": list(self.offset),
            "scale": list(self.scale),
            "fill": list(self.fill),
            "clip": list(self.clip),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Normalisation:
        """The inverse of `to_json`; raises `WeightsError` when fields are missing, uneven or not positive scales."""
        try:
            low, high = (float(value) for value in stored["clip"])
            made = cls(
                method=str(stored["method"]),
                offset=tuple(float(value) for value in stored["offset"]),
                scale=tuple(float(value) for value in stored["scale"]),
                fill=tuple(float(value) for value in stored["fill"]),
                clip=(low, high),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise WeightsError(f"the stored normalisation cannot be read: {error!r}") from error
        if not len(made.offset) == len(made.scale) == len(made.fill) or not all(scale > 0 for scale in made.scale):
            raise WeightsError("the stored normalisation has uneven lengths or a scale that is not positive")
        return made


def fit(method: str, values: npt.NDArray[np.float32]) -> Normalisation:
    """Fit to training `values`, (channel, n) in physical units, NaN ignored.

    `min-max` maps the extremes to 0 and 1 (Yang et al. 2024), `percentile` the 2nd and 98th percentile,
    `standardise` to mean 0 and standard deviation 1. Raises `DataError` for an unknown method or an empty channel.
    """
    if method not in METHODS:
        raise DataError(f"unknown normalisation {method!r}: choose one of {', '.join(METHODS)}")
    known = [channel[np.isfinite(channel)].astype(np.float64) for channel in values]
    if empty := [index for index, channel in enumerate(known) if channel.size == 0]:
        raise DataError(f"normalisation cannot be fitted: channels {empty} have no finite training value")
    mean = np.array([channel.mean() for channel in known])
    if method == "standardise":
        offset, scale, clip = mean, np.array([channel.std() for channel in known]), (-6.0, 6.0)
    else:
        tails = (0.0, 100.0) if method == "min-max" else (2.0, 98.0)
        low, high = np.array([np.percentile(channel, tails) for channel in known]).T
        offset, scale, clip = low, high - low, (-0.5, 1.5)
    scale = np.maximum(scale, _SMALLEST_SCALE)
    return Normalisation(
        method=method, offset=_floats(offset), scale=_floats(scale), fill=_floats((mean - offset) / scale), clip=clip
    )


def _floats(values: npt.NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
