"""What a bad day came to: how long each of many earthquakes waited for its map, and whether the most urgent waited least."""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from scipy.stats import spearmanr

from flows.rehearsal.rehearse import Rehearsed
from flows.rehearsal.report import LISTS, code, machine
from flows.rehearsal.state import LOG

QUAKES = 50


def read_notes(home: Path) -> list[dict[str, Any]]:
    """The lines of a rehearsal's log."""
    return [json.loads(line) for line in (home / LOG).read_text(encoding="utf-8").splitlines()]


def waits_s(notes: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Seconds until the first version of each campaign, from when work on the first of them began.

    The clock runs as always while there is work. Until then nothing waits: the catalogue is looked at now and then.
    """
    made = [note for note in notes if note["what"] == "step" and str(note["said"]).startswith("version")]
    ends = [dt.datetime.fromisoformat(note["at"]) for note in made]
    begun = min(
        (end - dt.timedelta(seconds=note["took_s"]) for end, note in zip(ends, made, strict=True)), default=None
    )
    found: dict[str, float] = {}
    for end, note in zip(ends, made, strict=True):
        if begun is not None:
            found.setdefault(str(note["campaign"]), (end - begun).total_seconds())
    return found


def bad_day_figures(done: Rehearsed, notes: Sequence[Mapping[str, Any]], command: str) -> dict[str, Any]:
    """The figures of a bad day, as a part of the report."""
    waits = waits_s(notes)
    urgent = sorted((name for name in waits if name in done.urgency), key=lambda name: -done.urgency[name])
    pairs = [(done.urgency[name], waits[name]) for name in urgent]
    together = spearmanr(pairs).statistic if len(pairs) > 2 else math.nan
    third = max(1, len(urgent) // 3)
    failed = sum(
        count for name, count in done.state.counts.items() if ": " in name and name.split(": ")[1].endswith("Error")
    )
    figures = {
        "earthquakes": done.options.quakes, "mapped": done.verdict.mapped, "sound": done.verdict.sound,
        "failed_steps": failed, "first_version_s": _spread(list(waits.values())),
        "first_version_s_most_urgent_third": _spread([waits[name] for name in urgent[:third]]),
        "first_version_s_least_urgent_third": _spread([waits[name] for name in urgent[-third:]]),
        "rank_correlation_urgency_wait": None if math.isnan(together) else round(float(together), 3),
        "defects": {name: getattr(done.verdict, name) for name in LISTS if getattr(done.verdict, name)},
        "steppers": done.options.steppers, "real_seconds": round(done.state.spent_s, 1), "seed": done.options.seed,
        "counts": dict(sorted(done.state.counts.items())), "machine": machine(), "code": code(), "command": command,
    }  # fmt: skip
    return {"bad_day": figures}


def _spread(seconds: Sequence[float]) -> list[float]:
    """Least, median and greatest."""
    return [round(value, 1) for value in (min(seconds), median(seconds), max(seconds))] if seconds else []
