"""Looking at the USGS: real and invented histories played into the stand-in, outages and crashes among them."""

from __future__ import annotations

import datetime as dt
import json
import random
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import shapely
from fakes.campaigns import a_version
from fakes.products import FOOTPRINT, facts, write_products
from fakes.servers import HTTP
from fakes.watched import Watched, watched

from flows.campaign import store as campaigns
from flows.campaign.hand import closed
from flows.campaign.model import Area, Campaign, State
from flows.errors import ServiceError
from flows.layout import EventLayout
from flows.publish import make_visible, upload_products
from flows.settings import Settings, WatchSettings
from flows.storage import Store
from flows.usgs import UsgsClient
from flows.watching.cursor import Cursor, read_cursor
from flows.watching.journal import Seen, days_since
from flows.watching.poll import Report, minimum_magnitude, sweep_is_due, window, work_off
from infra.local.usgs.invented import SERVICE, ground_failure, ninety_minutes, quake, revised, with_product
from infra.local.usgs.storyline import Beat, history, record_beat, recorded

START = dt.datetime(2025, 3, 1, tzinfo=dt.UTC)
MINUTE, DAY = dt.timedelta(minutes=1), dt.timedelta(days=1)
HILL = (102.1, 29.6, 16.0)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Watched]:
    with watched(tmp_path) as made:
        made.at(START)
        yield made


def kinds(report: Report) -> list[tuple[str, str]]:
    return [(change.kind, change.campaign_id) for change in report.changes]


def journal(world: Watched) -> dict[str, Seen]:
    return {name: seen for day in days_since(world.store, dt.date(1970, 1, 1)) for name, seen in day.events.items()}


def play(world: Watched, beats: list[Beat], every: dt.timedelta = MINUTE) -> dict[str, list[str]]:
    """Play to the end, looking all the while; what happened to each campaign."""
    player, told = world.play(beats), dict[str, list[str]]()
    now = START
    while not player.over or now < player.moments[-1] + 10 * every:
        now += every
        player.advance(now)
        try:
            report = world.look(now)
        except ServiceError:
            continue
        for change in report.changes:
            told.setdefault(change.campaign_id, []).append(change.kind)
    return told


# ---- histories


def test_iburi_was_taken_up_at_once_let_go_for_a_green_alert_and_taken_up_again(
    shared_data: Path, tmp_path: Path
) -> None:
    beats = history(recorded(shared_data / "usgs", "us2000h8ty"))
    with watched(tmp_path) as world:
        player = world.play(beats)
        states: list[tuple[str, State]] = []
        for moment in player.moments:
            player.advance(moment)
            world.look(moment + MINUTE)
            (campaign,) = world.campaigns.values()
            if not states or states[-1][1] is not campaign.state:
                states.append((f"{(moment - campaign.first_time).total_seconds() / 3600:.1f} h", campaign.state))
    assert states == [("0.3 h", State.WAITING), ("0.6 h", State.CLOSED), ("12.7 h", State.WAITING)]
    assert campaign.id == "pt18248000", "the first id names it for ever"
    assert [(one.id, one.ids) for one in campaign.quakes] == [
        ("us2000h8ty", ("at00pelgzo", "pt18248000", "us2000h8ty"))
    ]
    assert [(one.basis, one.wanted) for one in campaign.decisions][:3] == [
        ("magnitude", True), ("magnitude", True), ("ground-failure", False)
    ]  # fmt: skip
    assert campaign.urgency == 12.0, "the aggregate hazard, km²"
    # Versions that are sent after sixty days are not asked for any more.
    assert campaign.quakes[0].shakemap == "us/us2000h8ty version 9 of 2018-10-23 14:57:41 UTC"


def test_every_version_of_iburis_products_makes_a_step_due(shared_data: Path, tmp_path: Path) -> None:
    feature = recorded(shared_data / "usgs", "us2000h8ty")
    sent = {
        one["updateTime"] for kind in ("shakemap", "ground-failure") for one in feature["properties"]["products"][kind]
    }
    assert len(sent) == 26
    first = dt.datetime.fromtimestamp(feature["properties"]["time"] / 1000, dt.UTC)
    with watched(tmp_path, settings=Settings(watch=WatchSettings(sweep_minutes=1))) as world:
        player, due = world.play(beat for beat in history(feature) if beat.at < first + 60 * DAY), 0
        for moment in player.moments:
            player.advance(moment)
            world.look(moment + MINUTE)
            (campaign,) = world.campaigns.values()
            if campaign.open and round(moment.timestamp() * 1000) in sent:
                assert campaign.look_after <= moment + MINUTE
                due += 1
                put_off(world, campaign, moment + 3650 * DAY)
    # Of the first sixty days, without the eight that came between the green alert and the yellow one.
    assert due == 12


def put_off(world: Watched, campaign: Campaign, until: dt.datetime) -> None:
    campaigns.change(world.store, campaign.id, lambda one: one.model_copy(update={"look_after": until}))


def test_an_invented_hour_and_a_half_ends_as_it_should(world: Watched) -> None:
    told = play(world, ninety_minutes(START))
    assert {name: (one.state, [quake.id for quake in one.quakes]) for name, one in world.campaigns.items()} == {
        "sima1": (State.WAITING, ["sima1", "sima2"]),
        "simb1": (State.WAITING, ["usb1"]),
        "simc1": (State.WAITING, ["simc1"]),
        "simd1": (State.WAITING, ["simd1"]),
        "sime1": (State.CLOSED, ["sime1"]),
        "simf1": (State.WAITING, ["simf1"]),
        "simg1": (State.WITHDRAWN, ["simg1"]),
        "simh1": (State.WAITING, ["simh2"]),
        "simj1": (State.CLOSED, ["simj1"]),
        "simk1": (State.WAITING, ["simk1"]),
        "simm1": (State.WAITING, ["simm1"]),
    }
    assert told["simf1"] == ["opened", "closed", "reopened"]
    assert told["simg1"] == ["opened", "withdrawn"]
    assert all(kinds.count("opened") == 1 for kinds in told.values())
    assert all(quake.simulated for one in world.campaigns.values() for quake in one.quakes)
    seen = journal(world)
    assert sum(name.startswith("sims") for name in seen) == 40, "decisions to do nothing are kept as well"
    assert seen["simi1"].decisions[-1].reason == "M 6 at 400 km, deeper than 70 km, is below the 7.5 asked of such"
    assert seen["siml1"].decisions[-1].reason == "event siml1 is not an earthquake but: explosion"
    assert [decision.wanted for decision in seen["simf1"].decisions] == [True, False, True]
    assert seen["usb1"].ids == ("atb1", "simb1", "usb1")
    assert (seen["sima2"].campaign, seen["simi1"].campaign) == ("sima1", "")
    assert seen["simg1"].status == "deleted"


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_whenever_it_is_looked_the_same_earthquakes_are_followed(tmp_path: Path, seed: int) -> None:
    draw, now = random.Random(seed), START
    with watched(tmp_path) as world:
        player = world.play(ninety_minutes(START))
        while now < START + 10 * 60 * MINUTE:
            now += draw.choice([0.2, 1, 3, 10, 45, 200]) * MINUTE
            player.advance(now)
            with suppress(ServiceError):
                world.look(now)
        followed = [quake for one in world.campaigns.values() if one.open for quake in one.quakes]
    living = sorted(quake.id for quake in followed if quake.status != "deleted")
    assert living == ["sima1", "sima2", "simc1", "simd1", "simf1", "simh2", "simk1", "simm1", "usb1"]


# ---- what a look costs


def test_an_unchanged_feed_is_asked_for_and_nothing_else(world: Watched) -> None:
    world.play([record_beat(quake("sim1", START, HILL, 6.4))]).advance(START + MINUTE)
    first = world.look(START + MINUTE)
    assert kinds(first) == [("opened", "sim1")]
    assert (first.listed, first.swept, first.news) == (1, 1, 1)
    world.forget()
    again = world.look(START + 2 * MINUTE)
    assert (again.listed, again.swept, again.news, again.changes) == (None, None, 0, ())
    assert world.asked() == ["/earthquakes/feed/v1.0/summary/2.5_day.geojson?"]


def test_the_detail_is_fetched_only_of_what_may_be_mapped(world: Watched) -> None:
    small = quake("small", START, (10.0, 45.0, 8.0), 4.9)
    records = [
        small,
        quake("large", START, HILL, 6.0),
        ground_failure(quake("felt", START, HILL, 4.8), START, "green", 0),
    ]
    world.play([record_beat(record) for record in records]).advance(START + MINUTE)
    world.look(START + MINUTE)
    assert sorted(one.split("eventid=")[1].split("&")[0] for one in world.asked() if "eventid" in one) == [
        "felt",
        "large",
    ]


def test_a_real_week_of_the_feed_is_worked_off_and_worked_off_once(shared_data: Path, tmp_path: Path) -> None:
    feed = json.loads((shared_data / "usgs/summary_feeds/all_week_2023-08-04.geojson").read_text())
    now = dt.datetime.fromtimestamp(feed["metadata"]["generated"] / 1000, dt.UTC)
    settings = Settings(watch=WatchSettings(feed="all_week", remember_days=8))
    with watched(tmp_path, shared_data / "usgs", settings=settings) as world:
        world.at(now)
        report = world.look(now)
        assert (report.listed, report.news, report.pending) == (2124, 2124, 0)
        assert len(journal(world)) == 2124
        wanted = sum(decision.wanted for decision in report.decisions)
        assert wanted == sum(len(one.quakes) for one in world.campaigns.values()) == 8
        HTTP.delete(f"{world.endpoint}/_standin/log")
        world.store.delete(f"{world.store.bucket_url}/watch/cursor.json")
        again = world.look(now)
        assert (again.listed, again.news, again.changes) == (2124, 0, ())
        assert written(world) == ["watch/cursor.json"]


def written(world: Watched) -> list[str]:
    log = HTTP.get(f"{world.endpoint}/_standin/log").json()["requests"]
    return [one["query"].split("name=")[-1].replace("%2F", "/") for one in log if "upload" in one["path"]] and [
        "watch/cursor.json"
    ] * sum("upload" in one["path"] and one["method"] == "POST" for one in log)


# ---- after downtime


@pytest.mark.parametrize("down", [dt.timedelta(hours=3), 2 * DAY, 100 * DAY])
def test_nothing_is_lost_by_downtime_of_any_length(world: Watched, down: dt.timedelta) -> None:
    before, gone = quake("before", START, HILL, 6.0), quake("gone", START, (-71.0, -30.0, 20.0), 6.1)
    player = world.play([
        record_beat(before), record_beat(gone),
        record_beat(quake("meanwhile", START + down / 2, (22.0, 38.0, 9.0), 6.2)),
        record_beat(quake("small", START + down / 2, (22.0, 38.0, 9.0), 3.2)),
        record_beat(with_product(before, START + down * 0.6, "shakemap", version="1")),
        Beat(START + down * 0.7, deleted="gone"),
    ])  # fmt: skip
    player.advance(START + MINUTE)
    world.look(START + MINUTE)
    player.advance(START + down)
    report = world.look(START + down)
    assert sorted(kinds(report)) == [("changed", "before"), ("opened", "meanwhile"), ("withdrawn", "gone")]
    assert world.campaigns["before"].quakes[0].shakemap.startswith("sim/before version 1")
    assert not world.look(START + down + MINUTE).changes


def test_a_first_start_looks_back_as_far_as_is_remembered(world: Watched) -> None:
    player = world.play([
        record_beat(quake("old", START, HILL, 7.0)), record_beat(quake("known", START + 30 * DAY, HILL, 6.0)),
    ])  # fmt: skip
    now = START + 80 * DAY
    player.advance(now)
    assert kinds(world.look(now)) == [("opened", "known")]


def test_a_campaign_whose_event_neither_feed_nor_query_tell_of_is_asked_for_once_a_day(world: Watched) -> None:
    record = quake("sim1", START, HILL, 6.0)
    player = world.play([record_beat(record), record_beat(revised(record, START + 3 * DAY, mag=1.1))])
    player.advance(START + MINUTE)
    world.look(START + MINUTE)
    player.advance(START + 3 * DAY + MINUTE)
    world.fault(match="^/fdsnws/event/1/query$", status=204, count=1)  # the sweep finds nothing
    assert kinds(world.look(START + 3 * DAY + MINUTE)) == [("closed", "sim1")]


# ---- records that contradict each other


def test_a_deleted_record_withdraws_nothing_that_is_listed_under_another_id(world: Watched) -> None:
    one = quake("nw1", START, HILL, 6.0)
    two = quake("us1", START + dt.timedelta(seconds=2), HILL, 6.1, updated=START + 3 * MINUTE)
    player = world.play([record_beat(one), Beat(START + 2 * MINUTE, deleted="nw1"), record_beat(two)])
    player.advance(START + MINUTE)
    world.look(START + MINUTE)
    player.advance(START + 4 * MINUTE)
    assert kinds(world.look(START + 4 * MINUTE)) == [("changed", "nw1")]
    assert world.campaigns["nw1"].quakes[0].ids == ("nw1", "us1")
    assert world.look(START + 90 * MINUTE).changes == (), "the sweep lists the deleted record"
    assert world.campaigns["nw1"].state is State.WAITING


@pytest.mark.parametrize("preferred", ["us1", "xx1"])
def test_two_campaigns_that_turn_out_to_be_one_earthquake_become_one(world: Watched, preferred: str) -> None:
    one = quake("nw1", START, HILL, 6.0)
    other = quake("us1", START, (103.2, 29.6, 16.0), 6.1, updated=START + 2 * MINUTE)
    both = revised(other, START + 6 * MINUTE, preferred, ids=",us1,nw1,")
    player = world.play([record_beat(one), record_beat(other), record_beat(both)])
    player.advance(START + 5 * MINUTE)
    world.look(START + 5 * MINUTE)
    assert {name: one.state for name, one in world.campaigns.items()} == {"nw1": State.WAITING, "us1": State.WAITING}
    player.advance(START + 7 * MINUTE)
    assert kinds(world.look(START + 7 * MINUTE)) == [("withdrawn", "us1"), ("changed", "nw1")]
    assert world.campaigns["nw1"].quakes[0].ids == tuple(sorted({"nw1", "us1", preferred}))
    assert "the earthquake of campaign nw1" in world.campaigns["us1"].history[-1].why
    assert world.look(START + 8 * MINUTE).changes == ()


def test_an_event_that_is_listed_again_after_its_deletion_goes_on(world: Watched) -> None:
    record = quake("sim1", START, HILL, 6.0)
    player = world.play([
        record_beat(record), Beat(START + 5 * MINUTE, deleted="sim1"), record_beat(revised(record, START + 9 * MINUTE)),
    ])  # fmt: skip
    said = []
    for minutes in (1, 6, 10, 11):
        player.advance(START + minutes * MINUTE)
        said += kinds(world.look(START + minutes * MINUTE))
    assert said == [("opened", "sim1"), ("withdrawn", "sim1"), ("reopened", "sim1")]


def test_a_withdrawal_that_the_bucket_took_by_half_marks_the_versions_at_the_next_sweep(
    world: Watched, tmp_path: Path
) -> None:
    player = world.play([record_beat(quake("sim1", START, HILL, 6.0)), Beat(START + 5 * MINUTE, deleted="sim1")])
    player.advance(START + MINUTE)
    world.look(START + MINUTE)
    write_products(tmp_path / "one")
    event = EventLayout(world.store.bucket_url, "sim1")
    known = facts()
    known = replace(known, event=replace(known.event, id="sim1"))
    make_visible(
        world.store,
        upload_products(world.store, event.run(known.provenance.run_key), tmp_path / "one", known, FOOTPRINT),
    )
    player.advance(START + 6 * MINUTE)
    fault = {"match": "/upload/", "request_body": r"versions\.json", "status": 503}
    HTTP.post(f"{world.endpoint}/_standin/faults", json=fault).raise_for_status()
    with pytest.raises(ServiceError):
        world.look(START + 6 * MINUTE)
    HTTP.delete(f"{world.endpoint}/_standin/faults").raise_for_status()
    assert world.campaigns["sim1"].state is State.WITHDRAWN
    assert "withdrawn" not in json.loads(world.store.read_bytes(event.versions))
    world.look(START + 90 * MINUTE)
    assert "sim1" in json.loads(world.store.read_bytes(event.versions))["withdrawn"]["reason"]


def test_an_earthquake_that_joins_what_a_person_has_closed_says_how_to_have_it_mapped(world: Watched) -> None:
    player = world.play([
        record_beat(quake("sim1", START, HILL, 5.9)), record_beat(quake("sim2", START + 5 * MINUTE, HILL, 7.5)),
    ])  # fmt: skip
    player.advance(START + MINUTE)
    world.look(START + MINUTE)
    campaigns.change(
        world.store, "sim1", lambda one: closed(one, "ada", START).model_copy(update={"versions": (a_version(),)})
    )
    player.advance(START + 6 * MINUTE)
    (change,) = world.look(START + 6 * MINUTE).changes
    assert (change.kind, change.campaign_id, change.title) == (
        "joined",
        "sim1",
        world.campaigns["sim1"].quakes[1].title,
    )
    assert change.reason.endswith("campaign sim1 was closed by ada: `quakeslide reopen sim1`")


def test_an_earthquake_that_is_withdrawn_from_a_sequence_leaves_the_others(world: Watched) -> None:
    player = world.play([
        record_beat(quake("sim1", START, HILL, 6.4)), record_beat(quake("sim2", START + 5 * MINUTE, HILL, 5.9)),
        Beat(START + 8 * MINUTE, deleted="sim1"),
    ])  # fmt: skip
    player.advance(START + 7 * MINUTE)
    assert kinds(world.look(START + 7 * MINUTE)) == [("opened", "sim1"), ("joined", "sim1")]
    player.advance(START + 9 * MINUTE)
    assert kinds(world.look(START + 9 * MINUTE)) == [("changed", "sim1")]
    assert [one.status for one in world.campaigns["sim1"].quakes] == ["deleted", "automatic"]
    assert world.campaigns["sim1"].state is State.WAITING


def test_what_was_measured_of_the_land_counts_until_the_shaking_changes(world: Watched) -> None:
    record = with_product(quake("sim1", START, HILL, 6.0), START + MINUTE, "shakemap", version="1")
    player = world.play([
        record_beat(record), record_beat(revised(record, START + 5 * MINUTE, title="simulated, renamed", mag=6.1)),
        record_beat(with_product(record, START + 9 * MINUTE, "shakemap", version="2")),
    ])  # fmt: skip
    player.advance(START + MINUTE)
    world.look(START + MINUTE)
    flat = Area(
        wkt=shapely.box(102, 29, 102.1, 29.1).wkt, reason="", source="shakemap", area_km2=3.0, since=START, steep_km2=3.0,
        products=(world.campaigns["sim1"].quakes[0].shakemap,),
    )  # fmt: skip
    campaigns.change(world.store, "sim1", lambda one: one.model_copy(update={"area": flat, "state": State.CLOSED}))
    said = []
    for minutes in (6, 10):
        player.advance(START + minutes * MINUTE)
        said += kinds(world.look(START + minutes * MINUTE))
        said.append(("state", world.campaigns["sim1"].state))
    assert said == [("changed", "sim1"), ("state", State.CLOSED), ("reopened", "sim1"), ("state", State.WAITING)]


# ---- services out of order


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 500}, {"status": 429}, {"answer": "<html>"}, {"answer": "{}"}, {"answer": '{"features": 5}'},
        {"cut_after": 100}, {"reset": "before"},
    ],
)  # fmt: skip
def test_a_feed_that_answers_nonsense_loses_nothing(world: Watched, fault: dict[str, object]) -> None:
    world.play([record_beat(quake("sim1", START, HILL, 6.4))]).advance(START + MINUTE)
    world.fault(match="summary", for_s=3600, **fault)
    with pytest.raises(ServiceError, match="USGS service"):
        world.look(START + MINUTE)
    assert read_cursor(world.store) == (Cursor(), 0)
    world.calm()
    assert kinds(world.look(START + 2 * MINUTE)) == [("opened", "sim1")]


def test_a_feed_that_does_not_answer_in_time_loses_nothing(world: Watched) -> None:
    world.play([record_beat(quake("sim1", START, HILL, 6.4))]).advance(START + MINUTE)
    world.fault(match="summary", delay_s=2.0)
    with (
        UsgsClient(world.url, timeout_s=0.2, max_attempts=1) as hasty,
        pytest.raises(ServiceError, match="ReadTimeout"),
    ):
        work_off(hasty, world.store, world.settings, START + MINUTE)
    assert kinds(world.look(START + 2 * MINUTE)) == [("opened", "sim1")]


def test_an_entry_that_cannot_be_read_hides_no_other(world: Watched) -> None:
    spoilt = quake("bad", START, HILL, 6.4)
    spoilt["properties"]["alert"] = {"x": 1}
    spoilt["properties"]["mag"] = 99
    world.play([record_beat(spoilt), record_beat(quake("good", START, HILL, 6.4))]).advance(START + MINUTE)
    report = world.look(START + MINUTE)
    assert kinds(report) == [("opened", "good")]
    assert any("impossible magnitude 99" in trouble for trouble in report.troubles)


def test_details_that_cannot_be_had_are_asked_for_again_and_the_rest_is_worked_off(world: Watched) -> None:
    hills = [(102.1 + 5 * n, 29.6, 16.0) for n in range(6)]
    beats = [record_beat(quake(f"sim{n}", START, hill, 6.4)) for n, hill in enumerate(hills)]
    world.play([*beats, record_beat(quake("small", START, HILL, 3.0))]).advance(START + MINUTE)
    world.fault(match="^/fdsnws", status=503, for_s=3600)
    first = world.look(START + MINUTE)
    assert (first.news, first.pending, first.swept) == (1, 6, None)
    assert len([one for one in world.asked() if "eventid" in one]) == 3 * 2, "after three failures nobody is asked"
    world.forget()
    assert world.look(START + MINUTE).pending == 6
    assert not [one for one in world.asked() if "eventid" in one], "nobody is asked before a minute has passed"
    world.calm()
    second = world.look(START + 3 * MINUTE)
    assert (len(second.changes), second.pending) == (6, 0)


def test_a_detail_older_than_the_feed_is_asked_for_again(world: Watched) -> None:
    record = quake("sim1", START, HILL, 6.4)
    player = world.play([record_beat(record), record_beat(revised(record, START + 5 * MINUTE, mag=6.9))])
    player.advance(START + MINUTE)
    stale = HTTP.get(f"{world.url}/fdsnws/event/1/query?eventid=sim1&format=geojson").text
    world.look(START + MINUTE)
    player.advance(START + 6 * MINUTE)
    world.fault(match="^/fdsnws", answer=stale)
    report = world.look(START + 6 * MINUTE)
    assert (report.changes, report.pending) == ((), 1)
    assert kinds(world.look(START + 8 * MINUTE)) == [("changed", "sim1")]
    assert world.campaigns["sim1"].mainshock.magnitude == 6.9
    assert read_cursor(world.store)[0].pending == {}


# ---- crashes and rivals

CRASH_BEATS = [
    record_beat(quake("sima", START, HILL, 6.4)), record_beat(quake("simb", START, (142.0, 42.7, 30.0), 6.2)),
    record_beat(revised(quake("simb", START, (142.0, 42.7, 30.0), 6.2), START + 2 * MINUTE, "usb", mag=5.1)),
    record_beat(quake("simc", START + MINUTE, HILL, 5.9)),
    record_beat(quake("simd", START, (22.0, 38.0, 9.0), 6.0)),
    Beat(START + 3 * MINUTE, deleted="simd"),
]  # fmt: skip


@dataclass
class Stages:
    """The USGS at three moments, and a bucket server for as many buckets as are wanted."""

    urls: list[str]
    endpoint: str

    def crash(self, name: str, number: int, fault: dict[str, object]) -> tuple[dict[str, object], set[str], int]:
        """What a look at each moment comes to when the bucket's write `number` fails, and the look is then repeated."""
        failures = 0
        HTTP.post(f"{self.endpoint}/_standin/faults", json={"match": "upload", "skip": number, "count": 1, **fault})
        with Store(f"gs://bucket/{name}", self.endpoint, retry_s=1.0) as store:
            for minutes, url in zip(MOMENTS, self.urls, strict=True):
                with UsgsClient(url, backoff_s=0.001) as usgs:
                    for _ in range(3):
                        try:
                            work_off(usgs, store, Settings(), START + minutes * MINUTE)
                            break
                        except ServiceError:
                            failures += 1
            HTTP.delete(f"{self.endpoint}/_standin/faults")
            seen = {name for day in days_since(store, dt.date(1970, 1, 1)) for name in day.events}
            return outcome(store), seen, failures


MOMENTS = (1, 2.5, 4)


@pytest.fixture
def stages(tmp_path: Path) -> Iterator[Stages]:
    with ExitStack() as up:
        worlds = [up.enter_context(watched(tmp_path / str(minutes))) for minutes in MOMENTS]
        for minutes, world in zip(MOMENTS, worlds, strict=True):
            world.play(CRASH_BEATS).advance(START + minutes * MINUTE)
        yield Stages([world.url for world in worlds], worlds[0].endpoint)


def outcome(store: Store) -> dict[str, object]:
    return {
        one.id: (one.state, [(quake.ids, quake.magnitude, quake.status) for quake in one.quakes], len(one.decisions))
        for one in campaigns.all_campaigns(store)
    }


def test_a_crash_at_any_write_loses_nothing_and_repeats_nothing(stages: Stages) -> None:
    expected, names, failures = stages.crash("calm", 10_000, {"status": 403})
    assert failures == 0
    assert expected == {
        "sima": (State.WAITING, [(("sima",), 6.4, "automatic"), (("simc",), 5.9, "automatic")], 2),
        "simb": (State.CLOSED, [(("simb", "usb"), 5.1, "automatic")], 2),
        "simd": (State.WITHDRAWN, [(("simd",), 6.0, "deleted")], 1),
    }
    assert names == {"sima", "usb", "simc", "simd"}
    struck = 0
    for number in range(100):
        found, known, failures = stages.crash(f"at{number}", number, {"status": 403})
        assert (found, known) == (expected, names), f"write {number}"
        struck += failures
        if not failures:
            break
    assert struck >= 15, "the fault has met every write"


def test_an_answer_lost_on_its_way_changes_nothing(stages: Stages) -> None:
    expected, names, _ = stages.crash("calm", 10_000, {"status": 403})
    for number in range(0, 18, 2):
        found, known, _ = stages.crash(f"at{number}", number, {"reset": "after"})
        assert (found, known) == (expected, names), f"write {number}"


def test_two_watches_at_once_come_to_the_same(tmp_path: Path) -> None:
    with watched(tmp_path) as world:
        player = world.play(CRASH_BEATS)
        player.advance(START + 4 * MINUTE)
        done: list[Report] = []

        def look() -> None:
            with UsgsClient(world.url) as usgs, Store(world.store.bucket_url, world.endpoint) as store:
                done.append(work_off(usgs, store, world.settings, START + 4 * MINUTE))

        rivals = [threading.Thread(target=look) for _ in range(3)]
        for rival in rivals:
            rival.start()
        for rival in rivals:
            rival.join()
        assert len(done) == 3
        assert set(world.campaigns) == {"sima"}
        assert [quake.id for quake in world.campaigns["sima"].quakes] == ["sima", "simc"]
        assert set(journal(world)) == {"sima", "usb", "simc"}
        assert world.look(START + 5 * MINUTE).changes == ()


# ---- when what is asked for


def test_feeds_tell_how_far_and_how_low_they_reach() -> None:
    assert [window(name) for name in ("all_hour", "2.5_day", "4.5_week", "significant_month")] == [
        dt.timedelta(hours=1), DAY, 7 * DAY, 30 * DAY
    ]  # fmt: skip
    assert [minimum_magnitude(name) for name in ("all_hour", "2.5_day", "significant_month")] == [
        float("-inf"), 2.5, float("inf")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("swept", "polled", "feed", "due"),
    [
        (None, None, "2.5_day", True),
        (59, 1, "2.5_day", False),
        (60, 1, "2.5_day", True),
        (5, 1, "all_hour", True),
        (30, 24 * 60 - 5, "2.5_day", True),
    ],
)
def test_a_sweep_is_due_after_its_time_or_when_the_feed_no_longer_covers_what_passed(
    swept: float | None, polled: float | None, feed: str, due: bool
) -> None:
    cursor = Cursor(
        feed=feed, swept=None if swept is None else START - swept * MINUTE,
        polled=None if polled is None else START - polled * MINUTE,
    )  # fmt: skip
    assert sweep_is_due(cursor, WatchSettings(), START) is due


def test_only_the_service_meets_the_faults_of_a_story() -> None:
    assert SERVICE.startswith("^/(earthquakes|fdsnws")
