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
    from modeling.uncertainty.shift import HighConfidence


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
        float | None,
        typer.Option(
            min=0.3,
            max=0.95,
            help="Rate of the intervals; default: 0.8, or 0.75 of 4 domains and 0.67 of 3.",
            show_default=False,
        ),
    ] = None,
    region_px: Annotated[int, typer.Option(min=96, max=2048, help="Side of a simulated event in pixels.")] = 512,
    work: Annotated[Path, typer.Option(help="Folder that keeps the simulated events.")] = Path(".quakeslide/events"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Measure and tell, and change nothing.")] = False,
) -> None:
    """Fit intervals on an event's total landslide area and count, and probabilities for unseen ground, and store them.

    Simulated events of domains that the model has not learned from are mapped. What is stored in the model's JSON: intervals
    that reports and STAC items then state, a temperature, and how sure the network must be before a probability of 0.9 and
    more is stated, so that hardly any such pixel is wrong. Weights and mask stay the same. How often the intervals covered
    the truth, and what the probabilities are worth, is measured on each domain with what the others give, and told.
    """
    from flows.progress import report
    from flows.run import say, shown_progress
    from modeling.domains.sample_file import load_fingerprint, sample_path
    from modeling.errors import DataError
    from modeling.model import load_model
    from modeling.training.card import write_card
    from modeling.uncertainty.calibrate import calibrated_on
    from modeling.uncertainty.conformal import measurable_level
    from modeling.uncertainty.events import FIRST_SEED
    from modeling.uncertainty.stored import store_description

    path = Path(model)
    if path.suffix != ".safetensors":
        raise DataError(f"{model} is not the path of a .safetensors file: its JSON beside it is what is written to")
    loaded = load_model(path)
    sample = load_fingerprint(sample_path(path)) if sample_path(path).is_file() else None
    names = _domains(domains, loaded, sample)
    stated = measurable_level(names, level)
    about = {"command": shlex.join(["quakeslide", *sys.argv[1:]]), "simulated": True, "events_each": events,
             "region_px": region_px, "first_seed": FIRST_SEED}  # fmt: skip
    with shown_progress():
        found = calibrated_on(
            loaded, _events(loaded, names, events, region_px, work), sample=sample, level=stated, about=about,
            told=lambda done, total: report("map simulated events", done, total),
        )  # fmt: skip
    for line in _lines(found):
        say(line)
    if dry_run:
        say("nothing was written")
        return
    say(f"stored in {store_description(path, found.model)}")
    if path.with_suffix(".md").is_file():
        say(f"told in {write_card(path, found.model)}")


def _domains(text: str, model: LandslideModel, sample: Fingerprint | None) -> tuple[str, ...]:
    from modeling.benchmark.plan import names_of
    from modeling.errors import DataError
    from modeling.simulate.domains import domain
    from modeling.uncertainty.events import unseen_domains

    asked = tuple(dict.fromkeys(names_of(text)))
    for name in asked:
        domain(name)
    if sample is not None and (learnt := [name for name in asked if name in sample.domains]):
        raise DataError(
            f"{model.name} has learned from {', '.join(learnt)}: name domains that it has not seen, for example "
            f"{', '.join(unseen_domains(sample.domains))}"
        )
    if asked:
        return asked
    if sample is None:
        raise DataError(f"{model.name} does not say what it has learned from: name --domains that it has not seen")
    return unseen_domains(sample.domains)


def _events(model: LandslideModel, names: tuple[str, ...], each: int, region_px: int, work: Path) -> RegionBlocks:
    """Simulated events, those that are missing made first."""
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from multiprocessing import get_context

    from flows.progress import report
    from modeling.data.dataset import RegionBlocks, open_region
    from modeling.data.patch_simulate import region_of
    from modeling.uncertainty.events import event_plans

    plans = event_plans(names, each, region_px)
    with ProcessPoolExecutor(os.cpu_count() or 1, mp_context=get_context("spawn")) as pool:
        coming = [pool.submit(region_of, work, plan) for plan in plans]
        for done, future in enumerate(as_completed(coming), start=1):
            future.result()
            report("simulate events", done, len(plans))
    return RegionBlocks([open_region(region_of(work, plan)) for plan in plans], model.bands)


def _after(claims: HighConfidence) -> str:
    if not claims.claimed:
        return "nothing is stated so surely after"
    return f"{100 * claims.share:.1f} % after, which {100 * claims.reached:.1f} % of its landslide pixels reach"


def _lines(found: Calibrated) -> list[str]:
    covered = found.covered
    lines = [
        f"total {name}: {100 * covered.share[name]:.0f} % of {covered.events} events covered [{100 * covered.low[name]:.0f} "
        f"to {100 * covered.high[name]:.0f}], {100 * covered.level:.0f} % stated; upper end {covered.factor[name]:.1f} times "
        f"the lower one, {covered.factor_of_all[name]:.1f} times with all domains, as stored"
        for name in covered.share
    ]
    lines += [
        f"{domain}: area {100 * covered.by_domain[domain]['area']:.0f} %, count "
        f"{100 * covered.by_domain[domain]['count']:.0f} % covered; wrong at 0.9: {100 * before.share:.1f} % before, "
        f"{_after(found.after[domain])}; probabilities of its map off by {100 * found.errors[domain][0]:.1f} points before, "
        f"{100 * found.errors[domain][1]:.1f} after"
        for domain, before in found.before.items()
    ]
    return lines
