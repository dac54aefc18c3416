"""A small plan and pixels known in advance, for tests of the cube."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from pyproj import Transformer

from gee.dem import DemChoice, DemZone
from gee.grid import tiles_over
from gee.masks import CloudScorePlus
from gee.plan import CubePlan, Layer
from gee.sentinel2 import PhaseScenes
from gee.types import Grid, Observed, Scene, Window

WEST, NORTH = 500_000.0, 4_700_000.0
GRID = Grid("EPSG:32654", (10.0, 0.0, WEST, 0.0, -10.0, NORTH), (93, 121))
DEM_ZONE = DemZone("EPSG:4326", (1 / 3600, 0.0, 141.0, 0.0, -1 / 3600, 43.0))
LAYERS = (
    Layer("elevation", 0.5, 0.0, "m"),
    Layer("slope", 0.01, 0.0, "degree"),
    Layer("red_pre", 1e-4, 0.0, "1"),
    Layer("red_post", 1e-4, 0.0, "1"),
)
EVENT = dt.datetime(2018, 9, 5, 18, 7, 59, tzinfo=dt.UTC)


def area_in(grid: Grid, left: float, top: float, right: float, bottom: float) -> shapely.Geometry:
    """The WGS84 area between pixel coordinates of a grid."""
    a, _, c, _, e, f = grid.transform
    box = shapely.segmentize(shapely.box(c + a * left, f + e * bottom, c + a * right, f + e * top), 100)
    back = Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True)
    return shapely.transform(box, lambda xy: np.column_stack(back.transform(*xy.T)))


def scene(index: str, days_after: float) -> Scene:
    return Scene(
        id=f"COPERNICUS/S2_HARMONIZED/{index}",
        time=EVENT + dt.timedelta(days=days_after),
        cloud_percent=12.5,
        bands=("B4",),
        footprint_wkt="POLYGON ((141 42, 142 42, 142 43, 141 42))",
        properties=(("MGRS_TILE", "54TXN"),),
    )


def plan(uri: str, tile_px: int = 50, area: shapely.Geometry | None = None, dem: str = "USGS/SRTMGL1_003") -> CubePlan:
    """A plan over `GRID`, or over the tiles of it that meet `area`."""
    geometry = area if area is not None else area_in(GRID, 0, 0, 121, 93)
    mask = CloudScorePlus(0.6)
    return CubePlan(
        uri=uri,
        grid=GRID,
        tile_px=tile_px,
        tiles=tiles_over(GRID, tile_px, geometry),
        layers=LAYERS,
        expression='{"result":"0","values":{"0":{"constantValue":1}}}',
        pre_scenes=PhaseScenes("pre", (scene("a", -20), scene("b", -10)), mask, ("COPERNICUS/S2_HARMONIZED/x",)),
        post_scenes=PhaseScenes("post", (scene("c", 4),)),
        pre=Window(EVENT - dt.timedelta(days=90), EVENT),
        post=Window(EVENT, EVENT + dt.timedelta(days=60)),
        dem=DemChoice(dem, "elevation", "image", "", (DEM_ZONE,)),
        radar=None,
        radar_why="",
        geometry_wkt=geometry.wkt,
        code_version="0.1.0",
    )


def pixels(grid: Grid) -> dict[str, npt.NDArray[Any]]:
    """Values that depend on the place only: any window of them can be checked. Some are nodata, some without slope."""
    col = round((grid.transform[2] - WEST) / 10) + np.arange(grid.shape_yx[1])
    row = round((NORTH - grid.transform[5]) / 10) + np.arange(grid.shape_yx[0])
    place = (row[:, None] * 1009 + col[None, :] * 7).astype(np.int64)
    clear, no_slope = place % 5 != 0, place % 31 == 0
    known = {
        "elevation": place % 6000 - 3000,
        "slope": np.where(no_slope, -32_768, place % 9000),
        "red_pre": np.where(clear, place % 32_768, -32_768),
        "red_post": np.where(clear, (place * 3) % 32_768, -32_768),
        "observed_pre": np.where(clear, Observed.CLEAR, Observed.CLOUD),
        "observed_post": np.where(clear, Observed.CLEAR, Observed.NO_PASS),
        "date_pre": np.where(clear, 17_000 + place % 90, -1),
        "date_post": np.where(clear, 17_800 + place % 60, -1),
    }
    kinds = {"observed": np.uint8, "date": np.int32}
    return {name: values.astype(kinds.get(name.split("_")[0], np.int16)) for name, values in known.items()}
