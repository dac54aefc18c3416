"""The cube is written once, tile by tile, and is whole when its manifest says so.

A tile is one chunk of each array, so two writers never share one. After its chunks a tile gets a record with their
checksums and a hash of them; the manifest, written last, repeats them all. What has a record is never pulled
again; a cube without a manifest cannot be opened. Reading is in `gee.scenecube`, the pull of all tiles in `gee.pulling`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from gee.chunks import ARRAYS, OBSERVED, TileArrays, checksum, cut, encode, tile_hash, uncut
from gee.errors import CubeError, PermanentError, RequestTooLargeError, TransientError
from gee.grid import geometry_mask
from gee.layout import CubePlace, zarr_skeleton
from gee.limiter import working
from gee.pixels import Arrays, work_on_pixels
from gee.plan import CubePlan
from gee.profile import eecu_seconds
from gee.records import Manifest, StoredChunk, TileRecord, checked, with_checksum
from gee.session import Session, SessionConfig, connect
from gee.store import Store, open_store
from gee.types import Tile


def create_cube(plan: CubePlan, endpoint: str = "") -> bool:
    """Make the empty store of a plan. True when it was made, False when this plan's store is there already.

    What is missing or damaged of its metadata and coordinates is then written again. Raises `CubeError` when the store
    of another plan is there, `StorageError` when it cannot be written.
    """
    store, place = open_place(plan.uri, endpoint)
    there = store.exists(place.plan)
    if there:
        try:
            found = load_plan(plan.uri, endpoint)
        except CubeError:
            there = False  # damaged: this plan is written again, and its tiles are known by the plan's hash
        else:
            if found.plan_hash != plan.plan_hash:
                raise CubeError(
                    f"{plan.uri} holds the cube of another plan ({found.plan_hash[:12]}, not {plan.plan_hash[:12]}): "
                    "take another address or delete it"
                )
    skeleton = zarr_skeleton(plan)
    damaged = damaged_metadata(plan, skeleton, endpoint)
    store.write_many({place.metadata(key): (skeleton[key],) for key in damaged})
    if not there:
        store.write(place.plan, with_checksum({"plan": json.loads(plan.to_json())}))
    return not there


def load_plan(uri: str, endpoint: str = "") -> CubePlan:
    """The plan of the cube at `uri`; raises `CubeError` when there is no cube or its plan is damaged."""
    store, place = open_place(uri, endpoint)
    try:
        body = store.read(place.plan)
    except FileNotFoundError:
        raise CubeError(f"there is no cube at {uri}: create it first") from None
    return CubePlan.from_json(json.dumps(checked(body, f"plan of the cube {uri}").get("plan")))


def damaged_metadata(plan: CubePlan, skeleton: Mapping[str, bytes], endpoint: str = "") -> tuple[str, ...]:
    """The keys of the Zarr metadata and coordinates that are not there, or not as `skeleton` has them."""
    store, place = open_place(plan.uri, endpoint)
    there = store.read_many([place.metadata(key) for key in skeleton])
    return tuple(sorted(key for key, body in skeleton.items() if there.get(place.metadata(key)) != body))


def pull_tile(
    plan: CubePlan, session: Session | SessionConfig, tile: Tile, endpoint: str = "", *, profiled: bool = False
) -> TileRecord:
    """Pull one tile and write its chunks and then its record. All arguments can travel to a worker.

    A tile without any scene is asked for like the others: its terrain is wanted, and a request that finds no scene
    costs Earth Engine little. With `profiled` its record says what it cost. Raises what `fetch_pixels` raises,
    `StorageError`, and `CubeError` for a tile that is not of the plan.
    """
    started = time.perf_counter()
    if plan.tile(tile.name) != tile:
        raise CubeError(f"tile {tile} is no tile of the plan for {plan.uri}")
    connected = connect(session) if isinstance(session, SessionConfig) else session
    window = plan.grid.window(tile)
    profiles: list[str] = []

    def encoded(pixels: Arrays) -> EncodedTile:
        arrays = uncut(pixels, [layer.name for layer in plan.layers])
        return encode_cut(plan, arrays, geometry_mask(window, plan.geometry))

    try:
        body = work_on_pixels(
            connected,
            plan.expression,
            window,
            plan.request_bands,
            encoded,
            on_profile=profiles.append if profiled else None,
        )
    except (TransientError, RequestTooLargeError, PermanentError) as error:
        named = type(error)(f"tile {tile.name} of {plan.uri}: {error}")
        named.status = error.status
        raise named from error
    return store_tile(plan, tile, body, endpoint, started=started, eecu_s=eecu_seconds(connected, profiles))


def write_tile(plan: CubePlan, tile: Tile, arrays: TileArrays, endpoint: str = "") -> TileRecord:
    """Write a tile's arrays as chunks, then its record."""
    started = time.perf_counter()
    with working():
        body = encode_tile(plan, arrays)
    return store_tile(plan, tile, body, endpoint, started=started)


@dataclass(frozen=True)
class EncodedTile:
    """A tile as it is stored."""

    blake3: str
    """Of its chunks."""
    chunks: dict[str, tuple[bytes, bytes]]
    """Array name -> the parts of its chunk, as `gee.chunks.encode` gives them."""
    seen: tuple[bytes, bytes] | None = None
    """The codes of `observed` before they were cut to the area, likewise; None when there was nothing to cut."""


def encode_tile(plan: CubePlan, arrays: TileArrays) -> EncodedTile:
    """The chunks of a tile's arrays and their hash."""
    chunks = {layout.name: encode(arrays[layout.name], layout, plan.tile_px) for layout in ARRAYS}
    return EncodedTile(tile_hash(chunks.values()), chunks)


def encode_cut(plan: CubePlan, arrays: TileArrays, inside: npt.NDArray[np.bool_]) -> EncodedTile:
    """The chunks of a tile cut to the area (mask (y, x)), and beside them what the cut takes away.

    A later plan of a larger area can so take the tile over (`gee.reuse`).
    """
    if inside.all():
        return encode_tile(plan, arrays)
    seen = encode(arrays[OBSERVED.name], OBSERVED, plan.tile_px)
    tile = encode_tile(plan, {**arrays, OBSERVED.name: cut(arrays[OBSERVED.name], inside)})
    return replace(tile, seen=seen)


def store_tile(
    plan: CubePlan,
    tile: Tile,
    body: EncodedTile,
    endpoint: str = "",
    *,
    started: float,
    eecu_s: float | None = None,
    taken_from: str = "",
) -> TileRecord:
    """Write a tile's chunks, then its record; `started` (of `time.perf_counter`) is when the work on it began.

    `taken_from` is the address of the cube that it was taken over from, for a tile that was not pulled.
    """
    store, place = open_place(plan.uri, endpoint)
    parts = {place.chunk(layout, tile): body.chunks[layout.name] for layout in ARRAYS}
    store.write_many(parts if body.seen is None else {**parts, place.seen(tile.name): body.seen})
    record = TileRecord(
        name=tile.name,
        blake3=body.blake3,
        chunks={name: _stored(parts) for name, parts in body.chunks.items()},
        pulled_bytes=0 if taken_from else plan.request_bytes(tile),
        seconds=round(time.perf_counter() - started, 3),
        plan_hash=plan.plan_hash,
        eecu_s=eecu_s,
        seen=None if body.seen is None else _stored(body.seen),
        taken_from=taken_from,
    )
    store.write(place.record(tile.name), record.to_json())
    return record


def _stored(parts: tuple[bytes, ...]) -> StoredChunk:
    return StoredChunk(checksum(parts[-1]), sum(map(len, parts)))


def missing_tiles(plan: CubePlan, endpoint: str = "") -> tuple[Tile, ...]:
    """The tiles that have not arrived, or whose chunks are gone or of another size: what a run has to pull.

    Looks at the list of objects, not into them; `damaged_tiles` reads every byte.
    """
    return survey(plan, endpoint)[1]


def damaged_tiles(plan: CubePlan, endpoint: str = "") -> tuple[Tile, ...]:
    """The tiles whose chunks are gone or do not hold what their record says, every byte read. Pull these again."""
    store, place = open_place(plan.uri, endpoint)
    records = _records(plan, store, place)
    return tuple(tile for tile in plan.tiles if not _sound(plan, tile, records.get(tile.name), store, place))


def survey(plan: CubePlan, endpoint: str = "") -> tuple[dict[str, TileRecord], tuple[Tile, ...]]:
    """The records of the tiles that have arrived, by tile name, and the tiles that have not (see `missing_tiles`)."""
    return _survey(plan, *open_place(plan.uri, endpoint))


def seal_cube(plan: CubePlan, endpoint: str = "") -> str:
    """Write the manifest of a complete cube and return the cube's hash. Doing it again changes nothing.

    Raises `CubeError` that says how many tiles are missing.
    """
    store, place = open_place(plan.uri, endpoint)
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


def open_place(uri: str, endpoint: str = "") -> tuple[Store, CubePlace]:
    """The store that holds a cube, and where its parts lie in it."""
    place = CubePlace.of(uri)
    return open_store(place.parent, endpoint), place


def _survey(plan: CubePlan, store: Store, place: CubePlace) -> tuple[dict[str, TileRecord], tuple[Tile, ...]]:
    records = _records(plan, store, place)
    sizes: dict[str, int] = {}
    for layout in ARRAYS:
        sizes |= store.sizes(place.metadata(f"{layout.name}/c"))
    missing = tuple(tile for tile in plan.tiles if not _arrived(tile, records.get(tile.name), sizes, place))
    for tile in missing:
        records.pop(tile.name, None)
    return records, missing


def _arrived(tile: Tile, record: TileRecord | None, sizes: Mapping[str, int], place: CubePlace) -> bool:
    return record is not None and all(
        sizes.get(place.chunk(layout, tile)) == record.chunks[layout.name].size for layout in ARRAYS
    )


def _sound(plan: CubePlan, tile: Tile, record: TileRecord | None, store: Store, place: CubePlace) -> bool:
    if record is None:
        return False
    bodies = []
    for layout in ARRAYS:
        try:
            body = store.read(place.chunk(layout, tile))
        except FileNotFoundError:
            return False
        if (checksum(body), len(body)) != (record.chunks[layout.name].crc32c, record.chunks[layout.name].size):
            return False
        bodies.append((body,))
    return tile_hash(bodies) == record.blake3
