"""Bytes over HTTP: kept-alive connections, a deadline for the whole of a request, caps on what is held. No retries.

urllib3 in the caller's thread, because of what was measured it was the fastest: it reads a body straight into one buffer
with the GIL released, about as fast as a raw socket, where aiohttp reached half of that and httpx a third. Bodies are
asked for as they are: gzip halves real reflectance, but a core inflates less of it than a line in the cloud brings.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import certifi
import urllib3
from urllib3.util import make_headers, parse_url

from gee.credentials import is_loopback
from gee.errors import SessionError

CONNECT_TIMEOUT_S = 10.0
"""A host that does not accept a connection in this time is not there."""
MAX_ERROR_BYTES = 2**20
"""Of the body of an error no more is read: only its words are wanted."""


@dataclass(frozen=True)
class Answer:
    """What came back, whatever its status."""

    status: int
    """HTTP status."""
    headers: Mapping[str, str]
    """Case does not matter in the names."""
    body: bytes
    """Decoded; of an error at most `MAX_ERROR_BYTES`."""


class BrokenError(Exception):
    """No whole answer came: no connection, a reset, a body cut short, the deadline. Says which."""


class OversizeError(Exception):
    """The body is longer than was allowed; nothing of it was kept."""


class Transport:
    """Connections to one endpoint. Safe to use from many threads; each has a connection for the time of its request."""

    def __init__(self, url: str, connections: int) -> None:
        """So many idle connections are kept. Raises `SessionError` for an address that is none."""
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise SessionError(
                f"{url!r} is no address: set QUAKESLIDE_EARTHENGINE__URL to one that starts with https://"
            )
        self.url = url
        self._pool = _pool(url, connections)

    def send(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
        *,
        timeout_s: float,
        max_bytes: int,
    ) -> Answer:
        """One request and its answer, with `timeout_s` for all of it: connecting, waiting and the last byte.

        Raises `BrokenError` when no whole answer came in time, `OversizeError` when it has more than `max_bytes`.
        """
        end = time.monotonic() + timeout_s
        try:
            response = self._pool.urlopen(
                method,
                self.url + path,
                body=body,
                headers=dict(headers),
                timeout=urllib3.Timeout(connect=min(CONNECT_TIMEOUT_S, timeout_s), total=timeout_s),
                retries=False,
                redirect=False,
                preload_content=False,
            )
            with _given_back(response), _DEADLINES.cut(response, end) as cut:
                content = _read(response, max_bytes)
            if not cut.fired:  # a body without a length ends at the cut as if it were whole
                return Answer(response.status, response.headers, content)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            if time.monotonic() < end:
                raise BrokenError(f"a broken connection ({type(error).__name__}: {error})") from error
        raise BrokenError(f"no whole answer within {timeout_s:g} s")

    def close(self) -> None:
        """Close the idle connections; those in use close when their request ends."""
        self._pool.clear()


def _pool(url: str, connections: int) -> urllib3.PoolManager:
    """Connections as the environment wants them: its proxy, except to this machine, and its certificates."""
    parts = urlsplit(url)
    certificates = os.environ.get("SSL_CERT_FILE") or certifi.where()
    proxies = {} if is_loopback(url) or proxy_bypass(parts.hostname or "") else getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy:
        return urllib3.PoolManager(maxsize=connections, ca_certs=certificates)
    user = parse_url(proxy).auth
    return urllib3.ProxyManager(
        proxy,
        maxsize=connections,
        ca_certs=certificates,
        proxy_headers=make_headers(proxy_basic_auth=user) if user else None,
    )


def _read(response: urllib3.BaseHTTPResponse, max_bytes: int) -> bytes:
    if response.status >= 300:
        return response.read(MAX_ERROR_BYTES, decode_content=True)
    length = response.headers.get("content-length", "")
    declared = int(length) if length.isdecimal() else None
    if declared is not None and declared <= max_bytes and "content-encoding" not in response.headers:
        return response.read()  # into one buffer of the right size
    content = b"" if declared is not None and declared > max_bytes else response.read(max_bytes + 1)
    if len(content) > max_bytes or (declared or 0) > max_bytes:
        raise OversizeError(f"longer than the {max_bytes} bytes expected")
    return content


@contextmanager
def _given_back(response: urllib3.BaseHTTPResponse) -> Iterator[None]:
    """Keep the connection when the body was read to its end, close it otherwise."""
    try:
        yield
    finally:
        response.close()
        response.release_conn()


class _Cut:
    """An answer that must not take longer than until `at` (monotonic seconds)."""

    def __init__(self, response: urllib3.BaseHTTPResponse, at: float) -> None:
        self.response, self.at, self.fired = response, at, False

    def fire(self) -> None:
        self.fired = True
        with suppress(ValueError, RuntimeError, OSError):  # it has just ended by itself
            self.response.shutdown()


class _Deadlines:
    """One thread that ends answers whose time is up.

    The timeout of a socket is one of each read: an answer that trickles never meets it.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start anew: in a forked process the thread is gone, and the lock may be held by nobody."""
        self._changed = threading.Condition()
        self._cuts: set[_Cut] = set()
        self._wakes = float("inf")
        self._thread: threading.Thread | None = None

    @contextmanager
    def cut(self, response: urllib3.BaseHTTPResponse, at: float) -> Iterator[_Cut]:
        """End the answer at a time, unless the block has ended before."""
        cut = _Cut(response, at)
        with self._changed:
            self._cuts.add(cut)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="gee-deadlines", daemon=True)
                self._thread.start()
            elif at < self._wakes:
                self._changed.notify()
        try:
            yield cut
        finally:
            with self._changed:
                self._cuts.discard(cut)

    def _run(self) -> None:
        while True:
            with self._changed:
                now = time.monotonic()
                due = [cut for cut in self._cuts if cut.at <= now]
                self._cuts.difference_update(due)
                if not due:
                    self._wakes = min((cut.at for cut in self._cuts), default=float("inf"))
                    self._changed.wait(self._wakes - now if self._cuts else None)
            for cut in due:
                cut.fire()


_DEADLINES = _Deadlines()
os.register_at_fork(after_in_child=_DEADLINES.forget)
