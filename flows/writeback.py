"""The results as Earth Engine assets: COG-backed images, which cost no storage there, and a table of the inventory."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import geopandas
import pandas

from flows.layout import asset_folder
from flows.planning import MapPlan
from flows.publish import UploadedRun
from flows.settings import Settings
from flows.storage import Store
from gee.assets import ensure_folder, import_cog_image, import_table
from gee.session import Session

IMAGES = ("probability", "mask", "observed")
"""Products that become images; each has one band of its own name."""
TABLE = "landslides"
"""Name of the table."""


def asset_names(plan: MapPlan, settings: Settings) -> Mapping[str, str]:
    """Asset ids by what they are; known before anything is written."""
    earthengine = settings.earthengine
    folder = asset_folder(earthengine.project, earthengine.asset_root, plan.event.id, plan.run.run_key)
    return {name: f"{folder}/{name}" for name in (*IMAGES, TABLE)}


def write_back(
    session: Session, store: Store, plan: MapPlan, settings: Settings, folder: Path, uploaded: UploadedRun
) -> dict[str, str]:
    """Write the images and the table of an uploaded run; what is there with the same content is left alone.

    Raises `AssetError` in Earth Engine's own words when it refuses.
    """
    names = asset_names(plan, settings)
    ensure_folder(session, names[TABLE].rpartition("/")[0])
    properties = _properties(plan)
    for name in IMAGES:
        import_cog_image(
            session, names[name], uploaded.uri(name), (name,), properties, start=plan.event.time,
            end=plan.cube.post.end, content_hash=uploaded.sha256[name],
        )  # fmt: skip
    table = folder / f"{TABLE}.csv"
    write_csv(geopandas.read_parquet(folder / f"{TABLE}.parquet"), table)
    uri = plan.run.work(table.name)
    store.write_bytes(uri, table.read_bytes(), "text/csv")
    import_table(
        session, names[TABLE], uri, properties, start=plan.event.time,
        content_hash=uploaded.sha256["landslides_parquet"],
    )  # fmt: skip
    return dict(names)


def write_csv(inventory: geopandas.GeoDataFrame, path: Path) -> None:
    """The inventory as CSV with a GeoJSON column `geometry` in WGS84, the form that Earth Engine ingests."""
    frame = inventory.to_crs(4326)
    columns = [name for name in frame.columns if name != frame.geometry.name]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*columns, "geometry"])
        for values, shape in zip(frame[columns].itertuples(index=False), frame.geometry, strict=True):
            known = ("" if pandas.isna(value) else value for value in values)
            writer.writerow([*known, json.dumps(shape.__geo_interface__)])


def _properties(plan: MapPlan) -> dict[str, Any]:
    return {
        "event_id": plan.event.id,
        "run_key": plan.run.run_key,
        "model": Path(plan.model).stem,
        "weights_sha256": plan.weights_hash,
        "simulated": str(plan.event.simulated).lower(),
    }
