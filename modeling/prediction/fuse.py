"""Batch norms absorbed by the convolutions before them: the same function of the input, with one pass less over it.

In evaluation mode a batch norm multiplies and adds constants, which a convolution's weights and bias can hold. Which
batch norm follows which convolution is seen by running the network once, so that any network can be fused, however
its modules are named.
"""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any, cast

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

_PROBE_PX = 64
_TOLERANCE = 1e-3


def fuse(network: nn.Module, in_channels: int) -> nn.Module:
    """A copy of `network` in evaluation mode, on the CPU, in which every batch norm that can be absorbed is.

    The copy is compared with the original on random input; a network whose result would change (one that uses the
    output of such a convolution a second time) is returned as a plain copy.
    """
    plain = copy.deepcopy(network).cpu().eval()
    probe = torch.randn((1, in_channels, _PROBE_PX, _PROBE_PX), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        pairs = _followers(plain, probe)
    fused = copy.deepcopy(plain)
    for conv, norm in pairs:
        convolution = cast(nn.Conv2d, fused.get_submodule(conv))
        batch_norm = cast(nn.BatchNorm2d, fused.get_submodule(norm))
        transposed = isinstance(convolution, nn.ConvTranspose2d)
        _replace(fused, conv, fuse_conv_bn_eval(convolution, batch_norm, transpose=transposed))
        _replace(fused, norm, nn.Identity())
    with torch.inference_mode():
        before, after = plain(probe), fused(probe)
    scale = float(before.abs().max()) + 1e-6
    same = float((after - before).abs().max()) <= _TOLERANCE * scale
    return fused if same else plain


def _followers(network: nn.Module, probe: torch.Tensor) -> list[tuple[str, str]]:
    """(convolution, batch norm) by name, where the one's output is what the other is given, each used once."""
    made: dict[int, tuple[str, torch.Tensor]] = {}
    calls: Counter[str] = Counter()
    pairs: list[tuple[str, str]] = []

    def after(name: str, output: torch.Tensor) -> None:
        calls[name] += 1
        made[id(output)] = name, output  # the reference keeps the id from being given to another tensor

    def before(name: str, given: torch.Tensor) -> None:
        calls[name] += 1
        if id(given) in made:
            pairs.append((made[id(given)][0], name))

    hooks: list[Any] = []
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            hooks.append(module.register_forward_hook(lambda _m, _i, output, name=name: after(name, output)))
        elif isinstance(module, nn.BatchNorm2d):
            hooks.append(module.register_forward_pre_hook(lambda _m, given, name=name: before(name, given[0])))
    try:
        network(probe)
    finally:
        for hook in hooks:
            hook.remove()
    norms_of = Counter(conv for conv, _ in pairs)
    return [(conv, norm) for conv, norm in pairs if calls[conv] == calls[norm] == norms_of[conv] == 1]


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(network.get_submodule(parent), own, module)
