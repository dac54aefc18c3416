"""Parts of a network that a run leaves as they are: weights, batch-norm statistics and all.

A frozen part computes as it does in evaluation: its batch norms use their stored statistics and do not update them, its
dropout is off. So what a frozen trunk says of an image is the same before, during and after the run.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from modeling.errors import DataError


def freeze(network: nn.Module, names: Sequence[str]) -> tuple[nn.Module, ...]:
    """Take the modules called `names` (dotted, as `named_modules` has them) out of training; returns them.

    Their parameters get no gradients any more. Call it before the optimiser is made, and `hold` whenever the network
    was put into training mode. Raises `DataError` for a name that is none of a module with parameters, and when
    nothing is left to train.
    """
    modules = {name: module for name, module in network.named_modules() if name and list(module.parameters())}
    if unknown := [name for name in names if name not in modules]:
        there = ", ".join(name for name in modules if "." not in name)
        raise DataError(f"{type(network).__name__} has no part {', '.join(map(repr, unknown))}; its parts: {there}")
    held = tuple(modules[name] for name in names)
    for module in held:
        module.requires_grad_(requires_grad=False)
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise DataError(f"{', '.join(names)} are all of {type(network).__name__}: nothing would be left to train")
    return held


def hold(held: Sequence[nn.Module]) -> None:
    """Put frozen modules into evaluation mode, after the whole network was put into training mode."""
    for module in held:
        module.eval()
