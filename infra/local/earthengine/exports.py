"""Exports of images and features: to an asset, or to Cloud Storage."""

from __future__ import annotations

import tempfile
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.windows import Window

from infra.local.earthengine import objects, tables
from infra.local.earthengine.assets import asset_id
from infra.local.earthengine.errors import ArgumentError
from infra.local.earthengine.grid import PixelGrid
from infra.local.earthengine.image import Image
from infra.local.earthengine.records import BandRecord, ImageRecord
from infra.local.earthengine.render import compute, parse_grid
from infra.local.earthengine.service import Service
from infra.local.earthengine.sources import Reader

STRIP = 512
"""Rows that are computed and written at a time."""
MAX_PIXELS = 100_000_000
"""Earth Engine's default limit of an export."""


def _destination(body: dict[str, Any]) -> tuple[str | None, str | None]:
    """The asset id, or the `gs://` prefix, that an export goes to."""
    asset = ((body.get("assetExportOptions") or {}).get("earthEngineDestination") or {}).get("name")
    storage = (body.get("fileExportOptions") or {}).get("cloudStorageDestination")
    if asset:
        return asset_id(str(asset)), None
    if storage:
        return None, f"gs://{storage.get('bucket')}/{storage.get('filenamePrefix') or 'export'}"
    raise ArgumentError("The local stand-in exports to assets and to Cloud Storage only.")


def _overwrite(body: dict[str, Any]) -> bool:
    destination = (body.get("assetExportOptions") or {}).get("earthEngineDestination") or {}
    return bool(destination.get("overwrite"))


def check(service: Service, body: dict[str, Any], *, table: bool) -> None:
    """ArgumentError when an export cannot succeed, as far as can be seen before it runs."""
    asset, prefix = _destination(body)
    if asset is not None:
        service.library.check_writable(service.library.view(), asset, overwrite=_overwrite(body))
    elif prefix is not None and not service.storage_endpoint:
        raise ArgumentError(f"Cannot export to '{prefix}': this stand-in was started without a storage address.")
    if table:
        service.features(body.get("expression"))
    else:
        _grid(service.image(body.get("expression")), body)


def _grid(image: Image, body: dict[str, Any]) -> PixelGrid:
    grid = parse_grid(body.get("grid"), image)
    pixels, allowed = grid.shape_yx[0] * grid.shape_yx[1], int(float(body.get("maxPixels") or MAX_PIXELS))
    if pixels > allowed:
        raise ArgumentError(
            f"Export too large: specified {pixels} pixels (max: {allowed}). "
            "Specify higher maxPixels value if you intend to export a large area."
        )
    return grid


def export_image(service: Service, body: dict[str, Any]) -> list[str]:
    """Compute an image and write it."""
    asset, prefix = _destination(body)
    image = service.image(body.get("expression"))
    grid = _grid(image, body)
    if asset is not None:
        folder = service.state / "rasters"
        folder.mkdir(parents=True, exist_ok=True)
        bands = []
        for band in image.bands:
            # One file for each band: a GeoTIFF has one mask, and each band has its own.
            path = folder / f"{uuid.uuid4().hex}.tif"
            write_geotiff(image.with_bands([band]), grid, service.reader, path, masked=True)
            bands.append(BandRecord(band.id, str(path), 1))
        properties = {k: v for k, v in image.properties.items() if not k.startswith("system:")}
        record = ImageRecord(asset, tuple(bands), properties=properties)
        service.library.put_image(record, overwrite=_overwrite(body))
        return [asset]
    uri = f"{prefix}.tif"
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "export.tif"
        write_geotiff(image, grid, service.reader, path, masked=False)
        objects.upload(service.storage_endpoint, uri, path, "image/tiff")
    return [uri]


def write_geotiff(image: Image, grid: PixelGrid, reader: Reader, path: Path, *, masked: bool) -> None:
    """Compute an image strip by strip into a tiled GeoTIFF, with an internal mask when `masked`."""
    dtype = np.result_type(*(b.type.dtype for b in image.bands))
    height, width = grid.shape_yx
    profile: dict[str, Any] = {
        "driver": "GTiff", "height": height, "width": width, "count": len(image.bands), "dtype": dtype,
        "crs": grid.crs, "transform": grid.affine, "compress": "deflate", "tiled": True,
        "blockxsize": 256, "blockysize": 256, "BIGTIFF": "IF_SAFER",
    }  # fmt: skip
    if dtype.kind == "f" and not masked:
        profile["nodata"] = float("nan")
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "w", **profile) as dataset:
        for i, band in enumerate(image.bands, 1):
            dataset.set_band_description(i, band.id)
        for row in range(0, height, STRIP):
            part = grid.window(row, 0, min(STRIP, height - row), width)
            window = Window(0, row, width, part.shape_yx[0])
            pixels = compute(image, part, reader)
            for i, (values, mask) in enumerate(zip(pixels.values, pixels.masks, strict=True), 1):
                data = values.astype(dtype)
                if dtype.kind == "f" and not masked:
                    data = np.where(mask, data, np.nan).astype(dtype)
                dataset.write(data, i, window=window)
            if masked:
                dataset.write_mask(pixels.masks[0].astype("uint8") * 255, window=window)


def export_table(service: Service, body: dict[str, Any]) -> list[str]:
    """Compute features and write them."""
    asset, prefix = _destination(body)
    collection = service.features(body.get("expression"))
    if asset is not None:
        features = tables.from_collection(collection)
        service.library.put_table(asset, features, dict(collection.properties), overwrite=_overwrite(body))
        return [asset]
    file_format = str((body.get("fileExportOptions") or {}).get("fileFormat") or "CSV")
    data, media = tables.to_bytes(collection, file_format, body.get("selectors"))
    uri = f"{prefix}.{'csv' if media == 'text/csv' else 'geojson'}"
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "export"
        path.write_bytes(data)
        objects.upload(service.storage_endpoint, uri, path, media)
    return [uri]
