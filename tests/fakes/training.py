"""A training set that any network learns in a few steps: bright square scars on dark noise, in three channels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

from modeling import networks
from modeling.bands import BandSet
from modeling.data.batches import IGNORE, Batch, Block, ByteArray, FloatArray
from modeling.data.normalise import Normalisation
from modeling.recipes import Optimiser, Recipe, Schedule

BANDS = BandSet("toy", ("first", "second", "third"), "for tests")
NORMALISATION = Normalisation("standardise", (0.1,) * 3, (0.1,) * 3, (0.0,) * 3, (-6.0, 6.0))
SIDE_PX = 48
RECIPE = Recipe(
    "toy", "tiny", "focal+dice", Optimiser("adam", 3e-2), Schedule("polynomial", warm_up=2), steps=6, batch=2,
    patch_px=SIDE_PX, validate_every=2,
)  # fmt: skip


def patch(seed: tuple[int, ...], side_px: int = SIDE_PX) -> tuple[FloatArray, ByteArray]:
    """Channels (3, y, x) with a few unknown values, and truth (y, x) of 0, 1 and 255."""
    rng = np.random.default_rng(seed)
    truth = np.zeros((side_px, side_px), dtype=np.uint8)
    for top, left in rng.integers(0, side_px - 12, (3, 2)):
        truth[top : top + 12, left : left + 12] = 1
    channels = rng.normal(0.05, 0.005, (3, side_px, side_px)).astype(np.float32) + (truth == 1) * np.float32(0.2)
    channels[:, :2, :2] = np.nan
    truth[:2] = IGNORE
    return channels, truth


@dataclass(frozen=True)
class ToySampler:
    """Batches that depend on their number."""

    batch: int = 2
    seed: int = 0

    def draw(self, number: int) -> Batch:
        patches = [patch((self.seed, number, index)) for index in range(self.batch)]
        return np.stack([channels for channels, _ in patches]), np.stack([truth for _, truth in patches])


@dataclass(frozen=True)
class ToyBlocks:
    """Validation patches, the last one of another size."""

    count: int = 3

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Block]:
        for index in range(self.count):
            yield Block(*patch((9, index), SIDE_PX + 5 * (index == self.count - 1)), name=f"toy-{index}", domain="toy")


class Tiny(nn.Module):
    """The smallest network with all that training must carry: a trunk, batch statistics, dropout."""

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(in_channels, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Sequential(nn.Dropout2d(0.1), nn.Conv2d(8, classes, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.trunk(x))
        return logits


def register_tiny(patch: pytest.MonkeyPatch) -> None:
    """Make `tiny` a name of `modeling.networks.create`."""
    patch.setitem(networks._BUILDERS, "tiny", Tiny)  # type: ignore[arg-type]


def recipe(**changes: object) -> Recipe:
    """`RECIPE`, changed."""
    return replace(RECIPE, **changes)  # type: ignore[arg-type]
