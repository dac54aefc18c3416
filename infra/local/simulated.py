"""A simulated region as what the real services would have of it: scenes, an elevation model, and a USGS event.

Everything written here says that it is simulated: a property of every image and of the event, and the event's title.
"""

from __future__ import annotations

import base64
import csv
import datetime as dt
import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine

from infra.local.scenes import CLOUD_SCORE, SENTINEL2, SRTM, write_collection, write_image
from infra.local.shakemap import ShakeMapEvent, cont_mmi_json, grid_xml, sample_shaking
from infra.local.usgs.book import USGS
from infra.local.usgs.events import read_event
from modeling.simulate import Pass, Region, srtm_like
from modeling.simulate.optics import sun_at

SIMULATED = {"quakeslide:simulated": True}
SHAKEMAP_DELAY = dt.timedelta(minutes=20)
"""How long after the quake its ShakeMap is dated."""


@dataclass(frozen=True)
class SimulatedQuakeFiles:
    """What `write_simulated` wrote."""

    event_id: str
    """The preferred id of the USGS event."""
    alias: str
    """Its other id."""
    usgs_folder: Path
    """The folder that the USGS stand-in can serve, or `infra.local.usgs.play_event` can play from."""
    detail: Path
    """The event's detail as GeoJSON."""
    truth: Path
    """COG on the region's grid: 1 inside landslides, 0 outside, 255 (nodata) nowhere."""
    images: tuple[str, ...]
    """Asset ids of the Sentinel-2 images, in order of time."""


def write_simulated(region: Region, catalogue: Path, usgs_folder: Path, *, event_id: str) -> SimulatedQuakeFiles:
    """Write `region` into a catalogue for the Earth Engine stand-in and a folder for the USGS one.

    The catalogue holds one elevation model, so a second region in the same catalogue replaces the first one's. Writing
    the same region again gives the same files. Raises `RecordError` when `event_id` cannot be an event id.
    """
    detail, contents = simulated_event(region, event_id)
    read_event(detail)
    for collection in (SENTINEL2, CLOUD_SCORE):
        write_collection(catalogue, collection, SIMULATED)
    truth = usgs_folder / "truth" / f"{event_id}.tif"
    truth.parent.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        scenes = [pool.submit(_write_pass, region, one, catalogue, event_id) for one in region.passes]
        others = [pool.submit(_write_dem, region, catalogue), pool.submit(_write_truth, region, truth)]
        images = tuple(scene.result() for scene in scenes)
        for other in others:
            other.result()
    return SimulatedQuakeFiles(
        event_id=event_id,
        alias=_alias(event_id),
        usgs_folder=usgs_folder,
        detail=_write_event(usgs_folder, detail, contents),
        truth=truth,
        images=images,
    )


def simulated_event(region: Region, event_id: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    """(the event's detail, contents of its ShakeMap by address) of a region, as USGS would publish them."""
    quake = region.event
    place = f"simulated region after {region.name}"
    shaking = sample_shaking(region.mmi, region.crs, region.transform)
    header = ShakeMapEvent(
        event_id, quake.time, quake.lon, quake.lat, quake.depth_km, quake.magnitude, f"{place} (simulated earthquake)"
    )
    time_ms, updated_ms = _milliseconds(quake.time), _milliseconds(quake.time + SHAKEMAP_DELAY)
    base = f"{USGS}/product/shakemap/{event_id}/sim/{updated_ms}/"
    files = {
        "download/grid.xml": ("application/xml", grid_xml(shaking, header)),
        "download/cont_mmi.json": ("application/json", cont_mmi_json(shaking)),
    }
    shakemap = {
        **_product("shakemap", event_id, updated_ms),
        "properties": {
            "version": "1",
            "event-type": "SCENARIO",
            "event-description": header.description,
            "map-status": "automatic",
            "eventtime": _iso(quake.time),
            "latitude": f"{quake.lat:.4f}",
            "longitude": f"{quake.lon:.4f}",
            "depth": f"{quake.depth_km:.1f}",
            "magnitude": f"{quake.magnitude:.1f}",
            "maxmmi": f"{shaking.mmi.max():.3f}",
            "minimum-longitude": f"{shaking.lon[0]:.4f}",
            "maximum-longitude": f"{shaking.lon[-1]:.4f}",
            "minimum-latitude": f"{shaking.lat[-1]:.4f}",
            "maximum-latitude": f"{shaking.lat[0]:.4f}",
        },
        "contents": {
            name: {
                "contentType": kind,
                "lastModified": updated_ms,
                "length": len(data),
                "url": base + name,
                "sha256": base64.b64encode(hashlib.sha256(data).digest()).decode(),
            }
            for name, (kind, data) in files.items()
        },
    }
    origin = {
        **_product("origin", event_id, time_ms + 1),
        "properties": {
            "eventtime": _iso(quake.time),
            "latitude": f"{quake.lat:.4f}",
            "longitude": f"{quake.lon:.4f}",
            "depth": f"{quake.depth_km:.1f}",
            "magnitude": f"{quake.magnitude:.1f}",
            "magnitude-type": "mww",
            "review-status": "automatic",
        },
        "contents": {},
    }
    properties = {
        "mag": round(quake.magnitude, 1), "place": place, "time": time_ms, "updated": updated_ms, "tz": None, "url": "",
        "felt": None, "cdi": None, "mmi": round(float(shaking.mmi.max()), 3), "alert": None, "status": "automatic",
        "tsunami": 0, "sig": round(quake.magnitude**2 * 100 / 6.5), "net": "sim", "code": event_id,
        "ids": f",{event_id},{_alias(event_id)},", "sources": ",sim,", "types": ",origin,shakemap,",
        "nst": None, "dmin": None, "rms": None, "gap": None, "magType": "mww", "type": "earthquake",
        "title": f"M {quake.magnitude:.1f} - simulated earthquake, {place}", **SIMULATED,
        "products": {"origin": [origin], "shakemap": [shakemap]},
    }  # fmt: skip
    point = [round(quake.lon, 4), round(quake.lat, 4), round(quake.depth_km, 1)]
    detail = {
        "type": "Feature",
        "id": event_id,
        "geometry": {"type": "Point", "coordinates": point},
        "properties": properties,
    }
    return detail, {base + name: data for name, (_, data) in files.items()}


def _product(kind: str, event_id: str, updated_ms: int) -> dict[str, Any]:
    return {
        "indexid": hashlib.sha256(f"{kind}{event_id}".encode()).hexdigest()[:8],
        "id": f"urn:usgs-product:sim:{kind}:{event_id}:{updated_ms}",
        "type": kind,
        "code": event_id,
        "source": "sim",
        "updateTime": updated_ms,
        "status": "UPDATE",
        "preferredWeight": 1,
    }


def _write_pass(region: Region, one: Pass, catalogue: Path, event_id: str) -> str:
    index = f"{one.time.astimezone(dt.UTC):%Y%m%dT%H%M%S}_{event_id}"
    write = partial(write_image, catalogue, crs=region.crs, transform=Affine(*region.transform), time=one.time)
    image_id = f"{SENTINEL2}/{index}"
    sun = sun_at(one.time, region.event.lat)
    seen = {
        "CLOUDY_PIXEL_PERCENTAGE": round(one.cloud_percent, 2),
        "MEAN_SOLAR_ZENITH_ANGLE": round(sun.zenith_deg, 3),
        "MEAN_SOLAR_AZIMUTH_ANGLE": round(sun.azimuth_deg, 3),
    }
    write(image_id, dict(zip(region.bands, one.dn, strict=True)), nodata=0, properties=SIMULATED | seen)
    # The simulator makes one score; the real collection's second one ranks the same pixels by another scale.
    scores = dict.fromkeys(("cs", "cs_cdf"), np.round(one.cs, 3).astype(np.float32))
    write(f"{CLOUD_SCORE}/{index}", scores, nodata=float("nan"), properties=SIMULATED)
    return image_id


def _write_dem(region: Region, catalogue: Path) -> None:
    elevation, transform = srtm_like(region)
    write_image(
        catalogue,
        SRTM,
        {"elevation": elevation},
        crs="EPSG:4326",
        transform=transform,
        nodata=None,
        properties=SIMULATED,
    )


def _write_truth(region: Region, path: Path) -> None:
    height, width = region.shape_yx
    temporary = path.with_name(f".{path.name}.part")
    with rasterio.open(
        temporary,
        "w",
        driver="COG",
        dtype="uint8",
        count=1,
        height=height,
        width=width,
        crs=region.crs,
        transform=Affine(*region.transform),
        nodata=255,
        compress="deflate",
        overview_resampling="mode",
    ) as target:
        target.write(region.truth.astype(np.uint8), 1)
        target.set_band_description(1, "simulated landslide")
    temporary.replace(path)


def _write_event(folder: Path, detail: dict[str, Any], contents: dict[str, bytes]) -> Path:
    """The contents first, then the index that names them, the event last."""
    event_id = str(detail["id"])
    rows: dict[str, str] = {}
    index = folder / "index.tsv"
    if index.is_file():
        with index.open(newline="", encoding="utf-8") as lines:
            rows = {row["url"]: row["file"] for row in csv.DictReader(lines, delimiter="\t")}
    (folder / "products").mkdir(parents=True, exist_ok=True)
    for address, data in contents.items():
        file = f"products/{address.removeprefix(USGS + '/product/').replace('/', '__')}"
        (folder / file).write_bytes(data)
        rows[address] = file
    temporary = folder / ".index.tsv.part"
    with temporary.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.writer(lines, delimiter="\t", lineterminator="\n")
        writer.writerow(["file", "url"])
        writer.writerows((file, address) for address, file in rows.items())
    temporary.replace(index)
    path = folder / "fdsn_event_detail" / f"{event_id}.geojson"
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(json.dumps(detail, indent=1), encoding="utf-8")
    temporary.replace(path)
    return path


def _alias(event_id: str) -> str:
    return f"{event_id}.alias"


def _iso(time: dt.datetime) -> str:
    return time.astimezone(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _milliseconds(time: dt.datetime) -> int:
    return round(time.timestamp() * 1000)
