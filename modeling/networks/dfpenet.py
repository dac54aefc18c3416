"""DFPENet: dense feature pyramids with an attention gate and gated convolution on each skip (Xu et al.).

P: ResNet-101 at output stride 16, its last three blocks dilated by 1, 2 and 5; ASPP of rates 1, 6, 12, 18 and the
image's average; gated fusion; dense top-down paths. R: skips of 64, 256 and 512 channels projected to 24, 96 and 192;
inner widths 12, 48 and 96; head with dropout .5 and .1. Fusion, P: (1 + G) F + (1 + G) A f of the coarse features F
(gate G) and the skip f (attention A); the widths of F and f differ, so the two terms are concatenated as in the release
(R) instead of summed. I: bilinear resizing with pixel areas aligned (`align_corners=False`). 63,075,306 parameters
at 3 channels and 2 classes, 63,097,001 at 10 and 1.
"""

from __future__ import annotations

import torch
from torch import nn

from modeling.networks.aspp import ASPP
from modeling.networks.gates import AttentionGate, pixel_weights
from modeling.networks.layers import conv_bn_relu, initialise, resize
from modeling.networks.resnet import RESNET101, WIDTHS, ResNet
from modeling.networks.shape import pad_to_multiple

STRIDE = 16
WIDTH = 256
"""Channels of the pyramid pooling and of every dense step."""

# (channels in the trunk, projected, inner of the attention gate), from coarse to fine
_SKIPS = ((WIDTHS[2], 192, 96), (WIDTHS[1], 96, 48), (WIDTHS[0], 24, 12))


def trunk(in_channels: int) -> ResNet:
    """ResNet-101 at output stride 16 with the dilations 1, 2, 5 of hybrid dilated convolution."""
    return ResNet(in_channels, RESNET101, strides=(1, 2, 2, 1), last_dilations=(1, 2, 5))


def pyramid() -> ASPP:
    """The pooling pyramid on the trunk's 2048 channels."""
    return ASPP(WIDTHS[-1], WIDTH, (6, 12, 18), dropout=0.5)


def head(into: int, classes: int) -> nn.Sequential:
    """Two 3x3 BN ReLU with dropout, then 1x1: (B, into, H, W) to (B, classes, H, W)."""
    return nn.Sequential(
        conv_bn_relu(into, WIDTH),
        nn.Dropout(0.5),
        conv_bn_relu(WIDTH, WIDTH),
        nn.Dropout(0.1),
        nn.Conv2d(WIDTH, classes, 1),
    )


class GatedFusion(nn.Module):
    """Coarse features and the skip of the next level: (1 + G) F beside (1 + G) A f."""

    def __init__(self, skip: int, projected: int, inner: int) -> None:
        super().__init__()
        self.project = conv_bn_relu(skip, projected, 1)
        self.attention = AttentionGate(WIDTH, projected, inner)
        self.gate = pixel_weights(WIDTH)

    def forward(self, coarse: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """(B, 256, H, W), already of the skip's size, and (B, skip, H, W) to (B, 256 + projected, H, W)."""
        fine = self.project(skip)
        let_through, _ = self.attention(coarse, fine)
        emphasis = 1 + self.gate(coarse)
        return torch.cat([emphasis * coarse, emphasis * let_through * fine], dim=1)


class DFPENet(nn.Module):
    """Logits (B, classes, y, x) for (B, in_channels, y, x) of any size."""

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__()
        self.trunk = trunk(in_channels)
        self.pyramid = pyramid()
        self.fusions = nn.ModuleList(GatedFusion(*skip) for skip in _SKIPS)
        # What enters each step: the fused maps and every coarser map but the last, which is among the fused.
        into = [(step + 1) * WIDTH + projected for step, (_, projected, _) in enumerate(_SKIPS)]  # 448, 608, 792
        self.dense = nn.ModuleList(conv_bn_relu(channels, WIDTH) for channels in into[:-1])
        self.head = head(into[-1], classes)
        for module in (self.pyramid, self.fusions, self.dense, self.head):
            module.apply(initialise)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shapes in the comments are for a 512 x 512 input."""
        height, width = x.shape[-2:]
        padded = pad_to_multiple(x, STRIDE)
        stages = self.trunk(padded)  # 64@256, 256@128, 512@64, 1024@32, 2048@32
        maps = [self.pyramid(stages.layer4)]  # 256@32
        steps = [*self.dense, self.head]
        for fusion, step, skip in zip(self.fusions, steps, (stages.layer2, stages.layer1, stages.stem), strict=True):
            *earlier, coarse = (resize(y, (skip.shape[-2], skip.shape[-1])) for y in maps)
            maps.append(step(torch.cat([*earlier, fusion(coarse, skip)], dim=1)))  # 256@64, 256@128, classes@256
        return resize(maps[-1], (padded.shape[-2], padded.shape[-1]))[..., :height, :width]
