"""LANet: local attention for land cover (Ding et al. 2021), on ResNet-50 with an output stride of 16.

Coarse and fine features attend to what lies around them (patch attention), and what the coarse ones found important
there is embedded into the fine ones (attention embedding). Each of the two then has its own logits; they are summed.
23,792,332 parameters at 3 channels and 2 classes, 23,814,090 at 10 and 1.

Read off the authors' release: the sizes of the pools and the reductions. Inferred: the projection of the fine features
has a bias and that of the coarse ones has none (the count wants it so); averages at the border leave out the padding.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from modeling.networks.layers import PooledNorm, conv_bn_relu, initialise, resize
from modeling.networks.resnet import RESNET50, WIDTHS, ResNet
from modeling.networks.shape import pad_to_multiple

_STRIDE = 16
_COARSE, _FINE = 128, 64  # channels of the two levels
_COARSE_POOL, _FINE_POOL = 4, 20  # pixels of a patch's side in each of them
_COARSE_REDUCTION, _FINE_REDUCTION = 16, 8
_EMBEDDING_WINDOW = 7


class PatchAttention(nn.Module):
    """Scale each channel by what a bottleneck makes of its average in patches of `pool` pixels; plus the input."""

    def __init__(self, channels: int, *, pool: int, reduction: int) -> None:
        super().__init__()
        self.pool = pool
        self.gate = _gate(channels, channels // reduction, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) to the same shape."""
        height, width = x.shape[-2:]
        patches = functional.adaptive_avg_pool2d(x, (max(1, height // self.pool), max(1, width // self.pool)))
        return x + x * resize(self.gate(patches), (height, width))


class AttentionEmbedding(nn.Module):
    """Scale the fine features by what a bottleneck makes of the coarse ones' moving average; plus the fine ones."""

    def __init__(self, coarse: int, fine: int, *, reduction: int) -> None:
        super().__init__()
        self.average = nn.AvgPool2d(_EMBEDDING_WINDOW, 1, _EMBEDDING_WINDOW // 2, count_include_pad=False)
        self.gate = _gate(coarse, coarse // reduction, fine)

    def forward(self, fine: torch.Tensor, coarse: torch.Tensor) -> torch.Tensor:
        """(B, fine, H, W) and (B, coarse, h, w) to the shape of the first."""
        gate = self.gate(self.average(coarse))
        return fine + fine * resize(gate, (fine.shape[-2], fine.shape[-1]))


class LANet(nn.Module):
    """Logits (B, classes, y, x) for (B, in_channels, y, x) of any size."""

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__()
        self.trunk = ResNet(in_channels, RESNET50, strides=(1, 2, 2, 1))
        self.coarse = conv_bn_relu(WIDTHS[-1], _COARSE, 1)
        self.fine = nn.Sequential(nn.Conv2d(WIDTHS[1], _FINE, 1), nn.BatchNorm2d(_FINE), nn.ReLU(inplace=True))
        self.coarse_attention = PatchAttention(_COARSE, pool=_COARSE_POOL, reduction=_COARSE_REDUCTION)
        self.fine_attention = PatchAttention(_FINE, pool=_FINE_POOL, reduction=_FINE_REDUCTION)
        self.embedding = AttentionEmbedding(_COARSE, _FINE, reduction=_COARSE_REDUCTION)
        self.coarse_head = nn.Conv2d(_COARSE, classes, 1)
        self.fine_head = nn.Conv2d(_FINE, classes, 1)
        self.apply(initialise)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shapes in the comments are for a 256 x 256 input."""
        height, width = x.shape[-2:]
        padded = pad_to_multiple(x, _STRIDE)
        stages = self.trunk(padded)
        coarse = self.coarse_attention(self.coarse(stages.layer4))  # 128@16
        fine = self.fine_attention(self.fine(stages.layer1))  # 64@64
        fine = self.embedding(fine, coarse)
        size = (padded.shape[-2], padded.shape[-1])
        logits = resize(self.coarse_head(coarse), size) + resize(self.fine_head(fine), size)
        return logits[..., :height, :width]


def _gate(into: int, inner: int, out: int) -> nn.Sequential:
    """1x1 to `inner` channels, norm, ReLU, 1x1 to `out`, sigmoid."""
    return nn.Sequential(
        nn.Conv2d(into, inner, 1), PooledNorm(inner), nn.ReLU(inplace=True), nn.Conv2d(inner, out, 1), nn.Sigmoid()
    )
