"""What a network is judged by while it adapts: labels of the source, and measures of the target that need none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from modeling.adaptation.norms import Norm, mix_statistics, statistics
from modeling.adaptation.target import TargetPool
from modeling.data.batches import Blocks, Sampler
from modeling.forward import logits_of, prepared
from modeling.model import LandslideModel, stored_state
from modeling.recipes.adapting import NormsOf
from modeling.training import losses
from modeling.training.feed import Tensors, checked
from modeling.training.validation import Validation, validate

SETTLING_PATCHES = 128
"""Of each ground, from which statistics are estimated. With 64 the F1 of one CGNet on its own source fell by 0.03 to 0.06
for the estimate's noise alone."""

_BATCH = 8


@dataclass(frozen=True)
class Judge:
    """What a network is judged by, and with which batch-norm statistics."""

    model: LandslideModel
    """The one to adapt: how its network is fed."""
    source: Sampler
    """Labelled batches."""
    validation: Blocks
    """The source's, never the target's."""
    pool: TargetPool
    """The target's ground."""
    norms_of: NormsOf
    """`target`: the source is judged with its own statistics and the network kept with the target's (they are trained
    apart); `joint`: one set of statistics, of both in equal parts; `kept`: the model's own, which do not move."""
    device: torch.device
    """Where it is computed."""
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext
    """Around every use of the network."""

    def validated(self, network: nn.Module) -> Validation:
        """Margins on the source's validation part."""

        def logits(x: torch.Tensor) -> torch.Tensor:
            return self.logits(network.eval(), x)

        loss = losses.loss("cross-entropy")
        return validate(logits, self.validation, loss, batch=_BATCH, device=self.device)

    def judged(self, network: nn.Module) -> tuple[float, float, dict[str, torch.Tensor]]:
        """F1 on the source, information on the target, and the state to keep; statistics are left as in that state."""
        self.settle(network, "source")
        f1 = self.validated(network).f1
        self.settle(network, "target")
        return f1, self.information(network), stored_state(network, self.model.storage)

    def settle(self, network: nn.Module, for_ground: Literal["source", "target"]) -> None:
        """Put the statistics of that ground (or of both together) into the network's batch norms, unless they are kept."""
        if self.norms_of == "kept" or not any(isinstance(module, Norm) for module in network.modules()):
            return

        def inputs() -> Iterator[torch.Tensor]:
            done = number = 0
            alone = for_ground == "target" and self.norms_of == "target"
            while done < (min(SETTLING_PATCHES, len(self.pool)) if alone else SETTLING_PATCHES):
                grounds = []
                if for_ground == "source" or self.norms_of == "joint":
                    grounds.append(self.source_batch(number)[0])
                if for_ground == "target" or self.norms_of == "joint":
                    grounds.append(self.target_x(number, len(grounds[0]) if grounds else _BATCH))
                yield prepared(self.model.normalisation, torch.cat(grounds), self.model.input_scale)
                done, number = done + len(grounds[0]), number + 1

        with self.autocast():
            mix_statistics(network, statistics(network, inputs()), 1.0)

    def train(self, network: nn.Module) -> None:
        """Training mode, but for batch norms whose statistics are kept."""
        network.train()
        if self.norms_of == "kept":
            for module in network.modules():
                if isinstance(module, Norm):
                    module.eval()

    def information(self, network: nn.Module) -> float:
        """H(mean p) - mean H(p) over the known pixels of the pool: high where classes are told apart and both are used.

        Bridle et al. 1991, as used by Liang et al. 2020 (SHOT). It needs no labels, and a network that calls everything
        one class gets 0. It is no proof of a gain: in self-training on simulated ground it rose while F1 fell.
        """
        count, total, entropy = 0, 0.0, 0.0
        for patches in self.pool.passes(_BATCH):
            x = torch.from_numpy(patches).to(self.device)
            with torch.inference_mode():
                margin = losses.margin_of(self.logits(network.eval(), x)) / self.model.temperature
                p = torch.sigmoid(margin)[torch.isfinite(x).all(dim=1)].double()
            count, total = count + p.numel(), total + float(p.sum())
            entropy += float(_entropy(p).sum())
        if count == 0:
            return 0.0
        return float(_entropy(torch.tensor(total / count, dtype=torch.float64))) - entropy / count

    def logits(self, network: nn.Module, x: torch.Tensor) -> torch.Tensor:
        """Of physical values, float32."""
        with self.autocast():
            return logits_of(network, self.model.normalisation, x, self.model.input_scale)

    def source_batch(self, number: int) -> Tensors:
        """A labelled batch, on the device."""
        x, y = checked(self.source.draw(number), number, len(self.model.channels))
        return x.to(self.device), y.to(self.device)

    def target_x(self, number: int, batch: int = _BATCH) -> torch.Tensor:
        """Unlabelled patches as they are, on the device."""
        return torch.from_numpy(self.pool.patches[self.pool.chosen(number, batch, 0)]).to(self.device)


def _entropy(p: torch.Tensor) -> torch.Tensor:
    """Of a yes or no with the probability p, in nats."""
    entropy: torch.Tensor = -(torch.special.xlogy(p, p) + torch.special.xlogy(1 - p, 1 - p))
    return entropy
