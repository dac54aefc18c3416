"""The door to the USGS, against a real HTTP server that plays feeds, queries, details, faults and hostile answers."""

from __future__ import annotations

import asyncio
import datetime as dt
import gzip
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from fakes.servers import serve
from fakes.usgs_records import T0, collection, feature
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from flows.errors import ContentMissingError, EventDeletedError, EventError, ServiceError
from flows.usgs import FeedState, UsgsClient


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
