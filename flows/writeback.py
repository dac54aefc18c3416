"""The results as Earth Engine assets: one image collection a product, one image a version, and a table of the inventory.

    projects/P/assets/<root>/<event_id>/probability/<run_key>_<digest>     also mask, observed: image collections
    projects/P/assets/<root>/<event_id>/landslides/<run_key>_<digest>      tables in a folder

Assets are complete before a version is visible, and its number is decided only then: they are written without the
property `version` and get it after publishing. So readers filter on `version`, and what has none belongs to a run that
is at work, or to one that was given up; `flows.tidy` removes the latter. The name holds what went in and what came out
of the run, therefore nothing is ever written over something else.
"""

from __future__ import annotations

import contextlib
import csv
import json
from collections.abc import Mapping
from pathlib import Path

import geopandas
import pandas
import shapely

from flows.asset_names import CATEGORIES, VERSION, asset_containers, asset_names
from flows.facts import ReportFacts
from flows.layout import PRODUCTS, TABLES
from flows.planning import MapPlan
from flows.publish import Publication, UploadedRun
from flows.settings import Settings
from flows.storage import PreconditionFailedError, Store
from gee.access import check_members, share
from gee.assets import Properties, ensure_collection, ensure_folder, find_asset, set_properties, split_name
from gee.ingestion import Asset, ImageAsset, TableAsset, check_table, write_assets
from gee.session import Session

NODATA = 255
"""What a mask and the observation codes hold outside the area."""


def check_targets(event_id: str, settings: Settings) -> None:
    """Raise `AssetError` for settings under which the results could not be written: before any work."""
    check_members(settings.earthengine.readers)
    for container in asset_containers(event_id, settings).values():
        split_name(container)


def write_back(
    session: Session,
    store: Store,
    plan: MapPlan,
    settings: Settings,
    folder: Path,
    facts: ReportFacts,
    uploaded: UploadedRun,
) -> Mapping[str, str]:
    """Write the images and the table of an uploaded run; returns their ids by what they are. Do it again at any time.

    What is there is left alone. An inventory without landslides makes no table. Raises `AssetError` in Earth Engine's
    own words when it refuses, or when something is not there after `earthengine.asset_deadline_s`.
    """
    names = asset_names(plan.event.id, settings, plan.run.run_key, uploaded.layout.digest)
    inventory = geopandas.read_parquet(folder / PRODUCTS["landslides_parquet"].filename)
    if inventory.empty:
        names = {name: asset for name, asset in names.items() if name != TABLES}
    properties = {**_properties(facts, uploaded), **({"table": names[TABLES]} if TABLES in names else {})}
    assets: list[Asset] = [
        _image(name, names[name], plan, settings, folder, uploaded, properties) for name in CATEGORIES
    ]
    if TABLES in names:
        assets.append(_table(names[TABLES], store, plan, folder, inventory, uploaded, properties))
    for name, container in asset_containers(plan.event.id, settings).items():
        if name == TABLES:
            ensure_folder(session, container)
        else:
            ensure_collection(session, container, {"event_id": plan.event.id, "title": facts.event.title})
    write_assets(session, assets, settings.earthengine.asset_deadline_s)
    return names


def stamp_version(session: Session, publication: Publication, settings: Settings) -> tuple[str, ...]:
    """Give the assets of a version its number and let the readers of the settings read them. Do it again at any time.

    Returns the ids of assets that are not there, because somebody has deleted them. Raises `AssetError`.
    """
    names = dict(asset_names(publication.event_id, settings, publication.run_key, publication.digest))
    missing = []
    for name, asset in names.items():
        record = find_asset(session, asset)
        if record is None:
            missing.append(name)
        elif record.properties.get(VERSION) != publication.version:
            set_properties(session, asset, {VERSION: publication.version})
    readers = settings.earthengine.readers
    if readers:
        containers = asset_containers(publication.event_id, settings)
        shared = [containers[TABLES].rpartition("/")[0], *containers.values()]
        for asset in (*shared, *([] if TABLES in missing else [names[TABLES]])):
            share(session, asset, readers)
    return tuple(names[name] for name in missing if name != TABLES or _has_table(session, names))


def _has_table(session: Session, names: Mapping[str, str]) -> bool:
    """Whether the version was written with a table: one without landslides has none."""
    records = (find_asset(session, names[name]) for name in CATEGORIES)
    return any(record is not None and "table" in record.properties for record in records)


def _image(
    name: str, asset: str, plan: MapPlan, settings: Settings, folder: Path, uploaded: UploadedRun,
    properties: Properties,
) -> ImageAsset:  # fmt: skip
    codes = CATEGORIES[name]
    return ImageAsset(
        name=asset, uri=uploaded.uri(name), bands=(name,), content_hash=uploaded.sha256[name], properties=properties,
        start=plan.event.time, end=plan.cube.post.end, ingested=settings.earthengine.image_assets == "ingested",
        categories=codes, missing=(NODATA,) if codes else (),
        size_bytes=(folder / PRODUCTS[name].filename).stat().st_size,
    )  # fmt: skip


def _table(
    asset: str, store: Store, plan: MapPlan, folder: Path, inventory: geopandas.GeoDataFrame, uploaded: UploadedRun,
    properties: Properties,
) -> TableAsset:  # fmt: skip
    texts = inventory.drop(columns=inventory.geometry.name).select_dtypes(include=["object", "string"])
    longest = max((int(column.astype(str).str.len().max()) for _, column in texts.items()), default=0)
    check_table(
        len(inventory), len(inventory.columns), int(shapely.get_num_coordinates(inventory.geometry).max()), longest
    )
    path = folder / f"{TABLES}-{uploaded.layout.digest}.csv"
    write_csv(inventory, path)
    uri = plan.run.work(path.name)
    # Another attempt at the same result may be ingesting it already.
    with contextlib.suppress(PreconditionFailedError):
        store.write_bytes(uri, path.read_bytes(), "text/csv", if_generation_match=0)
    return TableAsset(
        name=asset, uri=uri, content_hash=uploaded.sha256["landslides_parquet"], properties=properties,
        start=plan.event.time, end=plan.cube.post.end, size_bytes=path.stat().st_size,
    )  # fmt: skip


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


def _properties(facts: ReportFacts, uploaded: UploadedRun) -> dict[str, str | int | float]:
    """What every asset of a run says; without the version, which nobody knows yet."""
    source, event = facts.provenance, facts.event
    return {
        "event_id": event.id,
        "title": event.title,
        **({"quake_time": event.time.isoformat()} if event.time else {}),
        "simulated": str(event.simulated).lower(),
        "run_key": source.run_key,
        "digest": uploaded.layout.digest,
        "observed_fraction": round(facts.coverage.observed_percent / 100, 6),
        "landslide_count": facts.inventory.count,
        "model": source.model,
        "weights_sha256": source.weights_hash,
        "cube_hash": source.cube_hash,
        "code_version": source.code_version,
        "item": uploaded.layout.item,
    }
