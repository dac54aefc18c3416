"""What a newer record of an earthquake makes of a campaign. Pure."""

from __future__ import annotations

import datetime as dt

from flows.campaign.model import Campaign, Decision, Quake, State, Transition
from flows.layout import safe_id, short_hash
from flows.settings import CampaignSettings

AS_STRONG = 0.5
"""An aftershock so much weaker than the main shock, or less, counts as strong as that."""


def opened(quake: Quake, decision: Decision, settings: CampaignSettings, now: dt.datetime) -> Campaign:
    """A new campaign of one earthquake, due at once."""
    return Campaign(
        id=campaign_id(quake), quakes=(quake,), opened=now,
        history=(Transition(at=now, state=State.WAITING, why=decision.reason),), decisions=(decision,),
        urgency=decision.urgency, look_after=now,
        horizon=quake.time + dt.timedelta(days=settings.horizon_days),
    )  # fmt: skip


def campaign_id(quake: Quake) -> str:
    """The id of a campaign that an earthquake begins: its own, or one that can name a folder."""
    named = (name for name in (quake.id, *quake.ids) if safe_id(name))
    return next(named, "") or f"q-{short_hash(sorted(quake.ids))}"


def moved(campaign: Campaign, state: State, why: str, now: dt.datetime) -> Campaign:
    """The campaign in another state, and its history; the same campaign when it is in that state already."""
    if campaign.state is state:
        return campaign
    entry = Transition(at=now, state=state, why=why)
    return campaign.model_copy(update={"state": state, "history": (*campaign.history, entry)})


def noticed(campaign: Campaign, quake: Quake, decision: Decision | None, now: dt.datetime) -> Campaign:
    """A campaign that has taken note of a newer record of one of its earthquakes, and of what the rule says of it.

    Ids are only ever added. A change of products, magnitude, place or time makes a step due now; with a wanted decision
    it also opens a closed campaign again before its horizon, unless a person closed it. An unwanted decision closes a
    campaign that has no version and no other wanted earthquake. The same record again changes nothing.
    """
    place = _place(campaign, quake)
    known = campaign.quakes[place]
    merged = _merged(known, quake)
    quakes = _by_time((*campaign.quakes[:place], merged, *campaign.quakes[place + 1 :]))
    after = _decided(_with_quakes(campaign, quakes), decision)
    if not _changes_the_map(known, merged):
        return _dropped(after, now)
    if campaign.state is State.MAPPING:
        return after.model_copy(update={"look_after": now})
    why = _what_changed(known, merged)
    if campaign.state is State.ASKING:
        return _dropped(moved(after, State.WAITING, why, now).model_copy(update={"look_after": now}), now)
    if campaign.open:
        return _dropped(after.model_copy(update={"look_after": min(campaign.look_after, now)}), now)
    if _reopens(after, decision, now):
        return moved(after, State.WAITING, why, now).model_copy(update={"look_after": now})
    return after


def joined(campaign: Campaign, quake: Quake, decision: Decision, now: dt.datetime) -> Campaign:
    """A campaign that a further earthquake of a sequence belongs to; one that it knows already is only noticed."""
    if not campaign.ids.isdisjoint(quake.ids):
        return noticed(campaign, quake, decision, now)
    after = _decided(_with_quakes(campaign, _by_time((*campaign.quakes, quake))), decision)
    if campaign.closed_by:
        return after
    why = f"{quake.title} ({quake.id}) joins the sequence"
    if campaign.state is not State.MAPPING:
        after = moved(after, State.WAITING, why, now)
    return after.model_copy(update={"look_after": now})


def withdrawn(campaign: Campaign, why: str, now: dt.datetime, event_id: str = "") -> Campaign:
    """A campaign of whose earthquakes one (`event_id`), or each of them, has been deleted by the USGS."""
    quakes = tuple(
        quake.model_copy(update={"status": "deleted"}) if not event_id or event_id in quake.ids else quake
        for quake in campaign.quakes
    )
    if quakes == campaign.quakes and campaign.state is State.WITHDRAWN:
        return campaign
    after = campaign.model_copy(update={"quakes": quakes})
    if all(quake.status == "deleted" for quake in quakes):
        return moved(after, State.WITHDRAWN, why, now)
    return after.model_copy(update={"look_after": now}) if quakes != campaign.quakes and campaign.open else after


def living(campaign: Campaign) -> tuple[Quake, ...]:
    """Its earthquakes that have not been deleted."""
    return tuple(quake for quake in campaign.quakes if quake.status != "deleted")


def window_start(campaign: Campaign) -> dt.datetime:
    """Origin time that the images after must follow: that of the last earthquake about as strong as the strongest.

    Weaker aftershocks shake a small part of the area: for them the images of the main shock are not thrown away. What
    they bring down where the ground was seen before is left to a person.
    """
    quakes = living(campaign) or campaign.quakes
    strongest = max(quake.magnitude for quake in quakes)
    return max(quake.time for quake in quakes if quake.magnitude >= strongest - AS_STRONG)


def window_end(campaign: Campaign) -> dt.datetime:
    """Origin time that the images before must precede: that of its first earthquake."""
    return min(quake.time for quake in living(campaign) or campaign.quakes)


def latest_decision(campaign: Campaign, quake: Quake) -> Decision | None:
    """What the rule said last of one of its earthquakes."""
    own = [decision for decision in campaign.decisions if decision.event_id in quake.ids]
    return own[-1] if own else None


def flat_decisions(campaign: Campaign, minimum_steep_km2: float, now: dt.datetime) -> tuple[Decision, ...]:
    """What the rule says of earthquakes that it wanted for their magnitude, before it knew how little land is steep.

    Empty where the steep land has not been measured, or suffices.
    """
    steep = campaign.area.steep_km2 if campaign.area is not None else None
    if steep is None or steep >= minimum_steep_km2:
        return ()
    each = (latest_decision(campaign, quake) for quake in living(campaign))
    why = f"{steep:.1f} km² of steep land under shaking are less than {minimum_steep_km2:g} km²"
    return tuple(
        one.model_copy(update={"at": now, "wanted": False, "reason": f"{one.reason}, but {why}", "urgency": 0.0})
        for one in each
        if one is not None and one.wanted and one.basis == "magnitude"
    )


def decided(campaign: Campaign, decision: Decision, now: dt.datetime) -> Campaign:
    """A campaign of which the rule was asked again: closed when nothing in it is wanted and nothing was published."""
    return _dropped(_decided(campaign, decision), now)


def _place(campaign: Campaign, quake: Quake) -> int:
    """Which of its earthquakes a record tells of: the one of the same id, else the nearest in time."""
    for place, known in enumerate(campaign.quakes):
        if not set(known.ids).isdisjoint(quake.ids):
            return place
    return min(range(len(campaign.quakes)), key=lambda place: abs(campaign.quakes[place].time - quake.time))


def _merged(known: Quake, new: Quake) -> Quake:
    """The newer of two records with the ids of both."""
    base = new if new.updated >= known.updated else known
    return base.model_copy(update={"ids": tuple(sorted({*known.ids, *new.ids}))})


def _by_time(quakes: tuple[Quake, ...]) -> tuple[Quake, ...]:
    return tuple(sorted(quakes, key=lambda quake: (quake.time, quake.id)))


def _with_quakes(campaign: Campaign, quakes: tuple[Quake, ...]) -> Campaign:
    """The campaign with other records of its earthquakes; its horizon keeps its distance from the last of them."""
    after = campaign.model_copy(update={"quakes": quakes})
    horizon = campaign.horizon + (after.last_time - campaign.last_time)
    return after.model_copy(update={"horizon": horizon})


def _decided(campaign: Campaign, decision: Decision | None) -> Campaign:
    """The campaign with a decision noted, unless it says what the last one of the same earthquake said."""
    if decision is None:
        return campaign
    quake = next((one for one in campaign.quakes if decision.event_id in one.ids), None)
    last = None if quake is None else latest_decision(campaign, quake)
    said = (decision.wanted, decision.basis, decision.reason, decision.urgency)
    if last is not None and (last.wanted, last.basis, last.reason, last.urgency) == said:
        return campaign
    after = campaign.model_copy(update={"decisions": (*campaign.decisions, decision)})
    each = (latest_decision(after, one) for one in after.quakes)
    urgency = max((one.urgency for one in each if one is not None and one.wanted), default=0.0)
    return after.model_copy(update={"urgency": urgency})


def _dropped(campaign: Campaign, now: dt.datetime) -> Campaign:
    """Closed when nothing has been published and the rule wants none of its earthquakes."""
    if campaign.versions or campaign.state not in (State.WAITING, State.ASKING):
        return campaign
    each = [latest_decision(campaign, quake) for quake in living(campaign)]
    if not each or any(one is None or one.wanted for one in each):
        return campaign
    reasons = [one.reason for one in each if one is not None]
    return moved(campaign, State.CLOSED, reasons[-1], now)


def _changes_the_map(known: Quake, new: Quake) -> bool:
    """Whether a record says something that a map depends on."""
    names = ("time", "lon", "lat", "depth_km", "magnitude", "status", "shakemap", "ground_failure")
    return any(getattr(known, name) != getattr(new, name) for name in names) and not (
        {known.status, new.status} == {"automatic", "reviewed"}
        and all(getattr(known, name) == getattr(new, name) for name in names if name != "status")
    )


def _what_changed(known: Quake, new: Quake) -> str:
    if new.shakemap != known.shakemap:
        return f"new ShakeMap {new.shakemap}" if new.shakemap else "the ShakeMap was withdrawn"
    if new.ground_failure != known.ground_failure:
        return f"new ground-failure product {new.ground_failure or 'none'}"
    if new.magnitude != known.magnitude:
        return f"magnitude {known.magnitude:g} is now {new.magnitude:g}"
    if new.status != known.status:
        return f"the record, {known.status} before, is {new.status}"
    return "place or time of the earthquake were revised"


def _reopens(campaign: Campaign, decision: Decision | None, now: dt.datetime) -> bool:
    return not campaign.closed_by and decision is not None and decision.wanted and now < campaign.horizon
