"""Commands for what runs by itself: `quakeslide deploy`, `worker`, `janitor` and `monitor`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from flows.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(deploy)
    app.command()(worker)
    app.command()(janitor)
    app.command()(monitor)


def deploy(
    kubernetes: Annotated[bool, typer.Option(help="Runs are jobs of Kubernetes, not processes of a worker.")] = False,
    image: Annotated[
        str, typer.Option(help="With --kubernetes: the image of the runs; {pool} in it becomes cpu or gpu.")
    ] = "",
) -> None:
    """Put everything that runs by itself on the Prefect server of PREFECT_API_URL; repeat it after every change.

    Work pools, deployments with schedules and limits, and the automations that start steps, tell people (alerts.blocks)
    and clear away runs whose process has died.
    """
    from flows.deploy import deploy, server_address
    from flows.run import say

    done = deploy(_settings(), kind="kubernetes" if kubernetes else "process", image=image, say=say)
    say(f"{len(done.deployments)} deployments are on {server_address()}")


def worker(
    pools: Annotated[list[str] | None, typer.Argument(help="Work pools; default: all of them, cpu and gpu.")] = None,
) -> None:
    """Work on this machine, in this folder, on what the server of PREFECT_API_URL has to be done; Ctrl-C ends it."""
    import os
    import sys

    from flows.deploy import require_server
    from flows.running import worker_environment

    require_server()
    environment = {**worker_environment(), "PREFECT_WORKER_WEBSERVER_PORT": os.environ.get("PORT", "8080")}
    # In place of this process, as Prefect reads its settings when it is imported.
    os.execve(sys.executable, [sys.executable, "-m", "flows.worker", *(pools or [])], environment)  # noqa: S606


def janitor(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
) -> None:
    """Clear away what was given up: stages and products of runs never published, cubes of campaigns long closed.

    In the bucket, in Earth Engine, and dead or late runs on the Prefect server. Published versions are never touched, nor
    is anything younger than the settings janitor.orphan_hours and janitor.keep_cubes_days.
    """
    from flows.clearing import clear_everything
    from flows.run import say
    from flows.services import services

    with services(_settings(), None, prefect=False) as settings:
        cleared = clear_everything(settings, dry_run=dry_run)
    for line in cleared.lines():
        say(line)


def monitor() -> None:
    """Serve metrics for Prometheus at /metrics and health at /health, at the setting metrics.host, until Ctrl-C."""
    from flows.monitoring import serve
    from flows.services import services

    with services(_settings(), None, prefect=False) as settings:
        serve(settings)


def _settings() -> Settings:
    from flows.settings import load_settings

    return load_settings()
