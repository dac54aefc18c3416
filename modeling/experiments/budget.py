"""From hours to steps: how long a training run may be so that a whole experiment takes a given time here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from modeling.benchmark.budget import Told, step_seconds
from modeling.benchmark.plan import Plan
from modeling.errors import DataError
from modeling.experiments.engine import Experiment, Run, checked
from modeling.experiments.setting import Setting

_SHORT, _LONG = 1_000, 3_000
_FORWARD = 1 / 3
"""A pass forward over a patch, as a share of a step with it."""


@dataclass(frozen=True)
class Cost:
    """What an experiment takes on this machine."""

    runs: int
    """How many."""
    steps: int
    """Optimiser steps in all."""
    seconds: float
    """Until everything is done, with as many runs at once as the setting lets run."""


def planned(experiment: Experiment, setting: Setting, seconds: float, step: Mapping[str, float]) -> Setting:
    """`setting` with the steps that fit into `seconds`; `step` holds the seconds of a step of each network.

    Raises `DataError` when testing alone takes longer.
    """
    short, long = (
        cost(checked(experiment.plan(replace(setting, steps=steps))), setting, step).seconds
        for steps in (_SHORT, _LONG)
    )
    each = (long - short) / (_LONG - _SHORT)
    fixed = short - each * _SHORT
    if each <= 0:
        return setting
    if seconds < fixed + each:
        raise DataError(
            f"{seconds / 60:.0f} minutes are too few: validation and test alone take about {fixed / 60:.0f} here; give "
            "a larger --budget, fewer --seeds or networks, or less test ground (--regions)"
        )
    return replace(setting, steps=int((seconds - fixed) / each))


def cost(runs: Sequence[Run], setting: Setting, step: Mapping[str, float]) -> Cost:
    """What `runs` take, by measured seconds of a step of each network; they may be the rest of a plan.

    A run that an earlier call has begun counts in full. With fewer runs than may run at once, the longest decides.
    """
    efforts = [run.effort for run in runs if run.effort.network]
    each = [step[one.network] * (one.steps + _FORWARD * one.patches / setting.batch) for one in efforts]
    seconds = max(sum(each) / setting.processes, max(each, default=0.0))
    return Cost(len(runs), sum(effort.steps for effort in efforts), seconds)


def networks_of(runs: Sequence[Run]) -> tuple[str, ...]:
    """The networks that `runs` train or use, each once."""
    return tuple(dict.fromkeys(run.effort.network for run in runs if run.effort.network))


def measured(setting: Setting, networks: Sequence[str], told: Told | None = None) -> Mapping[str, float]:
    """Seconds of a step of each network here, while as many run at once as the setting lets run."""
    entries = tuple(dict.fromkeys(networks))
    plan = Plan(
        entries=entries, domains=setting.domains, train_on="together", seeds=(0,), steps=dict.fromkeys(entries, 1),
        batch=setting.batch, patch_px=setting.patch_px, precision=setting.precision, processes=setting.processes,
        threads=setting.threads, device=setting.device,
    )  # fmt: skip
    return step_seconds(plan, setting.source, told)
