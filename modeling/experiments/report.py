"""An experiment's report: Markdown, JSON and a picture; every number comes from the runs or from the paper."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from modeling.benchmark.compare import Estimate
from modeling.benchmark.speed import Device
from modeling.errors import DataError
from modeling.experiments.engine import Experiment, Finished
from modeling.experiments.findings import VERDICTS, Amount, Cell, Findings, Share, Table
from modeling.experiments.setting import Setting
from modeling.figures.experiments import panels
from modeling.json_file import write_json
from modeling.scoring.tables import markdown_table, percent, with_interval

_DASH = "–"
_REGIONS = "simulated regions"
"""What a source of simulated regions calls itself."""


@dataclass(frozen=True)
class Made:
    """How a report came about."""

    command: str
    """What was typed."""
    on: str
    """ISO date."""
    device: Device
    """What was computed on."""


def publish(
    experiment: Experiment, setting: Setting, found: Finished, failed: Mapping[str, str], planned: int, made: Made,
    folder: Path,
) -> Mapping[str, Path]:  # fmt: skip
    """Write `NAME.md`, `.json` and, where there is something to draw, `.png`; returns the paths by ending.

    `planned` is how many runs there are in all. Raises `DataError` when none is finished.
    """
    if not found:
        why = "; ".join(f"{key}: {reason}" for key, reason in failed.items())
        raise DataError(
            f"there is nothing to report: no run of {experiment.name} is finished{f' ({why})' if why else ''}"
        )
    findings = experiment.reduce(setting, found)
    folder.mkdir(parents=True, exist_ok=True)
    paths = {ending: folder / f"{experiment.name}.{ending}" for ending in ("md", "json", "png")}
    drawn = [chart for chart in findings.charts if any(any(each) for each in chart.series.values())]
    if drawn:
        panels(paths["png"], drawn, title=f"{experiment.paper}: {_kind(setting)}")
    else:
        paths.pop("png")
    picture = paths["png"].name if drawn else ""
    write_json(paths["json"], as_json(experiment, setting, findings, found, failed, planned, made))
    _write(paths["md"], markdown(experiment, setting, findings, found, failed, planned, made, picture=picture))
    return paths


def markdown(
    experiment: Experiment, setting: Setting, findings: Findings, found: Finished, failed: Mapping[str, str], planned: int,
    made: Made, *, picture: str = "",
) -> str:  # fmt: skip
    """The report, as text for people."""
    parts = [
        f"# {experiment.paper}{'' if findings.ours else ', repeated'}",
        f"{experiment.asks}",
        _measured(setting, findings, found, failed, planned, made),
        f"## What {'was asked for' if findings.ours else 'the paper says'}, and what was found here\n\n"
        + _statements(findings, setting),
        f"![What was found, with 95 % intervals]({picture})" if picture else "",
        *(_table(table) for table in findings.tables),
        "## How to read it\n\n" + "\n".join(f"- {note}" for note in (*findings.notes, *_cautions(findings, setting))),
    ]
    if failed:
        parts.insert(3, "## Failed runs\n\n" + "\n".join(f"- `{key}`: {why}" for key, why in failed.items()))
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


def as_json(
    experiment: Experiment, setting: Setting, findings: Findings, found: Finished, failed: Mapping[str, str], planned: int,
    made: Made,
) -> dict[str, Any]:  # fmt: skip
    """The same for programs, with what each run found: counts of every piece of ground, curves, times."""
    return {
        "experiment": experiment.name,
        "paper": experiment.paper,
        "asks": experiment.asks,
        "command": made.command,
        "made_on": made.on,
        **{
            name: {**value, "seeds_used": list(setting.seeds), "command": made.command}
            for name, value in findings.figures.items()
        },
        "device": made.device.to_json(),
        "simulated": _simulated(setting),
        "setting": setting.to_json(),
        "data": setting.source.about(),
        "runs_planned": planned,
        "compute_seconds": _seconds(found),
        "statements": [
            {
                "paper_says": each.paper_says,
                "how": each.how,
                "verdict": each.verdict,
                "measured": None if each.measured is None else each.measured.to_json(),
            }
            for each in findings.statements
        ],
        "tables": [
            {
                "title": table.title,
                "note": table.note,
                "head": list(table.head),
                "rows": [[_plain(cell) for cell in row] for row in table.rows],
            }
            for table in findings.tables
        ],
        "notes": list(findings.notes),
        "runs": {
            key: {name: _counts(value) for name, value in each.items() if name not in findings.left_out}
            for key, each in found.items()
        },
        "failed": dict(failed),
    }


def _counts(value: object) -> object:
    """An evaluation without its histograms, which are nine tenths of it and which no table is made of."""
    if isinstance(value, Mapping) and {"blocks", "margins"} <= set(value):
        return {name: part for name, part in value.items() if name != "margins"}
    return value


def cell_text(cell: Cell) -> str:
    """A cell as the report shows it."""
    if cell is None:
        return _DASH
    if isinstance(cell, str):
        return cell
    if isinstance(cell, Estimate):
        return with_interval(cell)
    if isinstance(cell, Share):
        return percent(cell.value)
    error = "" if cell.error is None else f" ± {cell.error:.{cell.digits}f}"
    return f"{cell.value:.{cell.digits}f}{error}"


def _measured(
    setting: Setting, findings: Findings, found: Finished, failed: Mapping[str, str], planned: int, made: Made
) -> str:
    missing = planned - len(found) - len(failed)
    spent = _seconds(found)
    lines = [
        f"Made on {made.on} by `{made.command}`.",
        "",
        "**All of it was measured on simulated data; no real landslide is in it.**" if _simulated(setting) else "",
        "",
        f"- data: {_data(setting)}",
        f"- networks: {', '.join(f'`{name}`' for name in setting.networks)}, "
        f"{findings.recipe}"
        f"{'' if setting.rate is None else f', with the learning rate {setting.rate:g}'}; {setting.steps:,} steps of "
        f"{setting.batch} patches of {setting.patch_px} pixels in {setting.precision}",
        f"- seeds {', '.join(map(str, setting.seeds))}; {len(found)} of {planned} runs are in this report"
        f"{f', {missing} are still to be done' if missing else ''}{f', {len(failed)} failed' if failed else ''}",
        f"- checkpoint, temperature and threshold were chosen on validation ground; {findings.tested}, and the "
        "three lie apart",
        f"- {made.device.name}, torch {made.device.torch}; runs at a time: {setting.processes}, threads of each: "
        f"{setting.threads}; {_duration(spent)} of training and testing, all runs added up",
    ]
    return "\n".join(line for number, line in enumerate(lines) if line or lines[number - 1])


def _data(setting: Setting) -> str:
    about = setting.source.about()
    tested = f"trained on {', '.join(setting.domains)}, tested on {', '.join(setting.tests)}"
    if about.get("kind") == _REGIONS:
        return (
            f"the simulator's regions of {about['size_px']} x {about['size_px']} pixels of 10 m, a domain: "
            f"{about['training']} to train on, {about['validation']} to choose on, {about['test']} to test on, every one of "
            f"its own seed, so no ground is in two parts; channels `{about['bands']}`; data seed {about['seed']}; {tested}"
        )
    counts = ", ".join(f"{name} {count}" for name, count in about.get("patches", {}).items())
    return (
        f"patches `{about.get('name')}` ({about.get('source')}; licence {about.get('licence')}; {about.get('split')}); "
        f"{counts}; channels `{about.get('bands')}`; sha256 `{about.get('sha256')}`; {tested}"
    )


def _statements(findings: Findings, setting: Setting) -> str:
    statements = findings.statements
    counted = Counter(each.verdict for each in statements)
    rows = [
        [each.paper_says, each.how, cell_text(each.measured), f"**{each.verdict}**"]
        for verdict in VERDICTS
        for each in statements
        if each.verdict == verdict
    ]
    told = ", ".join(f"{counted[verdict]} {verdict}" for verdict in VERDICTS if counted[verdict])
    alone = (
        "**One seed: how much of a difference is the chance of its training start is not in these intervals.** "
        if len(setting.seeds) == 1
        else ""
    )
    return (
        f"{alone}Of {len(statements)} statements: {told}. `holds`: the 95 % interval of the claimed difference lies above zero; "
        "`reversed`: below; `undecided`: zero is inside. Differences in points of per cent."
        f"{'' if findings.ours else ' What the paper says is about real regions.'}\n\n"
        + markdown_table(
            ["asked for" if findings.ours else "the paper", "compared here", "difference [95 %]", "verdict"], rows
        )
    )


def _table(table: Table) -> str:
    rows = [[cell_text(cell) for cell in row] for row in table.rows]
    note = f"{table.note}\n\n" if table.note else ""
    return f"## {table.title}\n\n{note}{markdown_table(table.head, rows)}"


def _cautions(findings: Findings, setting: Setting) -> Sequence[str]:
    beside = "" if findings.ours else " beside the paper's"
    points = [
        f"{len(setting.seeds)} {'seeds: intervals hold' if len(setting.seeds) > 1 else 'seed: intervals hold'} the chance of "
        "the ground well and that of the training start "
        f"{'roughly' if len(setting.seeds) > 1 else 'not at all'}; `undecided` does not mean equal.",
        f"Training is short{beside}: what is reversed here may hold after more of it.",
    ]
    if _simulated(setting):
        points.append(
            "Simulated landslides, light and land cover are simpler than real ones: an ordering may carry over, a score "
            "does not."
        )
    return points


def _kind(setting: Setting) -> str:
    if not _simulated(setting):
        return str(setting.source.about().get("name"))
    return "simulated regions" if setting.source.about().get("kind") == _REGIONS else "simulated patches"


def _simulated(setting: Setting) -> bool:
    about = setting.source.about()
    return about.get("kind") == _REGIONS or "simulated" in str(about.get("source", "")).lower()


def _seconds(found: Finished) -> float:
    """Of all runs; the training of one that was interrupted is counted from its beginning."""
    return sum(max(float(each.get("wall_seconds", 0)), float(each.get("train_seconds", 0))) for each in found.values())


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours" if seconds >= 5400 else f"{seconds / 60:.1f} minutes"


def _plain(cell: Cell) -> object:
    if isinstance(cell, Estimate):
        return cell.to_json()
    return asdict(cell) if isinstance(cell, (Share, Amount)) else cell


def _write(path: Path, text: str) -> None:
    partial = path.with_suffix(f"{path.suffix}.{os.getpid()}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
