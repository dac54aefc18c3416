"""What was given up is cleared away: decided here, purely, for one event; and carried out, everywhere.

Never touched: what `versions.json` names, that list, the catalogue, documents of campaigns and the watch's journal, and
anything that was written or taken up again within the time of grace. A run that takes up what an earlier one has uploaded
makes it new first (`Store.touch`), and an object is deleted only as it was when it was listed; so nothing is cleared away
under a run that is about to publish it.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field

from flows.campaign import store as campaigns
from flows.campaign.model import Campaign, State
from flows.errors import CampaignError, FlowError, LeaseError
from flows.layout import ITEM_NAME, KEY_LENGTH, EventLayout
from flows.logs import redacted
from flows.publish import Publication, read_versions
from flows.reaching import bucket, connected
from flows.settings import Settings
from flows.storage import ObjectInfo, Store
from flows.tidy import tidy
from gee.errors import GeeError
from gee.session import Session

log = logging.getLogger(__name__)

HOLDER = "janitor"
"""How the janitor's lease of a campaign begins, while its cubes are removed."""


@dataclass(frozen=True)
class Doomed:
    """An object that nobody needs any more."""

    object: ObjectInfo
    """The object as it was listed."""
    why: str
    """For people, the same for all of a kind."""


@dataclass
class Cleared:
    """What a clearing has done, or would do."""

    removed: dict[str, int] = field(default_factory=dict)
    """Why -> how many objects."""
    bytes: int = 0
    """How much that was in the bucket, uncompressed as stored."""
    assets: list[str] = field(default_factory=list)
    """Ids of what was removed in Earth Engine."""
    troubles: list[str] = field(default_factory=list)
    """What could not be cleared, and why; it is tried again the next time."""

    def note(self, doomed: Doomed) -> None:
        """Count one object."""
        self.removed[doomed.why] = self.removed.get(doomed.why, 0) + 1
        self.bytes += doomed.object.size

    def lines(self) -> list[str]:
        """For people."""
        kinds = [f"{count:,} objects: {why}" for why, count in sorted(self.removed.items())]
        assets = [f"{len(self.assets):,} assets in Earth Engine of runs never published"] if self.assets else []
        total = sum(self.removed.values())
        troubles = map(redacted, self.troubles)
        return [*kinds, *assets, *troubles, f"cleared: {total:,} objects, {self.bytes / 1e6:,.1f} MB"]


def orphans(
    event: EventLayout,
    objects: Iterable[ObjectInfo],
    published: Sequence[Publication],
    now: dt.datetime,
    grace: dt.timedelta,
) -> list[Doomed]:
    """Which objects below an event's `runs/` nobody will ever need, in the order in which they are to be removed. Pure.

    `objects` were listed before `published` was read. Of a run none of whose files is younger than `grace`: what its
    stages left, and products that no version shows. `now` and the objects' times are those of the bucket.
    """
    runs: dict[str, list[ObjectInfo]] = {}
    prefix = f"{event.root}/runs/"
    for one in objects:
        if one.uri.startswith(prefix):
            runs.setdefault(one.uri.removeprefix(prefix).partition("/")[0], []).append(one)
    shown = {(version.run_key, version.digest) for version in published}
    visible = {version.run_key for version in published}
    doomed: list[Doomed] = []
    for run_key, files in sorted(runs.items()):
        for folder, inside in sorted(_by_folder(f"{prefix}{run_key}/", files).items()):
            if (run_key, folder) in shown or not _older(files if folder == "stages" else inside, now, grace):
                continue
            if folder == "stages":
                why = "left by stages of a published run" if run_key in visible else "left by stages of a given-up run"
            elif _is_digest(folder):
                why = "products that were never published"
            else:
                continue  # nothing that this program has named
            doomed += [Doomed(one, why) for one in sorted(inside, key=_first_what_makes_it_whole)]
    return doomed


def stale_cubes(
    campaign: Campaign, objects: Iterable[ObjectInfo], now: dt.datetime, keep: dt.timedelta
) -> list[Doomed]:
    """The objects of a campaign's cubes when it has been closed for longer than `keep`, else none. Pure.

    The records that make a cube whole come first: one that is half removed counts as incomplete, not as damaged.
    """
    closed = closed_since(campaign)
    if closed is None or now - closed <= keep:
        return []
    return [
        Doomed(one, "cubes of campaigns closed long ago") for one in sorted(objects, key=_first_what_makes_it_whole)
    ]


def closed_since(campaign: Campaign) -> dt.datetime | None:
    """When a campaign was closed or withdrawn; None while it is open."""
    if campaign.open:
        return None
    ends = [step.at for step in campaign.history if step.state in (State.CLOSED, State.WITHDRAWN)]
    return max(ends, default=campaign.horizon)


def _by_folder(prefix: str, files: Iterable[ObjectInfo]) -> dict[str, list[ObjectInfo]]:
    folders: dict[str, list[ObjectInfo]] = {}
    for one in files:
        folder, slash, _ = one.uri.removeprefix(prefix).partition("/")
        if slash:
            folders.setdefault(folder, []).append(one)
    return folders


def _older(files: Iterable[ObjectInfo], now: dt.datetime, grace: dt.timedelta) -> bool:
    """Whether every file is older than the time of grace; one of unknown age is not."""
    return all(one.updated is not None and now - one.updated > grace for one in files)


def _is_digest(name: str) -> bool:
    return len(name) == KEY_LENGTH and not set(name) - set("0123456789abcdef")


def _first_what_makes_it_whole(one: ObjectInfo) -> tuple[bool, str]:
    """Records before what they vouch for: the item of products, the records of stages, manifests of cubes."""
    name = one.uri.rpartition("/")[2]
    whole = name == ITEM_NAME or name.endswith(".manifest.json") or ("/stages/" in one.uri and name.endswith(".json"))
    return (not whole, one.uri)


def clear_everything(settings: Settings, *, now: dt.datetime | None = None, dry_run: bool = False) -> Cleared:
    """Clear the whole bucket and Earth Engine; what fails for one event does not keep the others. Do it at any time.

    `now` is the campaigns' present, which may be simulated; the ages of objects are always by the bucket's clock. Raises
    `ServiceError` when the bucket cannot be reached at all.
    """
    present = dt.datetime.now(dt.UTC)
    cleared = Cleared()
    with bucket(settings) as store:
        events = store.folders(f"{store.bucket_url}/events/")
        known = {campaign.id: campaign for campaign in campaigns.all_campaigns(store)}
        if not dry_run:
            campaigns.mend_index(store)
        for name in events:
            try:
                event = EventLayout(store.bucket_url, name)
                _clear_event(store, event, known.get(name), settings, present, now or present, cleared, dry_run=dry_run)
            except FlowError as error:
                cleared.troubles.append(f"{name}: {error}")
        if not dry_run:
            _clear_assets(store, _active(events, known, settings, now or present), settings, present, cleared)
    for trouble in cleared.troubles:
        log.warning("not cleared: %s", trouble)
    return cleared


def _clear_event(
    store: Store,
    event: EventLayout,
    campaign: Campaign | None,
    settings: Settings,
    present: dt.datetime,
    now: dt.datetime,
    cleared: Cleared,
    *,
    dry_run: bool,
) -> None:
    if campaign is not None and not dry_run:
        campaigns.mend_mark(store, campaign.id)  # a withdrawal that was cut off between the document and the products
    grace = dt.timedelta(hours=settings.janitor.orphan_hours)
    objects = store.list(f"{event.root}/runs/")
    remove(store, orphans(event, objects, read_versions(store, event), present, grace), cleared, dry_run=dry_run)
    keep = dt.timedelta(days=settings.janitor.keep_cubes_days)
    if campaign is None or not (since := closed_since(campaign)) or now - since <= keep:
        return
    doomed = stale_cubes(campaign, store.list(f"{event.cubes}/"), now, keep)
    if not doomed or dry_run:
        remove(store, doomed, cleared, dry_run=dry_run)
        return
    holder = f"{HOLDER}-{present.timestamp():.0f}"
    try:  # a campaign that is opened again waits until its cubes are gone, and pulls them anew
        leased = campaigns.lease(store, campaign.id, holder, now, settings)
        if not leased.open:
            remove(store, doomed, cleared, dry_run=False)
        campaigns.release(store, campaign.id, holder)
    except (LeaseError, CampaignError) as error:
        cleared.troubles.append(f"{campaign.id}: {error}")


def remove(store: Store, doomed: Iterable[Doomed], cleared: Cleared, *, dry_run: bool = False) -> None:
    """Delete what is still as it was when it was listed, in this order, and count it; with `dry_run` only count."""
    for one in doomed:
        if dry_run or store.delete_unchanged(one.object):
            cleared.note(one)


def _active(
    events: Iterable[str], known: Mapping[str, Campaign], settings: Settings, now: dt.datetime
) -> Iterable[str]:
    """The events that may have left something in Earth Engine lately: all but those of campaigns long closed."""
    keep = dt.timedelta(days=max(settings.janitor.keep_cubes_days, settings.earthengine.orphan_hours / 12))
    for name in events:
        closed = closed_since(known[name]) if name in known else None
        if closed is None or now - closed <= keep:
            yield name


def _clear_assets(
    store: Store, events: Iterable[str], settings: Settings, present: dt.datetime, cleared: Cleared
) -> None:
    names: Set[str] = set(events)
    if not names:
        return
    try:
        with connected(settings) as session:
            for name in sorted(names):
                cleared.assets += _tidied(session, store, name, settings, present, cleared)
    except (GeeError, FlowError) as error:
        cleared.troubles.append(f"Earth Engine: {error}")


def _tidied(
    session: Session, store: Store, name: str, settings: Settings, present: dt.datetime, cleared: Cleared
) -> tuple[str, ...]:
    try:
        return tidy(session, store, EventLayout(store.bucket_url, name), settings, present)
    except (GeeError, FlowError) as error:
        cleared.troubles.append(f"{name} in Earth Engine: {error}")
        return ()
