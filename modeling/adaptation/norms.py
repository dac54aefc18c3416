"""Adaptive batch-norm statistics: those of the target's ground in the place of the training data's, or a mix of both.

Li et al. 2018 ("Adaptive batch normalization") replace them; Schneider et al. 2020 ("Improving robustness against common
corruptions by covariate shift adaptation", equation 2) mix them, mean and variance alike:

    m = N / (N + n) m_source + n / (N + n) m_target

with n target samples and a pseudo-count of N source samples. Weights are not touched, labels are not needed, and it
takes one pass over some patches. A caution that the papers' balanced classes hide: statistics also hold how much of the
ground is landslide, snow or town, and training patches lie around landslides while a scene's lie anywhere. Measured on
simulated ground (CGNet trained shortly on one domain, two others, two seeds, 64 patches): F1 changed by -0.10, -0.04,
+0.05 and +0.01 with the target's statistics, so try it against the model as it is before relying on it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from modeling.adaptation.result import KEPT_CALIBRATION, adapted, copied
from modeling.adaptation.target import MOST_PATCHES, TargetPool, pool_of
from modeling.data.batches import Blocks
from modeling.data.normalise import Normalisation
from modeling.errors import DataError, ModelingError
from modeling.forward import prepared
from modeling.model import LandslideModel

Norm = nn.modules.batchnorm._BatchNorm
SOURCE_PATCHES = 16.0
"""Patches that a network's own statistics count as where a single scene is the target."""
Moments = dict[str, tuple[torch.Tensor, torch.Tensor]]
"""Name of a batch norm -> mean and variance of what it is given, float32 (channel,) each."""


def adapt_norms(
    model: LandslideModel,
    target: Blocks,
    *,
    weight: float | None = None,
    source_patches: float = 0.0,
    patch_px: int | None = None,
    most_patches: int = MOST_PATCHES,
    batch: int = 8,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> LandslideModel:
    """A copy of `model` whose batch norms have statistics of `target`, whose truth is not read.

    `weight` is the target's share, from 0 (the model as it was) to 1; None computes it from the number of patches n that
    were found and `source_patches` N as the paper does, n / (N + n): with N = 0 the target alone. `batch` patches are
    normalised by each other while the statistics are gathered, on `device`; memory is bounded by `most_patches` and one
    block. The same call gives the same model, on the CPU. Raises `DataError` for a weight outside [0, 1], a negative N and
    unusable blocks, `ModelingError` for a network without batch norms.
    """
    if source_patches < 0 or (weight is not None and not 0 <= weight <= 1):
        raise DataError(f"weight {weight} must lie in [0, 1] and source_patches {source_patches} be at least 0")
    begun = time.monotonic()
    pool = pool_of(target, model.bands, patch_px=patch_px, most_patches=most_patches, seed=seed)
    share = len(pool) / (source_patches + len(pool)) if weight is None else weight
    network = copied(model).to(device)
    mix_statistics(network, target_statistics(network, pool, model.normalisation, model.input_scale, batch), share)
    return adapted(
        model,
        network.cpu(),
        method="batch-norm statistics",
        settings={"weight": share, "source_patches": source_patches, "batch": batch, "seed": seed},
        data=pool.about(),
        seconds=time.monotonic() - begun,
        calibration=KEPT_CALIBRATION,
        suffix="norms",
    )


def target_statistics(
    network: nn.Module, pool: TargetPool, normalisation: Normalisation, input_scale: int, batch: int
) -> Moments:
    """Mean and variance of what each batch norm is given over all patches of the pool; the network stays as it is."""
    device = next(network.parameters()).device
    # In an order without neighbours: those of one batch are normalised by each other and should stand for the whole.
    order = pool.chosen(0, len(pool), seed=0)
    inputs = (
        prepared(normalisation, torch.from_numpy(pool.patches[order[first : first + batch]]).to(device), input_scale)
        for first in range(0, len(pool), batch)
    )
    return statistics(network, inputs)


def statistics(network: nn.Module, inputs: Iterable[torch.Tensor]) -> Moments:
    """Mean and variance of what each batch norm is given over all `inputs`, which the network sees normalised.

    Every layer before is normalised by its own batch, as in training. Pooled over batches exactly (between them as well
    as within them), weighed by their values. Dropout is off. Raises `ModelingError` for a network without batch norms.
    """
    norms = {name: module for name, module in network.named_modules() if isinstance(module, Norm)}
    if not norms:
        raise ModelingError(f"{type(network).__name__} has no batch norm whose statistics could be adapted")
    sums = {name: _Sums.empty(module.num_features) for name, module in norms.items()}

    def counting(name: str) -> torch.utils.hooks.RemovableHandle:
        return norms[name].register_forward_pre_hook(lambda _module, given: sums[name].take(given[0]))

    hooks = [counting(name) for name in norms]
    try:
        with torch.no_grad(), _normalising_by_batch(network, list(norms.values())):
            for x in inputs:
                network(x)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: sums[name].moments() for name in norms if sums[name].count > 0}


def mix_statistics(network: nn.Module, target: Moments, weight: float) -> None:
    """Replace the running statistics by (1 - weight) times themselves plus `weight` times the target's, in place."""
    for name, (mean, variance) in target.items():
        norm = network.get_submodule(name)
        for own, other in ((norm.running_mean, mean), (norm.running_var, variance)):
            if isinstance(own, torch.Tensor):
                own.mul_(1 - weight).add_(other.to(own.device), alpha=weight)


@dataclass
class _Sums:
    """What a batch norm was given so far, added up in float64."""

    count: int
    total: torch.Tensor
    squares: torch.Tensor

    @classmethod
    def empty(cls, channels: int) -> _Sums:
        return cls(0, torch.zeros(channels, dtype=torch.float64), torch.zeros(channels, dtype=torch.float64))

    def take(self, given: torch.Tensor) -> None:
        values = given.detach().double().transpose(0, 1).flatten(1)
        self.count += values.shape[1]
        self.total += values.sum(dim=1).cpu()
        self.squares += values.square().sum(dim=1).cpu()

    def moments(self) -> tuple[torch.Tensor, torch.Tensor]:
        mean = self.total / self.count
        variance = (self.squares / self.count - mean.square()).clamp(min=0)
        return mean.float(), variance.float()


@contextmanager
def _normalising_by_batch(network: nn.Module, norms: list[Norm]) -> Iterator[None]:
    """Only the batch norms in training mode, without moving their statistics; all as it was afterwards."""
    modes = [(module, module.training) for module in network.modules()]
    momenta = [norm.momentum for norm in norms]
    kept = [(name, buffer.clone()) for name, buffer in network.named_buffers()]
    network.eval()
    for norm in norms:
        norm.train()
        norm.momentum = 0.0
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        own = dict(network.named_buffers())
        for name, buffer in kept:
            own[name].copy_(buffer)
