"""The automations beside those of a deployment: who is told of what, and what becomes of a run that has died.

Each is made anew under its own name by every deployment, so that a setting that has changed is in force; those of other
people are left alone. What the server sends itself (chat, webhooks) is sent also while every worker is down.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ActionTypes, ChangeFlowRunState, RunDeployment, SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.exceptions import ObjectNotFound

from flows.campaign_events import NAMES, Kind, event_name
from flows.errors import FlowError
from flows.settings import Settings

PREFIX = "quakeslide: "
"""What the names of these automations begin with."""

EMAIL = "email-server-credentials"
"""The type of block with which mail is sent: by a run of the deployment `tell`, as the server itself cannot."""

TELL = "tell/tell"
"""The deployment that sends mail."""

HEARTBEAT_S = 30
"""How often a run gives a sign of life, in seconds (PREFECT_FLOWS_HEARTBEAT_FREQUENCY of the workers)."""

_DEAD_AFTER = dt.timedelta(seconds=4 * HEARTBEAT_S)
_REMIND = dt.timedelta(hours=6)
_ENDS = [f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Crashed", "Cancelled", "TimedOut")]
_TAGGED = {"prefect.resource.role": "tag", "prefect.resource.id": "prefect.tag.quakeslide"}
_EVERY_RUN = {"prefect.resource.id": "prefect.flow-run.*"}


@dataclass(frozen=True)
class Alert:
    """Something that people are told."""

    name: str
    """What has happened, for the list of automations."""
    trigger: EventTrigger
    """When."""
    subject: str
    """A Jinja template over the event."""
    body: str
    """Likewise."""


def campaign_alert(kinds: Sequence[Kind], name: str, within: dt.timedelta) -> Alert:
    """What a campaign tells of itself by events of these kinds, with the words that `emit` has put into the event."""
    trigger = EventTrigger(
        expect=set(map(event_name, kinds)), match={"prefect.resource.id": f"{NAMES}*"}, for_each={"prefect.resource.id"},
        posture=Posture.Reactive, threshold=1, within=within,
    )  # fmt: skip
    return Alert(name, trigger, "{{ event.payload.subject }}", "{{ event.payload.text }}")


def deployed_as(*names: str) -> dict[str, Any]:
    """A related resource: one of these deployments."""
    return {"prefect.resource.role": "deployment", "prefect.resource.name": list(names)}


ALERTS: tuple[Alert, ...] = (
    campaign_alert(["opened", "joined"], "an event was accepted", dt.timedelta()),
    campaign_alert(["published"], "a version was published", dt.timedelta()),
    # The same campaign fails again and again while a service is down: told once, then every six hours.
    campaign_alert(["failed"], "a step of a campaign failed", _REMIND),
    campaign_alert(["asking"], "a budget is reached", dt.timedelta(hours=1)),
    # Likewise: a step is tried every half hour until the quota is renewed.
    campaign_alert(["quota"], "a quota is used up", _REMIND),
    Alert(
        "a run failed",
        EventTrigger(
            expect={"prefect.flow-run.Failed", "prefect.flow-run.TimedOut"}, match=_EVERY_RUN,
            match_related=[_TAGGED, deployed_as("watch", "janitor", "map-event", "train", "adapt")],
            for_each={"related:deployment:prefect.resource.id"}, posture=Posture.Reactive, threshold=1, within=_REMIND,
        ),
        "{{ flow.name }}: a run failed",
        "{{ flow_run.name }} of {{ deployment.name }}: {{ flow_run.state.message }}",
    ),
    Alert(
        "a run died",
        # Not the watch: most ends of a worker end one, the next follows within a minute, and silence is told of below.
        EventTrigger(
            expect={"prefect.flow-run.Crashed"}, match=_EVERY_RUN,
            match_related=[_TAGGED, deployed_as("campaign-step", "map-event", "train", "adapt", "janitor", "tell")],
            for_each={"related:deployment:prefect.resource.id"}, posture=Posture.Reactive, threshold=1, within=_REMIND,
        ),
        "{{ flow.name }}: a run died",
        "{{ flow_run.name }} of {{ deployment.name }}: {{ flow_run.state.message }}. It is started again by itself.",
    ),
    Alert(
        "a run is stuck",
        EventTrigger(
            after={"prefect.flow-run.Running"}, expect=set(_ENDS), match=_EVERY_RUN,
            match_related=[_TAGGED, deployed_as("watch", "campaign-step", "map-event", "adapt", "janitor")],
            for_each={"prefect.resource.id"}, posture=Posture.Proactive, threshold=1, within=_REMIND,
        ),
        "A run has been under way for six hours",
        "See Prefect's list of runs: one of them has neither ended nor died for six hours.",
    ),
    Alert(
        "the watch is silent",
        EventTrigger(
            expect={"prefect.flow-run.Completed"}, match=_EVERY_RUN, match_related=[_TAGGED, deployed_as("watch")],
            posture=Posture.Proactive, threshold=1, within=dt.timedelta(minutes=30),
        ),
        "The watch has been silent for half an hour",
        "No run of the watch has completed for half an hour: is a worker up, does the USGS answer?",
    ),
    Alert(
        "a work pool has no worker",
        EventTrigger(
            expect={"prefect.work-pool.not-ready"}, match={"prefect.resource.id": "prefect.work-pool.*"},
            for_each={"prefect.resource.id"}, posture=Posture.Reactive, threshold=1, within=_REMIND,
        ),
        "A work pool has no worker",
        "The work pool {{ work_pool.name }} has no worker that is online: nothing in it will run.",
    ),
)  # fmt: skip
"""Everything that people are told; nothing else is."""


def housekeeping() -> tuple[AutomationCore, ...]:
    """What is done without telling: a run whose process has died without a word is marked as crashed."""
    trigger = EventTrigger(
        after={"prefect.flow-run.heartbeat"}, expect={"prefect.flow-run.heartbeat", *_ENDS}, match=_EVERY_RUN,
        for_each={"prefect.resource.id"}, posture=Posture.Proactive, threshold=1, within=_DEAD_AFTER,
    )  # fmt: skip
    crash = ChangeFlowRunState(state=StateType.CRASHED, message="no sign of life: its process or its machine has died")
    return (
        AutomationCore(
            name=f"{PREFIX}a run without a sign of life has crashed",
            description="A process that is killed cannot say so; without this its run would count as running for ever.",
            trigger=trigger,
            actions=[crash],
        ),
    )


def telling(alert: Alert, blocks: Sequence[tuple[str, UUID]], tell: UUID | None) -> AutomationCore:
    """The automation of an alert for blocks (type, id of the document); `tell` is the deployment that sends mail."""
    actions: list[ActionTypes] = [
        SendNotification(block_document_id=document, subject=alert.subject, body=alert.body)
        for kind, document in blocks
        if kind != EMAIL
    ]
    if tell is not None and any(kind == EMAIL for kind, _ in blocks):
        words = {"subject": alert.subject, "text": alert.body}
        actions.append(RunDeployment(source="selected", deployment_id=tell, parameters=words))
    return AutomationCore(
        name=f"{PREFIX}{alert.name}",
        description="Tells the blocks of the setting alerts.blocks.",
        trigger=alert.trigger,
        actions=actions,
    )


def block_names(settings: Settings) -> tuple[tuple[str, str], ...]:
    """The blocks of the setting as (type, name); raises `FlowError` for one that is not `type/name`."""
    names = []
    for text in settings.alerts.blocks:
        kind, slash, name = text.partition("/")
        if not (slash and kind and name) or "/" in name:
            raise FlowError(f"alerts.blocks: {text!r} is no block: write type/name, for example slack-webhook/ops")
        names.append((kind, name))
    if any(kind == EMAIL for kind, _ in names) and not settings.alerts.email_to:
        raise FlowError("alerts.blocks names a block for mail: set alerts.email_to, whom it goes to")
    return tuple(names)


def put_automations(client: SyncPrefectClient, settings: Settings) -> tuple[str, ...]:
    """Make the automations, in place of those of an earlier deployment; returns their names.

    Raises `FlowError` naming a block that is not on the server.
    """
    blocks = [(kind, _document(client, kind, name)) for kind, name in block_names(settings)]
    tell = _deployment(client, TELL) if any(kind == EMAIL for kind, _ in blocks) else None
    wanted = [*housekeeping(), *((telling(alert, blocks, tell) for alert in ALERTS) if blocks else ())]
    old = [each for each in client.read_automations() if each.name.startswith(PREFIX)]
    for automation in wanted:
        client.create_automation(automation)
    for automation in old:
        client.delete_automation(automation.id)
    return tuple(automation.name for automation in wanted)


def _document(client: SyncPrefectClient, kind: str, name: str) -> UUID:
    try:
        return client.read_block_document_by_name(name, kind, include_secrets=False).id
    except ObjectNotFound:
        raise FlowError(
            f"alerts.blocks: the block {kind}/{name} is not on the server: make it in the UI (Blocks), or leave it out"
        ) from None


def _deployment(client: SyncPrefectClient, name: str) -> UUID:
    try:
        return client.read_deployment_by_name(name).id
    except ObjectNotFound:
        raise FlowError(f"the deployment {name}, which sends mail, is not on the server") from None
