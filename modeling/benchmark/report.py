"""A benchmark as Markdown, CSV and JSON; every number comes from the runs or from `modeling.scoring.papers`."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from modeling.benchmark.claims import claims_section, untested_section
from modeling.benchmark.compare import Estimate
from modeling.benchmark.plan import Entry
from modeling.benchmark.results import EVERYWHERE, Results, Row
from modeling.scoring.evaluation_text import NAMES, size_name
from modeling.scoring.metrics import SCORES
from modeling.scoring.tables import markdown_table, percent, with_interval

SMALL = "msf-litenet"
"""The network that claims to be nearly as good at a fraction of the cost."""
NEAR = 0.02
CHEAP = 0.1
"""Within two points of F1, at a tenth of the compute."""

_SHOWN = ("iou", "mcc", "precision", "recall", "pa", "miou")


def markdown(results: Results, *, command: str, made_on: str) -> str:
    """The report, as text for people."""
    parts = [
        "# Benchmark of the networks",
        _measured(results, command, made_on),
        "## Scores\n\n" + _scores(results),
        "## Costs\n\n" + _costs(results),
        "## F1 by domain\n\n" + _by_domain(results),
        "## Landslides found, by size\n\n" + _by_size(results),
        f"## {SMALL}: nearly the best at a tenth of the compute?\n\n" + _small(results),
        "## What the papers claim\n\n" + claims_section(results),
        "## Claims that this comparison cannot test\n\n" + untested_section(),
        "## How to read it\n\n" + _limits(results),
    ]
    if results.failed:
        parts.insert(3, "## Failed runs\n\n" + "\n".join(f"- `{key}`: {why}" for key, why in results.failed.items()))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def csv_text(results: Results) -> str:
    """One line for each entry, training set and tested domain, every score with its interval."""
    out = io.StringIO()
    names = [*SCORES, "object_f1"]
    columns = [column for name in names for column in (name, f"{name}_low", f"{name}_high")]
    taken = ["train_seconds", "train_cpu_seconds"]
    costs = ["parameters", "macs", "patches_per_s", "km2_per_s"]
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["entry", "trained_on", "tested_on", "seeds", *taken, *costs, "ece", *columns])
    for row in results.rows:
        cost = results.costs.get(row.entry, {})
        speed = cost.get("speed", {})
        values = [row.scores.get(name, row.object_f1) for name in names]
        writer.writerow(
            [
                row.entry, row.trained_on, row.tested_on, len(row.seeds), f"{train_seconds(results, row):.1f}",
                "" if (spent := train_cpu_seconds(results, row)) is None else f"{spent:.1f}",
                cost.get("parameters", ""), cost.get("macs", ""),
                *(f"{speed[name]:.4g}" if name in speed else "" for name in costs[2:]),
                f"{row.ece:.5f}",
                *(f"{number:.5f}" for each in values for number in (each.value, each.low, each.high)),
            ]
        )  # fmt: skip
    return out.getvalue()


def as_json(results: Results, *, command: str, made_on: str) -> dict[str, Any]:
    """All that the tables were made of: the counts of each block in each run, and what every run cost."""
    ground = results.runs[0].evaluation.ground()
    return {
        "command": command,
        "made_on": made_on,
        "plan": results.plan.to_json(),
        "data": dict(results.data),
        "ground": [{"name": piece.name, "domain": piece.domain} for piece in ground],
        "runs": [
            {
                **run.about,
                "pixels_tp_fp_fn_tn": [list(piece.pixels.counts) for piece in run.evaluation.ground()],
                "objects_true_found_mapped_right": [list(piece.objects.counts) for piece in run.evaluation.ground()],
                "objects_by_size": run.evaluation.objects.to_json(),
                "threshold": run.evaluation.threshold,
                "temperature": run.evaluation.temperature,
            }
            for run in results.runs
        ],
        "costs": dict(results.costs),
        "failed": dict(results.failed),
        "rows": [
            {
                "entry": row.entry,
                "trained_on": row.trained_on,
                "tested_on": row.tested_on,
                "ece": row.ece,
                "object_f1": row.object_f1.to_json(),
                **{name: each.to_json() for name, each in row.scores.items()},
            }
            for row in results.rows
        ],
    }


def train_seconds(results: Results, row: Row) -> float:
    """Mean time of training of a row's runs."""
    taken = [float(run.about["train_seconds"]) for run in results.of(row.entry, row.trained_on)]
    return sum(taken) / len(taken)


def train_cpu_seconds(results: Results, row: Row) -> float | None:
    """Mean processor time of a row's runs that were not interrupted, which do not know what they took before."""
    runs = [run.about for run in results.of(row.entry, row.trained_on)]
    taken = [float(about["cpu_seconds"]) for about in runs if about["wall_seconds"] >= about["train_seconds"]]
    return sum(taken) / len(taken) if taken else None


def headline_rows(results: Results) -> list[Row]:
    """The main table: tested everywhere, best F1 first."""
    rows = [row for row in results.rows if row.tested_on == EVERYWHERE and row.trained_on == results.headline]
    return sorted(rows, key=lambda row: -row.scores["f1"].value)


def _measured(results: Results, command: str, made_on: str) -> str:
    plan, data = results.plan, results.data
    simulated = data.get("kind") == "simulated regions"
    device = next((cost["device"] for cost in results.costs.values()), None)
    done = Counter(run.trained_on for run in results.runs)
    steps = sorted(set(plan.steps.values()))
    length = f"{steps[0]:,}" if len(steps) == 1 else f"{steps[0]:,} to {steps[-1]:,} (equal time)"
    ground = results.runs[0].evaluation
    lines = [
        f"Made on {made_on} by `{command}`.",
        "",
        "**All of it was measured on simulated data; no real landslide is in it.**" if simulated else "",
        "",
        f"- data: {_data(data)}",
        f"- tested on {len(ground.blocks)} blocks ({len(ground.ground())} pieces of ground that lie apart) of "
        f"{', '.join(ground.domains)}; {_pixels(results):,} pixels with a truth, {_landslide_share(results):.1%} of them "
        "landslide",
        f"- trained: {', '.join(f'{count} runs on {name}' for name, count in done.items())}; seeds "
        f"{', '.join(map(str, plan.seeds))}; {length} steps of {plan.batch} patches of {plan.patch_px} pixels, "
        f"{plan.precision}, from random weights (the papers begin with trunks trained on ImageNet, where they have any)",
        f"- {_terms(results)}",
        "- checkpoint, temperature and threshold were chosen on the validation part; the test part was only scored",
        f"- device: {device['name']}, torch {device['torch']}; {plan.processes} runs at a time with {plan.threads} "
        f"threads each; speeds alone, with {device['threads']} threads"
        if device
        else "- device: not recorded",
    ]
    return "\n".join(line for number, line in enumerate(lines) if line or lines[number - 1])


def _data(data: Mapping[str, Any]) -> str:
    if data.get("kind") == "simulated regions":
        return (
            f"the simulator's regions of {data['size_px']} x {data['size_px']} pixels of 10 m, in each domain "
            f"{data['training']} to train on, {data['validation']} to choose on, {data['test']} to test on; every region "
            f"of its own seed, so no ground is in two parts; channels `{data['bands']}`; data seed {data['seed']}"
        )
    counts = ", ".join(f"{name} {count}" for name, count in data.get("patches", {}).items())
    return (
        f"patches `{data.get('name')}` ({data.get('source')}; licence {data.get('licence')}; {data.get('split')}); "
        f"{counts}; channels `{data.get('bands')}`; sha256 `{data.get('sha256')}`"
    )


def _terms(results: Results) -> str:
    plan = results.plan
    if plan.terms == "paper":
        return (
            "each network by its paper's recipe: loss, optimiser, schedule, scaling, augmentation, choice of checkpoint"
        )
    return (
        "equal terms: focal + dice loss, Adam with warm-up and polynomial decay, standardised channels, augmentation "
        f"`{plan.augmentation}`; of the learning rates {', '.join(f'{rate:g}' for rate in plan.rates)} each network got "
        f"the one with the best validation F1 in trials of {plan.search_share:.0%} of the steps with seed {plan.seeds[0]}"
    )


def _scores(results: Results) -> str:
    rows = [
        [
            f"`{row.entry}`", with_interval(row.scores["f1"]), *(percent(row.scores[name].value) for name in _SHOWN),
            with_interval(row.object_f1), percent(row.ece), str(len(row.seeds)), _rates(results, row),
        ]
        for row in headline_rows(results)
    ]  # fmt: skip
    head = ["network", "F1 [95 %]", *(NAMES[name] for name in _SHOWN)]
    head += ["landslides F1 [95 %]", "calibration error", "seeds", "learning rate"]
    note = (
        f"Trained on {results.headline}, tested on all test ground; per cent. Counts are accumulated over the whole test "
        "set. Intervals draw ground and seeds again. `@2`: the network sees its input enlarged twice; `:optical`: without "
        "terrain. OA is the PA, and CPA the precision: the figures of the papers that use them leave no other reading. A "
        "landslide counts as found when half of it is mapped. A learning rate with an asterisk lies at an end of the "
        "candidates: beyond it might be a better one."
    )
    return f"{note}\n\n{markdown_table(head, rows)}"


def _rates(results: Results, row: Row) -> str:
    plan = results.plan
    ends = {min(plan.rates), max(plan.rates)} if plan.terms == "equal" and len(plan.rates) > 1 else set()
    rates = sorted({run.about["rate"] for run in results.of(row.entry, row.trained_on)})
    return ", ".join(f"{rate:g}{'*' if rate in ends else ''}" for rate in rates)


def _costs(results: Results) -> str:
    rows = []
    for row in headline_rows(results):
        cost = results.costs.get(row.entry)
        if cost is None:
            continue
        speed = cost["speed"]
        rows.append(
            [
                f"`{row.entry}`", str(len(cost["channels"])), f"{cost['parameters']:,}", f"{cost['macs'] / 1e9:.3f}",
                f"{results.plan.steps[row.entry]:,}",
                f"{train_seconds(results, row) / 60:.1f}",
                "–" if (spent := train_cpu_seconds(results, row)) is None else f"{spent / 60:.1f}",
                f"{speed['patches_per_s']:.1f}", f"{speed['km2_per_s']:.2f}",
            ]
        )  # fmt: skip
    if not rows:
        return "Not measured yet."
    first = next(iter(results.costs.values()))
    speed = first["speed"]
    note = (
        f"Multiply-accumulates by the convention of `modeling.scoring.complexity` for one patch of {speed['patch_px']} "
        f"pixels, the enlargement counted in. Training time is the mean of the runs as they ran, validation included: that "
        "of the clock, which other work on the machine lengthens, and that of the processor, which it hardly does. "
        f"Speeds are of the plain forward pass in {speed['precision']} without reading or stitching: patches "
        f"{speed['batch']} at a time; ground in tiles of {speed['tile_px']} pixels of {speed['pixel_m2']:g} m²."
    )
    head = ["network", "channels", "parameters", "G MAC a patch", "steps", "training, minutes", "processor minutes"]
    head += ["patches/s", "km²/s"]
    return f"{note}\n\n{markdown_table(head, rows)}"


def _by_domain(results: Results) -> str:
    domains = results.plan.domains
    rows = []
    for trained_on in results.plan.training_sets:
        entries = [row.entry for row in headline_rows(results) if results.of(row.entry, trained_on)]
        for entry in entries:
            tested = [results.row(entry, trained_on, domain).scores["f1"] for domain in domains]
            rows.append([f"`{entry}`", trained_on, *map(with_interval, tested)])
    return markdown_table(["network", "trained on", *domains], rows)


def _by_size(results: Results) -> str:
    rows, head = [], ["network"]
    for row in headline_rows(results):
        sizes = row.by_size
        head = ["network", *(size_name(size["low_m2"], size["high_m2"]) for size in sizes)]
        rows.append([f"`{row.entry}`", *(_found(size) for size in sizes)])
    note = "Share of the true landslides of a size that were found, and how many there are; all seeds together."
    return f"{note}\n\n{markdown_table(head, rows)}"


def _found(size: Mapping[str, Any]) -> str:
    return "none there" if size["recall"] is None else f"{percent(size['recall'])} of {size['true']:,}"


def _small(results: Results) -> str:
    rows = headline_rows(results)
    if not any(Entry.parse(row.entry).network == SMALL for row in rows):
        return f"`{SMALL}` did not take part."
    best = next((row for row in rows if Entry.parse(row.entry).network != SMALL), None)
    if best is None:
        return f"Nothing but `{SMALL}` took part."
    told = []
    for row in rows:
        if Entry.parse(row.entry).network != SMALL:
            continue
        lag = results.difference(best.entry, row.entry, "f1", results.headline, EVERYWHERE)
        told.append(f"- {_lag(row.entry, best.entry, lag)} {_share_of_compute(results, row.entry, best.entry)}")
    return f"The best of the other networks is `{best.entry}`, F1 {with_interval(best.scores['f1'])}.\n\n" + "\n".join(
        told
    )


def _lag(small: str, best: str, lag: Estimate) -> str:
    """What the interval of the best's F1 minus the small one's says about two points."""
    if lag.high <= NEAR:
        verdict = "within two points"
    elif lag.low > NEAR:
        verdict = "more than two points behind"
    else:
        verdict = f"{'within' if lag.value <= NEAR else 'beyond'} two points, but the interval leaves that open"
    return f"`{small}` lies {with_interval(lag)} points of F1 behind `{best}`: {verdict}."


def _share_of_compute(results: Results, small: str, best: str) -> str:
    if small not in results.costs or best not in results.costs:
        return "Its compute is not measured yet."
    share = results.costs[small]["macs"] / results.costs[best]["macs"]
    return f"It needs {share:.1%} of the compute: {'at most' if share <= CHEAP else 'more than'} a tenth."


def _limits(results: Results) -> str:
    points: Sequence[str] = (
        f"{len(results.plan.seeds)} seeds: intervals hold the chance of the ground well and that of the training start "
        "roughly. `undecided` means that the interval of the difference holds zero, not that two networks are equal.",
        "Training is short beside the papers' (their epochs, their pre-trained trunks): a network that needs long "
        "training is at a disadvantage, and what is reversed here may hold after more of it.",
        "An ordering is compared where the simulator has a counterpart of the paper's region and it took part, else over "
        "all test ground. Simulated landslides, light and land cover are simplified; channels and resolution differ from "
        "the papers' as well.",
        "Deleting a run's file in the work folder and repeating the command makes that run again.",
    )
    return "\n".join(f"- {point}" for point in points)


def _pixels(results: Results) -> int:
    return sum(results.runs[0].evaluation.pixels.counts)


def _landslide_share(results: Results) -> float:
    counts = results.runs[0].evaluation.pixels
    return (counts.tp + counts.fn) / max(sum(counts.counts), 1)
