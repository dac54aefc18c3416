"""The flow that clears away what was given up: in the bucket, in Earth Engine, and on Prefect's server."""

from __future__ import annotations

import datetime as dt

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.logging import get_run_logger

from flows.clearing import clear_everything
from flows.hiding import hiding_secrets
from flows.late_runs import drop_late_runs
from flows.settings import load_settings


@flow(name="janitor", persist_result=False)
def janitor(now: dt.datetime | None = None) -> list[str]:
    """Clear everything once; returns what was done, in words. `now` is for simulated campaigns.

    What cannot be cleared is a warning in the log, and is tried again the next time.
    """
    log = get_run_logger()
    with hiding_secrets():
        lines = clear_everything(load_settings(), now=now).lines()
        dropped = drop_late_runs()
    if dropped:
        lines.append(f"{dropped} runs were dropped that should have begun long ago: newer ones do their work")
    for line in lines:
        log.info("%s", line)
    text = "\n".join(f"- {line}" for line in lines)
    create_markdown_artifact(text, key="janitor", description="What was cleared away")
    return lines
