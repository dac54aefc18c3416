"""FCN: a fully convolutional network on ResNet-50 (Long et al. 2015), as Dong et al. 2024 compare it.

The trunk is not dilated (I: it is what gives the paper's compute; torchvision's is). 32,947,266 parameters at 3
channels and 2 classes; the paper prints 32,947,226, in which two digits are swapped.
"""

from __future__ import annotations

import torch
from torch import nn

from modeling.networks.layers import conv_bn_relu, initialise, resize
from modeling.networks.resnet import RESNET50, WIDTHS, ResNet
from modeling.networks.shape import pad_to_multiple

_STRIDE = 32


class FCN(nn.Module):
    """Logits at 1/32 of the input, resized bilinearly; (B, in_channels, y, x) to (B, classes, y, x)."""

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__()
        width = WIDTHS[-1] // 4
        self.trunk = ResNet(in_channels, RESNET50)
        self.head = nn.Sequential(conv_bn_relu(WIDTHS[-1], width), nn.Dropout(0.1), nn.Conv2d(width, classes, 1))
        self.head.apply(initialise)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shapes in the comments are for a 256 x 256 input."""
        height, width = x.shape[-2:]
        padded = pad_to_multiple(x, _STRIDE)
        y = self.head(self.trunk(padded).layer4)  # 2048@8, classes@8
        return resize(y, (padded.shape[-2], padded.shape[-1]))[..., :height, :width]
