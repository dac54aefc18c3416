"""The one door to Earth Engine: deadlines, repetitions and what each failure means, under one gate a process.

Expressions are built with the `ee` client; everything that travels goes through `Session`, which keeps the HTTP
status that the client drops. `open_session` is for the process that builds expressions, `connect` for workers.
"""

from __future__ import annotations

import datetime as dt
import json as jsonlib
import logging
import os
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import ee
import google.auth.exceptions

from gee.allocator import keep_memory
from gee.credentials import LOGIN_HINT, Tokens, find_credentials, is_loopback
from gee.errors import BusyError, PermanentError, QuotaError, SessionError, TransientError
from gee.initialise import initialise_ee, probe
from gee.limiter import FixedShare, Gate, Share
from gee.retry import classify, pause_s, retry_after_s
from gee.transport import Answer, BrokenError, OversizeError, Transport

__all__ = ["MAX_ANSWER_BYTES", "Session", "SessionConfig", "connect", "is_loopback", "open_session"]

MAX_ANSWER_BYTES = 96 * 2**20
"""Refuse to hold a longer answer: pixels are at most 48 MiB, a listing of 5,000 scenes well under this."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SessionConfig:
    """What a session is made from: small, without secrets, picklable. This is what travels to workers."""

    url: str
    """Endpoint. A loopback address means a stand-in without credentials."""
    project: str
    """Google Cloud project that pays."""
    timeout_s: float = 300.0
    """Deadline of one request from its first byte to the last of the answer, in seconds."""
    max_attempts: int = 6
    """Attempts at a request that fails in a way that may pass. Being refused for load is no attempt."""
    max_concurrent: int = 40
    """Requests in flight that the project may have (the service's default)."""
    first_pause_s: float = 1.0
    """Wait after the first failed attempt, in seconds; doubled after each further one."""
    max_per_s: float = 100.0
    """Requests a second that the project may send (the service's default)."""
    patience_s: float = 900.0
    """How long a request goes on asking while it is refused for load, in seconds."""
    quota_uri: str = ""
    """Folder or bucket address at which all processes of the project share its quota; empty: this process is alone."""
    storage_endpoint: str = ""
    """Stand-in of Cloud Storage that serves `quota_uri`; empty for the real one."""
    workload_tag: str = ""
    """Label under which Earth Engine accounts for what is computed: 1 to 63 of a-z, 0-9, - and _."""


class Session:
    """A connection to Earth Engine under one project. Safe to use from many threads at once."""

    def __init__(self, config: SessionConfig, credentials: Any) -> None:
        """Use `connect` or `open_session`, which find the credentials."""
        keep_memory()
        self.config = config
        self.gate = Gate(_share(config), config.first_pause_s)
        self._rng = random.Random()  # noqa: S311 - jitter, not a secret
        self._tokens = Tokens(credentials)
        self._transport = Transport(config.url, config.max_concurrent)
        self._headers = {"content-type": "application/json", "user-agent": "quakeslide"}
        if not is_loopback(config.url):
            self._headers["x-goog-user-project"] = config.project
        self._restricted = False
        self._process = os.getpid()
        self._closed = False

    @property
    def project_path(self) -> str:
        """Where the project's methods hang: `/v1/projects/PROJECT`."""
        return f"/v1/projects/{self.config.project}"

    @property
    def usable(self) -> bool:
        """Whether it is open and of this process: a forked one must not share connections with its parent."""
        return not self._closed and self._process == os.getpid()

    def compute(self, value: Any) -> Any:
        """The value of an `ee` object, as `getInfo` would give it."""
        body = {"expression": ee.serializer.encode(value, for_cloud_api=True)} | self.tagged
        return self.call("POST", f"{self.project_path}/value:compute", body)["result"]

    @property
    def tagged(self) -> dict[str, str]:
        """What goes into the body of a request that computes, so that its cost can be told from that of others."""
        return {"workloadTag": self.config.workload_tag} if self.config.workload_tag else {}

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
        self,
        method: str,
        path: str,
        json: Any = None,
        *,
        min_bytes: int = 0,
        max_bytes: int = MAX_ANSWER_BYTES,
        on_profile: Callable[[str], None] | None = None,
    ) -> bytes:
        """The body of the answer to `json`, or to bytes that are JSON already; waits and asks again while a failure may pass.

        A body shorter than `min_bytes` was cut on the way, which may pass; one longer than `max_bytes` is refused.
        With `on_profile` the computation is profiled and the id of its profile handed over.
        Raises `TransientError` when the attempts or the patience are used up, `RequestTooLargeError`, `QuotaError` and
        `PermanentError` at once, each with the HTTP status and Earth Engine's own words.
        """
        body = json if json is None or isinstance(json, bytes) else jsonlib.dumps(json, separators=(",", ":")).encode()
        extra = {} if on_profile is None else {_PROFILING: "1"}
        failures = 0
        with self.gate.request() as request:
            while True:
                try:
                    with self.gate.place(request):
                        answer = self._ask(method, path, body, extra, min_bytes, max_bytes)
                except TransientError as error:
                    if isinstance(error, BusyError):
                        wait_s = error.asked_s + self.gate.pause_s(request)
                        lasted_s = time.monotonic() + wait_s - request.arrived_s
                        given_up = lasted_s > self.config.patience_s
                    else:
                        failures += 1
                        wait_s = pause_s(failures - 1, self.config.first_pause_s, error.asked_s, self._rng)
                        given_up = failures >= self.config.max_attempts
                    if given_up:
                        raise self._given_up(method, path, failures + request.refusals, error) from error.__cause__
                    time.sleep(wait_s)
                else:
                    break
        if on_profile is not None and (profile := answer.headers.get(_PROFILE)):
            on_profile(profile)
        return answer.body

    def _ask(
        self, method: str, path: str, body: bytes | None, extra: dict[str, str], min_bytes: int, max_bytes: int
    ) -> Answer:
        """One attempt; every failure as the error that it means."""
        try:
            answer = self._authorised(method, path, body, self._headers | extra, max_bytes)
        except BrokenError as error:
            raise TransientError(str(error)) from error.__cause__
        except OversizeError as error:
            raise PermanentError(f"the answer of {path} is {error}") from None
        except google.auth.exceptions.GoogleAuthError as error:
            raise SessionError(f"the credentials for {self.config.url} were refused: {error}; {LOGIN_HINT}") from error
        self._look_at_quota(answer)
        if not 200 <= answer.status < 300:
            raise self._failure(answer)
        if len(answer.body) < min_bytes:
            raise TransientError(f"a body of {len(answer.body)} bytes instead of at least {min_bytes}")
        return answer

    def _authorised(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str], max_bytes: int
    ) -> Answer:
        timeout_s = self.config.timeout_s
        end = time.monotonic() + timeout_s
        token = self._tokens.headers()
        answer = self._transport.send(
            method, path, body, headers | token, timeout_s=max(0.001, end - time.monotonic()), max_bytes=max_bytes
        )
        if answer.status != 401 or not token:
            return answer
        renewed = self._tokens.headers(refused=token)
        left_s = max(0.001, end - time.monotonic())
        return self._transport.send(method, path, body, headers | renewed, timeout_s=left_s, max_bytes=max_bytes)

    def _failure(self, answer: Answer) -> Exception:
        message = error_message(answer.body) or "no message"
        text = f"HTTP {answer.status}: {message}"
        kind = classify(answer.status, message)
        if answer.status == 401:
            return SessionError(f"{self.config.url} refused the credentials ({text}): {LOGIN_HINT}")
        if kind is QuotaError:
            text += f"; the compute time of project {self.config.project} is used up: wait until its quota is renewed, "
            text += "raise it in the Google Cloud console, or use another project"
        failure = kind(text)
        failure.status = answer.status
        if isinstance(failure, TransientError):
            failure.asked_s = retry_after_s(answer.headers.get("retry-after"), dt.datetime.now(dt.UTC))
        return failure

    def _given_up(self, method: str, path: str, times: int, error: TransientError) -> TransientError:
        failure = type(error)(f"{method} {self.config.url}{path} failed {times} times, the last time with {error}")
        failure.status, failure.asked_s = error.status, error.asked_s
        return failure

    def _look_at_quota(self, answer: Answer) -> None:
        if "parallelism_restricted=true" in answer.headers.get(_QUOTA_STATUS, "") and not self._restricted:
            self._restricted = True
            _log.warning(
                "project %s has used up its non-commercial compute quota: Earth Engine computes with restricted "
                "parallelism until it is renewed, see https://developers.google.com/earth-engine/guides/noncommercial_tiers",
                self.config.project,
            )

    def close(self) -> None:
        """Close the connections and give the share of the quota back."""
        if not self._closed:
            self._closed = True
            self._transport.close()
            self.gate.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, tuple[SessionConfig]]:
        return connect, (self.config,)  # connections and tokens stay here; the other side makes its own


def open_session(config: SessionConfig | str, project: str = "", **changes: Any) -> Session:
    """Check that Earth Engine answers for the project, make `ee` ready to build expressions, and return a session.

    Takes a config, or an address, a project and further fields of `SessionConfig`.
    Raises `SessionError` naming the address and what to do.
    """
    if isinstance(config, str):
        config = SessionConfig(config.rstrip("/"), project, **changes)
    if not config.project:
        raise SessionError(
            "no Earth Engine project is set: set QUAKESLIDE_EARTHENGINE__PROJECT to a Google Cloud project"
        )
    probe(config.url, config.timeout_s)
    credentials = find_credentials(config.url)
    initialise_ee(config.url, config.project, config.timeout_s, credentials)
    session = Session(config, credentials)
    with _sessions_lock:  # worker threads of this process use it too, and with it one gate
        _sessions[config] = session
    return session


_sessions: dict[SessionConfig, Session] = {}
_sessions_lock = threading.Lock()


def connect(config: SessionConfig) -> Session:
    """The session of this process for `config`, made at the first call. Asks nothing and does not need `ee`.

    Threads of a worker share it, and with it the gate.
    Raises `SessionError` when there are no credentials.
    """
    with _sessions_lock:
        session = _sessions.get(config)
        if session is None or not session.usable:
            session = _sessions[config] = Session(config, find_credentials(config.url))
        return session


def _forget_sessions() -> None:
    global _sessions_lock  # noqa: PLW0603 - a forked process may have copied it locked
    _sessions_lock = threading.Lock()


os.register_at_fork(after_in_child=_forget_sessions)


def error_message(body: bytes) -> str:
    """Earth Engine's words in an error body `{"error": {code, message, status}}`; the start of the body otherwise."""
    try:
        return str(jsonlib.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return body[:200].decode("utf-8", "replace").strip()


_PROFILING = "x-earth-engine-computation-profiling"
_PROFILE = "x-earth-engine-computation-profile"
_QUOTA_STATUS = "x-earth-engine-quota-status"


def _share(config: SessionConfig) -> Share:
    if config.max_attempts < 1:
        raise SessionError(f"max_attempts is {config.max_attempts}: allow at least 1")
    if not config.quota_uri:
        return FixedShare(config.max_concurrent, config.max_per_s)
    from gee.quota import open_share

    return open_share(
        config.quota_uri, config.project, concurrent=config.max_concurrent, per_s=config.max_per_s,
        endpoint=config.storage_endpoint,
    )  # fmt: skip
