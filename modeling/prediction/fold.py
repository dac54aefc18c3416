"""MSF-LiteNet with everything linear at its two ends folded together: fewer passes at full resolution, same result.

Three linear steps surround the network's non-linear part, and two of each neighbours make one:

- An input enlarged twofold (bilinear) and then halved by the 3x3 convolution of stride two that opens the network is one
  3x3 convolution of stride one over the input as it was: every output lies alike between the input's pixels.
- The 1x1 head commutes with the bilinear doubling before it (its weights sum to one), so it runs on a quarter of the
  pixels; and of two logits only their difference, the margin, is needed.
- The doubling and the 2x2 mean that goes back to the input's pixels are a filter of (1, 6, 1) / 8 along each axis.

The convolution's own zero padding shows in the first row and column only, which have kernels of their own, so that the
result equals the plain network's at every pixel, up to rounding.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from math import ceil
from typing import NamedTuple, cast

import torch
from torch import nn
from torch.nn import functional

from modeling.networks.msf_litenet import HALVINGS, TAPS, Fusion, MSFLiteNet
from modeling.networks.shape import pad_to_multiple

_DOUBLED = 2
_HALF = 3
"""The stage that works on half of the first one's resolution throughout; those after it see the whole image."""
_MARGIN_ROWS = 6
"""Rows beside a band from which its own are computed: three 3x3 convolutions and one at half the resolution; even."""

# What each tap of a row of the kernel becomes over the input's pixels (before, here, after).
_INSIDE = ((0.75, 0.25, 0.0), (0.25, 0.75, 0.0), (0.0, 0.75, 0.25))
_FIRST = ((0.0, 0.0, 0.0), (0.25, 0.75, 0.0), (0.0, 0.75, 0.25))  # the tap before lies in the zero padding


class EnlargedConv(nn.Module):
    """A 3x3 convolution of stride two over the doubled input, as one of stride one over the input."""

    weight: torch.Tensor
    top: torch.Tensor
    left: torch.Tensor
    corner: torch.Tensor
    bias: torch.Tensor

    def __init__(self, conv: nn.Conv2d) -> None:
        """`conv` has a 3x3 kernel, stride 2, padding 1, and a bias."""
        super().__init__()
        inside, first = torch.tensor(_INSIDE), torch.tensor(_FIRST)
        weight = conv.weight.detach()
        for name, rows, columns in (
            ("weight", inside, inside),
            ("top", first, inside),
            ("left", inside, first),
            ("corner", first, first),
        ):
            self.register_buffer(name, torch.einsum("oiyx,yu,xv->oiuv", weight, rows, columns))
        self.register_buffer("bias", cast(torch.Tensor, conv.bias).detach().clone())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, in, y, x) to (B, out, y, x)."""
        wide = functional.pad(x, (1, 1, 1, 1), mode="replicate")
        y = functional.conv2d(wide, self.weight, self.bias)
        y[:, :, :1] = functional.conv2d(wide[:, :, :3], self.top, self.bias)
        y[:, :, :, :1] = functional.conv2d(wide[:, :, :, :3], self.left, self.bias)
        y[:, :, :1, :1] = functional.conv2d(wide[:, :, :3, :3], self.corner, self.bias)
        return y


class FoldedMSFLiteNet(nn.Module):
    """Normalised input (B, channel, y, x) to the margin (B, y, x) of an `MSFLiteNet` that sees it `input_scale` times.

    On a CPU the stages at full resolution, which hold two thirds of the memory, run in bands of rows: each is read with a
    margin as wide as those stages see, so that the rows that are kept are the same ones.
    """

    def __init__(self, fused: MSFLiteNet, input_scale: int, band_rows: int | None = None) -> None:
        """`fused` has no batch norm left (`modeling.prediction.fuse`); `input_scale` is 1 or 2; `band_rows` are even."""
        super().__init__()
        network = copy.deepcopy(fused)
        self.doubled = input_scale == _DOUBLED
        self.band_rows = band_rows
        stages = list(network.backbone)
        if self.doubled:
            stem = cast(nn.Sequential, stages[0])
            stem[0] = EnlargedConv(cast(nn.Conv2d, stem[0]))
        # The first stage's features are taken by the last fusion: both lie at full resolution, outside the rest.
        self.stem, self.descent, self.halved = stages[0], nn.ModuleList(stages[1:_HALF]), stages[_HALF]
        self.stages = nn.ModuleList(stages[_HALF + 1 :])
        self.pyramid = network.pyramid
        self.fusions, self.last = network.fusions[:-1], network.fusions[-1]
        self.head = margin_head(network.head)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See the class."""
        height, width = x.shape[-2:]
        fine, coarse, y = self._opening(pad_to_multiple(x, HALVINGS // 2 if self.doubled else HALVINGS))
        taps = [coarse]
        for index, stage in enumerate(self.stages, start=_HALF + 1):
            y = stage(y)
            if index in TAPS:
                taps.append(y)
        y = self.pyramid(taps.pop())
        del coarse  # the last fusion but one is where a tile takes most
        for fusion in self.fusions:
            y = _fused(cast(Fusion, fusion), y, taps.pop())
        y = self._closing(y, fine)
        y = smoothed(y) if self.doubled else functional.interpolate(y, scale_factor=2, mode="bilinear")
        return y[:, 0, :height, :width]

    def _opening(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The features of the first stage, those that a fusion takes at half their resolution, and what follows there."""
        stride = 1 if self.doubled else 2
        rows = x.shape[2] // stride
        fine, coarse, half = _Gathered(rows), _Gathered(rows // 2), _Gathered(rows // 2)
        for band in self._bands(rows):
            y = self.stem(x[:, :, stride * band.wide.start : stride * band.wide.stop])
            fine.add(y[:, :, band.kept])
            for stage in self.descent:
                y = stage(y)
            kept = slice(band.kept.start // 2, band.kept.stop // 2)
            coarse.add(y[:, :, kept])
            half.add(self.halved(y)[:, :, kept])
        return fine.whole(), coarse.whole(), half.whole()

    def _closing(self, y: torch.Tensor, fine: torch.Tensor) -> torch.Tensor:
        """The margin (B, 1, y, x) at the resolution of `fine`."""
        margins = _Gathered(fine.shape[2])
        for band in self._bands(fine.shape[2]):
            wide = y[:, :, band.wide.start // 2 : band.wide.stop // 2]
            margins.add(self.head(_fused(cast(Fusion, self.last), wide, fine[:, :, band.wide]))[:, :, band.kept])
        return margins.whole()

    def _bands(self, rows: int) -> Iterator[_Band]:
        count = ceil(rows / self.band_rows) if self.band_rows else 1
        step = 2 * ceil(rows / count / 2)  # as even as may be: a thin last band would be mostly margin
        for start in range(0, rows, step):
            stop = min(start + step, rows)
            wide = slice(max(0, start - _MARGIN_ROWS), min(rows, stop + _MARGIN_ROWS))
            yield _Band(wide, slice(start - wide.start, stop - wide.start))


class _Band(NamedTuple):
    """Rows of the full resolution."""

    wide: slice
    """What is computed."""
    kept: slice
    """What is kept of that, counted from its start."""


def _fused(fusion: Fusion, y: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
    """As `fusion`, but what one step takes is gone when the next begins."""
    y = torch.cat([fusion.up(y), skip], dim=1)
    for layer in fusion.body:
        y = layer(y)
    return y


class _Gathered:
    """Bands put one below the other as they come: kept until all are there, they would take twice the memory."""

    def __init__(self, rows: int) -> None:
        self._rows, self._filled = rows, 0
        self._whole: torch.Tensor | None = None

    def add(self, band: torch.Tensor) -> None:
        """The next rows of (B, C, y, x)."""
        height = band.shape[2]
        if height == self._rows:
            self._whole = band
            return
        if self._whole is None:
            batch, channels, _, width = band.shape
            shape = batch, channels, self._rows, width
            self._whole = torch.empty(shape, dtype=band.dtype, device=band.device, memory_format=torch.channels_last)
        self._whole[:, :, self._filled : self._filled + height] = band
        self._filled += height

    def whole(self) -> torch.Tensor:
        """All rows."""
        return cast(torch.Tensor, self._whole)


def margin_head(head: nn.Conv2d) -> nn.Conv2d:
    """The 1x1 convolution that gives the margin of a head of one logit or of two."""
    made = nn.Conv2d(head.in_channels, 1, 1)
    for name, values in head.named_parameters():
        margin = values[1:] - values[:1] if len(values) == 2 else values
        setattr(made, name, nn.Parameter(margin.detach(), requires_grad=False))
    return made


def smoothed(y: torch.Tensor) -> torch.Tensor:
    """The mean of each pixel's four quarters after bilinear doubling, (B, 1, y, x) to the same shape."""
    wide = functional.pad(y, (1, 1, 1, 1), mode="replicate")
    down = (wide[:, :, :-2] + wide[:, :, 2:]).mul_(0.125).add_(wide[:, :, 1:-1], alpha=0.75)
    return (down[..., :-2] + down[..., 2:]).mul_(0.125).add_(down[..., 1:-1], alpha=0.75)
