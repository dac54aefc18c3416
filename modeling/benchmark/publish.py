"""The files of a report: Markdown, JSON, CSV and a plot."""

from __future__ import annotations

import os
from pathlib import Path

from modeling.benchmark.report import as_json, csv_text, headline_rows, markdown
from modeling.benchmark.results import Results
from modeling.figures.scores import Point, benchmark
from modeling.json_file import write_json

NAME = "benchmark"


def publish(results: Results, folder: Path, *, command: str, made_on: str) -> dict[str, Path]:
    """Write `benchmark.md`, `.json`, `.csv` and, once costs are measured, `.png`; returns the paths by ending."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {ending: folder / f"{NAME}.{ending}" for ending in ("md", "json", "csv", "png")}
    points = _points(results)
    text = markdown(results, command=command, made_on=made_on)
    if points:
        title = "simulated data" if results.data.get("kind") == "simulated regions" else str(results.data.get("name"))
        benchmark(
            paths["png"],
            points,
            cost_label="G multiply-accumulates a patch",
            score_label="pixel F1 with 95 % interval",
            title=f"{title}: {', '.join(results.plan.domains)}",
        )
        text = text.replace("## Costs\n", f"![F1 over compute]({paths['png'].name})\n\n## Costs\n", 1)
    else:
        paths.pop("png")
    write_json(paths["json"], as_json(results, command=command, made_on=made_on))
    _write(paths["csv"], csv_text(results))
    _write(paths["md"], text)
    return paths


def _points(results: Results) -> list[Point]:
    rows = [row for row in headline_rows(results) if row.entry in results.costs]
    return [
        Point(
            row.entry,
            results.costs[row.entry]["macs"] / 1e9,
            row.scores["f1"].value,
            row.scores["f1"].low,
            row.scores["f1"].high,
        )
        for row in rows
    ]


def _write(path: Path, text: str) -> None:
    partial = path.with_suffix(f"{path.suffix}.{os.getpid()}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
