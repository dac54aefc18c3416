"""What a campaign does next, and why. Pure: documents and a moment in, a step out.

    waiting ──look──► partial ─► whole ─► better ─► … ─► closed (covered, or past its horizon)
       │                 └──── asking (over the budget, or failed too often) ── approved ──► waiting
       └─► closed (the rule no longer wants it) ── a new record ──► waiting          deleted ──► withdrawn

Only a look that was just made (`Sight`) leads to a version, and the version's own expectation is what the next look is
compared with: the same sight never makes a second one.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from flows.campaign.budget import over_budget
from flows.campaign.model import Attempt, Campaign, Sight, State, VersionNote
from flows.campaign.record import latest_decision, living, moved
from flows.settings import CampaignSettings

AFTER_PASS = dt.timedelta(hours=3)
"""Scenes are looked for so long after an expected pass, and until they are there: they come within hours to a day."""
ARRIVAL_RETRY = dt.timedelta(minutes=30)
"""How soon a scene that has not come is looked for again, at least ..."""
ARRIVAL_SHARE = 1 / 8
"""... and after this share of what it has taken so far: so much longer than its way to the archive a map waits for it."""
FIRST_RETRY = dt.timedelta(minutes=1)
"""Wait after a step that failed; doubled with each further one."""
LONGEST_RETRY = dt.timedelta(hours=6)
"""The longest such wait."""
OUTAGE_RETRY = dt.timedelta(minutes=30)
"""The longest wait while a service does not answer: when it is back, the campaign is not to wait for hours."""
KEPT_TRIES = 3
"""An attempt at a version that has failed so often is given up for a new look."""
NEVER_SEEN = ("open water", "no elevation")
"""What no further image will show: such ground is not waited for."""

Kind = Literal["look", "partial", "whole", "ask", "wait", "close", "nothing"]


@dataclass(frozen=True)
class Step:
    """What to do now."""

    kind: Kind
    """look: ask the catalogue; partial, whole: make a version; ask: ask a person; wait, close, nothing."""
    why: str
    """For people and the record."""
    until: dt.datetime | None = None
    """When to look again: of a wait."""
    resumes: bool = False
    """Whether the version is the attempt that was begun before."""


def next_step(campaign: Campaign, now: dt.datetime, sight: Sight | None, settings: CampaignSettings) -> Step:
    """What a campaign does at a moment; `sight` is a look that was made in this very step, None before one."""
    if (standing := _standing(campaign, settings)) is not None:
        return standing
    if sight is not None:
        return _after_look(campaign, now, sight, settings)
    if (attempt := _to_resume(campaign)) is not None:
        return Step(attempt.kind, attempt.why, resumes=True)
    past = _past(campaign, now)
    if past and campaign.sight is not None and campaign.sight.at >= campaign.horizon:
        return Step("close", _horizon_words(campaign))
    if campaign.look_after > now and not past:
        return Step("wait", "its time has not come", campaign.look_after)
    return Step("look", "a first look" if campaign.sight is None else "its time has come")


def next_look(campaign: Campaign, now: dt.datetime, settings: CampaignSettings) -> dt.datetime:
    """When to look again: after the next expected pass, often while its images are on their way, else by the settings."""
    latest = now + dt.timedelta(hours=settings.look_hours)
    due = [expected.time + AFTER_PASS for expected in campaign.passes]
    awaited = [now + max(ARRIVAL_RETRY, (now - one + AFTER_PASS) * ARRIVAL_SHARE) for one in due if one <= now]
    wanted = min([latest, *awaited, *(one for one in due if one > now)])
    return min(wanted, campaign.horizon) if campaign.horizon > now else wanted


def after_failure(campaign: Campaign, cause: str, now: dt.datetime, *, outage: bool) -> Campaign:
    """A campaign of which a step has failed. An outage is nobody's to decide on: it is waited for, however long."""
    count = "unanswered" if outage else "failures"
    number = getattr(campaign, count) + 1
    until = now + min(OUTAGE_RETRY if outage else LONGEST_RETRY, FIRST_RETRY * (1 << min(number - 1, 20)))
    update: dict[str, object] = {count: number, "last_error": cause, "look_after": until}
    if campaign.failures + campaign.unanswered + 1 >= KEPT_TRIES:
        update["attempt"] = None
    after = campaign.model_copy(update=update)
    return moved(after, State.WAITING, f"failed: {cause}", now) if campaign.state is State.MAPPING else after


UNTROUBLED: Mapping[str, object] = {"failures": 0, "unanswered": 0, "last_error": ""}
"""What a campaign notes of failures after a step that did not fail."""


def covered_share(campaign: Campaign) -> float:
    """Share that the last version saw of what an image can show; 0 without a whole version of the present area."""
    last = campaign.versions[-1] if campaign.versions else None
    if last is None or last.kind == "partial" or campaign.area is None:
        return 0.0
    seen = 1.0 - sum(last.shares.get(name, 0.0) for name in NEVER_SEEN)
    return last.shares.get("observed", 0.0) / seen if seen > 0 else 1.0


def gained_share(campaign: Campaign, sight: Sight) -> float:
    """Share of the area that a version would show and the last one, by its own expectation, does not."""
    area_km2 = campaign.area.area_km2 if campaign.area is not None else 0.0
    before = reference(campaign.versions)
    if before is None or area_km2 <= 0:
        return sight.expected_share
    share = before.shares.get("observed", 0.0) if before.expected_share is None else before.expected_share
    grown = sight.expected_share - share * min(1.0, before.area_km2 / area_km2)
    return max(grown, sight.expected_share * min(1.0, sight.added_km2 / area_km2))


def reference(versions: tuple[VersionNote, ...]) -> VersionNote | None:
    """The version that a look is compared with: the last one that showed all of the area, as it was."""
    return next((note for note in reversed(versions) if note.kind == "whole"), None)


def _standing(campaign: Campaign, settings: CampaignSettings) -> Step | None:
    """What a campaign's state alone says, whatever there is to see; None when it goes on."""
    if not campaign.open:
        return Step("nothing", f"the campaign is {campaign.state.value}")
    if campaign.state is State.ASKING:
        return Step("nothing", "a person is asked: `quakeslide approve`")
    if (unwanted := _unwanted(campaign)) is not None:
        return Step("close", unwanted)
    if campaign.failures >= settings.maximum_failures:
        return Step("ask", f"{campaign.failures} steps in a row have failed, the last with: {campaign.last_error}")
    return None


def _after_look(campaign: Campaign, now: dt.datetime, sight: Sight, settings: CampaignSettings) -> Step:
    wanted = _version(campaign, sight, settings)
    if wanted is not None:
        kind, why = wanted
        question = over_budget(campaign, sight.cost, settings)
        return Step("ask", question) if question else Step(kind, why)
    if sight.added_km2 <= 0 and (share := covered_share(campaign)) >= settings.covered_share:
        return Step("close", f"covered: {share:.1%} of the ground that can be seen was observed")
    if _past(campaign, now):
        return Step("close", _horizon_words(campaign))
    why = sight.why or f"{sight.expected_share:.0%} of the area would be observed: {_too_little(campaign, settings)}"
    return Step("wait", why, next_look(campaign, now, settings))


def _version(
    campaign: Campaign, sight: Sight, settings: CampaignSettings
) -> tuple[Literal["partial", "whole"], str] | None:
    """The version that a look is good for, and why; None when it shows too little that is new."""
    if sight.why or sight.expected_share < settings.first_share:
        return None
    before = reference(campaign.versions)
    seen = f"{sight.expected_share:.0%} of the area can be observed"
    if before is None:
        if campaign.versions:  # partial ones, or what an analyst has drawn on them
            return "whole", f"the rest of the area, after its most dangerous part; {seen}"
        if sight.tiles > settings.partial_above_tiles:
            return "partial", f"first useful coverage, the most dangerous part of {sight.tiles} tiles first; {seen}"
        return "whole", f"first useful coverage: {seen}"
    gained = gained_share(campaign, sight)
    if gained < settings.better_share:
        return None
    new = len(set(sight.scenes) - set(sight.left_out) - set(before.scenes_after))
    what = [f"{new} new scene{'s' if new != 1 else ''}"] if new else []
    what += [f"{sight.added_km2:,.0f} km² more of an area"] if sight.added_km2 > 0 else []
    return "whole", f"{' and '.join(what) or 'a better look'}: {gained:.0%} of the area more can be observed"


def _too_little(campaign: Campaign, settings: CampaignSettings) -> str:
    if reference(campaign.versions) is None:
        return f"less than the {settings.first_share:.0%} of a first version"
    return f"not {settings.better_share:.0%} more than the last version shows"


def _to_resume(campaign: Campaign) -> Attempt | None:
    """The attempt that was begun, unless it has failed too often or the area has changed since."""
    attempt = campaign.attempt
    if attempt is None or campaign.failures >= KEPT_TRIES or campaign.area is None:
        return None
    return attempt if attempt.products == campaign.area.products else None


def _unwanted(campaign: Campaign) -> str | None:
    """Why the rule wants none of its earthquakes, when nothing has been published; None when it goes on."""
    if campaign.versions or campaign.attempt is not None:
        return None
    each = [latest_decision(campaign, quake) for quake in living(campaign)]
    said = [one for one in each if one is not None and not one.wanted]
    return said[-1].reason if said and len(said) == len(each) else None


def _past(campaign: Campaign, now: dt.datetime) -> bool:
    return now >= campaign.horizon


def _horizon_words(campaign: Campaign) -> str:
    seen = covered_share(campaign)
    return f"its horizon {campaign.horizon:%Y-%m-%d} has passed; {seen:.0%} of the ground that can be seen was observed"
