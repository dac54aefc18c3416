"""From a scene and a model to the rasters and the inventory of a version.

The scene is anything that can be read in windows: a cube from Earth Engine or a pair of the user's rasters. Nothing
here holds more of it than a row of tiles, and of the landslides their outlines.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import numpy.typing as npt
import rasterio
import shapely
from affine import Affine
from rasterio.windows import Window

from flows.facts import combined_observed
from flows.geology import MapRules, SceneBefore, mapped_before
from flows.layout import PRODUCTS
from flows.observed_colours import rgba
from flows.progress import report
from flows.remap import Again
from flows.scene import Block, CodeArray, DayArray, FloatArray, Scene, Slices
from flows.serving import map_on_cluster, network_workers, on_network_worker
from flows.settings import ModelSettings
from gee.types import OBSERVED_LABELS, PHASES, Grid, Observed
from modeling.bands import BandSet
from modeling.geology.inventories import Judged, judged, write_dropped
from modeling.model import LandslideModel
from modeling.prediction.inference import Execution, choose, prepare
from modeling.prediction.predict import predict_tiles
from modeling.rasters.cog import Category, CogProfile, CogWriter, class_profile, mask_profile, probability_profile
from modeling.vectors.burn import burn
from modeling.vectors.inventory import InventoryMaker
from modeling.vectors.inventory_files import write_inventory

log = logging.getLogger(__name__)

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


@dataclass(frozen=True)
class NetworkReader:
    """Reads what a network needs of a scene: a `modeling.prediction.predict.TileReader` that can travel to a worker."""

    scene: Scene
    """What is read."""
    bands: BandSet
    """What the network sees."""

    def __call__(self, window: Slices) -> tuple[Mapping[str, FloatArray], npt.NDArray[np.bool_]]:
        """The layers of a window, and where all of them are known and clear."""
        block = self.scene.read_tile(*window, layers=self.bands.requires)
        return block.layers, seen(block, self.bands) == Observed.CLEAR


def execution_for(model: LandslideModel, settings: ModelSettings, pixels: int | None = None) -> Execution:
    """How this machine maps a scene of so many `pixels` with these settings."""
    return choose(
        model, device=settings.device, precision=settings.precision, tile_px=settings.tile_px,
        halo_px=settings.halo_px,
        memory_bytes=None if settings.memory_mb is None else settings.memory_mb * 10**6, symmetries=settings.symmetries,
        compiled=settings.compiled, pixels=pixels,
    )  # fmt: skip


def execution_on(client: Any, model: LandslideModel, settings: ModelSettings, pixels: int | None = None) -> Execution:
    """As `execution_for`, asked of a worker that runs networks: its device and memory count, not this machine's.

    Raises `ServiceError` when there is no such worker for `settings.network_wait_s`.
    """
    chosen = on_network_worker(client, execution_for, model, settings, pixels, wait_s=settings.network_wait_s)
    log.info("the workers that run the network map in %s", chosen)
    # One of the largest tiles keeps a GPU busy, and its worker holds what waits: tiles go together only where something
    # makes them smaller (`Again.execution`).
    return replace(chosen, batch=1)


def write_probability(
    scene: Scene, model: LandslideModel, path: Path, settings: ModelSettings, client: Any = None,
    again: Again | None = None, *, served: bool = False,
) -> None:  # fmt: skip
    """Map `scene` with `model` into a float32 COG of probabilities in [0, 1], NaN where not observed.

    With the `client` of a Dask cluster that has workers for networks (`flows.serving`) they do it, and as it suits them;
    else this process. `served` says that such workers were asked for: then the first is waited for. With `again` what an
    earlier version has mapped of unchanged ground is taken from it.
    """
    grid = scene.grid
    pixels = math.prod(grid.shape_yx)
    served = client is not None and (served or network_workers(client) > 0)
    execution = execution_on(client, model, settings, pixels) if served else execution_for(model, settings, pixels)
    if again is not None:
        execution = again.execution(execution, settings.tile_px)
    tags = {
        "model": model.name,
        "weights_sha256": model.weights_hash,
        "threshold": f"{model.threshold:.4f}",
        "computed_in": str(execution),
    }
    tiles, kept = (None, None) if again is None else again.kept(model, execution)
    tags |= {} if again is None else again.tags(model, kept)
    read = NetworkReader(scene, model.bands)
    told = partial(report, "map tiles")
    with CogWriter(path, probability_profile(grid.crs, grid.affine, grid.shape_yx, tags)) as writer:
        write, wanted = (writer.write, None) if kept is None else (kept.writer(writer.write), kept.wanted)
        if served:
            map_on_cluster(
                client, model, execution, read, grid.shape_yx, write, progress=told, tiles=tiles, wanted=wanted,
                wait_s=settings.network_wait_s,
            )  # fmt: skip
        else:
            predict_tiles(
                prepare(model, execution), read, grid.shape_yx, write, tile_px=execution.tile_px,
                halo_px=execution.halo_px, batch=execution.batch, lanes=execution.lanes, progress=told, tiles=tiles,
                wanted=wanted,
            )  # fmt: skip


@dataclass(frozen=True)
class Sides:
    """What is told of a map beside its probability."""

    observed: Path
    """The COG of codes of `gee.types.Observed`, combined over the phases."""
    counts: Mapping[int, int]
    """Pixels of each combined code."""
    days: Mapping[str, tuple[int, int]]
    """First and last acquisition of each phase in the pixels that were observed, days since 1970-01-01; phases without
    one are not there."""

    def codes(self, window: Slices) -> CodeArray:
        """The codes of one window, (y, x)."""
        with rasterio.open(self.observed, driver="GTiff") as file:
            codes: CodeArray = file.read(1, window=Window.from_slices(*window))
        return codes


def survey(
    scene: Scene,
    model: LandslideModel,
    probability: Path,
    path: Path,
    settings: ModelSettings,
    *,
    event_id: str,
    run_key: str,
    rules: MapRules,
    before: Path | None = None,
) -> tuple[Sides, Judged]:
    """Read the scene beside its `probability`: write the COG of what was observed, and why the rest was not, to `path`,
    and make the inventory of landslides, largest first, schema-complete when there are none, and what `rules` dropped.

    `before` is the raster of probabilities of the image before, for networks of one date: what it maps is subtracted.
    """
    grid, wanted = scene.grid, model.bands
    counts: Counter[int] = Counter()
    days: dict[str, tuple[int, int]] = {}
    needed = tuple(dict.fromkeys((*wanted.requires, "slope", "elevation")))
    every = list(windows(grid))
    maker, already = (
        InventoryMaker(
            grid.shape_yx, threshold=model.threshold, transform=grid.affine, crs=grid.crs,
            minimum_area_m2=settings.minimum_area_m2 if rules.forgets_small else 0.0,
        )
        for _ in range(2)
    )  # fmt: skip
    with rasterio.open(probability, driver="GTiff") as source, CogWriter(path, _observed_profile(grid)) as writer:
        for done, window in enumerate(every, start=1):
            block = scene.read_tile(*window, layers=needed)
            codes = seen(block, wanted)
            writer.write(window, codes)
            counts.update(_occurrences(codes))
            for phase, dates in zip(PHASES, block.date, strict=True):
                _extend(days, phase, dates[codes == Observed.CLEAR])
            told: dict[str, Any] = {
                "slope_deg": block.layers["slope"], "elevation_m": block.layers["elevation"],
                "pre_date_days": block.date[0], "post_date_days": block.date[1], "observed": codes,
            }  # fmt: skip
            after = source.read(1, window=Window.from_slices(*window))
            if before is not None:
                there = mapped_before(before, model.threshold, window, grid.shape_yx)
                already.add(window, np.where(there, after, np.float32(np.nan)), **told)
                after[there] = np.nan
            maker.add(window, after, **told)
            report("what was observed", done, len(every))
    names = {"event_id": event_id, "version": run_key, "model": model.weights_hash}
    subtracted = already.finish(**names) if before is not None else None
    return Sides(path, dict(counts), days), judged(maker.finish(**names), rules.rules, subtracted)


def _occurrences(codes: CodeArray) -> Mapping[int, int]:
    return {code: int(number) for code, number in enumerate(np.bincount(codes.reshape(-1))) if number}


def _extend(days: dict[str, tuple[int, int]], phase: str, dates: DayArray) -> None:
    known = dates[dates >= 0]
    if known.size:
        first, last = days.get(phase, (int(known[0]), int(known[0])))
        days[phase] = min(first, int(known.min())), max(last, int(known.max()))


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
    near = inventory.geometry.iloc[inventory.sindex.query(shapely.box(left, bottom, right, top))]
    mask = burn(np.asarray(near, object), shape, transform).astype(np.uint8)
    mask[sides.codes(window) != Observed.CLEAR] = MASK_NODATA
    return mask


def surveyed(
    scene: Scene, before: SceneBefore | None, model: LandslideModel, rules: MapRules, folder: Path,
    settings: ModelSettings, *, event_id: str, run_key: str, before_model: LandslideModel | None = None,
) -> tuple[Sides, Judged]:  # fmt: skip
    """`survey` in `folder`, which holds probability.tif; the scene `before`, if there is one, is mapped for it first, by
    `before_model` where that scene has a network of its own.
    """
    subtracted = None if before is None else folder / "before.tif"
    if before is not None and subtracted is not None:
        write_probability(before, before_model or model, subtracted, settings)
    return survey(
        scene, model, folder / "probability.tif", folder / "observed.tif", settings, event_id=event_id, run_key=run_key,
        rules=rules, before=subtracted,
    )  # fmt: skip


def write_layers(found: Judged, rules: MapRules, folder: Path) -> None:
    """Write the inventory as GeoPackage, GeoParquet and GeoJSON, and with rules what they dropped as GeoPackage."""
    write_inventory(found.kept, folder, "landslides")
    if rules.name != "none":
        write_dropped(found.dropped, folder / PRODUCTS["dropped"].filename)


def _observed_profile(grid: Grid) -> CogProfile:
    """What was observed: the codes of `gee.types.Observed`, 255 (nodata) outside the area."""
    categories = {int(c): Category(OBSERVED_LABELS[c], rgba(c)) for c in Observed if c != Observed.OUTSIDE}
    return class_profile(grid.crs, grid.affine, grid.shape_yx, ("observed",), categories)
