"""Batch-norm statistics re-estimated from training batches, before a network is validated or kept.

A running mean with a small momentum lags behind weights that change fast: MSF-LiteNet's backbone (momentum 0.01) can
reach IoU 1.0 on its batches and 0.01 in evaluation mode after 250 steps. Statistics of the weights as they are now are
what evaluation should use (Wu and Johnson, Rethinking "Batch" in BatchNorm, 2021, section 3: PreciseBN).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from modeling.data.batches import Sampler
from modeling.data.normalise import Normalisation
from modeling.forward import prepared
from modeling.training.feed import checked
from modeling.training.frozen import hold

SETTLING_PATCHES = 64
"""Patches that the statistics are estimated from: 500,000 pixels of 88 px patches, and 64 values of what is pooled."""


def settle_norms(
    network: nn.Module,
    sampler: Sampler,
    normalisation: Normalisation,
    *,
    channels: int,
    batch: int,
    input_scale: int = 1,
    device: torch.device,
    held: Sequence[nn.Module] = (),
) -> None:
    """Replace the running statistics of all batch norms of `network` by those over the first batches of `sampler`.

    They are the same batches at every call, so a run that was interrupted settles as one that was not. Weights are
    not touched, nor anything of the frozen modules `held`, which compute as in evaluation; the network is left in the
    mode (training or evaluation) that it was in.
    """
    fixed = {id(module) for part in held for module in part.modules()}
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm) and id(module) not in fixed]
    if not norms:
        return
    momenta, was_training = [norm.momentum for norm in norms], network.training
    network.train()
    hold(held)
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # of a plain mean over the batches
        with torch.no_grad():
            for number in range(math.ceil(SETTLING_PATCHES / batch)):
                x, _ = checked(sampler.draw(number), number, channels)
                network(prepared(normalisation, x.to(device), input_scale))
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        network.train(was_training)
