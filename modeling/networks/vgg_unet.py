"""VGG-UNet: a U-Net (Ronneberger et al. 2015) on VGG16 with batch norm, as Dong et al. 2024 compare it.

26,450,306 parameters at 3 channels and 2 classes.
"""

from __future__ import annotations

import torch
from torch import nn

from modeling.networks.decoder import Decoder
from modeling.networks.layers import initialise
from modeling.networks.shape import pad_to_multiple
from modeling.networks.vgg import VGG16, WIDTHS

_STRIDE = 16


class VGGUNet(nn.Module):
    """Logits (B, classes, y, x) for (B, in_channels, y, x) of any size."""

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__()
        self.trunk = VGG16(in_channels)
        self.decoder = Decoder(WIDTHS)
        self.head = nn.Conv2d(WIDTHS[0], classes, 1)
        self.decoder.apply(initialise)
        self.head.apply(initialise)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shapes in the comments are for a 256 x 256 input."""
        height, width = x.shape[-2:]
        taps = self.trunk(pad_to_multiple(x, _STRIDE))  # 64@256, 128@128, 256@64, 512@32, 512@16
        logits: torch.Tensor = self.head(self.decoder(taps))  # 64@256, classes@256
        return logits[..., :height, :width]
