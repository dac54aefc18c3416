"""The discriminator of ADANet: from which domain does a map of class probabilities come (Xu et al. 2022)?

R: 4x4 convolutions of stride 2 to 64, 128, 256, 512 and 1 channels with bias, leaky ReLU of slope .2 between.
2,763,713 parameters for two classes.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from modeling.networks.shape import pad_to_multiple

_WIDTHS = (64, 128, 256, 512)
_STRIDE = 32


class Discriminator(nn.Module):
    """Logits of "target" for probabilities (B, classes, y, x) of any size: (B, 1, y / 32, x / 32), rounded up."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for into, out in pairwise((classes, *_WIDTHS)):
            layers += [nn.Conv2d(into, out, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True)]
        self.body = nn.Sequential(*layers, nn.Conv2d(_WIDTHS[-1], 1, 4, 2, 1))

    def forward(self, probabilities: torch.Tensor) -> torch.Tensor:
        """(B, classes, y, x) to (B, 1, y / 32, x / 32)."""
        logits: torch.Tensor = self.body(pad_to_multiple(probabilities, _STRIDE))
        return logits
