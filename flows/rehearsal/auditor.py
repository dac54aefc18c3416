"""The judge of a rehearsal: what the bucket holds, against what was to come of each earthquake.

`gather` reads the bucket; `judge` is pure.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from flows.campaign import store as campaigns
from flows.campaign.model import Campaign, State, VersionNote
from flows.errors import FlowError
from flows.layout import CATALOG_NAME, EventLayout
from flows.publish import Publication, read_versions
from flows.rehearsal.planted import Outcome
from flows.rehearsal.story import Expected
from flows.stac import multihash
from flows.storage import Store
from flows.watching.journal import days_since

SHOWN = 20
"""So many lines of each sort of defect are kept."""
MAX_ASSET_BYTES = 1 << 30


@dataclass(frozen=True)
class Found:
    """What the bucket holds."""

    campaigns: tuple[Campaign, ...]
    """All of them."""
    versions: dict[str, tuple[Publication, ...]]
    """What is visible, by campaign."""
    marked: frozenset[str]
    """Campaigns whose list of versions says that they are withdrawn."""
    incomplete: tuple[str, ...]
    """A line for each visible version of which something is missing or damaged."""
    journal: frozenset[str]
    """Ids of all earthquakes of which a decision is recorded."""
    orphans: int
    """Objects of runs that no version shows, after the janitor."""


@dataclass
class Verdict:
    """What the judge says."""

    qualifying_events: int = 0
    """Earthquakes that were to be mapped."""
    mapped: int = 0
    """Of these those that have one campaign and a version."""
    versions: int = 0
    """Versions in all."""
    missed: list[str] = field(default_factory=list)
    """Earthquakes of which not came what was to come."""
    duplicated: list[str] = field(default_factory=list)
    """Earthquakes with two campaigns, and versions that were made twice."""
    half_visible: list[str] = field(default_factory=list)
    """Versions that are visible and not complete."""
    unwanted: list[str] = field(default_factory=list)
    """Versions of earthquakes that were not to be mapped."""
    undecided: list[str] = field(default_factory=list)
    """Earthquakes of the feed of which no decision is recorded."""
    unnoted: list[str] = field(default_factory=list)
    """Campaigns that do not say what is visible."""
    orphans: int = 0
    """Objects that nobody needs, after the janitor."""
    by_outcome: Counter[str] = field(default_factory=Counter)
    """Earthquakes by what came of them, where it is what was to come."""

    @property
    def sound(self) -> bool:
        """Whether there is nothing to complain of."""
        lists = (self.missed, self.duplicated, self.half_visible, self.unwanted, self.undecided, self.unnoted)
        return not any(lists) and self.orphans == 0


def judge(expected: Sequence[Expected], listed: Set[str], found: Found) -> Verdict:
    """Compare what was found with what was to come. Pure."""
    verdict = Verdict(half_visible=list(found.incomplete), orphans=found.orphans)
    verdict.versions = sum(len(versions) for versions in found.versions.values())
    for one in expected:
        _judge_event(one, found, verdict)
    for campaign in found.campaigns:
        verdict.duplicated += _made_twice(campaign, found.versions.get(campaign.id, ()))
        noted = {note.version for note in campaign.versions}
        visible = {version.version for version in found.versions.get(campaign.id, ())}
        if noted != visible:
            verdict.unnoted.append(f"{campaign.id}: versions {sorted(visible)} are visible, {sorted(noted)} noted")
    verdict.undecided = sorted(listed - found.journal)
    return verdict


def _judge_event(one: Expected, found: Found, verdict: Verdict) -> None:
    own = [campaign for campaign in found.campaigns if not campaign.ids.isdisjoint((*one.ids, *one.second))]
    living = [campaign for campaign in own if campaign.state is not State.WITHDRAWN]
    name = f"{one.ids[0]} ({one.kind})"
    if len(living) > 1:
        verdict.duplicated.append(f"{name}: campaigns {', '.join(sorted(campaign.id for campaign in living))}")
    count = sum(len(found.versions.get(campaign.id, ())) for campaign in own)
    wanted = one.mapped_by is not None
    verdict.qualifying_events += wanted
    fault = _fault(one, own, living, count, found.marked)
    if fault and (one.outcome in (Outcome.MAPPED, Outcome.MARKED) or not count):
        verdict.missed.append(f"{name}: {fault}")
    elif fault:
        verdict.unwanted.append(f"{name}: {fault}")
    else:
        verdict.mapped += wanted
        verdict.by_outcome[one.outcome.value if wanted or count == 0 else "mapped before its time"] += 1


def _fault(one: Expected, own: list[Campaign], living: list[Campaign], count: int, marked: Set[str]) -> str:
    """What is wrong with what came of an earthquake; empty for nothing."""
    if one.outcome is not Outcome.NOTHING and not own:
        return "no campaign"
    known = {name for campaign in own for name in campaign.ids}
    if one.second and known.isdisjoint(one.second):
        return f"the second earthquake {one.second[0]} belongs to no campaign"
    if one.mapped_by is not None and not count:
        return f"no version by {one.mapped_by:%Y-%m-%d %H:%M}"
    if one.outcome in (Outcome.MAPPED, Outcome.MARKED):
        return _unmapped(one, own, living, count, marked)
    if count:
        return f"{count} versions, none was to be made"
    states = {Outcome.WITHDRAWN: State.WITHDRAWN, Outcome.CLOSED: State.CLOSED}
    wrong = [campaign for campaign in own if campaign.state is not states.get(one.outcome, campaign.state)]
    return f"its campaign is {wrong[0].state.value}" if wrong else ""


def _unmapped(one: Expected, own: list[Campaign], living: list[Campaign], count: int, marked: Set[str]) -> str:
    """What is wrong with the campaign of an event that was to be mapped, and perhaps deleted after that."""
    if one.outcome is Outcome.MAPPED:
        return "" if living else "its campaign is withdrawn"
    if living:
        return f"its campaign is {living[0].state.value}, the USGS has deleted the event" if one.mapped_by else ""
    unmarked = [campaign.id for campaign in own if count and campaign.id not in marked]
    return f"the versions of {unmarked[0]} are not marked as withdrawn" if unmarked else ""


def _made_twice(campaign: Campaign, versions: Iterable[Publication]) -> Iterator[str]:
    runs = Counter(version.run_key for version in versions)
    yield from (f"{campaign.id}: run {key} is visible {times} times" for key, times in runs.items() if times > 1)
    seen = Counter(_shown(note) for note in campaign.versions)
    for what, times in seen.items():
        if times > 1:
            yield f"{campaign.id}: {times} {what[0]} versions of the same {len(what[1])} scenes and {what[2]} km²"


def _shown(note: VersionNote) -> tuple[str, tuple[str, ...], float]:
    """What a version was made from: two of one campaign never are the same."""
    return note.kind, tuple(sorted(note.scenes_after)), round(note.area_km2, 3)


def gather(store: Store, first: dt.date, orphans: int) -> Found:
    """Read everything; every object that a version names is read, and its checksum made again."""
    known = campaigns.all_campaigns(store)
    versions: dict[str, tuple[Publication, ...]] = {}
    wrong: list[str] = []
    marked = set()
    for name in store.folders(f"{store.bucket_url}/events/"):
        event = EventLayout(store.bucket_url, name)
        versions[name] = read_versions(store, event)
        wrong += incomplete(store, name, deep=True)
        document, generation = store.read_with_generation(event.versions)
        if generation and "withdrawn" in json.loads(document):
            marked.add(name)
    days = days_since(store, first)
    journal = frozenset(name for day in days for seen in day.events.values() for name in (seen.id, *seen.ids))
    return Found(tuple(known), versions, frozenset(marked), tuple(wrong), journal, orphans)


def incomplete(store: Store, campaign_id: str, *, deep: bool = False) -> list[str]:
    """A line for each visible version of a campaign of which an object is missing; `deep` also makes checksums again."""
    event = EventLayout(store.bucket_url, campaign_id)
    wrong = []
    for version in read_versions(store, event):
        there = {info.uri for info in store.list(f"{version.item_uri.rpartition('/')[0]}/")}
        missing = [uri for uri in (version.item_uri, *version.assets.values()) if uri not in there]
        damaged = _damaged(store, version) if deep and not missing else []
        for uri in (*missing, *damaged):
            how = "missing" if uri in missing else "damaged"
            wrong.append(f"{campaign_id} version {version.version}: {uri.rpartition('/')[2]} is {how}")
    if deep and (links := _unlinked(store, event)):
        wrong.append(f"{campaign_id}: {CATALOG_NAME} lacks {links} versions")
    return wrong


def _damaged(store: Store, version: Publication) -> list[str]:
    item = store.read_bytes(version.item_uri)
    if hashlib.sha256(item).hexdigest() != version.item_sha256:
        return [version.item_uri]
    assets: dict[str, Any] = json.loads(item)["assets"]
    wrong = []
    for key, uri in version.assets.items():
        try:
            whole = hashlib.sha256(store.read_bytes(uri, MAX_ASSET_BYTES)).hexdigest()
        except FlowError:
            wrong.append(uri)
            continue
        if assets[key].get("file:checksum") != multihash(whole):
            wrong.append(uri)
    return wrong


def _unlinked(store: Store, event: EventLayout) -> int:
    data, generation = store.read_with_generation(event.catalog)
    versions = read_versions(store, event)
    links = [] if generation == 0 else [link for link in json.loads(data).get("links", []) if link["rel"] == "item"]
    return max(0, len(versions) - len(links))
