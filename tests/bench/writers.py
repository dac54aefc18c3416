"""The ways to write and read the arrays of a Zarr store that are compared: same metadata, same codec, same threads.

Every engine gets a store whose metadata is there already, and does what it does to open it before its clock starts. All
of them read the store that we wrote.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

import dask
import dask.array as da
import google_crc32c
import numpy as np
import numpy.typing as npt
import tensorstore
import zarr
from numcodecs import blosc
from zarr.buffer.cpu import NDBuffer

from gee.chunks import ArrayLayout, decode, encode
from gee.store import open_store
from gee.types import Tile

from .cases import BenchError, Role, elapsed

THREADS = len(os.sched_getaffinity(0))
"""Of every engine."""

Arrays = Mapping[str, npt.NDArray[Any]]


class Engine(Protocol):
    """One way to move arrays."""

    name: str
    role: Role

    def write(self, store: Path, arrays: Arrays, chunk_px: int) -> float:
        """Seconds to fill the store's `arrays`, name -> (first axis, y, x)."""

    def read(self, store: Path, into: Arrays, chunk_px: int) -> float:
        """Seconds to read all of the arrays into those of `into`."""


def parts(arrays: Arrays, chunk_px: int) -> Iterator[tuple[str, Tile]]:
    """Every chunk of the arrays, tile by tile."""
    height, width = next(iter(arrays.values())).shape[1:]
    for y in range(0, height, chunk_px):
        for x in range(0, width, chunk_px):
            shape = min(chunk_px, height - y), min(chunk_px, width - x)
            for name in arrays:
                yield name, Tile(y // chunk_px, x // chunk_px, y, x, shape)


def spread(work: Callable[[tuple[str, Tile]], None], arrays: Arrays, chunk_px: int) -> float:
    """Seconds to do `work` for every chunk, by `THREADS` threads."""
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(int, range(THREADS)))  # the threads are there before the clock starts
        return elapsed(lambda: list(pool.map(work, parts(arrays, chunk_px))))


@dataclass(frozen=True)
class Bare:
    """The codec and a file a chunk, with nothing else around it: no record, no hash, no rename."""

    role: Role = "limit"
    name: str = "bare codec and files"

    def write(self, store: Path, arrays: Arrays, chunk_px: int) -> float:
        """See `Engine`."""
        codecs = {name: _codec(store / name) for name in arrays}
        for name, tile in parts(arrays, chunk_px):
            (store / name / "c" / "0" / str(tile.row)).mkdir(parents=True, exist_ok=True)

        def one(part: tuple[str, Tile]) -> None:
            name, tile = part
            body = codecs[name].encode(np.ascontiguousarray(arrays[name][:, *tile.slices_yx]))
            with (store / name / "c" / "0" / str(tile.row) / str(tile.col)).open("wb") as file:
                file.write(body)
                file.write(google_crc32c.value(body).to_bytes(4, "little"))

        return spread(one, arrays, chunk_px)

    def read(self, store: Path, into: Arrays, chunk_px: int) -> float:
        """See `Engine`."""
        codecs = {name: _codec(store / name) for name in into}

        def one(part: tuple[str, Tile]) -> None:
            name, tile = part
            body = (store / name / "c" / "0" / str(tile.row) / str(tile.col)).read_bytes()
            if google_crc32c.value(body[:-4]).to_bytes(4, "little") != body[-4:]:
                raise BenchError(f"the checksum of {name} {tile.name} is wrong")
            target = into[name]
            chunk = np.frombuffer(codecs[name].decode(memoryview(body)[:-4]), target.dtype)
            target[:, *tile.slices_yx] = chunk.reshape(len(target), chunk_px, chunk_px)

        return spread(one, into, chunk_px)


class Apart:
    """An engine in a process of its own, with the settings that any process begins with: ours has told the allocator to
    keep freed memory, which would serve the engine as well."""

    def __init__(self, engine: Engine, arrays: Arrays, scratch: Path) -> None:
        self.name, self.role = f"{engine.name}, in a process of its own", engine.role
        self._engine, self._arrays = engine, scratch / "arrays.npz"
        np.savez(self._arrays, **arrays)  # type: ignore[arg-type]  # its stub takes a keyword for one of its own
        self._pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))  # it ends with this process

    def write(self, store: Path, arrays: Arrays, chunk_px: int) -> float:
        """See `Engine`."""
        return self._pool.submit(_write_apart, self._engine, self._arrays, store, chunk_px).result()

    def read(self, store: Path, into: Arrays, chunk_px: int) -> float:
        """See `Engine`; what was read is compared there, and `into` is filled with it."""
        seconds = self._pool.submit(_read_apart, self._engine, self._arrays, store, chunk_px).result()
        for name, values in into.items():
            values[:] = _loaded(self._arrays)[name]
        return seconds


@lru_cache(maxsize=1)
def _loaded(path: Path) -> Arrays:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _write_apart(engine: Engine, arrays: Path, store: Path, chunk_px: int) -> float:
    return engine.write(store, _loaded(arrays), chunk_px)


def _read_apart(engine: Engine, arrays: Path, store: Path, chunk_px: int) -> float:
    expected = _loaded(arrays)
    into = {name: np.empty_like(values) for name, values in expected.items()}
    seconds = engine.read(store, into, chunk_px)
    for name, values in expected.items():
        if not np.array_equal(into[name], values, equal_nan=values.dtype.kind == "f"):
            raise BenchError(f"{engine.name} read other values of {name} than there were")
    return seconds


def _codec(array: Path) -> Any:
    """The compressor that the array's metadata declares."""
    for codec in json.loads((array / "zarr.json").read_text(encoding="utf-8"))["codecs"]:
        if codec["name"] == "blosc":
            about = codec["configuration"]
            shuffle = {"bitshuffle": blosc.BITSHUFFLE, "shuffle": blosc.SHUFFLE, "noshuffle": blosc.NOSHUFFLE}
            return blosc.Blosc(about["cname"], about["clevel"], shuffle[about["shuffle"]], about["blocksize"])
    raise BenchError(f"{array} has no Blosc codec: compare with another")


class Ours:
    """`gee.chunks` and `gee.store`, which write and read every chunk of our cubes."""

    name = "quakeslide"
    role: Role = "ours"

    def write(self, store: Path, arrays: Arrays, chunk_px: int) -> float:
        layouts, objects = _layouts(arrays), open_store(str(store))

        def one(part: tuple[str, Tile]) -> None:
            layout, tile = layouts[part[0]], part[1]
            objects.write(layout.key(tile), *encode(arrays[layout.name][:, *tile.slices_yx], layout, chunk_px))

        return spread(one, arrays, chunk_px)

    def read(self, store: Path, into: Arrays, chunk_px: int) -> float:
        layouts, objects = _layouts(into), open_store(str(store))

        def one(part: tuple[str, Tile]) -> None:
            layout, tile = layouts[part[0]], part[1]
            target = into[layout.name]
            target[:, *tile.slices_yx] = decode(objects.read(layout.key(tile)), layout, len(target), chunk_px)

        return spread(one, into, chunk_px)


def _layouts(arrays: Arrays) -> dict[str, ArrayLayout]:
    return {name: ArrayLayout(name, str(values.dtype), 0, ("band", "y", "x")) for name, values in arrays.items()}


@dataclass(frozen=True)
class ZarrPython:
    """zarr-python, with its own pipeline of codecs or with that of zarrs."""

    name: str
    pipeline: str
    role: Role = "peer"

    def _settings(self) -> Any:
        return zarr.config.set({"codec_pipeline.path": self.pipeline, "threading.max_workers": THREADS})

    def write(self, store: Path, arrays: Arrays, chunk_px: int) -> float:
        with self._settings():
            opened = {name: zarr.open_array(store / name, mode="r+") for name in arrays}

            def fill() -> None:
                for name, values in arrays.items():
                    opened[name][:] = values

            return elapsed(fill)

    def read(self, store: Path, into: Arrays, chunk_px: int) -> float:
        with self._settings():
            opened = {name: zarr.open_array(store / name, mode="r") for name in into}

            def load() -> None:
                for name, target in into.items():
                    opened[name].get_basic_selection(out=NDBuffer.from_numpy_array(target))

            return elapsed(load)


class Dask:
    """dask's `store` and `from_zarr` with threads: what `to_zarr` of an xarray data set does."""

    name = "dask threads over zarr-python"
    role: Role = "peer"

    def write(self, store: Path, arrays: Arrays, chunk_px: int) -> float:
        targets = [zarr.open_array(store / name, mode="r+") for name in arrays]
        sources = [da.from_array(values, (len(values), chunk_px, chunk_px), name=False) for values in arrays.values()]
        with dask.config.set(scheduler="threads", num_workers=THREADS):
            return elapsed(lambda: da.store(sources, targets, lock=False))

    def read(self, store: Path, into: Arrays, chunk_px: int) -> float:
        sources = [da.from_zarr(zarr.open_array(store / name, mode="r")) for name in into]
        with dask.config.set(scheduler="threads", num_workers=THREADS):
            return elapsed(lambda: da.store(sources, list(into.values()), lock=False))


class TensorStore:
    """tensorstore, whose copying and file access get as many threads as the others have."""

    name = "tensorstore"
    role: Role = "peer"

    def _open(self, path: Path) -> Any:
        limits = {"data_copy_concurrency": {"limit": THREADS}, "file_io_concurrency": {"limit": THREADS}}
        # The others leave it to the kernel when their files reach the disk.
        files = {"driver": "file", "path": str(path), "file_io_sync": False}
        spec = {"driver": "zarr3", "kvstore": files, "context": limits}
        return tensorstore.open(spec, open=True)

    def write(self, store: Path, arrays: Arrays, chunk_px: int) -> float:
        opened = {name: self._open(store / name).result() for name in arrays}

        def fill() -> None:
            for written in [opened[name].write(values) for name, values in arrays.items()]:
                written.result()

        return elapsed(fill)

    def read(self, store: Path, into: Arrays, chunk_px: int) -> float:
        opened = {name: self._open(store / name).result() for name in into}

        def load() -> None:
            targets = {name: tensorstore.array(values, copy=False, write=True) for name, values in into.items()}
            for copied in [target.write(opened[name]) for name, target in targets.items()]:
                copied.result()

        return elapsed(load)


PEERS: tuple[Engine, ...] = (
    TensorStore(),
    ZarrPython("zarrs", "zarrs.ZarrsCodecPipeline"),
    ZarrPython("zarr-python", "zarr.core.codec_pipeline.BatchedCodecPipeline"),
    Dask(),
)
"""Other software."""
