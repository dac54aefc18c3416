"""Writing and reading Zarr: how close each engine comes to the bare codec.

The scene is simulated (15 layers, chunks of 15 x 512 x 512, compressed about 1.5 times, as real ones are), the codec is
that of our cubes (blosc: zstd 3, bit-shuffled; crc32c), and every engine has as many threads as the machine has cores.
The limit is that codec and one plain file a chunk in a thread pool, with no hash, no record and no renaming around it,
in a process of its own as anyone would write it. Ours has told the allocator to keep freed memory (`gee.allocator`),
which serves whatever runs in that process: the peers run there, and the bare loop once more, as a fact.
*cube* is our whole cube as `gee.cube.write_tile` writes it and `gee.scenecube` reads it: int16 stack, observed and
date, with the hashes and the record of each tile; the peers write and read the same three arrays and nothing else.
*uint16* and *float32* are one array through `gee.chunks` and `gee.store` alone. Megabytes are those of the arrays, not
of the files; the files lie in memory (tmpfs) where there is such a folder. All engines read the store that we wrote,
and what each has written is read back by zarr-python and compared before its time counts.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
import zarr
from fakes import cubes

from gee.allocator import keep_memory
from gee.cube import create_cube, load_plan, seal_cube, write_tile
from gee.grid import tiles
from gee.layout import zarr_skeleton
from gee.plan import CubePlan, Layer
from gee.scenecube import open_cube
from gee.types import PHASES, Grid, Observed

from . import scenes
from .cases import BenchError, Case, Group, Role, Setting, elapsed
from .writers import PEERS, THREADS, Apart, Arrays, Bare, Engine, Ours, spread

Prepare = Callable[[Path], None]
"""Makes a store with all metadata and no chunk."""


class OurCube:
    """A whole cube: what a pull does with a tile's pixels, and what mapping reads."""

    name = "quakeslide"
    role: Role = "ours"

    def write(self, store: Path, arrays: Arrays, chunk_px: int) -> float:
        """See `Engine`."""
        plan = load_plan(str(store))

        def one(tile: Any) -> None:
            write_tile(plan, tile, {name: values[:, *tile.slices_yx] for name, values in arrays.items()})

        with ThreadPoolExecutor(THREADS) as pool:
            seconds = elapsed(lambda: list(pool.map(one, plan.tiles)))
        seal_cube(plan)
        return seconds

    def read(self, store: Path, into: Arrays, chunk_px: int) -> float:
        """See `Engine`."""
        cube = open_cube(str(store))

        def one(tile: Any) -> None:
            for name, values in cube.read_stored(*tile.slices_yx).items():
                into[name][:, *tile.slices_yx] = values

        with ThreadPoolExecutor(THREADS) as pool:
            return elapsed(lambda: list(pool.map(one, cube.plan.tiles)))


def groups(setting: Setting) -> Iterator[Group]:
    """The comparisons: cube, uint16, float32."""
    side, chunk = (1024, 256) if setting.quick else (2048, 512)
    keep_memory()  # as in our workers
    cube = cube_arrays(side)
    yield from _both("cube", OurCube(), cube, chunk, _prepare_cube(side, chunk), setting)
    yield _physical(setting.scratch / "cube" / "ours.zarr", cube, chunk)
    for dtype in ("uint16", "float32"):
        arrays = {"stack": scenes.stack(side, dtype)}
        yield from _both(dtype, Ours(), arrays, chunk, _prepare_array(arrays["stack"], chunk), setting)


def square(side: int) -> Grid:
    """A grid of `side` x `side` pixels of 10 m."""
    return Grid("EPSG:32654", (10.0, 0.0, 500_000.0, 0.0, -10.0, 4_700_000.0), (side, side))


def cube_plan(uri: str, side: int, chunk: int) -> CubePlan:
    """The plan of a cube that holds the simulated scene."""
    grid = square(side)
    layers = tuple(Layer(name, scenes.step(name), 0.0, scenes.units(name)) for name in scenes.NAMES)
    area = cubes.area_in(grid, -5, -5, side + 5, side + 5)
    return replace(
        cubes.plan(uri), grid=grid, tile_px=chunk, tiles=tiles(grid, chunk), layers=layers, geometry_wkt=area.wkt
    )


def cube_arrays(side: int) -> dict[str, npt.NDArray[Any]]:
    stack = scenes.stack(side, "int16")
    names = scenes.NAMES
    clear = np.stack([stack[names.index(f"red_{phase}")] != scenes.FILL for phase in PHASES])
    observed = np.where(clear, Observed.CLEAR, Observed.CLOUD).astype(np.uint8)
    return {"stack": stack, "observed": observed, "date": np.where(clear, 17_800, -1).astype(np.int32)}


def _prepare_cube(side: int, chunk: int) -> Prepare:
    return lambda store: create_cube(cube_plan(str(store), side, chunk)) and None


def _prepare_array(values: npt.NDArray[Any], chunk: int) -> Prepare:
    """An array with the codecs of a cube's stack, for another type."""
    files = zarr_skeleton(cube_plan("/nowhere/cube.zarr", 2 * chunk, chunk))
    about = copy.deepcopy(json.loads(files["stack/zarr.json"]))
    about |= {"shape": list(values.shape), "data_type": str(values.dtype), "fill_value": 0, "attributes": {}}
    about["chunk_grid"]["configuration"]["chunk_shape"] = [len(values), chunk, chunk]
    for codec in about["codecs"]:
        if codec["name"] == "blosc":
            codec["configuration"]["typesize"] = values.itemsize

    def prepare(store: Path) -> None:
        (store / "stack").mkdir(parents=True)
        (store / "stack" / "zarr.json").write_text(json.dumps(about), encoding="utf-8")

    return prepare


def _both(name: str, ours: Engine, arrays: Arrays, chunk: int, prepare: Prepare, setting: Setting) -> Iterator[Group]:
    """Writing by every engine, then reading what we wrote."""
    folder = setting.scratch / name
    megabytes = sum(values.nbytes for values in arrays.values()) / 1e6
    kept = folder / "ours.zarr"
    prepare(kept)
    ours.write(kept, arrays, chunk)
    engines: tuple[Engine, ...] = (Apart(Bare(), arrays, folder), ours, *PEERS, Bare(role="fact"))
    checked: set[str] = set()

    def writing(engine: Engine) -> Callable[[], float]:
        def run() -> float:
            store = folder / "written.zarr"
            shutil.rmtree(folder / "written.zarr", ignore_errors=True)
            for beside in folder.glob("written.*"):
                shutil.rmtree(beside) if beside.is_dir() else beside.unlink()
            prepare(store)
            seconds = engine.write(store, arrays, chunk)
            if engine.name not in checked:
                _check(
                    f"{engine.name} wrote", {key: zarr.open_array(store / key, mode="r")[:] for key in arrays}, arrays
                )
                checked.add(engine.name)
            return megabytes / seconds

        return run

    def reading(engine: Engine) -> Callable[[], float]:
        def run() -> float:
            into = {key: np.empty_like(values) for key, values in arrays.items()}
            seconds = engine.read(kept, into, chunk)
            _check(f"{engine.name} read", into, arrays)
            return megabytes / seconds

        return run

    for verb, runner in (("write", writing), ("read", reading)):
        cases = tuple(Case(engine.name, engine.role, runner(engine)) for engine in engines)
        yield Group(f"{name}, {verb}", "MB/s", cases, warm=True)


def _physical(store: Path, arrays: Arrays, chunk: int) -> Group:
    """The stack in physical units, as a network takes it: float32 with NaN where nothing is known."""
    megabytes = arrays["stack"].nbytes / 1e6
    truth = scenes.physical(arrays["stack"].shape[1])
    steps = np.array([scenes.step(name) for name in truth], np.float32)[:, None, None]

    def close(who: str, layers: Any) -> None:
        for name, values in truth.items():
            if not np.allclose(layers[name], values, atol=scenes.step(name), equal_nan=True):
                raise BenchError(f"{who} gave other values of {name} than were written")

    def bare() -> float:
        into = {"stack": np.empty_like(arrays["stack"])}
        out = np.empty(into["stack"].shape, np.float32)

        def convert(part: Any) -> None:
            window = (slice(None), *part[1].slices_yx)
            stored = into["stack"][window]
            values = stored * steps
            values[stored == scenes.FILL] = np.nan
            out[window] = values

        seconds = Bare().read(store, into, chunk) + spread(convert, into, chunk)
        close("the bare loop", dict(zip(truth, out, strict=True)))
        return megabytes / seconds

    def ours() -> float:
        cube = open_cube(str(store))
        out = {name: np.empty_like(values) for name, values in truth.items()}

        def one(tile: Any) -> None:
            for name, values in cube.read_tile(*tile.slices_yx).layers.items():
                out[name][tile.slices_yx] = values

        with ThreadPoolExecutor(THREADS) as pool:
            seconds = elapsed(lambda: list(pool.map(one, cube.plan.tiles)))
        close("quakeslide", out)
        return megabytes / seconds

    def by_xarray() -> float:
        opened = xr.open_zarr(store, consolidated=False)  # gives NaN for the fill value already
        lazy = (opened["stack"] * opened["scale"] + opened["offset"]).astype(np.float32)
        found: list[Any] = []
        seconds = elapsed(lambda: found.append(lazy.compute(scheduler="threads", num_workers=THREADS)))
        close("xarray", dict(zip(truth, found[0].to_numpy(), strict=True)))
        return megabytes / seconds

    cases = (
        Case("bare codec and files, then numpy", "limit", bare),
        Case("quakeslide", "ours", ours),
        Case("xarray.open_zarr over dask threads", "peer", by_xarray),
    )
    return Group("cube, read as physical float32", "MB/s", cases, warm=True)


def _check(what: str, found: Arrays, expected: Arrays) -> None:
    for name, values in expected.items():
        if not np.array_equal(found[name], values, equal_nan=values.dtype.kind == "f"):
            raise BenchError(f"{what} other values of {name} than there were")
