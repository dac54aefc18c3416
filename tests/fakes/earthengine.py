"""The real Earth Engine client against the stand-in, over a real socket."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ee
import numpy as np
import numpy.typing as npt
from ee import deprecation
from google.auth.credentials import AnonymousCredentials

from fakes.servers import serve
from gee.types import Grid
from infra.local.earthengine import create_app

PROJECT = "local-project"
ROOT = f"projects/{PROJECT}/assets"


@contextmanager
def connected(url: str) -> Iterator[str]:
    """`ee` initialised for a server, and reset at the end; yields the server's address."""
    fetch = deprecation._FetchDataCatalogStac
    deprecation._FetchDataCatalogStac = dict  # Initialize would ask a public address
    try:
        ee.Initialize(AnonymousCredentials(), url=url, project=PROJECT)
        ee.data.setMaxRetries(0)
        yield url
    finally:
        deprecation._FetchDataCatalogStac = fetch
        ee.Reset()


@contextmanager
def earth_engine(catalogue: Path, state: Path, **options: Any) -> Iterator[str]:
    """The stand-in over a catalogue folder with `ee` initialised for it; yields its address."""
    with serve(create_app(catalogue, state, **options)) as url, connected(url):
        yield url


def grid_request(grid: Grid) -> dict[str, Any]:
    """A grid as `computePixels` takes it."""
    a, b, c, d, e, f = grid.transform
    return {
        "crsCode": grid.crs,
        "dimensions": {"width": grid.shape_yx[1], "height": grid.shape_yx[0]},
        "affineTransform": {"scaleX": a, "shearX": b, "translateX": c, "shearY": d, "scaleY": e, "translateY": f},
    }


def pixels(image: Any, grid: Grid) -> npt.NDArray[Any]:
    """The pixels of an expression as a structured array (y, x)."""
    asked = {"expression": ee.Image(image), "fileFormat": "NUMPY_NDARRAY", "grid": grid_request(grid)}
    found: npt.NDArray[np.void] = ee.data.computePixels(asked)
    return found


def values(image: Any, grid: Grid) -> npt.NDArray[np.float64]:
    """The first band as float64 (y, x), NaN where it is masked."""
    first = ee.Image(image).select([0], ["value"])
    found = pixels(first.addBands(first.mask().rename("valid")), grid)
    return np.where(found["valid"] > 0, found["value"].astype(np.float64), np.nan)
