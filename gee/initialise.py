"""Makes the `ee` module of a process ready for an endpoint and a project, with deadlines that it does not have itself."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ee
import google.auth.exceptions
from ee import deprecation

from gee.credentials import LOGIN_HINT, is_loopback
from gee.errors import SessionError
from gee.transport import BrokenError, OversizeError, Transport

MAX_DISCOVERY_BYTES = 16 * 2**20
"""The document that describes the service is about 1 MB."""


def probe(url: str, timeout_s: float) -> None:
    """Ask whether Earth Engine is there, with a deadline: its own client waits for ever for a host that does not answer.

    Raises `SessionError` that says what is there instead.
    """
    transport = Transport(url, 1)
    try:
        answer = transport.send(
            "GET", "/$discovery/rest?version=v1", None, {},
            timeout_s=min(30.0, timeout_s), max_bytes=MAX_DISCOVERY_BYTES,
        )  # fmt: skip
    except (BrokenError, OversizeError) as error:
        hint = "is the local stand-in running (`quakeslide local up`)?" if is_loopback(url) else "check the network"
        raise SessionError(f"Earth Engine at {url!r} cannot be reached ({error}): {hint}") from error
    finally:
        transport.close()
    if answer.status != 200 or b'"resources"' not in answer.body:
        raise SessionError(
            f"{url} answers, but not as Earth Engine (HTTP {answer.status} for its discovery document): "
            "check QUAKESLIDE_EARTHENGINE__URL"
        )


def initialise_ee(url: str, project: str, timeout_s: float, credentials: Any) -> None:
    """Make the `ee` module of this process ready to build expressions; raises `SessionError` when it is not let in."""
    try:
        with _bounded_sockets(url, timeout_s):
            ee.Reset()
            ee.Initialize(credentials, url=url, project=project)
    except (ee.EEException, google.auth.exceptions.GoogleAuthError, OSError) as error:
        raise SessionError(
            f"Earth Engine at {url} refuses project {project!r}: {error}; is the project registered "
            f"for Earth Engine, and may you use it? If not logged in: {LOGIN_HINT}"
        ) from error


@contextmanager
def _bounded_sockets(url: str, timeout_s: float) -> Iterator[None]:
    """Deadlines for the sockets of `ee.Initialize`, which has none.

    For a stand-in its request to a public catalogue is left out too: that only serves warnings about public assets.
    """
    timeout, fetch = socket.getdefaulttimeout(), deprecation._FetchDataCatalogStac
    socket.setdefaulttimeout(min(60.0, timeout_s))
    if is_loopback(url):
        deprecation._FetchDataCatalogStac = dict
    try:
        yield
    finally:
        socket.setdefaulttimeout(timeout)
        deprecation._FetchDataCatalogStac = fetch
