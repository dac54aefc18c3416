"""A scene in memory: a cube without a store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gee.types import Grid, Observed

WEST, NORTH = 500_000.0, 4_700_000.0
DAY_BEFORE, DAY_AFTER = 17_770, 17_784


@dataclass(frozen=True)
class ArrayBlock:
    """A window of `ArrayScene`."""

    layers: Mapping[str, npt.NDArray[np.float32]]
    observed: npt.NDArray[np.uint8]
    date: npt.NDArray[np.int32]


@dataclass(frozen=True)
class ArrayScene:
    """Layers (y, x), codes (phase, y, x) and days (phase, y, x) that are all there; a `flows.mapping.Scene`."""

    grid: Grid
    layers: Mapping[str, npt.NDArray[np.float32]]
    observed: npt.NDArray[np.uint8]
    date: npt.NDArray[np.int32]

    @property
    def layer_names(self) -> tuple[str, ...]:
        return tuple(self.layers)

    def read_tile(self, y: slice, x: slice, layers: tuple[str, ...] | None = None) -> ArrayBlock:
        wanted = self.layer_names if layers is None else layers
        return ArrayBlock(
            {name: self.layers[name][y, x].copy() for name in wanted}, self.observed[:, y, x], self.date[:, y, x]
        )


def array_scene(shape_yx: tuple[int, int], colours: tuple[str, ...] = ("red", "green", "blue", "nir")) -> ArrayScene:
    """A scene of even ground that was seen in full on one day before and one day after."""
    rng = np.random.default_rng(3)
    layers = {
        "elevation": np.full(shape_yx, 300, np.float32),
        "slope": np.full(shape_yx, 30, np.float32),
        "hillshade": np.full(shape_yx, 180, np.float32),
    }
    for phase in ("pre", "post"):
        for colour in colours:
            base = 0.35 if colour == "nir" else 0.05
            layers[f"{colour}_{phase}"] = (base + 0.01 * rng.random(shape_yx)).astype(np.float32)
    date = np.stack([np.full(shape_yx, day, np.int32) for day in (DAY_BEFORE, DAY_AFTER)])
    grid = Grid("EPSG:32654", (10.0, 0.0, WEST, 0.0, -10.0, NORTH), shape_yx)
    return ArrayScene(grid, layers, np.full((2, *shape_yx), Observed.CLEAR, np.uint8), date)
