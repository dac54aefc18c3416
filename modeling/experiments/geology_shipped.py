"""What the geology scheme does to the shipped models, on the regions they were validated on and on a domain held out.

`python -m modeling.experiments.geology_shipped` maps the simulated regions of `modeling.training.shipped_regions` with every
shipped model, step by step of the scheme, and writes `modeling/reports/geology.md` and `.json`. Which rules a map gets of
itself (`model.rules = auto`) was chosen by the validation part of that report.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modeling.bands import BandSet
from modeling.data.dataset import STORED_LAYERS, RegionBlocks
from modeling.errors import ModelingError
from modeling.experiments.scheme import RULES, SETTING, STEPS, SUBTRACTED, arm, counted, steps_of
from modeling.experiments.scores import OBJECT_F1, score
from modeling.geology.rules import GeologyRules, default_rules
from modeling.json_file import write_json
from modeling.model import available_models, load_model
from modeling.scoring.tables import markdown_table, percent, with_interval
from modeling.training.shipped_regions import HELD_OUT_DOMAIN, TRAINING_DOMAINS, regions_of, shipped_split

log = logging.getLogger(__name__)

REPORTS = Path(__file__).parents[1] / "reports"
BANDS = BandSet("all-layers", (*STORED_LAYERS, "ndvi_pre", "ndvi_post"), "everything that a stored region has")
COMMAND = "python -m modeling.experiments.geology_shipped"


@dataclass(frozen=True)
class Part:
    """Ground that is reported on together."""

    title: str
    """In words."""
    domains: tuple[str, ...]
    """Its domains."""


PARTS = (
    Part("validation ground (checkpoint, threshold and the default were chosen here)", TRAINING_DOMAINS),
    Part("a domain that was held out of everything", (HELD_OUT_DOMAIN,)),
)


def measure(name: str, work: Path, workers: int) -> dict[str, Any]:
    """`weights`: sha256 of those of one shipped model; its steps: see `modeling.experiments.scheme.steps_of`."""
    split = shipped_split()
    learn_on = RegionBlocks(regions_of(work / "regions", split.validation, workers), BANDS)
    tests = RegionBlocks(regions_of(work / "regions", (*split.validation, *split.held_out), workers), BANDS)

    def tell(done: int, total: int, what: str) -> None:
        log.info("%s: %s, %d of %d", name, what, done, total)

    model = load_model(name)
    return {"weights": model.weights_hash, **steps_of(model, BANDS, learn_on, tests, tell)}


def scores_of(result: Mapping[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    """Domain -> arm -> its scores with intervals."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for domain in (*TRAINING_DOMAINS, HELD_OUT_DOMAIN):
        found[domain] = {}
        for name in STEPS:
            if not (runs := arm([result], name)):
                continue
            pixels = {metric: score(runs, metric, domain) for metric in ("precision", "recall", "f1", "iou")}
            counts = {
                f"count_{metric}": counted(runs, metric, domain) for metric in ("precision", "recall", "iou", "f1")
            }
            every = {**pixels, **counts, OBJECT_F1: score(runs, OBJECT_F1, domain)}
            found[domain][name] = {metric: estimate.to_json() for metric, estimate in every.items()}
    return found


def report(results: Mapping[str, Mapping[str, Any]]) -> str:
    """The measurements as Markdown."""
    lines = [
        "# The geology scheme on the shipped models",
        "",
        f"Everything here is **simulated**. Made by `{COMMAND}`. 768 x 768 pixels of 10 m a region, four regions a domain. "
        f"Default rules at 10 m: {default_rules(10.0).described()}. Thresholds called learnt were learnt on the validation "
        "ground of the domains that are not the one reported on. Intervals draw regions again; four regions a domain are few. "
        "`landslides F1`: found when half of one is mapped, right when half of one is true. `counts`: one for one "
        "(`modeling.scoring.counting`), as the tables of Xu et al.",
        "",
        *summary({name: scores_of(result) for name, result in results.items()}),
    ]
    for name, result in results.items():
        lines += ["", f"## `{name}`", "", f"Weights: sha256 `{result['weights']}`."]
        for part in PARTS:
            for domain in part.domains:
                lines += ["", f"**{domain}**, {part.title}", "", _table(result, domain)]
        lines += ["", "Learnt thresholds:", "", *(_learnt(row) for row in result["learnt"])]
        differ = [why for why in result["histograms"].values() if why]
        if differ:
            matched = sum(why.startswith("matched") for why in differ)
            lines += ["", f"Histograms of the image before were matched in {matched} of {len(differ)} regions."]
    return "\n".join(lines) + "\n"


def summary(scores: Mapping[str, Mapping[str, Mapping[str, Mapping[str, Any]]]]) -> list[str]:
    """What `auto` was chosen by: means over the validation domains of what the pipeline does of itself and of the scheme;
    `scores` are `scores_of` by model."""
    rows = []
    for name, domains in scores.items():
        own = domains[TRAINING_DOMAINS[0]]
        whole = f"{RULES} {SUBTRACTED}" if f"{RULES} {SUBTRACTED}" in own else RULES
        means = [
            percent(sum(domains[domain][each][metric]["value"] for domain in TRAINING_DOMAINS) / len(TRAINING_DOMAINS))
            for each in (SETTING, whole)
            for metric in ("f1", OBJECT_F1)
        ]
        rows.append([f"`{name}`", STEPS[whole], *means])
    head = ["model", "its scheme", "400 m²: pixel F1", "landslides F1", "scheme: pixel F1", "landslides F1"]
    return [
        "Means over the validation domains, by which the default (`model.rules = auto`) was chosen: the scheme for a network "
        "of one date, the smallest area of 400 m² alone for the others.",
        "",
        markdown_table(head, rows),
    ]


def _table(result: Mapping[str, Any], domain: str) -> str:
    rows = []
    for name, words in STEPS.items():
        if runs := arm([result], name):
            counts = " / ".join(percent(counted(runs, each, domain).value) for each in ("precision", "recall", "iou"))
            rows.append(
                [
                    words, with_interval(score(runs, "f1", domain)), percent(score(runs, "precision", domain).value),
                    percent(score(runs, "recall", domain).value), with_interval(score(runs, OBJECT_F1, domain)), counts,
                ]
            )  # fmt: skip
    head = ["step", "pixel F1 [95 %]", "precision", "recall", "landslides F1 [95 %]", "counts P / R / IoU"]
    return markdown_table(head, rows)


def _learnt(row: Mapping[str, Any]) -> str:
    subtracted = " with subtraction" if row["subtracted"] else ""
    return f"- for {row['for']}{subtracted}: {GeologyRules.from_json(row['rules']).described()}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the shipped models and write the report."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=main.__doc__)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="names of shipped models; all when none is named")
    parser.add_argument("--work", type=Path, default=Path(".quakeslide/training"), help="where the regions are kept")
    parser.add_argument("--workers", type=int, default=1, help="processes that simulate regions that are not there")
    parser.add_argument("--out", type=Path, default=REPORTS, help="folder for geology.md and geology.json")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        results = {name: measure(name, options.work, options.workers) for name in options.models or available_models()}
    except ModelingError as error:
        log.error("%s", error)
        return 2
    plain = {
        name: {
            "weights": result["weights"],
            "learnt": result["learnt"],
            "held_out": result["held_out"],
            "scores": scores_of(result),
        }
        for name, result in results.items()
    }
    write_json(options.out / "geology.json", {"command": COMMAND, "simulated": True, "models": plain})
    target = options.out / "geology.md"
    partial = target.with_suffix(".partial")
    partial.write_text(report(results), encoding="utf-8")
    partial.replace(target)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
