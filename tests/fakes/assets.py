"""Both stand-ins over real sockets and a session on them, for tests of what is written to Earth Engine."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import rasterio
from rasterio.transform import Affine

from fakes.servers import serve, serve_process
from gee.ingestion import ImageAsset, TableAsset
from gee.session import Session, open_session
from gee.store import open_store
from gee.types import Grid
from infra.local.earthengine import create_app as create_earth_engine

ROOT = "projects/local/assets"
BUCKET = "quakeslide"
GRID = Grid("EPSG:32654", (10.0, 0.0, 600_000.0, 0.0, -10.0, 4_730_000.0), (40, 50))
SEEN = dt.datetime(2018, 9, 9, 1, 16, 31, tzinfo=dt.UTC)
PROPERTIES = {"event_id": "us2000h8ty", "observed_fraction": 0.75}
BANDS = ("probability", "place")


@dataclass
class AssetWorld:
    """Both stand-ins and a session on them."""

    session: Session
    endpoint: str

    @property
    def url(self) -> str:
        """Address of the Earth Engine stand-in."""
        return self.session.config.url

    def upload(self, key: str, body: bytes) -> str:
        """Put an object into the bucket; returns its address."""
        open_store(f"gs://{BUCKET}", self.endpoint).write(key, body)
        return f"gs://{BUCKET}/{key}"

    def remove(self, key: str) -> None:
        """Take an object out of the bucket."""
        name = key.replace("/", "%2F")
        httpx.delete(f"{self.endpoint}/storage/v1/b/{BUCKET}/o/{name}", trust_env=False).raise_for_status()

    def cog(self, key: str = "events/e/map.tif") -> str:
        """A COG of two bands in the bucket: a constant, and numbers from 0."""
        profile = {"count": 2, "height": 40, "width": 50, "dtype": "float32", "crs": GRID.crs, "nodata": np.nan}
        with rasterio.MemoryFile() as memory:
            with memory.open(driver="COG", transform=Affine(*GRID.transform), **profile) as file:
                file.write(np.stack([np.full((40, 50), 0.25), np.arange(2000.0).reshape(40, 50)]).astype(np.float32))
            return self.upload(key, bytes(memory.read()))

    def csv(self, key: str = "events/e/slides.csv") -> str:
        """A CSV of two polygons in the bucket."""
        square = json.dumps({"type": "Polygon", "coordinates": [[[142, 42], [142.1, 42], [142.1, 42.1], [142, 42]]]})
        quoted = '"' + square.replace('"', '""') + '"'
        return self.upload(key, f"slide_id,area_m2,geometry\n1,400.5,{quoted}\n2,900,{quoted}\n".encode())

    def fault(self, **fault: Any) -> None:
        """Plant a failure in the Earth Engine stand-in."""
        httpx.post(f"{self.url}/_standin/faults", json=fault, trust_env=False).raise_for_status()

    def asked(self, part: str, method: str = "") -> int:
        """How many requests had this at the end of their path."""
        log = httpx.get(f"{self.url}/_standin/log", trust_env=False).json()["requests"]
        return sum(entry["path"].endswith(part) and method in ("", entry["method"]) for entry in log)

    def forget(self) -> None:
        """Empty the log and disarm all faults."""
        for what in ("log", "faults"):
            httpx.delete(f"{self.url}/_standin/{what}", trust_env=False)


@contextmanager
def asset_world(folder: Path, **options: Any) -> Iterator[AssetWorld]:
    """Both stand-ins with their state below `folder`; `options` are those of the Earth Engine stand-in."""
    for name in ("bucket", "catalogue"):
        (folder / name).mkdir(exist_ok=True)
    # The Earth Engine stand-in opens COGs by GDAL, here: the bucket must answer meanwhile.
    with serve_process("infra.local.storage", "--root", str(folder / "bucket")) as endpoint:
        made = httpx.post(f"{endpoint}/storage/v1/b", params={"project": "p"}, json={"name": BUCKET}, trust_env=False)
        assert made.status_code in (200, 409)
        chosen = {"operation_s": 0.05, **options}
        app = create_earth_engine(folder / "catalogue", folder / "state", storage_endpoint=endpoint, **chosen)
        with serve(app) as url, open_session(url, "local", timeout_s=30.0, max_attempts=3) as session:
            yield AssetWorld(session, endpoint)


def image(name: str, uri: str, content_hash: str = "abc", **more: Any) -> ImageAsset:
    """An image that is to be."""
    chosen: dict[str, Any] = {"bands": BANDS, "properties": PROPERTIES, "start": SEEN, **more}
    return ImageAsset(name=f"{ROOT}/{name}", uri=uri, content_hash=content_hash, **chosen)


def table(name: str, uri: str, content_hash: str = "abc") -> TableAsset:
    """A table that is to be."""
    return TableAsset(name=f"{ROOT}/{name}", uri=uri, content_hash=content_hash, properties=PROPERTIES, start=SEEN)
