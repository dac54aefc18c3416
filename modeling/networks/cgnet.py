"""CGNet M3N21: a context guided network of half a million parameters (Wu et al. 2021).

491,954 parameters at 3 channels and 2 classes, 505,852 at 10 and 1, 496,306 at 3 and 19 (the paper's Cityscapes).
Read off the authors' release, where the paper is silent: batch norm eps 1e-3, depthwise branches without a norm of
their own, the head without bias.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from modeling.networks.attention import SqueezeExcitation
from modeling.networks.layers import initialise, resize
from modeling.networks.shape import pad_to_multiple

_STRIDE = 8
_EPS = 1e-3
# (blocks, width, dilation of the surrounding context, reduction of the global one) of stages 2 and 3
_STAGES = ((3, 64, 2, 8), (21, 128, 4, 16))


class ContextGuided(nn.Module):
    """Local and surrounding features side by side, scaled by the global context; plus the input unless it strides.

    The block that strides takes a 3x3 convolution to `out` channels and halves the joint ones by a 1x1; the others
    take a 1x1 to half of `out`, so that the joint features already have `out`.
    """

    def __init__(self, into: int, out: int, *, dilation: int, reduction: int, stride: int = 1) -> None:
        super().__init__()
        strides = stride > 1
        inner = out if strides else out // 2
        self.entry = nn.Sequential(*_conv(into, inner, 3 if strides else 1, stride), *_norm(inner))
        self.local = nn.Conv2d(inner, inner, 3, padding=1, groups=inner, bias=False)
        self.surrounding = nn.Conv2d(inner, inner, 3, padding=dilation, dilation=dilation, groups=inner, bias=False)
        self.joint = nn.Sequential(*_norm(2 * inner), *(_conv(2 * inner, out, 1) if strides else ()))
        self.context = SqueezeExcitation(out, reduction)  # the paper's `F_glo`
        self.residual = not strides

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, into, H, W) to (B, out, H / stride, W / stride)."""
        y = self.entry(x)
        y = self.joint(torch.cat([self.local(y), self.surrounding(y)], dim=1))
        scaled: torch.Tensor = self.context(y)
        return x + scaled if self.residual else scaled


class Stage(nn.Module):
    """A block that strides and the ones that follow; puts out the first and the last result, side by side."""

    def __init__(self, into: int, out: int, *, blocks: int, dilation: int, reduction: int) -> None:
        super().__init__()
        self.first = ContextGuided(into, out, dilation=dilation, reduction=reduction, stride=2)
        self.others = nn.Sequential(
            *(ContextGuided(out, out, dilation=dilation, reduction=reduction) for _ in range(blocks - 1))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, into, H, W) to (B, 2 out, H / 2, W / 2)."""
        first = self.first(x)
        return torch.cat([self.others(first), first], dim=1)


class CGNet(nn.Module):
    """Logits at 1/8 of the input, resized bilinearly; (B, in_channels, y, x) to (B, classes, y, x)."""

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__()
        width = 32
        stem = [*_conv(in_channels, width, 3, 2), *_norm(width)]
        for _ in range(2):
            stem += [*_conv(width, width, 3), *_norm(width)]
        self.stem = nn.Sequential(*stem)
        joined = width + in_channels  # with the injected input
        norms: list[nn.Module] = []
        stages: list[nn.Module] = []
        for blocks, out, dilation, reduction in _STAGES:
            norms.append(nn.Sequential(*_norm(joined)))
            stages.append(Stage(joined, out, blocks=blocks, dilation=dilation, reduction=reduction))
            joined = 2 * out + in_channels
        self.norms = nn.ModuleList(norms)
        self.stages = nn.ModuleList(stages)
        last = 2 * _STAGES[-1][1]
        self.head = nn.Sequential(*_norm(last), nn.Conv2d(last, classes, 1, bias=False))
        self.apply(initialise)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shapes in the comments are for a 256 x 256 input."""
        height, width = x.shape[-2:]
        image = padded = pad_to_multiple(x, _STRIDE)
        y = self.stem(padded)  # 32@128
        for norm, stage in zip(self.norms, self.stages, strict=True):
            image = functional.avg_pool2d(image, 3, 2, 1)  # in_channels@128, @64
            y = stage(norm(torch.cat([y, image], dim=1)))  # 128@64, 256@32
        y = self.head(y)  # classes@32
        return resize(y, (padded.shape[-2], padded.shape[-1]))[..., :height, :width]


def _conv(into: int, out: int, kernel: int, stride: int = 1) -> tuple[nn.Module]:
    return (nn.Conv2d(into, out, kernel, stride, kernel // 2, bias=False),)


def _norm(channels: int) -> tuple[nn.Module, nn.Module]:
    return nn.BatchNorm2d(channels, eps=_EPS), nn.PReLU(channels)
