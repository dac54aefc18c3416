"""Whether the services that a run needs answer at all, asked before anything is begun; each is named when it does not."""

from __future__ import annotations

import os

import httpx

from flows.errors import ServiceError
from flows.settings import Settings
from flows.storage import Store
from flows.usgs import UsgsClient
from gee.session import is_loopback, open_session

RETRY_S = 5.0
"""How long a bucket that does not answer is tried: long enough for a hiccup, short enough for a user who waits."""
PREFECT_TIMEOUT_S = 5.0


def require_services(settings: Settings, *, usgs: bool) -> None:
    """Raise `ServiceError` or `GeeError` naming the first service that cannot be used; the USGS only when needed."""
    check_earth_engine(settings)
    check_bucket(settings)
    if usgs:
        check_usgs(settings)
    if url := os.environ.get("PREFECT_API_URL", ""):
        check_prefect(url)


def check_earth_engine(settings: Settings) -> str:
    """What answers at the Earth Engine address; raises `SessionError`."""
    earthengine = settings.earthengine
    with open_session(earthengine.url, earthengine.project, timeout_s=earthengine.request_timeout_s):
        kind = "stand-in" if is_loopback(earthengine.url) else "real"
        return f"{earthengine.url} answers for project {earthengine.project} ({kind})"


def check_bucket(settings: Settings) -> str:
    """That the bucket is there and may be listed; raises `ServiceError`."""
    name = f"gs://{settings.storage.bucket}"
    with Store(name, settings.storage.endpoint, retry_s=RETRY_S) as store:
        store.check()
    return f"{name} is there"


def check_usgs(settings: Settings) -> str:
    """That the USGS feed can be read; raises `ServiceError`."""
    with UsgsClient(settings.usgs.url, settings.usgs.timeout_s) as client:
        return f"{settings.usgs.url} lists {len(client.feed('4.5_day'))} events of the last day"


def check_prefect(url: str) -> str:
    """That a Prefect API is well; raises `ServiceError`."""
    try:
        answer = httpx.get(f"{url.rstrip('/')}/health", timeout=PREFECT_TIMEOUT_S, trust_env=not is_loopback(url))
        answer.raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ServiceError(
            f"the Prefect server at {url} does not answer ({error}): start it, or unset PREFECT_API_URL"
        ) from error
    return f"{url} is well"
