"""Who is let in, what is said when nobody is there, and what happens when a token runs out."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ee
import google.auth
import google.auth.exceptions
import pytest
from ee import deprecation
from fakes.servers import serve
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from gee.errors import PermanentError, SessionError
from gee.session import Session, SessionConfig, connect, is_loopback, open_session
from infra.local.earthengine import create_app


class ShortLivedCredentials:
    """Tokens `token-1`, `token-2`, ...: a new one at each refresh."""

    def __init__(self) -> None:
        self.token, self.refreshed, self.valid = "", 0, False

    def refresh(self, _: Any) -> None:
        self.refreshed += 1
        self.token, self.valid = f"token-{self.refreshed}", True

    def apply(self, headers: dict[str, str]) -> None:
        headers["authorization"] = f"Bearer {self.token}"


class Gate:
    """Answers with the token it was shown; refuses those in `expired`."""

    def __init__(self) -> None:
        self.expired: set[str] = set()
        self.seen: list[str] = []
        self.app = Starlette(routes=[Route("/{path:path}", self._answer, methods=["GET", "POST"])])

    async def _answer(self, request: Request) -> Response:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        self.seen.append(token)
        if token in self.expired:
            return JSONResponse({"error": {"code": 401, "message": "Request had invalid credentials."}}, 401)
        return JSONResponse({"token": token})


@pytest.fixture
def gate() -> Iterator[tuple[Gate, Session, ShortLivedCredentials]]:
    fake, credentials = Gate(), ShortLivedCredentials()
    with serve(fake.app) as url, Session(SessionConfig(url, "p", 10.0, 2, 4, 0.01), credentials) as session:
        yield fake, session, credentials


def test_a_token_is_fetched_once_and_used_again(gate: tuple[Gate, Session, ShortLivedCredentials]) -> None:
    fake, session, credentials = gate
    for _ in range(3):
        assert session.call("GET", "/v1/x") == {"token": "token-1"}
    assert (fake.seen, credentials.refreshed) == (["token-1"] * 3, 1)


def test_an_expired_token_is_renewed_and_the_request_sent_again(
    gate: tuple[Gate, Session, ShortLivedCredentials],
) -> None:
    fake, session, _ = gate
    session.call("GET", "/v1/x")
    fake.expired = {"token-1"}
    assert session.call("POST", "/v1/x", {"a": 1}) == {"token": "token-2"}
    assert fake.seen == ["token-1", "token-1", "token-2"]


def test_credentials_that_stay_refused_are_an_error_that_says_what_to_do(
    gate: tuple[Gate, Session, ShortLivedCredentials],
) -> None:
    fake, session, _ = gate
    fake.expired = {"token-1", "token-2"}
    with pytest.raises(SessionError, match=r"refused the credentials.*earthengine authenticate") as caught:
        session.call("GET", "/v1/x")
    assert "token-" not in str(caught.value), "a token is never part of a message"


def test_many_threads_with_an_expired_token_refresh_it_once(gate: tuple[Gate, Session, ShortLivedCredentials]) -> None:
    fake, session, credentials = gate
    session.call("GET", "/v1/x")
    fake.expired = {"token-1"}
    threads = [threading.Thread(target=session.call, args=("GET", "/v1/x")) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert credentials.refreshed == 2


def test_what_the_headers_tell_is_passed_on(caplog: pytest.LogCaptureFixture) -> None:
    async def answer(request: Request) -> Response:
        profiled = "x-earth-engine-computation-profiling" in request.headers
        told = {"x-earth-engine-quota-status": "parallelism_restricted=true"}
        return JSONResponse({}, headers=told | ({"x-earth-engine-computation-profile": "abc"} if profiled else {}))

    profiles: list[str] = []
    app = Starlette(routes=[Route("/{path:path}", answer, methods=["POST"])])
    with (
        serve(app) as url,
        connect(SessionConfig(url, "p")) as session,
        caplog.at_level(logging.WARNING, "gee.session"),
    ):
        session.fetch("POST", "/v1/x", {}, on_profile=profiles.append)
        session.fetch("POST", "/v1/x", {})
    assert profiles == ["abc"]
    assert [record.getMessage()[:61] for record in caplog.records] == [
        "project p has used up its non-commercial compute quota: Earth"
    ]


def test_processes_that_share_a_quota_keep_to_their_part(tmp_path: Path) -> None:
    fake = Gate()
    with (
        serve(fake.app) as url,
        connect(SessionConfig(url, "p", max_concurrent=2, max_per_s=1000.0, quota_uri=str(tmp_path))) as session,
    ):
        assert [session.call("GET", "/v1/x") for _ in range(3)] == [{"token": ""}] * 3
        assert session.gate.share.concurrent <= 2
    assert any(tmp_path.rglob("*.json"))


def test_no_attempt_at_all_is_refused() -> None:
    with pytest.raises(SessionError, match="max_attempts is 0"):
        connect(SessionConfig("http://127.0.0.1:9", "p", max_attempts=0))


def test_a_refresh_that_fails_is_a_session_error(gate: tuple[Gate, Session, ShortLivedCredentials]) -> None:
    _, session, credentials = gate

    def fail(_: Any) -> None:
        raise google.auth.exceptions.RefreshError("invalid_grant")  # type: ignore[no-untyped-call]

    credentials.refresh = fail  # type: ignore[method-assign]
    with pytest.raises(SessionError, match="invalid_grant"):
        session.call("GET", "/v1/x")


def test_an_open_session_can_build_and_compute(tmp_path: Path) -> None:
    fetched = deprecation._FetchDataCatalogStac
    (tmp_path / "catalogue").mkdir()
    app = create_app(tmp_path / "catalogue", tmp_path / "state")
    with serve(app) as url, open_session(f"{url}/", "local") as session:
        assert session.compute(ee.Number(2).add(3)) == 5
        assert session.config.url == url
        assert session.project_path == "/v1/projects/local"
        with pytest.raises(PermanentError, match="HTTP 4"):
            session.compute(ee.Image("NO/SUCH").bandNames())
    assert deprecation._FetchDataCatalogStac is fetched, "the client is left as it was"
    assert socket.getdefaulttimeout() is None


def test_nobody_there_is_said_at_once_with_the_address() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        started = time.monotonic()
        with pytest.raises(SessionError, match=rf"{url}.*quakeslide local up"):
            open_session(url, "local")
        assert time.monotonic() - started < 5


def test_a_host_that_accepts_and_never_answers_meets_the_deadline() -> None:
    with silent() as url:
        started = time.monotonic()
        with pytest.raises(SessionError, match=url):
            open_session(url, "local", timeout_s=0.3)
        assert time.monotonic() - started < 5


def test_another_server_at_the_address_is_told_from_earth_engine() -> None:
    async def hello(_: Request) -> Response:
        return PlainTextResponse("hello")

    with (
        serve(Starlette(routes=[Route("/{path:path}", hello)])) as url,
        pytest.raises(SessionError, match=r"answers, but not as Earth Engine \(HTTP 200"),
    ):
        open_session(url, "local")


@pytest.mark.parametrize("url", ["", "nonsense", "http://"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(SessionError):
        open_session(url, "local")


def test_a_project_is_needed() -> None:
    with pytest.raises(SessionError, match="QUAKESLIDE_EARTHENGINE__PROJECT"):
        open_session("https://earthengine-highvolume.googleapis.com", "")


def test_without_credentials_it_is_said_how_to_get_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    with pytest.raises(SessionError, match=r"no credentials for https://earthengine\.example.*ee.Authenticate"):
        connect(SessionConfig("https://earthengine.example", "p"))


@pytest.mark.parametrize(
    ("url", "loopback"),
    [
        ("http://127.0.0.1:8085", True), ("http://localhost:1", True), ("http://[::1]:1", True),
        ("http://127.1.2.3", True),
        ("https://earthengine.googleapis.com", False), ("http://127.0.0.1.example.com", False), ("nonsense", False),
    ],
)  # fmt: skip
def test_loopback(url: str, loopback: bool) -> None:
    assert is_loopback(url) is loopback


@contextmanager
def silent() -> Iterator[str]:
    """A socket that accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
