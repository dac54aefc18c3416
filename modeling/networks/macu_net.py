"""MACU-Net: a U-Net of asymmetric convolutions whose skips join five scales under attention (Li et al. 2021).

P: asymmetric blocks (3x3 + 1x3 + 3x1), multi-scale skips with channel attention, transposed convolutions. R: widths 16 to
256 with 2, 2, 3, 3 and 3 blocks; finer features reach a level by a chain of max pooling and a block per halving, coarser
ones by a chain of 2x2 transposed convolutions; a skip is five maps of C channels, 1x1 to 2 C without bias, then
attention by averages and maxima (reduction 16, separate layers without bias). 5,151,666 parameters at 3 channels and
2 classes, 5,153,329 at 10 and 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import torch
from torch import nn

from modeling.networks.attention import PooledAttention
from modeling.networks.layers import initialise
from modeling.networks.shape import pad_to_multiple

_WIDTHS = (16, 32, 64, 128, 256)
_BLOCKS = (2, 2, 3, 3, 3)
_BOTTOM = len(_WIDTHS) - 1
_STRIDE = 16


class AsymmetricBlock(nn.Module):
    """The sum of a 3x3, a 1x3 and a 3x1 convolution with bias, batch norm, ReLU (Ding et al. 2019)."""

    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        self.square = nn.Conv2d(into, out, 3, padding=1)
        self.row = nn.Conv2d(into, out, (1, 3), padding=(0, 1))
        self.column = nn.Conv2d(into, out, (3, 1), padding=(1, 0))
        self.norm = nn.BatchNorm2d(out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, into, H, W) to (B, out, H, W)."""
        return torch.relu(self.norm(self.square(x) + self.row(x) + self.column(x)))


class Chain(nn.Module):
    """Modules one after the other, all of whose results are wanted."""

    def __init__(self, steps: Iterable[nn.Module]) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """What x is after each step."""
        results = []
        for step in self.steps:
            x = step(x)
            results.append(x)
        return results


class MACUNet(nn.Module):
    """Logits (B, classes, y, x) for (B, in_channels, y, x) of any size."""

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2)
        self.encoder = nn.ModuleList(
            _blocks(into, out, number)
            for (into, out), number in zip(pairwise((in_channels, *_WIDTHS)), _BLOCKS, strict=True)
        )
        # Chain `scale` takes that scale's features to every coarser scale with a skip, or to every finer one.
        self.down = nn.ModuleList(
            Chain(_down(_WIDTHS[to - 1], _WIDTHS[to]) for to in range(scale + 1, _BOTTOM)) for scale in range(_BOTTOM)
        )
        self.up = nn.ModuleList(
            Chain(nn.ConvTranspose2d(_WIDTHS[to + 1], _WIDTHS[to], 2, 2) for to in reversed(range(scale)))
            for scale in range(_BOTTOM + 1)
        )
        self.skips = nn.ModuleList(_skip(width) for width in _WIDTHS[:_BOTTOM])
        self.decoder = nn.ModuleList(_blocks(2 * width, width, 2) for width in _WIDTHS[:_BOTTOM])
        self.head = nn.Conv2d(_WIDTHS[0], classes, 1)
        self.apply(initialise)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shapes in the comments are for a 256 x 256 input."""
        height, width = x.shape[-2:]
        joined: list[list[torch.Tensor]] = [[] for _ in range(_BOTTOM)]  # the five maps of each skip
        y = pad_to_multiple(x, _STRIDE)
        for scale, blocks in enumerate(self.encoder):
            y = blocks(self.pool(y) if scale else y)  # 16@256, 32@128, 64@64, 128@32, 256@16
            if scale < _BOTTOM:
                for coarser, features in enumerate([y, *self.down[scale](y)], start=scale):
                    joined[coarser].append(features)
        for scale in reversed(range(_BOTTOM + 1)):
            if scale < _BOTTOM:
                y = self.decoder[scale](self.skips[scale](torch.cat(joined[scale], dim=1)))  # 128@32 to 16@256
            for distance, features in enumerate(self.up[scale](y), start=1):
                joined[scale - distance].append(features)
        logits: torch.Tensor = self.head(y)  # classes@256
        return logits[..., :height, :width]


def _blocks(into: int, out: int, number: int) -> nn.Sequential:
    return nn.Sequential(*(AsymmetricBlock(out if index else into, out) for index in range(number)))


def _down(into: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.MaxPool2d(2), AsymmetricBlock(into, out))


def _skip(width: int) -> nn.Sequential:
    """Five maps of `width` channels to one of twice the width, under attention."""
    both = 2 * width
    maps = _BOTTOM + 1
    return nn.Sequential(nn.Conv2d(maps * width, both, 1, bias=False), PooledAttention(both, shared=False))
