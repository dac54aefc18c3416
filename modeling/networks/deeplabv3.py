"""DeepLabV3 on ResNet-50 (Chen et al. 2017), as Dong et al. 2024 compare it.

The trunk is not dilated (I: it is what gives the paper's compute) and the pyramid has rates 12, 24 and 36.
39,633,986 parameters at 3 channels and 2 classes.
"""

from __future__ import annotations

import torch
from torch import nn

from modeling.networks.aspp import ASPP
from modeling.networks.layers import conv_bn_relu, initialise, resize
from modeling.networks.resnet import RESNET50, WIDTHS, ResNet
from modeling.networks.shape import pad_to_multiple

_STRIDE = 32
_WIDTH = 256


class DeepLabV3(nn.Module):
    """Logits at 1/32 of the input, resized bilinearly; (B, in_channels, y, x) to (B, classes, y, x)."""

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__()
        self.trunk = ResNet(in_channels, RESNET50)
        self.pyramid = ASPP(WIDTHS[-1], _WIDTH, (12, 24, 36), dropout=0.5)
        self.head = nn.Sequential(conv_bn_relu(_WIDTH, _WIDTH), nn.Conv2d(_WIDTH, classes, 1))
        self.pyramid.apply(initialise)
        self.head.apply(initialise)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shapes in the comments are for a 256 x 256 input."""
        height, width = x.shape[-2:]
        padded = pad_to_multiple(x, _STRIDE)
        y = self.pyramid(self.trunk(padded).layer4)  # 2048@8, 256@8
        y = self.head(y)  # classes@8
        return resize(y, (padded.shape[-2], padded.shape[-1]))[..., :height, :width]
