"""How far a rehearsal is: written beside the stand-ins' state, so that it can be interrupted and gone on with."""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flows.errors import FlowError

FILE = "rehearsal.json"
LOG = "rehearsal.jsonl"


@dataclass
class Progressed:
    """What is known of a rehearsal under way."""

    options: dict[str, Any]
    """What it was begun with."""
    now: dt.datetime
    """The story's time."""
    played: int = 0
    """Happenings that are over."""
    killed: int = 0
    """Kills that are over."""
    spent_s: float = 0.0
    """Seconds of real time."""
    counts: Counter[str] = field(default_factory=Counter)
    """How often what was done."""
    worked_s: dict[str, float] = field(default_factory=dict)
    """Seconds that the workers were at it, by what they did: poll, due, step."""
    half_visible: list[str] = field(default_factory=list)
    """Versions that were seen incomplete while it ran."""
    memory: dict[str, dict[str, float]] = field(default_factory=dict)
    """Highest memory in MB by day of the story (from 0) and role."""

    def remember(self, day: int, role: str, peak_mb: float) -> None:
        """Note what a worker held at most."""
        held = self.memory.setdefault(str(day), {})
        held[role] = max(held.get(role, 0.0), peak_mb)

    def save(self, home: Path) -> None:
        """Write it, complete or not at all."""
        body = {**vars(self), "now": self.now.isoformat()}
        temporary = home / f".{FILE}.part"
        temporary.write_text(json.dumps(body, indent=1), encoding="utf-8")
        temporary.replace(home / FILE)


def load(home: Path) -> Progressed | None:
    """The rehearsal that was begun in a folder, None for none. Raises `FlowError` when it cannot be read."""
    file = home / FILE
    if not file.is_file():
        return None
    try:
        body = json.loads(file.read_text(encoding="utf-8"))
        return Progressed(**{**body, "now": dt.datetime.fromisoformat(body["now"]), "counts": Counter(body["counts"])})
    except (ValueError, KeyError, TypeError) as error:
        raise FlowError(f"{file} is damaged ({error}): remove {home} and begin anew") from error


def note(home: Path, now: dt.datetime, what: str, **more: Any) -> None:
    """Add a line to the rehearsal's log."""
    with (home / LOG).open("a", encoding="utf-8") as log:
        log.write(json.dumps({"at": now.isoformat(timespec="seconds"), "what": what, **more}, default=str) + "\n")


def peak_mb(memory: dict[str, dict[str, float]], first: int, last: int) -> float:
    """The highest memory of any worker in the days from `first` to before `last`; 0 when none was sampled."""
    return max((mb for day, held in memory.items() if first <= int(day) < last for mb in held.values()), default=0.0)
