"""What the commands show of a run: live progress, the plan, the models, and the result as a small table."""

from __future__ import annotations

import datetime as dt
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Column, Table

from flows import progress
from flows.facts import ReportFacts
from flows.layout import FACTS, EventLayout
from flows.out_folder import require_folder
from flows.preflight import require_services
from flows.request import MapRequest
from flows.services import applied
from flows.settings import Settings

CONSOLE = Console(highlight=False)


@contextmanager
def shown_progress() -> Iterator[None]:
    """Show every reported stage as a bar, or as a line every five seconds where there is no terminal."""
    if not sys.stdout.isatty():
        stop = progress.listen(progress.throttled(_print_line, every_s=5.0))
        try:
            yield
        finally:
            stop()
        return
    columns = (TextColumn("{task.description:<20}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bars(*columns, TimeRemainingColumn(), TextColumn("{task.fields[note]}"), console=CONSOLE) as bars:
        tasks = {}

        def relay(report: progress.Progress) -> None:
            if report.stage not in tasks:
                tasks[report.stage] = bars.add_task(report.stage, total=report.total or None, note="")
            bars.update(tasks[report.stage], completed=report.done, total=report.total or None, note=report.note)

        stop = progress.listen(relay)
        try:
            yield
        finally:
            stop()


def _print_line(report: progress.Progress) -> None:
    if report.total == 1:
        say(f"  {report.stage}{': done' if report.done else ' …'} {report.note}".rstrip())
        return
    total = f"/{report.total}" if report.total else ""
    say(f"  {report.stage}: {report.done}{total} {report.note}".rstrip())


def say(text: str) -> None:
    """Tell the user one line."""
    CONSOLE.print(text, markup=False, soft_wrap=True)


def map_to_folder(request: MapRequest, settings: Settings, out: Path) -> Path:
    """Run the flow for a request, copy the version to `out/<event>/v0001` and show what it says; returns the folder.

    Raises `ServiceError` or `GeeError` naming a service that does not answer before anything is begun.
    """
    require_folder(out)
    require_services(settings, usgs=request.area_wkt is None or request.event_time is None)
    with prefect_results_aside(), shown_progress():
        from flows.copies import download_version
        from flows.map_event import map_event
        from flows.reaching import bucket

        publication = map_event(request)
        with bucket(settings) as store:
            folder = download_version(store, publication, out)
    facts = ReportFacts.from_json((folder / FACTS).read_text())
    show_result(facts, publication.version, folder)
    return folder


@contextmanager
def prefect_results_aside() -> Iterator[None]:
    """Let what Prefect keeps of a failed flow, a pickled exception, go with this run instead of into the user's home.

    Prefect reads this setting when it is imported.
    """
    with TemporaryDirectory(prefix="quakeslide-", ignore_cleanup_errors=True) as folder:
        name = "PREFECT_RESULTS_LOCAL_STORAGE_PATH"
        with applied({name: os.environ.get(name, folder)}):
            yield


def show_result(facts: ReportFacts, version: int | None, folder: Path) -> None:
    """Print where the products are and what they say."""
    title = facts.event.title if version is None else f"{facts.event.title}, version {version}"
    table = Table(title=title, show_header=False, title_justify="left")
    table.add_column("what")
    table.add_column("value", justify="right")
    table.add_row("area of interest", f"{facts.coverage.area_km2:,.1f} km²")
    for row in facts.coverage.rows:
        label = "mapped (observed)" if row.label == "observed" else f"not observed: {row.label}"
        table.add_row(label, f"{row.area_km2:,.1f} km² ({row.percent:.1f} %)")
    table.add_row("landslides found", f"{facts.inventory.count:,}")
    table.add_row("their total area", f"{facts.inventory.total_area_m2 / 1e6:,.3f} km²")
    for each in facts.scores:
        table.add_row(
            f"{each.name} against {'the simulated' if facts.event.simulated else 'the given'} truth",
            f"pixel F1 {each.pixel['f1']:.3f}, IoU {each.pixel['iou']:.3f}, landslides F1 {each.objects['f1']:.3f}",
        )
    CONSOLE.print(table)
    if facts.selection is not None and facts.selection.warning:
        say(f"warning: {facts.selection.warning}")
    for note in facts.notes:
        say(f"note: {note}")
    say(f"products: {folder}")
    say(f"report:   {folder / 'report.html'}")


def show_plan(request: MapRequest, settings: Settings) -> None:
    """Print what mapping an event would take; nothing is launched and nothing is written."""
    from flows.mapping import execution_for
    from flows.planning import check_rule, find_event, make_plan
    from flows.reaching import connected
    from flows.sizing import estimate, measured_speed, overlap_of, plan_rows
    from flows.speed import Speed
    from flows.usgs import UsgsClient
    from gee.budget import Account, Budget
    from gee.coverage import clear_share
    from modeling.model import load_model
    from modeling.prediction.inference import prepare, working_bytes_per_pixel

    with UsgsClient(settings.usgs.url, settings.usgs.timeout_s) as usgs, connected(settings) as session:
        with CONSOLE.status("asking USGS and Earth Engine"):
            event = find_event(request, usgs)
            rule = check_rule(event, request, settings)
            plan = make_plan(request, event, settings, session, usgs)
            share = clear_share(session, plan.cube)
        model = load_model(plan.model)
        execution = execution_for(model, settings.model)
        ready, side = prepare(model, execution), min(execution.tile_px, 512)

        def run_tile() -> int:
            ready.probability(torch.zeros(1, len(model.channels), side, side)).cpu()
            return side * side

        needed = working_bytes_per_pixel(model, execution.precision, torch.device(execution.device))
        bare_px_per_s = measured_speed(run_tile)
        speed = Speed(bare_px_per_s / overlap_of(execution), "measured on this machine just now")
        cost = estimate(plan, settings, bare_px_per_s, execution, needed)
    table = Table(title="Plan (nothing is launched)", show_header=False, title_justify="left")
    rows = [("rule", rule), *plan_rows(plan, speed)]
    rows += [
        ("clear coverage", ", ".join(f"{name} {100 * value:.0f} %" for name, value in share.items()) + " (estimated)"),
        ("expected time", f"{cost.seconds / 60:.1f} min"),
        ("expected compute", str(Account(plan.cube, Budget()).estimate())),
        ("expected memory", f"{cost.memory_mb / 1000:.1f} GB"),
    ]
    for what, value in rows:
        table.add_row(what, value)
    CONSOLE.print(table)


def tidy_event(event_id: str, settings: Settings) -> None:
    """Remove what runs of an event have left in Earth Engine that were never published, and print it."""
    from flows.reaching import bucket, connected
    from flows.tidy import tidy

    event = EventLayout(f"gs://{settings.storage.bucket}", event_id)
    with bucket(settings) as store, connected(settings) as session:
        removed = tidy(session, store, event, settings, dt.datetime.now(dt.UTC))
    for name in removed:
        say(f"removed: {name}")
    say(f"removed from Earth Engine: {len(removed)} that unpublished runs of {event_id} have left")


def show_models() -> None:
    """Print the shipped networks, what each needs, and how it scored on simulated regions of a kind it never saw."""
    from modeling.model import available_models, load_model

    scored = "pixel F1, simulated held-out regions"
    name_of = Column("name", no_wrap=True)  # it is what `model.weights` takes
    table = Table(name_of, "needs", "threshold", scored, title="Networks (trained on simulated data only)")
    for name in available_models():
        model = load_model(name)
        score = model.card["scores"]["held out"]["model"]["pixels"]["f1"]
        table.add_row(name, ", ".join(model.bands.requires), f"{model.threshold:.2f}", f"{score:.2f}")
    CONSOLE.print(table)
