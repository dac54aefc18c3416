"""What a run leaves behind: `results.json` for programs, `runs.json` with every single value, `RESULTS.md` for people."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .cases import Row

RESULTS, RUNS, TABLE = "results.json", "runs.json", "RESULTS.md"


@dataclass(frozen=True)
class Run:
    """One stage as it was run."""

    stage: str
    """The stage."""
    date: str
    """When it ended, UTC, ISO 8601."""
    seconds: float
    """How long it took."""
    quick: bool
    """Whether the sizes were those of a trial."""
    machine: str
    """Where it ran."""
    versions: Mapping[str, str]
    """What was measured: distribution -> version."""
    method: str
    """How it was measured, in words."""
    values: Mapping[str, Sequence[float]]
    """Case -> the value of each repetition."""


def save(folder: Path, run: Run, rows: Sequence[Row], order: Sequence[str]) -> None:
    """Put a stage's figures into the files of `folder`; those of the other stages stay, stages unknown to `order` go."""
    folder.mkdir(parents=True, exist_ok=True)
    old_rows, old_runs = read(folder)
    all_rows = [row for row in old_rows if row.stage != run.stage] + list(rows)
    runs = {**{old.stage: old for old in old_runs}, run.stage: run}
    kept = [runs[stage] for stage in order if stage in runs]
    kept_rows = [row for stage in order for row in all_rows if row.stage == stage]
    _write_json(folder / RESULTS, [asdict(row) for row in kept_rows])
    _write_json(folder / RUNS, [asdict(one) for one in kept])
    (folder / TABLE).write_text(markdown(kept_rows, kept), encoding="utf-8")


def read(folder: Path) -> tuple[list[Row], list[Run]]:
    """The inverse of `save`; nothing where there are no files yet."""
    if not (folder / RESULTS).exists() or not (folder / RUNS).exists():
        return [], []
    rows = [Row(**row) for row in json.loads((folder / RESULTS).read_text(encoding="utf-8"))]
    runs = [Run(**run) for run in json.loads((folder / RUNS).read_text(encoding="utf-8"))]
    return rows, runs


def markdown(rows: Sequence[Row], runs: Sequence[Run]) -> str:
    """The tables for people: for each stage when, where, how and what."""
    parts = [
        "# What was measured",
        "Written by `make bench`; do not edit. Ratios compare figures of one run only, in which the cases took turns; "
        "more than 1 is better than the limit, or than the best of the peers. The spread is (largest - smallest) / median.",
    ]
    for run in runs:
        parts += [f"## {run.stage}", _when(run), run.method.strip(), _table(run, rows)]
    return "\n\n".join(parts) + "\n"


def _when(run: Run) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in run.versions.items())
    trial = " **A trial with small sizes: not to be cited.**" if run.quick else ""
    return f"{run.date[:10]}, {run.seconds:.0f} s, {run.machine}; {versions}.{trial}"


def _table(run: Run, rows: Sequence[Row]) -> str:
    lines = ["| case | value | to the limit | to the best peer | spread |", "|---|---|---|---|---|"]
    for row in rows:
        if row.stage == run.stage:
            cells = (
                row.case,
                f"{_figures(row.value)} {row.unit}",
                _ratio(row.ratio_to_limit),
                _ratio(row.ratio_to_peers),
            )
            lines.append("| " + " | ".join((*cells, _spread(run.values[row.case]))) + " |")
    return "\n".join(lines)


def _figures(value: float) -> str:
    """Three figures that count, never as a power of ten."""
    whole = len(str(int(abs(value)))) if abs(value) >= 1 else 0
    return f"{value:,.{max(0, 3 - whole)}f}"


def _ratio(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}"


def _spread(values: Sequence[float]) -> str:
    middle = statistics.median(values)
    return f"{(max(values) - min(values)) / middle:.0%}" if len(values) > 1 and middle else ""


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
