"""The command line: one thin function a command; what they do lives in the other modules."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, cast

import httpx
import typer

from flows import (
    cli_adapt,
    cli_calibrate,
    cli_campaign,
    cli_evaluate,
    cli_geology,
    cli_reproduce,
    cli_running,
    cli_select,
    cli_train,
    cli_unlabelled,
    cli_watch,
)
from flows.cli_dataset import app as dataset
from flows.errors import FlowError
from flows.interruption import INTERRUPTED, beginning_anew
from flows.logs import logging_environment
from flows.moments import moment_of
from gee.errors import GeeError
from infra.local.stack import StackError
from modeling.errors import ModelingError

if TYPE_CHECKING:
    from flows.request import MapRequest
    from flows.settings import Settings

BAD_INPUT = 2
"""Exit status when something is wrong with what was asked or with a service that it needs."""

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_PLACE = (errno.ENAMETOOLONG, errno.EROFS, errno.ELOOP, errno.EINVAL)
# Typer has had click within itself since 0.26, and names this class nowhere.
_UsageError = cast(type[Exception], typer.BadParameter.__base__)

app = typer.Typer(
    help="Map the landslides that an earthquake has just triggered: a USGS event in, a published map out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
local = typer.Typer(help="The local stand-ins for Earth Engine, Cloud Storage, USGS and Prefect.", no_args_is_help=True)
app.add_typer(local, name="local")

EventId = Annotated[str, typer.Argument(help="USGS event id, for example us2000h8ty.")]
Aoi = Annotated[
    Path | None, typer.Option(help="Vector file with the area to map, instead of the one from the ShakeMap.")
]
EventDate = Annotated[
    str | None, typer.Option(help="Origin time (ISO 8601, UTC), instead of the USGS's. With --aoi, any name may be EVENT_ID.")
]  # fmt: skip
Data = Annotated[
    Path | None,
    typer.Option(help="Folder of recorded data that the local stand-ins serve (usgs/, iburi2018/, or a catalogue/)."),
]
Force = Annotated[bool, typer.Option("--force", help="Map the event even when it is below the rule.")]
Rules = Annotated[
    str | None,
    typer.Option(
        help="Which mapped regions are dropped, each with its reason: `none` but small ones, `geology` (area, elongation, "
        "slope), `learnt:FILE` (see learn-rules). Default: the setting model.rules."
    ),
]  # fmt: skip
Out = Annotated[Path, typer.Option(help="Folder that receives a copy of the products.")]


@app.callback()
def options(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show Prefect's log of the run, too.")] = False,
) -> None:
    """Options of every command."""
    if not verbose:
        # Errors are told in one line below; Prefect's log of them stays with the run, on its server.
        os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
        os.environ.setdefault("PREFECT_LOGGING_INTERNAL_LEVEL", "CRITICAL")
    for name, value in logging_environment().items():  # read when Prefect is imported
        os.environ.setdefault(name, value)


@app.command()
def demo(
    out: Out = Path("demo"),
    seed: Annotated[int, typer.Option(help="Seed of the simulated earthquake.")] = 20260101,
    size: Annotated[int, typer.Option(min=256, max=4096, help="Side of the simulated region, in 10 m pixels.")] = 1280,
) -> None:
    """Simulate an earthquake, play it into the feed, map it, and compare the map with the truth.

    Everything runs on this machine: stand-ins for Earth Engine, Cloud Storage and USGS, and a Prefect server, all on
    loopback ports that are closed at the end. The flow and its clients are those of production.
    """
    from flows.demo import run_demo

    run_demo(out, seed=seed, size_px=size)


@app.command("map")
def map_(
    event_id: EventId,
    aoi: Aoi = None,
    event_date: EventDate = None,
    out: Out = Path("products"),
    data: Data = None,
    truth: Annotated[Path | None, typer.Option(help="Raster of known landslides to score the map against.")] = None,
    force: Force = False,
    rules: Rules = None,
) -> None:
    """Map one event and publish a version of it.

    With an Earth Engine project in the settings it runs in the cloud; without one, on local stand-ins (those that
    `quakeslide local up` keeps running, or its own). Run it again after an interruption: finished work is kept.
    """
    from flows.run import map_to_folder
    from flows.services import services

    request = _request(event_id, aoi, event_date, force=force, truth=truth)
    with services(_ruled(rules), data, prefect=True) as settings:
        map_to_folder(request, settings, out)


@app.command()
def plan(
    event_id: EventId, aoi: Aoi = None, event_date: EventDate = None, data: Data = None, force: Force = False
) -> None:
    """Show what mapping an event would take, and launch nothing.

    Area, windows, scenes, clear coverage, tiles, requests, bytes, expected time and memory.
    """
    from flows.run import show_plan
    from flows.services import services

    request = _request(event_id, aoi, event_date, force=force, truth=None)
    with services(_settings(), data, prefect=False) as settings:
        show_plan(request, settings)


@app.command("map-raster")
def map_raster(
    pre: Annotated[
        list[Path],
        typer.Option(help="GeoTIFF before the event (projected, metres); give it again for bands in separate files."),
    ],
    post: Annotated[
        list[Path],
        typer.Option(help="GeoTIFF after the event, on the same grid; give it again for bands in separate files."),
    ],
    dem: Annotated[Path, typer.Option(help="GeoTIFF with elevation in metres, on any grid that covers them.")],
    out: Out = Path("products"),
    bands: Annotated[
        str | None, typer.Option(help="Order of the bands, for example blue,green,red,nir; default: their names.")
    ] = None,
    scale: Annotated[
        float | None, typer.Option(help="Reflectance per digital number; default: 0.0001 for integers, 1 for floats.")
    ] = None,
    weights: Annotated[
        str, typer.Option(help="`auto`, a name of `quakeslide models`, or a .safetensors file.")
    ] = "auto",
    name: Annotated[str, typer.Option(help="Name of the event, for the inventory and the report.")] = "raster",
    rules: Rules = None,
) -> None:
    """Map landslides from rasters that you have, with no Earth Engine.

    The same network and the same products as `quakeslide map`, written into a new folder.
    """
    from flows.map_raster import map_raster_pair

    names = None if bands is None else tuple(part.strip() for part in bands.split(","))
    with beginning_anew():
        map_raster_pair(
            pre, post, dem, out, bands=names, scale=scale, weights=weights, name=name, settings=_ruled(rules)
        )


@app.command()
def tidy(event_id: EventId, data: Data = None) -> None:
    """Remove from Earth Engine what runs of an event have left that were never published.

    Published versions, and what was written in the last hours (`earthengine.orphan_hours`), are never touched.
    """
    from flows.run import tidy_event
    from flows.services import services

    with services(_settings(), data, prefect=False) as settings:
        tidy_event(event_id, settings)


@app.command()
def models() -> None:
    """List the networks that can map, the bands each needs and how it scored."""
    from flows.run import show_models

    show_models()


@app.command()
def doctor() -> None:
    """Check credentials, project, bucket, Prefect, disk, memory and GPU, and say how to mend what fails."""
    from flows.doctor import run_doctor

    if not run_doctor(_settings()):
        raise typer.Exit(BAD_INPUT)


@local.command("up")
def local_up(
    data: Data = None,
    home: Annotated[Path | None, typer.Option(help="Folder for their state; default: the setting local.home.")] = None,
    worker: Annotated[
        bool,
        typer.Option(
            "--worker/--no-worker", help="Also run what runs by itself (watch, campaigns, janitor) and the monitor."
        ),
    ] = True,
) -> None:
    """Start the stand-ins, a Prefect server, a worker and the monitor, print where they are, keep them up until Ctrl-C.

    The watch then takes up what the feed of the stand-in brings. `quakeslide map`, `plan` and `doctor` find the stack by
    themselves from the same folder; other programs take the printed environment variables. Prefect's pages ask for the
    password that `quakeslide local password` shows.
    """
    from flows.services import keep_up

    keep_up(_settings(), data, home, worker=worker)


@local.command("password")
def local_password(
    home: Annotated[Path | None, typer.Option(help="Folder of its state; default: the setting local.home.")] = None,
) -> None:
    """Show what the pages and the API of the running stack's Prefect server ask for, user:password as one word.

    It is drawn anew for each start. Commands of quakeslide find it by themselves.
    """
    from flows.services import password

    typer.echo(password(_settings(), home))


def _settings() -> Settings:
    from flows.settings import load_settings

    return load_settings()


def _ruled(rules: str | None) -> Settings:
    """The settings with these rules; the flow, which reads them for itself, gets them as well."""
    if rules is not None:
        os.environ["QUAKESLIDE_MODEL__RULES"] = rules
    return _settings()


# After the commands of the pipeline, so that the help lists those first.
cli_running.register(app)
app.add_typer(dataset, name="dataset")
cli_watch.register(app)
cli_campaign.register(app)
cli_select.register(app)
cli_adapt.register(app)
cli_unlabelled.register(app)
cli_train.register(app)
cli_evaluate.register(app)
cli_calibrate.register(app)
cli_geology.register(app)
cli_reproduce.register(app)


def _request(event_id: str, aoi: Path | None, event_date: str | None, *, force: bool, truth: Path | None) -> MapRequest:
    from flows.area import area_from_file
    from flows.request import MapRequest
    from modeling.rasters.raster import open_raster

    if truth is not None:
        with open_raster(truth):  # now, and not when the map is made
            pass
    area = None if aoi is None else area_from_file(aoi)
    return MapRequest(
        event_id=event_id,
        area_wkt=None if area is None else area.geometry.wkt,
        area_reason="" if area is None else area.reason,
        event_time=None if event_date is None else moment_of(event_date, "--event-date"),
        force=force,
        truth=None if truth is None else str(truth.resolve()),
    )


def main() -> None:
    """Run the command line; errors made on purpose are one line on stderr and exit status 2."""
    try:
        status = app(standalone_mode=False)
    except (FlowError, GeeError, ModelingError, StackError) as error:
        _fail(str(error))
    except _UsageError as error:
        _misused(error)
    except OSError as error:
        if error.errno in _NO_SPACE:
            _fail(f"the disk is full ({error.filename or 'while writing'}): free some space and run the command again")
        if type(error).__module__ == "rasterio.errors":  # not loaded for this: most commands need no raster
            _fail(f"a raster cannot be read ({error.__cause__ or error}): it is damaged or cut short, copy it again")
        own = isinstance(error, (PermissionError, NotADirectoryError, IsADirectoryError))
        if not own and (error.errno not in _NO_PLACE or error.filename is None):
            raise
        _fail(f"{error.filename} cannot be used: {error.strerror}")
    except httpx.HTTPError as error:  # of Prefect, which tells its own troubles no other way
        _leave(BAD_INPUT, f"quakeslide: a service stopped answering ({_address(error)}: {error}); run again to go on")
    except KeyboardInterrupt:
        status = INTERRUPTED
    if status == INTERRUPTED:
        _leave(INTERRUPTED, "interrupted; run the same command again to go on")
    raise SystemExit(status)


def _address(error: httpx.HTTPError) -> str:
    try:
        return str(error.request.url.copy_with(query=None, path="/"))
    except RuntimeError:  # no request is known
        return "address unknown"


def _leave(status: int, message: str) -> NoReturn:
    """End at once: threads of clients may be waiting for an answer, and the stand-ins have been stopped by now."""
    typer.echo(" ".join(message.split()), err=True)
    sys.stdout.flush()
    os._exit(status)


def _misused(error: Any) -> NoReturn:
    """Say what is wrong with the arguments; a command without any shows its help."""
    message = error.format_message()
    if "\n" in message:
        typer.echo(message, err=True)
        raise SystemExit(BAD_INPUT)
    where = f" (see `{error.ctx.command_path} --help`)" if error.ctx is not None else ""
    _fail(message.rstrip(".") + where)


def _fail(message: str) -> NoReturn:
    with contextlib.suppress(BrokenPipeError):
        typer.echo(f"quakeslide: {' '.join(message.split())}", err=True)
    raise SystemExit(BAD_INPUT)
