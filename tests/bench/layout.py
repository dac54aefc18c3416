"""The layout of a cube's chunks: what mapping has to read, and how long it takes.

Mapping reads windows of 512 or 1024 pixels with a halo of 32 pixels all round, row by row, one after the other; some
networks take all 15 layers, others a few (*ten-band* needs the 10 of `modeling.bands`, *rgb* needs 3). The same
simulated int16 stack lies in several layouts with one codec (blosc: zstd 3, bit-shuffled; crc32c). One neutral reader,
tensorstore, reads them all; it keeps the decoded chunks that it met last in as much memory as three rows of tiles of
512 pixels take, as our own reader does. On disk the files lie in memory; over HTTP they come from the Cloud Storage
stand-in, a process of its own, which holds back every answer by 30 ms as a bucket does. Time is given per useful pixel
(those of the window without its halo), bytes likewise, as the bucket counted them. *Our reader* is
`SceneCube.read_tile`, whole windows in physical units, over three chunk sizes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import numcodecs
import numpy as np
import numpy.typing as npt
import tensorstore
from fakes.servers import serve_process

from gee.chunks import BLOCK_BYTES, COMPRESSION_LEVEL
from gee.cube import create_cube, seal_cube, write_tile
from gee.scenecube import open_cube
from gee.store import open_store
from modeling.bands import band_set

from . import scenes
from .cases import BenchError, Case, Group, Role, Setting, elapsed
from .engines import cube_arrays, cube_plan
from .writers import THREADS

HALO_PX = 32
LATENCY_S = 0.03
"""Until the first byte of an object in a bucket of the same region."""
BUCKET = "bench"
CACHED_ROWS = 3
"""Rows of the default's tiles for which there is memory: a window with its halo meets as many."""

Window = tuple[slice, slice]


@dataclass(frozen=True)
class Layout:
    """How the stack is cut: one chunk, or one chunk of a shard."""

    name: str
    """Name in the table."""
    chunk_px: int
    """Side of a chunk."""
    bands: int = 0
    """Layers in a chunk, 0 for all."""
    shard_px: int = 0
    """Side of the shard that holds the chunks (of all layers), 0 for none."""
    role: Role = "peer"
    """`ours` is the default of the cubes."""

    @property
    def key(self) -> str:
        """Name of its folder."""
        return f"{self.bands}-{self.chunk_px}-{self.shard_px}"

    def metadata(self, shape: Sequence[int], dtype: str) -> dict[str, Any]:
        """Zarr v3 metadata of an array with this layout."""
        inner = [self.bands or shape[0], self.chunk_px, self.chunk_px]
        blosc = {
            "cname": "zstd",
            "clevel": COMPRESSION_LEVEL,
            "shuffle": "bitshuffle",
            "typesize": 2,
            "blocksize": BLOCK_BYTES,
        }
        as_bytes = {"name": "bytes", "configuration": {"endian": "little"}}
        codecs = [as_bytes, {"name": "blosc", "configuration": blosc}, {"name": "crc32c"}]
        outer = inner
        if self.shard_px:
            outer = [shape[0], self.shard_px, self.shard_px]
            about = {"chunk_shape": inner, "codecs": codecs, "index_codecs": [as_bytes, {"name": "crc32c"}]}
            codecs = [{"name": "sharding_indexed", "configuration": about}]
        return {
            "shape": list(shape),
            "data_type": dtype,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": outer}},
            "codecs": codecs,
        }


def layouts(unit: int) -> tuple[Layout, ...]:
    """The layouts for a tile of `unit` pixels (512 in earnest)."""
    half, twice = unit // 2, unit * 2
    return (
        Layout(f"chunks of {unit}", unit, role="ours"),
        Layout(f"chunks of {half}", half),
        Layout(f"chunks of {twice}", twice),
        Layout(f"chunks of {unit}, each layer apart", unit, bands=1),
        Layout(f"chunks of {half} in shards of {unit}", half, shard_px=unit),
        Layout(f"chunks of {half} in shards of {twice}", half, shard_px=twice),
        Layout(f"chunks of {unit}, each layer apart, in shards of {unit}", unit, bands=1, shard_px=unit),
    )


@dataclass(frozen=True)
class Reading:
    """What is read: windows of one size, some of the layers."""

    side_px: int
    """Width and height of the scene."""
    window_px: int
    """Side of a window without its halo."""
    wanted: tuple[int, ...]
    """Indices of the layers."""
    cached_bytes: int
    """Memory for decoded chunks."""

    @cached_property
    def windows(self) -> tuple[Window, ...]:
        """In the order in which mapping reads them."""

        def along(start: int) -> slice:
            return slice(max(0, start - HALO_PX), min(self.side_px, start + self.window_px + HALO_PX))

        starts = range(0, self.side_px, self.window_px)
        return tuple((along(y), along(x)) for y in starts for x in starts)


def groups(setting: Setting) -> Iterator[Group]:
    """Disk, then a bucket; then our own reader."""
    side, unit = (1024, 256) if setting.quick else (2048, 512)
    stack = scenes.stack(side, "int16")
    names = scenes.NAMES
    some = {"all layers": tuple(range(len(names)))}
    some |= {which: tuple(names.index(name) for name in band_set(which).requires) for which in ("ten-band", "rgb")}
    stores = {layout: _written(setting.scratch / layout.key, layout, stack) for layout in layouts(unit)}
    cached = CACHED_ROWS * unit * side * len(stack) * stack.itemsize
    readings = {
        f"windows of {window} + {HALO_PX}, {which}": Reading(side, window, some[which], cached)
        for window, which in ((unit, "all layers"), (unit, "ten-band"), (unit, "rgb"), (2 * unit, "ten-band"))
    }
    files = {layout: _file(path) for layout, path in stores.items()}
    yield _blocks(stack[:, :unit, :unit])
    for name, reading in readings.items():
        for kvstore in files.values():
            _read(kvstore, reading, stack)  # also puts the files into memory
        yield _timed(f"disk, {name}", files, reading)
    with _bucket(setting.scratch, list(stores.values())) as bucket:
        places = {layout: bucket.kvstore(path.name) for layout, path in stores.items()}
        for name, reading in readings.items():
            sent = {
                layout: bucket.counted(lambda k=kvstore, r=reading: _read(k, r, stack))
                for layout, kvstore in places.items()
            }
            yield _weighed(f"bucket, {name}", sent, reading)
            yield _timed(f"bucket, {name}", places, reading)
        yield from _ours(setting, side, unit, bucket)


@dataclass(frozen=True)
class Bucket:
    """The Cloud Storage stand-in."""

    url: str
    """Its address."""
    client: httpx.Client
    """For its log."""

    def kvstore(self, prefix: str) -> dict[str, Any]:
        """Where tensorstore finds an array."""
        return {"driver": "gcs", "bucket": BUCKET, "path": f"{prefix}/"}

    def counted(self, work: Callable[[], object]) -> int:
        """Bytes that the bucket sent while `work` ran."""
        self.client.delete("/_standin/log")
        work()
        return sum(entry["bytes_out"] for entry in self.client.get("/_standin/log").json()["requests"])


@contextlib.contextmanager
def _bucket(scratch: Path, folders: list[Path]) -> Iterator[Bucket]:
    """The stand-in with copies of `folders`, slow to answer."""
    with (
        serve_process("infra.local.storage", "--root", str(scratch / "storage")) as url,
        httpx.Client(base_url=url, trust_env=False, timeout=60) as client,
    ):
        client.post("/storage/v1/b", params={"project": "bench"}, json={"name": BUCKET}).raise_for_status()
        store = open_store(f"gs://{BUCKET}", url)
        for folder in folders:
            for path in sorted(folder.rglob("*")):
                if path.is_file():
                    store.write(f"{folder.name}/{path.relative_to(folder).as_posix()}", path.read_bytes())
        slow = {"match": f"/b/{BUCKET}/o/", "method": "GET", "delay_s": LATENCY_S, "count": 10**9}
        client.post("/_standin/faults", json=slow).raise_for_status()
        os.environ["TENSORSTORE_GCS_HTTP_URL"] = url
        yield Bucket(url, client)


def _blocks(values: npt.NDArray[Any]) -> Group:
    """How fast one tile is decoded by one thread, by the size of Blosc's own blocks within a chunk."""
    chunk = np.ascontiguousarray(values)
    target = np.empty_like(chunk)

    def decoding(blocksize: int) -> Callable[[], float]:
        codec = numcodecs.Blosc(
            "zstd", clevel=COMPRESSION_LEVEL, shuffle=numcodecs.Blosc.BITSHUFFLE, blocksize=blocksize
        )
        body = codec.encode(chunk)
        return lambda: 8 * chunk.nbytes / 1e6 / elapsed(lambda: [codec.decode(body, target) for _ in range(8)])

    sizes = {f"{BLOCK_BYTES // 1024} KiB": BLOCK_BYTES, "as Blosc chooses": 0, "64 KiB": 2**16, "2 MiB": 2**21}
    cases = tuple(Case(name, "ours" if size == BLOCK_BYTES else "peer", decoding(size)) for name, size in sizes.items())
    return Group("decode a tile, Blosc blocks of", "MB/s", cases, warm=True)


def _file(path: Path) -> dict[str, Any]:
    return {"driver": "file", "path": str(path), "file_io_sync": False}


def _written(path: Path, layout: Layout, stack: npt.NDArray[Any]) -> Path:
    metadata = layout.metadata(stack.shape, str(stack.dtype))
    spec = {"driver": "zarr3", "kvstore": _file(path), "metadata": metadata}
    tensorstore.open(spec, create=True).result().write(stack).result()
    return path


def _opened(kvstore: dict[str, Any], cached_bytes: int) -> Any:
    """An array with an empty cache."""
    context = {
        "cache_pool": {"total_bytes_limit": cached_bytes},
        "data_copy_concurrency": {"limit": THREADS},
    }
    spec = {"driver": "zarr3", "kvstore": kvstore, "context": context, "recheck_cached_data": False}
    return tensorstore.open(spec, open=True, read=True).result()


def _read(kvstore: dict[str, Any], reading: Reading, check: npt.NDArray[Any] | None = None) -> None:
    opened = _opened(kvstore, reading.cached_bytes)
    bands = list(reading.wanted)
    for window in reading.windows:
        values = opened[(bands, *window)].read().result()
        if check is not None and not np.array_equal(values, check[(bands, *window)]):
            raise BenchError(f"{kvstore} gave other values at {window} than were written")


def _timed(name: str, places: dict[Layout, dict[str, Any]], reading: Reading) -> Group:
    def timing(kvstore: dict[str, Any]) -> Callable[[], float]:
        return lambda: elapsed(lambda: _read(kvstore, reading)) * 1e9 / reading.side_px**2

    cases = tuple(Case(layout.name, layout.role, timing(kvstore)) for layout, kvstore in places.items())
    return Group(name, "ns/px", cases, less_is_better=True, repetitions=2 if name.startswith("bucket") else 3)


def _weighed(name: str, sent: dict[Layout, int], reading: Reading) -> Group:
    def weighing(count: int) -> Callable[[], float]:
        return lambda: count / reading.side_px**2

    cases = tuple(Case(layout.name, layout.role, weighing(count)) for layout, count in sent.items())
    return Group(f"{name}, read", "bytes/px", cases, less_is_better=True, repetitions=1)


def _ours(setting: Setting, side: int, unit: int, bucket: Bucket) -> Iterator[Group]:
    """`SceneCube.read_tile` over chunks of three sizes, as mapping calls it."""
    arrays = cube_arrays(side)
    layers = band_set("ten-band").requires
    reading = Reading(side, unit, (), 0)
    cubes = {}
    for chunk in (unit, unit // 2, 2 * unit):
        for root, endpoint in ((str(setting.scratch / "ours"), ""), (f"gs://{BUCKET}/ours", bucket.url)):
            plan = cube_plan(f"{root}/{chunk}.zarr", side, chunk)
            create_cube(plan, endpoint)
            for tile in plan.tiles:
                values = {name: each[:, *tile.slices_yx] for name, each in arrays.items()}
                write_tile(plan, tile, values, endpoint)
            seal_cube(plan, endpoint)
            cubes[chunk, endpoint] = plan.uri

    def timing(uri: str, endpoint: str) -> Callable[[], float]:
        def run() -> float:
            cube = open_cube(uri, endpoint)
            seconds = elapsed(lambda: [cube.read_tile(*window, layers=layers) for window in reading.windows])
            return seconds * 1e9 / side**2

        return run

    for place, endpoint in (("disk", ""), ("bucket", bucket.url)):
        cases = tuple(
            Case(f"chunks of {chunk}", "ours" if chunk == unit else "peer", timing(uri, where))
            for (chunk, where), uri in cubes.items()
            if where == endpoint
        )
        name = f"{place}, our reader, windows of {unit} + {HALO_PX}, ten-band"
        yield Group(name, "ns/px", cases, less_is_better=True, repetitions=3)
