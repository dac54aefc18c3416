"""What an operator sees of a run in the Prefect UI: the plan, live progress, the map, the coverage, the numbers."""

from __future__ import annotations

import base64
import json
from uuid import UUID

from prefect.artifacts import (
    create_image_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from flows.facts import ReportFacts
from flows.layout import key_of
from flows.planning import MapPlan
from flows.progress import Listener, Progress
from flows.publish import Publication
from flows.sizing import plan_rows


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


def plan_artifact(plan: MapPlan) -> None:
    """The plan as a table of two columns."""
    create_table_artifact(
        key=key_of(plan.event.id, "plan"),
        table=[{"what": what, "value": value} for what, value in plan_rows(plan)],
        description=f"Plan of {plan.event.title}",
    )


def result_artifacts(facts: ReportFacts, publication: Publication, preview_png: bytes) -> None:
    """The picture, the coverage table and the summary of a published version."""
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
    create_markdown_artifact(key=key_of(event_id, "version"), markdown=summary(facts, publication))


def summary(facts: ReportFacts, publication: Publication) -> str:
    """The version in a few lines of Markdown."""
    lines = [
        f"# {facts.event.title}",
        "**SIMULATED: this earthquake did not happen.**" if facts.event.simulated else "",
        f"Version {publication.version}: **{facts.inventory.count} landslides, "
        f"{facts.inventory.total_area_m2 / 1e6:.3f} km²** in {facts.coverage.observed_km2:.1f} km² observed; "
        f"{facts.coverage.unobserved_km2:.1f} km² ({facts.coverage.unobserved_percent:.0f} %) of the area were not "
        "observed, which does not mean that there are none.",
        f"STAC item: `{publication.item_uri}`",
        f"**Warning: {facts.selection.warning}**" if facts.selection is not None and facts.selection.warning else "",
        *(f"- {note}" for note in facts.notes),
    ]
    if facts.earth_engine_assets:
        lines.append(f"Earth Engine: `{json.dumps(dict(facts.earth_engine_assets))}`")
    return "\n\n".join(line for line in lines if line)
