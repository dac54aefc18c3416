"""What the stages measure on: a simulated quake as our cube would hold it, so that it compresses as one does."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from modeling.simulate import domain, layers_of, simulate_region

SIMULATED_PX = 1024
"""Side of what is simulated; larger scenes repeat it, mirrored: it compresses the same, and simulating takes time."""
REFLECTANCE, DEGREES, HALF_METRES, SHADES = 1e-4, 0.01, 0.5, 0.01
FILL = -32_768

COLOURS = ("blue", "green", "red", "nir", "swir1", "swir2")
NAMES = ("elevation", "slope", "hillshade", *(f"{colour}_{phase}" for phase in ("pre", "post") for colour in COLOURS))
"""The layers, in the order of a cube."""

_STEPS = {"elevation": HALF_METRES, "slope": DEGREES, "hillshade": SHADES}


@lru_cache(maxsize=2)
def physical(side_px: int) -> dict[str, npt.NDArray[np.float32]]:
    """Layer name -> (y, x) in physical units, the terrain first as in a cube; NaN where clouds hid the ground."""
    small = min(side_px, SIMULATED_PX)
    region = simulate_region(domain("luding"), seed=23, shape_yx=(small, small))
    layers, _ = layers_of(region)
    return {name: _mirrored(layers[name], side_px) for name in NAMES}


def units(name: str) -> str:
    """Units of a layer."""
    return {"elevation": "m", "slope": "degree"}.get(name, "1")


def step(name: str) -> float:
    """Size of a layer's stored step."""
    return _STEPS.get(name, REFLECTANCE)


@lru_cache(maxsize=2)
def stack(side_px: int, dtype: str) -> npt.NDArray[Any]:
    """The scene as one array (band, y, x): int16 with steps as in the cube, uint16 likewise, or physical float32."""
    physical_layers = physical(side_px)
    out = np.empty((len(physical_layers), side_px, side_px), dtype)
    for index, (name, values) in enumerate(physical_layers.items()):
        if dtype == "float32":
            out[index] = values
        else:
            fill = FILL if dtype == "int16" else 0
            out[index] = np.where(np.isnan(values), fill, np.rint(values / np.float32(step(name))))
    return out


def _mirrored(values: npt.NDArray[np.float32], side_px: int) -> npt.NDArray[np.float32]:
    times = -(-side_px // len(values))
    row = np.concatenate([values[:, :: (-1) ** i] for i in range(times)], axis=1)
    return np.concatenate([row[:: (-1) ** i] for i in range(times)])[:side_px, :side_px]
