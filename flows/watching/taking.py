"""From one record to its campaign: the rule is asked, and the campaign opened, joined, changed or withdrawn."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from flows.campaign import store as campaigns
from flows.campaign.area import basis
from flows.campaign.index import Index
from flows.campaign.model import Campaign, Decision, Quake, State
from flows.errors import CampaignError, EventDeletedError, EventError, ServiceError
from flows.event import GROUND_FAILURE, EarthquakeEvent
from flows.settings import Settings
from flows.storage import Store
from flows.usgs import UsgsClient
from flows.watching import identity
from flows.watching.journal import Record, Seen
from flows.watching.rule import decide

Kind = Literal["opened", "joined", "changed", "reopened", "closed", "withdrawn"]

PATIENCE = 3
"""Details that may fail one after the other; after that the service is taken for out of order until the next poll."""


class UnansweredError(ServiceError):
    """The USGS does not give the detail of an event: ask again later."""


@dataclass(frozen=True)
class Change:
    """What a record has made of a campaign."""

    kind: Kind
    """opened: taken up; joined: part of a sequence; changed: a newer record; reopened: wanted again after it was closed;
    closed: no longer wanted; withdrawn: deleted by the USGS, or found to be the earthquake of another campaign."""
    campaign_id: str
    """The campaign."""
    event_id: str
    """The earthquake."""
    title: str
    """The event's title."""
    reason: str
    """Why, in words."""


@dataclass(frozen=True)
class Taken:
    """What came of one record."""

    record: Record
    """As it was decided on: the detail where it was needed."""
    decision: Decision
    """What the rule said."""
    campaign_id: str = ""
    """The campaign that the earthquake belongs to, empty for none."""
    changes: tuple[Change, ...] = ()
    """What changed."""


@dataclass
class Taker:
    """Takes up records, one after the other. Raises `ServiceError` when the bucket cannot be used."""

    usgs: UsgsClient
    """Where details are."""
    store: Store
    """Where campaigns are."""
    settings: Settings
    """The rule's, among others."""
    now: dt.datetime
    """The time of the watch, UTC."""
    listed: Mapping[str, str]
    """Every id in the feed as it is now, and the id that the USGS prefers for it."""
    _index: Index | None = field(default=None, init=False)
    _failed: int = field(default=0, init=False)

    @property
    def index(self) -> Index:
        """The campaigns as they are known; read again after every change."""
        if self._index is None:
            self._index = campaigns.index(self.store)
        return self._index

    def take(self, record: Record, seen: Seen | None = None) -> Taken:
        """Decide on a record and do what follows; doing it again changes nothing.

        Raises `EventError` when the event's detail cannot be used, `UnansweredError` when it cannot be had.
        """
        decision = decide(record, self.settings, self.now)
        if record.deleted:
            return self._deleted(record)
        if not isinstance(record, EarthquakeEvent):
            if not (decision.wanted or self._matters(record) or (seen is not None and (seen.wanted or seen.campaign))):
                return Taken(record, decision)
            try:
                record = self.detail(record.id)
            except EventDeletedError:
                return self._deleted(record)
            decision = decide(record, self.settings, self.now)
        return self._belonging(record, decision)

    def detail(self, event_id: str) -> EarthquakeEvent:
        """An event by id; raises as `UsgsClient.event` does, and `UnansweredError` when there is no answer."""
        if self._failed >= PATIENCE:
            raise UnansweredError(f"event {event_id} was not asked for: the USGS gave no answer {PATIENCE} times")
        try:
            found = self.usgs.event(event_id)
        except ServiceError as error:
            self._failed += 1
            raise UnansweredError(str(error)) from error
        self._failed = 0
        return found

    def _matters(self, record: Record) -> bool:
        """Whether the detail of a record that its summary does not want may change something."""
        if not isinstance(record, EarthquakeEvent) and GROUND_FAILURE in record.product_types:
            return True
        if identity.named((record.id, *record.ids), self.index):
            return True
        if record.time is None or record.lon is None or record.lat is None or record.magnitude is None:
            return False
        place = Quake(
            id=record.id, ids=record.ids, time=record.time, updated=record.updated, lon=record.lon, lat=record.lat,
            depth_km=record.depth_km, magnitude=record.magnitude, title=record.title, status=record.status,
        )  # fmt: skip
        return bool(identity.alike(place, self.index, self.settings.watch))

    def _belonging(self, event: EarthquakeEvent, decision: Decision) -> Taken:
        quake = identity.quake_of(event)
        campaign_id = identity.match(quake, self.index, self.settings.watch, self._apart(quake))
        if campaign_id is not None:
            decision = self._measured(event, quake, campaign_id) or decision
            changes = (*self._merged(quake, campaign_id), *self._noticed(quake, decision, campaign_id))
            return Taken(event, decision, campaign_id, changes)
        if not decision.wanted:
            return Taken(event, decision)
        near = (
            campaigns.load(self.store, name) for name in identity.companions(quake, self.index, self.settings.watch)
        )
        companion = identity.sequence(quake, near, self.settings)
        if companion is not None:
            return Taken(event, decision, companion, (self._joined(quake, decision, companion),))
        own = campaigns.open_campaign(self.store, quake, decision, self.settings, self.now).id
        self._index = None
        return Taken(event, decision, own, (Change("opened", own, quake.id, quake.title, decision.reason),))

    def _joined(self, quake: Quake, decision: Decision, campaign_id: str) -> Change:
        after = campaigns.join(self.store, campaign_id, quake, decision, self.now)
        self._index = None
        reason = decision.reason
        if after.closed_by:  # a person has ended it: nothing is mapped before a person says so
            reason += f"; campaign {campaign_id} was closed by {after.closed_by}: `quakeslide reopen {campaign_id}`"
        return Change("joined", campaign_id, quake.id, quake.title, reason)

    def _measured(self, event: EarthquakeEvent, quake: Quake, campaign_id: str) -> Decision | None:
        """What the rule says when the steep land under this very shaking has been measured, None when it has not."""
        known = self._present(campaign_id)
        if known is None or known.area is None or basis(quake) not in known.area.products:
            return None
        return decide(event, self.settings, self.now, steep_km2=known.area.steep_km2)

    def _apart(self, quake: Quake) -> identity.Apart:
        def apart(ids: tuple[str, ...]) -> bool:
            if any(name in self.listed for name in ids):
                return True  # `ids` and those of the quake share none, so the feed lists both
            for name in ids:
                try:
                    return set(self.detail(name).ids).isdisjoint(quake.ids)
                except EventError:
                    continue  # deleted, or not known any more
            return False

        return apart

    def _noticed(self, quake: Quake, decision: Decision, campaign_id: str) -> tuple[Change, ...]:
        before = self._present(campaign_id)
        entered = self.index.campaigns.get(campaign_id)
        if (
            before is not None
            and before.ids.isdisjoint(quake.ids)
            and entered
            and not entered.ids.isdisjoint(quake.ids)
        ):
            # It was to join, and was cut off between the index and the document.
            return (self._joined(quake, decision, campaign_id),)
        if before is not None and identity.fused(before, quake.ids) != before:
            campaigns.change(self.store, campaign_id, lambda campaign: identity.fused(campaign, quake.ids))
        after = campaigns.notice(self.store, campaign_id, quake, decision, self.now)
        if after == before:
            return ()
        self._index = None
        reason = after.history[-1].why if before and after.state is not before.state else decision.reason
        return (Change(_kind(before, after), campaign_id, quake.id, quake.title, reason),)

    def _merged(self, quake: Quake, campaign_id: str) -> tuple[Change, ...]:
        """Withdraw the other campaigns of an earthquake that was taken for several."""
        changes = []
        why = f"the USGS lists it as {quake.id} now, the earthquake of campaign {campaign_id}"
        for entry in identity.named(quake.ids, self.index):
            if entry.id != campaign_id and entry.state is State.WITHDRAWN:
                campaigns.mend_mark(self.store, entry.id)
            elif entry.id != campaign_id:
                name = next((name for name in quake.ids if name in entry.ids), quake.id)
                after = campaigns.withdraw(self.store, entry.id, why, self.now, name)
                kind: Kind = "withdrawn" if after.state is State.WITHDRAWN else "changed"
                changes.append(Change(kind, entry.id, quake.id, quake.title, why))
        if changes:
            self._index = None
        return tuple(changes)

    def _deleted(self, record: Record) -> Taken:
        """The USGS has deleted a record; the earthquake goes on when it is listed under another of its ids."""
        why = f"the USGS has deleted event {record.id}"
        decision = Decision(
            at=self.now, event_id=record.id, magnitude=record.magnitude, wanted=False, basis="record", reason=why
        )
        ids = {record.id, *record.ids}
        changes: list[Change] = []
        campaign_id = ""
        for entry in identity.named(ids, self.index):
            campaign_id = campaign_id or entry.id
            if entry.state is State.WITHDRAWN:
                campaigns.mend_mark(self.store, entry.id)  # whoever withdrew it may have been cut off before the mark
                continue
            known = next((quake for quake in entry.quakes if not ids.isdisjoint(quake.ids)), None)
            living = None if known is None else self._living(set(known.ids) - ids)
            if living is not None:
                changes += self._noticed(identity.quake_of(living), decide(living, self.settings, self.now), entry.id)
                continue
            before = self._present(entry.id)
            name = next((name for name in known.ids if name in ids), record.id) if known else record.id
            after = campaigns.withdraw(self.store, entry.id, why, self.now, name)
            if after != before:
                self._index = None
                kind: Kind = "withdrawn" if after.state is State.WITHDRAWN else "changed"
                changes.append(Change(kind, entry.id, record.id, record.title, why))
        return Taken(record, decision, campaign_id, tuple(changes))

    def _living(self, ids: set[str]) -> EarthquakeEvent | None:
        """The event that one of `ids` leads to, None when none is listed any more."""
        for name in sorted(ids):
            try:
                return self.detail(name)
            except EventError:
                continue
        return None

    def _present(self, campaign_id: str) -> Campaign | None:
        """The campaign; None when it was entered in the index and its opening then cut off."""
        try:
            return campaigns.load(self.store, campaign_id)
        except CampaignError:
            return None


def _kind(before: Campaign | None, after: Campaign) -> Kind:
    if before is None:
        return "opened"
    if after.state is State.CLOSED and before.state is not State.CLOSED:
        return "closed"
    return "reopened" if after.open and not before.open else "changed"
