"""The command `quakeslide adapt`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.errors import FlowError

if TYPE_CHECKING:
    from flows.adapt_request import Outcome

REFUSED = 3
"""Exit status when the adapted map is not published because it is worse, or was not shown to be better."""


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("adapt")(adapt)


def adapt(
    event: Annotated[
        str, typer.Argument(help="An event with a published version, or a folder of `quakeslide map-raster`.")
    ],
    labels: Annotated[
        Path,
        typer.Argument(
            help="Polygons (GeoJSON, GeoPackage, GeoParquet, FlatGeobuf, shapefile) with a property `class` or `label`: "
            "landslide or not-landslide."
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="Folder that receives a copy of the version; for a folder of rasters, the new folder.")
    ] = Path("products"),
    version: Annotated[int | None, typer.Option(min=1, help="The version to begin with; default: the newest.")] = None,
    reach: Annotated[
        float, typer.Option(help="Ground within so many metres of a polygon counts as looked at.")
    ] = 1000.0,
    budget: Annotated[
        float,
        typer.Option(help="What may change where nobody looked, as a share of the landslide area there; 0: nothing."),
    ] = 0.25,
    seconds: Annotated[float, typer.Option(help="Time to adapt and judge; the map comes on top.")] = 150.0,
    seed: Annotated[int, typer.Option(min=0, help="Of windows and draws.")] = 0,
    unproven: Annotated[
        bool, typer.Option("--unproven", help="Publish also what was not shown to be better, unless it is worse.")
    ] = False,
    weights: Annotated[
        str | None, typer.Option(help="The .safetensors that made the map, if it does not ship.")
    ] = None,
    pre: Annotated[
        list[Path] | None,
        typer.Option(
            help="For a folder: the GeoTIFF before the event that it was made from; give it again for bands in separate files."
        ),
    ] = None,
    post: Annotated[
        list[Path] | None,
        typer.Option(help="For a folder: the GeoTIFF after the event; give it again for bands in separate files."),
    ] = None,
    dem: Annotated[Path | None, typer.Option(help="For a folder: the elevation model.")] = None,
    bands: Annotated[str | None, typer.Option(help="For a folder: the order of bands, as for map-raster.")] = None,
    scale: Annotated[float | None, typer.Option(help="For a folder: reflectance per digital number.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of recorded data that the local stand-ins serve.")] = None,
) -> None:
    """Adapt a map to polygons that you have drawn on it, and publish it as a new version if it is better.

    Draw 5 to 50 polygons on the map, of landslides and of what is none, above all where the map is wrong, and in several
    places: part of them is held out, in turn, to judge by. Draw as many landslides that the map has found: what share it
    finds tells what claiming more, or less, does to the map as a whole, and where nearly all were missed nothing is called
    better. The network is adapted, the event mapped again, and
    both maps are scored. When the adapted one is worse, on held-out polygons or as a whole, or was not shown to be better,
    nothing is published and the exit status is 3. Polygons that cannot be used are named; the exit status is then 2, and
    nothing is written.

    Ground further than --reach from any polygon keeps its class unless it is like what you drew; every such change is
    counted, listed and shown in the report, and marked in changes.tif.
    """
    from flows.adapt_request import AdaptRequest
    from flows.labels_file import read_labels
    from flows.out_folder import require_folder
    from flows.run import prefect_results_aside, say, shown_progress
    from flows.settings import load_settings

    read_labels(labels)  # what is wrong with it is said before anything is started
    request = AdaptRequest(
        event_id=event, labels=str(labels.resolve()), version=version, weights=weights, reach_m=reach, budget=budget,
        seconds=seconds, seed=seed, unproven=unproven,
    )  # fmt: skip
    _ = request.how  # raises for numbers that mean nothing
    if Path(event).is_dir():
        from flows.adapt_folder import adapt_folder
        from flows.adapt_parent import Rasters
        from flows.interruption import beginning_anew

        if not (pre and post and dem):
            raise FlowError(f"{event} is a folder: give the rasters that it was made from by --pre, --post and --dem")
        names = None if bands is None else tuple(part.strip() for part in bands.split(","))
        with beginning_anew(), shown_progress():
            rasters = Rasters(tuple(pre), tuple(post), dem, names, scale)
            outcome = adapt_folder(request, rasters, out, load_settings())
        _show(outcome, outcome.folder)
        return
    require_folder(out)
    from flows.preflight import require_services
    from flows.services import services

    with services(load_settings(), data, prefect=True) as settings:
        require_services(settings, usgs=False)
        with prefect_results_aside(), shown_progress():
            from flows.adapt import adapt_event
            from flows.copies import download_version
            from flows.reaching import bucket

            outcome = adapt_event(request)
            folder = None
            if outcome.publication is not None:
                with bucket(settings) as store:
                    folder = download_version(store, outcome.publication, out)
    if outcome.publication is not None:
        say(f"version {outcome.publication.version} of {event}")
    _show(outcome, folder)


def _show(outcome: Outcome, folder: Path | None) -> None:
    """Print the scores before and after, what changed, and where the version is; leave with `REFUSED` without one."""
    from rich.table import Table

    from flows.adapt_facts import ADAPTED_SCORES
    from flows.run import CONSOLE, say

    facts = outcome.adaptation
    judgement = facts.judgement
    table = Table("held-out polygons", "before", "after", "difference, 95 %", title="Adaptation", title_justify="left")
    for name, shown in ADAPTED_SCORES.items():
        gain = judgement.gain[name]
        told = f"{gain.value:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})"
        table.add_row(shown, f"{judgement.before[name].value:.3f}", f"{judgement.after[name].value:.3f}", told)
    of = f"of {facts.judged_polygons}"
    table.add_row("polygons mostly right", f"{facts.right_before} {of}", f"{facts.right_after} {of}", "")
    CONSOLE.print(table)
    say(outcome.text)
    for note in facts.notes:
        say(f"note: {note}")
    for row in facts.changes:
        say(f"{row.area_m2 / 1e4:,.1f} ha {row.label}")
    if folder is None:
        say("not published: the version before stays the newest" + _hint(outcome))
        raise typer.Exit(REFUSED)
    say(f"products: {folder}")
    say(f"report:   {folder / 'report.html'}")


def _hint(outcome: Outcome) -> str:
    facts = outcome.adaptation
    if facts.judgement.verdict != "unproven" or (facts.whole is not None and facts.whole.worse):
        return ""
    more = "landslides that the map has found" if facts.judgement.one_sided else "more polygons"
    return f"; draw {more}, or publish it all the same with --unproven"
