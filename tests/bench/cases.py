"""What is compared with what, and how a comparison is timed.

A stage is a module with a function `groups(setting)` that yields `Group`s; its docstring says how it measures. All cases
of a group are run in turn, again and again, in one process and one run, so that a slow minute of the machine hits all of
them alike; the median of each counts. Figures of different runs are not compared anywhere.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

Role = Literal["limit", "ours", "peer", "fact"]
"""`limit`: what no implementation can beat by much; `ours`; `peer`: other software; `fact`: a figure without ratios."""


class BenchError(RuntimeError):
    """A case gave wrong pixels or could not be run: its time would mean nothing."""


@dataclass(frozen=True)
class Setting:
    """What the command line asked for."""

    quick: bool
    """Small sizes: whether everything runs, not how fast."""
    repetitions: int
    """How often each case of a group is run."""
    scratch: Path
    """An empty folder that is removed at the end."""
    say: Callable[[str], None]
    """Shows what is going on."""


@dataclass(frozen=True)
class Case:
    """One way to do the work of a group."""

    who: str
    """Its name in the table."""
    role: Role
    """What it is compared with."""
    run: Callable[[], float]
    """Does the work once, checks it, and returns the value."""


@dataclass(frozen=True)
class Group:
    """The same work done in several ways."""

    name: str
    """What the work is."""
    unit: str
    """Unit of the values."""
    cases: tuple[Case, ...]
    """At most one of them is the limit."""
    limit: float | None = None
    """A limit that was calculated and not measured."""
    less_is_better: bool = False
    """For seconds and bytes."""
    repetitions: int | None = None
    """Instead of the setting's."""
    warm: bool = False
    """Whether each case is run once before the clock counts."""


@dataclass(frozen=True)
class Row:
    """One line of `results.json`."""

    stage: str
    """The stage."""
    case: str
    """The group and whose figure it is."""
    value: float
    """Median of the repetitions."""
    unit: str
    """Its unit."""
    ratio_to_limit: float | None
    """More than 1 is better than the limit, whichever way the unit runs."""
    ratio_to_peers: float | None
    """Against the best of the peers, likewise."""


class Stage(Protocol):
    """A module of this package."""

    __doc__: str | None

    def groups(self, setting: Setting) -> Iterator[Group]:
        """The comparisons, one after another; what they need stays up while the caller measures."""


def elapsed(work: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def measure(group: Group, setting: Setting) -> dict[str, list[float]]:
    """Run the cases of a group in turn; who -> its values, one a repetition."""
    values: dict[str, list[float]] = {case.who: [] for case in group.cases}
    if len(values) != len(group.cases):
        raise BenchError(f"two cases of {group.name!r} have one name")
    if group.warm:
        for case in group.cases:
            case.run()
    repetitions = setting.repetitions if group.repetitions is None else min(group.repetitions, setting.repetitions)
    for turn in range(repetitions):
        for case in _rotated(group.cases, turn):
            value = case.run()
            values[case.who].append(value)
            setting.say(f"{group.name} · {case.who} · {turn + 1}/{repetitions}: {value:.4g} {group.unit}")
    return values


def rows(stage: str, group: Group, values: dict[str, list[float]]) -> list[Row]:
    """The lines of a measured group, in the order of its cases."""
    medians = {who: statistics.median(each) for who, each in values.items()}
    limits = [medians[case.who] for case in group.cases if case.role == "limit"]
    limit = limits[0] if limits else group.limit
    peers = [medians[case.who] for case in group.cases if case.role == "peer"]
    peer = (min(peers) if group.less_is_better else max(peers)) if peers else None

    def ratio(case: Case, other: float | None) -> float | None:
        if other is None or case.role == "fact":
            return None
        better, worse = (other, medians[case.who]) if group.less_is_better else (medians[case.who], other)
        return float(f"{better / worse:.4g}") if worse else None

    return [
        Row(
            stage,
            f"{group.name}: {case.who}",
            float(f"{medians[case.who]:.6g}"),
            group.unit,
            ratio(case, limit),
            ratio(case, peer),
        )
        for case in group.cases
    ]


def _rotated(cases: Sequence[Case], turn: int) -> list[Case]:
    """Nobody is always first after whatever warmed or filled the caches."""
    start = turn % len(cases)
    return [*cases[start:], *cases[:start]]
