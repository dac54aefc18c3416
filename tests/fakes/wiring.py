"""Points this process, and the processes that it starts, to a local stack."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    temporary_settings,
)

from flows.storage import Store
from infra.local.stack import LocalStack, environment_of


@contextmanager
def wired(stack: LocalStack, name: str, weights: Path, scratch: Path) -> Iterator[dict[str, str]]:
    """The environment in which quakeslide uses `stack`, set inside the block; `name` is its bucket and its project.

    With an Earth Engine project set, quakeslide takes the addresses as those of a cloud and starts nothing. Flows that
    run in this process give no signs of life: Prefect's thread for them holds up the end of each by up to a second.
    """
    variables = environment_of(stack.endpoints) | {
        "QUAKESLIDE_STORAGE__BUCKET": name,
        "QUAKESLIDE_EARTHENGINE__PROJECT": name,
        "QUAKESLIDE_MODEL__WEIGHTS": str(weights),
        "QUAKESLIDE_CUBE__TILE_PX": "128",
        "QUAKESLIDE_WORK__SCRATCH": str(scratch),
    }
    with Store(f"gs://{name}", stack.endpoints.storage_url) as store:
        store.ensure_bucket()
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        with on_prefect(variables), temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
            yield variables
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def on_prefect(variables: Mapping[str, str]) -> Iterator[None]:
    """Prefect's own settings, read when it was imported, are those of `variables` inside the block."""
    server = {
        PREFECT_API_URL: variables["PREFECT_API_URL"],
        PREFECT_API_AUTH_STRING: variables["PREFECT_API_AUTH_STRING"],
    }
    with temporary_settings(server):
        yield


def ask_prefect(variables: Mapping[str, str], path: str, **body: Any) -> Any:
    """What the Prefect server of `variables` answers to a question, `artifacts/filter` for example."""
    user, _, password = variables["PREFECT_API_AUTH_STRING"].partition(":")
    url = f"{variables['PREFECT_API_URL']}/{path}"
    return httpx.post(url, json=body, auth=(user, password), timeout=30).raise_for_status().json()


def requests_of(url: str) -> list[Mapping[str, object]]:
    """What a stand-in has been asked since its log was emptied."""
    log: list[Mapping[str, object]] = httpx.get(f"{url}/_standin/log", timeout=30).json()["requests"]
    return log


def forget_requests(url: str) -> None:
    """Empty a stand-in's log."""
    httpx.delete(f"{url}/_standin/log", timeout=30).raise_for_status()
