"""What was decided of every earthquake, also to do nothing: a document a day of origin times (UTC) in the bucket."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from flows.campaign.model import FORMAT, Campaign, Decision
from flows.errors import ServiceError
from flows.event import EarthquakeEvent, EventSummary
from flows.layout import CampaignsLayout
from flows.storage import PreconditionFailedError, Store
from flows.swapping import MAX_SWAPS, pause

Record = EventSummary | EarthquakeEvent


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Seen(_Document):
    """An earthquake as it was last seen."""

    id: str = Field(description="The id that the USGS preferred.")
    ids: tuple[str, ...] = Field(description="Every id under which it has been seen, sorted.")
    updated: AwareDatetime = Field(description="When the USGS had last changed the record.")
    status: str
    title: str
    simulated: bool = False
    campaign: str = Field("", description="The campaign that it belongs to, empty for none.")
    decisions: tuple[Decision, ...] = Field((), description="Each that differs from the one before, oldest first.")

    @property
    def wanted(self) -> bool:
        """Whether the rule wanted it when it was last asked."""
        return bool(self.decisions) and self.decisions[-1].wanted


class Day(_Document):
    """The earthquakes of a day, by the id that the USGS preferred when they were last seen."""

    format: int = FORMAT
    day: dt.date
    events: dict[str, Seen] = {}


def united(one: Seen, other: Seen) -> Seen:
    """Two memories of one earthquake as one: the newer record, every id, every decision that changed something."""
    newer, older = (one, other) if one.updated > other.updated else (other, one)
    decisions: list[Decision] = []
    for decision in sorted({*one.decisions, *other.decisions}, key=lambda made: (made.at, made.event_id)):
        if not decisions or said(decisions[-1]) != said(decision):
            decisions.append(decision)
    return newer.model_copy(
        update={
            "ids": tuple(sorted({*one.ids, *other.ids})),
            "campaign": newer.campaign or older.campaign,
            "decisions": tuple(decisions),
        }
    )


def with_later(seen: Seen, campaign: Campaign) -> Seen:
    """What was decided of an earthquake together with what its campaign has decided of it since.

    A campaign measures how much of the land under shaking is steep; what the rule says then stands in its document.
    """
    own = tuple(one for one in campaign.decisions if one.event_id in seen.ids)
    return united(seen, seen.model_copy(update={"decisions": own}))


def said(decision: Decision) -> tuple[bool, str, str]:
    """What makes a decision another one."""
    return decision.wanted, decision.basis, decision.reason


def day_of(record: Record) -> dt.date:
    """The day under which an earthquake is kept; one without an origin time, as deleted ones may be, by its update."""
    return (record.time or record.updated).astimezone(dt.UTC).date()


class Page:
    """A day that is being worked on."""

    def __init__(self, day: Day, generation: int) -> None:
        self.generation = generation
        self._date = day.day
        self._events = dict(day.events)
        self._names = {name: seen.id for seen in day.events.values() for name in (*seen.ids, seen.id)}

    def find(self, ids: Iterable[str]) -> Seen | None:
        """The earthquake that goes by one of `ids`."""
        return next((self._events[self._names[name]] for name in ids if name in self._names), None)

    def keep(self, seen: Seen) -> None:
        """Take in what is newer of `seen`, together with what is known of the same earthquake, under one id."""
        for name in sorted({self._names[name] for name in (seen.id, *seen.ids) if name in self._names}):
            seen = united(self._events.pop(name), seen)
        self._events[seen.id] = seen
        self._names |= dict.fromkeys((seen.id, *seen.ids), seen.id)

    @property
    def day(self) -> Day:
        """The document."""
        return Day(day=self._date, events=self._events)


class Journal:
    """The days that a watch looks into: each read once, written back in one go by `save`."""

    def __init__(self, store: Store) -> None:
        """A journal in a bucket."""
        self._store = store
        self._pages: dict[dt.date, Page] = {}
        self._news: dict[dt.date, list[Seen]] = {}

    def seen(self, record: Record) -> Seen | None:
        """What is known of the earthquake of a record."""
        return self._page(day_of(record)).find((record.id, *record.ids))

    def is_news(self, record: Record) -> bool:
        """Whether a record says more than what is known: a later update, a further id, or that it was deleted."""
        known = self.seen(record)
        return (
            known is None
            or record.updated > known.updated
            or not {record.id, *record.ids} <= set(known.ids)
            or (record.deleted and known.status != "deleted")
        )

    def note(self, record: Record, decision: Decision, campaign: str = "") -> None:
        """Keep what was decided of a record, in memory until `save`."""
        fresh = Seen(
            id=record.id, ids=tuple(sorted({record.id, *record.ids})), updated=record.updated, status=record.status,
            title=record.title, simulated=record.simulated, campaign=campaign, decisions=(decision,),
        )  # fmt: skip
        day = day_of(record)
        self._page(day).keep(fresh)
        self._news.setdefault(day, []).append(fresh)

    def save(self) -> None:
        """Write the days that have changed; what another watch has written meanwhile is kept."""
        for day, news in sorted(self._news.items()):
            self._save(day, news)
        self._news.clear()

    def _page(self, day: dt.date) -> Page:
        if day not in self._pages:
            self._pages[day] = Page(*read_day(self._store, day))
        return self._pages[day]

    def _save(self, day: dt.date, news: list[Seen]) -> None:
        uri = CampaignsLayout(self._store.bucket_url).day(day)
        for attempt in range(MAX_SWAPS):
            page = self._page(day)
            data = page.day.model_dump_json().encode()
            try:
                page.generation = self._store.write_bytes(
                    uri, data, "application/json", if_generation_match=page.generation
                )
            except PreconditionFailedError:
                pause(attempt)
                del self._pages[day]
                for seen in news:
                    self._page(day).keep(seen)
                continue
            return
        raise ServiceError(f"{uri} was written by others {MAX_SWAPS} times in a row: run it again")


def read_day(store: Store, day: dt.date) -> tuple[Day, int]:
    """The journal of a day and its generation, empty with generation 0 when there is none.

    Raises `ServiceError` when it cannot be read.
    """
    uri = CampaignsLayout(store.bucket_url).day(day)
    data, generation = store.read_with_generation(uri)
    if generation == 0:
        return Day(day=day), 0
    try:
        found = Day.model_validate_json(data)
    except ValidationError as error:
        raise ServiceError(f"{uri} is damaged ({error.errors()[0]['msg']}): restore it, or delete it") from error
    if found.format != FORMAT:
        raise ServiceError(f"{uri} has format {found.format}, this program reads {FORMAT}: use the newer program")
    return found, generation


def days_since(store: Store, since: dt.date) -> list[Day]:
    """The journals of the days from `since` on that there are, oldest first."""
    prefix = CampaignsLayout(store.bucket_url).days
    names = [info.uri.removeprefix(prefix).removesuffix(".json") for info in store.list(prefix)]
    return [read_day(store, day)[0] for day in sorted(map(dt.date.fromisoformat, names)) if day >= since]
