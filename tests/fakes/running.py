"""Flows that do next to nothing, deployed under the names of the real ones, and waiting for what comes of them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import yaml
from prefect import flow

from flows.campaign_events import emit
from flows.deploy import DEFINITION

NOTES = "NOTES_OF_TEST_RUNS"
"""Variable with the folder in which these flows write down that they ran."""

Found = TypeVar("Found")


@flow(name="watch")
def watch(for_s: float) -> None:
    """Calls the step of one campaign."""
    emit("due", "us1000test", title="M 6.1, test")


@flow(name="campaign-step")
def campaign_step(campaign_id: str) -> str:
    """Writes down which campaign it was called for; `hangs` never ends, `fails` fails."""
    Path(os.environ[NOTES], f"{campaign_id}.{time.time_ns()}").write_text(str(Path.cwd()))
    if campaign_id == "hangs":
        time.sleep(600)
    if campaign_id == "fails":
        raise ValueError("no imagery anywhere; password=hunter2hunter2")
    return campaign_id


def toy_definition(folder: Path, *names: str) -> Path:
    """infra/prefect.yaml with only these deployments, of this module's flows."""
    value = yaml.safe_load(DEFINITION.read_text())
    value["deployments"] = [each for each in value["deployments"] if each["name"] in names]
    for each in value["deployments"]:
        if each["name"] == "campaign-step":
            each["work_pool"]["name"] = "gpu"  # so that both pools have something to do
        each["entrypoint"] = f"fakes.running.{each['name'].replace('-', '_')}"
    path = folder / "prefect.yaml"
    path.write_text(yaml.safe_dump(value))
    return path


def eventually(look: Callable[[], Found], seconds: float = 60.0) -> Found:
    """What `look` finds, asked until it is something; the last answer when it stays nothing."""
    deadline = time.monotonic() + seconds
    while not (found := look()) and time.monotonic() < deadline:
        time.sleep(0.25)
    return found
