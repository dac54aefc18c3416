"""What a recipe of adaptation is: how a trained model is fitted to other ground, as data.

`Adversarial` and `SelfTraining` see no label of the target, `Transfer` has ground with labels for each of its stages. What
decides the outcome has no default here: what a paper leaves open is decided in its recipe, and said there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from modeling.errors import DataError
from modeling.recipes.parts import OPTIMISERS, PRECISIONS, SCHEDULES, Optimiser, Plan, Schedule, require_known

NormsOf = Literal["target", "joint", "kept"]
NORMS_OF: tuple[NormsOf, ...] = ("target", "joint", "kept")
Selection = Literal["source-f1", "target-information", "last"]
SELECTIONS: tuple[Selection, ...] = ("source-f1", "target-information", "last")
LegGround = Literal["source", "between", "target", "both"]
GROUNDS: tuple[LegGround, ...] = ("source", "between", "target", "both")


@dataclass(frozen=True, kw_only=True)
class Unlabelled:
    """What the ways that train without labels of the target have in common. Change one with `dataclasses.replace`."""

    way: ClassVar[str] = "without labels"
    """What recipes of this class do, for messages."""

    name: str
    """As a user types it; unique among all recipes."""
    optimiser: Optimiser
    """Of the network; heads are all outside its trunk, its last layer where it has none, and the auxiliary head."""
    schedule: Schedule
    """How the learning rates change; its warm-up counts in steps."""
    steps: int
    """Optimiser steps."""
    batch: int
    """Target patches a step."""
    loss: str | None = None
    """Of labels, a name of `modeling.training.losses.LOSSES`; None: the model's own."""
    augmentation: str
    """How patches that are learnt from with labels are changed, a name of `modeling.data.augment.AUGMENTATIONS`."""
    norms_of: NormsOf
    """Which statistics the grounds are normalised by; see `modeling.adaptation.judge.Judge`."""
    select_by: Selection
    """Which network is kept; none of these sees a label of the target."""
    floor: float
    """How far the source's F1 may fall below that of the model before."""
    validations: int
    """How often networks are judged, evenly apart; the last step is one of them."""
    most_patches: int
    """Patches of the target that are kept in memory."""
    precision: str = "float32"
    """What activations are computed in: `float32` or `bfloat16`."""
    about: str
    """Where it comes from, and what of it is ours."""

    def __post_init__(self) -> None:
        """Raise `DataError` for what cannot be run."""
        require_known(
            self.name,
            optimiser=(self.optimiser.name, OPTIMISERS),
            schedule=(self.schedule.name, SCHEDULES),
            norms_of=(self.norms_of, NORMS_OF),
            select_by=(self.select_by, SELECTIONS),
            precision=(self.precision, PRECISIONS),
        )
        counts = {"steps": self.steps, "batch": self.batch, "validations": self.validations}
        counts |= {"most_patches": self.most_patches}
        if bad := [f"{what} {value}" for what, value in counts.items() if value < 1]:
            raise DataError(f"recipe {self.name}: {', '.join(bad)} must be at least 1")
        if self.schedule.warm_up_epochs:
            raise DataError(f"recipe {self.name}: an adaptation has no epochs: give its warm-up in steps")

    def plan(self) -> Plan:
        """Its lengths in steps."""
        every = max(self.steps // self.validations, 1)
        return Plan(self.steps, min(self.schedule.warm_up, self.steps // 2), every)


@dataclass(frozen=True, kw_only=True)
class Adversarial(Unlabelled):
    """How a network is adapted against discriminators (`modeling.adaptation.adversarial`)."""

    way: ClassVar[str] = "adversarial"

    discriminator: Optimiser
    """Of both discriminators."""
    auxiliary: float
    """Weight of the auxiliary head's loss of labels; the main output's is 1."""
    adversarial: tuple[float, float]
    """Weights of being taken for the source on the target: main, auxiliary."""
    label_noise: float
    """A discriminator learns labels this far off at most: [0, noise] and [1 - noise, 1]."""

    def __post_init__(self) -> None:
        """Raise `DataError` for weights that mean nothing."""
        super().__post_init__()
        require_known(self.name, discriminator=(self.discriminator.name, OPTIMISERS))
        if min(*self.adversarial, self.auxiliary) < 0 or not 0 <= self.label_noise < 0.5:
            raise DataError(
                f"recipe {self.name}: adversarial {self.adversarial} and auxiliary {self.auxiliary} must not be negative, "
                f"label_noise {self.label_noise} lie in [0, 0.5)"
            )


@dataclass(frozen=True, kw_only=True)
class SelfTraining(Unlabelled):
    """How a network learns from its own surest labels (`modeling.adaptation.self_training`)."""

    way: ClassVar[str] = "self-training"

    portion: tuple[float, float]
    """Share of a class's pixels that is labelled, by the first and by the last labelling."""
    confidence: float
    """Least calibrated probability of a label's class."""
    labellings: int
    """How often the teacher labels the target anew."""
    ema: float
    """What the teacher keeps of itself at a step; less in the first ones."""
    target_weight: float
    """Of the loss on the teacher's labels, beside that on the source."""

    def __post_init__(self) -> None:
        """Raise `DataError` for shares and counts that mean nothing."""
        super().__post_init__()
        low, high = self.portion
        if not (0 < low <= high <= 1 and 0.5 <= self.confidence < 1 and 0 <= self.ema < 1):
            raise DataError(
                f"recipe {self.name}: portion {self.portion} must rise within (0, 1], confidence {self.confidence} lie in "
                f"[0.5, 1) and ema {self.ema} in [0, 1)"
            )
        if self.labellings < 1 or self.target_weight < 0:
            raise DataError(
                f"recipe {self.name}: {self.labellings} labellings and target_weight {self.target_weight}: at least 1 and "
                "0 are needed"
            )


@dataclass(frozen=True)
class Leg:
    """One training of a transfer, in proportion to the first one and to the training recipe that it changes."""

    name: str
    """A word that can be a folder's name; of `between` a number follows."""
    ground: LegGround
    """What it trains on: the source, each ground in between, the target, or source and target together."""
    share: float = 1.0
    """Its optimiser steps, in multiples of those of the first leg."""
    rate_factor: float = 1.0
    """Its learning rate, in multiples of the training recipe's."""
    freeze: tuple[str, ...] = ()
    """Parts of the network that stay as they are: names of `modeling.adaptation.freezing.PARTS`."""
    augmentation: str = ""
    """A name of `modeling.data.augment.AUGMENTATIONS`; empty: the training recipe's."""


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """Trainings that follow each other, each from the weights of the one before (`modeling.adaptation.transfer`).

    It changes the training recipe of any network; loss, optimiser and shape of the schedule are that one's.
    """

    way: ClassVar[str] = "transfer"
    """What recipes of this class do, for messages."""

    name: str
    """As a user types it; unique among all recipes."""
    legs: tuple[Leg, ...]
    """In their order."""
    warm_up: float
    """Share of each leg's steps in which the learning rate rises, where the training recipe has a warm-up."""
    validations: int
    """How often each leg is validated; the best of these states goes on."""
    about: str
    """Where it comes from, and what of it is ours."""

    def __post_init__(self) -> None:
        """Raise `DataError` for what cannot be run."""
        for leg in self.legs:
            require_known(self.name, ground=(leg.ground, GROUNDS))
        names = [leg.name for leg in self.legs]
        if not names or len(set(names)) < len(names):
            raise DataError(f"recipe {self.name}: legs {names}: at least one is needed, each with a name of its own")
        if not all(0 < value < math.inf for leg in self.legs for value in (leg.share, leg.rate_factor)):
            raise DataError(f"recipe {self.name}: shares and factors of its legs must be above 0")
        if not 0 <= self.warm_up <= 0.5 or self.validations < 1:
            raise DataError(
                f"recipe {self.name}: a warm-up of {self.warm_up} must lie in [0, 0.5], {self.validations} validations be "
                "at least 1"
            )

    def leg(self, ground: LegGround) -> Leg:
        """The leg on that ground; raises `DataError` when there is none."""
        for leg in self.legs:
            if leg.ground == ground:
                return leg
        raise DataError(f"recipe {self.name} has no leg on {ground}: {', '.join(leg.ground for leg in self.legs)} are")


Adaptation = Adversarial | SelfTraining | Transfer
