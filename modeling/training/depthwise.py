"""Depthwise convolutions in float32 while the rest of a network trains in bfloat16 on a CPU.

oneDNN's gradients of strided and of wide depthwise convolutions take up to twenty times as long in bfloat16 as in
float32 (torch 2.13): a step of MSF-LiteNet on 8 patches of 88 px took 0.155 s in bfloat16, 0.12 s in float32, and 0.10 s
with these alone in float32 (one thread of an AMD EPYC with bfloat16 instructions). Their share of the arithmetic is small.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


class _Float32Conv2d(nn.Conv2d):
    """A convolution that no autocast rounds."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, in, y, x) of any type to float32 (B, out, y, x)."""
        with torch.autocast(x.device.type, enabled=False):
            y: torch.Tensor = self._conv_forward(x.float(), self.weight, self.bias)
        return y


@contextmanager
def depthwise_in_float32(network: nn.Module) -> Iterator[None]:
    """A context in which the grouped convolutions of `network` compute in float32 whatever autocast says."""
    # Their class and nothing else, so that state, copies and hooks stay what they are.
    changed = [module for module in network.modules() if type(module) is nn.Conv2d and module.groups > 1]
    for module in changed:
        module.__class__ = _Float32Conv2d
    try:
        yield
    finally:
        for module in changed:
            module.__class__ = nn.Conv2d
