"""What a cube will hold, decided before a pixel is pulled: a plan is data, and its hash is the cube's identity."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import ee
import shapely
from shapely.geometry.base import BaseGeometry

from gee.catalog import DemChoice, choose_dem, find_scenes, scored_scenes
from gee.errors import CubeError
from gee.grid import grid_for, request_bytes, tiles, tiles_over
from gee.sentinel2 import DN_PER_REFLECTANCE, Mask, PhaseScenes, common_colours, phase_image, phase_scenes
from gee.session import Session
from gee.terrain import LAYERS, terrain_image
from gee.types import PHASES, Grid, Scene, Tile, Window

FORMAT = 1
"""Version of the plan's JSON and of the cube's layout."""


@dataclass(frozen=True)
class Layer:
    """One band of the cube's `stack`: value = stored * scale + offset."""

    name: str
    """Layer name, also the band name of the expression."""
    scale: float
    """Size of a step."""
    offset: float
    """Value of the stored 0."""
    units: str
    """Units of the value, `1` for none."""


@dataclass(frozen=True)
class CubePlan:
    """Everything that determines a cube, and where it goes. Picklable, and the same after a round trip by JSON."""

    uri: str
    """Where the Zarr store goes: `gs://...zarr` or a local path."""
    grid: Grid
    """The whole grid."""
    tile_px: int
    """Side of a tile, which is also a chunk."""
    tiles: tuple[Tile, ...]
    """The tiles that meet the area, and are pulled; the others stay `Observed.OUTSIDE`."""
    layers: tuple[Layer, ...]
    """The bands of `stack`, in order."""
    expression: str
    """The serialised Earth Engine expression (JSON) with a band for each layer, `observed_*` and `date_*`."""
    pre_scenes: PhaseScenes
    """Scenes and mask rule before the event."""
    post_scenes: PhaseScenes
    """Scenes and mask rule after the event."""
    pre: Window
    """The window before that was searched."""
    post: Window
    """The window after that was searched."""
    dem: DemChoice
    """The elevation model."""
    geometry_wkt: str
    """The area of interest, WGS84."""
    code_version: str
    """Version of the program that made the plan; for the record, not part of the identity."""

    def __post_init__(self) -> None:
        """A tile that is no tile of the grid would share a chunk with another writer."""
        lattice = {tile.name: tile for tile in tiles(self.grid, self.tile_px)}
        if len({tile.name for tile in self.tiles}) != len(self.tiles):
            raise CubeError(f"the plan for {self.uri} holds a tile twice: two writers would share a chunk")
        for tile in self.tiles:
            if lattice.get(tile.name) != tile:
                raise CubeError(f"tile {tile} is no chunk of the cube {self.uri}: two writers would share a chunk")

    @property
    def scenes(self) -> tuple[PhaseScenes, PhaseScenes]:
        """Both phases, in the order of the cube's `phase` axis."""
        return self.pre_scenes, self.post_scenes

    @property
    def mask_rule(self) -> str:
        """What decided that a pixel is clear, in words."""
        return "; ".join(phase.rule for phase in self.scenes)

    @cached_property
    def geometry(self) -> BaseGeometry:
        """The area of interest, WGS84."""
        return shapely.from_wkt(self.geometry_wkt)

    @property
    def request_bands(self) -> dict[str, str]:
        """The bands of a request and their types."""
        return {
            **{layer.name: "int16" for layer in self.layers},
            **{f"observed_{phase}": "uint8" for phase in PHASES},
            **{f"date_{phase}": "int32" for phase in PHASES},
        }

    def request_bytes(self, tile: Tile) -> int:
        """What the request for a tile counts against Earth Engine's limit."""
        return request_bytes(tile.shape_yx, self.request_bands.values())

    @property
    def total_request_bytes(self) -> int:
        """All tiles together."""
        return sum(self.request_bytes(tile) for tile in self.tiles)

    def tile(self, name: str) -> Tile:
        """The tile called `name`; raises `CubeError` when the plan has none."""
        for tile in self.tiles:
            if tile.name == name:
                return tile
        raise CubeError(f"the plan for {self.uri} has no tile {name}")

    @cached_property
    def plan_hash(self) -> str:
        """Sha256 of what determines the content: neither the address nor the program's version."""
        identity = {key: value for key, value in _to_dict(self).items() if key not in {"uri", "code_version"}}
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> str:
        """As JSON text; `from_json` reads it back to an equal plan."""
        return json.dumps(_to_dict(self), indent=1, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> CubePlan:
        """The inverse of `to_json`; raises `CubeError` when the text is no plan of this version."""
        try:
            return _from_dict(json.loads(text))
        except (KeyError, TypeError, ValueError) as error:
            raise CubeError(f"not a cube plan of format {FORMAT}: {type(error).__name__} {error}") from None


def make_plan(
    *,
    uri: str,
    geometry: BaseGeometry,
    pixel_m: float,
    tile_px: int,
    pre: Window,
    post: Window,
    pre_scenes: PhaseScenes,
    post_scenes: PhaseScenes,
    dem: DemChoice,
    code_version: str,
) -> CubePlan:
    """The plan of a cube from what was found for it. Needs `ee` initialised (`open_session`), asks nothing.

    The cube holds the terrain layers and the colours that all scenes of both phases have.
    Raises `GridError` for an area that fits no grid, `CubeError` when the scenes have no colour in common.
    """
    colours = common_colours([*pre_scenes.scenes, *post_scenes.scenes])
    if not colours:
        raise CubeError("the scenes before and after have no band in common: choose another collection")
    image = terrain_image(dem, geometry)
    for phase in (pre_scenes, post_scenes):
        image = image.addBands(phase_image(phase, colours))
    expression = ee.serializer.encode(image, for_cloud_api=True)
    grid = grid_for(geometry, pixel_m)
    reflectance = [
        Layer(f"{colour}_{phase}", 1 / DN_PER_REFLECTANCE, 0.0, "1") for phase in PHASES for colour in colours
    ]
    return CubePlan(
        uri=uri,
        grid=grid,
        tile_px=tile_px,
        tiles=tiles_over(grid, tile_px, geometry),
        layers=(*(Layer(name, kind.scale, 0.0, kind.units) for name, kind in LAYERS.items()), *reflectance),
        expression=json.dumps(expression, sort_keys=True, separators=(",", ":")),
        pre_scenes=pre_scenes,
        post_scenes=post_scenes,
        pre=pre,
        post=post,
        dem=dem,
        geometry_wkt=geometry.wkt,
        code_version=code_version,
    )


def plan_cube(
    session: Session,
    *,
    uri: str,
    geometry: BaseGeometry,
    pre: Window,
    post: Window,
    collections: Sequence[str],
    cloud_score: str,
    cloud_score_threshold: float,
    dems: Sequence[str],
    code_version: str,
    maximum_cloud_percent: float = 100.0,
    pixel_m: float = 10.0,
    tile_px: int = 512,
) -> CubePlan:
    """Search scenes, cloud scores and an elevation model for an area (WGS84), and plan its cube.

    Raises `NoScenesError` when no collection has scenes in both windows, `PermanentError` without an elevation model.
    """
    found = find_scenes(session, collections, geometry, pre, post, maximum_cloud_percent=maximum_cloud_percent)
    scored = scored_scenes(session, cloud_score, [*found.pre, *found.post])
    mask = Mask(cloud_score, cloud_score_threshold) if cloud_score else None
    return make_plan(
        uri=uri,
        geometry=geometry,
        pixel_m=pixel_m,
        tile_px=tile_px,
        pre=pre,
        post=post,
        pre_scenes=phase_scenes("pre", found.pre, scored, mask),
        post_scenes=phase_scenes("post", found.post, scored, mask),
        dem=choose_dem(session, dems, geometry),
        code_version=code_version,
    )


def _to_dict(plan: CubePlan) -> dict[str, Any]:
    def phase(scenes: PhaseScenes) -> dict[str, Any]:
        as_json = [
            {**asdict(scene), "time": scene.time.isoformat(), "properties": dict(scene.properties)}
            for scene in scenes.scenes
        ]
        return {**asdict(scenes), "scenes": as_json}

    return {
        "format": FORMAT,
        "uri": plan.uri,
        "grid": plan.grid.to_dict(),
        "tile_px": plan.tile_px,
        "tiles": [tile.name for tile in plan.tiles],
        "layers": [asdict(layer) for layer in plan.layers],
        "expression": json.loads(plan.expression),
        "pre_scenes": phase(plan.pre_scenes),
        "post_scenes": phase(plan.post_scenes),
        "pre": [plan.pre.start.isoformat(), plan.pre.end.isoformat()],
        "post": [plan.post.start.isoformat(), plan.post.end.isoformat()],
        "dem": asdict(plan.dem),
        "geometry_wkt": plan.geometry_wkt,
        "code_version": plan.code_version,
    }


def _from_dict(value: Mapping[str, Any]) -> CubePlan:
    if value["format"] != FORMAT:
        raise ValueError(f"format {value['format']}")
    grid, tile_px = Grid.from_dict(value["grid"]), int(value["tile_px"])
    lattice = {tile.name: tile for tile in tiles(grid, tile_px)}

    def window(times: Sequence[str]) -> Window:
        start, end = (dt.datetime.fromisoformat(time) for time in times)
        return Window(start, end)

    def phase(scenes: Mapping[str, Any]) -> PhaseScenes:
        read = tuple(
            Scene(
                id=scene["id"],
                time=dt.datetime.fromisoformat(scene["time"]),
                cloud_percent=scene["cloud_percent"],
                bands=tuple(scene["bands"]),
                footprint_wkt=scene["footprint_wkt"],
                properties=tuple(scene["properties"].items()),
            )
            for scene in scenes["scenes"]
        )
        mask = Mask(**scenes["mask"]) if scenes["mask"] else None
        return PhaseScenes(scenes["phase"], read, mask, tuple(scenes["left_out"]))

    return CubePlan(
        uri=value["uri"],
        grid=grid,
        tile_px=tile_px,
        tiles=tuple(lattice[name] for name in value["tiles"]),
        layers=tuple(Layer(**layer) for layer in value["layers"]),
        expression=json.dumps(value["expression"], sort_keys=True, separators=(",", ":")),
        pre_scenes=phase(value["pre_scenes"]),
        post_scenes=phase(value["post_scenes"]),
        pre=window(value["pre"]),
        post=window(value["post"]),
        dem=DemChoice(**value["dem"]),
        geometry_wkt=value["geometry_wkt"],
        code_version=value["code_version"],
    )
