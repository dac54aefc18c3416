"""A toy model and ground that is like its source's, but in other colours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from torch import nn

from fakes.training import BANDS, NORMALISATION, SIDE_PX, ToySampler, patch
from modeling import networks
from modeling.data.batches import IGNORE, Block, FloatArray
from modeling.forward import logits_of
from modeling.model import LandslideModel, load_model, save_model
from modeling.training.losses import focal_dice_loss


def as_it_is(channels: FloatArray) -> FloatArray:
    """No shift."""
    return channels


def shifted(channels: FloatArray) -> FloatArray:
    """Haze and another sensor: everything brighter than the source's scars, and of half their contrast."""
    return channels * np.float32(0.5) + np.float32(0.25)


def dimmed(channels: FloatArray) -> FloatArray:
    """A lower sun: scars stand out less, and some are no longer found."""
    return channels * np.float32(0.45)


@dataclass(frozen=True)
class Ground:
    """Toy patches that no sampler draws, in other colours; blocks of a validation or target set."""

    count: int
    change: Callable[[FloatArray], FloatArray] = as_it_is
    truth: Literal["kept", "scrambled"] = "kept"
    side_px: int = SIDE_PX

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Block]:
        for index in range(self.count):
            channels, truth = patch((31, index), self.side_px)
            if self.truth == "scrambled":
                truth = np.random.default_rng(index).integers(0, 2, truth.shape).astype(np.uint8)
            yield Block(self.change(channels), truth, f"ground-{index}", "toy")


@dataclass(frozen=True)
class Validation:
    """Blocks of the source of which some labels are wrong, so that its calibration is not that of a perfect model."""

    count: int = 3

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Block]:
        for index in range(self.count):
            channels, truth = patch((9, index))
            wrong = np.random.default_rng(index).random(truth.shape) < 0.02
            yield Block(channels, np.where(wrong & (truth < 2), 1 - truth, truth).astype(np.uint8), f"v-{index}", "toy")


class Plain(nn.Module):
    """The network `tiny` without batch norms, so that none can undo a shift."""

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(in_channels, 8, 3, padding=1), nn.ReLU())
        self.head = nn.Conv2d(8, classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, y, x) to (B, classes, y, x)."""
        logits: torch.Tensor = self.head(self.trunk(x))
        return logits


def register_plain(patch: pytest.MonkeyPatch) -> None:
    """Make `plain` a name of `modeling.networks.create`."""
    patch.setitem(networks._BUILDERS, "plain", Plain)  # type: ignore[arg-type]


def toy_model(
    folder: Path, *, classes: int = 2, seed: int = 0, steps: int = 40, network_name: str = "tiny"
) -> LandslideModel:
    """A model of `network_name`, which must be registered, that finds the scars of its own source."""
    torch.manual_seed(seed)
    network, draws = networks.create(network_name, in_channels=3, classes=classes), ToySampler(seed=seed)
    optimiser, loss = torch.optim.Adam(network.parameters(), 3e-2), focal_dice_loss
    for number in range(steps):
        x, y = (torch.from_numpy(part) for part in draws.draw(number))
        optimiser.zero_grad()
        loss(logits_of(network, NORMALISATION, x), y, y != IGNORE).backward()
        optimiser.step()
    model = LandslideModel(
        f"toy-{seed}", network_name, network.eval(), BANDS, NORMALISATION, temperature=1.0, threshold=0.5, weights_hash="",
        card={"scores": {"test": 1}, "recipe": {"loss": "focal+dice"}}, classes=classes,
    )  # fmt: skip
    return load_model(save_model(model, folder))
