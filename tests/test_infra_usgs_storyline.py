"""Stories of events, played into the stand-in on its clock."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fakes.servers import HTTP, serve

from infra.local.usgs import create_app
from infra.local.usgs.book import BookError
from infra.local.usgs.events import read_event
from infra.local.usgs.invented import ground_failure, ninety_minutes, quake, revised, with_product
from infra.local.usgs.storyline import Beat, Player, history, record_beat, recorded

START = dt.datetime(2025, 3, 1, tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with serve(create_app((), tmp_path / "state")) as address:
        yield address


def listed(url: str) -> dict[str, Any]:
    features = HTTP.get(f"{url}/earthquakes/feed/v1.0/summary/2.5_day.geojson").json()["features"]
    return {one["id"]: one["properties"] for one in features}


def test_iburis_history_is_what_the_feed_showed(shared_data: Path) -> None:
    beats = history(recorded(shared_data / "usgs", "us2000h8ty"))
    records = [beat.record for beat in beats if beat.record is not None]
    first = records[0]
    assert (first["id"], first["properties"]["ids"], first["properties"]["mag"]) == ("pt18248000", ",pt18248000,", 6.7)
    assert {record["id"] for record in records} == {"pt18248000", "at00pelgzo", "us2000h8ty"}
    last = records[-1]["properties"]
    assert (last["mag"], last["alert"], last["ids"]) == (6.6, "orange", ",us2000h8ty,pt18248000,at00pelgzo,")
    assert {kind: len(last["products"][kind]) for kind in ("shakemap", "ground-failure")} == {
        "shakemap": 13, "ground-failure": 13
    }  # fmt: skip
    counts = [len(record["properties"]["products"].get("shakemap", [])) for record in records]
    assert counts == sorted(counts), "versions only ever come"
    assert set(counts) == set(range(14))
    for record in records:
        newest = [one["updateTime"] for versions in record["properties"]["products"].values() for one in versions]
        assert max(newest) == record["properties"]["updated"]


def test_a_recorded_event_must_be_there(shared_data: Path) -> None:
    with pytest.raises(BookError, match="holds no event 'us0000none'"):
        recorded(shared_data / "usgs", "us0000none")


def test_a_player_plays_each_beat_at_its_time(url: str) -> None:
    one = quake("sim1", START, (102.0, 29.0, 9.0), 6.0)
    player = Player(url, [
        Beat(START + 5 * MINUTE, deleted="sim1"),
        record_beat(one),
        record_beat(revised(one, START + 3 * MINUTE, "us1", mag=5.8)),
        Beat(START + 7 * MINUTE, fault={"match": "summary", "status": 503, "for_s": 3600}),
        Beat(START + 8 * MINUTE, calm=True),
    ])  # fmt: skip
    assert player.moments == [START + n * MINUTE for n in (1, 3, 5, 7, 8)]
    assert player.advance(START) == 0
    assert listed(url) == {}
    assert player.advance(START + 2 * MINUTE) == 1
    assert listed(url)["sim1"]["title"] == "M 6.0 - simulated earthquake"
    assert player.advance(START + 4 * MINUTE) == 1
    assert {name: (one["mag"], one["ids"]) for name, one in listed(url).items()} == {"us1": (5.8, ",us1,sim1,")}
    assert player.advance(START + 6 * MINUTE) == 1
    assert listed(url) == {}
    player.advance(START + 7.5 * MINUTE)
    assert HTTP.get(f"{url}/earthquakes/feed/v1.0/summary/2.5_day.geojson").status_code == 503
    assert not player.over
    player.advance(START + 9 * MINUTE)
    assert player.over
    assert listed(url) == {}
    player.close()


def test_what_the_stand_in_refuses_is_said(url: str) -> None:
    player = Player(url, [Beat(START, deleted="nobody")])
    with pytest.raises(httpx.HTTPStatusError, match="no event has the id 'nobody'"):
        player.advance(START)
    player.close()


def test_everything_invented_says_so_and_is_a_record() -> None:
    beats = ninety_minutes(START)
    assert beats == sorted(beats, key=lambda beat: beat.at)
    assert START <= beats[0].at <= beats[-1].at <= START + 90 * MINUTE
    for beat in beats:
        if beat.record is not None:
            event = read_event(beat.record)
            assert event.property("quakeslide:simulated") is True
            assert "simulated" in event.property("title")


def test_products_of_invented_earthquakes_are_versions() -> None:
    one = quake("sim1", START, (102.0, 29.0, 9.0), 6.0)
    two = ground_failure(with_product(one, START + MINUTE, "shakemap", version="1"), START + 2 * MINUTE, "red", 120.5)
    assert one["properties"]["products"] == {}, "the older record stays as it was"
    assert two["properties"]["types"] == ",ground-failure,origin,shakemap,"
    (sent,) = two["properties"]["products"]["ground-failure"]
    assert sent["properties"] == {
        "version": "1", "landslide-alert": "red", "landslide-hazard-alert-value": "120.5"
    }  # fmt: skip


def test_the_program_plays_a_story_from_its_beginning(shared_data: Path, url: str) -> None:
    command = [sys.executable, "-m", "infra.local.usgs.storyline", "--url", url, "--speed", "1e12"]
    folder = ["--folder", str(shared_data / "usgs"), "--event", "us2000h8ty"]
    done = subprocess.run([*command, *folder], capture_output=True, text=True, timeout=120, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert sum(line["happened"] for line in lines) == len(lines) > 26
    found = HTTP.get(f"{url}/fdsnws/event/1/query?eventid=us2000h8ty&format=geojson").json()
    assert found["properties"]["mag"] == 6.6
    wrong = subprocess.run([*command, *folder[:3], "us0none"], capture_output=True, text=True, timeout=120, check=False)
    assert (wrong.returncode, "holds no event 'us0none'" in wrong.stderr) == (2, True)
