"""Looks at the windows before an event, and takes the one in which the slopes were clear and in leaf. Few requests.

What is decided and why is in `gee.windows`; here is what it needs to know, from a coarse composite of each window.
"""

from __future__ import annotations

from collections.abc import Sequence

import ee
import numpy as np
from shapely.geometry.base import BaseGeometry

from gee.catalog import asset_exists, list_scenes
from gee.errors import NoScenesError
from gee.grid import coarse_grid_for, geometry_mask
from gee.phases import ImageryChoice, choose_phase, for_a_look
from gee.pixels import fetch_pixels
from gee.sentinel2 import NODATA, common_colours, phase_image
from gee.session import Session
from gee.types import Observed, Window
from gee.windows import Candidate, Choice, Look, choose, is_enough

COARSER = 3
"""A look's pixels are at least so many times those of the cube."""
LOOK_PX = 100_000
"""Pixels of a coarse look, about: a share of the area to within a percent, at little cost to Earth Engine."""


def choose_before(
    session: Session,
    collections: Sequence[str],
    geometry: BaseGeometry,
    imagery: ImageryChoice,
    candidates: Sequence[Candidate],
    after: Window,
    *,
    pixel_m: float = 10.0,
    maximum_cloud_percent: float = 100.0,
    minimum_clear: float = 0.7,
    ndvi_drop: float = 0.15,
) -> Choice:
    """Of `candidates` the window to compare with the images of `after`; see `gee.windows.choose`.

    Candidates are looked at in their order and only as far as is needed. Raises `NoScenesError` when no collection has a
    scene of the area (WGS84) in `after`; whether a scene before is found at all is for the caller to see.
    """
    collection = _collection(session, collections, geometry, after, maximum_cloud_percent)
    seasons = any(candidate.kind == "same season" for candidate in candidates)
    looks: list[Look] = []
    for candidate in candidates:
        looks.append(_look(session, collection, candidate, geometry, imagery, pixel_m, maximum_cloud_percent))
        season = next((look for look in looks if look.candidate.kind == "same season"), None)
        compared = season is not None or looks[0].ndvi is None or not seasons
        if compared and not is_enough(looks[0], season, minimum_clear=minimum_clear, ndvi_drop=ndvi_drop):
            break
        if len(looks) > 1 and looks[-1].clear_share >= minimum_clear:
            break
    chosen = choose(looks, minimum_clear=minimum_clear, ndvi_drop=ndvi_drop)
    return chosen or Choice(candidates[-1], "nothing was clear in any window before the event")


def _collection(
    session: Session, collections: Sequence[str], geometry: BaseGeometry, after: Window, maximum_cloud_percent: float
) -> str:
    """The first collection with a scene after the event."""
    for collection in collections:
        if asset_exists(session, collection) and list_scenes(
            session, collection, geometry, after, maximum_cloud_percent=maximum_cloud_percent
        ):
            return collection
    raise NoScenesError(
        f"no scene of the area from {after.start:%Y-%m-%d} to {after.end:%Y-%m-%d} in {', '.join(collections)}, at most "
        f"{maximum_cloud_percent:g} % cloudy: wait for the next pass"
    )


def _look(
    session: Session,
    collection: str,
    candidate: Candidate,
    geometry: BaseGeometry,
    imagery: ImageryChoice,
    pixel_m: float,
    maximum_cloud_percent: float,
) -> Look:
    """The clear share and the NDVI of a window's composite, sampled coarsely; one request of pixels."""
    scenes = list_scenes(session, collection, geometry, candidate.window, maximum_cloud_percent=maximum_cloud_percent)
    if not scenes:
        return Look(candidate, 0.0, None)
    phase = choose_phase(session, "pre", scenes, imagery, geometry, terrain=False)
    colours = [colour for colour in common_colours(phase.scenes) if colour in ("red", "nir")]
    bands = {"observed_pre": "uint8"} | {f"{colour}_pre": "int16" for colour in colours}
    grid = coarse_grid_for(geometry, COARSER * pixel_m, LOOK_PX)
    expression = ee.serializer.encode(phase_image(for_a_look(phase), colours), for_cloud_api=True)
    pixels = fetch_pixels(session, expression, grid, bands)
    inside = geometry_mask(grid, geometry)
    clear = inside & (pixels["observed_pre"] == Observed.CLEAR)
    share = float(clear.sum() / inside.sum()) if inside.any() else 0.0
    if len(colours) < 2 or not clear.any():
        return Look(candidate, share, None)
    known = clear & (pixels["red_pre"] != NODATA) & (pixels["nir_pre"] != NODATA)
    red, nir = (pixels[f"{colour}_pre"][known].astype(np.float64) for colour in ("red", "nir"))
    ndvi = (nir - red) / np.maximum(nir + red, 1)
    return Look(candidate, share, float(np.median(ndvi)) if ndvi.size else None)
