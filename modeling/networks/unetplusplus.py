"""U-Net++: nested U-Nets with dense skips (Zhou et al. 2018).

P: node (level, step) joins all earlier nodes of its level with the upsampled node below. I: widths 32 to 512, two
times 3x3 (with bias) BN ReLU, max pooling, bilinear upsampling, no deep supervision. 9,165,345 parameters at 10
channels and 1 class.
"""

from __future__ import annotations

import torch
from torch import nn

from modeling.networks.layers import initialise
from modeling.networks.shape import pad_to_multiple

_WIDTHS = (32, 64, 128, 256, 512)
_STRIDE = 16


class UNetPlusPlus(nn.Module):
    """Logits (B, classes, y, x) for (B, in_channels, y, x) of any size."""

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2)
        self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        self.nodes = nn.ModuleDict(
            {
                _name(level, step): _two_convs(_inputs(level, step, in_channels), width)
                for level, width in enumerate(_WIDTHS)
                for step in range(len(_WIDTHS) - level)
            }
        )
        self.head = nn.Conv2d(_WIDTHS[0], classes, 1)
        self.apply(initialise)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shapes in the comments are for a 256 x 256 input."""
        height, width = x.shape[-2:]
        y = pad_to_multiple(x, _STRIDE)
        rows: list[list[torch.Tensor]] = []  # rows[level][step]: 32@256, 64@128, 128@64, 256@32, 512@16
        for depth in range(len(_WIDTHS)):
            rows.append([self.nodes[_name(depth, 0)](self.pool(rows[-1][0]) if depth else y)])
            for level in reversed(range(depth)):  # the diagonal that can be computed now
                node = self.nodes[_name(level, depth - level)]
                rows[level].append(node(torch.cat([*rows[level], self.up(rows[level + 1][-1])], dim=1)))
        logits: torch.Tensor = self.head(rows[0][-1])  # classes@256
        return logits[..., :height, :width]


def _name(level: int, step: int) -> str:
    return f"{level}-{step}"


def _inputs(level: int, step: int, in_channels: int) -> int:
    """Channels that enter node (level, step)."""
    if step:
        return step * _WIDTHS[level] + _WIDTHS[level + 1]
    return _WIDTHS[level - 1] if level else in_channels


def _two_convs(into: int, out: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (into, out):
        layers += [nn.Conv2d(channels, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
