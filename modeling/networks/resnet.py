"""ResNet trunks of bottleneck blocks (He et al. 2016), with strides and dilations as segmentation needs them.

The stride lies in the 3x3 convolution of a block, as all common releases have it. The parameters are named as in
torchvision, whose weights for ImageNet therefore fit. 3 channels: 23,508,032 parameters with 50 layers, 42,500,160
with 101.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from modeling.errors import ModelingError
from modeling.networks.layers import initialise

RESNET50 = (3, 4, 6, 3)
"""Blocks of each of the four layers."""
RESNET101 = (3, 4, 23, 3)
WIDTHS = (64, 256, 512, 1024, 2048)
"""Channels of stem and layers 1 to 4."""


class Stages(NamedTuple):
    """What a trunk computed, from fine to coarse; the sizes are those of strides (1, 2, 2, 2)."""

    stem: torch.Tensor
    """64 channels @1/2, before the max pooling."""
    layer1: torch.Tensor
    """256 channels @1/4."""
    layer2: torch.Tensor
    """512 channels @1/8."""
    layer3: torch.Tensor
    """1024 channels @1/16."""
    layer4: torch.Tensor
    """2048 channels @1/32."""


class Bottleneck(nn.Module):
    """1x1 to `width`, 3x3, 1x1 to four times `width`, plus the input (1x1 projected where the shape changes)."""

    def __init__(self, into: int, width: int, *, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        out = 4 * width
        self.conv1 = nn.Conv2d(into, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or into != out:
            self.downsample = nn.Sequential(nn.Conv2d(into, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, into, H, W) to (B, 4 width, H / stride, W / stride)."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        shortcut = x if self.downsample is None else self.downsample(x)
        out: torch.Tensor = self.relu(y + shortcut)
        return out


class ResNet(nn.Module):
    """Stem and four layers of bottlenecks; no pooling over the image and no classifier.

    `blocks` are those of each layer (`RESNET50`, `RESNET101`), `strides` those of each layer's first block, and
    `last_dilations` the dilation of the 3x3 convolution of each block of layer 4 (all one when not given). Raises
    `ModelingError` when their number is not that of the blocks.
    """

    def __init__(
        self,
        in_channels: int,
        blocks: tuple[int, int, int, int],
        *,
        strides: tuple[int, int, int, int] = (1, 2, 2, 2),
        last_dilations: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        dilations = [(1,) * number for number in blocks]
        if last_dilations is not None:
            if len(last_dilations) != blocks[-1]:
                raise ModelingError(f"layer 4 has {blocks[-1]} blocks: give as many dilations, not {last_dilations}")
            dilations[-1] = last_dilations
        self.conv1 = nn.Conv2d(in_channels, WIDTHS[0], 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        layers = [
            _layer(into, out, stride, dilated)
            for into, out, stride, dilated in zip(WIDTHS, WIDTHS[1:], strides, dilations, strict=False)
        ]
        self.layer1, self.layer2, self.layer3, self.layer4 = layers
        self.apply(initialise)

    def forward(self, x: torch.Tensor) -> Stages:
        """(B, in_channels, H, W), best of multiples of the total stride, to the five stages."""
        stem = self.relu(self.bn1(self.conv1(x)))  # 64 @1/2
        layer1 = self.layer1(self.maxpool(stem))  # 256 @1/4
        layer2 = self.layer2(layer1)  # 512
        layer3 = self.layer3(layer2)  # 1024
        return Stages(stem, layer1, layer2, layer3, self.layer4(layer3))  # 2048


def _layer(into: int, out: int, stride: int, dilations: tuple[int, ...]) -> nn.Sequential:
    """As many blocks as there are dilations; only the first one strides."""
    return nn.Sequential(
        *(
            Bottleneck(into if first else out, out // 4, stride=stride if first else 1, dilation=dilation)
            for first, dilation in ((index == 0, dilation) for index, dilation in enumerate(dilations))
        )
    )
