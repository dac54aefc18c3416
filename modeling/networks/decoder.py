"""The U-Net decoder block that VGG-UNet and ResUNet of Dong et al. 2024 share."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from modeling.networks.layers import conv_bn_relu


class Up(nn.Module):
    """Upsample bilinearly by two, concatenate the skip, 3x3 to half the channels, 3x3 to the skip's."""

    def __init__(self, into: int, skip: int) -> None:
        super().__init__()
        both = into + skip
        self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        self.body = nn.Sequential(conv_bn_relu(both, both // 2), conv_bn_relu(both // 2, skip))

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """(B, into, H, W) and a skip of twice its size to the skip's shape."""
        y: torch.Tensor = self.body(torch.cat([self.up(x), skip], dim=1))
        return y


class Decoder(nn.Module):
    """One `Up` for each skip, from coarse to fine; `widths` are those of the taps from fine to coarse."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.ups = nn.ModuleList(Up(into, skip) for into, skip in pairwise(reversed(widths)))

    def forward(self, taps: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Taps from fine to coarse, each of half the size of the one before, to the shape of the first."""
        *skips, y = taps
        for up, skip in zip(self.ups, reversed(skips), strict=True):
            y = up(y, skip)
        return y
