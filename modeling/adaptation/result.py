"""An adapted model: a new one beside the old, with a card that says what was done to it and what no longer holds."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from modeling.calibrated import moved_sure_margin
from modeling.model import LandslideModel, load_state, stored_state, weights_digest

KEPT_CALIBRATION = (
    "temperature and threshold are those of the model before, fitted to its source: nobody has measured how well"
    " calibrated the adapted model is, on the source or on the target"
)
"""What a card says where no labelled ground was there to calibrate on."""
SOURCE_CALIBRATION = (
    "the temperature was fitted again to the source's validation part, and the threshold where that of the model before had"
    " become worse there: how well calibrated the model is on the target is unknown"
)
"""What a card says where the source's validation part was there."""


def copied(model: LandslideModel) -> nn.Module:
    """The model's network for a method to change: a deep copy, on the CPU, in evaluation mode."""
    return copy.deepcopy(model.network).cpu().eval()


def adapted(
    model: LandslideModel,
    network: nn.Module,
    *,
    method: str,
    settings: Mapping[str, Any],
    data: Mapping[str, Any],
    seconds: float,
    calibration: str,
    suffix: str,
    found: Mapping[str, Any] | None = None,
    **changes: Any,
) -> LandslideModel:
    """`model` with `network` in its place, its weights rounded as they are stored, under the name `<name>-<suffix>`.

    The card gains an entry in `adaptation`; scores and sha256 of the model before move into it, since they are not this
    model's, and the proof for bfloat16 is dropped for the same reason. `changes` are other fields; with another temperature
    the margin from which 0.9 is stated is scaled alike, and dropped where the map begins among what it keeps back.
    """
    load_state(network, stored_state(network, model.storage))
    entry = {
        "method": method,
        "settings": dict(settings),
        "data": dict(data),
        "seconds": round(seconds, 2),
        "calibration": calibration,
        **(found or {}),
        "before": {"name": model.name, "sha256": model.weights_hash, "scores": model.card.get("scores", {})},
    }
    sure_margin = moved_sure_margin(
        model.sure_margin, model.temperature, changes.get("temperature", model.temperature),
        changes.get("threshold", model.threshold),
    )  # fmt: skip
    fields: dict[str, Any] = {"name": f"{model.name}-{suffix}", "bfloat16": None, "sure_margin": sure_margin}
    made = replace(model, network=network.eval(), **(fields | changes))
    digest = weights_digest(made)
    card = {**model.card, "adaptation": [*model.card.get("adaptation", []), entry], "scores": {}, "sha256": digest}
    return replace(made, weights_hash=digest, card=card)
