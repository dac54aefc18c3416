"""A USGS stand-in, a bucket and a watch over them, each over a real socket."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fakes.servers import HTTP, serve
from flows.campaign import store as campaigns
from flows.campaign.model import Campaign
from flows.settings import Settings
from flows.storage import Store
from flows.usgs import UsgsClient
from flows.watching.poll import Report, work_off
from infra.local.storage import create_app as bucket_app
from infra.local.usgs import create_app as usgs_app
from infra.local.usgs.storyline import Beat, Player


@dataclass
class Watched:
    """What a test needs to let time pass and look."""

    url: str
    usgs: UsgsClient
    store: Store
    settings: Settings
    endpoint: str
    players: list[Player] = field(default_factory=list)

    def play(self, beats: Iterable[Beat]) -> Player:
        self.players.append(Player(self.url, beats))
        return self.players[-1]

    def at(self, now: dt.datetime) -> None:
        HTTP.post(f"{self.url}/_standin/clock", json={"now": now.isoformat()}).raise_for_status()

    def look(self, now: dt.datetime) -> Report:
        return work_off(self.usgs, self.store, self.settings, now)

    def fault(self, **fault: object) -> None:
        HTTP.post(f"{self.url}/_standin/faults", json=fault).raise_for_status()

    def calm(self) -> None:
        HTTP.delete(f"{self.url}/_standin/faults").raise_for_status()

    def asked(self, path: str = "/") -> list[str]:
        """Path and query of the requests to the real service's addresses so far."""
        log = HTTP.get(f"{self.url}/_standin/log").json()["requests"]
        return [
            f"{one['path']}?{one['query']}" for one in log if path in one["path"] and "/_standin/" not in one["path"]
        ]

    def forget(self) -> None:
        HTTP.delete(f"{self.url}/_standin/log").raise_for_status()

    @property
    def campaigns(self) -> dict[str, Campaign]:
        return {one.id: one for one in campaigns.all_campaigns(self.store)}


@contextmanager
def watched(folder: Path, *folders: Path, settings: Settings | None = None) -> Iterator[Watched]:
    with (
        serve(usgs_app(folders, folder / "usgs-state")) as url,
        serve(bucket_app(folder / "bucket")) as endpoint,
        UsgsClient(url, timeout_s=5.0, max_attempts=2, backoff_s=0.001) as usgs,
        Store("gs://bucket", endpoint, retry_s=1.0) as store,
    ):
        store.ensure_bucket()
        world = Watched(url, usgs, store, settings or Settings(), endpoint)
        yield world
        for player in world.players:
            player.close()
