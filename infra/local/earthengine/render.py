"""Pixels of images as the bytes that travel: NPY, GeoTIFF, zipped GeoTIFF, PNG and JPEG.

A request is computed in blocks, so that memory is bounded by the answer and not by what is behind it.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image as Picture
from rasterio.io import MemoryFile

from infra.local.earthengine.algorithms.images_grid import bounded_grid
from infra.local.earthengine.algorithms.visualise import displayed, styled
from infra.local.earthengine.errors import ArgumentError
from infra.local.earthengine.grid import Array, PixelGrid, Projection
from infra.local.earthengine.image import Band, Image, select
from infra.local.earthengine.raster import Node, Run
from infra.local.earthengine.sources import Reader

MAX_REQUEST_BYTES = 50_331_648
"""48 MiB: the service's limit of one answer, with one byte of mask for each pixel and band counted in."""
MAX_SIDE = 32768
"""The service's limit of pixels on a side."""
BLOCKS = (1024, 512, 256)
"""Sides of the blocks that are computed one after the other."""
BLOCK_BYTES = 256 * 2**20
"""About what a block's nodes may hold together, each of them 8 bytes for a pixel."""

MEDIA_TYPES = {
    "NPY": "application/octet-stream",
    "GEO_TIFF": "image/tiff",
    "ZIPPED_GEO_TIFF": "application/zip",
    "ZIPPED_GEO_TIFF_PER_BAND": "application/zip",
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "AUTO_JPEG_PNG": "image/png",
}
"""Content type of each file format."""


@dataclass(frozen=True)
class Pixels:
    """The computed bands of an image on a grid."""

    grid: PixelGrid
    """Where they lie."""
    bands: tuple[Band, ...]
    """Names and types."""
    values: tuple[Array, ...]
    """(h, w) of each band, in the dtype of its type; 0 where masked."""
    masks: tuple[Array, ...]
    """(h, w) bool of each band."""
    opacity: Array | None = None
    """(h, w) uint8: the least mask of all bands; None where masks are 0 or 1."""


def block_side(nodes: list[Node]) -> int:
    """The largest side of blocks with which all the nodes behind some others fit into the memory."""
    seen: set[int] = set()
    pending: list[Any] = list(nodes)
    most = BLOCK_BYTES // (8 * BLOCKS[-1] ** 2)
    while pending and len(seen) <= most:
        value = pending.pop()
        if isinstance(value, tuple):
            pending.extend(value)
        elif isinstance(value, Band):
            pending.append(value.node)
        elif isinstance(value, Node) and id(value) not in seen:
            seen.add(id(value))
            pending.extend(vars(value).values())
    return next((s for s in BLOCKS if 8 * s * s * len(seen) <= BLOCK_BYTES), BLOCKS[-1])


def compute(image: Image, grid: PixelGrid, reader: Reader) -> Pixels:
    """The pixels of all bands on a grid."""
    if arrays := [b.id for b in image.bands if b.type.dimensions]:
        raise ArgumentError(f"Array pixels cannot be exported or sent: flatten the bands {', '.join(arrays)} first.")
    values = [np.zeros(grid.shape_yx, b.type.dtype) for b in image.bands]
    masks = [np.zeros(grid.shape_yx, bool) for _ in image.bands]
    opacity: Array | None = None
    height, width = grid.shape_yx
    side = block_side([b.node for b in image.bands])
    with reader.environment():
        for row in range(0, height, side):
            for col in range(0, width, side):
                part = grid.window(row, col, min(side, height - row), min(side, width - col))
                run = Run(reader)
                at = (slice(row, row + part.shape_yx[0]), slice(col, col + part.shape_yx[1]))
                for i, band in enumerate(image.bands):
                    found = run.pixels(band.node, part)
                    masks[i][at] = found.mask
                    whole = bool(found.mask.all())
                    values[i][at] = found.values if whole else np.where(found.mask, found.values, 0)
                    if found.fraction is not None:
                        opacity = np.full(grid.shape_yx, 255, "uint8") if opacity is None else opacity
                        opacity[at] = np.minimum(opacity[at], np.ceil(found.weights * 255))
    return Pixels(grid, image.bands, tuple(values), tuple(masks), opacity)


def parse_grid(body: dict[str, Any] | None, image: Image) -> PixelGrid:
    """The grid of a request; the image's own pixels where the request does not say."""
    if not body:
        return native_grid(image)
    size, t = body.get("dimensions") or {}, body.get("affineTransform") or {}
    crs = body.get("crsCode") or body.get("crsWkt")
    native = native_grid(image) if not (size and t and crs) else None
    if native is not None and (not t or not crs or not size):
        base = Projection(str(crs or native.crs), _six(t) if t else native.projection.transform)
        return PixelGrid(base, _shape(size) if size else native.shape_yx)
    return PixelGrid(Projection(str(crs), _six(t)), _shape(size))


def _shape(size: dict[str, Any]) -> tuple[int, int]:
    height, width = int(size.get("height", 0)), int(size.get("width", 0))
    if height <= 0 or width <= 0:
        raise ArgumentError(f"The grid's dimensions must be positive, got {width}x{height}.")
    return height, width


def _six(t: dict[str, Any]) -> tuple[float, float, float, float, float, float]:
    names = ("scaleX", "shearX", "translateX", "shearY", "scaleY", "translateY")
    a, b, c, d, e, f = (float(t.get(n, 0.0)) for n in names)
    if a * e - b * d == 0:
        raise ArgumentError("The grid's affineTransform has no extent: scaleX and scaleY are needed.")
    return a, b, c, d, e, f


def native_grid(image: Image) -> PixelGrid:
    """The pixels of the first band over its extent. ArgumentError for an unbounded image."""
    if not image.bands:
        raise ArgumentError("The image has no bands.")
    first = image.bands[0]
    if first.shape_yx is not None:
        return PixelGrid(first.projection, first.shape_yx)
    if image.footprint.unbounded:
        raise ArgumentError("Unable to determine a grid: the image is unbounded. Give a grid or a region.")
    return bounded_grid(first.projection, image.footprint.in_crs(first.projection.crs).bounds)


def enforce_limits(grid: PixelGrid, bands: tuple[Band, ...]) -> None:
    """ArgumentError in the service's words when a request is too large."""
    height, width = grid.shape_yx
    if max(height, width) > MAX_SIDE:
        raise ArgumentError(f"Pixel grid dimensions ({width}x{height}) must be less than or equal to {MAX_SIDE}.")
    size = height * width * sum(b.type.dtype.itemsize + 1 for b in bands)
    if size > MAX_REQUEST_BYTES:
        raise ArgumentError(
            f"Total request size ({size} bytes) must be less than or equal to {MAX_REQUEST_BYTES} bytes."
        )


def render(image: Image, body: dict[str, Any], reader: Reader) -> tuple[bytes, str]:
    """The answer to a request for pixels, and its content type.

    `body` has fileFormat, and may have grid, bandIds, visualizationOptions and filenamePrefix.
    """
    chosen = select(image, list(body["bandIds"]), caller="Image.select") if body.get("bandIds") else image
    if not chosen.bands:
        raise ArgumentError("The image has no bands.")
    file_format = str(body.get("fileFormat") or "AUTO_JPEG_PNG")
    if file_format not in MEDIA_TYPES:
        raise ArgumentError(f"The file format '{file_format}' is not known to the local stand-in.")
    grid = parse_grid(body.get("grid"), chosen)
    if body.get("visualizationOptions"):
        chosen = styled(chosen, body["visualizationOptions"])
    enforce_limits(grid, chosen.bands)
    media = MEDIA_TYPES[file_format]
    if file_format == "NPY":
        return to_npy(compute(chosen, grid, reader)), media
    if file_format == "GEO_TIFF":
        return to_geotiff(compute(chosen, grid, reader)), media
    if file_format.startswith("ZIPPED"):
        name = str(body.get("filenamePrefix") or image.id or "download").replace("/", "_")
        return to_zip(compute(chosen, grid, reader), name, per_band=file_format.endswith("PER_BAND")), media
    shown = chosen.with_bands(displayed(chosen))
    return to_picture(compute(shown, grid, reader), jpeg=file_format == "JPEG"), media


def to_npy(pixels: Pixels) -> bytes:
    """A structured array (h, w) with a field for each band; 0 where masked."""
    array = np.zeros(pixels.grid.shape_yx, [(b.id, v.dtype) for b, v in zip(pixels.bands, pixels.values, strict=True)])
    for band, values in zip(pixels.bands, pixels.values, strict=True):
        array[band.id] = values
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
    return b"".join((header.getvalue(), array.data))


def to_geotiff(pixels: Pixels) -> bytes:
    """A GeoTIFF of all bands in their common dtype: masked pixels are 0 in integers and NaN in floats."""
    dtype = np.result_type(*(v.dtype for v in pixels.values))
    floating = dtype.kind == "f"
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "height": pixels.grid.shape_yx[0],
        "width": pixels.grid.shape_yx[1],
        "count": len(pixels.bands),
        "dtype": dtype,
        "crs": pixels.grid.crs,
        "transform": pixels.grid.affine,
        "compress": "deflate",
        "zlevel": 1,
        **({"nodata": float("nan")} if floating else {}),
    }
    with MemoryFile() as memory:
        with memory.open(**profile) as dataset:
            for i, (band, values, mask) in enumerate(zip(pixels.bands, pixels.values, pixels.masks, strict=True), 1):
                data = values.astype(dtype)
                dataset.write(np.where(mask, data, np.nan).astype(dtype) if floating else data, i)
                dataset.set_band_description(i, band.id)
        return bytes(memory.read())


def to_zip(pixels: Pixels, name: str, *, per_band: bool) -> bytes:
    """GeoTIFFs in a zip file: `NAME.tif`, or `NAME.BAND.tif` for each band."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        if not per_band:
            archive.writestr(f"{name}.tif", to_geotiff(pixels))
        for band, values, mask in zip(pixels.bands, pixels.values, pixels.masks, strict=True) if per_band else ():
            archive.writestr(f"{name}.{band.id}.tif", to_geotiff(Pixels(pixels.grid, (band,), (values,), (mask,))))
    return buffer.getvalue()


def to_picture(pixels: Pixels, *, jpeg: bool) -> bytes:
    """A PNG, as opaque as its mask, or a JPEG, black where that is 0, of one or three uint8 bands."""
    channels = list(pixels.values) * (1 if len(pixels.values) == 3 else 3)
    valid = np.logical_and.reduce(pixels.masks)
    buffer = io.BytesIO()
    if jpeg:
        shown = np.dstack([np.where(valid, c, 0).astype("uint8") for c in channels])
        Picture.fromarray(shown).save(buffer, "JPEG", quality=90)
    else:
        alpha = np.where(valid, 255 if pixels.opacity is None else pixels.opacity, 0).astype("uint8")
        Picture.fromarray(np.dstack([*channels, alpha])).save(buffer, "PNG")
    return buffer.getvalue()
