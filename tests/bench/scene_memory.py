"""The memory of a process that maps a cube into a COG with the shipped model, as the scene grows.

The whole way of `tests.bench.inference`'s *cube to COG*, in a process of its own whose high-water mark is read: tiles
of a Zarr cube (even ones, which are quickly made and take little room), the network, the COG with its overviews.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from gee.cube import create_cube, seal_cube, write_tile
from gee.types import PHASES, Observed

from . import scenes
from .cases import Case, Group, Setting
from .engines import cube_plan
from .peak import peak_mb
from .writers import THREADS


def groups(setting: Setting) -> Iterator[Group]:
    """One comparison."""
    side, small = (1024, 512) if setting.quick else (20_000, 5_000)
    cases = [
        Case(f"{each:,} x {each:,} px", role, lambda each=each: _peak(setting.scratch, each))  # type: ignore[misc]
        for each, role in ((small, "limit"), (side, "ours"))
    ]
    yield Group("peak from cube to COG", "MB", tuple(cases), less_is_better=True, repetitions=1)


def _peak(scratch: Path, side: int) -> float:
    """Of a process that maps a cube of even tiles, which is quickly made and takes little room."""
    store = scratch / f"even-{side}.zarr"
    if not store.exists():
        plan = cube_plan(str(store), side, min(512, side // 2))
        create_cube(plan)

        def one(tile: Any) -> None:
            shape = tile.shape_yx
            write_tile(plan, tile, {
                "stack": np.full((len(scenes.NAMES), *shape), 900 + tile.row, np.int16),
                "observed": np.full((len(PHASES), *shape), Observed.CLEAR, np.uint8),
                "date": np.full((len(PHASES), *shape), 17_800, np.int32),
            })  # fmt: skip

        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(one, plan.tiles))
        seal_cube(plan)
    return peak_mb(f"{__package__}.inference", [store, scratch / f"even-{side}.tif"])
