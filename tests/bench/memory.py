"""Memory of a pull: the same work for a few tiles and for many.

A process of its own pulls a cube of so many tiles of 512 px (15 layers, observed, date) by `gee.cube.pull_tile`, 16 tiles
at a time in dask's threads, into a store on disk, and tells the most memory it ever held (its peak resident set, Python
and all libraries included). The pixels come over a loopback socket from the measuring process. *to the limit* is the
ratio of the peak of the smallest cube, in which each thread has pulled four tiles, to that of the larger one: 1 is flat.
What the program itself holds at a time is the same in all of them; the rest is free memory that the allocator keeps in
pieces (`gee.allocator`).
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import dask
import numpy as np
import numpy.typing as npt
from fakes.pixel_server import PixelServer
from fakes.servers import serve

from gee.cube import create_cube, pull_tile, seal_cube
from gee.session import SessionConfig
from gee.types import Grid, Observed

from . import scenes
from .cases import Case, Group, Setting
from .engines import cube_plan
from .peak import peak_bytes, peak_mb

CONCURRENT = 16


def groups(setting: Setting) -> Iterator[Group]:
    """One group: cubes of more and more tiles."""
    tile_px, counts = (256, (16, 36)) if setting.quick else (512, (64, 256, 1024))
    with serve(PixelServer(_pixels).app) as url:

        def peak(count: int) -> Callable[[], float]:
            store = setting.scratch / f"{count}.zarr"
            return lambda: peak_mb(__name__, (url, store, count, tile_px))

        cases = [Case(f"{count} tiles", "ours", peak(count)) for count in counts[1:]]
        first = Case(f"{counts[0]} tiles", "limit", peak(counts[0]))
        yield Group(
            f"peak of a pull, {CONCURRENT} at a time", "MB", (first, *cases), less_is_better=True, repetitions=1
        )


def _pixels(grid: Grid) -> Mapping[str, npt.NDArray[Any]]:
    return _window(grid.shape_yx[0])


@lru_cache
def _window(side: int) -> Mapping[str, npt.NDArray[Any]]:
    """A corner of the simulated scene, for every tile: what is stored of it does not matter here."""
    stack = scenes.stack(side, "int16")
    bands: dict[str, npt.NDArray[Any]] = dict(zip(scenes.NAMES, stack, strict=True))
    for phase in ("pre", "post"):
        bands[f"observed_{phase}"] = np.full((side, side), Observed.CLEAR, np.uint8)
        bands[f"date_{phase}"] = np.full((side, side), 17_800, np.int32)
    return bands


def _pull(url: str, store: str, count: int, tile_px: int) -> int:
    """Pull `count` tiles; the process's peak in bytes."""
    side = math.isqrt(count) * tile_px
    plan = cube_plan(store, side, tile_px)
    config = SessionConfig(url, "bench", max_concurrent=CONCURRENT)
    create_cube(plan)
    work = [dask.delayed(pull_tile, pure=False)(plan, config, tile) for tile in plan.tiles]
    dask.compute(*work, scheduler="threads", num_workers=CONCURRENT)
    seal_cube(plan)
    return peak_bytes()


def main() -> None:
    """Pull and tell the peak."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("store")
    parser.add_argument("count", type=int)
    parser.add_argument("tile_px", type=int)
    sys.stdout.write(str(_pull(**vars(parser.parse_args()))))


if __name__ == "__main__":
    main()
