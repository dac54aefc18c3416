"""ResU-SENet as Table III of Yang et al. 2024 prints it: every shape of the table holds.

P: half the widths of the original ResU-Net in the encoder (64 at 88 and 44 pixels, 128 at 22, 256 at 11), each skip
projected by a 1x1 convolution before its attention, and upsampling that doubles the channels at two of three levels. The
text of the paper describes the usual network instead: `modeling.networks.resu_senet`. I: no bias and a batch norm in
the projection, without ReLU, and the blocks of `modeling.networks.resu_net`. 8,417,449 parameters at 10 channels and
1 class (8,398,337 without attention), 12.778 G conv MAC on 88 x 88 pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from modeling.networks.attention import SqueezeExcitation
from modeling.networks.layers import initialise
from modeling.networks.resu_net import Level, Residual, Stem
from modeling.networks.shape import pad_to_multiple

# (encoder's channels, projected, upsampling's in and out, level's out), from coarse to fine
_LEVELS = (
    (128, 256, (256, 512), 256),
    (64, 256, (256, 512), 256),
    (64, 128, (256, 256), 128),
)
_STRIDE = 8


class ResUSENetTable(nn.Module):
    """Logits (B, classes, y, x) for (B, in_channels, y, x) of any size; `attention` makes what a projected skip meets."""

    def __init__(
        self, in_channels: int, classes: int, *, attention: Callable[[int], nn.Module] = SqueezeExcitation
    ) -> None:
        super().__init__()
        self.stem = Stem(in_channels, 64)
        self.encoder = nn.ModuleList(Residual(into, out, stride=2) for into, out in ((64, 64), (64, 128), (128, 256)))
        self.decoder = nn.ModuleList(
            Level(nn.Sequential(*_projection(skip, projected), attention(projected)), projected, up, out)
            for skip, projected, up, out in _LEVELS
        )
        self.head = nn.Conv2d(128, classes, 1)
        self.apply(initialise)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shapes in the comments are for an 88 x 88 input, as in Table III."""
        height, width = x.shape[-2:]
        taps = [self.stem(pad_to_multiple(x, _STRIDE))]  # 64@88
        for block in self.encoder:
            taps.append(block(taps[-1]))  # 64@44, 128@22, 256@11
        y = taps.pop()
        for level in self.decoder:
            y = level(y, taps.pop())  # 256@22, 256@44, 128@88
        logits: torch.Tensor = self.head(y)  # classes@88
        return logits[..., :height, :width]


def _projection(into: int, out: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(into, out, 1, bias=False), nn.BatchNorm2d(out)
