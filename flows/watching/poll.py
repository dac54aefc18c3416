"""One look at the USGS: what is news since the last one, worked off so that nothing is lost and nothing done twice.

What is asked for, and what each catches:

- the summary feed, with the validators of the last answer: news within half a minute;
- a sweep, every `watch.sweep_minutes` and after any downtime: a query for all that was changed since the last sweep,
  deleted events among it, which no feed lists;
- earthquakes of campaigns that the feed should list and does not: deleted or renamed within the last day;
- an audit once a day: every earthquake of every campaign by its id, whatever feed and query have left out;
- events whose record could not be read when they were news.

A crash at any moment leaves the cursor where it was: the same is asked for again, and what was done stays done.
"""

from __future__ import annotations

import datetime as dt
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass

from flows.campaign.index import IndexedQuake
from flows.campaign.model import Decision, State
from flows.errors import CampaignError, EventDeletedError, EventError, ServiceError
from flows.event import EventSummary
from flows.logs import redacted
from flows.settings import Settings, WatchSettings
from flows.storage import Store
from flows.usgs import FeedPoll, UsgsClient
from flows.watching import identity
from flows.watching.cursor import Cursor, Pending, read_cursor, write_cursor
from flows.watching.journal import Journal, Record
from flows.watching.taking import Change, Taken, Taker, UnansweredError

log = logging.getLogger(__name__)

LATE = dt.timedelta(hours=1)
"""The USGS may list a change so much later than the time that it gives for it."""
LEAVING = dt.timedelta(minutes=5)
"""An event that is about to leave the feed is not missed in it."""
MAX_STALE = 6
"""So often a detail is asked for again that is older than its record in the feed."""
AUDIT_EVERY = dt.timedelta(days=1)
SMALL_SWEEP = dt.timedelta(days=2)
"""A sweep over more time leaves out what is too small for the feed; deleted events may have no magnitude."""
_WINDOW = {"hour": dt.timedelta(hours=1), "day": dt.timedelta(days=1), "week": dt.timedelta(weeks=1)}
_MONTH = dt.timedelta(days=30)
_UNREADABLE = (EventError, CampaignError, UnansweredError)


@dataclass(frozen=True)
class Report:
    """What one look at the USGS found."""

    at: dt.datetime
    """When, UTC."""
    listed: int | None
    """Events in the feed, None when it had not changed."""
    swept: int | None
    """Events that a sweep found changed, None when none was due or it failed."""
    news: int
    """Records that were decided on."""
    decisions: tuple[Decision, ...]
    """Those that differ from the last one of the same earthquake."""
    changes: tuple[Change, ...]
    """What became of campaigns."""
    pending: int
    """Events whose record could not be read so far."""
    troubles: tuple[str, ...]
    """One line for each thing that did not work and will be tried again."""


def work_off(usgs: UsgsClient, store: Store, settings: Settings, now: dt.datetime) -> Report:
    """Work off what has changed at the USGS since the last time; may be repeated and run twice at once.

    Raises `ServiceError` when the feed or the bucket cannot be reached; nothing is lost by that.
    """
    cursor, generation = read_cursor(store)
    feed = usgs.poll(settings.watch.feed, cursor.validators(settings.watch.feed))
    look = _Look(usgs, store, settings, now, cursor, feed)
    look.work_off()
    write_cursor(store, look.cursor_after(), generation)
    return look.report()


class _Look:
    """The state of one look."""

    def __init__(
        self, usgs: UsgsClient, store: Store, settings: Settings, now: dt.datetime, cursor: Cursor, feed: FeedPoll
    ) -> None:
        self._usgs, self._settings, self._now, self._cursor, self._feed = usgs, settings, now, cursor, feed
        self._journal = Journal(store)
        listed = {name: event.id for event in feed.events or () for name in (event.id, *event.ids)}
        self._taker = Taker(usgs, store, settings, now, listed)
        self._pending = dict(cursor.pending)
        self._swept: int | None = None
        self._audited = False
        self._news = 0
        self._decisions: list[Decision] = []
        self._changes: list[Change] = []
        self._troubles = list(feed.rejected)

    def work_off(self) -> None:
        for record in sorted(self._listed(), key=_order):
            if self._journal.is_news(record):
                self._take(record)
        for event_id, known in self._asked_for():
            self._ask(event_id, known)
        self._journal.save()

    def cursor_after(self) -> Cursor:
        """The cursor as it is to be written when everything was worked off."""
        state, now = self._feed.state, self._now
        oldest = now - dt.timedelta(days=self._settings.watch.remember_days)
        return Cursor(
            feed=self._settings.watch.feed, etag=state.etag, last_modified=state.last_modified, polled=now,
            swept=self._cursor.swept if self._swept is None else now,
            audited=now if self._audited else self._cursor.audited,
            pending={name: one for name, one in self._pending.items() if one.since > oldest},
        )  # fmt: skip

    def report(self) -> Report:
        feed = self._feed.events
        return Report(
            self._now, None if feed is None else len(feed), self._swept, self._news, tuple(self._decisions),
            tuple(self._changes), len(self._pending), tuple(self._troubles),
        )  # fmt: skip

    # ---- what to look at

    def _listed(self) -> Iterator[EventSummary]:
        """What feed and sweep list, each event in its newest record."""
        newest = {event.id: event for event in self._sweep()}
        for event in self._feed.events or ():
            if event.id not in newest or event.updated >= newest[event.id].updated:
                newest[event.id] = event
        yield from newest.values()

    def _sweep(self) -> list[EventSummary]:
        if not sweep_is_due(self._cursor, self._settings.watch, self._now):
            return []
        since, watch = self._cursor.swept, self._settings.watch
        first = min(self._now, since or self._now) - dt.timedelta(days=watch.remember_days)
        large_only = since is None or self._now - since > SMALL_SWEEP
        least = min(minimum_magnitude(watch.feed), self._settings.area.minimum_magnitude)
        try:
            found = self._usgs.query(
                first, self._now + LATE, least if large_only and math.isfinite(least) else None,
                updated_after=None if since is None else since - LATE, include_deleted=since is not None,
            )  # fmt: skip
        except ServiceError as error:
            self._troubles.append(redacted(f"the sweep failed and is tried again: {error}"))
            return []
        self._swept = len(found)
        return [event for event in found if self._concerns(event, least)]

    def _concerns(self, event: EventSummary, least: float) -> bool:
        """Whether a record of a sweep is one that the feed would list, or of a campaign."""
        large = not event.deleted and event.magnitude is not None and event.magnitude >= least
        return large or bool(identity.named((event.id, *event.ids), self._taker.index))

    def _asked_for(self) -> Iterator[tuple[str, IndexedQuake | None]]:
        """The events to ask for by id: those that wait, those that the feed misses, and at an audit all."""
        asked: set[str] = set()
        for name, one in sorted(self._pending.items()):
            if one.again <= self._now:
                asked.add(name)
                yield name, None
        last = self._cursor.audited
        audit = last is not None and self._now - last >= AUDIT_EVERY
        for quake in self._followed():
            if asked.isdisjoint(quake.ids) and (audit or self._is_missed(quake)):
                asked.update(quake.ids)
                seen = self._journal.seen(_place(quake))
                if audit or seen is None or seen.status != "deleted":
                    # The id that the USGS preferred last.
                    yield quake.ids[0] if seen is None else seen.id, quake
        self._audited = audit or last is None

    def _followed(self) -> list[IndexedQuake]:
        """The earthquakes of all campaigns that are not too old and not withdrawn."""
        oldest = self._now - dt.timedelta(days=self._settings.watch.remember_days)
        entries = [one for one in self._taker.index.campaigns.values() if one.state is not State.WITHDRAWN]
        return [quake for entry in entries for quake in entry.quakes if quake.time >= oldest]

    def _is_missed(self, quake: IndexedQuake) -> bool:
        """Whether the feed, if it was sent, should list an earthquake and does not."""
        feed, age = self._settings.watch.feed, self._now - quake.time
        return (
            self._feed.events is not None
            and age < window(feed) - LEAVING
            and quake.magnitude >= minimum_magnitude(feed)
            and not any(name in self._taker.listed for name in quake.ids)
        )

    # ---- what is done

    def _take(self, record: Record) -> None:
        try:
            self._note(record, self._taker.take(record, self._journal.seen(record)))
        except _UNREADABLE as error:
            self._put_off(record.id, str(error), record.time)

    def _ask(self, event_id: str, known: IndexedQuake | None) -> None:
        waiting = self._pending.get(event_id)
        time = known.time if known is not None else waiting.time if waiting is not None else None
        try:
            found: Record = self._taker.detail(event_id)
        except EventDeletedError:
            found = _gone(event_id, known, time, self._now)
        except _UNREADABLE as error:
            if known is None or not isinstance(error, EventError):
                self._put_off(event_id, str(error), time)
            return
        self._pending.pop(event_id, None)
        if known is None or found.deleted or self._journal.is_news(found):
            self._take(found)

    def _note(self, record: Record, taken: Taken) -> None:
        """Remember what was decided; a detail that is older than the record that led to it is asked for again."""
        seen = self._journal.seen(taken.record)
        if seen is None or not seen.decisions or _differs(seen.decisions[-1], taken.decision):
            self._decisions.append(taken.decision)
        self._journal.note(taken.record, taken.decision, taken.campaign_id)
        self._news += 1
        self._changes += taken.changes
        waiting = self._pending.get(record.id)
        if taken.record.updated < record.updated and (waiting is None or waiting.attempts < MAX_STALE):
            self._put_off(
                record.id, f"the detail of event {record.id} is older than its record in the feed", record.time
            )
        else:
            for name in (record.id, *record.ids):
                self._pending.pop(name, None)

    def _put_off(self, event_id: str, why: str, time: dt.datetime | None) -> None:
        why = redacted(why)
        known = self._pending.get(event_id)
        self._pending[event_id] = Pending.first(why, self._now, time) if known is None else known.failed(why, self._now)
        self._troubles.append(why)


def sweep_is_due(cursor: Cursor, settings: WatchSettings, now: dt.datetime) -> bool:
    """Whether to ask for what the feed does not tell: from time to time, and when more has passed than it covers."""
    if cursor.swept is None or cursor.polled is None or cursor.feed != settings.feed:
        return True
    regular = now - cursor.swept >= dt.timedelta(minutes=settings.sweep_minutes)
    return regular or now - cursor.polled >= window(settings.feed) - LEAVING


def window(feed: str) -> dt.timedelta:
    """How far back a feed lists events, for example `2.5_day` one day."""
    return _WINDOW.get(feed.rpartition("_")[2], _MONTH)


def minimum_magnitude(feed: str) -> float:
    """The lowest magnitude that a feed lists: minus infinity for `all_…`, infinity for `significant_…`."""
    level = feed.partition("_")[0]
    try:
        return float(level)
    except ValueError:
        return math.inf if level == "significant" else -math.inf


def _order(record: EventSummary) -> tuple[dt.datetime, dt.datetime, str]:
    """The earliest earthquake first, so that a sequence is taken up in its order."""
    return record.time or record.updated, record.updated, record.id


def _differs(one: Decision, other: Decision) -> bool:
    return (one.wanted, one.basis, one.reason) != (other.wanted, other.basis, other.reason)


def _place(quake: IndexedQuake) -> EventSummary:
    """An earthquake of the index as a record, to be looked up in the journal."""
    return EventSummary(
        id=quake.ids[0], ids=quake.ids, time=quake.time, updated=quake.time, lon=quake.lon, lat=quake.lat,
        depth_km=None, magnitude=quake.magnitude, magnitude_type="", place="", title="", status="", alert=None,
        event_type="earthquake", simulated=False,
    )  # fmt: skip


def _gone(event_id: str, known: IndexedQuake | None, time: dt.datetime | None, now: dt.datetime) -> EventSummary:
    """The record of an event of which is known only that it was deleted."""
    return EventSummary(
        id=event_id, ids=(event_id,), time=time, updated=now, lon=None, lat=None, depth_km=None,
        magnitude=None if known is None else known.magnitude, magnitude_type="", place="", title=f"event {event_id}",
        status="deleted", alert=None, event_type="earthquake", simulated=False,
    )  # fmt: skip
