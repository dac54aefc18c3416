"""The images and the elevation model of a simulated region as GeoTIFFs, as a user of `quakeslide map-raster` has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio

from flows.adapt_parent import Rasters
from modeling.simulate import Region, layers_of

AT = rasterio.Affine(10, 0, 600_000, 0, -10, 3_300_000)
"""Where they lie, in `CRS`."""
CRS = "EPSG:32648"
COLOURS = ("blue", "green", "red", "nir")


def write_pair(region: Region, folder: Path, *, apart: bool = False) -> Rasters:
    """`pre.tif` and `post.tif` of four colours, or with `apart` a file for each (`pre_red.tif`), and `dem.tif`."""
    layers, _ = layers_of(region)
    dem = _write(folder / "dem.tif", {"elevation": layers["elevation"]})
    if apart:
        pre, post = (
            tuple(_write(folder / f"{phase}_{c}.tif", {c: layers[f"{c}_{phase}"]}) for c in COLOURS)
            for phase in ("pre", "post")
        )
        return Rasters(pre, post, dem)
    whole = [_write(folder / f"{phase}.tif", {c: layers[f"{c}_{phase}"] for c in COLOURS}) for phase in ("pre", "post")]
    return Rasters((whole[0],), (whole[1],), dem)


def _write(path: Path, bands: dict[str, np.ndarray]) -> Path:
    height, width = next(iter(bands.values())).shape
    profile = {"driver": "GTiff", "count": len(bands), "height": height, "width": width, "dtype": "float32"}
    with rasterio.open(path, "w", **profile, crs=CRS, transform=AT, nodata=np.nan) as file:
        for index, (name, values) in enumerate(bands.items(), start=1):
            file.write(values.astype(np.float32), index)
            file.set_band_description(index, name)
    return path
