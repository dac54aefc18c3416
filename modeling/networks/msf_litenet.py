"""MSF-LiteNet: a light U-shaped network with multi-scale fusion (Dong et al. 2024, "LDTL").

Backbone: the inverted residuals of MobileNetV3-Large (Howard et al. 2019) with efficient channel attention (ECA, Wang
et al. 2020) in the place of squeeze-and-excitation. Neck: pyramid pooling (Zhao et al. 2017). Decoder: U-Net.
2,541,708 parameters at 3 channels and 2 classes: backbone 1,304,186, pyramid 77,440, decoder and head 1,160,082.

Not stated by the paper and chosen here: decoder upsampling with `align_corners=False`, so that a pixel's result does
not depend on the size of the tile that it is computed in; initialisation as in MobileNetV3.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from modeling.networks.attention import EfficientChannelAttention
from modeling.networks.layers import PooledNorm
from modeling.networks.shape import pad_to_multiple

# (kernel, expanded, out, stride, h-swish, ECA) of f1 to f15
_RESIDUALS = (
    (3, 16, 16, 1, False, False),
    (3, 64, 24, 2, False, False),
    (3, 72, 24, 1, False, False),
    (5, 72, 40, 2, False, True),
    (5, 120, 40, 1, False, True),
    (5, 120, 40, 1, False, True),
    (3, 240, 80, 2, True, False),
    (3, 200, 80, 1, True, False),
    (3, 184, 80, 1, True, False),
    (3, 184, 80, 1, True, False),
    (3, 480, 112, 1, True, True),
    (3, 672, 112, 1, True, True),
    (5, 672, 160, 2, True, True),
    (5, 960, 160, 1, True, True),
    (5, 960, 160, 1, True, True),
)
TAPS = (0, 2, 4, 7, 13, 15)  # f0, f2, f4, f7, f13, f15
HALVINGS = 32  # five strides of two
_POOL_BINS = (1, 2, 3, 6)


class InvertedResidual(nn.Module):
    """1x1 to `expanded` channels, depthwise kxk, optional ECA, 1x1 to `out`; plus the input where shapes allow."""

    def __init__(
        self, into: int, kernel: int, expanded: int, out: int, *, stride: int, hswish: bool, eca: bool
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        if expanded != into:
            layers += _backbone_conv(into, expanded, 1, hswish=hswish)
        layers += _backbone_conv(expanded, expanded, kernel, stride=stride, groups=expanded, hswish=hswish)
        if eca:
            layers.append(EfficientChannelAttention(expanded))
        layers += _backbone_conv(expanded, out, 1, hswish=None)
        self.body = nn.Sequential(*layers)
        self.residual = stride == 1 and into == out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, into, H, W) to (B, out, H / stride, W / stride)."""
        y: torch.Tensor = self.body(x)
        return x + y if self.residual else y


class PyramidPooling(nn.Module):
    """Averages over 1x1, 2x2, 3x3 and 6x6 parts of the image, beside the input itself (Zhao et al. 2017)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        part = channels // len(_POOL_BINS)
        self.parts = nn.ModuleList(
            nn.Sequential(
                nn.AdaptiveAvgPool2d(bins),
                nn.Conv2d(channels, part, 1, bias=False),
                PooledNorm(part),
                nn.ReLU(inplace=True),
            )
            for bins in _POOL_BINS
        )
        self.fuse = nn.Sequential(
            nn.Conv2d(2 * channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Dropout2d(0.1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) to the same shape."""
        size = x.shape[-2:]
        parts = [functional.interpolate(part(x), size, mode="bilinear", align_corners=True) for part in self.parts]
        fused: torch.Tensor = self.fuse(torch.cat([x, *parts], dim=1))
        return fused


class Fusion(nn.Module):
    """Upsample (except at the bottom), concatenate the skip, two 3x3 convolutions: u0 to u4."""

    def __init__(self, into: int, middle: int, out: int, *, upsample: bool = True) -> None:
        super().__init__()
        self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False) if upsample else nn.Identity()
        self.body = nn.Sequential(*_decoder_conv(into, middle), *_decoder_conv(middle, out))

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) and a skip of twice its size (u0: of its size) to (B, out, skip's H, skip's W)."""
        y: torch.Tensor = self.body(torch.cat([self.up(x), skip], dim=1))
        return y


class MSFLiteNet(nn.Module):
    """Dong et al. 2024; logits (batch, classes, y, x) for (batch, in_channels, y, x) of any size."""

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__()
        stages: list[nn.Module] = [nn.Sequential(*_backbone_conv(in_channels, 16, 3, stride=2, hswish=True))]
        into = 16
        for kernel, expanded, out, stride, hswish, eca in _RESIDUALS:
            stages.append(InvertedResidual(into, kernel, expanded, out, stride=stride, hswish=hswish, eca=eca))
            into = out
        self.backbone = nn.ModuleList(stages)
        self.pyramid = PyramidPooling(160)
        self.fusions = nn.ModuleList(
            (
                Fusion(320, 160, 160, upsample=False),
                Fusion(240, 120, 80),
                Fusion(120, 60, 40),
                Fusion(64, 32, 24),
                Fusion(40, 20, 16),
            )
        )
        self.head = nn.Conv2d(16, classes, 1)
        self.apply(_initialise)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shapes in the comments are for a 256 x 256 input."""
        height, width = x.shape[-2:]
        y = self.features(pad_to_multiple(x, HALVINGS))  # 16@128
        y = functional.interpolate(y, scale_factor=2, mode="bilinear", align_corners=False)  # 16@256
        logits: torch.Tensor = self.head(y)  # classes@256
        return logits[..., :height, :width]

    def features(self, y: torch.Tensor) -> torch.Tensor:
        """What the head sees, (B, 16, y / 2, x / 2), of an input whose sides are multiples of `HALVINGS`."""
        taps = []
        for index, stage in enumerate(self.backbone):
            y = stage(y)
            if index in TAPS:
                taps.append(y)  # 16@128, 24@64, 40@32, 80@16, 160@8, 160@8
        y = self.pyramid(taps.pop())  # 160@8
        for fusion in self.fusions:
            y = fusion(y, taps.pop())  # 160@8, 80@16, 40@32, 24@64, 16@128
        return y


def _backbone_conv(
    into: int, out: int, kernel: int, *, stride: int = 1, groups: int = 1, hswish: bool | None
) -> list[nn.Module]:
    """Convolution, batch norm with the backbone's constants, and h-swish (True), ReLU (False) or nothing (None)."""
    layers: list[nn.Module] = [
        nn.Conv2d(into, out, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out, eps=1e-3, momentum=0.01),
    ]
    if hswish is not None:
        layers.append(nn.Hardswish(inplace=True) if hswish else nn.ReLU(inplace=True))
    return layers


def _decoder_conv(into: int, out: int) -> list[nn.Module]:
    return [nn.Conv2d(into, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True)]


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
