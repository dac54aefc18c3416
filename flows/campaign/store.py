"""The campaigns in the bucket: read, opened, changed and leased; every write by compare-and-swap on a generation.

A crash between two writes is mended by doing the same again, which changes nothing that was done. All times are UTC.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from pydantic import ValidationError

from flows.campaign import index as indices
from flows.campaign import turns
from flows.campaign.index import Index, IndexEntry
from flows.campaign.mark import mark_withdrawn, unmark_withdrawn
from flows.campaign.model import FORMAT, Campaign, Decision, Lease, Quake, State
from flows.campaign.record import joined, noticed, opened, withdrawn
from flows.errors import CampaignError, LeaseError
from flows.layout import INDEX_NAME, CampaignsLayout
from flows.settings import Settings
from flows.storage import PreconditionFailedError, Store
from flows.swapping import MAX_SWAPS, pause

log = logging.getLogger(__name__)

_READERS = 16  # documents read at once: a hundred campaigns are read in a second

Change = Callable[[Campaign], Campaign]
"""What becomes of a campaign; called again with a newer one when somebody else was faster."""


def index(store: Store) -> Index:
    """Which earthquake belongs to which campaign; one that is gone is made anew from the campaigns."""
    found, generation = indices.read_index(store)
    if generation == 0 and (campaigns := all_campaigns(store)):
        for campaign in campaigns:
            renew_index(store, campaign.id)
        found, _ = indices.read_index(store)
    return found


def load(store: Store, campaign_id: str) -> Campaign:
    """One campaign; raises `CampaignError` when there is none of this id or its document cannot be read."""
    found, _ = _read(store, campaign_id)
    if found is None:
        raise CampaignError(f"there is no campaign {campaign_id!r}: `quakeslide status` lists those there are")
    return found


def open_campaign(store: Store, quake: Quake, decision: Decision, settings: Settings, now: dt.datetime) -> Campaign:
    """Take up an earthquake; the campaign that knows it by one of its ids already is returned as it stands."""
    made = opened(quake, decision, settings.campaign, now)
    index(store)  # one that is gone would let an earthquake be taken up twice
    entry = indices.enter(store, indices.entry_of(made))
    return _created(store, entry, made)


def change(store: Store, campaign_id: str, how: Change, holder: str = "") -> Campaign:
    """Make of a campaign what `how` makes of it, and return that; nothing is written when it stays the same.

    With `holder` only while that holder has the lease: raises `LeaseError` otherwise, `CampaignError` for no campaign.
    """
    announced = False
    for attempt in range(MAX_SWAPS):
        present, generation = _read(store, campaign_id)
        if present is None:
            raise CampaignError(f"there is no campaign {campaign_id!r}: `quakeslide status` lists those there are")
        if holder and (present.lease is None or present.lease.holder != holder):
            raise LeaseError(f"campaign {campaign_id} was taken over by another step: this one has nothing more to do")
        wanted = how(present)
        if wanted == present:
            if announced:
                renew_index(store, campaign_id)
            return present
        told = indices.entry_of(wanted) != indices.entry_of(present)
        if told and wanted.open:
            _announce(store, indices.entry_of(wanted))
            announced = True
        try:
            _write(store, wanted, generation)
        except PreconditionFailedError:
            pause(attempt)
            continue
        if told:
            renew_index(store, campaign_id)
        return wanted
    raise CampaignError(f"campaign {campaign_id} was written by others {MAX_SWAPS} times in a row: run it again")


def notice(store: Store, campaign_id: str, quake: Quake, decision: Decision | None, now: dt.datetime) -> Campaign:
    """Take note of a newer record of one of a campaign's earthquakes; see `flows.campaign.record.noticed`."""
    _mend(store, campaign_id, quake, decision, now)
    return _marked(store, change(store, campaign_id, lambda campaign: noticed(campaign, quake, decision, now)))


def join(store: Store, campaign_id: str, quake: Quake, decision: Decision, now: dt.datetime) -> Campaign:
    """Take a further earthquake of a sequence into a campaign: its area grows, its horizon moves out."""
    return _marked(store, change(store, campaign_id, lambda campaign: joined(campaign, quake, decision, now)))


def withdraw(store: Store, campaign_id: str, why: str, now: dt.datetime, event_id: str = "") -> Campaign:
    """The USGS has deleted the earthquake: its products are marked, nothing is erased.

    `event_id` tells which of several; a campaign with a living earthquake goes on with that.
    """
    return _marked(store, change(store, campaign_id, lambda campaign: withdrawn(campaign, why, now, event_id)))


def all_campaigns(store: Store) -> list[Campaign]:
    """Every campaign that has a document, the latest opened first."""
    prefix = CampaignsLayout(store.bucket_url).prefix
    names = [info.uri.removeprefix(prefix) for info in store.list(prefix)]
    ids = [name.removesuffix(".json") for name in names if name.endswith(".json") and name != INDEX_NAME]
    return sorted(_read_all(store, ids), key=lambda campaign: (campaign.opened, campaign.id), reverse=True)


def campaigns_named(store: Store, ids: Iterable[str]) -> dict[str, Campaign]:
    """Those of some campaigns that have a document which can be read, by id."""
    return {campaign.id: campaign for campaign in _read_all(store, sorted(set(ids)))}


def open_campaigns(store: Store) -> list[Campaign]:
    """Every campaign of which more may come, by id."""
    ids = sorted(entry.id for entry in index(store).campaigns.values() if entry.open)
    return [campaign for campaign in _read_all(store, ids) if campaign.open]


def due(store: Store, now: dt.datetime, settings: Settings) -> list[Campaign]:
    """The campaigns that a step should look at now, the most urgent first, those that have waited long before others."""
    return turns.by_turn(open_campaigns(store), now)


def ready(store: Store, now: dt.datetime, settings: Settings) -> list[Campaign]:
    """Of those due as many as may be worked on at the same time beside those that a step holds now."""
    return turns.ready(open_campaigns(store), now, settings.campaign.at_once)


def lease(store: Store, campaign_id: str, holder: str, now: dt.datetime, settings: Settings) -> Campaign:
    """Take a campaign for one step; raises `LeaseError` while another holds it."""
    until = now + dt.timedelta(minutes=settings.campaign.lease_minutes)

    def take(campaign: Campaign) -> Campaign:
        held = campaign.lease
        if held is not None and held.holder != holder and held.until > now:
            raise LeaseError(f"another step works on campaign {campaign_id} until {held.until:%Y-%m-%d %H:%M:%S} UTC")
        return campaign.model_copy(update={"lease": Lease(holder=holder, until=until)})

    return change(store, campaign_id, take)


def renew(store: Store, campaign_id: str, holder: str, now: dt.datetime, settings: Settings) -> Campaign:
    """Keep a campaign for longer; raises `LeaseError` when another step has taken it."""
    until = now + dt.timedelta(minutes=settings.campaign.lease_minutes)
    return change(
        store, campaign_id, lambda one: one.model_copy(update={"lease": Lease(holder=holder, until=until)}), holder
    )


def release(store: Store, campaign_id: str, holder: str) -> Campaign:
    """Give a campaign back; nothing happens when another step holds it."""

    def give(campaign: Campaign) -> Campaign:
        mine = campaign.lease is not None and campaign.lease.holder == holder
        return campaign.model_copy(update={"lease": None}) if mine else campaign

    return change(store, campaign_id, give)


def renew_index(store: Store, campaign_id: str) -> None:
    """Make the index say of a campaign what its document says."""
    for attempt in range(MAX_SWAPS):
        # The index's generation is read first: a document that changes later is followed by its writer's own renewal.
        # That renewal writes nothing when it finds its entry there already (announced), and so does not keep an older
        # one from being written after it: whoever wrote looks once more whether the document still says so.
        present, generation = indices.read_index(store)
        campaign, _ = _read(store, campaign_id)
        if campaign is None or present.campaigns.get(campaign_id) == indices.entry_of(campaign):
            return
        try:
            indices.write_index(store, present.holding(indices.entry_of(campaign)), generation)
        except PreconditionFailedError:
            pause(attempt)
    raise CampaignError(f"the index of campaigns was written by others {MAX_SWAPS} times in a row: run it again")


def mend_index(store: Store) -> None:
    """Make the index say of every campaign what its document says: for the janitor, after anything."""
    for campaign in all_campaigns(store):
        renew_index(store, campaign.id)


def mend_mark(store: Store, campaign_id: str) -> None:
    """Make the products of a campaign say of a withdrawal what its document says; nothing is written when they do.

    For whoever finds a withdrawal, or the end of one, that may have been cut off between the two. Raises `CampaignError`
    for no campaign, `PublicationError` when the list of versions is damaged.
    """
    for attempt in range(MAX_SWAPS):
        campaign = load(store, campaign_id)
        last = next((step for step in reversed(campaign.history) if step.state is State.WITHDRAWN), None)
        if last is None:
            return  # never withdrawn: there is no mark
        if campaign.state is State.WITHDRAWN:
            mark_withdrawn(store, campaign_id, last.why, last.at)
        else:
            unmark_withdrawn(store, campaign_id)
        if load(store, campaign_id).state is campaign.state:
            return
        pause(attempt)  # withdrawn, or listed again, while this was written
    raise CampaignError(f"campaign {campaign_id} was written by others {MAX_SWAPS} times in a row: run it again")


def _marked(store: Store, campaign: Campaign) -> Campaign:
    """The campaign, whose products say whether it is withdrawn."""
    mend_mark(store, campaign.id)
    return campaign


def _mend(store: Store, campaign_id: str, quake: Quake, decision: Decision | None, now: dt.datetime) -> None:
    """Write the document of a campaign whose opening was cut off after it was entered in the index."""
    entry = index(store).campaigns.get(campaign_id)
    if entry is None or _read(store, campaign_id)[0] is not None:
        return
    decisions = () if decision is None else (decision,)
    urgency = 0.0 if decision is None else decision.urgency
    _created(store, entry, Campaign(
        id=campaign_id, quakes=(quake,), opened=entry.opened, decisions=decisions, urgency=urgency, look_after=now,
        horizon=entry.horizon,
    ))  # fmt: skip


def _created(store: Store, entry: IndexEntry, wanted: Campaign) -> Campaign:
    """The document of an entry, written now unless it is there."""
    campaign = wanted.model_copy(update={"id": entry.id, "opened": entry.opened, "horizon": entry.horizon})
    present, _ = _read(store, entry.id)
    if present is None:
        try:
            _write(store, campaign, 0)
        except PreconditionFailedError:
            return load(store, entry.id)
    return present or campaign


def _announce(store: Store, entry: IndexEntry) -> None:
    """Say in the index that a campaign is open, before its document does: an open one is never overlooked."""
    for attempt in range(MAX_SWAPS):
        present, generation = indices.read_index(store)
        if present.campaigns.get(entry.id) == entry:
            return
        try:
            indices.write_index(store, present.holding(entry), generation)
        except PreconditionFailedError:
            pause(attempt)
            continue
        return
    raise CampaignError(f"the index of campaigns was written by others {MAX_SWAPS} times in a row: run it again")


def _read_all(store: Store, ids: Iterable[str]) -> list[Campaign]:
    """The campaigns that can be read; one that is damaged is told of and keeps no other from its turn."""

    def read(campaign_id: str) -> Campaign | None:
        try:
            return _read(store, campaign_id)[0]
        except CampaignError as error:
            log.error("%s", error)
            return None

    with ThreadPoolExecutor(_READERS) as readers:
        return [campaign for campaign in readers.map(read, ids) if campaign is not None]


def _read(store: Store, campaign_id: str) -> tuple[Campaign | None, int]:
    uri = CampaignsLayout(store.bucket_url).campaign(campaign_id)
    data, generation = store.read_with_generation(uri)
    if generation == 0:
        return None, 0
    try:
        found = Campaign.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        raise CampaignError(
            f"{uri} is damaged ({first['msg']} at {'.'.join(map(str, first['loc']))}): restore it, then run again"
        ) from error
    if found.format != FORMAT:
        raise CampaignError(f"{uri} has format {found.format}, this program reads {FORMAT}")
    return found, generation


def _write(store: Store, campaign: Campaign, generation: int) -> None:
    uri = CampaignsLayout(store.bucket_url).campaign(campaign.id)
    data = campaign.model_dump_json(indent=1).encode()
    store.write_bytes(uri, data, "application/json", if_generation_match=generation)
