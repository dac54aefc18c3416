"""What is stored about an image, and how an image of the server is made of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from infra.local.earthengine import geometry as geometries
from infra.local.earthengine.errors import ArgumentError
from infra.local.earthengine.geometry import Geometry
from infra.local.earthengine.grid import Array, PixelGrid
from infra.local.earthengine.image import Band, Image
from infra.local.earthengine.pixeltype import DOUBLE, FLOAT, PixelType
from infra.local.earthengine.raster import Node, Pointwise, Raster, Run
from infra.local.earthengine.sources import FileBand, Reader
from infra.local.earthengine.values import Date

HALF_BYTES = 2
"""Integers of so many bytes fit into single precision."""


@dataclass(frozen=True)
class BandRecord:
    """One band of a stored image."""

    id: str
    """Name."""
    uri: str
    """Path or `gs://` address of the raster file."""
    band: int
    """Number of the band in the file, from 1."""
    missing: tuple[float, ...] = ()
    """Values that mean no data, besides the file's own."""
    pyramid: str = "MEAN"
    """How coarse pixels are made of fine ones: one of `sources.POLICIES`."""
    scale: float = 1.0
    """Stored values times this, plus `offset`, are the band's; the band is float when either is given."""
    offset: float = 0.0
    """See `scale`."""


@dataclass(frozen=True)
class ImageRecord:
    """One stored image."""

    id: str
    """Asset id."""
    bands: tuple[BandRecord, ...]
    """In order."""
    time_start: str | None = None
    """ISO 8601."""
    time_end: str | None = None
    """ISO 8601."""
    properties: dict[str, Any] = field(default_factory=dict)
    """Named values."""
    footprint: dict[str, Any] | None = None
    """GeoJSON; None: the outline of the first band."""
    version: int = 0
    """Grows with every change; microseconds."""


def to_image(record: ImageRecord, reader: Reader) -> Image:
    """The image of a record. ArgumentError when a raster is missing or damaged."""
    bands = tuple(_band(b, reader) for b in record.bands)
    properties: dict[str, Any] = {"system:index": record.id.rsplit("/", 1)[-1]}
    for name, value in (("system:time_start", record.time_start), ("system:time_end", record.time_end)):
        if value:
            properties[name] = Date.parse(value).millis
    size = sum(reader.describe(uri).size_bytes for uri in {b.uri for b in record.bands})
    footprint = _footprint(record, bands)
    properties |= {"system:asset_size": size, "system:footprint": footprint.to_json(), **record.properties}
    return Image(record.id, properties, bands, footprint, record.version)


def _footprint(record: ImageRecord, bands: tuple[Band, ...]) -> Geometry:
    if record.footprint is not None:
        return geometries.from_json(record.footprint)
    if not bands or bands[0].shape_yx is None:
        return geometries.WORLD
    outline = geometries.of_grid(PixelGrid(bands[0].projection, bands[0].shape_yx))
    return Geometry(outline.lonlat(), geodesic=False)


def _band(record: BandRecord, reader: Reader) -> Band:
    info = reader.describe(record.uri)
    if not 1 <= record.band <= len(info.dtypes):
        raise ArgumentError(f"'{record.uri}' has {len(info.dtypes)} bands; band {record.band} was asked for.")
    kind = PixelType.of_dtype(info.dtypes[record.band - 1])
    node: Node = FileBand(record.uri, record.band, info, record.pyramid)
    if record.missing:
        node = Without(node, record.missing)
    if record.scale != 1 or record.offset != 0:
        kind = FLOAT if kind.dtype.itemsize <= HALF_BYTES or kind.precision == "float" else DOUBLE
        node = Pointwise((node,), partial(_scaled, record.scale, record.offset), kind)
    return Band(record.id, node, kind, info.projection, info.shape_yx)


def _scaled(scale: float, offset: float, stored: Array) -> Array:
    """Stored values as physical ones."""
    return np.asarray(stored.astype("float64") * scale + offset)


@dataclass(frozen=True, eq=False)
class Without(Node):
    """A node whose pixels of some values are masked."""

    source: Node
    """Gives the values."""
    missing: tuple[float, ...]
    """Values that mean no data."""

    def compute(self, grid: PixelGrid, run: Run) -> Raster:
        """See `Node.compute`."""
        found = run.pixels(self.source, grid)
        return Raster(found.values, found.mask & ~np.isin(found.values, self.missing), found.fraction)
