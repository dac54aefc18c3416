"""The one door to Earth Engine: credentials, deadlines, retries and the limit of requests in flight.

Expressions are built with the `ee` client; everything that travels goes through `Session`, which keeps the HTTP
status that the client drops. `open_session` is for the process that builds expressions, `connect` for workers.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import json as jsonlib
import random
import socket
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import ee
import google.auth.exceptions
import google.auth.transport.requests
import httpx
from ee import deprecation
from google.auth.credentials import AnonymousCredentials

from gee.errors import PermanentError, SessionError, TransientError
from gee.retry import classify, pause_s, retry_after_s

CONNECT_TIMEOUT_S = 10.0
"""A host that does not accept a connection in this time is not there."""
MAX_ANSWER_BYTES = 96 * 2**20
"""Refuse to hold a longer answer: pixels are at most 48 MiB, a listing of 5,000 scenes well under this."""


@dataclass(frozen=True)
class SessionConfig:
    """What a session is made from: small, without secrets, picklable. This is what travels to workers."""

    url: str
    """Endpoint. A loopback address means a stand-in without credentials."""
    project: str
    """Google Cloud project that pays."""
    timeout_s: float = 300.0
    """Deadline of one request, in seconds."""
    max_attempts: int = 6
    """Attempts at a request whose failure may pass."""
    max_concurrent: int = 16
    """Requests in flight from this process (the service allows 40 a project)."""
    first_pause_s: float = 1.0
    """Wait after the first failed attempt, in seconds; doubled after each further one."""


def is_loopback(url: str) -> bool:
    """Whether an address is this machine itself."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # another name
        return False


class Session:
    """A connection to Earth Engine under one project. Safe to use from many threads at once."""

    def __init__(self, config: SessionConfig, credentials: Any) -> None:
        """Use `connect` or `open_session`, which find the credentials."""
        self.config = config
        self._free = threading.BoundedSemaphore(config.max_concurrent)
        self._rng = random.Random()  # noqa: S311 - jitter, not a secret
        headers = {} if is_loopback(config.url) else {"x-goog-user-project": config.project}
        self._client = httpx.Client(
            base_url=config.url,
            auth=_GoogleAuth(credentials),
            headers=headers,
            timeout=httpx.Timeout(config.timeout_s, connect=min(CONNECT_TIMEOUT_S, config.timeout_s)),
            limits=httpx.Limits(max_connections=config.max_concurrent),
            trust_env=not is_loopback(config.url),  # a proxy knows nothing of this machine's loopback
        )

    @property
    def project_path(self) -> str:
        """Where the project's methods hang: `/v1/projects/PROJECT`."""
        return f"/v1/projects/{self.config.project}"

    def compute(self, value: Any) -> Any:
        """The value of an `ee` object, as `getInfo` would give it."""
        expression = ee.serializer.encode(value, for_cloud_api=True)
        return self.call("POST", f"{self.project_path}/value:compute", {"expression": expression})["result"]

    def call(self, method: str, path: str, json: Any = None) -> Any:
        """The parsed JSON answer of one method, under the rules of `fetch`."""
        body = self.fetch(method, path, json)
        try:
            return jsonlib.loads(body)
        except ValueError:
            raise PermanentError(
                f"{self.config.url}{path} answered something that is not JSON: {body[:80]!r}"
            ) from None

    def fetch(
        self, method: str, path: str, json: Any = None, *, min_bytes: int = 0, max_bytes: int = MAX_ANSWER_BYTES
    ) -> bytes:
        """The body of the answer; waits and asks again while the failure may pass.

        A body shorter than `min_bytes` was cut on the way, which may pass; one longer than `max_bytes` is refused.
        Raises `TransientError` when the attempts are used up, `RequestTooLargeError` and `PermanentError` at once,
        each with the HTTP status and Earth Engine's own words.
        """
        for attempt in range(self.config.max_attempts):
            try:
                return self._fetch_once(method, path, json, min_bytes, max_bytes)
            except _RetryableError as error:
                if attempt + 1 == self.config.max_attempts:
                    raise TransientError(
                        f"{method} {self.config.url}{path} failed {attempt + 1} times, the last time with {error}"
                    ) from error.__cause__
                time.sleep(pause_s(attempt, self.config.first_pause_s, error.asked_s, self._rng))
        raise SessionError(f"max_attempts is {self.config.max_attempts}: allow at least 1")

    def _fetch_once(self, method: str, path: str, json: Any, min_bytes: int, max_bytes: int) -> bytes:
        try:
            with self._free, self._client.stream(method, path, json=json) as response:
                body = self._read(response, max_bytes)
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise _RetryableError(f"a broken connection ({type(error).__name__}: {error})") from error
        except google.auth.exceptions.GoogleAuthError as error:
            raise SessionError(f"the credentials for {self.config.url} were refused: {error}; {_LOGIN_HINT}") from error
        if response.is_success:
            if len(body) < min_bytes:
                raise _RetryableError(f"a body of {len(body)} bytes instead of at least {min_bytes}")
            return body
        message = error_message(body) or response.reason_phrase
        text = f"HTTP {response.status_code}: {message}"
        kind = classify(response.status_code, message)
        if kind is TransientError:
            asked = retry_after_s(response.headers.get("retry-after"), dt.datetime.now(dt.UTC))
            raise _RetryableError(text, asked)
        if response.status_code == 401:
            raise SessionError(f"{self.config.url} refused the credentials ({text}): {_LOGIN_HINT}")
        failure = kind(text)
        failure.status = response.status_code
        raise failure

    def _read(self, response: httpx.Response, max_bytes: int) -> bytes:
        end = time.monotonic() + self.config.timeout_s
        body = bytearray()
        for chunk in response.iter_bytes():
            body += chunk
            if len(body) > max_bytes:
                raise PermanentError(f"the answer of {response.url.path} is longer than the {max_bytes} bytes expected")
            if time.monotonic() > end:
                raise _RetryableError(f"an answer that took longer than {self.config.timeout_s:g} s")
        return bytes(body)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, tuple[SessionConfig]]:
        return connect, (self.config,)  # connections and tokens stay here; the other side makes its own


def open_session(
    url: str, project: str, *, timeout_s: float = 300.0, max_attempts: int = 6, max_concurrent: int = 16
) -> Session:
    """Check that Earth Engine answers for the project, make `ee` ready to build expressions, and return a session.

    Raises `SessionError` naming the address and what to do.
    """
    config = SessionConfig(url.rstrip("/"), project, timeout_s, max_attempts, max_concurrent)
    if not project:
        raise SessionError(
            "no Earth Engine project is set: set QUAKESLIDE_EARTHENGINE__PROJECT to a Google Cloud project"
        )
    _probe(config)
    credentials = _credentials(config.url)
    _initialise_ee(config, credentials)
    session = Session(config, credentials)
    with _sessions_lock:  # worker threads of this process use it too, and with it one limit of requests in flight
        _sessions[config] = session
    return session


_sessions: dict[SessionConfig, Session] = {}
_sessions_lock = threading.Lock()


def connect(config: SessionConfig) -> Session:
    """The session of this process for `config`, made at the first call. Asks nothing and does not need `ee`.

    Threads of a worker share it, and with it the limit of requests in flight.
    Raises `SessionError` when there are no credentials.
    """
    with _sessions_lock:
        session = _sessions.get(config)
        if session is None or session._client.is_closed:
            session = _sessions[config] = Session(config, _credentials(config.url))
        return session


def error_message(body: bytes) -> str:
    """Earth Engine's words in an error body `{"error": {code, message, status}}`; the start of the body otherwise."""
    try:
        return str(jsonlib.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return body[:200].decode("utf-8", "replace").strip()


_LOGIN_HINT = (
    "run `earthengine authenticate` (or ee.Authenticate() in a notebook), "
    "or set GOOGLE_APPLICATION_CREDENTIALS to the key file of a service account"
)


class _RetryableError(Exception):
    """One failed attempt that may be repeated."""

    def __init__(self, message: str, asked_s: float = 0.0) -> None:
        super().__init__(message)
        self.asked_s = asked_s


class _GoogleAuth(httpx.Auth):
    """Puts google.auth's token on each request; refreshes it before it runs out, and once more after a 401."""

    def __init__(self, credentials: Any) -> None:
        self._credentials = credentials
        self._lock = threading.Lock()

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """See `httpx.Auth`."""
        if isinstance(self._credentials, AnonymousCredentials):
            yield request
            return
        self._apply(request, expired=None)
        sent = request.headers.get("authorization")
        response = yield request
        if response.status_code == 401:
            self._apply(request, expired=sent)
            yield request

    def _apply(self, request: httpx.Request, expired: str | None) -> None:
        with self._lock:  # one refresh for all threads that met the same expired token
            if not self._credentials.valid or expired == f"Bearer {self._credentials.token}":
                self._credentials.refresh(google.auth.transport.requests.Request())
            headers: dict[str, str] = {}
            self._credentials.apply(headers)
            request.headers.update(headers)


def _credentials(url: str) -> Any:
    if is_loopback(url):
        return AnonymousCredentials()  # type: ignore[no-untyped-call]
    try:
        credentials, _ = google.auth.default(scopes=ee.oauth.SCOPES)
        return credentials
    except google.auth.exceptions.DefaultCredentialsError:
        pass
    try:
        return ee.data.get_persistent_credentials()
    except ee.EEException:
        raise SessionError(f"no credentials for {url}: {_LOGIN_HINT}") from None


def _probe(config: SessionConfig) -> None:
    """Earth Engine's client waits for ever for a host that does not answer: ask first, with a deadline."""
    wait = httpx.Timeout(min(30.0, config.timeout_s), connect=min(CONNECT_TIMEOUT_S, config.timeout_s))
    try:
        answer = httpx.get(
            f"{config.url}/$discovery/rest",
            params={"version": "v1"},
            timeout=wait,
            trust_env=not is_loopback(config.url),
        )
    except (httpx.TransportError, httpx.InvalidURL) as error:
        hint = (
            "is the local stand-in running (`quakeslide local up`)?" if is_loopback(config.url) else "check the network"
        )
        raise SessionError(f"Earth Engine at {config.url!r} cannot be reached ({error}): {hint}") from error
    if not answer.is_success or b'"resources"' not in answer.content:
        raise SessionError(
            f"{config.url} answers, but not as Earth Engine (HTTP {answer.status_code} for its discovery document): "
            "check QUAKESLIDE_EARTHENGINE__URL"
        )


def _initialise_ee(config: SessionConfig, credentials: Any) -> None:
    try:
        with _bounded_sockets(config):
            ee.Reset()
            ee.Initialize(credentials, url=config.url, project=config.project)
    except (ee.EEException, google.auth.exceptions.GoogleAuthError, OSError) as error:
        raise SessionError(
            f"Earth Engine at {config.url} refuses project {config.project!r}: {error}; is the project registered "
            f"for Earth Engine, and may you use it? If not logged in: {_LOGIN_HINT}"
        ) from error


@contextmanager
def _bounded_sockets(config: SessionConfig) -> Iterator[None]:
    """Deadlines for the sockets of `ee.Initialize`, which has none.

    For a stand-in its request to a public catalogue is left out too: that only serves warnings about public assets.
    """
    timeout, fetch = socket.getdefaulttimeout(), deprecation._FetchDataCatalogStac
    socket.setdefaulttimeout(min(60.0, config.timeout_s))
    if is_loopback(config.url):
        deprecation._FetchDataCatalogStac = dict
    try:
        yield
    finally:
        socket.setdefaulttimeout(timeout)
        deprecation._FetchDataCatalogStac = fetch
