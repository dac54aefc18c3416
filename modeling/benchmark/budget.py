"""From hours to steps: what a step of each network takes here, and how many runs at once are the fastest."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import torch

from modeling import networks
from modeling.benchmark.data import Source, without_terrain
from modeling.benchmark.plan import Entry, Plan, steps_for
from modeling.benchmark.speed import training_seconds
from modeling.data.batches import Blocks
from modeling.scoring.complexity import complexity
from modeling.training.denormals import flushed_denormals

Told = Callable[[int, int, str], None]


def planned(plan: Plan, source: Source, seconds: float, *, equal: str, told: Told | None = None) -> Plan:
    """`plan` with the steps that fit into `seconds`, measured on this machine; its processes and threads are kept."""
    band_set = source.band_set()
    a_patch = plan.patch_px**2
    validation = sum(
        _pixels(source.blocks("validation", band_set, domains)) / a_patch for domains in plan.training_sets.values()
    )
    test = _pixels(source.blocks("test", band_set, plan.domains)) / a_patch
    taken = step_seconds(plan, source, told=told)
    steps = steps_for(plan, seconds, taken, validation=validation, test=test, equal=equal)
    return replace(plan, steps=steps)


def faster_layout(plan: Plan, source: Source, cores: int | None = None) -> tuple[int, int]:
    """(processes, threads) with which a network of middling size trains fastest: one process, or one on each core."""
    cores = cores or os.cpu_count() or 1
    if cores == 1 or plan.device != "cpu":
        return 1, cores
    by_cost = sorted(plan.entries, key=lambda entry: _cost(entry, plan, source))
    middling = by_cost[len(by_cost) // 2]
    [together] = _times([middling], replace(plan, processes=1, threads=cores), source)
    apart = max(_times([middling] * cores, replace(plan, processes=cores, threads=1), source))
    return (cores, 1) if cores / apart > 1 / together else (1, cores)


def step_seconds(plan: Plan, source: Source, told: Told | None = None) -> Mapping[str, float]:
    """Seconds of an optimiser step of each entry while as many run as the plan lets run at once."""
    return dict(zip(plan.entries, _times(plan.entries, plan, source, told), strict=True))


def _times(entries: Sequence[str], plan: Plan, source: Source, told: Told | None = None) -> list[float]:
    channels = [_channels(entry, source) for entry in entries]
    with ProcessPoolExecutor(
        plan.processes, mp_context=get_context("spawn"), initializer=torch.set_num_threads, initargs=(plan.threads,)
    ) as pool:
        taken = []
        for done, seconds in enumerate(pool.map(_time, entries, channels, [plan] * len(entries)), start=1):
            taken.append(seconds)
            if told is not None:
                told(done, len(entries), f"{entries[done - 1]} {seconds:.2f} s a step")
    return taken


@flushed_denormals()
def _time(entry_name: str, channels: int, plan: Plan) -> float:
    entry = Entry.parse(entry_name)
    network = networks.create(entry.network, in_channels=channels, classes=2)
    return training_seconds(
        network,
        channels,
        batch=plan.batch,
        patch_px=plan.patch_px,
        input_scale=entry.input_scale,
        device=plan.device,
        bfloat16=plan.precision == "bfloat16",
    )


def _cost(entry_name: str, plan: Plan, source: Source) -> int:
    entry, channels = Entry.parse(entry_name), _channels(entry_name, source)
    with torch.device("meta"):
        network = networks.create(entry.network, in_channels=channels, classes=2)
    side = plan.patch_px * entry.input_scale
    return complexity(network, (channels, side, side)).macs


def _channels(entry_name: str, source: Source) -> int:
    band_set = source.band_set()
    return len((without_terrain(band_set) if Entry.parse(entry_name).optical else band_set).channels)


def _pixels(blocks: Blocks) -> int:
    return sum(block.truth.size for block in blocks)
