"""What an operator sees of a run in the Prefect UI: plan, live progress, map, coverage, numbers, the time of each stage."""

from __future__ import annotations

import base64
import json
import logging
from uuid import UUID

import httpx
from prefect.artifacts import (
    create_image_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.exceptions import PrefectException

from flows.facts import ReportFacts
from flows.layout import key_of
from flows.links import browser_link
from flows.planning import MapPlan
from flows.progress import Listener, Progress
from flows.publish import Publication
from flows.sizing import plan_rows
from flows.speed import Speed
from flows.timing import Laps

log = logging.getLogger(__name__)


def progress_listener(event_id: str) -> Listener:
    """A listener that keeps one progress artifact a stage up to date."""
    known: dict[str, UUID] = {}

    def relay(progress: Progress) -> None:
        percent = 100.0 * progress.fraction
        if progress.stage not in known:
            key = key_of(event_id, progress.stage)
            made = create_progress_artifact(percent, key=key, description=f"{event_id}: {progress.stage}")
            known[progress.stage] = made  # type: ignore[assignment]
        else:
            update_progress_artifact(known[progress.stage], percent)

    return relay


def plan_artifact(plan: MapPlan, speed: Speed) -> None:
    """The plan as a table of two columns; `speed` is that of the network."""
    create_table_artifact(
        key=key_of(plan.event.id, "plan"),
        table=[{"what": what, "value": value} for what, value in plan_rows(plan, speed)],
        description=f"Plan of {plan.event.title}",
    )


def timing_artifact(laps: Laps, *parts: str, title: str) -> None:
    """The seconds of each stage as a table; `parts` name it, as `flows.layout.key_of` takes them.

    Also for a run that has failed: a server that does not take the table is a warning, so that it hides nothing.
    """
    try:
        create_table_artifact(key=key_of(*parts, "timing"), table=laps.rows(), description=f"Time per stage: {title}")
    except (PrefectException, httpx.HTTPError) as error:
        log.warning("the time of each stage is not shown: %s", error)


def result_artifacts(facts: ReportFacts, publication: Publication, preview_png: bytes, endpoint: str = "") -> None:
    """The picture, the coverage table and the summary of a published version.

    `endpoint` is the address of a stand-in for Cloud Storage, empty for the real one.
    """
    event_id = facts.event.id
    image = base64.b64encode(preview_png).decode()
    create_image_artifact(
        image_url=f"data:image/png;base64,{image}", key=key_of(event_id, "map"), description=facts.event.title
    )
    create_table_artifact(
        key=key_of(event_id, "coverage"),
        table=[
            {"seen": row.label, "km2": round(row.area_km2, 2), "percent": round(row.percent, 1)}
            for row in facts.coverage.rows
        ],
        description="What was observed of the area, and why the rest was not",
    )
    create_markdown_artifact(key=key_of(event_id, "version"), markdown=summary(facts, publication, endpoint))


def summary(facts: ReportFacts, publication: Publication, endpoint: str = "") -> str:
    """The version in a few lines of Markdown."""
    lines = [
        f"# {facts.event.title}",
        "**SIMULATED: this earthquake did not happen.**" if facts.event.simulated else "",
        f"Version {publication.version}: **{facts.inventory.count} landslides, "
        f"{facts.inventory.total_area_m2 / 1e6:.3f} km²** in {facts.coverage.observed_km2:.1f} km² observed; "
        f"{facts.coverage.unobserved_km2:.1f} km² ({facts.coverage.unobserved_percent:.0f} %) of the area were not "
        "observed, which does not mean that there are none.",
        f"[Report]({browser_link(report, endpoint)})" if (report := publication.assets.get("report")) else "",
        f"STAC item: `{publication.item_uri}`",
        f"**Warning: {facts.selection.warning}**" if facts.selection is not None and facts.selection.warning else "",
        *(f"- {note}" for note in facts.notes),
    ]
    if facts.earth_engine_assets:
        lines.append(f"Earth Engine: `{json.dumps(dict(facts.earth_engine_assets))}`")
    return "\n\n".join(line for line in lines if line)
