"""Attempts at runs whose results go to Earth Engine: what `flows.map_event` does after the products are made."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import geopandas

from fakes.assets import BUCKET, AssetWorld, asset_world
from fakes.plans import map_plan
from fakes.products import FOOTPRINT, facts, landslide, polygons, write_products
from flows.asset_names import asset_containers
from flows.facts import ReportFacts
from flows.layout import EventLayout, asset_label
from flows.planning import MapPlan
from flows.publish import Publication, UploadedRun, make_visible, upload_products
from flows.settings import EarthEngineSettings, Settings, StorageSettings
from flows.storage import Store
from flows.tidy import tidy
from flows.writeback import stamp_version, write_back
from gee.assets import AssetRecord, list_assets


@dataclass
class Desk:
    """An event of its own on both stand-ins."""

    world: AssetWorld
    store: Store
    settings: Settings
    event: EventLayout
    folder: Path

    def attempt(self, number: int = 1, note: str = "", count: int = 3) -> Attempt:
        """An attempt at run `number`; `note` makes its bytes differ, `count` is how many landslides it found."""
        folder = write_products(self.folder / f"{number}{note}", note=note)
        inventory: geopandas.GeoDataFrame = polygons(max(count, 1)).iloc[:count]
        inventory.to_parquet(folder / "landslides.parquet")
        run = self.event.run(f"{number:016x}")
        told = facts([landslide(3600.0, n) for n in range(count)], run_key=run.run_key)
        told = replace(
            told,
            event=replace(told.event, id=self.event.event_id),
            earth_engine_assets=asset_containers(self.event.event_id, self.settings),
        )
        uploaded = upload_products(self.store, run, folder, told, FOOTPRINT)
        return Attempt(self, replace(map_plan(id=self.event.event_id), run=run), folder, told, uploaded)

    def assets(self) -> dict[str, tuple[AssetRecord, ...]]:
        """Everything that lies in the event's collections and its folder of tables."""
        containers = asset_containers(self.event.event_id, self.settings)
        return {name: list_assets(self.world.session, container) for name, container in containers.items()}

    def labels(self) -> dict[str, list[str]]:
        """Last parts of the names of all assets of the event."""
        return {name: [asset.label for asset in found] for name, found in self.assets().items()}

    def each(self, *labels: str) -> dict[str, list[str]]:
        """What `labels` is when every collection, and the folder of tables, holds these."""
        return {kind: list(labels) for kind in asset_containers(self.event.event_id, self.settings)}

    def tidy(self, hours: float = 0.0, lost: frozenset[str] = frozenset()) -> tuple[str, ...]:
        """Tidy up as if so many hours had passed."""
        now = dt.datetime.now(dt.UTC) + dt.timedelta(hours=hours)
        return tidy(self.world.session, self.store, self.event, self.settings, now, lost)


@dataclass
class Attempt:
    """One attempt at one run."""

    desk: Desk
    plan: MapPlan
    folder: Path
    facts: ReportFacts
    uploaded: UploadedRun

    @property
    def label(self) -> str:
        """Last part of the names of its assets."""
        return asset_label(self.plan.run.run_key, self.uploaded.layout.digest)

    def write(self) -> Mapping[str, str]:
        """Write its assets."""
        desk = self.desk
        arguments = (desk.world.session, desk.store, self.plan, desk.settings, self.folder, self.facts, self.uploaded)
        return write_back(*arguments)

    def publish(self) -> Publication:
        """Make it visible, or find that another attempt at the run is."""
        return make_visible(self.desk.store, self.uploaded)

    def stamp(self, publication: Publication) -> tuple[str, ...]:
        """Stamp the version."""
        return stamp_version(self.desk.world.session, publication, self.desk.settings)

    def finish(self) -> Publication:
        """All of it, as a run that nobody disturbs."""
        self.write()
        publication = self.publish()
        self.stamp(publication)
        return publication


@contextmanager
def desks(folder: Path, **options: Any) -> Iterator[tuple[AssetWorld, Store]]:
    """Both stand-ins and a store of the bucket that they share."""
    with asset_world(folder, **options) as world, Store(f"gs://{BUCKET}", world.endpoint) as store:
        yield world, store


def desk(world: AssetWorld, store: Store, folder: Path, **settings: Any) -> Desk:
    """A fresh event, named after the folder; `settings` are those of Earth Engine."""
    fixed = {"url": world.url, "project": "local", "asset_deadline_s": 20.0}
    chosen = Settings(
        earthengine=EarthEngineSettings(**{**fixed, **settings}),
        storage=StorageSettings(bucket=BUCKET, endpoint=world.endpoint),
    )
    return Desk(world, store, chosen, EventLayout(f"gs://{BUCKET}", folder.name.replace(".", "-")[:60]), folder)
