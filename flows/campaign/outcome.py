"""What comes of a look, or of a run, for a campaign. Pure."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from flows.campaign.model import Attempt, Campaign, Sight, State
from flows.campaign.record import decided, living, moved

if TYPE_CHECKING:
    from flows.campaign.look import Look


def made_before(campaign: Campaign, version: int, attempt: Attempt, now: dt.datetime) -> Campaign:
    """A campaign whose attempt came to a version that is there already: that version shows what was expected now."""
    update = {"kind": attempt.kind, "expected_share": attempt.expected_share, "area_km2": attempt.area_km2}
    versions = tuple(note.model_copy(update=update) if note.version == version else note for note in campaign.versions)
    sight = campaign.sight.model_copy(update={"added_km2": 0.0}) if campaign.sight else None
    after = campaign.model_copy(update={"versions": versions, "attempt": None, "sight": sight, "look_after": now})
    return moved(after, State.WAITING, f"version {version} shows this already", now) if after.open else after


def after_look(campaign: Campaign, found: Look, now: dt.datetime) -> Campaign:
    """A campaign that has looked: its area, its sight and passes, and what the rule says now."""
    after = campaign.model_copy(update={"area": found.area, "sight": found.sight, "passes": found.passes})
    for decision in found.decisions:
        after = decided(after, decision, now)
    return after


def without_ground(campaign: Campaign, why: str, now: dt.datetime) -> Campaign:
    """A campaign none of whose ground can fail: the rule wants it no longer, unless there are versions already."""
    after = campaign.model_copy(update={"sight": Sight(at=now, why=why)})
    for quake in living(campaign):
        last = next((one for one in reversed(after.decisions) if one.event_id in quake.ids), None)
        if last is not None:
            no = last.model_copy(update={"at": now, "wanted": False, "reason": why, "urgency": 0.0})
            after = decided(after, no, now)
    return after
