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

from gee.catalog import find_scenes
from gee.dem import DemChoice, choose_dem, elevation_image
from gee.errors import CubeError, NoScenesError
from gee.grid import grid_for, request_bytes, tiles, tiles_over
from gee.phases import ImageryChoice, choose_phases
from gee.sentinel1 import RADAR_LAYERS, RadarPair, find_radar_pair, radar_image
from gee.sentinel2 import DN_PER_REFLECTANCE, PhaseScenes, common_colours, event_image
from gee.session import Session
from gee.terrain import DEFAULT_LAYERS, LAYERS, check_layers, terrain_image
from gee.terrain import Layer as TerrainName
from gee.types import PHASES, Grid, Tile, Window

FORMAT = 2
"""Version of the plan's JSON, of the cube's layout, and of how a tile's arrays are made of the pixels that Earth Engine
gives: raise it when one of them changes, and no tile of an earlier cube is taken over (`gee.reuse`)."""


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
    radar: RadarPair | None
    """The Sentinel-1 acquisitions behind the radar layers; None without them."""
    radar_why: str
    """Why there are no radar layers though they were wanted; empty otherwise."""
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

    @property
    def scene_ids(self) -> tuple[str, ...]:
        """Every image that goes into the cube, the elevation model last."""
        optical = [scene.id for phase in self.scenes for scene in phase.scenes]
        return (*optical, *(self.radar.scene_ids if self.radar else ()), self.dem.id)

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


@dataclass(frozen=True)
class CubeRules:
    """What a cube should be made of, whatever the event: the choices of the settings."""

    collections: tuple[str, ...]
    """Sentinel-2 collections; the first with scenes in both windows is used."""
    imagery: ImageryChoice
    """Cloud masks, further reasons and composites."""
    dems: tuple[str, ...]
    """Elevation models (names of `gee.dem` or asset ids); the first that covers the area is used."""
    maximum_cloud_percent: float = 100.0
    """Scenes cloudier than this are not used."""
    terrain: tuple[str, ...] = DEFAULT_LAYERS
    """Terrain layers, names of `gee.terrain.LAYERS`."""
    radar: bool = False
    """Whether the change of Sentinel-1 backscatter is added."""
    pixel_m: float = 10.0
    """Pixel size in metres."""
    tile_px: int = 512
    """Side of a tile and of a chunk in pixels."""
    lattice: bool = False
    """Whether the tiles are those of one lattice for all areas of a zone, so that a grown area shares them
    (`gee.reuse`); else the grid is as tight as can be."""


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
    terrain: Sequence[TerrainName] = DEFAULT_LAYERS,
    radar: RadarPair | None = None,
    radar_why: str = "",
    lattice: bool = False,
    crs: str = "",
) -> CubePlan:
    """The plan of a cube from what was found for it. Needs `ee` initialised (`open_session`), asks nothing.

    The cube holds the terrain layers, the colours that all scenes of both phases have, and those of the radar pair.
    `lattice` is as in `CubeRules`; `crs` is the UTM zone to stay in, empty for that of the area.
    Raises `GridError` for an area that fits no grid, `CubeError` when the scenes have no colour in common.
    """
    colours = common_colours([*pre_scenes.scenes, *post_scenes.scenes])
    if not colours:
        raise CubeError("the scenes before and after have no band in common: choose another collection")
    grid = grid_for(geometry, pixel_m, crs=crs, snap_px=tile_px if lattice else 1)
    return CubePlan(
        uri=uri,
        grid=grid,
        tile_px=tile_px,
        tiles=tiles_over(grid, tile_px, geometry),
        layers=_layers(terrain, colours, radar),
        expression=expression_of(pre_scenes, post_scenes, colours, dem, terrain, radar, geometry),
        pre_scenes=pre_scenes,
        post_scenes=post_scenes,
        pre=pre,
        post=post,
        dem=dem,
        radar=radar,
        radar_why=radar_why,
        geometry_wkt=geometry.wkt,
        code_version=code_version,
    )


def expression_of(
    pre: PhaseScenes,
    post: PhaseScenes,
    colours: Sequence[str],
    dem: DemChoice,
    terrain: Sequence[TerrainName],
    radar: RadarPair | None,
    geometry: BaseGeometry,
) -> str:
    """What Earth Engine is asked to compute, serialised: the bands of a plan's layers, `observed_*` and `date_*`.

    The same arguments give the same text. Needs `ee` initialised, asks nothing.
    """
    image = terrain_image(dem, geometry, terrain)
    image = image.addBands(event_image(pre, post, colours, elevation_image(dem, geometry)))
    if radar is not None:
        image = image.addBands(radar_image(radar))
    return _to_text(ee.serializer.encode(image, for_cloud_api=True))


def plan_cube(
    session: Session,
    *,
    uri: str,
    geometry: BaseGeometry,
    pre: Window,
    post: Window,
    code_version: str,
    rules: CubeRules,
    crs: str = "",
) -> CubePlan:
    """Search scenes, cloud masks and an elevation model for an area (WGS84), and plan its cube.

    Radar layers are an extra: where no orbit of Sentinel-1 serves both windows the plan goes without, and says why.
    Raises `NoScenesError` when no collection has scenes in both windows, `PermanentError` without an elevation model or
    for an unknown terrain layer.
    """
    terrain = check_layers(session, rules.terrain)
    cloud = rules.maximum_cloud_percent
    found = find_scenes(session, rules.collections, geometry, pre, post, maximum_cloud_percent=cloud)
    pre_scenes, post_scenes = choose_phases(session, found.pre, found.post, rules.imagery, geometry)
    radar, radar_why = _radar(session, geometry, pre, post) if rules.radar else (None, "")
    return make_plan(
        uri=uri,
        geometry=geometry,
        pixel_m=rules.pixel_m,
        tile_px=rules.tile_px,
        pre=pre,
        post=post,
        pre_scenes=pre_scenes,
        post_scenes=post_scenes,
        dem=choose_dem(session, rules.dems, geometry),
        code_version=code_version,
        terrain=terrain,
        radar=radar,
        radar_why=radar_why,
        lattice=rules.lattice,
        crs=crs,
    )


def _radar(session: Session, geometry: BaseGeometry, pre: Window, post: Window) -> tuple[RadarPair | None, str]:
    try:
        return find_radar_pair(session, geometry, pre, post), ""
    except NoScenesError as error:
        return None, str(error)


def _layers(terrain: Sequence[TerrainName], colours: Sequence[str], radar: RadarPair | None) -> tuple[Layer, ...]:
    ground = [Layer(name, LAYERS[name].scale, 0.0, LAYERS[name].units) for name in terrain]
    optical = [Layer(f"{colour}_{phase}", 1 / DN_PER_REFLECTANCE, 0.0, "1") for phase in PHASES for colour in colours]
    change = [
        Layer(name, RADAR_LAYERS[name].scale, 0.0, RADAR_LAYERS[name].units) for name in (radar.layers if radar else ())
    ]
    return (*ground, *optical, *change)


def _to_text(expression: Mapping[str, Any]) -> str:
    return json.dumps(expression, sort_keys=True, separators=(",", ":"))


def _to_dict(plan: CubePlan) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "uri": plan.uri,
        "grid": plan.grid.to_dict(),
        "tile_px": plan.tile_px,
        "tiles": [tile.name for tile in plan.tiles],
        "layers": [asdict(layer) for layer in plan.layers],
        "expression": json.loads(plan.expression),
        "pre_scenes": plan.pre_scenes.to_dict(),
        "post_scenes": plan.post_scenes.to_dict(),
        "pre": [plan.pre.start.isoformat(), plan.pre.end.isoformat()],
        "post": [plan.post.start.isoformat(), plan.post.end.isoformat()],
        "dem": plan.dem.to_dict(),
        "radar": plan.radar.to_dict() if plan.radar else None,
        "radar_why": plan.radar_why,
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

    return CubePlan(
        uri=value["uri"],
        grid=grid,
        tile_px=tile_px,
        tiles=tuple(lattice[name] for name in value["tiles"]),
        layers=tuple(Layer(**layer) for layer in value["layers"]),
        expression=_to_text(value["expression"]),
        pre_scenes=PhaseScenes.from_dict(value["pre_scenes"]),
        post_scenes=PhaseScenes.from_dict(value["post_scenes"]),
        pre=window(value["pre"]),
        post=window(value["post"]),
        dem=DemChoice.from_dict(value["dem"]),
        radar=RadarPair.from_dict(value["radar"]) if value["radar"] else None,
        radar_why=value["radar_why"],
        geometry_wkt=value["geometry_wkt"],
        code_version=value["code_version"],
    )
