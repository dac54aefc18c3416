"""Which services a command talks to: the real ones, stand-ins that are up already, or stand-ins of its own."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import typer

from flows.errors import FlowError
from flows.settings import Settings, load_settings
from infra.local.recorded import RecordedDataError, iburi_catalogue
from infra.local.stack import Endpoints, LocalStack, environment_of, prefect_server, running_stack

DRAIN_S = 10
"""How long Prefect may take to send its last logs before its server is stopped, in seconds."""

REVIVE_S = 1.0
"""How often is looked whether a service of a stack that is kept up has ended, in seconds."""


def is_local(settings: Settings) -> bool:
    """Whether the stand-ins serve: by the setting `mode`, else when no Earth Engine project is set."""
    return settings.mode == "local" or (settings.mode == "auto" and not settings.earthengine.project)


@contextmanager
def services(settings: Settings, data: Path | None, *, prefect: bool) -> Iterator[Settings]:
    """The settings with which to reach the services, which are up inside the block.

    In the cloud these are the given settings. Locally, a stack that is up in `local.home` is used, with a Prefect server
    of its own when that stack has none; without a stack one is started and stopped again at the end. Raises `FlowError`
    for a folder of recorded data that holds nothing to serve.
    """
    if not is_local(settings):
        yield settings
        return
    home = settings.local.home.resolve()
    found = running_stack(home)
    if found is not None:
        if data is not None:
            raise FlowError(
                f"stand-ins are up in {home} already; stop them, or leave --data out to use what they serve"
            )
        environment = environment_of(found)
        with ExitStack() as own:
            if prefect and not found.prefect_url:
                folder = own.enter_context(TemporaryDirectory(prefix="prefect-", dir=home, ignore_cleanup_errors=True))
                environment |= own.enter_context(prefect_server(Path(folder), typer.echo))
            own.callback(drain_prefect)
            yield own.enter_context(applied(environment))
        return
    with started(settings, data, home, prefect=prefect) as stack, applied(stack.environment()) as local:
        yield local


@contextmanager
def started(
    settings: Settings, data: Path | None, home: Path, *, prefect: bool, progress: Callable[[str], None] = typer.echo
) -> Iterator[LocalStack]:
    """A stack of its own in `home`, serving `data` (or the setting `local.data`) and `home`/catalogue."""
    folder = data if data is not None else (Path(settings.local.data) if settings.local.data else None)
    catalogues, usgs_folders = _sources(folder, home)
    with LocalStack(
        home, catalogues=catalogues, usgs_folders=usgs_folders, prefect=prefect, progress=progress
    ) as stack:
        try:
            yield stack
        finally:
            drain_prefect()


def drain_prefect() -> None:
    """Send what Prefect still holds back, logs and events: with the server gone it would try for a minute and more."""
    if "prefect" not in sys.modules:
        return
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for worker in (APILogWorker, EventsWorker):
        worker.drain_all(timeout=DRAIN_S)


def _sources(data: Path | None, home: Path) -> tuple[list[Path], list[Path]]:
    """Catalogue folders and USGS folders that are there, below `data` and below `home`."""
    catalogues, usgs_folders = [home / "catalogue"], [home / "usgs"]
    if data is not None:
        data = data.resolve()
        _require_something_to_serve(data)
        if (data / "catalogue").is_dir():
            catalogues.append(data / "catalogue")
        if (data / "iburi2018").is_dir():
            recorded = home / "recorded" / "iburi2018"
            try:
                iburi_catalogue(data, recorded)
            except RecordedDataError as error:
                raise FlowError(f"--data {data}: {error}") from error
            catalogues.append(recorded)
        if (data / "usgs").is_dir():
            usgs_folders.append(data / "usgs")
    for own in (home / "catalogue", home / "usgs"):
        own.mkdir(parents=True, exist_ok=True)
    return catalogues, usgs_folders


def _require_something_to_serve(data: Path) -> None:
    if not data.is_dir():
        raise FlowError(f"--data {data}: no such folder")
    if not any((data / name).is_dir() for name in ("catalogue", "iburi2018", "usgs")):
        raise FlowError(f"--data {data} holds nothing to serve: expected catalogue/, usgs/ or iburi2018/ in it")


@contextmanager
def applied(environment: Mapping[str, str]) -> Iterator[Settings]:
    """The settings with `environment` put into this process, for the length of the block."""
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        yield load_settings()
    finally:
        os.environ.clear()
        os.environ.update(before)


def keep_up(settings: Settings, data: Path | None, home: Path | None, *, worker: bool = False) -> None:
    """Start a stack, print its addresses and the environment for other programs, and wait for Ctrl-C or SIGTERM.

    With `worker`, everything that runs of itself is put on its Prefect server and worked on, and the monitor shows its
    metrics and health. A service that ends by itself is started again where it was.
    """
    place = (home or settings.local.home).resolve()
    done = threading.Event()
    with started(settings, data, place, prefect=True, progress=_aside) as stack:
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, lambda *_: done.set())
        places = _places(stack.endpoints)
        if worker:
            with applied(stack.environment()) as local:
                from flows.running import add_monitor, add_worker

                add_worker(stack, local, _aside)
                places["monitor"] = f"{add_monitor(stack).url}/health and /metrics"
        for name, where in places.items():
            typer.echo(f"# {name:<14} {where}")
        typer.echo(
            f"# Prefect's pages ask for a password: `quakeslide local password --home {shlex.quote(str(place))}`"
        )
        for name, value in sorted(stack.environment().items()):
            typer.echo(f"export {name}={_exported(name, value, stack)}")
        typer.echo("up; Ctrl-C stops everything")
        while not done.wait(REVIVE_S):
            for name in stack.revive():
                _aside(f"the {name} service had ended and is started again")
    typer.echo("stopped")


def _places(endpoints: Endpoints) -> dict[str, str]:
    return {
        "Earth Engine": endpoints.earthengine_url,
        "Cloud Storage": endpoints.storage_url,
        "USGS": endpoints.usgs_url,
        "Prefect": endpoints.prefect_url,
    }


def _exported(name: str, value: str, stack: LocalStack) -> str:
    """A value as a shell takes it; the password by the file that holds it, as output ends up in logs and on screens."""
    if name == "PREFECT_API_AUTH_STRING":
        return f'"$(cat {shlex.quote(str(stack.auth_file))})"'
    return shlex.quote(value)


def password(settings: Settings, home: Path | None) -> str:
    """What the Prefect server of the stack in `home` asks for. Raises `FlowError` when none is up there."""
    place = (home or settings.local.home).resolve()
    found = running_stack(place)
    if found is None or not found.prefect_auth:
        raise FlowError(
            f"no local stack with a Prefect server is up in {place}: start one (quakeslide local up), or name its --home"
        )
    return found.prefect_auth


def _aside(text: str) -> None:
    """What is not to be read by a shell that evaluates the output."""
    typer.echo(text, err=True)
