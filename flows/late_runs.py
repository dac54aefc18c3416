"""Runs that should have begun long ago: after an outage of the workers there are hundreds, and one of them is enough.

A watch looks at everything since the last one, a step is called again by the next watch: what is late is dropped.
"""

from __future__ import annotations

import datetime as dt
import os
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterName,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.states import Cancelled

REPEATING = ("watch", "campaign-step", "janitor")
"""Deployments of which a late run may be dropped, as the next one does its work."""

LATE = dt.timedelta(minutes=10)
"""Later than this, a run that has not begun is dropped."""

_PAGE = 200


def drop_late_runs(now: dt.datetime | None = None) -> int:
    """Cancel the late runs of `REPEATING` on the server of PREFECT_API_URL; returns how many. None set: nothing is done."""
    if not os.environ.get("PREFECT_API_URL"):
        return 0
    before = (now or dt.datetime.now(dt.UTC)) - LATE
    with get_client(sync_client=True) as client:
        late = _late(client, before)
        for run in late:
            client.set_flow_run_state(run, Cancelled(message="late: a newer run does its work"), force=False)
    return len(late)


def _late(client: SyncPrefectClient, before: dt.datetime) -> list[UUID]:
    found = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
            expected_start_time=FlowRunFilterExpectedStartTime(before_=before),
        ),
        deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=list(REPEATING))),
        limit=_PAGE,
    )
    return [run.id for run in found]
