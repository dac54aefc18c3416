"""What the user of an experiment chose: data, networks, seeds, length, device."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from modeling.benchmark.data import Source
from modeling.benchmark.plan import VALIDATIONS, Entry
from modeling.errors import DataError
from modeling.experiments.mixes import Mix
from modeling.recipes import Recipe, recipe


@dataclass(frozen=True)
class Setting:
    """The circumstances of all runs of an experiment."""

    source: Source
    """What is trained and tested on."""
    networks: tuple[str, ...]
    """Names of `modeling.networks.names()`, or `NETWORK@2` for one that sees its input enlarged."""
    seeds: tuple[int, ...]
    """Of initial weights, batches and dropout."""
    steps: int
    """Optimiser steps of one full training run, for all networks alike."""
    domains: tuple[str, ...]
    """Domains that may be trained on, the experiment's first one first."""
    tests: tuple[str, ...]
    """Domains that are tested on."""
    patches: int = 0
    """Training patches of a mix; 0: all that there are."""
    mixes: tuple[Mix, ...] = ()
    """Training mixes in place of the experiment's own."""
    batch: int = 8
    """Patches a step."""
    patch_px: int = 88
    """Side of a patch."""
    precision: str = "float32"
    """Of training: `float32` or `bfloat16`."""
    rate: float | None = None
    """Learning rate in place of the recipe's."""
    device: str = "cpu"
    """`cpu` or `cuda`."""
    processes: int = 1
    """Runs at the same time."""
    threads: int = 1
    """Threads of a run."""

    def __post_init__(self) -> None:
        """Raise `DataError` for what cannot be run."""
        for what, values in (
            ("network", self.networks), ("seed", self.seeds), ("training domain", self.domains), ("test domain", self.tests),
        ):  # fmt: skip
            if not values or len(set(values)) < len(values):
                raise DataError(f"an experiment needs at least one {what} and none twice, not {list(values)}")
        for name in self.networks:
            Entry.parse(name)
        if self.steps < 1:
            raise DataError(f"{self.steps} training steps: at least 1 is needed")

    def recipe(self, network: str, steps: int | None = None) -> Recipe:
        """The network's own recipe, cut to this setting's steps (or `steps`), batch and patches; nothing else changes."""
        entry, length = Entry.parse(network), steps or self.steps
        own = recipe(entry.network)
        warm_up = length // 50 if own.schedule.warm_up_epochs else own.schedule.warm_up
        rate = own.optimiser.learning_rate if self.rate is None else self.rate
        return replace(
            own,
            optimiser=replace(own.optimiser, learning_rate=rate),
            schedule=replace(own.schedule, warm_up=warm_up, warm_up_epochs=0),
            about=f"{own.about}; {length} steps of an experiment",
            steps=length,
            epochs=None,
            batch=self.batch,
            patch_px=self.patch_px,
            precision=self.precision,
            input_scale=entry.input_scale,
            patience=None,
            validate_every=math.ceil(length / VALIDATIONS),
        )

    def to_json(self) -> dict[str, Any]:
        """What decides the results, as plain values."""
        names = ("networks", "seeds", "steps", "domains", "tests", "patches", "batch", "patch_px", "precision", "rate")
        plain = {name: _plain(getattr(self, name)) for name in names}
        return {**plain, "mixes": [mix.name for mix in self.mixes], "device": self.device}


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, tuple) else value
