"""Tiles that an earlier cube of the same event holds already, so that a new plan pulls only what is new.

A new version has more scenes, or a larger area. A tile is the same in both plans when Earth Engine would compute the
same pixels for it. That is not guessed from the plans' names: for each tile the expression is built again with only the
scenes whose raster reaches it, and two tiles with the same window and the same such expression hold the same pixels,
because a scene that does not reach a tile adds nothing to any of its pixels. An earlier plan counts only when this
program, given what that plan says, would ask for exactly what was asked then: a cube of another version of the
expressions is never mixed in, nor one of another `gee.plan.FORMAT`. Where the area ends is no part of this: a tile is
cut to it anew, from what was seen of the tile before it was cut (`CubePlace.seen`).

What is taken over is read, held to its record (crc32c, size, BLAKE3) and written to its new place, byte for byte what a
pull would have written; what is damaged or gone by then is pulled. Building expressions needs `ee` initialised
(`open_session`) and asks nothing.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any, get_args

import ee
import numpy as np
import numpy.typing as npt
from pyproj import Transformer
from shapely.geometry import box

from gee.chunks import (
    ARRAYS,
    CHECKSUM_BYTES,
    OBSERVED,
    checksum,
    cut,
    decode,
    encode,
    tile_hash,
)
from gee.cube import EncodedTile, load_plan, open_place, store_tile, survey
from gee.errors import CubeError
from gee.grid import geometry_mask, lattice_offset_px, unwrap
from gee.layout import SUFFIX
from gee.plan import CubePlan, expression_of
from gee.reasons import terrain_shadow_by_class
from gee.records import StoredChunk, TileRecord
from gee.sentinel2 import BANDS, PhaseScenes
from gee.store import open_store
from gee.terrain import Layer as TerrainName
from gee.types import PHASES, Grid, Observed, Scene, Tile

REACH_M = 200.0
"""A scene whose raster ends so far (metres) from a tile does not reach it, on whatever grid its masks are computed."""
GROUND_DEG = 0.05
"""An elevation model in pieces is the same for a tile when the search for pieces reached so far around it."""

_PLAN_SUFFIX = ".plan.json"
_ANYWHERE = box(0.0, 0.0, 1.0, 1.0)  # stands for the searched area where that does not decide a tile's pixels
_NO_TIME = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True)
class TakenTile:
    """A tile of a plan that an earlier cube holds."""

    name: str
    """The tile's name in the plan."""
    uri: str
    """The earlier cube."""
    source: Tile
    """The tile there."""
    record: TileRecord
    """Its record there."""


@dataclass(frozen=True)
class Takeover:
    """What a plan takes over from earlier cubes. Picklable."""

    plan_hash: str = ""
    """The plan that it was found for."""
    tiles: tuple[TakenTile, ...] = ()
    """In the order of the plan."""

    @property
    def names(self) -> frozenset[str]:
        """The tiles that need not be pulled."""
        return frozenset(tile.name for tile in self.tiles)

    def describe(self, plan: CubePlan) -> str:
        """In words, empty when nothing is taken over."""
        if not self.tiles:
            return ""
        cubes = len({tile.uri for tile in self.tiles})
        return (
            f"{len(self.tiles)} of {len(plan.tiles)} tiles are taken over from {cubes} earlier "
            f"{'cube' if cubes == 1 else 'cubes'} of the event"
        )


NOTHING = Takeover()
"""Every tile is pulled."""


def find_takeover(plan: CubePlan, endpoint: str = "") -> Takeover:
    """The tiles of a plan that the cubes beside it (those of its event) hold already, sealed or not.

    Reads plans and the list of objects, no chunk. Raises `StorageError`.
    """
    others = list(plans_beside(plan.uri, endpoint))
    wanted = {key: name for name, key in tile_keys(plan).items()} if others else {}
    found: dict[str, TakenTile] = {}
    for other in others:
        if len(found) == len(plan.tiles):
            break
        if other.plan_hash == plan.plan_hash or not _can_share(plan, other):
            continue
        same = {wanted[key]: name for name, key in tile_keys(other).items() if key in wanted}
        same = {name: source for name, source in same.items() if name not in found}
        records = survey(other, endpoint)[0] if same else {}
        for name, source in same.items():
            if source in records:
                found[name] = TakenTile(name, other.uri, other.tile(source), records[source])
    return Takeover(plan.plan_hash, tuple(found[tile.name] for tile in plan.tiles if tile.name in found))


def plans_beside(uri: str, endpoint: str = "") -> Iterator[CubePlan]:
    """The readable plans of the other cubes in the folder of the cube at `uri`, by name."""
    store, place = open_place(uri, endpoint)
    for key in store.children():
        if not key.endswith(_PLAN_SUFFIX) or key == place.plan:
            continue
        try:
            yield load_plan(f"{place.parent}/{key.removesuffix(_PLAN_SUFFIX)}{SUFFIX}", endpoint)
        except CubeError:  # damaged, removed meanwhile, or of another format: nothing can be taken from it
            continue


def settled_crs(folder: str, pixel_m: float, endpoint: str = "") -> str:
    """The UTM zone in which the cubes in a folder lie, empty when there is none: a grown area stays in it.

    Of several the one of most cubes, the first by name among equals. Raises `StorageError`.
    """
    if not open_store(folder, endpoint).children():
        return ""
    zones = [plan.grid.crs for plan in plans_beside(f"{folder}/-{SUFFIX}", endpoint) if plan.grid.pixel_m == pixel_m]
    return max(sorted(set(zones)), key=zones.count, default="")


def tile_keys(plan: CubePlan) -> dict[str, str]:
    """Tile name -> a hash of everything that decides its pixels, where the area ends left out.

    Empty when this program would not ask for what the plan asks for: then nothing is known of its pixels.
    """
    terrain, colours = _terrain_of(plan), _colours_of(plan)
    phases = plan.scenes
    try:
        asked = expression_of(*phases, colours, plan.dem, terrain, plan.radar, plan.geometry)
    except (CubeError, ee.EEException):  # made of what this program does not know
        return {}
    if asked != plan.expression:
        return {}
    reached = [_reached(plan, phase.scenes) for phase in phases]
    expressions: dict[tuple[Any, ...], str] = {}
    keys = {}
    for number, tile in enumerate(plan.tiles):
        window = plan.grid.window(tile)
        anywhere = _ground_is_the_same_everywhere(plan, terrain, window)
        subset = (anywhere, *(tuple(each[:, number].tolist()) for each in reached))
        if subset not in expressions:
            pre, post = (_pruned(phase, each[:, number]) for phase, each in zip(phases, reached, strict=True))
            text = expression_of(
                pre, post, colours, plan.dem, terrain, plan.radar, _ANYWHERE if anywhere else plan.geometry
            )
            expressions[subset] = hashlib.sha256(text.encode()).hexdigest()
        identity = {
            "tile_px": plan.tile_px,
            "window": window.to_dict(),
            "layers": [asdict(layer) for layer in plan.layers],
            "expression": expressions[subset],
        }
        keys[tile.name] = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return keys


def take_tile(plan: CubePlan, taken: TakenTile, endpoint: str = "") -> TileRecord | None:
    """Copy a tile from the earlier cube that holds it, cut to this plan's area, and write its record.

    None when it is gone or damaged there: pull it. Raises `StorageError`.
    """
    started = time.perf_counter()
    try:
        body = _verified(plan, taken, endpoint)
    except CubeError:
        return None
    return store_tile(plan, plan.tile(taken.name), body, endpoint, started=started, taken_from=taken.uri)


def _verified(plan: CubePlan, taken: TakenTile, endpoint: str) -> EncodedTile:
    """The tile as it is to be stored; raises `CubeError` when what is there is not what its record says."""
    store, place = open_place(taken.uri, endpoint)
    record = taken.record
    keys = {layout.name: place.chunk(layout, taken.source) for layout in ARRAYS}
    stored: dict[str, StoredChunk] = dict(record.chunks)
    if record.seen is not None:
        keys["seen"], stored["seen"] = place.seen(taken.source.name), record.seen
    found = store.read_many(list(keys.values()))
    bodies = {name: found.get(key, b"") for name, key in keys.items()}
    for name, body in bodies.items():
        if (checksum(body), len(body)) != (stored[name].crc32c, stored[name].size):
            raise CubeError(f"{keys[name]} of {taken.uri} is gone or damaged")
    if tile_hash([(bodies[layout.name],) for layout in ARRAYS]) != record.blake3:
        raise CubeError(f"tile {taken.source.name} of {taken.uri} is damaged")
    chunks = {layout.name: _parts(bodies[layout.name]) for layout in ARRAYS}
    tile = plan.tile(taken.name)
    height, width = tile.shape_yx

    def codes(body: bytes) -> npt.NDArray[np.uint8]:
        values: npt.NDArray[np.uint8] = decode(body, OBSERVED, len(PHASES), plan.tile_px)[:, :height, :width]
        return values

    before = codes(bodies[OBSERVED.name])
    seen = codes(bodies["seen"]) if "seen" in bodies else before
    if not (seen == before)[before != Observed.OUTSIDE].all():
        raise CubeError(f"tile {taken.source.name} of {taken.uri} contradicts what was seen of it")
    inside = geometry_mask(plan.grid.window(tile), plan.geometry)
    known = "seen" in bodies or not (before == Observed.OUTSIDE).any()
    if not known and (before == Observed.OUTSIDE)[:, inside].any():
        raise CubeError(f"what was seen of tile {taken.source.name} of {taken.uri} beyond the area was not kept")
    chunks[OBSERVED.name] = encode(cut(seen, inside), OBSERVED, plan.tile_px)
    whole = encode(seen, OBSERVED, plan.tile_px) if known and not inside.all() else None
    return EncodedTile(tile_hash(chunks[layout.name] for layout in ARRAYS), chunks, whole)


def _parts(body: bytes) -> tuple[bytes, bytes]:
    return body[:-CHECKSUM_BYTES], body[-CHECKSUM_BYTES:]


def _can_share(plan: CubePlan, other: CubePlan) -> bool:
    """Whether tiles of both can be the same at all: for a plan that cannot, no expression need be built."""
    grids = plan.grid, other.grid
    rules = [
        [(phase.collection, phase.mask, phase.made_by, phase.reasons) for phase in one.scenes] for one in (plan, other)
    ]
    return (
        rules[0] == rules[1]
        and (plan.dem.id, plan.radar) == (other.dem.id, other.radar)
        and plan.tile_px == other.tile_px
        and plan.layers == other.layers
        and len({(grid.crs, grid.pixel_m, lattice_offset_px(grid, plan.tile_px)) for grid in grids}) == 1
    )


def _terrain_of(plan: CubePlan) -> tuple[TerrainName, ...]:
    known = {layer.name for layer in plan.layers}
    order = [layer.name for layer in plan.layers]
    named: tuple[TerrainName, ...] = get_args(TerrainName)
    return tuple(sorted((name for name in named if name in known), key=order.index))


def _colours_of(plan: CubePlan) -> tuple[str, ...]:
    known = {layer.name for layer in plan.layers}
    return tuple(colour for colour in BANDS if f"{colour}_{PHASES[0]}" in known)


def _reached(plan: CubePlan, scenes: Sequence[Scene]) -> npt.NDArray[np.bool_]:
    """Which scenes' rasters reach which tiles of a plan, (scene, tile); a scene without a raster reaches all."""
    reached = np.ones((len(scenes), len(plan.tiles)), bool)
    for number, scene in enumerate(scenes):
        if scene.grid is None:
            continue
        left, bottom, right, top = scene.grid.bounds
        west, south, east, north = _tile_bounds(plan, scene.grid.crs)
        beyond = (
            (west > right + REACH_M) | (east < left - REACH_M) | (south > top + REACH_M) | (north < bottom - REACH_M)
        )
        reached[number] = ~beyond  # comparisons with what could not be projected are False: it reaches
    return reached


def _tile_bounds(plan: CubePlan, crs: str) -> npt.NDArray[np.float64]:
    """Left, bottom, right and top of each tile of a plan in `crs`, metres: (4, tile)."""
    return _bounds_in(plan.grid, plan.tile_px, plan.tiles, crs)


@lru_cache(maxsize=16)
def _bounds_in(grid: Grid, tile_px: int, tiles: tuple[Tile, ...], crs: str) -> npt.NDArray[np.float64]:
    edges = np.array([grid.window(tile).bounds for tile in tiles], np.float64).reshape(-1, 4)
    if crs != grid.crs:
        transformer = Transformer.from_crs(grid.crs, crs, always_xy=True)
        left, bottom, right, top = edges.T.tolist()
        moved = [transformer.transform_bounds(*one, 21) for one in zip(left, bottom, right, top, strict=True)]
        edges = np.array(moved, np.float64).reshape(-1, 4)
    return edges.T


def _ground_is_the_same_everywhere(plan: CubePlan, terrain: Sequence[TerrainName], window: Grid) -> bool:
    """Whether the area that the terrain was searched for has no part in a tile's pixels.

    An elevation model in one piece is not searched for. One in pieces is searched within the area's bounds: well inside
    them all pieces are found. The circle of the relief depends on the area's latitude.
    """
    if "relief" in terrain:
        return False
    if plan.dem.kind == "image":
        return True
    west, south, east, north = unwrap(plan.geometry).bounds
    if east > 180.0 or west < -180.0:
        return False
    to_degrees = Transformer.from_crs(window.crs, "EPSG:4326", always_xy=True)
    own = box(*to_degrees.transform_bounds(*window.bounds, densify_pts=21)).buffer(GROUND_DEG)
    return bool(box(west, south, east, north).contains(own))


def _pruned(phase: PhaseScenes, kept: npt.NDArray[np.bool_]) -> PhaseScenes:
    """A phase with only some of its scenes, and of them only what its expression is made of; one stands for none.

    What the phase decides by looking at all its scenes (their bands, which shadow a class means) stays as it was.
    """
    by_class = terrain_shadow_by_class(phase.mask, phase.scenes)
    said: dict[str, Any] = {
        "bands": tuple(sorted(phase.bands)),
        "properties": (("PROCESSING_BASELINE", "99.99" if by_class else ""),),
        "cloud_percent": None,
        "footprint_wkt": "",
    }
    scenes = [scene for scene, reaches in zip(phase.scenes, kept, strict=True) if reaches]
    nobody = replace(phase.scenes[0], id=f"{phase.collection}/none", time=_NO_TIME, grid=None)
    return replace(phase, scenes=tuple(replace(scene, **said) for scene in scenes or [nobody]))
