"""Whole regions through a network, and what comes out against the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from modeling import bands
from modeling.augment import IGNORE
from modeling.dataset import StoredRegion
from modeling.metrics import Confusion, confusion, object_scores

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

Margin = Callable[[torch.Tensor], torch.Tensor]
"""Physical channel values (batch, channel, y, x) to the logit of "landslide" (batch, y, x)."""


@dataclass(frozen=True)
class Evaluation:
    """Scores over a set of regions."""

    pixels: Confusion
    """Accumulated over all regions."""
    objects: dict[str, float]
    """As `metrics.object_scores`, counts accumulated over all regions."""


def region_margin(margin: Margin, region: StoredRegion, band_set: bands.BandSet) -> FloatArray:
    """The logit of "landslide" (y, x) of one region, computed in one piece."""
    x = torch.from_numpy(bands.assemble(band_set, region.layers()))[None]
    with torch.inference_mode():
        return margin(x)[0].numpy()


def validation_pixels(
    margin: Margin, regions: Iterable[StoredRegion], band_set: bands.BandSet
) -> tuple[FloatArray, BoolArray]:
    """Margin and truth of all pixels that count, one-dimensional."""
    margins, truths = [], []
    for region in regions:
        counts = np.asarray(region.truth) != IGNORE
        margins.append(region_margin(margin, region, band_set)[counts])
        truths.append(np.asarray(region.truth)[counts] == 1)
    return np.concatenate(margins), np.concatenate(truths)


def evaluate(predict: Callable[[StoredRegion], BoolArray], regions: Sequence[StoredRegion]) -> Evaluation:
    """Score `predict(region)`, bool (y, x), over regions."""
    pixels = Confusion()
    counts = dict.fromkeys(("true_objects", "found", "mapped_objects", "right"), 0.0)
    for region in regions:
        truth, valid = np.asarray(region.truth) == 1, np.asarray(region.truth) != IGNORE
        predicted = predict(region)
        pixels += confusion(predicted, truth, valid)
        objects = object_scores(predicted, truth, valid)
        counts = {name: value + objects[name] for name, value in counts.items()}
    precision = counts["right"] / counts["mapped_objects"] if counts["mapped_objects"] else 0.0
    recall = counts["found"] / counts["true_objects"] if counts["true_objects"] else 0.0
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return Evaluation(pixels, {"precision": precision, "recall": recall, "f1": f1, **counts})
