"""Fitted uncertainty kept with its model: an entry of the model's card, and so of its JSON beside the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from modeling.errors import DataError, WeightsError
from modeling.json_file import read_json, write_json
from modeling.model import LandslideModel
from modeling.uncertainty.conformal import TotalsCalibration
from modeling.uncertainty.shift import ShiftCalibration

CARD_KEY = "uncertainty"
"""Where a model's card has it."""


@dataclass(frozen=True)
class Uncertainty:
    """What was fitted for a model on domains that it had not seen."""

    totals: TotalsCalibration | None = None
    """Intervals on an event's area and count; None: nothing is claimed."""
    shift: ShiftCalibration | None = None
    """Temperatures for unseen ground."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """How it was fitted and what was measured: command, seeds, coverage; `simulated` says whether the events were."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "totals": None if self.totals is None else self.totals.to_json(),
            "shift": None if self.shift is None else self.shift.to_json(),
            "about": dict(self.about),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Uncertainty:
        """The inverse of `to_json`; raises `DataError` when it is none."""
        try:
            totals, shift, about = stored["totals"], stored["shift"], dict(stored["about"])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"stored uncertainty cannot be read: {error!r}") from error
        return cls(
            None if totals is None else TotalsCalibration.from_json(totals),
            None if shift is None else ShiftCalibration.from_json(shift),
            about,
        )


def wrong_when_sure(fitted: Uncertainty) -> float | None:
    """Of pixels mapped with 0.9 and more the largest share that was none on a domain, by what the others give.

    None where nothing was measured, or nothing was mapped so surely.
    """
    shares, reached = fitted.about.get("wrong_at_090", {}).get("after", {}), fitted.about.get("reached_at_090", {})
    # Both are 0 where nothing was claimed.
    return max((share for domain, share in shares.items() if share > 0 or reached.get(domain, 0) > 0), default=None)


def with_uncertainty(model: LandslideModel, fitted: Uncertainty) -> LandslideModel:
    """`model` whose card holds what was fitted; `modeling.model.save_model` then writes it."""
    return replace(model, card={**model.card, CARD_KEY: fitted.to_json()})


def uncertainty_of(model: LandslideModel) -> Uncertainty | None:
    """What was fitted for a model, None when nothing was; raises `WeightsError` when its card is damaged.

    A model that was adapted afterwards has another network than the one the numbers were fitted to: it has none.
    """
    stored = model.card.get(CARD_KEY)
    if stored is None:
        return None
    if model.card.get("adaptation"):
        return None
    try:
        return Uncertainty.from_json(stored)
    except DataError as error:
        raise WeightsError(f"the description of {model.name} is damaged: {error}") from error


def store_description(weights: Path, model: LandslideModel) -> Path:
    """Write temperature, sure margin, threshold and card of `model` into the JSON beside its weights, which stay as they are.

    Returns the JSON's path. Raises `WeightsError` when that file describes other weights.
    """
    path = weights.with_suffix(".json")
    about = read_json(path)
    if about.get("sha256") != model.weights_hash:
        raise WeightsError(f"{path} describes other weights than those of {model.name}: load the model again")
    calibration = {
        "temperature": model.temperature, "sure_margin": model.sure_margin, "threshold": model.threshold,
    }  # fmt: skip
    write_json(path, {**about, **calibration, "card": dict(model.card)})
    return path
