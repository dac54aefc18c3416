"""Carry out an experiment: runs with keys, some of which begin from what others made, each done once and kept.

It may be killed at any moment and started again: what is finished stays, and a training run that was under way goes on
from its checkpoint. A run that cannot be done (its loss is no longer a number, a domain has too few patches) is kept as
failed with the reason; runs that need it fail as well, and the others go on.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from modeling.benchmark.data import Source
from modeling.benchmark.ledger import Ledger, file_stem
from modeling.benchmark.pool import Status, Task, Told, run_all
from modeling.errors import DataError, ModelingError
from modeling.experiments.findings import Findings
from modeling.experiments.setting import Setting
from modeling.model import LandslideModel, load_model, save_model

Finished = Mapping[str, Mapping[str, Any]]
"""Key of a run -> what it found; runs that failed or are not done yet are not in it."""

MODEL = "model"
"""Name of the model that a run keeps."""
_KEPT = "kept"
_ABOUT = "work"


@dataclass(frozen=True)
class Effort:
    """What a run costs, so that steps can be found that fit a budget."""

    network: str = ""
    """A name of the setting's networks; empty: next to nothing."""
    steps: int = 0
    """Optimiser steps."""
    patches: float = 0.0
    """Patches that go through the network forward only, those of validation and test."""


class Work(Protocol):
    """What a run does: a frozen dataclass of plain values, so that it travels to other processes and is recorded."""

    def __call__(self, desk: Desk) -> Mapping[str, Any]:
        """Do it; returns plain values. A `ModelingError` makes the run a failed one."""
        ...


@dataclass(frozen=True)
class Run:
    """One piece of an experiment that is done once."""

    key: str
    """Its name, for example `resu-senet--Ib500J200--seed0`; file names are made of it."""
    work: Work
    """What it does."""
    needs: tuple[str, ...] = ()
    """Keys of the runs whose results or models it uses."""
    effort: Effort = field(default_factory=Effort)
    """What it costs."""


@dataclass(frozen=True)
class Experiment:
    """A paper's experiment: what is run, and how results become tables."""

    name: str
    """As a user types it."""
    paper: str
    """The publication."""
    asks: str
    """The question that it answers, in a sentence."""
    networks: tuple[str, ...]
    """Networks that take part by default."""
    plan: Callable[[Setting], Sequence[Run]]
    """All runs, in the order in which they are best done."""
    reduce: Callable[[Setting, Finished], Findings]
    """Tables of what is finished so far; copes with runs that are not there."""
    check: Callable[[Setting], None] | None = None
    """Raises `DataError` for data or settings that cannot give the experiment, before anything is trained."""
    domains: tuple[str, ...] = ("iburi", "jiuzhaigou")
    """Simulated domains that are trained on by default."""
    tests: tuple[str, ...] = ("iburi", "jiuzhaigou", "palu", "luding")
    """Simulated domains that are tested on by default."""
    budget: str = "4h"
    """Default time for everything on the machine at hand."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Default seeds."""
    patches: int = 0
    """Default number of training patches of a mix; 0: all that there are."""
    batch: int = 8
    """Default patches a step."""
    patch_px: int = 88
    """Default side of a patch."""


@dataclass(frozen=True)
class Desk:
    """Where a run works: its data and folders, and what the runs that it needs have left."""

    source: Source
    """What is trained and tested on."""
    device: str
    """`cpu` or `cuda`."""
    scratch: Path
    """For checkpoints; removed when the run is finished."""
    kept: Path
    """For what other runs need; stays."""
    needed: bool
    """Whether another run of the plan needs this one."""
    needs: Mapping[str, Path]
    """Key -> folder of what each needed run has kept."""
    results: Finished
    """What the needed runs found."""
    key: str
    """Of the run."""
    told: Told
    """Hears how far the run is."""

    def result(self, key: str) -> Mapping[str, Any]:
        """What a needed run found; raises `DataError` for one that the run did not say it needs."""
        if key not in self.results:
            raise DataError(f"{self.key} did not say that it needs {key}")
        return self.results[key]

    def model(self, key: str) -> LandslideModel:
        """The model that a needed run has kept; raises `DataError` when it kept none."""
        if key not in self.needs:
            raise DataError(f"{self.key} did not say that it needs {key}")
        path = self.needs[key] / f"{MODEL}.safetensors"
        if not path.is_file():
            raise DataError(f"{key} has kept no model for {self.key}: delete its file in {path.parents[2] / 'runs'}")
        return load_model(path)

    def keep(self, model: LandslideModel) -> Path:
        """Keep this run's model for the runs that need it; returns the path of its weights."""
        return save_model(replace(model, name=MODEL), self.kept)

    def tell(self, done: int, total: int, note: str = "") -> None:
        """Say how far the run is."""
        self.told(Status(self.key, done, total, note, job=True))


def execute(experiment: Experiment, setting: Setting, ledger: Ledger, told: Told) -> None:
    """Do the runs that the ledger does not have yet.

    The caller holds the ledger (`Ledger.held`) and has prepared the source. Raises `DataError` when the ledger belongs
    to other settings or data, or holds a run of the same key that did something else.
    """
    runs, waiting = to_do(experiment, setting, ledger)
    needed = _needed(runs)
    tasks = [
        Task(run.key, partial(_finish, run, run.key in needed, setting.source, setting.device, ledger), run.needs)
        for run in waiting
    ]
    run_all(tasks, told, stage="runs", total=len(runs), processes=setting.processes, threads=setting.threads)


def to_do(experiment: Experiment, setting: Setting, ledger: Ledger) -> tuple[Sequence[Run], Sequence[Run]]:
    """The runs of the plan, and those of them that are still to be done; none is begun here.

    States in the ledger what its runs belong to; raises `DataError` as `execute` does.
    """
    runs = checked(experiment.plan(setting))
    if experiment.check is not None:
        experiment.check(setting)
    agree(experiment, setting, ledger)
    there = ledger.finished()
    for run in runs:
        _same_work(run, there.get(run.key), ledger)
    needed = _needed(runs)
    return runs, [run for run in runs if not _is_done(run, ledger, needed)]


def agree(experiment: Experiment, setting: Setting, ledger: Ledger) -> None:
    """State in the ledger what its runs belong to; raises `DataError` when they belong to something else.

    Seeds, networks, domains and mixes may be added: their runs have keys of their own.
    """
    free = {"seeds", "networks", "domains", "tests", "mixes"}
    fixed = {name: value for name, value in setting.to_json().items() if name not in free}
    ledger.set_plan({"experiment": experiment.name, **fixed, "data": setting.source.about()})


def finished(experiment: Experiment, setting: Setting, ledger: Ledger) -> Finished:
    """What the runs of the plan found, as far as they are done and did not fail."""
    there = ledger.finished()
    found = {run.key: there.get(run.key) for run in experiment.plan(setting)}
    return {key: each for key, each in found.items() if each is not None and "failed" not in each}


def failed(experiment: Experiment, setting: Setting, ledger: Ledger) -> Mapping[str, str]:
    """Key -> reason of the runs of the plan that failed."""
    there = ledger.finished()
    found = {run.key: there.get(run.key) for run in experiment.plan(setting)}
    return {key: str(each["failed"]) for key, each in found.items() if each is not None and "failed" in each}


def checked(runs: Sequence[Run]) -> Sequence[Run]:
    """The runs of a plan; raises `DataError` for a key that is there twice and a need that is no run."""
    keys = [run.key for run in runs]
    if not runs:
        raise DataError("with these settings there is nothing to run: give more domains, networks or seeds")
    if len(set(keys)) < len(keys):
        raise DataError(f"two runs have the key {next(key for key in keys if keys.count(key) > 1)!r}")
    for run in runs:
        if unknown := [need for need in run.needs if need not in keys]:
            raise DataError(f"{run.key} needs {unknown[0]}, which is no run of the plan")
    return runs


def _finish(run: Run, needed: bool, source: Source, device: str, ledger: Ledger, told: Told) -> None:
    scratch, kept = ledger.workspace(run.key), _kept(ledger, run.key)
    needs = {key: _kept(ledger, key) for key in run.needs}
    before = {key: ledger.read(key) for key in run.needs}
    started, spent = time.perf_counter(), time.process_time()
    try:
        if broken := [key for key, each in before.items() if "failed" in each]:
            raise DataError(f"it needs {broken[0]}, which failed: {before[broken[0]]['failed']}")
        desk = Desk(source, device, scratch, kept, needed, needs, before, run.key, told)
        result = dict(run.work(desk))
    except ModelingError as error:
        result = {"failed": str(error)}
        told(Status(run.key, 1, 1, job=True))
    cost = {"wall_seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - spent}
    ledger.record(run.key, {**result, **cost, "kept": kept.is_dir(), _ABOUT: described(run.work)})
    shutil.rmtree(scratch, ignore_errors=True)  # the checkpoint of a large network takes a gigabyte


def _needed(runs: Sequence[Run]) -> set[str]:
    """Keys of the runs that others of the plan need."""
    return {need for run in runs for need in run.needs}


def _is_done(run: Run, ledger: Ledger, needed: set[str]) -> bool:
    """Whether a run is in the ledger, and what others may need of it is still there."""
    if run.key not in ledger:
        return False
    lost = run.key in needed and ledger.read(run.key).get("kept") and not _kept(ledger, run.key).is_dir()
    return not lost


def _same_work(run: Run, recorded: Mapping[str, Any] | None, ledger: Ledger) -> None:
    if recorded is None or (before := recorded.get(_ABOUT)) == (now := described(run.work)):
        return
    other = sorted(name for name in {*before, *now} if before.get(name) != now.get(name)) if before else ["all"]
    raise DataError(
        f"{ledger.folder} holds a run {run.key} that did something else (it differs in {', '.join(other)}): name another "
        "folder with --work, or delete that run's file to have it done again"
    )


def described(work: Work) -> dict[str, Any]:
    """What a run does, as plain values: enough to tell it from another."""
    if not is_dataclass(work) or isinstance(work, type):
        raise DataError(f"{work!r} is not a dataclass, so it cannot be recorded")
    plain: dict[str, Any] = json.loads(json.dumps({"kind": type(work).__name__, **asdict(work)}))
    return plain


def _kept(ledger: Ledger, key: str) -> Path:
    return ledger.folder / _KEPT / file_stem(key)
