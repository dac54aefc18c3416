"""An event in four numbers: area and count of its landslides as mapped and in truth, over the ground that was observed.

Both are counted by the rule of the inventory (`modeling.vectors.inventory`): bodies connected over pixel edges, those
smaller than a minimum area left out of the map. Of the truth every pixel counts towards the area, so what the minimum
area leaves out is a part of the error that intervals are fitted to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from modeling.data.batches import IGNORE, ByteArray
from modeling.errors import DataError
from modeling.scoring.evaluate import PIXEL_M2

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

MINIMUM_AREA_M2 = 400.0
"""Smallest body that is a landslide: what the flow's inventory keeps by default."""


@dataclass(frozen=True)
class EventTotals:
    """What a map says of one event, and what is true."""

    name: str
    """Of the event or region."""
    domain: str
    """Where it lies: events of one domain are alike."""
    mapped_m2: float
    """Total area of the mapped landslides of the minimum area and more."""
    expected_m2: float
    """Sum of the probabilities times the pixel's area: what the map expects if every probability were right."""
    mapped_count: int
    """How many landslides the map has."""
    true_m2: float
    """Total area of the true landslides, on observed ground."""
    true_count: int
    """How many true landslides of the minimum area there are on observed ground."""
    observed_m2: float
    """Ground that was observed and has a truth."""
    novelty: float = 0.0
    """How far the event is from what the model knows, 0 or more: for example a squared MMD."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> EventTotals:
        """The inverse of `to_json`; raises `DataError` when it is none."""
        try:
            return cls(
                name=str(stored["name"]),
                domain=str(stored["domain"]),
                mapped_m2=float(stored["mapped_m2"]),
                expected_m2=float(stored["expected_m2"]),
                mapped_count=int(stored["mapped_count"]),
                true_m2=float(stored["true_m2"]),
                true_count=int(stored["true_count"]),
                observed_m2=float(stored["observed_m2"]),
                novelty=float(stored["novelty"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"stored totals cannot be read: {error!r}") from error


def totals_of(
    probability: FloatArray,
    threshold: float,
    truth: ByteArray,
    *,
    name: str,
    domain: str,
    pixel_m2: float = PIXEL_M2,
    minimum_area_m2: float = MINIMUM_AREA_M2,
    novelty: float = 0.0,
) -> EventTotals:
    """Count one event: probability (y, x), NaN where not observed; truth (y, x) of 0, 1 and `IGNORE`.

    Raises `DataError` when the shapes differ or nothing was observed.
    """
    if probability.shape != truth.shape:
        raise DataError(f"{name}: the map has shape {probability.shape}, the truth {truth.shape}")
    observed = (truth != IGNORE) & np.isfinite(probability)
    if not observed.any():
        raise DataError(f"{name}: no pixel was observed, so there are no totals")
    least = minimum_area_m2 / pixel_m2
    mapped, true = observed & (probability >= threshold), observed & (truth == 1)
    mapped_sizes = _sizes(mapped, least)
    return EventTotals(
        name=name,
        domain=domain,
        mapped_m2=float(mapped_sizes.sum()) * pixel_m2,
        expected_m2=float(probability[observed].sum(dtype=np.float64)) * pixel_m2,
        mapped_count=len(mapped_sizes),
        true_m2=float(true.sum()) * pixel_m2,
        true_count=len(_sizes(true, least)),
        observed_m2=float(observed.sum()) * pixel_m2,
        novelty=novelty,
    )


def _sizes(mask: BoolArray, least_px: float) -> npt.NDArray[np.int64]:
    """Pixels of every body, connected over edges, of `least_px` and more."""
    label, _ = ndimage.label(mask)
    sizes = np.bincount(label.ravel())[1:]
    return np.asarray(sizes[sizes >= least_px], dtype=np.int64)
