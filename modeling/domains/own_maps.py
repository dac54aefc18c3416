"""What a model's own maps of unlabelled ground say of it: how unsure it is, and how far it is from what all models say.

None of these needs a label, and none is trusted by default: a model that sees nothing at all is very sure of itself. They
are here to be measured against true scores (Morerio et al. 2018 choose by the entropy on the target; Jiang et al. 2022
find that disagreement tracks the error).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from modeling.data.batches import Blocks
from modeling.errors import DataError
from modeling.model import LandslideModel

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

CONFIDENT = 0.9
"""A pixel is sure when its class has this probability."""


@dataclass(frozen=True)
class OwnMap:
    """A model's maps of some ground, in four numbers over the pixels whose channels are all known."""

    entropy: float
    """Mean entropy of the calibrated probability, in nats: 0 sure everywhere, 0.69 sure nowhere."""
    low_confidence: float
    """Share of pixels whose class has a probability below `CONFIDENT`."""
    disagreement: float
    """1 - F1 between the model's mask and that of all models together, its own voice among them; NaN without others."""
    positive_share: float
    """Share of pixels that the model calls landslide; no signal, but it tells a model that sees nothing."""


def own_maps(
    models: Sequence[LandslideModel], blocks: Blocks, channels: Sequence[str], *,
    voices: Mapping[str, float] | None = None, pad_to: int = 32, told: Callable[[int], None] | None = None,
) -> dict[str, OwnMap]:  # fmt: skip
    """What each model's maps of `blocks`, whose channels are called `channels`, say of it; labels are never read.

    What all say together is the mean of their calibrated probabilities, cut at the mean of their thresholds; a model named
    in `voices` counts that much, the others 1.

    `told` hears how many blocks are done. Each model maps where its network lies. Blocks are padded with unknown ground to
    a multiple of `pad_to` pixels. Raises `DataError` when a model needs a channel that is not there, when two models have
    one name, or when no pixel is known.
    """
    if len({model.name for model in models}) != len(models):
        raise DataError(f"models with one name cannot be told apart: {', '.join(model.name for model in models)}")
    wanted = {}
    for model in models:
        if missing := [name for name in model.channels if name not in channels]:
            raise DataError(f"{model.name} needs {', '.join(missing)}, which this ground does not have")
        wanted[model.name] = [channels.index(name) for name in model.channels]
    counts = {model.name: _Counts() for model in models}
    shares = [(voices or {}).get(model.name, 1.0) for model in models]
    threshold = np.average([model.threshold for model in models], weights=shares)
    for number, block in enumerate(blocks):
        if told is not None and number:
            told(number)
        known = np.isfinite(block.channels).all(axis=0)
        if not known.any():
            continue
        maps = [_map(model, block.channels[wanted[model.name]], pad_to)[known] for model in models]
        together = np.average(maps, axis=0, weights=shares) >= threshold
        for model, probability in zip(models, maps, strict=True):
            counts[model.name].add(probability, probability >= model.threshold, together)
    if told is not None:
        told(len(blocks))
    if not all(count.pixels for count in counts.values()):
        raise DataError("no pixel of this ground has all channels")
    return {name: count.told(alone=len(models) == 1) for name, count in counts.items()}


def _map(model: LandslideModel, channels: FloatArray, pad_to: int) -> FloatArray:
    rows, columns = channels.shape[1:]
    pad = [(0, 0), (0, -rows % pad_to), (0, -columns % pad_to)]
    place = next(model.network.parameters(), torch.empty(0)).device  # of no weights: where the input is
    padded = torch.from_numpy(np.pad(channels, pad, constant_values=np.nan))[None].to(place)
    return np.asarray(model.probability(padded)[0, :rows, :columns].cpu().numpy(), np.float32)


class _Counts:
    def __init__(self) -> None:
        self.pixels = self.unsure = self.positive = 0
        self.entropy = 0.0
        self.both = self.theirs = 0

    def add(self, probability: FloatArray, mask: BoolArray, together: BoolArray) -> None:
        p = np.clip(probability.astype(np.float64), 1e-12, 1 - 1e-12)
        self.pixels += p.size
        self.entropy += float(-(p * np.log(p) + (1 - p) * np.log1p(-p)).sum())
        self.unsure += int((np.maximum(p, 1 - p) < CONFIDENT).sum())
        self.positive += int(mask.sum())
        self.both += int((mask & together).sum())
        self.theirs += int(together.sum())

    def told(self, *, alone: bool) -> OwnMap:
        either = self.positive + self.theirs
        agreement = 2 * self.both / either if either else 1.0
        return OwnMap(
            entropy=self.entropy / self.pixels,
            low_confidence=self.unsure / self.pixels,
            disagreement=math.nan if alone else 1 - agreement,
            positive_share=self.positive / self.pixels,
        )
