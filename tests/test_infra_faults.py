"""Faults on demand, over real sockets: which requests meet one, when, and what they see."""

from __future__ import annotations

import concurrent.futures
import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fakes.servers import HTTP, serve
from starlette.requests import Request
from starlette.responses import Response

from infra.local.faults import Armed, Asked, Fault
from infra.local.standin import Standin

BODY = b"0123456789" * 100


async def answer(scope: Any, receive: Any, send: Any) -> None:
    """Echoes the length of the request's body in a header, and answers `BODY`."""
    body = await Request(scope, receive).body()
    await Response(BODY, headers={"X-Received": str(len(body))})(scope, receive, send)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with serve(Standin(answer)) as url:
        yield url


@pytest.fixture
def url(server: str) -> Iterator[str]:
    yield server
    HTTP.delete(f"{server}/_standin/faults")
    HTTP.delete(f"{server}/_standin/log")


def plant(url: str, **fault: Any) -> None:
    answer = HTTP.post(f"{url}/_standin/faults", json={"match": "^/x$", **fault})
    assert answer.status_code == 204, answer.text


def codes(url: str, count: int, **options: Any) -> list[int]:
    return [HTTP.get(f"{url}/x", **options).status_code for _ in range(count)]


def test_every_nth_request_is_hit_and_the_log_says_so(url: str) -> None:
    plant(url, every=3, skip=1, status=429)
    assert codes(url, 8) == [200, 200, 200, 429, 200, 200, 429, 200]
    log = HTTP.get(f"{url}/_standin/log").json()["requests"]
    assert [e["fault"] for e in log] == [False, False, False, True, False, False, True, False]
    armed = HTTP.get(f"{url}/_standin/faults").json()["faults"]
    assert [(f["seen"], f["hits"], f["match"]) for f in armed] == [(8, 2, "^/x$")]


def test_a_share_is_drawn_alike_by_the_same_seed(url: str) -> None:
    plant(url, share=0.5, seed=4, status=503)
    first = codes(url, 20)
    HTTP.delete(f"{url}/_standin/faults")
    plant(url, share=0.5, seed=4, status=503)
    assert codes(url, 20) == first
    assert 4 < first.count(503) < 16


def test_a_storm_passes(url: str) -> None:
    plant(url, for_s=0.3, status=429)
    assert codes(url, 2) == [429, 429]
    time.sleep(0.3)
    assert codes(url, 1) == [200]
    assert HTTP.get(f"{url}/_standin/faults").json() == {"faults": []}


def test_a_rate_above_the_quota() -> None:
    armed = Armed(Fault.from_json({"match": ".", "above_per_s": 4, "status": 429}), 0.0)
    hits = [armed.hit(Asked("GET", "/x", now_s=t)) for t in (0, 0, 0, 0, 0, 0.1, 0.25, 0.26, 2, 2, 2, 2, 2)]
    assert hits == [False] * 4 + [True, True, False, True] + [False] * 4 + [True]


def test_more_at_a_time_than_the_quota(url: str) -> None:
    plant(url, above_concurrent=2, status=429)
    plant(url, delay_s=0.3, count=20)
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        found = sorted(code for part in pool.map(lambda _: codes(url, 1), range(6)) for code in part)
    assert found == [200, 200, 429, 429, 429, 429]


def test_a_token_that_has_expired(url: str) -> None:
    plant(url, token="stale", status=401)
    assert codes(url, 2, headers={"Authorization": "Bearer stale"}) == [401, 401]
    refused = HTTP.get(f"{url}/x", headers={"Authorization": "Bearer stale"}).json()["error"]
    assert (refused["status"], "invalid authentication credentials" in refused["message"]) == ("UNAUTHENTICATED", True)
    assert codes(url, 1, headers={"Authorization": "Bearer fresh"}) == [200]
    assert codes(url, 1) == [200]


def test_what_the_request_holds_decides_and_still_arrives(url: str) -> None:
    plant(url, request_body="PRIVATE/", status=403)
    plant(url, above_pixels=100, status=400, message="User memory limit exceeded.")

    def post(height: int, asset: str = "PUBLIC/a") -> httpx.Response:
        grid = {"dimensions": {"height": height, "width": 10}}
        return HTTP.post(f"{url}/x", json={"asset": asset, "grid": grid})

    assert post(10).status_code == 200
    assert int(post(10).headers["X-Received"]) > 50
    assert post(11).json()["error"]["message"] == "User memory limit exceeded."
    assert post(1, "PRIVATE/a").json()["error"]["status"] == "PERMISSION_DENIED"
    assert HTTP.post(f"{url}/x", content=b"not JSON").status_code == 200


def test_half_an_answer_and_a_connection_that_breaks(url: str) -> None:
    plant(url, cut_after=100)
    with pytest.raises(httpx.RemoteProtocolError, match="100 bytes"):
        HTTP.get(f"{url}/x")
    plant(url, reset="before")
    with pytest.raises(httpx.ReadError):
        HTTP.get(f"{url}/x")
    plant(url, reset="after", cut_after=10)
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as raw:
        raw.sendall(b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n")
        received = b""
        with pytest.raises(ConnectionResetError):
            while part := raw.recv(4096):
                received += part
                time.sleep(0.05)
    assert received == b"" or received.startswith(b"HTTP/1.1 200 OK")
    assert codes(url, 1) == [200]
    log = HTTP.get(f"{url}/_standin/log").json()["requests"]
    assert [e["status"] for e in log] == [200, 0, 200, 200]


def test_a_slow_line(url: str) -> None:
    plant(url, bytes_per_s=4000)
    begun = time.monotonic()
    assert HTTP.get(f"{url}/x").content == BODY
    assert time.monotonic() - begun > 0.2


def test_a_page_in_place_of_the_answer(url: str) -> None:
    plant(url, answer="<html>sign in</html>", answer_type="text/html")
    page = HTTP.get(f"{url}/x")
    assert (page.status_code, page.text) == (200, "<html>sign in</html>")
    assert page.headers["content-type"].startswith("text/html")
    plant(url, status=503, headers={"Retry-After": "7"})
    refused = HTTP.get(f"{url}/x")
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "7")
    assert refused.json()["error"]["message"] == "The service is currently unavailable."


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([], "an object with at least"),
        ({"match": "("}, "not a regular expression"),
        ({"match": ".", "statsu": 1}, "unknown fields statsu"),
        ({"match": ".", "status": "bad"}, "'bad' is not a number"),
        ({"match": ".", "count": 1.5}, "1.5 is not a number"),
        ({"match": ".", "every": 0}, "every 0 must be at least 1"),
        ({"match": ".", "share": 2}, "share 2.0 within 0 and 1"),
        ({"match": ".", "reset": "sometimes"}, "one of before, after"),
        ({"match": ".", "bytes_per_s": 0}, "must be positive"),
        ({"match": ".", "headers": []}, "headers must be an object"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(url: str, value: Any, words: str) -> None:
    refused = HTTP.post(f"{url}/_standin/faults", json=value)
    assert refused.status_code == 400
    assert words in refused.json()["error"]


def test_faults_end_after_one_hit_unless_they_last() -> None:
    assert Fault.from_json({"match": "."}).count == 1
    assert Fault.from_json({"match": ".", "every": 2}).count is None
    assert Fault.from_json({"match": ".", "share": 0.1, "count": 5}).count == 5
    assert Fault.from_json({"match": ".", "count": None}).count is None
