"""The VGG16 trunk with batch norm (Simonyan and Zisserman 2015): 14,723,136 parameters at 3 channels.

Its convolutions have biases, and its parameters are numbered, as in torchvision, whose weights for ImageNet fit.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from modeling.networks.layers import initialise

WIDTHS = (64, 128, 256, 512, 512)
"""Channels of the five blocks."""
_CONVOLUTIONS = (2, 2, 3, 3, 3)  # of each block


class VGG16(nn.Module):
    """Five blocks of 3x3 convolutions with a max pooling between them."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        into = in_channels
        for width, number in zip(WIDTHS, _CONVOLUTIONS, strict=True):
            if layers:
                layers.append(nn.MaxPool2d(2))
            for before, after in pairwise((into, *(width,) * number)):
                layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
            into = width
        self.features = nn.Sequential(*layers)
        self.apply(initialise)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(B, in_channels, H, W) to what each block makes: 64 @1, 128 @1/2, 256 @1/4, 512 @1/8, 512 @1/16."""
        taps = []
        for layer in self.features:
            if isinstance(layer, nn.MaxPool2d):
                taps.append(x)
            x = layer(x)
        return (*taps, x)
