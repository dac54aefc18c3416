"""Writes a catalogue folder as the Earth Engine stand-in reads it: tiny GeoTIFFs with a JSON beside each."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.transform import Affine

from gee.types import Grid

NODATA = {"u": 0, "i": -32_768, "f": np.nan}
"""Masked pixels in the files, by the kind of their type."""


class CatalogueWriter:
    """Puts images and collections into `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def image(
        self,
        asset_id: str,
        bands: Mapping[str, npt.NDArray[Any]],
        grid: Grid,
        time: dt.datetime | None = None,
        properties: Mapping[str, Any] | None = None,
        *,
        masked: bool = True,
    ) -> None:
        """One image; `bands` (y, x) of one type, masked where they hold `NODATA` of their kind, unless not `masked`."""
        base = self.root / asset_id
        base.parent.mkdir(parents=True, exist_ok=True)
        stack = np.stack(list(bands.values()))
        profile = {
            "driver": "GTiff",
            "count": stack.shape[0],
            "height": stack.shape[1],
            "width": stack.shape[2],
            "dtype": stack.dtype,
            "crs": grid.crs,
            "transform": Affine(*grid.transform),
            "nodata": NODATA[stack.dtype.kind] if masked else None,
        }
        with rasterio.open(base.with_name(f"{base.name}.tif"), "w", **profile) as file:
            file.write(stack)
        described = {
            "id": asset_id,
            "time_start": time.strftime("%Y-%m-%dT%H:%M:%SZ") if time else None,
            "time_end": None,
            "properties": dict(properties or {}),
            "bands": [
                {"id": name, "file": f"{base.name}.tif", "band": number} for number, name in enumerate(bands, start=1)
            ],
        }
        base.with_name(f"{base.name}.json").write_text(json.dumps(described))

    def collection(self, asset_id: str, properties: Mapping[str, Any] | None = None) -> None:
        """A collection, which stays empty without images."""
        folder = self.root / asset_id
        folder.mkdir(parents=True, exist_ok=True)
        described = {"id": asset_id, "properties": dict(properties or {})}
        (folder / "collection.json").write_text(json.dumps(described))
