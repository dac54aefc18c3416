"""`quakeslide reproduce`: the papers' experiments, on simulated regions or on the user's data."""

from __future__ import annotations

import datetime as dt
import math
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli_runs import device_here, follower, numbers

if TYPE_CHECKING:
    from modeling.benchmark.data import Source
    from modeling.benchmark.ledger import Ledger
    from modeling.experiments.budget import Cost
    from modeling.experiments.engine import Experiment
    from modeling.experiments.setting import Setting

_REGIONS = (12, 3, 8)
_KNOWN = 0.65
"""Share of the patches of a region that can be counted on; the others are under cloud."""


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(reproduce)


def reproduce(
    name: Annotated[str, typer.Argument(help="The experiment; see --list.", show_default=False)] = "",
    listed: Annotated[
        bool, typer.Option("--list", help="List the experiments and what they ask, and do nothing.")
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Patch data set of `quakeslide dataset` with three parts; without it, regions are simulated."
        ),
    ] = None,
    domains: Annotated[str, typer.Option(help="Domains to train on, comma-separated; default: the experiment's.")] = "",
    tests: Annotated[str, typer.Option(help="Domains to test on; default: the experiment's.")] = "",
    network: Annotated[
        str, typer.Option(help="Networks in place of the experiment's, comma-separated, for example msf-litenet.")
    ] = "",
    mixes: Annotated[
        str, typer.Option(help="Training mixes in place of the experiment's, for example Ib500J200,Ib100P600.")
    ] = "",
    patches: Annotated[
        int, typer.Option(min=0, help="Training patches of a mix; 0: the experiment's own number, or all there are.")
    ] = 0,
    seeds: Annotated[str, typer.Option(help="Seeds of training, comma-separated; default: the experiment's.")] = "",
    budget: Annotated[
        str,
        typer.Option(help="Time for everything, for example 30min or 8h; the steps that fit it are measured first."),
    ] = "",
    steps: Annotated[int, typer.Option(min=0, help="Training steps of a full run, instead of a budget.")] = 0,
    rate: Annotated[float, typer.Option(min=0, help="Learning rate in place of the recipes'; 0: the recipes'.")] = 0.0,
    regions: Annotated[
        str,
        typer.Option(help="Simulated regions a domain to train, choose and test on; default: what the patches need."),
    ] = "",
    region_px: Annotated[int, typer.Option(min=96, max=2048, help="Side of a simulated region in pixels.")] = 384,
    bands: Annotated[
        str, typer.Option(help="Band set; default: ten-band for simulated regions, all layers of a data set.")
    ] = "",
    patch_px: Annotated[
        int,
        typer.Option(min=0, max=512, help="Side of a training patch in pixels; 0: the experiment's, or the data's."),
    ] = 0,
    batch: Annotated[int, typer.Option(min=0, help="Patches a step; 0: the experiment's.")] = 0,
    precision: Annotated[
        str, typer.Option(help="Of training: float32, or bfloat16, twice as fast where the processor has it.")
    ] = "float32",
    processes: Annotated[int, typer.Option(min=0, help="Runs at once; 0: one a processor core, or one on a GPU.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    work: Annotated[
        Path, typer.Option(help="Folder that keeps finished runs, models, checkpoints and simulated regions.")
    ] = Path(".quakeslide/experiments"),
    out: Annotated[Path, typer.Option(help="Folder for NAME.md, NAME.json and NAME.png.")] = Path("reports"),
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Say what it would take here, or what is left to do, and train nothing; regions that are missing are "
            "simulated into --work, and some steps are timed, to know it.",
        ),
    ] = False,
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Write the report of what is finished so far, and train nothing.")
    ] = False,
) -> None:
    """Repeat a paper's experiment and hold its tables and claims beside what comes out.

    By default on simulated regions, in as many steps as fit the budget. Checkpoint, temperature and threshold are chosen on
    validation ground; test ground is only scored. Interrupt it at any time: the same command goes on where it stopped, and
    --report-only shows what there is until then.
    """
    from flows.errors import FlowError
    from flows.out_folder import require_folder
    from modeling.benchmark.ledger import Ledger
    from modeling.benchmark.plan import names_of
    from modeling.experiments.engine import agree
    from modeling.experiments.mixes import parse_mix
    from modeling.experiments.registry import experiment
    from modeling.experiments.setting import Setting
    from modeling.prediction.allocator import keep_memory

    if listed:
        _show_list()
        return
    if not name:
        raise FlowError("name an experiment: `quakeslide reproduce --list` shows which there are")
    chosen = experiment(name)
    if budget and steps:
        raise FlowError("give either --budget (for example 8h) or --steps (for example 300), not both")
    require_folder(out)
    keep_memory()
    patches = patches or chosen.patches
    source: Source
    a_region = int(_KNOWN * (region_px // (patch_px or chosen.patch_px)) ** 2)
    source, trained, tested, stored_px = _source(
        chosen, data, domains, tests, bands, _regions(regions, patches, a_region), region_px, work
    )
    here = device_here(device)
    cores = os.cpu_count() or 1
    count = processes or (cores if here == "cpu" else 1)
    setting = Setting(
        source=source,
        networks=names_of(network) or chosen.networks,
        seeds=tuple(numbers(seeds, int, "--seeds")) or chosen.seeds,
        steps=steps or 1,
        domains=trained,
        tests=tested,
        patches=patches,
        mixes=tuple(parse_mix(each, trained) for each in names_of(mixes)),
        batch=batch or chosen.batch,
        patch_px=patch_px or stored_px or chosen.patch_px,
        precision=precision,
        rate=rate or None,
        device=here,
        processes=count,
        threads=max(1, cores // count),
    )
    ledger = Ledger(work / chosen.name)
    if report_only:
        if ledger.plan() is None:
            raise FlowError(
                f"there is nothing to report: no run of {chosen.name} has been begun in {work}; name their folder by --work, "
                "or leave out --report-only to begin"
            )
        setting = _with_steps(setting, ledger)
        agree(chosen, setting, ledger)  # or the report would state options that its runs did not have
        _publish(chosen, setting, ledger, out)
        return
    with ledger.held():
        _carry_out(chosen, setting, ledger, out, budget="" if steps else budget or chosen.budget, dry_run=dry_run)


def _carry_out(
    experiment: Experiment, setting: Setting, ledger: Ledger, out: Path, *, budget: str, dry_run: bool
) -> None:
    from flows.run import say, shown_progress
    from modeling.benchmark.plan import parse_duration
    from modeling.experiments.budget import cost, planned
    from modeling.experiments.engine import checked, execute

    seconds = parse_duration(budget) if budget else None
    with shown_progress():
        setting.source.prepare(os.cpu_count() or 1, _stage("simulate regions"))
        if ledger.plan() is not None:
            setting = setting if seconds is None else _with_steps(setting, ledger)
            if dry_run:
                _say_rest(experiment, setting, ledger)
        elif seconds is not None or dry_run:
            taken = _measured(setting, setting.networks)
            if seconds is not None:
                setting = planned(experiment, setting, seconds, taken)
            expected = cost(checked(experiment.plan(setting)), setting, taken)
            say(f"{expected.runs} runs, {_length(expected, setting)}")
        if dry_run:
            return
        execute(experiment, setting, ledger, follower())
    _publish(experiment, setting, ledger, out)


def _say_rest(experiment: Experiment, setting: Setting, ledger: Ledger) -> None:
    """Say what is left of an experiment that has a plan; steps are measured of the networks that the rest needs."""
    from flows.run import say
    from modeling.experiments.budget import cost, networks_of
    from modeling.experiments.engine import failed, to_do

    runs, rest = to_do(experiment, setting, ledger)
    left = {run.key for run in rest}
    broken = [key for key in failed(experiment, setting, ledger) if key not in left]
    told = (
        f"{len(runs) - len(rest)} of {len(runs)} runs are finished{f', {len(broken)} of them failed' if broken else ''}"
    )
    if not rest:
        say(
            f"{told}, at {setting.steps:,} steps of a full training run: nothing is left to do; --report-only writes the "
            "report"
        )
        return
    networks = networks_of(rest)
    expected = cost(rest, setting, _measured(setting, networks) if networks else {})
    say(f"{told}; {expected.runs} are left, {_length(expected, setting)}")


def _measured(setting: Setting, networks: Sequence[str]) -> Mapping[str, float]:
    """Seconds of a step of each network here."""
    from flows.progress import report
    from modeling.experiments.budget import measured

    return measured(setting, networks, lambda done, n, note: report("measure steps", done, n, note))


def _length(expected: Cost, setting: Setting) -> str:
    return (
        f"{expected.steps:,} steps in all, {setting.steps:,} of a full training run: about {_time(expected.seconds)} here, "
        f"{setting.processes} runs at a time"
    )


def _time(seconds: float) -> str:
    if seconds >= 5400:
        return f"{seconds / 3600:.1f} hours"
    return "a minute" if seconds <= 60 else f"{math.ceil(seconds / 60)} minutes"


def _publish(experiment: Experiment, setting: Setting, ledger: Ledger, out: Path) -> None:
    from flows.run import say
    from modeling.benchmark.speed import this_device
    from modeling.experiments.engine import failed, finished
    from modeling.experiments.report import Made, publish

    made = Made(command_of(sys.argv[1:]), dt.datetime.now(dt.UTC).date().isoformat(), this_device(setting.device))
    broken = failed(experiment, setting, ledger)
    runs = len(experiment.plan(setting))
    paths = publish(experiment, setting, finished(experiment, setting, ledger), broken, runs, made, out)
    for key, why in broken.items():
        say(f"failed: {key}: {why}")
    say(f"report: {paths['md']}")


def _source(
    experiment: Experiment, data: Path | None, domains: str, tests: str, bands: str, regions: tuple[int, int, int],
    region_px: int, work: Path,
) -> tuple[Source, tuple[str, ...], tuple[str, ...], int]:  # fmt: skip
    """The data, the domains to train and to test on, and the side of stored patches (0: any)."""
    from modeling.benchmark.data import Patches, Simulated
    from modeling.benchmark.plan import names_of
    from modeling.errors import DataError

    if data is None:
        trained, tested = names_of(domains) or experiment.domains, names_of(tests) or experiment.tests
        unseen = tuple(name for name in tested if name not in trained)
        simulated = Simulated(
            work / "regions", trained, *regions, size_px=region_px, bands=bands or "ten-band", unseen=unseen
        )
        return simulated, trained, tested, 0
    stored = Patches(data, bands)
    for name in (*names_of(domains), *names_of(tests)):
        if name not in stored.domains:
            raise DataError(f"{data} has no domain {name!r}: it has {', '.join(stored.domains)}")
    trained = names_of(domains) or stored.having("training")
    tested = names_of(tests) or stored.having("test")
    return stored, trained, tested, stored.patch_px


def command_of(arguments: Sequence[str]) -> str:
    """What was typed, without where this machine keeps its work and whether there was only a report to write."""
    words = [word for word in arguments if word != "--report-only" and not word.startswith("--work=")]
    kept = [word for before, word in pairwise(["", *words]) if "--work" not in (before, word)]
    return shlex.join(["quakeslide", *kept])


def _regions(text: str, patches: int, a_region: int) -> tuple[int, int, int]:
    from flows.errors import FlowError

    if not text:
        if not patches:
            return _REGIONS
        needed = [max(1, math.ceil(share * patches / max(a_region, 1))) for share in (1, 3 / 7)]
        return needed[0], needed[1], _REGIONS[2]
    counts = numbers(text, int, "--regions")
    if len(counts) != 3:
        raise FlowError(f"--regions {text!r} must be three numbers: to train, to choose and to test on")
    return counts[0], counts[1], counts[2]


def _with_steps(setting: Setting, ledger: Ledger) -> Setting:
    """The setting with the steps of the runs that are there."""
    stated = ledger.plan()
    return setting if stated is None else replace(setting, steps=int(stated["steps"]))


def _show_list() -> None:
    from rich.table import Table

    from flows.run import CONSOLE
    from modeling.experiments.registry import experiment, names

    table = Table("name", "paper", "asks", "networks", "time")
    for each in map(experiment, names()):
        table.add_row(each.name, each.paper, each.asks, ", ".join(each.networks), each.budget)
    CONSOLE.print(table)


def _stage(name: str) -> Callable[[int, int], None]:
    from flows.progress import report

    return lambda done, total: report(name, done, total)
