"""Spatial gates that coarse features lay on finer ones; unlike channel attention they weigh pixels."""

from __future__ import annotations

import torch
from torch import nn


class AttentionGate(nn.Module):
    """sigmoid(BN 1x1(ReLU(W_g g + W_x x))): how much of the skip x each pixel lets through, seen from the guide g.

    Oktay et al. 2018. W_g and W_x are 1x1 convolutions to `inner` channels with batch norm and no bias.
    """

    def __init__(self, guide: int, skip: int, inner: int) -> None:
        super().__init__()
        self.of_guide = nn.Sequential(nn.Conv2d(guide, inner, 1, bias=False), nn.BatchNorm2d(inner))
        self.of_skip = nn.Sequential(nn.Conv2d(skip, inner, 1, bias=False), nn.BatchNorm2d(inner))
        self.psi = pixel_weights(inner)

    def forward(self, guide: torch.Tensor, skip: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Two maps of one size (B, C, H, W) to the weights (B, 1, H, W) and the projected skip (B, inner, H, W)."""
        projected = self.of_skip(skip)
        return self.psi(torch.relu(self.of_guide(guide) + projected)), projected


def pixel_weights(into: int, maps: int = 1) -> nn.Sequential:
    """1x1 convolution without bias, batch norm, sigmoid: (B, into, H, W) to (B, maps, H, W) in [0, 1]."""
    return nn.Sequential(nn.Conv2d(into, maps, 1, bias=False), nn.BatchNorm2d(maps), nn.Sigmoid())
