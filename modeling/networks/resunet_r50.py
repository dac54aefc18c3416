"""ResUNet: a U-Net on ResNet-50, as Dong et al. 2024 compare it; not the ResU-Net of Zhang et al. 2018.

98,388,354 parameters at 3 channels and 2 classes. Its finest features are those of the stem, at half the input's size:
the logits are made there and resized (I: it is what gives the paper's compute).
"""

from __future__ import annotations

import torch
from torch import nn

from modeling.networks.decoder import Decoder
from modeling.networks.layers import initialise, resize
from modeling.networks.resnet import RESNET50, WIDTHS, ResNet
from modeling.networks.shape import pad_to_multiple

_STRIDE = 32


class ResUNetR50(nn.Module):
    """Logits (B, classes, y, x) for (B, in_channels, y, x) of any size."""

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__()
        self.trunk = ResNet(in_channels, RESNET50)
        self.decoder = Decoder(WIDTHS)
        self.head = nn.Conv2d(WIDTHS[0], classes, 1)
        self.decoder.apply(initialise)
        self.head.apply(initialise)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shapes in the comments are for a 256 x 256 input."""
        height, width = x.shape[-2:]
        padded = pad_to_multiple(x, _STRIDE)
        taps = self.trunk(padded)  # 64@128, 256@64, 512@32, 1024@16, 2048@8
        y = self.head(self.decoder(taps))  # 64@128, classes@128
        return resize(y, (padded.shape[-2], padded.shape[-1]))[..., :height, :width]
