"""Attention blocks that multiply features by weights, and how to find them in a network.

All that weigh whole channels derive from `ChannelAttention`, whatever the network: what explains a network (which
channels, and through them which input bands, it listens to) finds them with `channel_attentions` and asks each for
its `weights`. They store nothing themselves.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import nn


class ChannelAttention(nn.Module, ABC):
    """Multiply each channel by a weight that the whole map decides. A kind of it overrides `weights`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    @abstractmethod
    def weights(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) to the weights (B, C), in [0, 1]."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) to the same shape."""
        return x * self.weights(x)[..., None, None]


class SqueezeExcitation(ChannelAttention):
    """The averages through two dense layers and a sigmoid (Hu et al. 2018, their equation 3), here with biases."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__(channels)
        self.mlp = _mlp(channels, reduction, bias=True)

    def weights(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) to (B, C)."""
        return torch.sigmoid(self.mlp(x.mean((2, 3))))


class PooledAttention(ChannelAttention):
    """The averages and the maxima, each through two dense layers, summed, and a sigmoid (Woo et al. 2018, equation 2).

    One pair of layers with biases serves both (CBAM) or each has its own without biases (`shared=False`, MACU-Net).
    """

    def __init__(self, channels: int, reduction: int = 16, *, shared: bool = True) -> None:
        super().__init__(channels)
        self.mlp = _mlp(channels, reduction, bias=shared)
        self.mlp_of_maxima = None if shared else _mlp(channels, reduction, bias=False)

    def weights(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) to (B, C)."""
        of_maxima = self.mlp if self.mlp_of_maxima is None else self.mlp_of_maxima
        return torch.sigmoid(self.mlp(x.mean((2, 3))) + of_maxima(x.amax((2, 3))))


class EfficientChannelAttention(ChannelAttention):
    """A hard sigmoid of a 1-D convolution over the channels' averages (ECA, Wang et al. 2020).

    The kernel's width is int((log2 C + 1) / 2), made odd (their equation 12 with gamma 2 and b 1).
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        width = int((math.log2(channels) + 1) / 2)
        width += 1 - width % 2
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.conv = nn.Conv1d(1, 1, width, padding=width // 2, bias=False)
        self.gate = nn.Hardsigmoid()

    def weights(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) to (B, C)."""
        averages = self.pool(x).flatten(2).transpose(1, 2)  # (B, 1, C)
        weights: torch.Tensor = self.gate(self.conv(averages)).squeeze(1)
        return weights


class SpatialAttention(nn.Module):
    """Multiply each pixel by a weight: average and maximum over channels, a convolution, a sigmoid (Woo et al. 2018)."""

    def __init__(self, kernel: int = 7) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel, padding=kernel // 2, bias=False)

    def weights(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) to (B, 1, H, W), in [0, 1]."""
        pooled = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], dim=1)
        return torch.sigmoid(self.conv(pooled))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) to the same shape."""
        return x * self.weights(x)


class CBAM(nn.Module):
    """Convolutional block attention: channels first, then pixels (Woo et al. 2018)."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.channel = PooledAttention(channels, reduction)
        self.spatial = SpatialAttention()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) to the same shape."""
        y: torch.Tensor = self.spatial(self.channel(x))
        return y


def channel_attentions(network: nn.Module) -> dict[str, ChannelAttention]:
    """The channel attentions of `network` by module path, in the order of definition; empty when it has none."""
    return {path: module for path, module in network.named_modules() if isinstance(module, ChannelAttention)}


def _mlp(channels: int, reduction: int, *, bias: bool) -> nn.Sequential:
    """(B, C) to (B, C) through C / `reduction`."""
    inner = max(channels // reduction, 1)
    return nn.Sequential(
        nn.Linear(channels, inner, bias=bias), nn.ReLU(inplace=True), nn.Linear(inner, channels, bias=bias)
    )
