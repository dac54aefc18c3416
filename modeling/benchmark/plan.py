"""What a benchmark compares, and how each network is trained in it: on equal terms, or as its paper says."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from modeling import networks
from modeling.errors import DataError
from modeling.recipes import Optimiser, Recipe, Schedule, recipe

TERMS = ("equal", "paper")
EQUAL = ("steps", "time")
TRAIN_ON = ("together", "each")
TOGETHER = "all"
"""Name of the training set of all domains."""
RATES = (3e-4, 1e-3, 3e-3)
"""Learning rates that validation chooses from when terms are equal."""
VALIDATIONS = 2
"""Validations a run, one of them at its end."""

_ENTRY = re.compile(r"(?P<network>[a-z0-9-]+)(?:@(?P<scale>[1-8]))?(?P<optical>:optical)?")


@dataclass(frozen=True)
class Entry:
    """A network as it takes part."""

    network: str
    """A name of `modeling.networks.names()`."""
    input_scale: int = 1
    """It sees its input enlarged so many times; see `modeling.forward`."""
    optical: bool = False
    """It gets no terrain channels."""

    @property
    def name(self) -> str:
        """As it is typed: `network`, `network@2`, `network:optical`."""
        scale = f"@{self.input_scale}" if self.input_scale > 1 else ""
        return f"{self.network}{scale}{':optical' if self.optical else ''}"

    @classmethod
    def parse(cls, text: str) -> Entry:
        """The inverse of `name`; raises `DataError` for anything else, naming what there is."""
        match = _ENTRY.fullmatch(text.strip())
        if match is None or match["network"] not in networks.names():
            raise DataError(
                f"{text!r} is not an entry: write NETWORK, NETWORK@2 (input enlarged twice) or NETWORK:optical (no "
                f"terrain), with one of {', '.join(networks.names())}"
            )
        return cls(match["network"], int(match["scale"] or 1), match["optical"] is not None)


def all_entries() -> tuple[str, ...]:
    """Every network once, MSF-LiteNet enlarged as well, and what the claims of the papers need besides."""
    return (*networks.names(), "msf-litenet@2", "resu-cbnet:optical")


@dataclass(frozen=True)
class Plan:
    """A benchmark: every entry with every seed on every training set."""

    entries: tuple[str, ...]
    """Names of `Entry`."""
    domains: tuple[str, ...]
    """Domains of the data set that take part."""
    train_on: str
    """`together`: one model of all domains; `each`: one model a domain, tested on all of them."""
    seeds: tuple[int, ...]
    """Of initial weights, batches and dropout."""
    steps: Mapping[str, int]
    """Optimiser steps of each entry."""
    terms: str = "equal"
    """`equal`: one recipe for all, the learning rate chosen on validation; `paper`: each by its paper's recipe, as far
    as loss, optimiser, schedule, scaling, augmentation and choice of the checkpoint go."""
    rates: tuple[float, ...] = RATES
    """Candidates of the learning rate on equal terms, tried with the first seed."""
    search_share: float = 0.25
    """A trial of a learning rate takes this share of the steps."""
    batch: int = 8
    """Patches a step."""
    patch_px: int = 88
    """Side of a patch."""
    augmentation: str = "physical"
    """A name of `modeling.data.augment.AUGMENTATIONS`, on equal terms."""
    precision: str = "float32"
    """Of training: `float32` or `bfloat16`."""
    processes: int = 1
    """Runs at the same time."""
    threads: int = 1
    """Threads of a run; a part of the plan, because sums depend on it in their last bits."""
    device: str = "cpu"
    """`cpu` or `cuda`."""

    def __post_init__(self) -> None:
        """Raise `DataError` for what cannot be compared."""
        for what, value, allowed in (("terms", self.terms, TERMS), ("train_on", self.train_on, TRAIN_ON)):
            if value not in allowed:
                raise DataError(f"{what} {value!r} is not one of {', '.join(allowed)}")
        for what, values in (("entry", self.entries), ("domain", self.domains), ("seed", self.seeds)):
            if len(set(values)) != len(values) or not values:
                raise DataError(f"a benchmark needs at least one {what} and none twice, not {list(values)}")
        for entry in self.entries:
            Entry.parse(entry)
            if self.steps.get(entry, 0) < 1:
                raise DataError(f"{entry} has {self.steps.get(entry, 0)} training steps: at least 1 is needed")
        if self.terms == "equal" and (not self.rates or min(self.rates) <= 0):
            raise DataError(f"learning rates {list(self.rates)} leave nothing to choose from")
        if not 0 < self.search_share <= 1:
            raise DataError(f"a trial takes a share of the steps in (0, 1], not {self.search_share}")

    @property
    def training_sets(self) -> dict[str, tuple[str, ...]]:
        """Name -> domains of each training set."""
        if self.train_on == "together":
            return {TOGETHER: self.domains}
        return {domain: (domain,) for domain in self.domains}

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Plan:
        """The inverse of `to_json`; raises `DataError` when it is none."""
        try:
            lists = {name: tuple(stored[name]) for name in ("entries", "domains", "seeds", "rates")}
            return cls(**{**stored, **lists})
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"this is not a stored plan: {error!r}") from error


@dataclass(frozen=True)
class Job:
    """One training run."""

    key: str
    """Its name in the ledger."""
    entry: str
    """Name of the `Entry`."""
    trained_on: str
    """Name of the training set."""
    seed: int
    """See `Plan.seeds`."""
    steps: int
    """Optimiser steps."""
    rate: float | None
    """Learning rate; None: the recipe's own."""
    trial: bool = False
    """It only chooses the learning rate: validated, never tested."""


def trials(plan: Plan) -> list[Job]:
    """The runs that choose learning rates; none when there is no choice."""
    if plan.terms == "paper" or len(plan.rates) < 2:
        return []
    return [
        Job(
            key=f"trial--{entry}--{trained_on}--{rate:g}",
            entry=entry,
            trained_on=trained_on,
            seed=plan.seeds[0],
            steps=max(1, math.ceil(plan.steps[entry] * plan.search_share)),
            rate=rate,
            trial=True,
        )
        for trained_on in plan.training_sets
        for entry in plan.entries
        for rate in plan.rates
    ]


def runs(plan: Plan, chosen: Mapping[tuple[str, str], float]) -> list[Job]:
    """The runs that are tested, seed by seed; `chosen` holds the learning rate of (entry, training set)."""
    return [
        Job(
            key=f"{entry}--{trained_on}--seed{seed}",
            entry=entry,
            trained_on=trained_on,
            seed=seed,
            steps=plan.steps[entry],
            rate=chosen.get((entry, trained_on)),
        )
        for seed in plan.seeds
        for trained_on in plan.training_sets
        for entry in plan.entries
    ]


def choose_rates(plan: Plan, validated: Mapping[str, float | None]) -> dict[tuple[str, str], float]:
    """The learning rate of each (entry, training set): that of the best validation score of its trials.

    `validated` holds the score under the key of each trial, None for one that failed. Of equal ones the lower rate.
    """
    if plan.terms == "paper":
        return {}
    if len(plan.rates) == 1:
        return {(entry, trained_on): plan.rates[0] for entry in plan.entries for trained_on in plan.training_sets}
    best: dict[tuple[str, str], tuple[float, float]] = {}
    for job in trials(plan):
        score, rate = validated.get(job.key), job.rate
        if score is None or rate is None:
            continue
        rival = best.get((job.entry, job.trained_on))
        if rival is None or (score, -rate) > (rival[0], -rival[1]):
            best[job.entry, job.trained_on] = score, rate
    return {key: rate for key, (_, rate) in best.items()}


def recipe_of(plan: Plan, job: Job) -> Recipe:
    """How a job trains."""
    entry = Entry.parse(job.entry)
    shared: dict[str, Any] = {
        "steps": job.steps,
        "epochs": None,
        "batch": plan.batch,
        "patch_px": plan.patch_px,
        "precision": plan.precision,
        "input_scale": entry.input_scale,
        "patience": None,
        "validate_every": math.ceil(job.steps / VALIDATIONS),
    }
    if plan.terms == "paper":
        own = recipe(entry.network)
        warm_up = job.steps // 50 if own.schedule.warm_up_epochs else own.schedule.warm_up
        schedule = replace(own.schedule, warm_up=warm_up, warm_up_epochs=0)
        return replace(own, schedule=schedule, about=f"{own.about}; {_about(job)}", **shared)
    if job.rate is None:
        raise DataError(f"{job.entry} on {job.trained_on} has no learning rate: none of its trials could be validated")
    return Recipe(
        name=f"equal terms, {job.entry}",
        network=entry.network,
        loss="focal+dice",
        optimiser=Optimiser("adam", job.rate),
        schedule=Schedule("polynomial", power=0.9, warm_up=max(1, job.steps // 20)),
        classes=2,
        normalisation="standardise",
        augmentation=plan.augmentation,
        select_by="f1",
        about=_about(job),
        **shared,
    )


def steps_for(
    plan: Plan, seconds: float, step_seconds: Mapping[str, float], *, validation: float, test: float, equal: str
) -> dict[str, int]:
    """Optimiser steps of each entry so that the whole plan takes about `seconds`.

    `step_seconds` holds the measured seconds of a step of each entry, `validation` and `test` how many patches of the
    plan's size these parts amount to (a pass forward is taken for a third of a step). `equal` says what entries get
    alike: the same `steps`, as papers compare, or the same `time`, as somebody with one machine would.
    """
    if equal not in EQUAL:
        raise DataError(f"entries can get equal {' or equal '.join(EQUAL)}, not equal {equal!r}")
    sets = len(plan.training_sets)
    tested, tried = sets * len(plan.seeds), len(trials(plan)) // len(plan.entries)
    passes = (VALIDATIONS + 1) * validation / sets
    fixed = (tested * (passes + test) + tried * passes) / (3 * plan.batch)
    full_runs = tested + tried * plan.search_share
    available = seconds * plan.processes
    if equal == "steps":
        total = sum(step_seconds.values())
        return {entry: max(1, int((available / total - fixed) / full_runs)) for entry in step_seconds}
    share = available / len(step_seconds)
    return {entry: max(1, int((share / each - fixed) / full_runs)) for entry, each in step_seconds.items()}


def parse_duration(text: str) -> float:
    """Seconds of `90s`, `30min` or `2.5h`; raises `DataError` for anything else."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|min|h)\s*", text)
    if match is None or float(match[1]) == 0:
        raise DataError(f"{text!r} is not a budget: write 90s, 30min or 2.5h")
    return float(match[1]) * {"s": 1, "min": 60, "h": 3600}[match[2]]


def _about(job: Job) -> str:
    return f"a benchmark's run of {job.steps} steps, seed {job.seed}, on {job.trained_on}"


def names_of(text: str | Sequence[str]) -> tuple[str, ...]:
    """The names in a comma-separated list, without spaces and empty ones."""
    parts = text.split(",") if isinstance(text, str) else text
    return tuple(part.strip() for part in parts if part.strip())
