"""Run a benchmark: every job once, in one process or several, each finished one kept.

A benchmark may be killed at any time and started again: finished runs are not repeated, and the one that was under way
goes on from its checkpoint. A run that cannot be done (its loss is no longer a number) is kept as failed, and the others
go on.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from modeling import networks
from modeling.benchmark.data import Source, without_terrain
from modeling.benchmark.ledger import Ledger
from modeling.benchmark.plan import Entry, Job, Plan, choose_rates, recipe_of, runs, trials
from modeling.benchmark.pool import Status, Task, Told, run_all
from modeling.benchmark.speed import inference_speed, this_device
from modeling.data.normalise import Normalisation
from modeling.errors import DataError, ModelingError
from modeling.forward import logits_of
from modeling.scoring.complexity import complexity
from modeling.scoring.evaluate import evaluate
from modeling.training.progress import Tick
from modeling.training.train import fit
from modeling.training.validation import require_usable

CLASSES = 2


def run_benchmark(plan: Plan, source: Source, ledger: Ledger, told: Told) -> None:
    """Do what the ledger does not have yet: learning rates, runs, speeds.

    The caller holds the ledger (`Ledger.held`) and has prepared the source. Raises `DataError` when the ledger belongs
    to another plan or other data or the data cannot be used, `ModelingError` when a process was killed from outside.
    """
    check(plan, source)
    agree(plan, source, ledger)
    _do(trials(plan), plan, source, ledger, told, "learning rates")
    chosen = choose_rates(plan, {key: run.get("validation_f1") for key, run in ledger.finished().items()})
    possible = [job for job in runs(plan, chosen) if plan.terms == "paper" or job.rate is not None]
    _do(possible, plan, source, ledger, told, "runs")
    for done, entry in enumerate(plan.entries):
        told(Status("speed", done, len(plan.entries), entry))
        if speed_key(entry) not in ledger:
            ledger.record(speed_key(entry), measure_speed(entry, plan, source))
    told(Status("speed", len(plan.entries), len(plan.entries)))


def agree(plan: Plan, source: Source, ledger: Ledger) -> None:
    """State the plan in the ledger; raises `DataError` when its runs belong to another one.

    How many runs go on at once decides nothing, and may change.
    """
    stated = ledger.plan()
    same = plan if stated is None else replace(plan, processes=int(stated.get("processes", plan.processes)))
    ledger.set_plan({**same.to_json(), "data": source.about()})


def check(plan: Plan, source: Source) -> None:
    """Raise `DataError` for data that no network could be trained or tested on, before any training."""
    band_set = source.band_set()
    if any(Entry.parse(entry).optical for entry in plan.entries):
        without_terrain(band_set)
    for domains in plan.training_sets.values():
        require_usable(source.blocks("validation", band_set, domains), band_set.channels)
        source.sampler(band_set, domains, batch=1, patch_px=plan.patch_px, seed=0, augmentation=plan.augmentation).draw(
            0
        )
    if len(source.blocks("test", band_set, plan.domains)) == 0:
        raise DataError("the test part is empty: there is nothing to score the networks on")


def speed_key(entry: str) -> str:
    """Where the ledger keeps how fast an entry is."""
    return f"speed--{entry}"


def train_and_test(job: Job, plan: Plan, source: Source, folder: Path, told: Told) -> dict[str, Any]:
    """One run: train on the job's domains, choose on their validation part, test on all domains of the plan."""
    entry, domains = Entry.parse(job.entry), plan.training_sets[job.trained_on]
    band_set = without_terrain(source.band_set()) if entry.optical else source.band_set()
    recipe = recipe_of(plan, job)
    sampler = source.sampler(
        band_set,
        domains,
        batch=plan.batch,
        patch_px=plan.patch_px,
        seed=job.seed,
        augmentation=recipe.augmentation,
    )

    def tell(tick: Tick) -> None:
        f1 = "" if tick.row is None else f"validation F1 {tick.row.validation_f1:.3f}"
        told(Status(job.key, tick.step, tick.steps, f1, job=True))

    started, spent = time.perf_counter(), time.process_time()
    trained = fit(
        recipe,
        sampler,
        source.blocks("validation", band_set, domains),
        source.normalisation(band_set, domains, recipe.normalisation),
        band_set,
        folder,
        seed=job.seed,
        device=plan.device,
        name=job.key.replace(":", "_"),
        tell=tell,
    )
    result: dict[str, Any] = {
        "entry": job.entry,
        "trained_on": job.trained_on,
        "seed": job.seed,
        "steps": job.steps,
        "rate": recipe.optimiser.learning_rate,
        "recipe": recipe.to_json(),
        "channels": list(band_set.channels),
        "best_step": trained.progress.best_step,
        "validation_f1": trained.model.card["validation_f1"],
        "train_seconds": trained.progress.seconds,
        "wall_seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - spent,
        "curve": [vars(row) for row in trained.progress.curve],
    }
    if job.trial:
        return result
    model = trained.model.to(plan.device)
    tested = evaluate(model, source.blocks("test", band_set, plan.domains), device=plan.device)
    return {**result, "evaluation": tested.to_json()}


def measure_speed(entry_name: str, plan: Plan, source: Source) -> dict[str, Any]:
    """What an entry costs: parameters, multiply-accumulates of a patch, patches and ground a second on this device.

    All threads of the machine are used, so nothing else should run. The forward pass is that of evaluation, with
    scaling and enlargement; weights do not matter to it.
    """
    entry = Entry.parse(entry_name)
    band_set = without_terrain(source.band_set()) if entry.optical else source.band_set()
    channels = len(band_set.channels)
    network = networks.create(entry.network, in_channels=channels, classes=CLASSES).eval().to(plan.device)
    side = plan.patch_px * entry.input_scale
    cost = complexity(network, (channels, side, side))
    ones, zeros = (1.0,) * channels, (0.0,) * channels
    plain = Normalisation("standardise", zeros, ones, zeros, (-6.0, 6.0))

    def forward(x: torch.Tensor) -> torch.Tensor:
        return logits_of(network, plain, x, entry.input_scale)

    before = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count() or 1)
    try:
        speed = inference_speed(forward, channels, device=plan.device, patch_px=plan.patch_px)
        return {
            "entry": entry_name,
            "channels": list(band_set.channels),
            "parameters": cost.parameters,
            "macs": cost.macs,
            "conv_macs": cost.conv_macs,
            "speed": speed.to_json(),
            "device": this_device(plan.device).to_json(),
        }
    finally:
        torch.set_num_threads(before)


def _do(jobs: Sequence[Job], plan: Plan, source: Source, ledger: Ledger, told: Told, stage: str) -> None:
    tasks = [Task(job.key, partial(_finish, job, plan, source, ledger)) for job in jobs if job.key not in ledger]
    run_all(tasks, told, stage=stage, total=len(jobs), processes=plan.processes, threads=plan.threads)


def _finish(job: Job, plan: Plan, source: Source, ledger: Ledger, told: Told) -> None:
    folder = ledger.workspace(job.key)
    try:
        result = train_and_test(job, plan, source, folder, told)
    except ModelingError as error:
        result = {"entry": job.entry, "trained_on": job.trained_on, "seed": job.seed, "failed": str(error)}
    ledger.record(job.key, result)
    shutil.rmtree(folder, ignore_errors=True)  # the checkpoint of a large network takes a gigabyte
