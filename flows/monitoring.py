"""The state of the whole for machines: /metrics for Prometheus, /health for whoever restarts things, /live for the page itself.

Everything is read from the bucket, so that the page tells the same wherever it runs, and keeps nothing itself. It shows
no secrets, but listens on loopback unless `metrics.host` says otherwise, as it says what is being worked on.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from threading import Lock

import uvicorn
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from flows.campaign import store as campaigns
from flows.campaign.model import Campaign, Cost, State
from flows.errors import FlowError
from flows.logs import configure
from flows.settings import Settings, load_settings
from flows.storage import Store
from flows.tallies import CLASSES, Tally, read_tally
from flows.watching.cursor import read_cursor
from gee.errors import StorageError
from gee.ledger import Ledger
from gee.quota import Book

FRESH_S = 10.0
"""What was read is shown again for so long, in seconds: several scrapers ask the bucket once."""

SILENT = dt.timedelta(minutes=10)
"""A watch that has worked nothing off for longer is not well."""

OVERDUE = dt.timedelta(hours=3)
"""A campaign that has been due for longer, with nobody at work on it, is not well."""


@dataclass(frozen=True)
class Picture:
    """What is known at one moment."""

    at: dt.datetime
    """When."""
    campaigns: tuple[Campaign, ...] = ()
    """Every campaign."""
    polled: dt.datetime | None = None
    """When the watch last worked the feed off; None for never."""
    pending: int = 0
    """Events whose record could not be read yet."""
    ledger: Ledger = field(default_factory=Ledger)
    """Who holds how much of Earth Engine's quota."""
    tally: Tally = field(default_factory=Tally)
    """What was asked and mapped so far."""
    trouble: str = ""
    """Why the bucket could not be read; empty when it could."""

    @property
    def due(self) -> list[Campaign]:
        """Open campaigns whose time has come and that nobody works on."""
        return [one for one in self.campaigns if one.open and one.look_after <= self.at and not self.held(one)]

    def held(self, campaign: Campaign) -> bool:
        """Whether a step works on it."""
        return campaign.lease is not None and campaign.lease.until > self.at


def take(settings: Settings, now: dt.datetime) -> Picture:
    """Read the bucket; a bucket that does not answer gives a picture that says so."""
    try:
        with Store(f"gs://{settings.storage.bucket}", settings.storage.endpoint, retry_s=5.0) as store:
            cursor = read_cursor(store)[0]
            return Picture(
                now, tuple(campaigns.all_campaigns(store)), cursor.polled, len(cursor.pending), _ledger(settings, now),
                read_tally(store),
            )  # fmt: skip
    except FlowError as error:
        return Picture(now, trouble=str(error))


def _ledger(settings: Settings, now: dt.datetime) -> Ledger:
    """The leases that hold; none when the ledger cannot be read, which hinders nobody."""
    try:
        where = f"gs://{settings.storage.bucket}/quota/{settings.earthengine.project}"
        present = Book(where, settings.storage.endpoint).newest()
    except StorageError:
        return Ledger()
    return Ledger(present.number, leases=tuple(one for one in present.leases if one.expires > now.timestamp()))


def troubles(picture: Picture) -> list[str]:
    """What is not well, for people; empty when all is. Pure."""
    if picture.trouble:
        return [picture.trouble]
    found = []
    if picture.polled is None:
        found.append("the feed has never been worked off")
    elif picture.at - picture.polled > SILENT:
        found.append(f"the feed was last worked off at {picture.polled:%Y-%m-%d %H:%M} UTC")
    for campaign in picture.due:
        waits = picture.at - campaign.look_after
        if waits > OVERDUE:
            found.append(f"campaign {campaign.id} has been due for {waits.total_seconds() / 3600:.1f} h")
    return found


def metrics(picture: Picture, settings: Settings) -> Iterator[Metric]:
    """The picture as Prometheus takes it. Pure."""
    yield _gauge("up", "1 when the bucket could be read", 0 if picture.trouble else 1)
    if picture.trouble:
        return
    yield from _campaign_metrics(picture)
    yield _gauge("watch_pending_events", "Events whose record could not be read yet", picture.pending)
    if picture.polled is not None:
        yield _gauge("watch_age_seconds", "Since the feed was last worked off", _since(picture, picture.polled))
    yield from _earth_engine_metrics(picture, settings)


def _campaign_metrics(picture: Picture) -> Iterator[Metric]:
    states = GaugeMetricFamily("quakeslide_campaigns", "Campaigns by state", labels=["state"])
    for state in State:
        states.add_metric([state.value], sum(one.state is state for one in picture.campaigns))
    yield states
    due = picture.due
    yield _gauge("campaigns_due", "Campaigns that wait for a step", len(due))
    yield _gauge("campaigns_held", "Campaigns that a step works on", sum(map(picture.held, picture.campaigns)))
    waits = [_since(picture, one.look_after) for one in due]
    yield _gauge("campaigns_oldest_due_seconds", "How long the oldest of these has waited", max(waits, default=0.0))
    age = GaugeMetricFamily(
        "quakeslide_newest_version_age_seconds", "Since an open campaign's newest version", labels=["campaign"]
    )
    count = GaugeMetricFamily("quakeslide_versions", "Versions of an open campaign", labels=["campaign"])
    failures = GaugeMetricFamily(
        "quakeslide_campaign_failures", "Steps of an open campaign that failed in a row", labels=["campaign"]
    )
    for one in picture.campaigns:
        if one.open:
            count.add_metric([one.id], len(one.versions))
            failures.add_metric([one.id], one.failures)
            if one.versions:
                age.add_metric([one.id], _since(picture, one.versions[-1].published))
    yield from (age, count, failures)
    yield _counter("versions_published", "Versions", sum(len(one.versions) for one in picture.campaigns))


def _earth_engine_metrics(picture: Picture, settings: Settings) -> Iterator[Metric]:
    tally, leases = picture.tally, picture.ledger.leases
    slots = GaugeMetricFamily("quakeslide_quota_slots", "Concurrent requests to Earth Engine", labels=["what"])
    slots.add_metric(["allowed"], settings.earthengine.max_concurrent_requests)
    slots.add_metric(["granted"], sum(lease.granted for lease in leases))
    slots.add_metric(["wanted"], sum(lease.wanted for lease in leases))
    yield slots
    yield _gauge("quota_holders", "Processes that hold a part of the quota", len(leases))
    requests = CounterMetricFamily("quakeslide_requests", "Requests for pixels by how they ended", labels=["class"])
    for name in CLASSES:
        requests.add_metric([name], getattr(tally, name))
    yield requests
    yield _counter("requests_waited_seconds", "Seconds that requests waited for their place", tally.waited_s)
    yield _counter("pulled_pixels", "Pixels pulled into cubes", tally.pulled_px)
    yield _counter("pull_seconds", "Seconds of pulling, over all runs", tally.pull_s)
    yield _counter("mapped_pixels", "Pixels mapped by a network", tally.mapped_px)
    yield _counter("map_seconds", "Seconds of mapping, over all runs", tally.map_s)
    used = CounterMetricFamily("quakeslide_used", "What all campaigns have used, by estimate", labels=["what"])
    for name in Cost.model_fields:
        used.add_metric([name], sum(getattr(one.used, name) for one in picture.campaigns))
    yield used


def _since(picture: Picture, moment: dt.datetime) -> float:
    return max(0.0, (picture.at - moment).total_seconds())


def _gauge(name: str, what: str, value: float) -> Metric:
    return GaugeMetricFamily(f"quakeslide_{name}", what, value=value)


def _counter(name: str, what: str, value: float) -> Metric:
    return CounterMetricFamily(f"quakeslide_{name}", what, value=value)


class Camera(Collector):
    """Takes pictures, at most one in `FRESH_S` seconds; for several threads."""

    def __init__(self, settings: Settings, look: Callable[[Settings, dt.datetime], Picture] = take) -> None:
        self._settings, self._look, self._lock = settings, look, Lock()
        self._taken, self._last = -FRESH_S, Picture(dt.datetime.now(dt.UTC))

    def picture(self) -> Picture:
        """The last picture, or a new one when it is too old."""
        with self._lock:
            if time.monotonic() - self._taken >= FRESH_S:
                self._last = self._look(self._settings, dt.datetime.now(dt.UTC))
                self._taken = time.monotonic()
            return self._last

    def collect(self) -> Iterable[Metric]:
        """For a registry of Prometheus."""
        return metrics(self.picture(), self._settings)


def create_app(settings: Settings, camera: Camera | None = None) -> Starlette:
    """The page as an ASGI application."""
    camera = camera or Camera(settings)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(camera)

    def show_metrics(_request: Request) -> Response:
        return Response(generate_latest(registry), media_type="text/plain; version=0.0.4; charset=utf-8")

    def show_health(_request: Request) -> Response:
        found = troubles(camera.picture())
        return JSONResponse({"well": not found, "troubles": found}, status_code=503 if found else 200)

    def show_life(_request: Request) -> Response:
        return PlainTextResponse("alive\n")

    routes = [Route("/metrics", show_metrics), Route("/health", show_health), Route("/live", show_life)]
    return Starlette(routes=routes)


def serve(settings: Settings) -> None:
    """Serve the page until Ctrl-C or SIGTERM."""
    configure(settings.log)
    uvicorn.run(
        create_app(settings), host=settings.metrics.host, port=settings.metrics.port, log_config=None, access_log=False
    )


if __name__ == "__main__":
    serve(load_settings())
