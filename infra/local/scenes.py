"""Writes images into a catalogue folder, in the layout that the Earth Engine stand-in reads."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine

BLOCK_PX = 256
SENTINEL2 = "COPERNICUS/S2_HARMONIZED"
CLOUD_SCORE = "GOOGLE/CLOUD_SCORE_PLUS/V1/S2_HARMONIZED"
SRTM = "USGS/SRTMGL1_003"
AW3D30 = "JAXA/ALOS/AW3D30/V3_2"

Bands = Mapping[str, npt.NDArray[Any]]


def write_collection(catalogue: Path, collection_id: str, properties: Mapping[str, Any]) -> None:
    """Declare the folder of `collection_id` to be an image collection, even while it is empty."""
    folder = catalogue / collection_id
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "collection.json", {"id": collection_id, "properties": dict(properties)})


def write_image(
    catalogue: Path,
    image_id: str,
    bands: Bands,
    *,
    crs: str,
    transform: Affine,
    nodata: float | None,
    time: dt.datetime | None = None,
    properties: Mapping[str, Any] | None = None,
    footprint: Mapping[str, Any] | None = None,
) -> Path:
    """Write `bands` (each (y, x), all of one type and shape) as the image `image_id`; returns its JSON file.

    The pixels go into one tiled GeoTIFF, a band after the other; `nodata` marks masked pixels. `footprint` is GeoJSON
    in WGS84, by default the raster's outline. The JSON file is written last: an image exists completely or not at all.
    """
    path = catalogue / f"{image_id}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    raster = path.with_suffix(".tif")
    write_geotiff(raster, bands, crs=crs, transform=transform, nodata=nodata)
    description: dict[str, Any] = {
        "id": image_id,
        "time_start": None if time is None else _timestamp(time),
        "time_end": None,
        "properties": dict(properties or {}),
        "bands": [{"id": name, "file": raster.name, "band": index} for index, name in enumerate(bands, start=1)],
    }
    if footprint is not None:
        description["footprint"] = dict(footprint)
    _write_json(path, description)
    return path


def write_geotiff(path: Path, bands: Bands, *, crs: str, transform: Affine, nodata: float | None) -> None:
    """Write a tiled GeoTIFF quickly: fast compression, bands apart so that one can be read without the others."""
    first = next(iter(bands.values()))
    height, width = first.shape
    temporary = path.with_name(f".{path.name}.part")
    with rasterio.open(
        temporary,
        "w",
        driver="GTiff",
        dtype=first.dtype,
        count=len(bands),
        height=height,
        width=width,
        crs=crs,
        transform=transform,
        nodata=nodata,
        tiled=True,
        blockxsize=BLOCK_PX,
        blockysize=BLOCK_PX,
        interleave="band",
        compress="deflate",
        zlevel=1,
        predictor=3 if np.issubdtype(first.dtype, np.floating) else 2,
    ) as target:
        for index, (name, values) in enumerate(bands.items(), start=1):
            target.write(values, index)
            target.set_band_description(index, name)
    temporary.replace(path)


def _timestamp(time: dt.datetime) -> str:
    return time.astimezone(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _write_json(path: Path, value: Any) -> None:
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(json.dumps(value, indent=1), encoding="utf-8")
    temporary.replace(path)
