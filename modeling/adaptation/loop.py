"""The loop of the methods that train: resumable at any step, and never judged by the target's labels.

A checkpoint is chosen by the F1 on the source's validation part, by a measure of the target that needs no labels, or not
at all (the last one). Whatever the choice, a network that has forgotten its source is not taken: its F1 there may lie at
most `floor` below that of the model before, and where none is left that model is kept.
"""

from __future__ import annotations

import copy
import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from modeling.adaptation.judge import Judge
from modeling.adaptation.result import KEPT_CALIBRATION, SOURCE_CALIBRATION, adapted, copied
from modeling.calibrated import moved_sure_margin
from modeling.errors import DataError, WeightsError
from modeling.model import LandslideModel, load_state
from modeling.recipes import Unlabelled
from modeling.recipes.adapting import Selection
from modeling.training.denormals import flushed_denormals
from modeling.training.progress import Pace, Tick

CHECKPOINT = "adaptation.safetensors"
_KEY = "adaptation"
_AS_GOOD_F1 = 0.005


@dataclass(frozen=True)
class Moment:
    """A network, judged during adaptation."""

    step: int
    """Steps done."""
    source_f1: float
    """Pixel F1 at probability 0.5 on the source's validation part."""
    information: float
    """Mutual information of pixel and class on the target, in nats (see `Judge.information`)."""
    losses: Mapping[str, float] = field(default_factory=dict)
    """Mean over the steps since the moment before."""


def score(moment: Moment, select_by: Selection) -> float:
    """What is highest for the network to keep."""
    scores = {"source-f1": moment.source_f1, "target-information": moment.information, "last": float(moment.step)}
    return scores[select_by]


class Learner(Protocol):
    """A method's own part of a run."""

    def step(self, number: int) -> dict[str, torch.Tensor]:
        """Do step `number`, which with the state before decides everything; returns its losses."""
        ...

    def candidate(self) -> nn.Module:
        """The network as it would be kept."""
        ...

    def state(self) -> dict[str, torch.Tensor]:
        """All that a run needs to go on."""
        ...

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """The inverse of `state`; raises `KeyError` or `RuntimeError` when it does not fit."""
        ...


@dataclass(frozen=True)
class _Stand:
    """Where a run stands, besides its tensors."""

    step: int = 0
    moments: tuple[Moment, ...] = ()
    best_step: int = 0
    best_score: float | None = None
    seconds: float = 0.0
    sums: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Finished:
    """What a run ends with."""

    state: Mapping[str, torch.Tensor] | None
    """Of the network to keep; None: the model before."""
    moments: tuple[Moment, ...]
    """The first is the model before."""
    chosen_step: int
    """0: the model before."""
    seconds: float
    """Time spent, over all interruptions."""


@flushed_denormals()
def run(
    learner: Learner,
    judge: Judge,
    how: Unlabelled,
    folder: Path,
    identity: Mapping[str, Any],
    *,
    seed: int,
    checkpoint_seconds: float = 60.0,
    tell: Callable[[Tick], None] | None = None,
) -> Finished:
    """Do all steps, or go on from `folder/adaptation.safetensors`; a run that has ended returns at once.

    What a run is decided by stands in `identity`. `tell` may raise to stop; the same call goes on later with the same
    result. Raises `DataError` when a loss is no number, `WeightsError` for a checkpoint that is damaged or of another
    run.
    """
    path = folder / CHECKPOINT
    settings, plan = {**identity, "seed": seed}, how.plan()
    stand = _Stand()
    best: dict[str, torch.Tensor] = {}
    if path.is_file():
        stand, best = _load(path, learner, settings)
    else:
        # The model before is judged through statistics that were estimated as those of the others are.
        before = copy.deepcopy(judge.model.network).to(judge.device)
        information = judge.information(before)
        judge.settle(before, "source")
        stand = _Stand(moments=(Moment(0, judge.validated(before).f1, information),))
    pace, begun_at = Pace(checkpoint_seconds, spent_before=stand.seconds), stand.step
    for number in range(stand.step, plan.steps):
        torch.manual_seed(seed * 1_000_003 + number)  # dropout and noise: the same after an interruption
        found = {name: float(value.detach()) for name, value in learner.step(number).items()}
        if not all(math.isfinite(value) for value in found.values()):
            raise DataError(f"a loss is no number at step {number}: {found}; lower the learning rate")
        stand = replace(
            stand, step=number + 1, sums={name: stand.sums.get(name, 0.0) + value for name, value in found.items()}
        )
        if stand.step % plan.validate_every == 0 or stand.step == plan.steps:
            f1, information, state = judge.judged(learner.candidate())
            since = stand.step - stand.moments[-1].step
            moment = Moment(stand.step, f1, information, {name: total / since for name, total in stand.sums.items()})
            reached, kept = score(moment, how.select_by), f1 >= stand.moments[0].source_f1 - how.floor
            stand = replace(stand, moments=(*stand.moments, moment), sums={})
            if kept and (stand.best_score is None or reached > stand.best_score):
                best, stand = state, replace(stand, best_step=moment.step, best_score=reached)
        if pace.saves() or stand.step == plan.steps:
            stand = replace(stand, seconds=pace.seconds())
            _save(path, learner, stand, best, settings)
            pace.saved(0.0)
        if tell is not None and (pace.tells() or stand.step == plan.steps):
            speed = (stand.step - begun_at) / max(pace.since_begun(), 1e-9)
            tell(Tick(stand.step, plan.steps, sum(found.values()), math.nan, speed))
    return Finished(best or None, stand.moments, stand.best_step, stand.seconds)


@dataclass(frozen=True)
class Adapted:
    """A model after adaptation, and how it went."""

    model: LandslideModel
    """The new one; the model before is untouched."""
    moments: tuple[Moment, ...]
    """How networks were judged; the first is the model before."""
    chosen_step: int
    """Of the network that was kept."""

    @property
    def kept_start(self) -> bool:
        """Whether no network was fit to be kept, so that the weights are those of the model before."""
        return self.chosen_step == 0


def conclude(judge: Judge, how: Unlabelled, finished: Finished, *, method: str, suffix: str) -> Adapted:
    """The chosen network as a model, calibrated again on the source's validation part, with its card."""
    from modeling.training.train import calibrated

    model, network = judge.model, copied(judge.model)
    fitted = model
    if finished.state is not None:
        load_state(network, finished.state)
        # The source is seen through its own statistics, where the kept network has the target's.
        other = copy.deepcopy(network).to(judge.device)
        judge.settle(other, "source")
        margins = judge.validated(other).margins
        fitted = calibrated(model, margins)
        # Where networks are sure, many thresholds are nearly the best of the source, and the one that happens to be can
        # lie far off: the one that there was is kept as long as it is as good.
        kept = margins.confusion_at(model.threshold, fitted.temperature).scores()["f1"]
        if kept >= fitted.card["validation_f1"] - _AS_GOOD_F1:
            sure_margin = moved_sure_margin(model.sure_margin, model.temperature, fitted.temperature, model.threshold)
            card = {**fitted.card, "validation_f1": kept}
            fitted = replace(fitted, threshold=model.threshold, sure_margin=sure_margin, card=card)
    made = adapted(
        fitted,
        network,
        method=method,
        settings=asdict(how),
        data=judge.pool.about(),
        seconds=finished.seconds,
        calibration=KEPT_CALIBRATION if finished.state is None else SOURCE_CALIBRATION,
        suffix=suffix,
        found={
            "chosen_step": finished.chosen_step,
            "chosen_by": f"{how.select_by}, source F1 at most {how.floor:g} below the start's; no target label",
            "moments": [asdict(moment) for moment in finished.moments],
        },
    )
    return Adapted(made, finished.moments, finished.chosen_step)


def optimiser_state(name: str, optimiser: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The tensors of an optimiser, under names that begin with `name`."""
    return {
        f"{name}.{index}.{key}": value
        for index, state in optimiser.state_dict()["state"].items()
        for key, value in state.items()
        if isinstance(value, torch.Tensor)
    }


def restore_optimiser(name: str, optimiser: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    """The inverse of `optimiser_state`."""
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in part(tensors, f"{name}.").items():
        index, own = key.split(".", 1)
        state.setdefault(int(index), {})[own] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})


def part(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """Those whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def named(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """All of them, under names that begin with `prefix`."""
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


def _save(
    path: Path, learner: Learner, stand: _Stand, best: Mapping[str, torch.Tensor], settings: Mapping[str, Any]
) -> None:
    tensors = {**named("learner.", learner.state()), **named("best.", best)}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    copies = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    save_file(copies, str(partial), metadata={_KEY: json.dumps({"stand": asdict(stand), "settings": settings})})
    with partial.open("rb+") as file:
        os.fsync(file.fileno())  # a power cut must not leave a new name on unwritten bytes
    partial.replace(path)


def _load(path: Path, learner: Learner, settings: Mapping[str, Any]) -> tuple[_Stand, dict[str, torch.Tensor]]:
    try:
        with safe_open(str(path), framework="pt") as file:
            about = json.loads((file.metadata() or {})[_KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        stored, theirs = dict(about["stand"]), dict(about["settings"])
        stand = _Stand(**{**stored, "moments": tuple(Moment(**each) for each in stored["moments"])})
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path} is not a usable checkpoint ({error}): delete it to start again") from error
    mine = json.loads(json.dumps(settings))
    if other := sorted(name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name)):
        raise WeightsError(
            f"{path} belongs to a run with other settings ({', '.join(other)}): choose another folder or delete it"
        )
    try:
        learner.restore(part(tensors, "learner."))
    except (KeyError, RuntimeError, ValueError) as error:
        raise WeightsError(f"{path} does not fit the network ({error}): delete it to start again") from error
    return stand, part(tensors, "best.")
