"""The door to the USGS, against a real HTTP server that plays feeds, queries, details, faults and hostile answers."""

from __future__ import annotations

import asyncio
import copy
import datetime as dt
import gzip
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from fakes.servers import serve
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from flows.errors import ContentMissingError, EventDeletedError, EventError, ServiceError
from flows.event import EarthquakeEvent, ProductRef, current_products
from flows.rule import qualifies
from flows.settings import AreaSettings
from flows.usgs import FeedState, UsgsClient
from flows.usgs_geojson import parse_detail, parse_feed, parse_json, parse_summary

T0_MS = 1_536_170_879_150
T0 = dt.datetime(2018, 9, 5, 18, 7, 59, 150_000, tzinfo=dt.UTC)


def feature(event_id: str = "us2000h8ty", **properties: Any) -> dict[str, Any]:
    """One event as a feed writes it; `geometry` among the arguments replaces the point."""
    geometry = properties.pop("geometry", {"type": "Point", "coordinates": [141.9294, 42.6861, 35.0]})
    known = {
        "mag": 6.6, "place": "27 km ESE of Chitose, Japan", "time": T0_MS, "updated": T0_MS + 60_000,
        "ids": f",at00pelgzo,{event_id},", "alert": "orange", "status": "reviewed", "magType": "mww",
        "type": "earthquake", "title": "M 6.6 - 27 km ESE of Chitose, Japan",
    }  # fmt: skip
    return {"type": "Feature", "id": event_id, "properties": known | properties, "geometry": geometry}


def collection(*features: dict[str, Any]) -> dict[str, Any]:
    return {"type": "FeatureCollection", "metadata": {"count": len(features)}, "features": list(features)}


def product(source: str, updated_ms: int, weight: int, status: str = "UPDATE", version: str = "1") -> dict[str, Any]:
    url = f"https://earthquake.usgs.gov/product/shakemap/x/{source}/{updated_ms}/download/grid.xml"
    return {
        "source": source, "code": "us2000h8ty", "type": "shakemap", "updateTime": updated_ms, "status": status,
        "preferredWeight": weight, "properties": {"version": version, "maxmmi": "8.5"},
        "contents": {} if status == "DELETE" else {"download/grid.xml": {"url": url}},
    }  # fmt: skip


@dataclass
class Usgs:
    """The state of the played service and what it was asked."""

    events: list[dict[str, Any]] = field(default_factory=list)
    deleted: set[str] = field(default_factory=set)
    files: dict[str, bytes] = field(default_factory=dict)
    fail_first: int = 0
    fail_status: int = 503
    raw: Response | None = None
    requests: list[Request] = field(default_factory=list)

    def app(self) -> Starlette:
        return Starlette(routes=[Route("/{path:path}", self.answer)])

    def _etag(self) -> str:
        return f'"{len(self.events)}"'

    async def answer(self, request: Request) -> Response:
        self.requests.append(request)
        if self.fail_first > 0:
            self.fail_first -= 1
            return Response("try later", self.fail_status, headers={"Retry-After": "0"})
        if self.raw is not None:
            return self.raw
        path = request.url.path
        if path.startswith("/earthquakes/feed/"):
            if request.headers.get("if-none-match") == self._etag():
                return Response(status_code=304)
            return JSONResponse(collection(*self.events), headers={"ETag": self._etag()})
        if path == "/fdsnws/event/1/query":
            return self.query(dict(request.query_params))
        return Response(self.files[path]) if path in self.files else Response("gone", 404)

    def query(self, params: dict[str, str]) -> Response:
        wanted = params.get("eventid")
        if wanted is None:
            start = int(params["offset"]) - 1
            page = self.events[start : start + int(params["limit"])]
            return JSONResponse(collection(*page)) if page else Response(status_code=204)
        if wanted in self.deleted:
            return Response("Error 409: Conflict\n\nevent has been deleted", 409)
        found = next((e for e in self.events if f",{wanted}," in e["properties"]["ids"]), None)
        return JSONResponse(found) if found else Response("Error 404: Not Found", 404)


@pytest.fixture
def usgs() -> Usgs:
    return Usgs()


@pytest.fixture
def client(usgs: Usgs) -> Iterator[UsgsClient]:
    with serve(usgs.app()) as address, UsgsClient(address, timeout_s=5.0, backoff_s=0.001) as client:
        yield client


def test_an_event_is_found_under_every_alias_and_keeps_them_all(usgs: Usgs, client: UsgsClient) -> None:
    usgs.events = [feature()]
    event = client.event("at00pelgzo")
    assert event.id == "us2000h8ty"
    assert event.ids == ("at00pelgzo", "us2000h8ty")
    assert event.is_same_as("at00pelgzo")
    assert (event.time, event.lon, event.lat, event.depth_km, event.magnitude) == (T0, 141.9294, 42.6861, 35.0, 6.6)
    assert not event.simulated
    assert event.shakemap is None


def test_an_unknown_event_is_named_with_what_to_do(client: UsgsClient) -> None:
    with pytest.raises(EventError, match="no USGS event us0000none: check the id"):
        client.event("us0000none")


def test_a_deleted_event_is_told_apart_from_an_unknown_one(usgs: Usgs, client: UsgsClient) -> None:
    usgs.deleted = {"us1"}
    with pytest.raises(EventDeletedError, match="has deleted event us1"):
        client.event("us1")


@pytest.mark.parametrize("bad", ["../../etc/passwd", "us 1", "", "a" * 65, "x&format=csv", "ü1"])
def test_what_cannot_be_an_id_is_never_sent(usgs: Usgs, client: UsgsClient, bad: str) -> None:
    with pytest.raises(EventError, match="cannot be a USGS event id"):
        client.event(bad)
    assert usgs.requests == []


def test_a_feed_is_sent_once_and_then_only_when_it_changed(usgs: Usgs, client: UsgsClient) -> None:
    usgs.events = [feature("us1"), feature("us2")]
    first = client.poll("4.5_day")
    assert first.events is not None
    assert [event.id for event in first.events] == ["us1", "us2"]
    again = client.poll("4.5_day", FeedState(first.state.etag, first.state.last_modified))
    assert again.events is None
    assert again.state == first.state
    usgs.events.append(feature("us3"))
    assert len(client.poll("4.5_day", again.state).events or ()) == 3


def test_an_unchanged_feed_still_answers_its_events_within_a_client(usgs: Usgs, client: UsgsClient) -> None:
    usgs.events = [feature("us1")]
    assert client.feed() == client.feed()
    assert usgs.requests[1].headers["if-none-match"] == '"1"'


def test_one_spoilt_entry_does_not_hide_the_others(usgs: Usgs, client: UsgsClient) -> None:
    usgs.events = [feature("us1"), feature("us2", mag="six"), {"id": 5}, feature("us4")]
    poll = client.poll()
    assert [event.id for event in poll.events or ()] == ["us1", "us4"]
    assert len(poll.rejected) == 2
    assert "us2 has 'six' for `mag`" in poll.rejected[0]


def test_there_is_no_feed_of_another_name(client: UsgsClient) -> None:
    with pytest.raises(EventError, match="no feed"):
        client.poll("../../x")


def test_a_query_takes_as_many_pages_as_it_needs(usgs: Usgs, client: UsgsClient) -> None:
    usgs.events = [feature(f"us{i}") for i in range(7)]
    found = client.query(T0, T0 + dt.timedelta(days=1), 5.5, page_size=3, include_deleted=True)
    assert [event.id for event in found] == [f"us{i}" for i in range(7)]
    params = [dict(request.query_params) for request in usgs.requests]
    assert [p["offset"] for p in params] == ["1", "4", "7"]
    assert params[0]["starttime"] == "2018-09-05T18:07:59.150"
    assert (params[0]["minmagnitude"], params[0]["includedeleted"]) == ("5.5", "true")


def test_a_query_without_result_is_empty(client: UsgsClient) -> None:
    assert client.query(T0, T0 + dt.timedelta(minutes=1), page_size=3) == []


def test_the_last_full_page_is_followed_by_an_empty_one(usgs: Usgs, client: UsgsClient) -> None:
    usgs.events = [feature(f"us{i}") for i in range(6)]
    assert len(client.query(T0, T0, page_size=3)) == 6


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_passing_failure_is_tried_again(usgs: Usgs, client: UsgsClient, status: int) -> None:
    usgs.events, usgs.fail_first, usgs.fail_status = [feature()], 2, status
    assert client.event("us2000h8ty").id == "us2000h8ty"
    assert len(usgs.requests) == 3


def test_a_lasting_failure_names_service_and_address(usgs: Usgs, client: UsgsClient) -> None:
    usgs.fail_first = 100
    with pytest.raises(ServiceError, match=r"USGS service at http://127.0.0.1:\d+ cannot be reached \(HTTP 503; 4 att"):
        client.feed()


def test_an_unreachable_service_is_named() -> None:
    with (
        UsgsClient("http://127.0.0.1:9", timeout_s=1, backoff_s=0.001) as client,
        pytest.raises(ServiceError, match=r"USGS service at http://127.0.0.1:9 cannot be reached .ConnectError"),
    ):
        client.event("us1")


@pytest.mark.parametrize("address", ["ftp://x", "earthquake.usgs.gov", "http://user:pw@host", "file:///etc/passwd", ""])
def test_only_an_http_address_is_a_service(address: str) -> None:
    with pytest.raises(ServiceError, match="not an http"):
        UsgsClient(address)


def test_redirects_are_not_followed(usgs: Usgs, client: UsgsClient) -> None:
    usgs.raw = RedirectResponse("http://169.254.169.254/latest")
    with pytest.raises(ServiceError, match="redirecting to http://169"):
        client.event("us1")
    assert len(usgs.requests) == 1


@pytest.mark.parametrize("body", [b"<html>", b"", b'{"id": NaN}', b"[" * 100_000, b"\xff\xfe", b"[1e999999]]"])
def test_an_answer_that_is_not_json_is_the_fault_of_the_service(usgs: Usgs, client: UsgsClient, body: bytes) -> None:
    usgs.raw = Response(body)
    with pytest.raises(ServiceError, match="answers nonsense"):
        client.event("us1")


@pytest.mark.parametrize("value", [[], "x", 3, None, {}, {"id": "us1"}, {"id": "us1", "properties": []}])
def test_json_that_is_no_event_is_refused(value: Any) -> None:
    with pytest.raises(EventError):
        parse_detail(value)


def test_a_product_file_is_fetched_from_the_configured_service(usgs: Usgs, client: UsgsClient) -> None:
    usgs.files = {"/product/shakemap/grid.xml": b"<xml/>"}
    assert client.content("https://earthquake.usgs.gov/product/shakemap/grid.xml") == b"<xml/>"
    assert client.content(f"{client.base_url}/product/shakemap/grid.xml") == b"<xml/>"


def test_a_missing_product_file_is_told_apart(client: UsgsClient) -> None:
    with pytest.raises(ContentMissingError, match=r"nothing.xml is not there \(HTTP 404\)"):
        client.content("https://earthquake.usgs.gov/product/nothing.xml")


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data", "file:///etc/passwd", "https://evil@earthquake.usgs.gov/x",
        "https://earthquake.usgs.gov.evil.org/x", "https://earthquake.usgs.gov:22/x", "http://[::1/x", "//x", "",
        "https://earthquake.usgs.gov\\@evil.org/", "https://earthquake.usgs.gov/a b",
    ],
)  # fmt: skip
def test_a_record_cannot_send_the_client_elsewhere(usgs: Usgs, client: UsgsClient, url: str) -> None:
    with pytest.raises(ContentMissingError, match="not fetched"):
        client.content(url)
    assert usgs.requests == []


def test_a_file_is_read_only_to_its_cap(usgs: Usgs, client: UsgsClient) -> None:
    usgs.files = {"/a": b"x" * 1001}
    assert len(client.content(f"{client.base_url}/a", max_bytes=1001)) == 1001
    with pytest.raises(ContentMissingError, match="more than 1000 bytes"):
        client.content(f"{client.base_url}/a", max_bytes=1000)


def test_the_cap_counts_what_was_unpacked(usgs: Usgs, client: UsgsClient) -> None:
    usgs.raw = Response(gzip.compress(bytes(2_000_000)), headers={"Content-Encoding": "gzip"})
    with pytest.raises(ContentMissingError, match="more than 1000000 bytes"):
        client.content(f"{client.base_url}/bomb", max_bytes=1_000_000)


def test_a_body_that_only_drips_is_cut_off(usgs: Usgs, monkeypatch: pytest.MonkeyPatch) -> None:
    async def drip() -> AsyncIterator[bytes]:
        for _ in range(200):
            yield b" "
            await asyncio.sleep(0.02)

    monkeypatch.setattr("flows.usgs.DRIP_FACTOR", 0.1)
    usgs.raw = StreamingResponse(drip())
    with (
        serve(usgs.app()) as address,
        UsgsClient(address, timeout_s=1.0, max_attempts=1) as client,
        pytest.raises(ServiceError, match="keeps dripping"),
    ):
        client.event("us1")


def test_the_preferred_product_is_the_heaviest_then_the_newest_of_those_not_withdrawn() -> None:
    record = feature(products={"shakemap": [
        product("us", T0_MS + 1000, 200, version="1"),
        product("us", T0_MS + 3000, 150, version="2"),
        product("atlas", T0_MS + 2000, 300),
        product("nn", T0_MS + 1500, 150),
    ]})  # fmt: skip
    event = parse_detail(record)
    assert event.shakemap is not None
    assert event.shakemap.name == "atlas/us2000h8ty version 1"
    withdrawn = copy.deepcopy(record)
    withdrawn["properties"]["products"]["shakemap"].append(product("atlas", T0_MS + 9000, 1, "DELETE"))
    event = parse_detail(withdrawn)
    # The newest version of a product stands for it, though an older one was heavier.
    assert [p.name for p in current_products(event.products, "shakemap")] == [
        "us/us2000h8ty version 2",
        "nn/us2000h8ty version 1",
    ]
    before = current_products(event.products, "shakemap", at=T0 + dt.timedelta(seconds=1.2))
    assert [p.version for p in before] == ["1"]
    assert len(event.products) == 5


def test_a_spoilt_product_counts_as_not_there() -> None:
    good = product("us", T0_MS, 1)
    spoilt: list[Any] = [
        None, "x", {**good, "updateTime": "now"}, {**good, "source": 5.5j.real}, {**good, "source": None},
        {**good, "updateTime": 1e300},
    ]  # fmt: skip
    event = parse_detail(feature(products={"shakemap": [*spoilt, good], "ground-failure": "none"}))
    assert [p.source for p in event.products] == ["0.0", "us"]
    assert parse_detail(feature(products=[1])).products == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mag": None}, "us2000h8ty has no magnitude"),
        ({"time": None}, "us2000h8ty has no origin time"),
        ({"geometry": None}, "us2000h8ty has no coordinates"),
        ({"geometry": {"type": "Point", "coordinates": [None, None, None]}}, "no coordinates"),
        ({"geometry": {"type": "Point", "coordinates": [500, 0, 0]}}, "impossible longitude 500"),
        ({"geometry": {"type": "Point", "coordinates": "here"}}, "no point"),
        ({"geometry": {"type": "Point", "coordinates": [1, 2, 5000]}}, "impossible depth"),
        ({"mag": True}, "not a number"),
        ({"mag": 99}, "impossible magnitude 99"),
        ({"mag": 10**400}, "not finite"),
        ({"time": 1e18}, "impossible `time`"),
    ],
)
def test_a_record_that_cannot_be_mapped_says_why(change: dict[str, Any], message: str) -> None:
    with pytest.raises(EventError, match=message):
        parse_detail(feature(**change))


def test_a_missing_depth_is_carried_as_unknown() -> None:
    event = parse_detail(feature(geometry={"type": "Point", "coordinates": [1, 2, None]}))
    assert event.depth_km is None


def test_a_deleted_event_in_a_query_needs_no_coordinates() -> None:
    summary = parse_summary(feature(status="deleted", geometry=None, mag=None))
    assert summary.deleted
    assert summary.lon is None
    assert qualifies(summary, AreaSettings()) == (False, "the USGS has deleted event us2000h8ty")


def test_text_is_one_short_line_and_simulated_is_said_only_by_true() -> None:
    summary = parse_summary(feature(place="a\n\x1b[31mb" + "c" * 9999, **{"quakeslide:simulated": "true"}))
    assert summary.place.startswith("a [31mb")
    assert len(summary.place) == 500
    assert not summary.simulated
    assert parse_summary(feature(**{"quakeslide:simulated": True})).simulated


def test_longitudes_are_brought_to_one_turn() -> None:
    assert parse_summary(feature(geometry={"type": "Point", "coordinates": [190.0, 0, 0]})).lon == -170.0


def test_events_survive_storage() -> None:
    event = parse_detail(
        feature(products={"shakemap": [product("us", T0_MS, 5), product("us", T0_MS + 7, 5, "DELETE")]})
    )
    stored = json.loads(json.dumps(event.to_dict()))
    assert EarthquakeEvent.from_dict(stored) == event
    with pytest.raises(EventError, match="not a stored earthquake event"):
        EarthquakeEvent.from_dict({"id": "us1"})


@pytest.mark.parametrize(
    ("change", "wanted", "reason"),
    [
        ({"mag": 5.5}, True, "M 5.5 is not below the rule's 5.5"),
        ({"mag": 4.3}, False, "M 4.3 is below the rule's 5.5"),
        ({"mag": None}, False, "event us2000h8ty has no magnitude yet"),
        ({"type": "quarry blast"}, False, "event us2000h8ty is a quarry blast, not an earthquake"),
    ],
)
def test_the_rule_gives_its_reason(change: dict[str, Any], wanted: bool, reason: str) -> None:
    assert qualifies(parse_summary(feature(**change)), AreaSettings()) == (wanted, reason)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(["id", "properties", "geometry", "coordinates", "mag", "time", "updated", "ids", "products",
                         "shakemap", "source", "code", "updateTime", "contents", "url"]), inner, max_size=5),
    max_leaves=15,
)  # fmt: skip


@given(json_values)
def test_no_json_at_all_breaks_the_reader(value: Any) -> None:
    record = {"id": "us1", "properties": value, "geometry": value}
    spoilt = feature(products=value, ids=value, place=value, geometry=value)
    for entry in (value, record, spoilt):
        events, rejected = parse_feed({"features": [entry]})
        assert len(events) + len(rejected) == 1
        try:
            parse_detail(entry)
        except EventError:
            continue


def test_recorded_details_of_the_usgs_are_read(shared_data: Any) -> None:
    folder = shared_data / "usgs" / "fdsn_event_detail"
    iburi = parse_detail(parse_json((folder / "us2000h8ty_superseded.geojson").read_bytes(), "iburi"))
    assert iburi.ids == ("us2000h8ty", "pt18248000", "at00pelgzo")
    maps = [p for p in iburi.products if p.type == "shakemap"]
    assert len(maps) == 13
    assert len(iburi.products) - len(maps) == 13
    assert iburi.shakemap is not None
    assert iburi.shakemap.name == "atlas/us2000h8ty version 1"
    assert iburi.shakemap.url("download/grid.xml") is not None
    assert iburi.ground_failure is not None
    assert iburi.ground_failure.property("landslide-alert") is not None
    in_2018 = current_products(iburi.products, "shakemap", at=dt.datetime(2019, 1, 1, tzinfo=dt.UTC))
    assert [p.name for p in in_2018] == ["us/us2000h8ty version 10"]
    tohoku = parse_detail(
        parse_json((folder / "official20110311054624120_30_superseded.geojson").read_bytes(), "tohoku")
    )
    # The old Atlas map was deleted and sent again afterwards under the same name: the newest version decides.
    assert [p.code for p in current_products(tohoku.products, "shakemap")] == [
        "official20110311054624120_30",
        "atlas20110311054624",
    ]
    for file in folder.iterdir():
        event = parse_detail(parse_json(file.read_bytes(), file.name))
        assert EarthquakeEvent.from_dict(json.loads(json.dumps(event.to_dict()))) == event


def test_a_recorded_week_of_the_feed_is_read_whole(shared_data: Any) -> None:
    body = (shared_data / "usgs" / "summary_feeds" / "all_week_2023-08-04.geojson").read_bytes()
    events, rejected = parse_feed(parse_json(body, "week"))
    assert (len(events), rejected) == (2124, [])
    wanted = [e for e in events if qualifies(e, AreaSettings())[0]]
    assert all(e.magnitude is not None and e.magnitude >= 5.5 for e in wanted)
    assert 0 < len(wanted) < 40


def test_a_product_without_a_version_number_is_named_by_its_time() -> None:
    bare = ProductRef("us", "shakemap", "us1", T0, "", "UPDATE", 1)
    assert bare.name == "us/us1 of 2018-09-05 18:07:59 UTC"
    assert bare.identity == ("us", "shakemap", "us1")
