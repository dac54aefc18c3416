"""Numbers and tables as the reports write them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Estimated(Protocol):
    """A value and its interval."""

    @property
    def value(self) -> float:
        """Best estimate."""
        ...

    @property
    def low(self) -> float:
        """Lower end."""
        ...

    @property
    def high(self) -> float:
        """Upper end."""
        ...


def percent(value: float) -> str:
    """A share in per cent, without the sign."""
    return f"{100 * value:.1f}"


def with_interval(estimate: Estimated) -> str:
    """A share with its interval, in per cent."""
    return f"{percent(estimate.value)} [{percent(estimate.low)}, {percent(estimate.high)}]"


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; the first column is text, the others are numbers. Says so when there is no row."""
    if not rows:
        return "None."
    lines = ["| " + " | ".join(head) + " |", "|---" + "|--:" * (len(head) - 1) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])
