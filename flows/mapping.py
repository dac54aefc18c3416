"""From a scene and a model to the rasters and the inventory of a version.

The scene is anything that can be read in windows: a cube from Earth Engine or a pair of the user's rasters. Nothing
here holds more of it than a row of tiles, except rasters of a few bytes a pixel that are mapped from disk.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import geopandas
import numpy as np
import numpy.typing as npt
import rasterio
import rasterio.features
import shapely
from affine import Affine

from flows.facts import combined_observed
from flows.observed_colours import rgba
from flows.progress import report
from flows.scene import Block, CodeArray, DayArray, FloatArray, Scene, Slices
from flows.scratch import reserve
from flows.settings import ModelSettings
from gee.types import OBSERVED_LABELS, PHASES, Grid, Observed
from modeling.bands import BandSet, band_set
from modeling.cog import Category, CogProfile, CogWriter, class_profile, mask_profile, probability_profile
from modeling.inventory import vectorise, write_inventory
from modeling.model import LandslideModel
from modeling.predict import predict_tiles

WINDOW_PX = 512
"""Side of the windows in which a scene is read for anything but prediction: a block of a COG."""
MASK_NODATA = 255
"""Value of the landslide mask where nothing was observed."""


def seen(block: Block, wanted: BandSet) -> CodeArray:
    """Codes (y, x) of what a network with the band set `wanted` can see: it needs only the phases of its channels."""
    phases = [i for i, phase in enumerate(PHASES) if any(name.endswith(f"_{phase}") for name in wanted.requires)]
    # After the event first: that a slope has not been imaged since is what a responder must know.
    codes = combined_observed(block.observed[sorted(phases, reverse=True)])
    for name in wanted.requires:
        unknown = np.isnan(block.layers[name]) & (codes == Observed.CLEAR)
        optical = name.rpartition("_")[2] in PHASES
        codes[unknown] = Observed.NO_PASS if optical else Observed.NO_TERRAIN
    return codes


def windows(grid: Grid) -> Iterator[Slices]:
    """Windows of at most `WINDOW_PX` squared that cover a grid, row by row."""
    height, width = grid.shape_yx
    for top in range(0, height, WINDOW_PX):
        for left in range(0, width, WINDOW_PX):
            yield slice(top, min(top + WINDOW_PX, height)), slice(left, min(left + WINDOW_PX, width))


def write_probability(scene: Scene, model: LandslideModel, path: Path, settings: ModelSettings) -> None:
    """Map `scene` with `model` into a float32 COG of probabilities in [0, 1], NaN where not observed."""
    wanted = band_set(model.band_set)

    def read(window: Slices) -> tuple[Mapping[str, FloatArray], npt.NDArray[np.bool_]]:
        block = scene.read_tile(*window, layers=wanted.requires)
        return block.layers, seen(block, wanted) == Observed.CLEAR

    tags = {"model": model.name, "weights_sha256": model.weights_hash, "threshold": f"{model.threshold:.4f}"}
    profile = probability_profile(scene.grid.crs, scene.grid.affine, scene.grid.shape_yx, tags)
    with CogWriter(path, profile) as writer:
        predict_tiles(
            model, read, scene.grid.shape_yx, writer.write, tile_px=settings.tile_px, halo_px=settings.halo_px,
            progress=lambda done, total: report("map tiles", done, total),
        )  # fmt: skip


@dataclass(frozen=True)
class Sides:
    """What the inventory needs of every pixel, mapped from disk; arrays are (y, x)."""

    probability: FloatArray
    """In [0, 1], NaN where not observed."""
    observed: CodeArray
    """Codes of `gee.types.Observed`, combined over the phases."""
    slope_deg: FloatArray
    """Slope in degrees."""
    elevation_m: FloatArray
    """Elevation in metres."""
    pre_days: DayArray
    """Acquisition before, days since 1970-01-01, -1 where there is none."""
    post_days: DayArray
    """Acquisition after, likewise."""
    counts: Mapping[int, int]
    """Pixels of each combined code."""


def write_observed(scene: Scene, wanted: BandSet, probability: Path, path: Path, scratch: Path) -> Sides:
    """Write the COG of what was observed and why the rest was not, and collect what the inventory needs in `scratch`."""
    shape = scene.grid.shape_yx

    def mapped(name: str, dtype: npt.DTypeLike) -> npt.NDArray[np.generic]:
        path = scratch / f"{name}.npy"
        array: npt.NDArray[np.generic] = np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=shape)
        reserve(path)
        return array

    arrays = {
        "probability": mapped("probability", np.float32), "observed": mapped("observed", np.uint8),
        "slope_deg": mapped("slope", np.float32), "elevation_m": mapped("elevation", np.float32),
        "pre_days": mapped("pre", np.int32), "post_days": mapped("post", np.int32),
    }  # fmt: skip
    counts: Counter[int] = Counter()
    needed = tuple(dict.fromkeys((*wanted.requires, "slope", "elevation")))
    every = list(windows(scene.grid))
    with (
        rasterio.open(probability) as source,
        CogWriter(path, _observed_profile(scene.grid)) as writer,
    ):
        for done, window in enumerate(every, start=1):
            block = scene.read_tile(*window, layers=needed)
            codes = seen(block, wanted)
            writer.write(window, codes)
            values, occurrences = np.unique(codes, return_counts=True)
            counts.update(dict(zip(values.tolist(), occurrences.tolist(), strict=True)))
            arrays["probability"][window] = source.read(1, window=rasterio.windows.Window.from_slices(*window))
            arrays["observed"][window] = codes
            arrays["slope_deg"][window], arrays["elevation_m"][window] = (
                block.layers["slope"],
                block.layers["elevation"],
            )
            arrays["pre_days"][window], arrays["post_days"][window] = block.date
            report("what was observed", done, len(every))
    return Sides(**arrays, counts=dict(counts))  # type: ignore[arg-type]


def make_inventory(
    sides: Sides, grid: Grid, model: LandslideModel, settings: ModelSettings, *, event_id: str, run_key: str
) -> geopandas.GeoDataFrame:
    """The landslide polygons of a map, largest first; schema-complete when there are none."""
    return vectorise(
        sides.probability, threshold=model.threshold, transform=grid.affine, crs=grid.crs, slope_deg=sides.slope_deg,
        elevation_m=sides.elevation_m, post_date_days=sides.post_days, pre_date_days=sides.pre_days,
        observed=sides.observed, event_id=event_id, version=run_key, minimum_area_m2=settings.minimum_area_m2,
        model=model.weights_hash,
    )  # fmt: skip


def write_mask(inventory: geopandas.GeoDataFrame, sides: Sides, grid: Grid, path: Path) -> None:
    """Write the COG of the inventory's polygons: 1 landslide, 0 none seen, 255 not observed."""
    with CogWriter(path, mask_profile(grid.crs, grid.affine, grid.shape_yx)) as writer:
        for window in windows(grid):
            writer.write(window, inventory_mask(inventory, sides, grid, window))


def inventory_mask(inventory: geopandas.GeoDataFrame, sides: Sides, grid: Grid, window: Slices) -> CodeArray:
    """The mask of one window, (y, x): polygons run along pixel edges, so burning them gives back exactly their pixels."""
    rows, columns = window
    transform = grid.affine @ Affine.translation(columns.start, rows.start)
    shape = (rows.stop - rows.start, columns.stop - columns.start)
    left, top = transform @ (0, 0)
    right, bottom = transform @ (shape[1], shape[0])
    near = (
        inventory.geometry.iloc[inventory.sindex.query(shapely.box(left, bottom, right, top))] if len(inventory) else ()
    )
    mask = (
        rasterio.features.rasterize(near, out_shape=shape, transform=transform, fill=0, default_value=1, dtype="uint8")
        if len(near)
        else np.zeros(shape, np.uint8)
    )
    mask[sides.observed[window] != Observed.CLEAR] = MASK_NODATA
    return mask


def write_layers(inventory: geopandas.GeoDataFrame, folder: Path) -> None:
    """Write the inventory as GeoPackage, GeoParquet and GeoJSON."""
    write_inventory(inventory, folder, "landslides")


def _observed_profile(grid: Grid) -> CogProfile:
    """What was observed: the codes of `gee.types.Observed`, 255 (nodata) outside the area."""
    categories = {int(c): Category(OBSERVED_LABELS[c], rgba(c)) for c in Observed if c != Observed.OUTSIDE}
    return class_profile(grid.crs, grid.affine, grid.shape_yx, ("observed",), categories)
