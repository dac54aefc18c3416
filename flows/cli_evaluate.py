"""`quakeslide evaluate`, `benchmark` and `explain`: what they ask for, what they show, and nothing else."""

from __future__ import annotations

import datetime as dt
import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from flows.cli_runs import device_here, follower, numbers

if TYPE_CHECKING:
    from modeling.benchmark.data import Source
    from modeling.benchmark.ledger import Ledger
    from modeling.benchmark.plan import Plan
    from modeling.benchmark.results import Results
    from modeling.data.batches import Blocks
    from modeling.data.patches import PatchSet
    from modeling.model import LandslideModel
    from modeling.scoring.evaluate import Evaluation

Model = Annotated[str, typer.Argument(help="A name of `quakeslide models`, or the path of a .safetensors file.")]
Patches = Annotated[Path, typer.Option("--data", help="Patch data set, made by `quakeslide dataset`.")]
Part = Annotated[str, typer.Option(help="Part of the data set: training, validation or test.")]
Domains = Annotated[str, typer.Option(help="Only these domains of the data set, comma-separated; empty: all.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(evaluate)
    app.command()(benchmark)
    app.command()(explain)


def evaluate(
    model: Model,
    data: Patches,
    part: Part = "test",
    domains: Domains = "",
    out: Annotated[Path, typer.Option(help="Folder for the report, its JSON and its pictures.")] = Path("evaluation"),
    device: Device = "auto",
) -> None:
    """Score a model on a patch data set.

    Precision, recall, F1, IoU, MCC, PA, CPA, mIoU and OA over all pixels together; precision, recall and F1 of landslides
    matched one for one, in all and by size; calibration, and 95 % intervals. Temperature and threshold are the model's own:
    nothing is fitted here.
    """
    from flows.interruption import beginning_anew
    from flows.out_folder import require_folder
    from flows.run import say, shown_progress
    from modeling.data.patches import open_patches
    from modeling.domains.learnt import learnt_domains
    from modeling.model import load_model
    from modeling.prediction.allocator import keep_memory
    from modeling.scoring.evaluate import evaluate as score

    require_folder(out)
    loaded, patches = load_model(model), open_patches(data)
    blocks = _blocks(patches, loaded, part, domains)
    keep_memory()
    with beginning_anew(), shown_progress():
        where = device_here(device)
        result = score(loaded.to(where), blocks, device=where, matched=True, told=_stage("evaluate"))
    ground = Ground("simulated" in patches.about.source.lower(), learnt_domains(loaded), result.domains)
    _write_evaluation(result, out, loaded.name, f"the {part} part of {patches.name}", ground)
    scores, landslides = result.scores(), result.matched_intervals()["f1"]
    say(f"pixel F1 {scores['f1']:.3f}, IoU {scores['iou']:.3f}, landslides F1 {landslides.value:.3f}")
    for note in ground.notes(loaded.name):
        say(f"note: {note}")
    say(f"report: {out / 'evaluation.md'}")


@dataclass(frozen=True)
class Ground:
    """What a reader of scores must know of the ground that they are of."""

    simulated: bool
    """Whether it is simulated."""
    learnt: tuple[str, ...] | None
    """The domains that the model has learned from; None where its files do not say."""
    domains: tuple[str, ...]
    """The domains that were scored."""

    @property
    def seen(self) -> tuple[str, ...]:
        """The scored domains that the model has learned from."""
        return tuple(name for name in self.domains if name in (self.learnt or ()))

    def notes(self, model: str) -> list[str]:
        """A sentence for each thing to know."""
        told = []
        if self.simulated:
            told.append("The ground is simulated: scores on real ground will differ.")
        if self.learnt is None:
            told.append(f"{model} does not say which domains it has learned from: these may be among them.")
        elif self.seen:
            told.append(
                f"{model} has learned from {', '.join(self.seen)}, of the domains that are scored: scores there do not say "
                "what it does where it has seen nothing."
            )
        return told

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        learnt = None if self.learnt is None else list(self.learnt)
        return {"simulated": self.simulated, "model_learnt_from": learnt, "scored_domains_learnt_from": list(self.seen)}


def benchmark(
    data: Annotated[
        Path | None, typer.Option(help="Patch data set with three parts; without it, regions are simulated.")
    ] = None,
    domains: Annotated[
        str,
        typer.Option(
            help="Domains to train and test on; simulated ones: iburi, jiuzhaigou, palu, luding, gorkha, kaikoura, noto, "
            "haiti, papua, hualien."
        ),
    ] = "",
    networks: Annotated[
        str,
        typer.Option(
            help="Comma-separated: NETWORK, NETWORK@2 (input enlarged twice), NETWORK:optical (without terrain). "
            "Default: all networks, and what the papers' claims need besides."
        ),
    ] = "",
    seeds: Annotated[str, typer.Option(help="Seeds of training, comma-separated.")] = "0,1,2",
    budget: Annotated[
        str, typer.Option(help="Time for everything, for example 30min or 8h; steps are measured to fit it.")
    ] = "",
    steps: Annotated[int, typer.Option(min=0, help="Training steps of every network, instead of a budget.")] = 0,
    equal: Annotated[str, typer.Option(help="What a budget gives networks alike: steps or time.")] = "steps",
    terms: Annotated[
        str, typer.Option(help="equal: one recipe, learning rate chosen on validation; paper: each paper's recipe.")
    ] = "equal",
    rates: Annotated[str, typer.Option(help="Learning rates to choose from, on equal terms.")] = "3e-4,1e-3,3e-3",
    train_on: Annotated[
        str, typer.Option(help="together: one model of all domains; each: one a domain, tested on all.")
    ] = "together",
    bands: Annotated[
        str, typer.Option(help="Band set; default: ten-band for simulated regions, all layers of a data set.")
    ] = "",
    regions: Annotated[str, typer.Option(help="Simulated regions a domain to train, choose and test on.")] = "12,3,8",
    region_px: Annotated[int, typer.Option(min=96, max=2048, help="Side of a simulated region in pixels.")] = 384,
    patch_px: Annotated[
        int, typer.Option(min=0, max=512, help="Side of a training patch in pixels; 0: 88, or what the data set has.")
    ] = 0,
    batch: Annotated[int, typer.Option(min=1, help="Patches a step.")] = 8,
    augmentation: Annotated[str, typer.Option(help="Augmentation on equal terms.")] = "physical",
    precision: Annotated[str, typer.Option(help="Of training: float32 or bfloat16.")] = "float32",
    processes: Annotated[int, typer.Option(min=0, help="Runs at once; 0: what is faster here, measured.")] = 0,
    device: Device = "auto",
    work: Annotated[
        Path, typer.Option(help="Folder that keeps finished runs, checkpoints and simulated regions.")
    ] = Path(".quakeslide/benchmark"),
    out: Annotated[Path, typer.Option(help="Folder for benchmark.md, .json, .csv and .png.")] = Path("benchmark"),
) -> None:
    """Train every network alike, test all on the same ground, and hold the papers' claims beside it.

    Learning rate, checkpoint, temperature and threshold are chosen on validation ground; test ground lies apart and is
    only scored. Interrupt it at any time: the same command goes on where it stopped, and the report can be looked at
    after every finished run.
    """
    from flows.errors import FlowError
    from flows.out_folder import require_folder
    from modeling.benchmark.data import Patches, Simulated
    from modeling.benchmark.ledger import Ledger
    from modeling.benchmark.plan import Plan, all_entries, names_of
    from modeling.benchmark.speed import PATCH_PX
    from modeling.prediction.allocator import keep_memory

    require_folder(out)
    if bool(budget) == bool(steps):
        raise FlowError("give either --budget (for example 8h) or --steps (for example 300)")
    keep_memory()
    source: Source
    if data is None:
        counts = numbers(regions, int, "--regions")
        if len(counts) != 3:
            raise FlowError(f"--regions {regions!r} must be three numbers: to train, to choose and to test on")
        training, validation, test = counts
        chosen = names_of(domains) or ("iburi", "jiuzhaigou", "palu")
        source = Simulated(
            work / "regions", chosen, training, validation, test, size_px=region_px, bands=bands or "ten-band"
        )
    else:
        source = Patches(data, bands)
        patch_px = patch_px or source.patch_px
        chosen = names_of(domains) or source.domains
    entries = names_of(networks) or all_entries()
    plan = Plan(
        entries=entries,
        domains=chosen,
        train_on=train_on,
        seeds=tuple(numbers(seeds, int, "--seeds")),
        steps=dict.fromkeys(entries, steps or 1),
        terms=terms,
        rates=tuple(numbers(rates, float, "--rates")),
        batch=batch,
        patch_px=patch_px or PATCH_PX,
        augmentation=augmentation,
        precision=precision,
        processes=max(processes, 1),
        device=device_here(device),
    )
    ledger = Ledger(work)
    with ledger.held():
        _run_benchmark(plan, source, ledger, out, budget=budget, equal=equal, measure=processes == 0)


def explain(
    model: Model,
    data: Patches,
    part: Part = "test",
    domains: Domains = "",
    patches: Annotated[int, typer.Option(min=1, max=64, help="How many patches get Grad-CAM panels.")] = 6,
    way: Annotated[
        Literal["unknown", "moved"],
        typer.Option(
            help="How bands are taken away: unknown (the model sees their mean) or moved (displaced within the patch)."
        ),
    ] = "unknown",
    out: Annotated[Path, typer.Option(help="Folder for pictures and JSON.")] = Path("explanation"),
) -> None:
    """Show what a model looks at: Grad-CAM maps, channel attention by input band, and what each band is worth."""
    from flows.interruption import beginning_anew
    from flows.out_folder import require_folder
    from flows.run import say, shown_progress
    from modeling.data.patches import open_patches
    from modeling.explaining.explain_files import explain as write_explanation
    from modeling.model import load_model

    require_folder(out)
    loaded, opened = load_model(model), open_patches(data)
    blocks = _blocks(opened, loaded, part, domains)
    with beginning_anew(), shown_progress():
        from flows.progress import report

        written = write_explanation(loaded, blocks, out, patches=patches, way=way, told=report)
    if "attention" not in written:
        say(f"{loaded.network_name} has no channel attention, so there are no weights to explain")
    say(f"written into {out}: {', '.join(path.name for path in written.values())}")


def _blocks(patches: PatchSet, model: LandslideModel, part: str, domains: str) -> Blocks:
    """What a model is scored on; raises `BandSetError` with the weights file when it is for other bands."""
    from modeling.benchmark.plan import names_of
    from modeling.errors import BandSetError

    try:
        return patches.blocks(part, model.bands, domains=names_of(domains) or None)
    except BandSetError as error:
        raise BandSetError(f"model {model.named} is for other bands: {error}") from error


def _run_benchmark(
    plan: Plan, source: Source, ledger: Ledger, out: Path, *, budget: str, equal: str, measure: bool
) -> None:
    from flows.run import say, shown_progress
    from modeling.benchmark.results import Results
    from modeling.benchmark.run import check, run_benchmark

    with shown_progress():
        source.prepare(os.cpu_count() or 1, _stage("simulate regions"))
        check(plan, source)
        plan = _measured(plan, source, ledger, budget=budget, equal=equal, measure=measure)
        run_benchmark(plan, source, ledger, follower())
    results = Results.load(ledger)
    paths = _publish(results, out)
    _show(results)
    say(f"report: {paths['md']}")


def _measured(plan: Plan, source: Source, ledger: Ledger, *, budget: str, equal: str, measure: bool) -> Plan:
    """The plan with its processes, threads and steps: those of the runs that are there, else measured here."""
    from flows.progress import report
    from modeling.benchmark.budget import faster_layout, planned
    from modeling.benchmark.plan import Plan, parse_duration

    seconds = parse_duration(budget) if budget else None
    stated = ledger.plan()
    if stated is not None:
        before = Plan.from_json({name: value for name, value in stated.items() if name != "data"})
        layout = (before.processes if measure else plan.processes), before.threads
        plan = replace(plan, processes=layout[0], threads=layout[1])
        return plan if seconds is None else replace(plan, steps=before.steps)
    cores = os.cpu_count() or 1
    layout = faster_layout(plan, source) if measure else (plan.processes, max(1, cores // plan.processes))
    plan = replace(plan, processes=layout[0], threads=layout[1])
    if seconds is None:
        return plan
    return planned(plan, source, seconds, equal=equal, told=lambda d, n, note: report("measure steps", d, n, note))


def _publish(results: Results, out: Path) -> dict[str, Path]:
    from modeling.benchmark.publish import publish

    command = shlex.join(["quakeslide", *sys.argv[1:]])
    return publish(results, out, command=command, made_on=dt.datetime.now(dt.UTC).date().isoformat())


def _show(results: Results) -> None:
    from rich.table import Table

    from flows.run import CONSOLE
    from modeling.benchmark.report import headline_rows
    from modeling.scoring.tables import percent, with_interval

    table = Table("network", "F1 [95 %]", "landslides F1", "G MAC", "patches/s", "km²/s")
    for row in headline_rows(results):
        cost = results.costs[row.entry]
        speed = cost["speed"]
        table.add_row(
            row.entry, with_interval(row.scores["f1"]), percent(row.object_f1.value), f"{cost['macs'] / 1e9:.3f}",
            f"{speed['patches_per_s']:.1f}", f"{speed['km2_per_s']:.2f}",
        )  # fmt: skip
    CONSOLE.print(table)
    for key, why in results.failed.items():
        CONSOLE.print(f"failed: {key}: {why}", markup=False)


def _stage(name: str) -> Callable[[int, int], None]:
    from flows.progress import report

    return lambda done, total: report(name, done, total)


def _write_evaluation(result: Evaluation, out: Path, model: str, data: str, about: Ground) -> None:
    from modeling.figures.scores import reliability_diagram, sizes
    from modeling.json_file import write_json
    from modeling.scoring.bootstrap import size_intervals
    from modeling.scoring.evaluation_summary import summary
    from modeling.scoring.evaluation_text import evaluation_text

    out.mkdir(parents=True, exist_ok=True)
    diagram = result.reliability()
    if diagram is not None:
        reliability_diagram(out / "reliability.png", {model: diagram})
    ground = result.ground()
    by_size = size_intervals([piece.objects for piece in ground], strata=[piece.domain for piece in ground])
    sizes(out / "sizes.png", {model: result.objects}, recalls={model: by_size["recall"]}, title=data)
    told = {"model": model, "data": data, **about.to_json()}
    write_json(out / "evaluation.json", {**told, **summary(result), **result.to_json()})
    text = evaluation_text(result, model=model, data=data, notes=about.notes(model))
    (out / "evaluation.md").write_text(text, encoding="utf-8")
