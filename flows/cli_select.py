"""`quakeslide select`: which network would map an event, without any label of it, and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from flows.choice import Selection
    from flows.request import MapRequest
    from flows.scene import Scene
    from flows.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(select)


def select(
    event: Annotated[
        str, typer.Argument(help="USGS event id, or the folder of a cube (.zarr); none with --pre, --post and --dem.")
    ] = "",
    pre: Annotated[
        list[Path] | None,
        typer.Option(help="GeoTIFF before the event, instead of an event; give it again for bands in separate files."),
    ] = None,
    post: Annotated[
        list[Path] | None,
        typer.Option(help="GeoTIFF after it, on the same grid; give it again for bands in separate files."),
    ] = None,
    dem: Annotated[Path | None, typer.Option(help="GeoTIFF with elevation in metres.")] = None,
    bands: Annotated[str | None, typer.Option(help="Order of the rasters' bands, as for map-raster.")] = None,
    scale: Annotated[float | None, typer.Option(help="Reflectance per digital number, as for map-raster.")] = None,
    zoo: Annotated[
        list[Path] | None,
        typer.Option(help="Folder with further models, as `quakeslide train` writes them; repeatable."),
    ] = None,
    by: Annotated[
        str,
        typer.Option(
            help="Rank by disagreement (each model's own map of a few windows against what all say together), mean_mmd2 "
            "(mean over the channels, as Yang et al. 2024), joint_mmd2, max_mmd2 or relative_mmd2 (as a share of what is "
            "normal for the model). auto: disagreement where four models or more can be chosen, else mean_mmd2."
        ),
    ] = "auto",
    aoi: Annotated[Path | None, typer.Option(help="Vector file with the area, as for map.")] = None,
    event_date: Annotated[str | None, typer.Option(help="Origin time (ISO 8601, UTC), as for map.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of recorded data for the local stand-ins.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Even when the event is below the rule.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for selection.json and selection.png.")] = Path("selection"),
) -> None:
    """Rank all models for a new event, without labels, and say why.

    The values of the scene are compared with those of the ground that each model was trained on, channel by channel and
    together (maximum mean discrepancy). Models that can use more of the scene's channels come first. Of four or more of
    those each maps a few windows, and the one whose map agrees best with what all say together is taken; of fewer the nearest.
    A warning says when no model is near. The cube of an event is pulled if it is not there yet; `quakeslide map` then
    uses the same one, and makes the same choice by itself.

    Example: quakeslide select us7000abcd --zoo models
    """
    from flows.errors import FlowError
    from flows.out_folder import require_folder
    from flows.run import CONSOLE, say, shown_progress
    from flows.selection import select_model, zoo_of
    from flows.settings import load_settings
    from modeling.domains.select import SIGNALS, VOTED

    rasters = (pre, post, dem)
    if bool(event) == any(rasters) or not (event or all(rasters)):
        raise FlowError("name an event or a cube, or give all of --pre, --post and --dem")
    possible = ["auto", VOTED, *(name for name in SIGNALS if name.endswith("mmd2"))]
    if by not in possible:
        raise FlowError(f"--by {by!r}: choose one of {', '.join(possible)}")
    require_folder(out)
    settings = _with_zoo(load_settings(), zoo or [])
    models = zoo_of(settings.model)
    for each in models.left_out:
        say(f"left out: {each.name}: {each.reason}")
    with shown_progress():
        if pre and post and dem:
            names = None if bands is None else tuple(part.strip() for part in bands.split(","))
            opened = _of_rasters(pre, post, dem, names, scale, settings)
        elif event.rstrip("/").endswith(".zarr"):
            opened = _of_cube(event, settings)
        else:
            opened = _of_event(_request(event, aoi, event_date, force=force), settings, data)
        with opened as scene:
            found = select_model(
                scene, models, automatic=True, signal=None if by == "auto" else by,
                scene_means=settings.model.scene_means,
            )  # fmt: skip
    write_files(found, out)
    CONSOLE.print(_table(found))
    for number, one in enumerate(found.candidates, start=1):
        say(f"{number}. {one.name}: {'; '.join(one.reasons)}")
    if not found.pixels:
        say(
            "warning: hardly a pixel of the scene was seen with all channels, so no model was compared with it: the order "
            "goes by channels and validation scores alone"
        )
    if found.warning:
        say(f"warning: {found.warning}")
    written = ["selection.json", *["selection.png"] * any(one.bands is not None for one in found.candidates)]
    say(f"{found.chosen} would map it; {', '.join(str(out / name) for name in written)}")


def write_files(found: Selection, out: Path) -> None:
    """Write selection.json and, where anything was compared, selection.png into `out`."""
    from modeling.figures.distances import BandPoint, distance_chart

    out.mkdir(parents=True, exist_ok=True)
    partial = out / "selection.json.partial"
    partial.write_text(found.to_json() + "\n", encoding="utf-8")
    partial.replace(out / "selection.json")
    compared = {
        one.name: {
            name: BandPoint(band.distance, band.low, band.high, name in one.far_bands)
            for name, band in one.bands.items()
        }
        for one in found.candidates
        if one.bands is not None
    }
    if compared:
        channels = dict.fromkeys(name for bands in compared.values() for name in bands)
        distance_chart(out / "selection.png", compared, tuple(channels))


def _with_zoo(settings: Settings, folders: list[Path]) -> Settings:
    model = settings.model.model_copy(
        update={"weights": "auto", "zoo": (*settings.model.zoo, *(str(folder) for folder in folders))}
    )
    return settings.model_copy(update={"model": model})


@contextmanager
def _of_rasters(
    pre: Sequence[Path], post: Sequence[Path], dem: Path, bands: tuple[str, ...] | None, scale: float | None,
    settings: Settings,
) -> Iterator[Scene]:  # fmt: skip
    from flows.alignment import AlignedScene, measure_alignment
    from flows.map_raster import PairScene
    from modeling.rasters.raster_pair import Scaling, open_pair

    with open_pair(pre, post, dem, bands=bands, scaling=Scaling(scale=scale)) as pair:
        plain = PairScene(pair)
        yield AlignedScene(plain, measure_alignment(plain, settings.alignment))


@contextmanager
def _of_cube(address: str, settings: Settings) -> Iterator[Scene]:
    from flows.alignment import AlignedScene, measure_alignment
    from gee.scenecube import open_cube

    cube = open_cube(address, settings.storage.endpoint)
    yield AlignedScene(cube, measure_alignment(cube, settings.alignment))


@contextmanager
def _of_event(request: MapRequest, settings: Settings, data: Path | None) -> Iterator[Scene]:
    from flows.alignment import AlignedScene, measure_alignment
    from flows.map_event import pull_cube, read_cube
    from flows.planning import check_rule, find_event, make_plan
    from flows.preflight import require_services
    from flows.reaching import connected
    from flows.run import say
    from flows.services import services
    from flows.usgs import UsgsClient

    with services(settings, data, prefect=False) as local:
        here = local.model_copy(update={"model": settings.model})
        require_services(here, usgs=request.area_wkt is None or request.event_time is None)
        with UsgsClient(here.usgs.url, here.usgs.timeout_s) as usgs, connected(here) as session:
            event = find_event(request, usgs)
            say(f"{event.title}: {check_rule(event, request, here)}")
            plan = make_plan(request, event, here, session, usgs)
        pull_cube.fn(plan, here)
        cube = read_cube(plan, here)
        yield AlignedScene(cube, measure_alignment(cube, here.alignment))


def _request(event_id: str, aoi: Path | None, event_date: str | None, *, force: bool) -> MapRequest:
    from flows.area import area_from_file
    from flows.moments import moment_of
    from flows.request import MapRequest

    area = None if aoi is None else area_from_file(aoi)
    return MapRequest(
        event_id=event_id,
        area_wkt=None if area is None else area.geometry.wkt,
        area_reason="" if area is None else area.reason,
        event_time=None if event_date is None else moment_of(event_date, "--event-date"),
        force=force,
        truth=None,
    )


def _table(found: Selection) -> Table:
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(box=SIMPLE, pad_edge=False, padding=(0, 0, 0, 1), title_justify="left")
    table.title = f"Models, best first: {found.pixels:,} pixels compared, {100 * found.known:.0f} % of the ground known"
    table.add_column("model", no_wrap=True)
    for name in ("distance", "±", "limit", "joint", "far", "apart", "F1"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in found.candidates:
        mean, joint = one.mean, one.joint
        table.add_row(
            one.name,
            _number(None if mean is None else mean.distance),
            _number(None if mean is None else (mean.high - mean.low) / 2),
            _number(one.limit),
            _number(None if joint is None else joint.distance),
            f"lacks {len(one.missing)}" if one.missing else f"{len(one.far_bands)} of {len(one.bands or ())}",
            _number(one.disagreement),
            _number(one.validation_f1),
        )
    return table


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
