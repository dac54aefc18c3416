"""ADANet: adversarial adaptation of a network's outputs, on two levels, to unlabelled ground (Xu et al. 2022).

Two discriminators learn to tell class probabilities of the source from those of the target, one for the main output
and one for an auxiliary head on an inner level; the network learns from the source's labels and to be taken for the
source on the target. R: segmentation loss 1.0 main + 0.5 auxiliary, adversarial 0.01 main and 0.002 auxiliary, binary
cross-entropy on logits with source 0 and target 1, noisy labels; SGD 2.5e-4 with heads times ten, Adam (0.9, 0.99) 1e-4
for the discriminators. I, after AdaptSegNet (Tsai et al. 2018), on which the release builds: momentum 0.9, weight decay
5e-4, polynomial decay 0.9 of both rates, half of each ground's loss for a discriminator; the labels' noise is uniform.

The release picks the checkpoint by the target's labels, which leaks. Here it is picked by the source's validation part,
or a measure of the target that needs no labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from modeling.adaptation.auxiliary import WithAuxiliary, level_of, pooled
from modeling.adaptation.judge import Judge, NormsOf
from modeling.adaptation.loop import (
    Adapted,
    Course,
    Selection,
    conclude,
    named,
    optimiser_state,
    part,
    restore_optimiser,
    run,
)
from modeling.adaptation.result import copied
from modeling.adaptation.setting_up import Precision, identity, judge_for, loss_name
from modeling.adaptation.target import MOST_PATCHES
from modeling.data.batches import IGNORE, Blocks, Sampler
from modeling.errors import DataError
from modeling.forward import prepared
from modeling.model import LandslideModel
from modeling.networks.discriminator import Discriminator
from modeling.recipes import Optimiser, Plan, Schedule, rate
from modeling.training.losses import loss, margin_of
from modeling.training.optimise import optimiser_for, set_rate
from modeling.training.progress import Tick

SOURCE, TARGET = 0.0, 1.0
_SGD = Optimiser("sgd", 2.5e-4, momentum=0.9, weight_decay=5e-4, heads_factor=10.0)
_ADAM = Optimiser("adam", 1e-4, betas=(0.9, 0.99))
_DECAY = Schedule("polynomial", power=0.9)


@dataclass(frozen=True)
class Adversarial:
    """How to adapt adversarially; the defaults are the paper's but for the number of steps."""

    steps: int = 1000
    """Of both optimisers."""
    optimiser: Optimiser = _SGD
    """Of the network; heads are all outside its trunk, its last layer where it has none, and the auxiliary head."""
    discriminator: Optimiser = _ADAM
    """Of both discriminators."""
    loss: str | None = None
    """Of the source's labels, a name of `modeling.training.losses.LOSSES`; None: the model's own."""
    auxiliary: float = 0.5
    """Weight of the auxiliary head's loss."""
    adversarial: tuple[float, float] = (0.01, 0.002)
    """Weights of being taken for the target: main, auxiliary."""
    label_noise: float = 0.2
    """A discriminator learns labels this far off at most: [0, noise] and [1 - noise, 1]."""
    batch: int = 8
    """Target patches a step."""
    norms_of: NormsOf = "target"
    """Which statistics the grounds are normalised by: each its own, or see `modeling.adaptation.judge.Judge`."""
    select_by: Selection = "source-f1"
    """Which network is kept; none of these sees a label of the target."""
    floor: float = 0.05
    """How far the source's F1 may fall."""
    validations: int = 10
    """How often networks are judged."""
    most_patches: int = MOST_PATCHES
    """Of the target."""
    precision: Precision = "float32"
    """What activations are computed in."""

    def __post_init__(self) -> None:
        """Raise `DataError` for weights that mean nothing."""
        if min(*self.adversarial, self.auxiliary) < 0 or not 0 <= self.label_noise < 0.5 or self.batch < 1:
            raise DataError(
                f"adversarial {self.adversarial} and auxiliary {self.auxiliary} must not be negative, label_noise "
                f"{self.label_noise} lie in [0, 0.5) and batch {self.batch} be at least 1"
            )

    @property
    def course(self) -> Course:
        """How long, and what is kept."""
        return Course(self.steps, self.validations, self.select_by, self.floor)


def adapt_adversarial(
    model: LandslideModel,
    source: Sampler,
    validation: Blocks,
    target: Blocks,
    folder: Path,
    settings: Adversarial | None = None,
    *,
    level: str | None = None,
    seed: int = 0,
    device: str = "auto",
    checkpoint_seconds: float = 60.0,
    tell: Callable[[Tick], None] | None = None,
) -> Adapted:
    """Adapt `model` to `target`, whose truth is not read, beside labelled batches and validation blocks of its source.

    `level` names the module that the auxiliary head reads; None takes that of `modeling.adaptation.auxiliary.LEVELS`. The
    run can be stopped at any moment; the same call goes on from `folder`. The model that comes back has neither
    auxiliary head nor discriminators and is calibrated again on the source. Raises `DataError`, `WeightsError` and
    `ModelingError` as the parts do.
    """
    chosen = settings or Adversarial()
    judge = judge_for(
        model, source, validation, target, norms_of=chosen.norms_of, most_patches=chosen.most_patches,
        precision=chosen.precision, seed=seed, device=device,
    )  # fmt: skip
    named_level = level or level_of(model.network_name)
    learner = _Learner(judge, chosen, named_level, seed)
    finished = run(
        learner, judge, chosen.course, folder, identity(judge, asdict(chosen) | {"level": named_level}),
        seed=seed, checkpoint_seconds=checkpoint_seconds, tell=tell,
    )  # fmt: skip
    return conclude(
        judge, chosen.course, finished, method="adversarial (ADANet)", settings=chosen, suffix="adversarial"
    )


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
        self.plan = Plan(settings.steps, 0, settings.course.every)

    def step(self, number: int) -> dict[str, torch.Tensor]:
        """The network once, then the discriminators once, on the same batches."""
        settings, judge = self.settings, self.judge
        for optimiser, of in ((self.optimiser, settings.optimiser), (self.telling, settings.discriminator)):
            set_rate(optimiser, of.learning_rate * rate(_DECAY, number, self.plan))
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
