"""One pass over a validation set: the loss and the margins of all its pixels, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from modeling.data.batches import IGNORE, Block, Blocks
from modeling.errors import DataError
from modeling.scoring.reliability import MarginHistogram
from modeling.training.losses import Loss, margin_of

_MOST_PIXELS = 1 << 20
"""Of all blocks that are sent through the network together."""


@dataclass(frozen=True)
class Validation:
    """What a network says about a validation set."""

    loss: float
    """Mean over the blocks; blocks of one size share a batch, as in training."""
    margins: MarginHistogram
    """Uncalibrated logits of "landslide" at all pixels that count."""

    @property
    def f1(self) -> float:
        """Pixel F1 at probability 0.5, accumulated over the whole set."""
        return self.margins.confusion_at(0.5, 1.0).scores()["f1"]


def validate(
    logits: Callable[[torch.Tensor], torch.Tensor],
    blocks: Blocks,
    loss: Loss,
    *,
    batch: int,
    device: torch.device,
) -> Validation:
    """Send all blocks through `logits`: physical channels (batch, channel, y, x) to (batch, classes, y, x)."""
    total, count, margins = 0.0, 0, MarginHistogram.empty()
    for x, y in _batched(blocks, batch):
        with torch.inference_mode():
            truth = y.to(device)
            answer = logits(x.to(device)).float()
            total += float(loss(answer, truth, truth != IGNORE)) * len(y)
            margin = margin_of(answer).cpu().numpy()
        count += len(y)
        margins += MarginHistogram.of(margin, y.numpy() == 1, y.numpy() != IGNORE)
    return Validation(total / max(count, 1), margins)


def require_usable(blocks: Blocks, channels: tuple[str, ...]) -> None:
    """Raise `DataError` when there is nothing to validate on: no block, other channels, or no landslide at all."""
    if len(blocks) == 0:
        raise DataError("the validation part is empty: the best weights cannot be chosen without one")
    for block in blocks:
        if len(block.channels) != len(channels):
            raise DataError(
                f"validation block {block.name} has {len(block.channels)} channels, the network takes {len(channels)}:"
                f" {', '.join(channels)}"
            )
        if (block.truth == 1).any():
            return
    raise DataError(f"none of the {len(blocks)} validation blocks has a landslide: F1 and threshold mean nothing there")


def _batched(blocks: Blocks, batch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Neighbours of the same shape together, at most `batch` of them."""
    waiting: list[Block] = []
    for block in blocks:
        same = not waiting or block.channels.shape == waiting[0].channels.shape
        full = len(waiting) >= batch or (len(waiting) + 1) * block.truth.size > _MOST_PIXELS
        if waiting and (not same or full):
            yield _stacked(waiting)
            waiting = []
        waiting.append(block)
    if waiting:
        yield _stacked(waiting)


def _stacked(blocks: list[Block]) -> tuple[torch.Tensor, torch.Tensor]:
    x = np.stack([block.channels for block in blocks]).astype(np.float32, copy=False)
    y = np.stack([block.truth for block in blocks]).astype(np.uint8, copy=False)
    return torch.from_numpy(x), torch.from_numpy(y)
