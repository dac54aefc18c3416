"""The USGS stand-in over HTTP: recorded quakes as the real services answered them, and quakes played into it."""

from __future__ import annotations

import csv
import datetime as dt
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
from fakes.servers import HTTP, serve

from infra.local.usgs import create_app, play_event
from infra.local.usgs.book import BookError, EventBook
from infra.local.usgs.query import Query, QueryError

T0 = 1_700_000_000_000
CONTENT = "/product/shakemap/simq1/us/1/download/grid.xml"


def quake(event_id: str = "simq1", *, updated: int = T0 + 60_000, ids: str = "", **properties: Any) -> dict[str, Any]:
    product = {
        "type": "shakemap", "source": "us", "code": event_id, "updateTime": updated, "status": "UPDATE",
        "preferredWeight": 1,
        "contents": {"download/grid.xml": {"url": f"https://earthquake.usgs.gov{CONTENT}", "length": 6}},
    }  # fmt: skip
    known = {
        "mag": 6.5, "time": T0, "updated": updated, "status": "automatic", "sig": 800, "type": "earthquake",
        "title": "M 6.5 - simulated", "ids": ids or f",{event_id},", "sources": ",us,", "types": ",shakemap,",
        "alert": None, "products": {"shakemap": [product]},
    }  # fmt: skip
    geometry = {"type": "Point", "coordinates": [141.9, 42.7, 35.0]}
    return {"type": "Feature", "id": event_id, "geometry": geometry, "properties": {**known, **properties}}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Start a server over the given folders; its state folder is the same every time."""
    with ExitStack() as stack:
        yield lambda *folders: stack.enter_context(serve(create_app(folders, tmp_path / "state")))


@pytest.fixture
def url(start: Callable[..., str]) -> str:
    address = start()
    set_clock(address, T0 + 600_000)
    return address


def set_clock(url: str, milliseconds: float) -> None:
    now = dt.datetime.fromtimestamp(milliseconds / 1000, dt.UTC).isoformat()
    HTTP.post(f"{url}/_standin/clock", json={"now": now}).raise_for_status()


def feed(url: str, name: str = "all_day", **headers: str) -> httpx.Response:
    return HTTP.get(f"{url}/earthquakes/feed/v1.0/summary/{name}.geojson", headers=headers)


def query(url: str, **parameters: Any) -> httpx.Response:
    return HTTP.get(f"{url}/fdsnws/event/1/query", params={"format": "geojson", **parameters})


def post(url: str, detail: dict[str, Any], contents: dict[str, Any] | None = None) -> httpx.Response:
    return HTTP.post(f"{url}/_standin/events", json={"detail": detail, "contents": contents or {}})


def ids(response: httpx.Response) -> list[str]:
    return [feature["id"] for feature in response.raise_for_status().json()["features"]]


# ---- recorded answers of the real service


def test_recorded_searches_find_the_recorded_events_in_the_recorded_order(
    shared_data: Path, start: Callable[..., str]
) -> None:
    url = start(shared_data / "usgs")
    compared = 0
    with (shared_data / "usgs" / "index.tsv").open() as lines:
        rows = [row for row in csv.DictReader(lines, delimiter="\t") if "/fdsnws/event/" in row["url"]]
    for row in rows:
        if not row["file"].startswith("fdsn_query/") or not row["file"].endswith(".json"):
            continue
        recorded = json.loads((shared_data / "usgs" / row["file"]).read_text())
        parts = urlsplit(row["url"])
        answer = HTTP.get(url + parts.path, params=parse_qsl(parts.query)).raise_for_status().json()
        if "features" in recorded:
            assert [f["id"] for f in answer["features"]] == [f["id"] for f in recorded["features"]], row["url"]
            assert answer["metadata"]["count"] == recorded["metadata"]["count"]
        else:
            assert answer == recorded, row["url"]
        compared += 1
    assert compared > 12


def test_a_recorded_feed_comes_back_at_its_time(shared_data: Path, start: Callable[..., str]) -> None:
    url = start(shared_data / "usgs")
    for file, name in (("all_week_2023-08-04", "all_week"), ("significant_month_2020-06-08", "significant_month")):
        recorded = json.loads((shared_data / "usgs" / "summary_feeds" / f"{file}.geojson").read_text())
        set_clock(url, recorded["metadata"]["generated"])
        answer = feed(url, name).json()
        assert answer["metadata"]["title"] == recorded["metadata"]["title"]
        assert answer["bbox"] == pytest.approx(recorded["bbox"])
        strip = lambda f: (f["id"], f["geometry"], {k: v for k, v in f["properties"].items() if k != "detail"})  # noqa: E731
        assert [strip(f) for f in answer["features"]] == [strip(f) for f in recorded["features"]]


def test_iburi_is_found_by_every_id_with_its_product_versions(shared_data: Path, start: Callable[..., str]) -> None:
    url = start(shared_data / "usgs")
    every = query(url, eventid="at00pelgzo", includesuperseded="true").json()
    assert every["id"] == "us2000h8ty"
    assert {kind: len(every["properties"]["products"][kind]) for kind in ("shakemap", "ground-failure")} == {
        "shakemap": 13,
        "ground-failure": 13,
    }
    current = query(url, eventid="us2000h8ty").json()["properties"]["products"]
    assert [(p["source"], p["updateTime"]) for p in current["shakemap"]] == [
        ("atlas", 1594401324136),
        ("us", 1541539192315),
    ]
    addresses = [c["url"] for p in current["losspager"] for c in p["contents"].values() if "url" in c]
    assert addresses
    assert all(address.startswith(f"{url}/product/") for address in addresses)
    exposure = next(a for a in addresses if a.endswith("json/exposures.json"))
    recorded = shared_data / "usgs/products/losspager__us2000h8ty__us__1541539345392__json__exposures.json"
    assert HTTP.get(exposure).content == recorded.read_bytes()
    grid = current["shakemap"][0]["contents"]["download/grid.xml"]["url"]
    assert HTTP.get(grid).status_code == 404, "a content that was not recorded is not there"


# ---- feeds


def test_feeds_select_by_age_magnitude_and_significance(url: str) -> None:
    post(url, quake("big", mag=6.5, sig=800))
    post(url, quake("small", mag=2.6, sig=100, time=T0 - 3 * 3_600_000))
    post(url, quake("unknown", mag=None, sig=0, time=T0 - 1))
    post(url, quake("old", mag=5.0, sig=400, time=T0 - 40 * 86_400_000))
    post(url, quake("future", time=T0 + 3_600_000))
    assert ids(feed(url, "all_hour")) == ["big", "unknown"]
    assert ids(feed(url, "all_day")) == ["big", "unknown", "small"]
    assert ids(feed(url, "2.5_month")) == ["big", "small"]
    assert ids(feed(url, "4.5_week")) == ["big"]
    assert ids(feed(url, "significant_month")) == ["big"]
    assert feed(url, "all_year").status_code == 404
    feature = feed(url).json()["features"][0]
    assert "products" not in feature["properties"]
    assert HTTP.get(feature["properties"]["detail"]).json()["properties"]["products"]["shakemap"]


def test_an_unchanged_feed_answers_304_and_a_changed_one_does_not(url: str) -> None:
    post(url, quake("one"))
    first = feed(url)
    etag, modified = first.headers["etag"], first.headers["last-modified"]
    assert feed(url, **{"If-None-Match": etag}).status_code == 304
    assert feed(url, **{"If-Modified-Since": modified}).status_code == 304
    assert feed(url).json()["metadata"]["generated"] == first.json()["metadata"]["generated"]
    post(url, quake("two"))
    changed = feed(url, **{"If-None-Match": etag})
    assert (changed.status_code, ids(changed)) == (200, ["one", "two"])


# ---- updates, new ids, deletions


def test_an_update_keeps_older_product_versions_as_superseded(url: str) -> None:
    assert post(url, quake(updated=T0 + 1)).status_code == 201
    assert post(url, quake(updated=T0 + 2, mag=6.7)).status_code == 201
    current = query(url, eventid="simq1").json()["properties"]
    assert (current["mag"], [p["updateTime"] for p in current["products"]["shakemap"]]) == (6.7, [T0 + 2])
    every = query(url, eventid="simq1", includesuperseded="true").json()["properties"]["products"]["shakemap"]
    assert [p["updateTime"] for p in every] == [T0 + 2, T0 + 1]
    assert post(url, quake(updated=T0 + 2)).status_code == 409


def test_a_new_preferred_id_leaves_the_old_one_as_alias(url: str) -> None:
    post(url, quake("at1", updated=T0 + 1))
    post(url, quake("us1", updated=T0 + 2, ids=",at1,us1,"))
    assert ids(feed(url)) == ["us1"]
    assert query(url, eventid="at1").json()["id"] == "us1"
    assert len(query(url, eventid="us1", includesuperseded="true").json()["properties"]["products"]["shakemap"]) == 2


def test_a_deleted_event_leaves_the_feeds_and_is_a_conflict_by_id(url: str) -> None:
    post(url, quake())
    assert HTTP.delete(f"{url}/_standin/events/simq1").status_code == 200
    assert ids(feed(url)) == []
    assert ids(query(url, starttime="2023-01-01")) == []
    assert query(url, eventid="simq1").status_code == 409
    assert query(url, eventid="simq1", includedeleted="true").json()["properties"]["status"] == "deleted"
    assert HTTP.delete(f"{url}/_standin/events/nobody").status_code == 404


def test_a_withdrawn_product_is_shown_only_on_request(url: str) -> None:
    gone = quake(updated=T0 + 2)
    gone["properties"]["products"]["shakemap"][0]["status"] = "DELETE"
    post(url, quake(updated=T0 + 1))
    post(url, gone)
    assert "shakemap" not in query(url, eventid="simq1").json()["properties"]["products"]
    shown = query(url, eventid="simq1", includedeleted="true").json()["properties"]["products"]["shakemap"]
    assert [p["status"] for p in shown] == ["DELETE"]


def test_what_was_played_survives_a_restart(start: Callable[..., str]) -> None:
    first = start()
    post(first, quake("old1", updated=T0 + 1))
    post(first, quake("new1", updated=T0 + 2, ids=",new1,old1,"), {CONTENT: {"text": "<grid>"}})
    post(first, quake("dead"))
    HTTP.delete(f"{first}/_standin/events/dead")
    second = start()
    assert HTTP.get(f"{first}/_standin/events").json() == HTTP.get(f"{second}/_standin/events").json()
    detail = query(second, eventid="old1").json()
    address = detail["properties"]["products"]["shakemap"][0]["contents"]["download/grid.xml"]["url"]
    assert address.startswith(second)
    assert HTTP.get(address).text == "<grid>"


def test_play_event_sends_a_folder_s_event_with_its_contents(url: str, tmp_path: Path) -> None:
    folder = tmp_path / "simulated"
    (folder / "fdsn_event_detail").mkdir(parents=True)
    (folder / "fdsn_event_detail" / "simq1.geojson").write_text(json.dumps(quake()))
    (folder / "grid.xml").write_text("<grid>")
    (folder / "index.tsv").write_text(f"file\turl\ngrid.xml\thttps://earthquake.usgs.gov{CONTENT}\n")
    assert ids(feed(url)) == []
    assert play_event(url, folder, "simq1") == "simq1"
    assert ids(feed(url)) == ["simq1"]
    assert HTTP.get(url + CONTENT).text == "<grid>"


# ---- searches


def test_search_by_box_circle_order_and_page(url: str) -> None:
    for index, (longitude, magnitude) in enumerate([(179.5, 5.0), (-179.5, 6.0), (141.9, 7.0)]):
        event = quake(f"e{index}x", mag=magnitude, time=T0 + index)
        event["geometry"]["coordinates"][0] = longitude
        post(url, event)
    wide = {"starttime": "2023-11-01"}
    assert ids(query(url, **wide)) == ["e2x", "e1x", "e0x"]
    assert ids(query(url, **wide, orderby="magnitude-asc", limit=1, offset=2)) == ["e1x"]
    assert ids(query(url, **wide, minlongitude=170, maxlongitude=190)) == ["e1x", "e0x"]
    assert ids(query(url, **wide, latitude=42.7, longitude=180, maxradiuskm=100)) == ["e1x", "e0x"]
    assert ids(query(url, **wide, minmagnitude=6, maxmagnitude=6.5)) == ["e1x"]
    assert ids(query(url, **wide, mindepth=100)) == []
    count = HTTP.get(f"{url}/fdsnws/event/1/count", params={**wide, "minmagnitude": 6})
    assert count.text == "2"


def test_an_unknown_event_is_404_with_a_text_that_says_so(url: str) -> None:
    answer = query(url, eventid="us00000000")
    assert (answer.status_code, answer.text.splitlines()[0]) == (404, "Error 404: Not Found")
    assert HTTP.get(f"{url}/earthquakes/feed/v1.0/detail/us00000000.geojson").status_code == 404


@pytest.mark.parametrize(
    "parameters",
    [
        {"starttime": "yesterday"},
        {"minmagnitude": "nan"},
        {"limit": "0"},
        {"limit": "20001"},
        {"offset": "0"},
        {"orderby": "size"},
        {"colour": "red"},
        {"includesuperseded": "true"},
        {"eventid": "a", "includesuperseded": "true", "includedeleted": "true"},
        {"latitude": "1"},
        {"minlatitude": "5", "maxlatitude": "4"},
        {"format": "quakeml"},
    ],
)
def test_bad_searches_are_400(url: str, parameters: dict[str, str]) -> None:
    assert query(url, **parameters).status_code == 400


def test_times_without_a_zone_are_utc() -> None:
    assert Query.parse({"starttime": "2018-09-05"}).starttime == dt.datetime(2018, 9, 5, tzinfo=dt.UTC)
    with pytest.raises(QueryError, match="starttime"):
        Query.parse({"starttime": "05/09/2018"})


# ---- bad input


@pytest.mark.parametrize(
    "body",
    [
        b"not json",
        b"[]",
        b'{"detail": {}}',
        json.dumps({"detail": quake("../../x")}).encode(),
        json.dumps({"detail": quake(products=[])}).encode(),
        json.dumps({"detail": quake(products={"shakemap": [1]})}).encode(),
        json.dumps({"detail": quake(), "contents": {"/etc/passwd": {"text": ""}}}).encode(),
        json.dumps({"detail": quake(), "contents": {CONTENT: {"base64": "%"}}}).encode(),
    ],
)
def test_bad_events_are_refused(url: str, body: bytes) -> None:
    assert HTTP.post(f"{url}/_standin/events", content=body).status_code in (400, 409)
    assert HTTP.get(f"{url}/_standin/events").json() == {"events": []}


def test_an_index_cannot_reach_outside_its_folder(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "index.tsv").write_text(f"file\turl\n../secret\thttps://earthquake.usgs.gov{CONTENT}\n")
    assert EventBook([folder], tmp_path / "state").content(CONTENT) is None


def test_a_damaged_folder_is_named(tmp_path: Path) -> None:
    bad = tmp_path / "fdsn_event_detail" / "bad.geojson"
    bad.parent.mkdir()
    bad.write_text("{")
    with pytest.raises(BookError, match=r"bad\.geojson"):
        EventBook([tmp_path], tmp_path / "state")
    bad.write_text('{"id": "x"}')
    with pytest.raises(BookError, match=r"bad\.geojson"):
        EventBook([tmp_path], tmp_path / "state")
    with pytest.raises(BookError, match="not a folder"):
        EventBook([tmp_path / "none"], tmp_path / "state")
