"""Atrous spatial pyramid pooling (Chen et al. 2017, DeepLabV3)."""

from __future__ import annotations

import torch
from torch import nn

from modeling.networks.layers import PooledNorm, conv_bn_relu


class ASPP(nn.Module):
    """A 1x1, a dilated 3x3 for each of `rates` and the average of the image, side by side, then fused by a 1x1.

    Every branch has `out` channels; convolutions have no bias. 15,535,104 parameters for 2048 to 256 and three rates.
    """

    def __init__(self, into: int, out: int, rates: tuple[int, ...], *, dropout: float) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [conv_bn_relu(into, out, 1), *(conv_bn_relu(into, out, dilation=rate) for rate in rates)]
        )
        self.image = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(into, out, 1, bias=False), PooledNorm(out), nn.ReLU(inplace=True)
        )
        self.fuse = nn.Sequential(conv_bn_relu((len(rates) + 2) * out, out, 1), nn.Dropout(dropout))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, into, H, W) to (B, out, H, W)."""
        image = self.image(x).expand(-1, -1, *x.shape[-2:])  # what resizing one pixel bilinearly gives
        fused: torch.Tensor = self.fuse(torch.cat([*(branch(x) for branch in self.branches), image], dim=1))
        return fused
