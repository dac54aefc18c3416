"""A finished cube, read back: any window of it, in physical units, with every byte checked on the way."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from gee.chunks import ARRAYS, DATE, OBSERVED, STACK, STACK_FILL, ArrayLayout, TileArrays, decode
from gee.cube import load_plan, missing_tiles
from gee.errors import CubeError
from gee.layout import CubePlace, first_axis
from gee.plan import CubePlan
from gee.records import Manifest
from gee.store import Store, open_store, storage_options
from gee.types import Grid, Tile

CACHED_BYTES = 128 * 2**20
"""Decoded tiles kept at hand: a window with a halo meets up to nine tiles, and its neighbour meets them again."""

Window = tuple[slice, slice]


@dataclass(frozen=True)
class Block:
    """A window of a cube."""

    layers: dict[str, npt.NDArray[np.float32]]
    """Layer name -> (y, x) in physical units, NaN where nothing is known."""
    observed: npt.NDArray[np.uint8]
    """(phase, y, x): codes of `gee.types.Observed`."""
    date: npt.NDArray[np.int32]
    """(phase, y, x): days since 1970-01-01, -1 where nothing clear was seen."""


def open_cube(uri: str, endpoint: str = "") -> SceneCube:
    """The complete cube at `uri`.

    Raises `CubeError` when there is none, when it is incomplete (and says how many tiles are missing), or when its
    manifest belongs to another plan.
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
    return SceneCube(plan, manifest, store, place)


class SceneCube:
    """A complete cube. Safe to read from many threads; on another machine or process it opens itself again."""

    def __init__(self, plan: CubePlan, manifest: Manifest, store: Store, place: CubePlace) -> None:
        """Use `open_cube`."""
        self.plan = plan
        self.cube_hash = manifest.cube_hash
        self._records = {record.name: record for record in manifest.records}
        self._tiles = {(tile.row, tile.col): tile for tile in plan.tiles}
        self._store, self._place = store, place
        self._cache: OrderedDict[str, TileArrays] = OrderedDict()
        self._lock = threading.Lock()

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
        Each chunk is held to the hash in the manifest and to its own checksum. Raises `CubeError` that names the chunk
        which is gone or damaged, or the layer which the cube does not have.
        """
        wanted = self.layer_names if layers is None else tuple(layers)
        if unknown := sorted(set(wanted) - set(self.layer_names)):
            raise CubeError(f"{self.uri} has no layer {', '.join(unknown)}: it has {', '.join(self.layer_names)}")
        shape = y.stop - y.start, x.stop - x.start
        indices = [self.layer_names.index(name) for name in wanted]
        stack = np.full((len(wanted), *shape), STACK_FILL, STACK.dtype)
        observed = np.full((2, *shape), OBSERVED.fill, OBSERVED.dtype)
        date = np.full((2, *shape), DATE.fill, DATE.dtype)
        for tile, target, source in self._meeting(y, x):
            arrays = self._load(tile)
            stack[:, *target] = arrays[STACK.name][:, *source][indices]
            observed[:, *target] = arrays[OBSERVED.name][:, *source]
            date[:, *target] = arrays[DATE.name][:, *source]
        physical = {name: self._physical(values, name) for name, values in zip(wanted, stack, strict=True)}
        return Block(physical, observed, date)

    def dataset(self) -> xr.Dataset:
        """The same store through xarray, lazily, as anyone else would open it: no hash is looked at, crc32c is."""
        options = storage_options(self.uri, self._store.endpoint) or None
        opened: xr.Dataset = xr.open_zarr(self.uri, consolidated=False, storage_options=options)
        return opened

    def _physical(self, stored: npt.NDArray[Any], name: str) -> npt.NDArray[np.float32]:
        layer = self.plan.layers[self.layer_names.index(name)]
        values = stored * np.float32(layer.scale) + np.float32(layer.offset)
        values[stored == STACK_FILL] = np.nan
        return values.astype(np.float32, copy=False)

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

    def _load(self, tile: Tile) -> TileArrays:
        with self._lock:
            if tile.name in self._cache:
                self._cache.move_to_end(tile.name)
                return self._cache[tile.name]
        arrays = {layout.name: self._chunk(tile, layout) for layout in ARRAYS}
        with self._lock:
            self._cache[tile.name] = arrays
            size = sum(values.nbytes for values in arrays.values())
            while len(self._cache) > 1 and len(self._cache) * size > CACHED_BYTES:
                self._cache.popitem(last=False)
        return arrays

    def _chunk(self, tile: Tile, layout: ArrayLayout) -> npt.NDArray[Any]:
        key = self._place.chunk(layout, tile)
        name = f"chunk {key} of tile {tile.name}"
        try:
            body = self._store.read(key)
        except FileNotFoundError:
            raise CubeError(f"{name} is gone: pull the tile again") from None
        expected = self._records[tile.name].chunks[layout.name].sha256
        if hashlib.sha256(body).hexdigest() != expected:
            raise CubeError(f"{name} is damaged: its {len(body)} bytes have another hash than recorded; pull it again")
        try:
            return decode(body, layout, first_axis(layout, self.plan), self.plan.tile_px)
        except CubeError as error:
            raise CubeError(f"{name} is damaged: {error}; pull the tile again") from None

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return open_cube, (self.uri, self._store.endpoint)


def _overlap(window: slice, start: int, length: int) -> tuple[slice, slice]:
    """The part of `window` over [start, start + length): as a slice of the window and as one of that interval."""
    first = max(window.start, start)
    last = max(first, min(window.stop, start + length))  # beyond the grid's edge inside its last tile: nothing
    return slice(first - window.start, last - window.start), slice(first - start, last - start)
