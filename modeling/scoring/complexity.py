"""What a network costs: parameters and multiply-accumulates (MAC), counted without computing anything.

Convention of thop 0.1.1, which Dong et al. 2024 (LDTL) print as "FLOPs": convolutions and linear layers without their
bias, four for each element that batch norm takes in, eleven for each that a bilinear `nn.Upsample` puts out, adaptive
average pooling by its inputs and outputs. Activations, plain pooling and functional calls (`interpolate`, products of
attention) count nothing. The counts are those of a batch of one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.func import functional_call

_COUNTED = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.BatchNorm2d, nn.Upsample, nn.AdaptiveAvgPool2d)


@dataclass(frozen=True)
class Complexity:
    """What a network costs for one image of a given size."""

    parameters: int
    """Trainable numbers."""
    macs: int
    """Multiply-accumulates by thop's convention, which takes a transposed convolution for one at its output's size."""
    conv_macs: int
    """Multiplications that convolutions and linear layers really do, nothing else ("conv MAC" of ResU-SENet)."""


def parameters(network: nn.Module) -> int:
    """How many trainable numbers `network` has."""
    return sum(tensor.numel() for tensor in network.parameters())


def complexity(network: nn.Module, shape: tuple[int, int, int]) -> Complexity:
    """What `network` costs for one image of `shape` (channel, y, x), as in evaluation.

    The network runs on torch's meta device, which knows shapes and no values: any size takes milliseconds and no memory.
    A network that is itself on that device (`with torch.device("meta"): create(…)`) serves as well. The network is
    left as it was.
    """
    macs = conv_macs = 0

    def count(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal macs, conv_macs
        conv, thop = _cost(module, inputs[0], output)
        conv_macs += conv
        macs += thop

    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    training = [module for module in network.modules() if module.training]
    hooks = [module.register_forward_hook(count) for module in network.modules() if isinstance(module, _COUNTED)]
    try:
        network.eval()
        with torch.inference_mode():
            images = torch.empty((1, *shape), device="meta")
            functional_call(network, {name: tensor.to("meta") for name, tensor in tensors.items()}, (images,))
    finally:
        for hook in hooks:
            hook.remove()
        for module in training:
            module.training = True
    return Complexity(parameters(network), macs, conv_macs)


def _cost(module: nn.Module, x: torch.Tensor, y: torch.Tensor) -> tuple[int, int]:
    """(multiplications of a convolution, thop's count) of one call of `module` that made `y` of `x`."""
    if isinstance(module, nn.ConvTranspose2d):
        a_pixel = module.weight.shape[2] * module.weight.shape[3]
        return x.numel() * module.weight[0].numel(), y.numel() * (module.in_channels // module.groups) * a_pixel
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
        macs = y.numel() * module.weight[0].numel()
        return macs, macs
    if isinstance(module, nn.BatchNorm2d):
        return 0, 4 * x.numel()
    if isinstance(module, nn.Upsample) and module.mode == "bilinear":
        return 0, 11 * y.numel()
    if isinstance(module, nn.AdaptiveAvgPool2d):
        return 0, x.numel() + y.numel()
    return 0, 0
