"""The flow that looks at the USGS: what is news is decided on, and campaigns whose step is due are told to Prefect."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Mapping
from dataclasses import dataclass

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.logging import get_run_logger

from flows.campaign import store as campaigns
from flows.campaign.model import Campaign
from flows.campaign_events import Kind, emit
from flows.errors import ServiceError
from flows.hiding import hiding_secrets
from flows.logs import redacted
from flows.reaching import bucket
from flows.settings import Settings, load_settings
from flows.storage import Store
from flows.usgs import UsgsClient
from flows.watching.cursor import read_cursor
from flows.watching.poll import Report, work_off
from flows.watching.taking import Change

ARTIFACT = "watch"
"""Key of the table of what a look at the USGS has changed."""

_TOLD: Mapping[str, Kind] = {
    "opened": "opened", "joined": "joined", "reopened": "opened", "closed": "closed", "withdrawn": "withdrawn"
}  # fmt: skip
"""Which changes people hear of; the others show in `quakeslide status`."""


@dataclass(frozen=True)
class Look:
    """One look at the USGS and what is to be done now."""

    report: Report | None
    """What was found, None when the USGS gave no answer."""
    trouble: str
    """Why there was no answer, empty when there was one."""
    due: tuple[str, ...]
    """The campaigns whose step starts now, the most urgent first."""


@flow(name="watch", retries=0, persist_result=False)
def watch(now: dt.datetime | None = None, for_s: float = 0.0) -> Look:
    """Look at the USGS, and have the campaigns that are due go on; returns the last look.

    Looks once, and again every `watch.every_s` for `for_s` seconds: a run a minute that looks twice costs the start of one
    process. `now` is for simulated time. A USGS that does not answer is a failure only after `watch.outage_minutes`: then
    `ServiceError` is raised, when the campaigns that are due have been told.
    """
    settings, begun = load_settings(), time.monotonic()
    with (
        hiding_secrets(),
        UsgsClient(settings.usgs.url, settings.usgs.timeout_s) as usgs,
        bucket(settings) as store,
    ):
        look, looks = _look(usgs, store, settings, now or dt.datetime.now(dt.UTC)), 1
        while (after := looks * settings.watch.every_s) < for_s:
            if (wait := begun + after - time.monotonic()) < 0:
                break  # a look that took long was the last: nothing is caught up in the time of the next run
            time.sleep(wait)
            look, looks = _look(usgs, store, settings, dt.datetime.now(dt.UTC)), looks + 1
    return look


def _look(usgs: UsgsClient, store: Store, settings: Settings, now: dt.datetime) -> Look:
    report, outage = _looked(usgs, store, settings, now)
    ready = campaigns.ready(store, now, settings)
    for campaign in ready:
        _tell_due(campaign)
    if outage is not None and lasting(outage[1], settings, now):
        raise outage[0]
    return Look(report, "" if outage is None else redacted(str(outage[0])), tuple(campaign.id for campaign in ready))


def lasting(since: dt.datetime | None, settings: Settings, now: dt.datetime) -> bool:
    """Whether the USGS has been silent for so long that somebody should know; `since` is the last look that went well."""
    return since is None or now - since > dt.timedelta(minutes=settings.watch.outage_minutes)


def _looked(
    usgs: UsgsClient, store: Store, settings: Settings, now: dt.datetime
) -> tuple[Report | None, tuple[ServiceError, dt.datetime | None] | None]:
    """The report, or what went wrong and when it last went well."""
    log = get_run_logger()
    since = read_cursor(store)[0].polled  # raises when the bucket is out of order, without which nothing goes on
    try:
        report = work_off(usgs, store, settings, now)
    except ServiceError as error:
        log.warning("nothing was worked off: %s", error)
        return None, (error, since)
    for trouble in report.troubles:
        log.warning("%s", trouble)
    wanted = [decision for decision in report.decisions if decision.wanted]
    for decision in wanted:
        log.info("%s is to be mapped: %s", decision.event_id, decision.reason)
    if len(report.decisions) > len(wanted):
        log.info("%d further decisions to do nothing: see the journal", len(report.decisions) - len(wanted))
    for change in report.changes:
        log.info("campaign %s %s: %s", change.campaign_id, change.kind, change.reason)
        _tell(change)
    if report.changes or wanted:
        create_table_artifact(key=ARTIFACT, table=rows(report), description=f"News of {now:%Y-%m-%d %H:%M} UTC")
    return report, None


def rows(report: Report) -> list[dict[str, str]]:
    """What a look has changed, as a table for people; decisions to do nothing stand in the journal."""
    changed = [
        {"campaign": one.campaign_id, "event": one.event_id, "what": one.kind, "title": one.title, "why": one.reason}
        for one in report.changes
    ]
    told = {one.event_id for one in report.changes}
    return changed + [
        {"campaign": "", "event": one.event_id, "what": "wanted", "title": "", "why": one.reason}
        for one in report.decisions
        if one.wanted and one.event_id not in told
    ]


def _tell(change: Change) -> None:
    if (kind := _TOLD.get(change.kind)) is not None:
        emit(kind, change.campaign_id, title=change.title, reason=change.reason, event_id=change.event_id)


def _tell_due(campaign: Campaign) -> None:
    emit("due", campaign.id, title=campaign.mainshock.title, urgency=campaign.urgency)
