"""Events that tell Prefect of a campaign: what starts its next step, and what people are told.

An event is news, not memory: what is true of a campaign stands in its document in the bucket. One that is lost is told
again by the next watch, and one that comes twice finds the campaign's lease taken.
"""

from __future__ import annotations

import logging
from typing import Any, Literal, get_args

from pydantic_core import to_jsonable_python

from flows.hiding import cleaned
from flows.logs import redacted

log = logging.getLogger(__name__)

Kind = Literal["due", "opened", "joined", "published", "failed", "quota", "asking", "withdrawn", "closed"]
"""due: a step is to be made; opened: an earthquake was taken up; joined: one was taken into the campaign of its sequence;
published: a version is visible; failed: a step ended with an error; quota: a step ended because the project's quota is
used up, and is tried again; asking: a budget is reached, or too much has failed, and a person is asked; withdrawn: the
USGS has deleted the event; closed: nothing more will come of it."""

KINDS: tuple[Kind, ...] = get_args(Kind)

NAMES = "quakeslide.campaign."
"""What every event's name, and every campaign's resource id, begins with."""


def event_name(kind: Kind) -> str:
    """The name of an event, for example `quakeslide.campaign.due`."""
    return f"{NAMES}{kind}"


def resource_id(campaign_id: str) -> str:
    """The campaign as a resource of Prefect, for example `quakeslide.campaign.us2000h8ty`."""
    return f"{NAMES}{campaign_id}"


def emit(kind: Kind, campaign_id: str, **payload: Any) -> bool:
    """Tell Prefect's server of a campaign; returns whether it was handed over to be sent.

    The payload is `payload` with times, enumerations and documents as JSON has them and without what looks like a secret,
    `campaign_id`, and what people are told of it, `subject` and `text`, made of `title`, `simulated`, `reason`, `version`,
    `url`, `landslides`, `landslide_area_m2`, `shares`, `error` and `question` where they are there. Nothing is sent, and
    no server is started for it, where none is set (PREFECT_API_URL).
    """
    from prefect.events import emit_event
    from prefect.settings import PREFECT_API_URL

    from flows.alert_text import message

    if not PREFECT_API_URL.value():
        log.debug("%s of %s is told to nobody: PREFECT_API_URL is not set", event_name(kind), campaign_id)
        return False
    told = message(kind, campaign_id, payload)
    words = {"subject": told.subject, "text": told.text}
    values = {**cleaned(to_jsonable_python(payload, fallback=str)), **words, "campaign_id": campaign_id}
    resource = {
        "prefect.resource.id": resource_id(campaign_id),
        "prefect.resource.name": redacted(str(payload.get("title") or campaign_id)),
    }
    return emit_event(event=event_name(kind), resource=resource, payload=values) is not None
