"""What the pipeline reads: a scene of imagery and terrain on one grid, window by window, whatever it is stored in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt

from gee.types import Grid

FloatArray = npt.NDArray[np.float32]
CodeArray = npt.NDArray[np.uint8]
DayArray = npt.NDArray[np.int32]
Slices = tuple[slice, slice]


class Block(Protocol):
    """A window of a scene."""

    @property
    def layers(self) -> Mapping[str, FloatArray]:
        """Layers by name, each (y, x) in physical units, NaN where unknown."""

    @property
    def observed(self) -> CodeArray:
        """Codes of `gee.types.Observed`, (phase, y, x)."""

    @property
    def date(self) -> DayArray:
        """Days since 1970-01-01, (phase, y, x), -1 where there is none."""


class Scene(Protocol):
    """Imagery and terrain of an event on one grid."""

    @property
    def grid(self) -> Grid:
        """The grid of everything that is read."""

    @property
    def layer_names(self) -> tuple[str, ...]:
        """The layers there are."""

    def read_tile(self, y: slice, x: slice, layers: tuple[str, ...] | None = None) -> Block:
        """A window of the grid; all layers when none are named."""
