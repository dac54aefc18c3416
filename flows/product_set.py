"""The finished files of a run in a folder: what must be there, their checksums, and the STAC item over them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import rasterio
from rasterio.errors import RasterioError
from shapely.geometry.base import BaseGeometry

from flows.errors import PublicationError
from flows.facts import ReportFacts
from flows.layout import PRODUCTS, products_digest
from flows.stac import AssetFile, RasterBand, make_item
from gee.types import Grid


@dataclass(frozen=True)
class ProductSet:
    """The products of one run, complete and of one grid."""

    folder: Path
    """Where the files lie."""
    files: Mapping[str, AssetFile]
    """Size, checksum and bands by key of `PRODUCTS`; hrefs are file names."""
    grid: Grid
    """The grid of all rasters."""

    @property
    def digest(self) -> str:
        """`flows.layout.products_digest` of the files."""
        return products_digest({file.href: file.sha256 for file in self.files.values()})

    def item_json(self, facts: ReportFacts, footprint: BaseGeometry) -> bytes:
        """The STAC item over these files, as they lie beside it; raises `PublicationError` when it is not valid."""
        files = {key: replace(file, href=f"./{file.href}") for key, file in self.files.items()}
        item = make_item(facts, footprint, self.grid, files, self.digest)
        return json_bytes(item.to_dict(include_self_link=False))


def gather(folder: Path) -> ProductSet:
    """Find the products in `folder`; `PublicationError` when a required one is missing or the rasters' grids differ."""
    here = {key: folder / product.filename for key, product in PRODUCTS.items()}
    present = {key: path for key, path in here.items() if path.is_file()}
    missing = [path.name for key, path in here.items() if PRODUCTS[key].required and key not in present]
    if missing:
        raise PublicationError(f"{folder} is not a complete version: {', '.join(missing)} is missing")
    rasters = {key: _raster(path) for key, path in present.items() if path.suffix == ".tif"}
    grids = {grid for grid, _ in rasters.values()}
    if len(grids) > 1:
        raise PublicationError(f"the rasters in {folder} have {len(grids)} different grids: make them again")
    files = {
        key: AssetFile(path.name, path.stat().st_size, sha256_of(path), rasters[key][1] if key in rasters else ())
        for key, path in present.items()
    }
    return ProductSet(folder, files, grids.pop())


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def json_bytes(value: object) -> bytes:
    """A JSON document as UTF-8; raises `PublicationError` for NaN, which JSON does not have."""
    try:
        return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
    except ValueError as error:
        raise PublicationError(f"a value cannot be written as JSON: {error}") from error


def _raster(path: Path) -> tuple[Grid, tuple[RasterBand, ...]]:
    try:
        with rasterio.open(path, driver="GTiff") as source:
            if source.crs is None:
                raise PublicationError(f"{path} has no coordinate system")
            a, b, c, d, e, f = (float(value) for value in source.transform[:6])
            grid = Grid(source.crs.to_string(), (a, b, c, d, e, f), (source.height, source.width))
            names = [name or path.stem for name in source.descriptions]
            columns = zip(names, source.dtypes, source.nodatavals, strict=True)
            return grid, tuple(RasterBand(name, str(dtype), nodata) for name, dtype, nodata in columns)
    except RasterioError as error:
        raise PublicationError(f"{path} cannot be read as a GeoTIFF: {error}") from error
