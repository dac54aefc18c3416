"""How a cube lies in its store: the Zarr v3 metadata, the coordinates, and the keys of the records beside it."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from pyproj import CRS
from zarr.codecs import BloscCodec, Crc32cCodec

from gee.chunks import ARRAYS, BLOCK_BYTES, COMPRESSION_LEVEL, STACK, ArrayLayout
from gee.errors import CubeError
from gee.grid import pixel_centres
from gee.plan import FORMAT, CubePlan
from gee.types import OBSERVED_LABELS, PHASES, Grid, Tile

SUFFIX = ".zarr"
"""How the address of every cube ends."""


@dataclass(frozen=True)
class CubePlace:
    """Where the parts of a cube lie: below `parent`, the Zarr store and beside it the records that make it whole.

    The records are no part of the Zarr hierarchy: a reader that lists it would stumble over them.
    """

    parent: str
    """Address of the folder that holds everything."""
    name: str
    """Name of the cube without `.zarr`."""

    @classmethod
    def of(cls, uri: str) -> CubePlace:
        """The place of the cube at `uri`; raises `CubeError` when the address does not end in `/NAME.zarr`.

        A path on this disk may be relative to the working folder.
        """
        address = uri.rstrip("/")
        parent, _, last = (address if "://" in address else os.path.abspath(address)).rpartition("/")  # noqa: PTH100
        if not parent or not last.endswith(SUFFIX) or last == SUFFIX:
            raise CubeError(f"{uri!r} is no address of a cube: it should end in /NAME{SUFFIX}")
        return cls(parent, last.removesuffix(SUFFIX))

    @property
    def plan(self) -> str:
        """Key of the plan: written when the store is ready for tiles."""
        return f"{self.name}.plan.json"

    @property
    def manifest(self) -> str:
        """Key of the manifest: written last; without it the cube is incomplete."""
        return f"{self.name}.manifest.json"

    @property
    def records(self) -> str:
        """Prefix of the tiles' records."""
        return f"{self.name}.tiles"

    def record(self, tile_name: str) -> str:
        """Key of the record that a tile has arrived."""
        return f"{self.records}/{tile_name}.json"

    def seen(self, tile_name: str) -> str:
        """Key of what was seen of a tile before it was cut to the area, for tiles that its edge runs through."""
        return f"{self.name}.seen/{tile_name}"

    def chunk(self, layout: ArrayLayout, tile: Tile) -> str:
        """Key of a chunk."""
        return f"{self.name}{SUFFIX}/{layout.key(tile)}"

    def metadata(self, key: str) -> str:
        """Key of a file of the Zarr store."""
        return f"{self.name}{SUFFIX}/{key}"


def first_axis(layout: ArrayLayout, plan: CubePlan) -> int:
    """Length of an array's first axis."""
    return len(plan.layers) if layout is STACK else len(PHASES)


def tile_bytes(plan: CubePlan) -> int:
    """What a decoded tile takes."""
    return plan.tile_px**2 * sum(first_axis(layout, plan) * layout.stored.itemsize for layout in ARRAYS)


def zarr_skeleton(plan: CubePlan) -> dict[str, bytes]:
    """The files of an empty cube, key -> bytes: all metadata and coordinates, no chunk. The group's own comes last.

    It repeats the others' metadata, so that a reader opens the store by one request; they never change.
    """
    with tempfile.TemporaryDirectory() as folder:
        empty_cube(plan).to_zarr(
            folder, mode="w", compute=False, consolidated=False, zarr_format=3, encoding=_encoding(plan)
        )
        root = Path(folder)
        files = {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    group = json.loads(files.pop("zarr.json"))
    arrays = {key.rpartition("/")[0]: json.loads(body) for key, body in files.items() if key.endswith("/zarr.json")}
    group["consolidated_metadata"] = {"kind": "inline", "must_understand": False, "metadata": arrays}
    files["zarr.json"] = json.dumps(group, indent=2).encode()
    return files


def empty_cube(plan: CubePlan) -> xr.Dataset:
    """The cube as a lazy data set without values: dimensions, coordinates and attributes."""
    variables = {}
    for layout in ARRAYS:
        shape = (first_axis(layout, plan), *plan.grid.shape_yx)
        chunks = (shape[0], plan.tile_px, plan.tile_px)
        blank = da.full(shape, layout.fill, chunks=chunks, dtype=layout.dtype)  # type: ignore[no-untyped-call]
        variables[layout.name] = (layout.dimensions, blank, {"grid_mapping": "spatial_ref", **_about(layout)})
    return xr.Dataset(variables, _coordinates(plan), _attributes(plan))


def _coordinates(plan: CubePlan) -> dict[str, Any]:
    x, y = pixel_centres(plan.grid)

    def text(values: list[str]) -> Any:
        return np.array(values, dtype=object)  # Zarr v3 has a stable form for variable-length text only

    return {
        "band": ("band", text([layer.name for layer in plan.layers])),
        "phase": ("phase", text(list(PHASES))),
        "y": ("y", y, {"standard_name": "projection_y_coordinate", "units": "m", "axis": "Y"}),
        "x": ("x", x, {"standard_name": "projection_x_coordinate", "units": "m", "axis": "X"}),
        "scale": ("band", np.array([layer.scale for layer in plan.layers])),
        "offset": ("band", np.array([layer.offset for layer in plan.layers])),
        "units": ("band", text([layer.units for layer in plan.layers])),
        "spatial_ref": ((), np.int64(0), crs_attributes(plan.grid)),
    }


def crs_attributes(grid: Grid) -> dict[str, Any]:
    """The CRS and the transform as CF (`crs_wkt`) and GDAL (`spatial_ref`, `GeoTransform`) write them."""
    a, b, c, d, e, f = grid.transform
    cf = CRS.from_user_input(grid.crs).to_cf()
    return {**cf, "spatial_ref": cf["crs_wkt"], "GeoTransform": f"{c!r} {a!r} {b!r} {f!r} {d!r} {e!r}"}


def _about(layout: ArrayLayout) -> dict[str, Any]:
    if layout is STACK:
        about = "value = stored * scale + offset, by band"
        return {"long_name": "layers before and after the event", "comment": about, "_FillValue": layout.fill}
    if layout.name == "observed":
        codes = sorted(OBSERVED_LABELS)
        meanings = " ".join(OBSERVED_LABELS[code].replace(" ", "_") for code in codes)
        return {"long_name": "why a pixel was or was not seen", "flag_values": codes, "flag_meanings": meanings}
    return {"long_name": "day of the observation", "comment": "days since 1970-01-01, -1 for none"}


def _attributes(plan: CubePlan) -> dict[str, Any]:
    return {
        "Conventions": "CF-1.10",
        "quakeslide_format": FORMAT,
        "plan_hash": plan.plan_hash,
        "code_version": plan.code_version,
        "mask_rule": plan.mask_rule,
        "elevation_model": plan.dem.id,
        "scenes_pre": [scene.id for scene in plan.pre_scenes.scenes],
        "scenes_post": [scene.id for scene in plan.post_scenes.scenes],
        "window_pre": [plan.pre.start.isoformat(), plan.pre.end.isoformat()],
        "window_post": [plan.post.start.isoformat(), plan.post.end.isoformat()],
        "simulated": any(
            dict(scene.properties).get("quakeslide:simulated") for phase in plan.scenes for scene in phase.scenes
        ),
    }


def _encoding(plan: CubePlan) -> Mapping[str, Mapping[str, Any]]:
    coordinates = {name: {"compressors": [Crc32cCodec()]} for name in _coordinates(plan)}
    arrays = {
        layout.name: {
            "chunks": (first_axis(layout, plan), plan.tile_px, plan.tile_px),
            "compressors": [
                BloscCodec(
                    typesize=np.dtype(layout.dtype).itemsize,
                    cname="zstd",
                    clevel=COMPRESSION_LEVEL,
                    shuffle="bitshuffle",
                    blocksize=BLOCK_BYTES,
                ),
                Crc32cCodec(),
            ],
            "fill_value": layout.fill,
        }
        for layout in ARRAYS
    }
    return coordinates | arrays
