"""How much of an area a planned cube will show, from one coarse look at both phases."""

from __future__ import annotations

from dataclasses import replace

import ee

from gee.grid import coarse_grid_for, geometry_mask
from gee.phases import for_a_look
from gee.pixels import fetch_pixels
from gee.plan import CubePlan
from gee.sentinel2 import common_colours, event_image
from gee.session import Session
from gee.types import PHASES, Observed

COVERAGE_PX = 400_000
"""Pixels of the look, about."""


def clear_share(session: Session, plan: CubePlan) -> dict[str, float]:
    """Estimated share of the area seen clearly `before`, `after` and in `both`, each 0 to 1; one request.

    The shadow of the terrain is left out: it is found on the elevation model's own grid, whatever is asked for. Raises
    what `gee.pixels.fetch_pixels` raises.
    """
    pre, post = (
        replace(look, reasons=tuple(reason for reason in look.reasons if reason != "terrain_shadow"))
        for look in map(for_a_look, plan.scenes)
    )
    image = event_image(pre, post, common_colours([*pre.scenes, *post.scenes]))
    grid = coarse_grid_for(plan.geometry, plan.grid.pixel_m, COVERAGE_PX)
    wanted = {f"observed_{phase}": "uint8" for phase in PHASES}
    pixels = fetch_pixels(session, ee.serializer.encode(image, for_cloud_api=True), grid, wanted)
    inside = geometry_mask(grid, plan.geometry)
    if not inside.any():
        return {"before": 0.0, "after": 0.0, "both": 0.0}
    before, after = ((pixels[f"observed_{phase}"] == Observed.CLEAR)[inside] for phase in PHASES)
    shares = {"before": before, "after": after, "both": before & after}
    return {name: float(clear.mean()) for name, clear in shares.items()}
