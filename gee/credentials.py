"""Who is let in: google.auth's credentials, renewed before they run out and once more when the service refuses them."""

from __future__ import annotations

import ipaddress
import threading
from typing import Any
from urllib.parse import urlsplit

import ee
import google.auth.exceptions
import google.auth.transport.requests
from google.auth.credentials import AnonymousCredentials

from gee.errors import SessionError

LOGIN_HINT = (
    "run `earthengine authenticate` (or ee.Authenticate() in a notebook), "
    "or set GOOGLE_APPLICATION_CREDENTIALS to the key file of a service account"
)


def is_loopback(url: str) -> bool:
    """Whether an address is this machine itself."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # another name
        return False


def find_credentials(url: str) -> Any:
    """The credentials for an endpoint: anonymous for a stand-in, else Google's default ones, else those of `ee`.

    Raises `SessionError` that says how to get some.
    """
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
        raise SessionError(f"no credentials for {url}: {LOGIN_HINT}") from None


class Tokens:
    """The headers that let a request in. Safe to use from many threads: they share one renewal."""

    def __init__(self, credentials: Any) -> None:
        """`credentials` are google.auth's."""
        self._credentials = credentials
        self._anonymous = isinstance(credentials, AnonymousCredentials)
        self._lock = threading.Lock()

    def headers(self, refused: dict[str, str] | None = None) -> dict[str, str]:
        """Headers with a token that is valid by the clock and is not the one in the headers that were `refused`.

        Raises google.auth's errors when the token cannot be renewed.
        """
        if self._anonymous:
            return {}
        with self._lock:
            if not self._credentials.valid or (refused is not None and refused == self._applied()):
                self._credentials.refresh(google.auth.transport.requests.Request())
            return self._applied()

    def _applied(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        self._credentials.apply(headers)
        return headers
