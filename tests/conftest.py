"""Fixtures that several test files share."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.quakes import SmallQuake, write_others, write_small_quake
from fakes.servers import serve
from fakes.weights import untrained
from hypothesis import HealthCheck, settings

from flows.storage import Store
from infra.local.stack import LocalStack
from infra.local.storage import create_app

# As on the command line: Prefect's log of a run is kept by its server and does not fill the terminal.
os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
# Prefect keeps what failed in its home, which must not be that of whoever runs the tests.
PREFECT_HOME = os.environ["PREFECT_HOME"] = tempfile.mkdtemp(prefix="prefect-")

# The same examples every time, so that a change is judged by what it changes; `--hypothesis-profile searching` draws others.
# No example fails for the time it takes: that is the machine's, and `timeout` ends what hangs.
UNTIMED: dict[str, Any] = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("repeatable", derandomize=True, **UNTIMED)
settings.register_profile("searching", max_examples=1000, **UNTIMED)
settings.load_profile("repeatable")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_unconfigure() -> None:
    """Remove Prefect's home."""
    shutil.rmtree(PREFECT_HOME, ignore_errors=True)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real recorded inputs; tests that need it skip where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the recorded real data are not here ({SHARED_DATA.name} folder beside the checkout)")
    return SHARED_DATA


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Cloud Storage stand-in."""
    with serve(create_app(tmp_path_factory.mktemp("bucket"))) as address:
        yield address


@pytest.fixture
def store(endpoint: str, tmp_path: Path) -> Iterator[Store]:
    """A bucket of the stand-in, empty for each test."""
    with Store(f"gs://bucket/{tmp_path.name}", endpoint, retry_s=5.0) as opened:
        opened.ensure_bucket()
        yield opened


@pytest.fixture(scope="session")
def small_quake(tmp_path_factory: pytest.TempPathFactory) -> SmallQuake:
    """A simulated earthquake of 2.56 x 2.56 km with its scenes, elevation model and USGS record."""
    return write_small_quake(tmp_path_factory.mktemp("quake"))


@pytest.fixture(scope="session")
def some_weights(small_quake: SmallQuake, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten-band weights that find landslides in one of thirty pixels of `small_quake`, though untrained."""
    return untrained(small_quake.region, tmp_path_factory.mktemp("weights"), "tiny", "ten-band", share=0.03)


@pytest.fixture(scope="session")
def stack(small_quake: SmallQuake, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """The stand-ins and a Prefect server, serving `small_quake` and events that cannot be mapped."""
    from flows.services import drain_prefect

    home = tmp_path_factory.mktemp("stack")
    write_others(small_quake)
    with LocalStack(home, catalogues=[small_quake.catalogue], usgs_folders=[small_quake.usgs], prefect=True) as up:
        yield up
        drain_prefect()


@pytest.fixture
def services(
    stack: LocalStack, some_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, str]]:
    """The environment in which quakeslide uses `stack`, with a bucket and a project of its own, set for this process."""
    from fakes.wiring import wired

    monkeypatch.chdir(tmp_path)
    name = tmp_path.name.replace("_", "-").lower()[:60].strip("-.")
    with wired(stack, name, some_weights, tmp_path) as variables:
        yield variables
