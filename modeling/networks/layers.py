"""Small pieces that several networks are made of."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


def conv_bn_relu(into: int, out: int, kernel: int = 3, *, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """Convolution without bias, batch norm, ReLU; a stride of one keeps the size."""
    return nn.Sequential(
        nn.Conv2d(into, out, kernel, stride, dilation * (kernel // 2), dilation, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(inplace=True),
    )


class PooledNorm(nn.BatchNorm2d):
    """Batch norm for maps that were pooled, perhaps to one pixel.

    In training a batch of one with one pixel has no variance, and `nn.BatchNorm2d` raises. This one then uses what it
    has seen so far, so that a network can be trained with any batch and patch size.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) to the same shape."""
        if self.training and input.shape[0] * input.shape[2] * input.shape[3] == 1:
            return functional.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps
            )
        return super().forward(input)


def resize(x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """(B, C, H, W) to (B, C, *size), bilinear with pixel areas aligned."""
    return functional.interpolate(x, size, mode="bilinear", align_corners=False)


def initialise(module: nn.Module) -> None:
    """For `Module.apply`: normal weights that keep the variance going forward (He et al. 2015), zero biases.

    The variance is that of the inputs ("fan in"), so that the logits of a head with few classes start small.
    """
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        if isinstance(module, nn.ConvTranspose2d):
            # Its weight is (in, out, y, x): what counts as inputs of one output pixel is the first axis.
            inputs = module.in_channels // module.groups
            nn.init.normal_(module.weight, std=(2 / inputs) ** 0.5)
        else:
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
