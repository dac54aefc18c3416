"""What a training recipe is: everything that decides how a network is trained, as data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from modeling.errors import DataError

OPTIMISERS = ("adam", "adamw", "sgd")
SCHEDULES = ("constant", "polynomial", "cosine")
PRECISIONS = ("float32", "bfloat16")
SELECTIONS = ("loss", "f1")

_VALIDATIONS_WITHOUT_EPOCHS = 20


@dataclass(frozen=True)
class Optimiser:
    """An optimiser and its settings."""

    name: str = "adam"
    """One of `OPTIMISERS`."""
    learning_rate: float = 1e-4
    """At its highest; the schedule scales it."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Of Adam and AdamW."""
    momentum: float = 0.0
    """Of SGD."""
    nesterov: bool = False
    """Whether SGD's momentum looks ahead."""
    weight_decay: float = 0.0
    """L2 penalty of Adam and SGD, decoupled decay of AdamW."""
    heads_factor: float = 1.0
    """The learning rate outside the network's `trunk`, in multiples of that inside."""


@dataclass(frozen=True)
class Schedule:
    """How the learning rate goes from the first step to the last."""

    name: str = "constant"
    """One of `SCHEDULES`."""
    power: float = 0.9
    """Of the polynomial decay, (1 - progress)^power."""
    warm_up: int = 0
    """Steps of linear rise before the decay begins."""
    warm_up_epochs: int = 0
    """The same in epochs; needs a data set with epochs. At most one of the two is above 0."""
    warm_up_from: float = 1e-3
    """The first step's learning rate, as a share of the highest."""


@dataclass(frozen=True)
class Plan:
    """A recipe's lengths in steps, for one data set."""

    steps: int
    """Optimiser steps in all."""
    warm_up: int
    """Of these, steps of linear rise."""
    validate_every: int
    """Steps between validations; there is one after the last step as well."""


@dataclass(frozen=True)
class Recipe:
    """One way to train one network. Change one with `dataclasses.replace`."""

    name: str
    """As a user types it."""
    network: str
    """A name of `modeling.networks.names()`."""
    loss: str
    """A name of `modeling.training.losses.LOSSES`."""
    optimiser: Optimiser
    """What moves the weights."""
    schedule: Schedule = field(default_factory=Schedule)
    """How the learning rate changes."""
    steps: int | None = None
    """Optimiser steps in all. Either this or `epochs` is given."""
    epochs: int | None = None
    """Passes over the training patches."""
    batch: int = 8
    """Patches a step, on each device."""
    patch_px: int = 256
    """Side of a training patch; data sets that store smaller patches give theirs."""
    classes: int = 2
    """Logits a pixel: 2 (softmax over background and landslide) or 1 (sigmoid of landslide)."""
    normalisation: str = "standardise"
    """A name of `modeling.data.normalise.METHODS`."""
    augmentation: str = "physical"
    """A name of `modeling.data.augment.AUGMENTATIONS`."""
    precision: str = "float32"
    """`float32`, or `bfloat16`: weights stay float32, activations are computed in bfloat16."""
    select_by: str = "f1"
    """Which validation is the best: lowest `loss`, or highest pixel `f1` at probability 0.5."""
    patience: int | None = None
    """Validations without a better one after which training stops; None: never before the last step."""
    validate_every: int | None = None
    """Steps between validations; None: each epoch, or a twentieth of the steps where there are no epochs."""
    input_scale: int = 1
    """The network sees its input enlarged so many times; see `modeling.forward`."""
    about: str = ""
    """Where it comes from, and what of it is ours."""

    def __post_init__(self) -> None:
        """Raise `DataError` for what cannot be trained."""
        require_known(
            self.name,
            optimiser=(self.optimiser.name, OPTIMISERS),
            schedule=(self.schedule.name, SCHEDULES),
            precision=(self.precision, PRECISIONS),
            select_by=(self.select_by, SELECTIONS),
        )
        lengths = [length for length in (self.steps, self.epochs) if length is not None]
        if len(lengths) != 1 or lengths[0] < 1:
            raise DataError(f"recipe {self.name}: give steps or epochs, at least 1, not {self.steps} and {self.epochs}")
        counts = {"batch": self.batch, "patch_px": self.patch_px, "input_scale": self.input_scale}
        counts |= {"patience": self.patience or 1, "validate_every": self.validate_every or 1}
        if bad := [f"{what} {value}" for what, value in counts.items() if value < 1]:
            raise DataError(f"recipe {self.name}: {', '.join(bad)} must be at least 1")
        if self.classes not in {1, 2}:
            raise DataError(f"recipe {self.name}: {self.classes} classes; 1 or 2 can be trained")
        if not 0 < self.optimiser.learning_rate < math.inf:
            raise DataError(f"recipe {self.name}: a learning rate of {self.optimiser.learning_rate} trains nothing")

    def plan(self, steps_an_epoch: int | None = None) -> Plan:
        """Its lengths in steps; raises `DataError` when it counts in epochs and the data have none."""
        in_epochs = self.epochs is not None or self.schedule.warm_up_epochs > 0
        if steps_an_epoch is None and in_epochs:
            raise DataError(f"recipe {self.name} counts in epochs, and these data have none: give the number of steps")
        an_epoch = steps_an_epoch or 0
        steps = self.steps if self.steps is not None else (self.epochs or 0) * an_epoch
        warm_up = max(self.schedule.warm_up, self.schedule.warm_up_epochs * an_epoch)
        every = self.validate_every or an_epoch or max(steps // _VALIDATIONS_WITHOUT_EPOCHS, 1)
        # A run that is shorter than the warm-up (a trial, a small budget) still reaches the full rate.
        return Plan(steps, min(warm_up, steps // 2), min(every, steps))

    def to_json(self) -> dict[str, Any]:
        """Plain values, for model cards and checkpoints."""
        made = asdict(self)
        made["optimiser"]["betas"] = list(self.optimiser.betas)
        return made

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Recipe:
        """The inverse of `to_json`; raises `DataError` when fields are missing, unknown or impossible."""
        try:
            optimiser = dict(stored["optimiser"])
            optimiser["betas"] = tuple(optimiser["betas"])
            parts = {"optimiser": Optimiser(**optimiser), "schedule": Schedule(**stored["schedule"])}
            return cls(**{**stored, **parts})
        except (KeyError, TypeError) as error:
            raise DataError(f"the stored recipe cannot be read: {error!r}") from error


def require_known(recipe: str, **choices: tuple[str, Sequence[str]]) -> None:
    """Raise `DataError` for the first of `choices`, field -> (value, what is possible), whose value is not possible."""
    for what, (value, allowed) in choices.items():
        if value not in allowed:
            raise DataError(f"recipe {recipe}: {what} {value!r} is not one of {', '.join(allowed)}")


def rate(schedule: Schedule, step: int, plan: Plan) -> float:
    """The learning rate of `step` (from 0) as a share of the highest.

    Linear warm-up from `warm_up_from`, then down to 0 just after the last step: (1 - progress)^power, or
    (1 + cos(pi progress)) / 2 (Loshchilov and Hutter 2017), or not at all.
    """
    if step < plan.warm_up:
        return schedule.warm_up_from + (1 - schedule.warm_up_from) * step / plan.warm_up
    progress = (step - plan.warm_up) / max(plan.steps - plan.warm_up, 1)
    if schedule.name == "polynomial":
        return float((1 - progress) ** schedule.power)
    if schedule.name == "cosine":
        return (1 + math.cos(math.pi * progress)) / 2
    return 1.0
