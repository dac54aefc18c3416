"""What the commands that carry out many runs share: lists of numbers, the device, and how runs are followed."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from modeling.benchmark.pool import Status

Number = TypeVar("Number", int, float)
_QUIET_S = 20.0
"""Without a terminal, a line of progress at most so often."""


def numbers(text: str, kind: Callable[[str], Number], option: str) -> list[Number]:
    """The numbers of a comma-separated list; raises `FlowError` naming the option when something is none."""
    from flows.errors import FlowError

    try:
        return [kind(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise FlowError(f"{option} {text!r} must be numbers with commas between them") from None


def device_here(name: str) -> str:
    """`cpu` or `cuda` for `auto`, `cpu` or `cuda`; raises `FlowError` for what this machine does not have."""
    from flows.errors import FlowError
    from modeling.benchmark.speed import gpu_here

    if name not in {"auto", "cpu", "cuda"} or (name == "cuda" and not gpu_here()):
        raise FlowError(f"device {name!r} cannot be used here: auto and cpu can{', and cuda' if gpu_here() else ''}")
    return "cuda" if name != "cpu" and gpu_here() else "cpu"


def follower() -> Callable[[Status], None]:
    """Shows stages as bars; what single runs tell becomes the remark of the stage that is under way."""
    from flows.progress import report

    runs: dict[str, str] = {}
    stage = ("", 0, 0)
    last = 0.0

    def follow(status: Status) -> None:
        nonlocal stage, last
        if not status.job:
            stage = (status.what, status.done, status.total)
            report(*stage, status.note)
            return
        validated = f" ({status.note})" if status.note else runs.get(status.what, "").partition(" (")[2]
        runs[status.what] = f"{status.what} {status.done}/{status.total}{_in_brackets(validated)}"
        if status.done == status.total:
            del runs[status.what]
        now = time.monotonic()
        if sys.stdout.isatty() or now - last >= _QUIET_S:
            last = now
            report(*stage, "; ".join(runs.values()))

    return follow


def _in_brackets(text: str) -> str:
    inside = text.strip(" ()")
    return f" ({inside})" if inside else ""
