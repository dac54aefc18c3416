"""ResU-Net: a U-Net of pre-activated residual blocks (Zhang et al. 2018), as Yang et al. 2024 compare it.

P (Zhang et al.): widths 64, 128, 256 and 512 at the bottom, strides of two instead of pooling, batch norm and ReLU
before the convolutions. I: the shortcut of the stem is a bare 1x1 convolution, those of the blocks have batch norm;
upsampling by 2x2 transposed convolutions with bias, all other convolutions without: the one arrangement of these
choices that has 9,601,089 parameters at 10 channels and 1 class. 5.760 G conv MAC on 88 x 88 pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from modeling.networks.layers import initialise
from modeling.networks.shape import pad_to_multiple

WIDTHS = (64, 128, 256, 512)
_STRIDE = 8


class Stem(nn.Module):
    """3x3, BN ReLU, 3x3, plus a 1x1 of the input."""

    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(into, out, 3, padding=1, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU(inplace=True),
            nn.Conv2d(out, out, 3, padding=1, bias=False),
        )
        self.shortcut = nn.Conv2d(into, out, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, into, H, W) to (B, out, H, W)."""
        y: torch.Tensor = self.body(x) + self.shortcut(x)
        return y


class Residual(nn.Module):
    """Twice BN ReLU 3x3, plus a 1x1 BN of the input; the first convolution strides."""

    def __init__(self, into: int, out: int, *, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(into),
            nn.ReLU(inplace=True),
            nn.Conv2d(into, out, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU(inplace=True),
            nn.Conv2d(out, out, 3, padding=1, bias=False),
        )
        self.shortcut = nn.Sequential(nn.Conv2d(into, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, into, H, W) to (B, out, H / stride, W / stride)."""
        y: torch.Tensor = self.body(x) + self.shortcut(x)
        return y


class Level(nn.Module):
    """One level of the decoder: attend to the skip, upsample what comes from below, concatenate, a residual block.

    `skip` prepares the skip (from `skip_width` channels on); `up` are the channels into and out of the upsampling.
    """

    def __init__(self, skip: nn.Module, skip_width: int, up: tuple[int, int], out: int) -> None:
        super().__init__()
        self.skip = skip
        self.up = nn.ConvTranspose2d(*up, 2, 2)
        self.body = Residual(up[1] + skip_width, out)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """(B, up[0], H, W) and a skip of twice its size to (B, out, 2 H, 2 W)."""
        y: torch.Tensor = self.body(torch.cat([self.up(x), self.skip(skip)], dim=1))
        return y


class ResUNet(nn.Module):
    """Logits (B, classes, y, x) for (B, in_channels, y, x) of any size; `attention` makes what each skip goes through.

    `widths` are the channels at full, half, quarter and eighth size.
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        *,
        attention: Callable[[int], nn.Module] | None = None,
        widths: tuple[int, int, int, int] = WIDTHS,
    ) -> None:
        super().__init__()
        fine, middle, coarse, bottom = widths
        make = attention or (lambda _channels: nn.Identity())
        self.stem = Stem(in_channels, fine)
        self.encoder = nn.ModuleList(
            Residual(into, out, stride=2) for into, out in ((fine, middle), (middle, coarse), (coarse, bottom))
        )
        self.decoder = nn.ModuleList(
            Level(make(out), out, (into, into), out)
            for into, out in ((bottom, coarse), (coarse, middle), (middle, fine))
        )
        self.head = nn.Conv2d(fine, classes, 1)
        self.apply(initialise)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shapes in the comments are for an 88 x 88 input."""
        height, width = x.shape[-2:]
        taps = [self.stem(pad_to_multiple(x, _STRIDE))]  # 64@88
        for block in self.encoder:
            taps.append(block(taps[-1]))  # 128@44, 256@22, 512@11
        y = taps.pop()
        for level in self.decoder:
            y = level(y, taps.pop())  # 256@22, 128@44, 64@88
        logits: torch.Tensor = self.head(y)  # classes@88
        return logits[..., :height, :width]
