"""What was decided is kept by day of origin, under every id, whoever writes at the same time."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.campaigns import NOW, a_campaign, a_decision
from fakes.servers import serve
from fakes.usgs_records import T0, T0_MS, feature
from hypothesis import given
from hypothesis import strategies as st

from flows.campaign.model import Decision
from flows.errors import ServiceError
from flows.event import EventSummary
from flows.settings import Settings
from flows.storage import Store
from flows.usgs_geojson import parse_summary
from flows.watching.cursor import LONGEST_WAIT, Cursor, Pending, read_cursor, write_cursor
from flows.watching.journal import Journal, Page, Seen, day_of, days_since, read_day, united, with_later
from flows.watching.rule import decide
from infra.local.storage import create_app

DAY = T0.date()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with serve(create_app(tmp_path / "bucket")) as endpoint, Store("gs://bucket", endpoint, retry_s=1.0) as opened:
        opened.ensure_bucket()
        yield opened


def record(event_id: str = "us1", minutes: float = 1, **change: Any) -> EventSummary:
    known = {"updated": T0_MS + round(60_000 * minutes), "ids": f",{event_id},"}
    return parse_summary(feature(event_id, **(known | change)))


def note(journal: Journal, summary: EventSummary, campaign: str = "") -> None:
    journal.note(summary, decide(summary, Settings(), summary.updated), campaign)


def test_what_is_noted_is_known_afterwards_under_every_id(store: Store) -> None:
    journal = Journal(store)
    assert journal.is_news(record(ids=",us1,at1,"))
    note(journal, record(ids=",us1,at1,"), "us1")
    journal.save()
    later = Journal(store)
    assert not later.is_news(record("at1"))
    assert not later.is_news(record("us1", minutes=0.5)), "an older record is no news"
    assert later.is_news(record("us1", minutes=2))
    assert later.is_news(record("us1", ids=",us1,nc1,")), "a further id is news"
    assert later.is_news(record("us1", status="deleted"))
    assert later.is_news(record("us2"))
    seen = later.seen(record("at1"))
    assert seen is not None
    assert (seen.id, seen.ids, seen.campaign, seen.wanted) == ("us1", ("at1", "us1"), "us1", True)


def test_only_decisions_that_differ_are_kept(store: Store) -> None:
    for minutes, magnitude in enumerate((6.0, 6.0, 5.0, 5.0, 6.0)):
        journal = Journal(store)
        note(journal, record(minutes=minutes, mag=magnitude))
        journal.save()
    (day,) = days_since(store, DAY)
    assert [(one.wanted, one.magnitude) for one in day.events["us1"].decisions] == [
        (True, 6.0),
        (False, 5.0),
        (True, 6.0),
    ]


def test_what_a_campaign_decides_later_of_its_earthquake_stands_beside_what_the_watch_has_decided() -> None:
    yes = a_decision(at=NOW, reason="M 6.6")
    no = a_decision(at=NOW + dt.timedelta(hours=1), wanted=False, reason="M 6.6, but 3 km² of steep land", urgency=0.0)
    other = a_decision(at=NOW, event_id="us9", wanted=False)
    seen = Seen(
        id="us1", ids=("us1",), updated=NOW, status="reviewed", title="M 6.6", campaign="us1", decisions=(yes,)
    )  # fmt: skip
    again = yes.model_copy(update={"at": NOW + dt.timedelta(minutes=1)})
    whole = with_later(seen, a_campaign(decisions=(yes, again, other, no)))
    assert whole == seen.model_copy(update={"decisions": (yes, no)})
    assert with_later(whole, a_campaign(decisions=(yes, no))) == whole


def test_an_earthquake_that_changes_its_id_is_kept_once(store: Store) -> None:
    journal = Journal(store)
    note(journal, record("at1"), "at1")
    note(journal, record("nc1"))
    note(journal, record("us1", minutes=3, ids=",us1,nc1,at1,"))
    journal.save()
    (day,) = days_since(store, DAY)
    assert {name: (seen.ids, seen.campaign) for name, seen in day.events.items()} == {
        "us1": (("at1", "nc1", "us1"), "at1")
    }


def test_two_who_write_at_once_lose_nothing(store: Store) -> None:
    one, other = Journal(store), Journal(store)
    note(one, record("us1"))
    note(other, record("us2"))
    note(other, record("us1", minutes=2, mag=4.0))
    one.save()
    other.save()
    (day,) = days_since(store, DAY)
    assert set(day.events) == {"us1", "us2"}
    assert [decision.wanted for decision in day.events["us1"].decisions] == [True, False]


def test_days_are_those_of_the_origin_in_utc(store: Store) -> None:
    assert day_of(record()) == DAY
    gone = dataclasses.replace(record(minutes=60 * 24), time=None)
    assert day_of(gone) == DAY + dt.timedelta(days=1), "a deleted record may have no origin time"
    journal = Journal(store)
    note(journal, record())
    note(journal, record("old", time=T0_MS - 86_400_000 * 3))
    journal.save()
    assert [day.day for day in days_since(store, DAY - dt.timedelta(days=3))] == [DAY - dt.timedelta(days=3), DAY]
    assert [day.day for day in days_since(store, DAY)] == [DAY]


def test_nothing_is_written_when_nothing_was_noted(store: Store) -> None:
    journal = Journal(store)
    journal.is_news(record())
    journal.save()
    assert store.list(store.bucket_url) == ()


def test_a_damaged_journal_is_named(store: Store) -> None:
    uri = f"{store.bucket_url}/watch/days/{DAY}.json"
    store.write_bytes(uri, b"{")
    with pytest.raises(ServiceError, match=f"{uri} is damaged"):
        read_day(store, DAY)
    store.write_bytes(uri, b'{"format": 99, "day": "2018-09-05"}')
    with pytest.raises(ServiceError, match="use the newer program"):
        read_day(store, DAY)


def test_a_cursor_is_written_over_nothing_newer(store: Store) -> None:
    cursor, generation = read_cursor(store)
    assert (cursor, generation) == (Cursor(), 0)
    assert write_cursor(store, Cursor(feed="2.5_day", etag='"x"'), generation)
    assert not write_cursor(store, Cursor(feed="late"), generation)
    known, _ = read_cursor(store)
    assert known.validators("2.5_day").etag == '"x"'
    assert known.validators("all_day").etag == "", "another feed has other validators"


def test_a_damaged_cursor_asks_for_everything_again(store: Store) -> None:
    store.write_bytes(f"{store.bucket_url}/watch/cursor.json", b"nonsense")
    cursor, generation = read_cursor(store)
    assert cursor == Cursor()
    assert write_cursor(store, Cursor(feed="2.5_day"), generation)


def test_an_event_that_cannot_be_read_waits_longer_each_time() -> None:
    waiting, now = Pending.first("no answer", T0, None), T0
    waits = []
    for _ in range(9):
        waits.append((waiting.again - now).total_seconds() / 60)
        now = waiting.again
        waiting = waiting.failed("no answer", now)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert waits[-1] * 60 == LONGEST_WAIT.total_seconds()
    assert (waiting.since, waiting.attempts) == (T0, 10)


seen_records = st.builds(
    lambda ids, minutes, wanted: Seen(
        id=sorted(ids)[0], ids=tuple(sorted(ids)), updated=T0 + dt.timedelta(minutes=minutes), status="", title="",
        decisions=(Decision(at=T0 + dt.timedelta(minutes=minutes), event_id="x", magnitude=None, wanted=wanted,
                            basis="magnitude", reason=""),),
    ),
    st.frozensets(st.sampled_from("abcdef"), min_size=1, max_size=3), st.integers(0, 1000), st.booleans(),
)  # fmt: skip


@given(st.lists(seen_records, max_size=12))
def test_no_id_ever_belongs_to_two_earthquakes_of_a_day(records: list[Seen]) -> None:
    page = Page(read_nothing(), 0)
    for one in records:
        page.keep(one)
    events = page.day.events
    names = [name for seen in events.values() for name in seen.ids]
    assert sorted(names) == sorted({name for one in records for name in one.ids})
    for one in records:
        found = page.find(one.ids)
        assert found is not None
        assert set(one.ids) <= set(found.ids)
        assert found.updated >= one.updated


@given(seen_records, seen_records)
def test_it_does_not_matter_which_of_two_memories_came_first(one: Seen, other: Seen) -> None:
    if one.updated != other.updated:
        assert united(one, other) == united(other, one)


def read_nothing() -> Any:
    from flows.watching.journal import Day

    return Day(day=DAY)
