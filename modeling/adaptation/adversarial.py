"""ADANet: adversarial adaptation of a network's outputs, on two levels, to unlabelled ground (Xu et al. 2022).

Two discriminators learn to tell class probabilities of the source from those of the target, one for the main output
and one for an auxiliary head on an inner level; the network learns from the source's labels and to be taken for the
source on the target; half of each ground's loss counts for a discriminator, after AdaptSegNet (Tsai et al. 2018), on which
the release builds. Rates, weights and schedule are those of a recipe: `modeling.recipes.xu` holds them, and says which of
them are the paper's.

The release picks the checkpoint by the target's labels, which leaks. Here it is picked by the source's validation part,
or a measure of the target that needs no labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from modeling.adaptation.auxiliary import WithAuxiliary, level_of, pooled
from modeling.adaptation.judge import Judge
from modeling.adaptation.loop import Adapted, conclude, named, optimiser_state, part, restore_optimiser, run
from modeling.adaptation.result import copied
from modeling.adaptation.setting_up import identity, judge_for, loss_name
from modeling.data.batches import IGNORE, Blocks, Sampler
from modeling.forward import prepared
from modeling.model import LandslideModel
from modeling.networks.discriminator import Discriminator
from modeling.recipes import Adversarial, rate
from modeling.training.losses import loss, margin_of
from modeling.training.optimise import optimiser_for, set_rate
from modeling.training.progress import Tick

SOURCE, TARGET = 0.0, 1.0


def adapt_adversarial(
    model: LandslideModel,
    source: Sampler,
    validation: Blocks,
    target: Blocks,
    folder: Path,
    how: Adversarial,
    *,
    level: str | None = None,
    seed: int = 0,
    device: str = "auto",
    checkpoint_seconds: float = 60.0,
    tell: Callable[[Tick], None] | None = None,
) -> Adapted:
    """Adapt `model` to `target`, whose truth is not read, beside labelled batches and validation blocks of its source.

    `how` is a recipe, or one that was changed. `level` names the module that the auxiliary head reads; None takes that of
    `modeling.adaptation.auxiliary.LEVELS`. The run can be stopped at any moment; the same call goes on from `folder`. The
    model that comes back has neither auxiliary head nor discriminators and is calibrated again on the source. Raises
    `DataError`, `WeightsError` and `ModelingError` as the parts do.
    """
    judge = judge_for(model, source, validation, target, how, seed=seed, device=device)
    named_level = level or level_of(model.network_name)
    learner = _Learner(judge, how, named_level, seed)
    finished = run(
        learner, judge, how, folder, identity(judge, asdict(how) | {"level": named_level}),
        seed=seed, checkpoint_seconds=checkpoint_seconds, tell=tell,
    )  # fmt: skip
    return conclude(judge, how, finished, method="adversarial (ADANet)", suffix="adversarial")


class _Learner:
    """Network, auxiliary head and discriminators: what `modeling.adaptation.loop.run` moves."""

    def __init__(self, judge: Judge, settings: Adversarial, level: str, seed: int) -> None:
        self.judge, self.settings = judge, settings
        torch.manual_seed(seed)  # of the auxiliary head and the discriminators
        model = judge.model
        both = WithAuxiliary(copied(model), level, in_channels=len(model.channels), classes=model.classes)
        self.network = both.to(judge.device)
        for parameter in self.network.parameters():
            parameter.requires_grad_(True)
        # Of two classes always: a single logit's probability has a complement.
        self.discriminators = nn.ModuleList((Discriminator(2), Discriminator(2))).to(judge.device)
        self.optimiser = optimiser_for(settings.optimiser, self.network)
        self.telling = optimiser_for(settings.discriminator, self.discriminators)
        self.loss = loss(loss_name(model, settings.loss))
        self.plan = settings.plan()

    def step(self, number: int) -> dict[str, torch.Tensor]:
        """The network once, then the discriminators once, on the same batches."""
        settings, judge = self.settings, self.judge
        for optimiser, of in ((self.optimiser, settings.optimiser), (self.telling, settings.discriminator)):
            set_rate(optimiser, of.learning_rate * rate(settings.schedule, number, self.plan))
        x, y = judge.source_batch(number)
        target_x = judge.target_x(number, settings.batch)

        judge.train(self.network)
        self.discriminators.requires_grad_(False)
        source, target = self._both_grounds(x, target_x)
        main, auxiliary = (self.loss(logits, y, y != IGNORE) for logits in source)
        segmentation = main + settings.auxiliary * auxiliary
        fooled = [
            weight * self._called(level, logits, SOURCE)
            for level, (weight, logits) in enumerate(zip(settings.adversarial, target, strict=True))
        ]
        self.optimiser.zero_grad(set_to_none=True)
        (segmentation + fooled[0] + fooled[1]).backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()

        self.discriminators.requires_grad_(True)
        told = torch.zeros((), device=judge.device)
        for level in (0, 1):
            for logits, label in ((source[level], SOURCE), (target[level], TARGET)):
                told = told + self._called(level, logits.detach(), label, settings.label_noise) / 2
        self.telling.zero_grad(set_to_none=True)
        told.backward()  # type: ignore[no-untyped-call]
        self.telling.step()
        return {"segmentation": segmentation, "adversarial": fooled[0] + fooled[1], "discriminators": told}

    def candidate(self) -> nn.Module:
        """The network without its auxiliary head."""
        return self.network.network

    def state(self) -> dict[str, torch.Tensor]:
        """All networks and both optimisers."""
        return {
            **named("network.", self.network.state_dict()),
            **named("discriminators.", self.discriminators.state_dict()),
            **optimiser_state("optimiser", self.optimiser),
            **optimiser_state("telling", self.telling),
        }

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """The inverse of `state`."""
        self.network.load_state_dict(part(state, "network."))
        self.discriminators.load_state_dict(part(state, "discriminators."))
        restore_optimiser("optimiser", self.optimiser, state)
        restore_optimiser("telling", self.telling, state)

    def _both_grounds(
        self, x: torch.Tensor, target_x: torch.Tensor
    ) -> tuple[tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
        """Main and auxiliary logits of the source's batch, and of the target's."""
        if self.settings.norms_of == "joint":
            main, auxiliary = self._levels(torch.cat([x, target_x]))
            count = len(x)
            return (main[:count], auxiliary[:count]), (main[count:], auxiliary[count:])
        return self._levels(x), self._levels(target_x)

    def _levels(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        model = self.judge.model
        with self.judge.autocast():
            main, auxiliary = self.network(prepared(model.normalisation, x, model.input_scale))
        return pooled(main, model.input_scale), pooled(auxiliary, model.input_scale)

    def _called(self, level: int, logits: torch.Tensor, label: float, noise: float = 0.0) -> torch.Tensor:
        """Cross-entropy of a discriminator's verdict on these outputs with a label that is off by up to `noise`."""
        landslide = torch.sigmoid(margin_of(logits))
        with self.judge.autocast():
            verdict: torch.Tensor = self.discriminators[level](torch.stack([1 - landslide, landslide], dim=1))
        wanted = torch.full_like(verdict, label, dtype=torch.float32)
        if noise:
            wanted = (wanted - torch.rand_like(wanted) * noise).abs()
        return functional.binary_cross_entropy_with_logits(verdict.float(), wanted)
