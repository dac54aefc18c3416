"""A finished cube, read back: any window of it, in physical units, with every byte checked on the way."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from gee.chunks import ARRAYS, DATE, OBSERVED, STACK, STACK_FILL, ArrayLayout, TileArrays, checksum, decode
from gee.cube import damaged_metadata, load_plan, missing_tiles
from gee.errors import CubeError, DamagedTileError
from gee.layout import CubePlace, first_axis, tile_bytes, zarr_skeleton
from gee.plan import CubePlan
from gee.records import Manifest, TileRecord
from gee.store import Store, open_store, storage_options
from gee.types import PHASES, Grid, Tile

CACHED_ROWS = 3
"""Rows of decoded tiles kept at hand: windows with a halo, row by row, meet the tiles of three rows again and again."""
CACHED_BYTES = 256 * 2**20
"""But not more than this: beyond, tiles are decoded up to three times."""

Window = tuple[slice, slice]
Mend = Callable[[Tile], TileRecord]
"""Pulls a tile again and writes it: `gee.cube.pull_tile` but for the tile."""


@dataclass(frozen=True)
class Block:
    """A window of a cube."""

    layers: dict[str, npt.NDArray[np.float32]]
    """Layer name -> (y, x) in physical units, NaN where nothing is known."""
    observed: npt.NDArray[np.uint8]
    """(phase, y, x): codes of `gee.types.Observed`."""
    date: npt.NDArray[np.int32]
    """(phase, y, x): days since 1970-01-01, -1 where nothing clear was seen."""


def open_cube(uri: str, endpoint: str = "", mend: Mend | None = None) -> SceneCube:
    """The complete cube at `uri`.

    With `mend` a tile that turns out to be damaged when it is read is pulled again on the spot. Raises `CubeError` when
    there is no cube, when it is incomplete (and says how many tiles are missing), or when its manifest belongs to
    another plan or is damaged.
    """
    plan, place = load_plan(uri, endpoint), CubePlace.of(uri)
    store = open_store(place.parent, endpoint)
    try:
        manifest = Manifest.from_json(store.read(place.manifest))
    except FileNotFoundError:
        missing = len(missing_tiles(plan, endpoint))
        state = f"{missing} of {len(plan.tiles)} tiles are missing" if missing else "it was not sealed"
        raise CubeError(f"the cube {uri} is incomplete: {state}; run again to complete it") from None
    recorded = [record.name for record in manifest.records]
    if manifest.plan_hash != plan.plan_hash or recorded != [tile.name for tile in plan.tiles]:
        raise CubeError(f"the manifest of {uri} belongs to another plan: delete the cube and pull it again")
    return SceneCube(plan, manifest, store, place, mend)


class SceneCube:
    """A complete cube. Safe to read from many threads; on another machine or process it opens itself again."""

    def __init__(
        self, plan: CubePlan, manifest: Manifest, store: Store, place: CubePlace, mend: Mend | None = None
    ) -> None:
        """Use `open_cube`."""
        self.plan = plan
        self.cube_hash = manifest.cube_hash
        self._records = {record.name: record for record in manifest.records}
        self._tiles = {(tile.row, tile.col): tile for tile in plan.tiles}
        self._store, self._place = store, place
        self._cache: OrderedDict[str, TileArrays] = OrderedDict()
        self._lock = threading.Lock()
        self._mend, self._mending = mend, threading.Lock()
        across = -(-plan.grid.shape_yx[1] // plan.tile_px)
        self._cached_bytes = min(CACHED_BYTES, CACHED_ROWS * (across + 1) * tile_bytes(plan))

    @property
    def uri(self) -> str:
        """Its address."""
        return self.plan.uri

    @property
    def grid(self) -> Grid:
        """The grid of all its arrays."""
        return self.plan.grid

    @property
    def layer_names(self) -> tuple[str, ...]:
        """The layers, in the order of `stack`."""
        return tuple(layer.name for layer in self.plan.layers)

    def read_tile(self, y: slice, x: slice, layers: Iterable[str] | None = None) -> Block:
        """A window of the cube (`slice(start, stop)` in pixels), all layers or those named.

        The window may cross tiles and reach beyond the grid; where no tile was pulled it is NaN, `OUTSIDE`, -1.
        Each chunk is held to the checksum in the manifest and to its own. Raises `DamagedTileError` that names the
        chunk which is gone or damaged, `CubeError` for a layer which the cube does not have.
        """
        wanted = self._wanted(layers)
        stored = self.read_stored(y, x, wanted)
        physical = {name: self._physical(values, name) for name, values in zip(wanted, stored[STACK.name], strict=True)}
        return Block(physical, stored[OBSERVED.name].copy(), stored[DATE.name].copy())

    def read_stored(self, y: slice, x: slice, layers: Iterable[str] | None = None) -> TileArrays:
        """The same window as it is stored: `stack` (layer, y, x) without scale and offset, `observed`, `date`.

        Not to be written into: inside one tile these are views of what is kept at hand.
        """
        wanted = self._wanted(layers)
        indices = [self.layer_names.index(name) for name in wanted]
        chosen = slice(None) if wanted == self.layer_names else indices
        shape = y.stop - y.start, x.stop - x.start
        parts = list(self._meeting(y, x))
        if len(parts) == 1 and _length(parts[0][1][0]) == shape[0] and _length(parts[0][1][1]) == shape[1]:
            tile, _, source = parts[0]
            (loaded,) = self._load([tile], keep=shape != tile.shape_yx)  # a whole tile: whoever reads so has no halo
            whole = {name: values[:, *source] for name, values in loaded.items()}
            return {**whole, STACK.name: whole[STACK.name][chosen]}
        covered = sum(_length(target[0]) * _length(target[1]) for _, target, _ in parts) == shape[0] * shape[1]
        arrays: TileArrays = {}
        for layout in ARRAYS:
            size = len(wanted) if layout is STACK else len(PHASES), *shape
            arrays[layout.name] = np.empty(size, layout.dtype) if covered else np.full(size, layout.fill, layout.dtype)
        for loaded, (_, target, source) in zip(self._load([part[0] for part in parts]), parts, strict=True):
            arrays[STACK.name][:, *target] = loaded[STACK.name][:, *source][chosen]
            arrays[OBSERVED.name][:, *target] = loaded[OBSERVED.name][:, *source]
            arrays[DATE.name][:, *target] = loaded[DATE.name][:, *source]
        return arrays

    def dataset(self) -> xr.Dataset:
        """The same store through xarray, lazily, as anyone else would open it: crc32c is looked at, the manifest is not.

        Raises `CubeError` that names a file of the metadata or the coordinates which is gone or changed: Zarr reads
        missing coordinates as zeros, and metadata that others consolidated may hide arrays.
        """
        if changed := damaged_metadata(self.plan, zarr_skeleton(self.plan), self._store.endpoint):
            raise CubeError(
                f"{', '.join(changed)} of {self.uri} {'is' if len(changed) == 1 else 'are'} gone or changed: "
                "run again to write the metadata anew"
            )
        options = storage_options(self.uri, self._store.endpoint) or None
        opened: xr.Dataset = xr.open_zarr(self.uri, storage_options=options)
        return opened

    def _wanted(self, layers: Iterable[str] | None) -> tuple[str, ...]:
        wanted = self.layer_names if layers is None else tuple(layers)
        if unknown := sorted(set(wanted) - set(self.layer_names)):
            raise CubeError(f"{self.uri} has no layer {', '.join(unknown)}: it has {', '.join(self.layer_names)}")
        return wanted

    def _physical(self, stored: npt.NDArray[Any], name: str) -> npt.NDArray[np.float32]:
        layer = self.plan.layers[self.layer_names.index(name)]
        values: npt.NDArray[np.float32] = np.multiply(stored, np.float32(layer.scale), dtype=np.float32)
        if layer.offset:
            values += np.float32(layer.offset)
        values[stored == STACK_FILL] = np.nan
        return values

    def _meeting(self, y: slice, x: slice) -> Iterator[tuple[Tile, Window, Window]]:
        """The pulled tiles under a window, where each goes in the window and which part of the tile that is."""
        side = self.plan.tile_px
        for row in range(y.start // side, -(-y.stop // side)):
            for col in range(x.start // side, -(-x.stop // side)):
                tile = self._tiles.get((row, col))
                if tile is None:
                    continue
                target, source = zip(
                    _overlap(y, tile.y0, tile.shape_yx[0]), _overlap(x, tile.x0, tile.shape_yx[1]), strict=True
                )
                yield tile, target, source

    def _load(self, tiles: Sequence[Tile], *, keep: bool = True) -> list[TileArrays]:
        """The tiles' arrays, from what is at hand or from the store: from a bucket all chunks side by side.

        What is to be read once only is not kept: the next tile then finds its pages of memory.
        """
        with self._lock:
            at_hand = {tile.name: self._cache[tile.name] for tile in tiles if tile.name in self._cache}
            for name in at_hand:
                self._cache.move_to_end(name)
        absent = [tile for tile in tiles if tile.name not in at_hand]
        keys = [self._place.chunk(layout, tile) for tile in absent for layout in ARRAYS]
        bodies = self._store.read_many(keys) if self._store.remote else None
        for tile in absent:
            at_hand[tile.name] = self._checked(tile, bodies)
        with self._lock:
            if keep:
                self._cache.update((tile.name, at_hand[tile.name]) for tile in absent)
            while len(self._cache) > 1 and len(self._cache) * tile_bytes(self.plan) > self._cached_bytes:
                self._cache.popitem(last=False)
        return [at_hand[tile.name] for tile in tiles]

    def _checked(self, tile: Tile, bodies: Mapping[str, bytes] | None) -> TileArrays:
        """A tile out of the bodies of its chunks, or out of the store; mended when it is damaged."""
        try:
            return self._tile(tile, bodies)
        except DamagedTileError as error:
            if self._mend is None:
                raise
            return self._mended(tile, error, self._mend)

    def _mended(self, tile: Tile, error: DamagedTileError, mend: Mend) -> TileArrays:
        """Pull a damaged tile again; it has to be what it was, or the cube is no longer the one that was sealed."""
        with self._mending:
            try:
                return self._tile(tile)  # another thread has mended it meanwhile
            except DamagedTileError:
                record = mend(tile)
        sealed = self._records[tile.name]
        if (record.blake3, record.chunks) != (sealed.blake3, sealed.chunks):
            raise CubeError(
                f"{error}; Earth Engine's pixels or the program have changed since: the tile was pulled and is "
                "another now, run again to seal the cube with it"
            )
        return self._tile(tile)

    def _tile(self, tile: Tile, bodies: Mapping[str, bytes] | None = None) -> TileArrays:
        return {layout.name: self._chunk(tile, layout, bodies) for layout in ARRAYS}

    def _chunk(self, tile: Tile, layout: ArrayLayout, bodies: Mapping[str, bytes] | None) -> npt.NDArray[Any]:
        key = self._place.chunk(layout, tile)
        name = f"chunk {key} of tile {tile.name}"
        try:
            body = self._store.read(key) if bodies is None else bodies[key]
        except (FileNotFoundError, KeyError):
            raise DamagedTileError(f"{name} is gone: pull the tile again", tile.name) from None
        recorded = self._records[tile.name].chunks[layout.name]
        if (checksum(body), len(body)) != (recorded.crc32c, recorded.size):
            raise DamagedTileError(
                f"{name} is damaged: {len(body)} bytes with checksum {checksum(body)} instead of {recorded.size} with "
                f"{recorded.crc32c}; pull the tile again",
                tile.name,
            )
        try:
            return decode(body, layout, first_axis(layout, self.plan), self.plan.tile_px)
        except CubeError as error:
            raise DamagedTileError(f"{name} is damaged: {error}; pull the tile again", tile.name) from None

    def __reduce__(self) -> tuple[Any, tuple[str, str, Mend | None]]:
        return open_cube, (self.uri, self._store.endpoint, self._mend)


def _length(part: slice) -> int:
    return int(part.stop - part.start)


def _overlap(window: slice, start: int, length: int) -> tuple[slice, slice]:
    """The part of `window` over [start, start + length): as a slice of the window and as one of that interval."""
    first = max(window.start, start)
    last = max(first, min(window.stop, start + length))  # beyond the grid's edge inside its last tile: nothing
    return slice(first - window.start, last - window.start), slice(first - start, last - start)
