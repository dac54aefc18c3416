"""Which earthquake belongs to which campaign: one small document, so that two watches never take up one event twice.

Every open campaign stands in it as open; it may for a moment say open of one that has just been closed, never the
reverse. All times are UTC.
"""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from flows.campaign.model import FORMAT, Campaign, Quake, State
from flows.errors import CampaignError
from flows.layout import CampaignsLayout
from flows.storage import PreconditionFailedError, Store
from flows.swapping import MAX_SWAPS, pause


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class IndexedQuake(_Document):
    """One earthquake, as far as it takes to know it again."""

    ids: tuple[str, ...] = Field(description="Every id under which it has ever been known, sorted.")
    time: AwareDatetime = Field(description="Origin time.")
    lon: float = Field(description="Degrees, -180 to 180.")
    lat: float = Field(description="Degrees.")
    magnitude: float


class IndexEntry(_Document):
    """One campaign."""

    id: str
    state: State
    quakes: tuple[IndexedQuake, ...] = Field(description="Its earthquakes by origin time.")
    opened: AwareDatetime
    horizon: AwareDatetime = Field(description="When it is closed at the latest.")

    @property
    def open(self) -> bool:
        """Whether more may come of it."""
        return self.state not in (State.CLOSED, State.WITHDRAWN)

    @property
    def ids(self) -> frozenset[str]:
        """Every id of every one of its earthquakes."""
        return frozenset(name for quake in self.quakes for name in quake.ids) | {self.id}


class Index(_Document):
    """All campaigns, by id."""

    format: int = FORMAT
    campaigns: dict[str, IndexEntry] = {}

    def named(self, ids: Iterable[str]) -> str | None:
        """The campaign of an earthquake that goes by one of `ids`, None for none; of several the first opened."""
        wanted = set(ids)
        found = [entry for entry in self.campaigns.values() if not wanted.isdisjoint(entry.ids)]
        return min(found, key=lambda entry: (entry.opened, entry.id)).id if found else None

    def holding(self, entry: IndexEntry) -> Index:
        """This index with `entry` in the place of the one of its id."""
        return self.model_copy(update={"campaigns": {**self.campaigns, entry.id: entry}})


def entry_of(campaign: Campaign) -> IndexEntry:
    """What the index says of a campaign."""
    return IndexEntry(
        id=campaign.id, state=campaign.state, quakes=tuple(map(indexed, campaign.quakes)), opened=campaign.opened,
        horizon=campaign.horizon,
    )  # fmt: skip


def indexed(quake: Quake) -> IndexedQuake:
    """What the index keeps of an earthquake."""
    return IndexedQuake(ids=quake.ids, time=quake.time, lon=quake.lon, lat=quake.lat, magnitude=quake.magnitude)


def read_index(store: Store) -> tuple[Index, int]:
    """The index and its generation, empty with generation 0 when there is none. Raises `CampaignError` when damaged."""
    uri = CampaignsLayout(store.bucket_url).index
    data, generation = store.read_with_generation(uri)
    if generation == 0:
        return Index(), 0
    try:
        found = Index.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        raise CampaignError(
            f"{uri} is damaged ({first['msg']} at {'.'.join(map(str, first['loc']))}): restore it, or delete it: it is "
            "then made anew from the campaigns"
        ) from error
    if found.format != FORMAT:
        raise CampaignError(f"{uri} has format {found.format}, this program reads {FORMAT}")
    return found, generation


def write_index(store: Store, value: Index, generation: int) -> None:
    """Write the index over the generation it was read at; raises `PreconditionFailedError` when it has changed."""
    uri = CampaignsLayout(store.bucket_url).index
    store.write_bytes(uri, value.model_dump_json().encode(), "application/json", if_generation_match=generation)


def enter(store: Store, entry: IndexEntry) -> IndexEntry:
    """Enter a campaign; one that holds an earthquake of the same id already is returned instead, as it stands."""
    for attempt in range(MAX_SWAPS):
        present, generation = read_index(store)
        if known := present.named(entry.ids):
            return present.campaigns[known]
        try:
            write_index(store, present.holding(entry), generation)
        except PreconditionFailedError:
            pause(attempt)
            continue
        return entry
    raise CampaignError(f"the index of campaigns was written by others {MAX_SWAPS} times in a row: run it again")
