"""Data sets to train on: an inventory with rasters, an event or two dates, from Earth Engine or from files, as patches."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyproj
import shapely

from flows import progress
from flows.alignment import AlignedScene, measure_alignment
from flows.area_type import AreaOfInterest, area_from_geometry
from flows.cluster import dask_client, map_unordered, threads_for
from flows.errors import FlowError
from flows.layout import EventLayout
from flows.map_raster import PairScene
from flows.planning import code_version, cube_rules, find_event, plan_scenes
from flows.request import MapRequest
from flows.scene import Scene
from flows.settings import Settings
from flows.usgs import UsgsClient
from gee import pulling
from gee.budget import Budget
from gee.plan import CubePlan, plan_cube
from gee.records import TileRecord
from gee.scenecube import open_cube
from gee.session import Session, SessionConfig, connect
from gee.types import Observed, Window
from modeling.data.dataset import STORED_LAYERS
from modeling.data.patch_build import Cut, NoImagery, build_patches
from modeling.data.patch_store import About, require_free
from modeling.data.patch_truth import Inventory
from modeling.data.patches import PatchSet
from modeling.errors import BandSetError
from modeling.rasters.raster import RasterGrid, SlicesYX
from modeling.rasters.raster_pair import Scaling, open_pair

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class SceneSource:
    """A scene of the pipeline as a source of patches."""

    scene: Scene
    """What is read: the same composite, aligned the same way, as a map is made from."""

    @property
    def grid(self) -> RasterGrid:
        """The grid of everything that is read."""
        own = self.scene.grid
        return RasterGrid(own.crs, own.transform, own.shape_yx)

    @property
    def layer_names(self) -> tuple[str, ...]:
        """The layers there are."""
        return self.scene.layer_names

    def read(self, where: SlicesYX, wanted: Sequence[str]) -> tuple[Mapping[str, FloatArray], BoolArray]:
        """The wanted layers of a window, and where both images were seen clear and all of them are known."""
        block = self.scene.read_tile(*where, layers=tuple(wanted))
        layers = {name: block.layers[name] for name in wanted}
        known = (block.observed == Observed.CLEAR).all(axis=0)
        for layer in layers.values():
            known &= np.isfinite(layer)
        return layers, known


@dataclass(frozen=True)
class Order:
    """What is common to data sets from any imagery."""

    path: Path
    """The folder to write, `NAME.zarr`."""
    inventory: Inventory
    """What is true."""
    domain: str
    """Name of the event in tables."""
    cut: Cut
    """How patches are cut, chosen and split."""
    layers: tuple[str, ...] = ()
    """Which layers to keep; none named: those of the shipped band sets, as far as they are there."""
    licence: str = "unknown"
    """Licence of imagery and inventory."""
    command: str = ""
    """How it is made, for people."""

    def chosen(self, there: Sequence[str]) -> tuple[str, ...]:
        """The layers to keep of those that are there. Raises `BandSetError` naming the ones that are not."""
        if missing := [name for name in self.layers if name not in there]:
            raise BandSetError(f"the layers {', '.join(missing)} are not among {', '.join(there)}")
        usual = tuple(name for name in STORED_LAYERS if name in there)
        return self.layers or usual or tuple(there)

    def built(self, scene: Scene | None, grid: RasterGrid | None, source: str) -> PatchSet:
        """Cut patches from a scene, or on a grid without imagery."""
        source = "; ".join((source, *self.inventory.notes))
        about = About(source=source, licence=self.licence, command=self.command, split="")
        imagery = SceneSource(scene) if scene is not None else NoImagery(_some(grid))
        layers = self.chosen(imagery.layer_names) if scene is not None else ()
        return build_patches(
            self.path, imagery, self.inventory, about, domain=self.domain, layers=layers, cut=self.cut,
            tell=progress.report,
        )  # fmt: skip


def build_from_rasters(
    order: Order, pre: Sequence[Path], post: Sequence[Path], dem: Path | None, *, bands: Sequence[str] | None,
    scale: float | None, settings: Settings,
) -> PatchSet:  # fmt: skip
    """Patches from a pair of rasters, aligned as `map-raster` aligns them."""
    require_free(order.path)
    with open_pair(pre, post, dem, bands=bands, scaling=Scaling(scale=scale)) as pair:
        plain = PairScene(pair)
        scene = AlignedScene(plain, measure_alignment(plain, settings.alignment))
        files = ", ".join(path.name for path in (*pre, *post, *([dem] if dem else ())))
        return order.built(scene, None, "; ".join(filter(None, (f"rasters {files}", pair.note))))


def build_truth_only(order: Order, pixel_m: float) -> PatchSet:
    """Patches of truth and geolocation without imagery, on a UTM grid over the inventory."""
    require_free(order.path)
    return order.built(None, order.inventory.covering_grid(pixel_m), "an inventory without imagery")


def build_from_event(order: Order, request: MapRequest, settings: Settings) -> PatchSet:
    """Patches of the area that was mapped from the composite of an event, as `quakeslide map` makes it.

    The cube stays in the bucket, so that an interrupted call goes on where it stopped. Raises `FlowError` and `GeeError`
    as mapping does.
    """
    require_free(order.path)
    area = area_of(order.inventory)
    with UsgsClient(settings.usgs.url, settings.usgs.timeout_s) as usgs, _session(settings) as session:
        event = find_event(request.model_copy(update={"area_wkt": area.geometry.wkt}), usgs)
        cube, _ = plan_scenes(event, area, settings, session)
    return _from_cube(order, cube, event.id, f"event {event.id} ({event.title})", settings)


def build_from_dates(order: Order, before: dt.datetime, after: dt.datetime, settings: Settings) -> PatchSet:
    """Patches of the area that was mapped from composites up to one date and from another one on.

    The windows are as long as those of an event (`imagery.days_before` and `imagery.days_after`).
    """
    require_free(order.path)
    if before >= after:
        raise FlowError(f"the date before ({before:%Y-%m-%d}) must lie before the date after ({after:%Y-%m-%d})")
    imagery = settings.imagery
    with _session(settings) as session:
        cube = plan_cube(
            session, uri="", geometry=area_of(order.inventory).geometry,
            pre=Window(before - dt.timedelta(days=imagery.days_before), before),
            post=Window(after, after + dt.timedelta(days=imagery.days_after)), rules=cube_rules(settings),
            code_version=code_version(),
        )  # fmt: skip
    words = f"composites up to {before:%Y-%m-%d} and from {after:%Y-%m-%d}"
    return _from_cube(order, cube, order.domain, words, settings)


def area_of(inventory: Inventory) -> AreaOfInterest:
    """The area that an inventory's imagery is wanted for: its extents, or what its landslides span."""
    shown = inventory.extents if len(inventory.extents) else inventory.landslides
    transformer = pyproj.Transformer.from_crs(inventory.crs, "EPSG:4326", always_xy=True)
    degrees = shapely.transform(
        shapely.union_all(shown) if len(inventory.extents) else shapely.box(*shapely.total_bounds(shown)),
        lambda xy: np.column_stack(transformer.transform(xy[:, 0], xy[:, 1])),
    )
    return area_from_geometry(degrees, "what the inventory covers")


def _from_cube(order: Order, draft: CubePlan, event_id: str, source: str, settings: Settings) -> PatchSet:
    """Pull what is missing of a cube and cut patches from it."""
    layout = EventLayout(f"gs://{settings.storage.bucket}", event_id)
    cube = replace(draft, uri=layout.cube(draft.plan_hash))
    config, endpoint, hours = _config(settings), settings.storage.endpoint, settings.earthengine.eecu_hours_per_event
    threads = threads_for(settings.earthengine.max_concurrent_requests)

    def told(done: int, total: int, record: TileRecord) -> None:
        progress.report("pull tiles", done, total, f"{record.pulled_bytes / 1e6:.1f} MB")

    with connect(config), dask_client(settings.dask, threads=threads) as client:
        pulling.pull_cube(
            cube, config, endpoint, budget=Budget(hours) if hours else Budget(),
            spread=partial(map_unordered, client, in_flight=2 * threads), told=told,
        )  # fmt: skip
    plain = open_cube(cube.uri, endpoint)
    scene = AlignedScene(plain, measure_alignment(plain, settings.alignment))
    return order.built(scene, None, f"{source}; scenes {', '.join(cube.scene_ids)}")


def _config(settings: Settings) -> SessionConfig:
    from flows.reaching import session_config

    return session_config(settings)


def _session(settings: Settings) -> Session:
    from flows.reaching import connected

    return connected(settings)


def _some(grid: RasterGrid | None) -> RasterGrid:
    if grid is None:
        raise FlowError("patches without imagery need a grid")
    return grid
