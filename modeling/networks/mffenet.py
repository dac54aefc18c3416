"""MFFENet: multi-scale features fused by adaptive triangle forks (Xu et al. 2022); with an auxiliary head, ADANet.

R: trunk and pyramid of `modeling.networks.dfpenet`. At each of three levels a fork gates the level's own features by
coarser ones, brings all other scales to its size and width (192, 96, 48; 1x1 with bias, BN ReLU), weighs the higher and
the lower of them pixel by pixel, and refines all four by a residual bottleneck. Dense top-down steps of 256 channels
join the pyramid, all coarser steps and the fork. I: bilinear resizing with pixel areas aligned. 71,356,490 parameters
at 3 channels and 2 classes, 71,378,185 at 10 and 1; 71,357,004 at 3 and 2 with the auxiliary head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from modeling.errors import ModelingError
from modeling.networks.dfpenet import STRIDE, WIDTH, head, pyramid, trunk
from modeling.networks.gates import AttentionGate, pixel_weights
from modeling.networks.layers import conv_bn_relu, initialise, resize
from modeling.networks.resnet import WIDTHS
from modeling.networks.shape import pad_to_multiple

Scale = Literal["pyramid", "layer2", "layer1", "stem"]

_CHANNELS: dict[Scale, int] = {"pyramid": WIDTH, "layer2": WIDTHS[2], "layer1": WIDTHS[1], "stem": WIDTHS[0]}


@dataclass(frozen=True)
class ForkPlan:
    """Which scales a fork joins."""

    own: Scale
    """The scale of its level, gated by attention."""
    guide: Scale
    """The next coarser scale, from which the attention sees."""
    higher: tuple[Scale, ...]
    """Coarser scales, weighed together."""
    lower: tuple[Scale, ...]
    """Finer scales, weighed together; none at the finest level."""
    width: int
    """Channels of each of the four inputs."""


_FORKS = (
    ForkPlan("layer2", "pyramid", ("pyramid",), ("layer1", "stem"), 192),
    ForkPlan("layer1", "layer2", ("pyramid", "layer2"), ("stem",), 96),
    ForkPlan("stem", "layer1", ("pyramid", "layer2", "layer1"), (), 48),
)


class TriangleFork(nn.Module):
    """Own scale, higher scales and lower scales of one level, weighed, concatenated and refined."""

    def __init__(self, plan: ForkPlan) -> None:
        super().__init__()
        self.plan = plan
        others = (*plan.higher, *plan.lower)
        joint, refined = len(others) * plan.width, (len(others) + 1) * plan.width
        self.attention = AttentionGate(_CHANNELS[plan.guide], _CHANNELS[plan.own], plan.width)
        self.bring = nn.ModuleDict({scale: _bring(_CHANNELS[scale], plan.width) for scale in others})
        self.weigh = nn.Sequential(
            conv_bn_relu(joint, joint // 2), pixel_weights(joint // 2, maps=2 if plan.lower else 1)
        )
        self.refine = _bottleneck(refined, refined // 3)

    def forward(self, scales: dict[Scale, torch.Tensor]) -> torch.Tensor:
        """All scales, each (B, C, H, W) of its own size, to (B, 4 width, H, W) of the level's."""
        own = scales[self.plan.own]
        size = (own.shape[-2], own.shape[-1])
        let_through, projected = self.attention(resize(scales[self.plan.guide], size), own)
        higher, lower = (
            [resize(self.bring[scale](scales[scale]), size) for scale in group]
            for group in (self.plan.higher, self.plan.lower)
        )
        weights = self.weigh(torch.cat([*higher, *lower], dim=1))  # (B, 1 or 2, H, W)
        weighed = [*(weights[:, :1] * y for y in higher), *(weights[:, 1:] * y for y in lower)]
        joined = torch.cat([let_through * projected, *weighed], dim=1)
        refined: torch.Tensor = joined + self.refine(joined)
        return refined


class MFFENet(nn.Module):
    """Logits (B, classes, y, x) for (B, in_channels, y, x) of any size.

    With `auxiliary` a 1x1 convolution on the pyramid gives a second set of logits (ADANet): see `forward_both`.
    """

    def __init__(self, in_channels: int, classes: int, *, auxiliary: bool = False) -> None:
        super().__init__()
        self.trunk = trunk(in_channels)
        self.pyramid = pyramid()
        self.forks = nn.ModuleList(TriangleFork(plan) for plan in _FORKS)
        into = [(step + 1) * WIDTH + 4 * plan.width for step, plan in enumerate(_FORKS)]  # 1024, 896, 960
        self.dense = nn.ModuleList(conv_bn_relu(channels, WIDTH) for channels in into)
        self.head = head((len(_FORKS) + 1) * WIDTH, classes)
        self.auxiliary = nn.Conv2d(WIDTH, classes, 1) if auxiliary else None
        for module in (self.pyramid, self.forks, self.dense, self.head):
            module.apply(initialise)
        if self.auxiliary is not None:
            initialise(self.auxiliary)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, y, x) to (B, classes, y, x)."""
        height, width = x.shape[-2:]
        padded = pad_to_multiple(x, STRIDE)
        return self._enlarge(self._decode(self._scales(padded)), padded)[..., :height, :width]

    def forward_both(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, in_channels, y, x) to the main and the auxiliary logits, each (B, classes, y, x).

        Raises `ModelingError` when the network was made without the auxiliary head.
        """
        if self.auxiliary is None:
            raise ModelingError("this MFFENet has no auxiliary head: make it with auxiliary=True")
        height, width = x.shape[-2:]
        padded = pad_to_multiple(x, STRIDE)
        scales = self._scales(padded)
        both = self._decode(scales), self.auxiliary(scales["pyramid"])
        main, auxiliary = (self._enlarge(logits, padded)[..., :height, :width] for logits in both)
        return main, auxiliary

    def _scales(self, padded: torch.Tensor) -> dict[Scale, torch.Tensor]:
        """Shapes in the comments are for a 512 x 512 input."""
        stages = self.trunk(padded)
        return {
            "pyramid": self.pyramid(stages.layer4),  # 256@32
            "layer2": stages.layer2,  # 512@64
            "layer1": stages.layer1,  # 256@128
            "stem": stages.stem,  # 64@256
        }

    def _decode(self, scales: dict[Scale, torch.Tensor]) -> torch.Tensor:
        maps = [scales["pyramid"]]
        for fork, dense in zip(self.forks, self.dense, strict=True):
            fused = fork(scales)  # 768@64, 384@128, 192@256
            size = (fused.shape[-2], fused.shape[-1])
            maps.append(dense(torch.cat([*(resize(y, size) for y in maps), fused], dim=1)))  # 256@64, 256@128, 256@256
        size = (maps[-1].shape[-2], maps[-1].shape[-1])
        logits: torch.Tensor = self.head(torch.cat([resize(y, size) for y in maps], dim=1))  # classes@256
        return logits

    @staticmethod
    def _enlarge(logits: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        return resize(logits, (like.shape[-2], like.shape[-1]))


def _bring(into: int, out: int) -> nn.Sequential:
    """1x1 with bias (R, idle before the batch norm, but counted), BN, ReLU."""
    return nn.Sequential(nn.Conv2d(into, out, 1), nn.BatchNorm2d(out), nn.ReLU(inplace=True))


def _bottleneck(channels: int, inner: int) -> nn.Sequential:
    """1x1 down, 3x3 BN ReLU, 1x1 up; the two 1x1 are bare."""
    return nn.Sequential(
        nn.Conv2d(channels, inner, 1, bias=False), conv_bn_relu(inner, inner), nn.Conv2d(inner, channels, 1, bias=False)
    )
