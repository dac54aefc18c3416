"""Checks of everything a run needs, each with what to do when it fails."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psutil
from rich.console import Console
from rich.table import Table

from flows.errors import FlowError
from flows.preflight import check_bucket, check_earth_engine, check_prefect, check_usgs
from flows.scratch import existing
from flows.services import is_local
from flows.settings import Settings
from gee.errors import GeeError
from modeling.errors import ModelingError

NEEDED_DISK_GB = 5.0
"""Free disk for a run of a few thousand square kilometres."""
NEEDED_MEMORY_GB = 3.0
"""Free memory for a run."""
PACKAGES = ("torch", "earthengine-api", "xarray", "dask", "zarr", "gcsfs", "prefect", "rasterio", "geopandas")
_MARKS = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "fail": "[red]FAIL[/]"}


@dataclass(frozen=True)
class Check:
    """One finding."""

    name: str
    """What was looked at."""
    state: str
    """`ok`, `note` (works, but know this) or `fail`."""
    found: str
    """What was seen."""
    mend: str = ""
    """What to do about it."""


def run_doctor(settings: Settings) -> bool:
    """Print every check; returns whether all that is needed works."""
    table = Table("check", "", "found", "what to do", title="quakeslide doctor", title_justify="left")
    good = True
    for check in checks(settings):
        table.add_row(check.name, _MARKS[check.state], check.found, check.mend)
        good &= check.state != "fail"
    console = Console(highlight=False)
    console.print(table)
    console.print("all that is needed works" if good else "something that is needed fails")
    return good


def checks(settings: Settings) -> Iterator[Check]:
    """Every check, the machine first, then the services."""
    yield _python()
    yield _packages()
    yield _disk(settings)
    yield _memory()
    yield _gpu()
    yield _weights()
    yield from _services(settings)


def _services(settings: Settings) -> Iterator[Check]:
    if not is_local(settings):
        yield from _remote(settings, os.environ.get("PREFECT_API_URL", ""))
        return
    from infra.local.stack import environment_of, running_stack

    home = settings.local.home.resolve()
    found = running_stack(home)
    if found is None:
        yield Check(
            "mode", "note", f"local: no Earth Engine project is set and no stand-ins are up in {home}",
            "nothing, for `quakeslide demo` and local maps; for the real services set QUAKESLIDE_EARTHENGINE__PROJECT "
            "and QUAKESLIDE_STORAGE__BUCKET",
        )  # fmt: skip
        return
    from flows.services import applied

    yield Check("mode", "ok", f"local: stand-ins are up in {home}")
    with applied(environment_of(found)) as local:
        yield from _remote(local, found.prefect_url and f"{found.prefect_url}/api")


def _remote(settings: Settings, prefect_url: str) -> Iterator[Check]:
    yield _guarded("Earth Engine", lambda: check_earth_engine(settings), _earth_engine_help(settings))
    yield _guarded(
        "bucket", lambda: check_bucket(settings),
        f"create gs://{settings.storage.bucket}, or name yours in QUAKESLIDE_STORAGE__BUCKET, and let the account use it",
    )  # fmt: skip
    yield _guarded(
        "USGS", lambda: check_usgs(settings), f"check the network and QUAKESLIDE_USGS__URL ({settings.usgs.url})"
    )
    mend = "start `prefect server start` and set PREFECT_API_URL; without one, each run starts a server of its own"
    if prefect_url:
        yield _guarded("Prefect", lambda: check_prefect(prefect_url), mend)
    else:
        yield Check("Prefect", "note", "PREFECT_API_URL is not set", mend)


def _guarded(name: str, look: Callable[[], str], mend: str) -> Check:
    try:
        return Check(name, "ok", look())
    except (FlowError, GeeError) as error:
        return Check(name, "fail", " ".join(str(error).split()), mend)


def _earth_engine_help(settings: Settings) -> str:
    if not settings.earthengine.project:
        return "set QUAKESLIDE_EARTHENGINE__PROJECT to a Google Cloud project that is registered for Earth Engine"
    return "run `earthengine authenticate` (or set GOOGLE_APPLICATION_CREDENTIALS) and register the project"


def _python() -> Check:
    return Check("Python", "ok", ".".join(str(part) for part in sys.version_info[:3]))


def _packages() -> Check:
    have, missing = [], []
    for name in PACKAGES:
        try:
            have.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return Check("packages", "fail", f"missing: {', '.join(missing)}", "pip install -c constraints.txt -e '.[dev]'")
    return Check("packages", "ok", ", ".join(have))


def _disk(settings: Settings) -> Check:
    place = existing(settings.local.home.resolve())
    free_gb = shutil.disk_usage(place).free / 1e9
    mend = f"free some space, or set QUAKESLIDE_LOCAL__HOME to a larger disk ({NEEDED_DISK_GB:g} GB are enough)"
    return Check(
        "disk",
        "ok" if free_gb >= NEEDED_DISK_GB else "fail",
        f"{free_gb:.1f} GB free at {place}",
        "" if free_gb >= NEEDED_DISK_GB else mend,
    )


def _memory() -> Check:
    free_gb = psutil.virtual_memory().available / 1e9
    enough = free_gb >= NEEDED_MEMORY_GB
    mend = (
        ""
        if enough
        else f"close other programs ({NEEDED_MEMORY_GB:g} GB are enough), or lower QUAKESLIDE_MODEL__TILE_PX"
    )
    return Check("memory", "ok" if enough else "fail", f"{free_gb:.1f} GB free", mend)


def _gpu() -> Check:
    import torch

    if torch.cuda.is_available():
        return Check("GPU", "ok", torch.cuda.get_device_name(0))
    return Check("GPU", "note", "none that torch can use: the networks run on the CPU", "none needed; a GPU is faster")


def _weights() -> Check:
    from modeling.model import available_models, load_model

    try:
        names = [load_model(name).name for name in available_models()]
    except ModelingError as error:
        return Check("weights", "fail", str(error), "restore modeling/weights from the repository")
    if not names:
        return Check("weights", "fail", "no network is there", "restore modeling/weights, or train: make weights")
    return Check("weights", "ok", ", ".join(names))
