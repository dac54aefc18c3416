"""The cube is written once, tile by tile, and is whole when its manifest says so.

A tile is one chunk of each array, so two writers never share one. After its chunks a tile gets a record with their
hashes; the manifest, written last, repeats them all. What has a record is never pulled again; a cube without a manifest
cannot be opened. Reading is in `gee.scenecube`.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping

from gee.chunks import ARRAYS, assemble, content_hash, decode, encode
from gee.errors import CubeError
from gee.grid import geometry_mask
from gee.layout import CubePlace, first_axis, zarr_skeleton
from gee.pixels import fetch_pixels
from gee.plan import CubePlan
from gee.records import Manifest, StoredChunk, TileRecord
from gee.session import Session, SessionConfig, connect
from gee.store import Store, open_store
from gee.types import Tile


def create_cube(plan: CubePlan, endpoint: str = "") -> bool:
    """Make the empty store of a plan. True when it was made, False when this plan's store is there already.

    Raises `CubeError` when the store of another plan is there, `StorageError` when it cannot be written.
    """
    store, place = _store(plan.uri, endpoint)
    if store.exists(place.plan):
        there = load_plan(plan.uri, endpoint)
        if there.plan_hash != plan.plan_hash:
            raise CubeError(
                f"{plan.uri} holds the cube of another plan ({there.plan_hash[:12]}, not {plan.plan_hash[:12]}): "
                "take another address or delete it"
            )
        return False
    for key, body in zarr_skeleton(plan).items():
        store.write(place.metadata(key), body)
    store.write(place.plan, plan.to_json().encode())
    return True


def load_plan(uri: str, endpoint: str = "") -> CubePlan:
    """The plan of the cube at `uri`; raises `CubeError` when there is no cube."""
    store, place = _store(uri, endpoint)
    try:
        return CubePlan.from_json(store.read(place.plan).decode())
    except FileNotFoundError:
        raise CubeError(f"there is no cube at {uri}: create it first") from None


def pull_tile(plan: CubePlan, session: Session | SessionConfig, tile: Tile, endpoint: str = "") -> TileRecord:
    """Pull one tile and write its chunks and then its record. All arguments can travel to a worker.

    A tile without any scene is asked for like the others: its terrain is wanted, and a request that finds no scene
    costs Earth Engine little. Raises what `fetch_pixels` raises, `StorageError`, and `CubeError` for a tile that is not
    of the plan.
    """
    started = time.perf_counter()
    if plan.tile(tile.name) != tile:
        raise CubeError(f"tile {tile} is no tile of the plan for {plan.uri}")
    connected = connect(session) if isinstance(session, SessionConfig) else session
    window = plan.grid.window(tile)
    pixels = fetch_pixels(connected, json.loads(plan.expression), window, plan.request_bands)
    arrays = assemble(pixels, [layer.name for layer in plan.layers], geometry_mask(window, plan.geometry))
    store, place = _store(plan.uri, endpoint)
    chunks = {}
    for layout in ARRAYS:
        body = encode(arrays[layout.name], layout, plan.tile_px)
        store.write(place.chunk(layout, tile), body)
        chunks[layout.name] = StoredChunk(hashlib.sha256(body).hexdigest(), len(body))
    record = TileRecord(
        name=tile.name,
        sha256=content_hash(arrays),
        chunks=chunks,
        pulled_bytes=plan.request_bytes(tile),
        seconds=round(time.perf_counter() - started, 3),
        plan_hash=plan.plan_hash,
    )
    store.write(place.record(tile.name), record.to_json())
    return record


def missing_tiles(plan: CubePlan, endpoint: str = "") -> tuple[Tile, ...]:
    """The tiles that have not arrived, or whose chunks are gone or of another size: what a run has to pull.

    Looks at the list of objects, not into them; `damaged_tiles` reads every byte.
    """
    return _survey(plan, *_store(plan.uri, endpoint))[1]


def damaged_tiles(plan: CubePlan, endpoint: str = "") -> tuple[Tile, ...]:
    """The tiles whose chunks are gone or do not hold what their record says, every byte read. Pull these again."""
    store, place = _store(plan.uri, endpoint)
    records = _records(plan, store, place)
    return tuple(tile for tile in plan.tiles if not _sound(plan, tile, records.get(tile.name), store, place))


def seal_cube(plan: CubePlan, endpoint: str = "") -> str:
    """Write the manifest of a complete cube and return the cube's hash. Doing it again changes nothing.

    Raises `CubeError` that says how many tiles are missing.
    """
    store, place = _store(plan.uri, endpoint)
    records, missing = _survey(plan, store, place)
    if missing:
        raise CubeError(
            f"{len(missing)} of {len(plan.tiles)} tiles of {plan.uri} are missing, the first is {missing[0].name}"
        )
    manifest = Manifest(plan.plan_hash, tuple(records[tile.name] for tile in plan.tiles))
    store.write(place.manifest, manifest.to_json())
    return manifest.cube_hash


def _records(plan: CubePlan, store: Store, place: CubePlace) -> dict[str, TileRecord]:
    """The readable records of a plan's tiles, by tile name; one that is damaged or of another plan does not count."""
    wanted = {place.record(tile.name) for tile in plan.tiles}
    there = sorted(wanted.intersection(store.sizes(place.records)))
    records = {}
    for body in store.read_many(there).values():
        try:
            record = TileRecord.from_json(body)
        except CubeError:
            continue
        if record.plan_hash == plan.plan_hash:
            records[record.name] = record
    return records


def _store(uri: str, endpoint: str) -> tuple[Store, CubePlace]:
    place = CubePlace.of(uri)
    return open_store(place.parent, endpoint), place


def _survey(plan: CubePlan, store: Store, place: CubePlace) -> tuple[dict[str, TileRecord], tuple[Tile, ...]]:
    """The records that are there, and the tiles that are not."""
    records = _records(plan, store, place)
    sizes: dict[str, int] = {}
    for layout in ARRAYS:
        sizes |= store.sizes(place.metadata(f"{layout.name}/c"))
    return records, tuple(tile for tile in plan.tiles if not _arrived(tile, records.get(tile.name), sizes, place))


def _arrived(tile: Tile, record: TileRecord | None, sizes: Mapping[str, int], place: CubePlace) -> bool:
    return record is not None and all(
        sizes.get(place.chunk(layout, tile)) == record.chunks[layout.name].size for layout in ARRAYS
    )


def _sound(plan: CubePlan, tile: Tile, record: TileRecord | None, store: Store, place: CubePlace) -> bool:
    if record is None:
        return False
    arrays = {}
    height, width = tile.shape_yx
    for layout in ARRAYS:
        try:
            body = store.read(place.chunk(layout, tile))
            arrays[layout.name] = decode(body, layout, first_axis(layout, plan), plan.tile_px)[:, :height, :width]
        except (FileNotFoundError, CubeError):
            return False
    return content_hash(arrays) == record.sha256
