"""`quakeslide calibrate`: how far a model's probabilities and totals can be believed in regions that it has not seen."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from modeling.data.dataset import RegionBlocks
    from modeling.domains.fingerprint import Fingerprint
    from modeling.model import LandslideModel
    from modeling.uncertainty.calibrate import Calibrated

_FIRST_SEED = 7_000_000
"""Seeds of these events begin here: no data set, benchmark or shipped model has regions of the same seeds."""


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(calibrate)


def calibrate(
    model: Annotated[str, typer.Argument(help="The path of a model's .safetensors file.", show_default=False)],
    domains: Annotated[
        str, typer.Option(help="Simulated domains, comma-separated; default: all that the model has not learned from.")
    ] = "",
    events: Annotated[int, typer.Option(min=2, help="Simulated events of each domain.")] = 12,
    level: Annotated[
        float, typer.Option(min=0.3, max=0.95, help="Rate of the intervals; 0.8 needs 5 domains, one to be left out.")
    ] = 0.8,
    region_px: Annotated[int, typer.Option(min=96, max=2048, help="Side of a simulated event in pixels.")] = 512,
    work: Annotated[Path, typer.Option(help="Folder that keeps the simulated events.")] = Path(".quakeslide/events"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Measure and tell, and change nothing.")] = False,
) -> None:
    """Fit intervals on an event's total landslide area and count, and a temperature for unseen ground, and store them.

    Simulated events of domains that the model has not learned from are mapped. What is stored in the model's JSON: intervals
    that reports and STAC items then state, and a temperature at which hardly any pixel mapped with a probability of 0.9 and
    more is wrong. Weights and mask stay the same. How often the intervals covered the truth is measured on each domain
    with those fitted to the others, and told.
    """
    from flows.progress import report
    from flows.run import say, shown_progress
    from modeling.domains.sample_file import load_fingerprint, sample_path
    from modeling.errors import DataError
    from modeling.model import load_model
    from modeling.uncertainty.calibrate import calibrated_on
    from modeling.uncertainty.stored import store_description

    path = Path(model)
    if path.suffix != ".safetensors":
        raise DataError(f"{model} is not the path of a .safetensors file: its JSON beside it is what is written to")
    loaded = load_model(path)
    sample = load_fingerprint(sample_path(path)) if sample_path(path).is_file() else None
    names = _domains(domains, loaded, sample)
    about = {"command": shlex.join(["quakeslide", *sys.argv[1:]]), "simulated": True, "events_each": events,
             "region_px": region_px, "first_seed": _FIRST_SEED}  # fmt: skip
    with shown_progress():
        found = calibrated_on(
            loaded, _events(loaded, names, events, region_px, work), sample=sample, level=level, about=about,
            told=lambda done, total: report("map simulated events", done, total),
        )  # fmt: skip
    for line in _lines(found):
        say(line)
    if dry_run:
        say("nothing was written")
        return
    say(f"stored in {store_description(path, found.model)}")


def _domains(text: str, model: LandslideModel, sample: Fingerprint | None) -> tuple[str, ...]:
    from modeling.benchmark.plan import names_of
    from modeling.errors import DataError
    from modeling.simulate.domains import DOMAINS, domain

    asked = names_of(text)
    for name in asked:
        domain(name)
    if asked:
        return asked
    if sample is None:
        raise DataError(f"{model.name} does not say what it has learned from: name --domains that it has not seen")
    return tuple(name for name in DOMAINS if name not in sample.domains)


def _events(model: LandslideModel, names: tuple[str, ...], each: int, region_px: int, work: Path) -> RegionBlocks:
    """Simulated events, those that are missing made first."""
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from multiprocessing import get_context

    from flows.progress import report
    from modeling.data.dataset import RegionBlocks, open_region
    from modeling.data.patch_simulate import RegionPlan, region_of
    from modeling.simulate.domains import DOMAINS

    known = list(DOMAINS)
    plans = [
        RegionPlan(name, _FIRST_SEED + 1000 * known.index(name) + number, region_px)
        for name in names
        for number in range(each)
    ]
    with ProcessPoolExecutor(os.cpu_count() or 1, mp_context=get_context("spawn")) as pool:
        coming = [pool.submit(region_of, work, plan) for plan in plans]
        for done, future in enumerate(as_completed(coming), start=1):
            future.result()
            report("simulate events", done, len(plans))
    return RegionBlocks([open_region(region_of(work, plan)) for plan in plans], model.bands)


def _lines(found: Calibrated) -> list[str]:
    covered = found.covered
    lines = [
        f"total {name}: {100 * covered.share[name]:.0f} % of {covered.events} events covered [{100 * covered.low[name]:.0f} "
        f"to {100 * covered.high[name]:.0f}], {100 * covered.level:.0f} % stated; upper end {covered.factor[name]:.1f} times "
        "the lower one"
        for name in covered.share
    ]
    lines += [
        f"{domain}: area {100 * covered.by_domain[domain]['area']:.0f} %, count "
        f"{100 * covered.by_domain[domain]['count']:.0f} % covered; wrong at 0.9: {100 * before.share:.1f} % before, "
        f"{100 * found.after[domain].share:.1f} % after, which {100 * found.after[domain].reached:.0f} % of its landslide "
        "pixels reach"
        for domain, before in found.before.items()
    ]
    return lines
