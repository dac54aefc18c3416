"""What an experiment found, as data: tables, the paper's statements with their verdicts, charts. `report` writes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from modeling.benchmark.compare import HOLDS, REVERSED, UNDECIDED, Estimate
from modeling.errors import DataError

NOT_TESTED = "not tested"
VERDICTS = (HOLDS, REVERSED, UNDECIDED, NOT_TESTED)


@dataclass(frozen=True)
class Share:
    """A fraction without an interval, shown in per cent; for example a paper's printed score."""

    value: float
    """0 to 1."""


@dataclass(frozen=True)
class Amount:
    """A plain number, with its standard error where there is one."""

    value: float
    """As shown."""
    error: float | None = None
    """Standard error."""
    digits: int = 3
    """Behind the point."""


Cell = str | Estimate | Share | Amount | None
"""An `Estimate` is shown in per cent with its interval, None as a dash."""


@dataclass(frozen=True)
class Table:
    """One table of the report; where the paper prints the same, its figures stand in columns of their own."""

    title: str
    """What it shows."""
    head: tuple[str, ...]
    """Names of the columns."""
    rows: tuple[tuple[Cell, ...], ...]
    """The first cell names the row."""
    note: str = ""
    """What was measured on what, above the table."""

    def __post_init__(self) -> None:
        """Raise `DataError` for a row of another length than the head."""
        for row in self.rows:
            if len(row) != len(self.head):
                raise DataError(f"table {self.title!r}: a row of {len(row)} cells under {len(self.head)} columns")


@dataclass(frozen=True)
class Statement:
    """Something that the paper says, and what was measured of it."""

    paper_says: str
    """In one sentence, with the paper's figures."""
    measured: Estimate | None
    """The claimed difference, positive when the statement holds; None when it was not tested."""
    how: str
    """What was subtracted from what, and on which ground; or why it was not tested."""
    given: str = ""
    """A verdict that does not follow from the interval; empty: it does."""

    def __post_init__(self) -> None:
        """Raise `DataError` for a verdict that is none."""
        if self.given and self.given not in VERDICTS:
            raise DataError(f"{self.given!r} is no verdict: choose one of {', '.join(VERDICTS)}")

    @property
    def verdict(self) -> str:
        """One of `VERDICTS`."""
        if self.given:
            return self.given
        return NOT_TESTED if self.measured is None else self.measured.verdict


@dataclass(frozen=True)
class Chart:
    """Scores with intervals in groups side by side, the paper's beside them as open marks."""

    title: str
    """What it shows."""
    groups: tuple[str, ...]
    """Names along the axis."""
    series: Mapping[str, tuple[Estimate | None, ...]]
    """Name -> one score a group."""
    printed: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)
    """The same of the paper, by the names of `series`."""
    axis: str = "pixel F1"
    """What is scored."""

    def __post_init__(self) -> None:
        """Raise `DataError` when a series does not have one score a group."""
        for name, values in (*self.series.items(), *self.printed.items()):
            if len(values) != len(self.groups):
                raise DataError(f"chart {self.title!r}: {name} has {len(values)} scores for {len(self.groups)} groups")


@dataclass(frozen=True)
class Findings:
    """All that an experiment found so far."""

    tables: tuple[Table, ...]
    """In the order of the report."""
    statements: tuple[Statement, ...]
    """Of the paper."""
    charts: tuple[Chart, ...] = ()
    """Panels of the picture."""
    notes: tuple[str, ...] = ()
    """How this differs from the paper, and what to be careful with."""
    figures: Mapping[str, Any] = field(default_factory=dict)
    """Plain values that the JSON report has at its top level, under names of their own."""
    left_out: tuple[str, ...] = ()
    """Keys of what runs found that are too much for the JSON report; the folder of the runs keeps them."""
    ours: bool = False
    """The statements are what was asked of this project, and no paper's."""
    recipe: str = "each by its own recipe: loss, optimiser, schedule, scaling, augmentation, choice of the checkpoint"
    """How networks were trained, in half a sentence."""
    tested: str = "test ground was only scored"
    """What test ground was used for, likewise."""
