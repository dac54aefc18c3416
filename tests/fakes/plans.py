"""A plan of a mapping run that nobody made by asking Earth Engine."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import replace
from typing import Any

import shapely

from fakes import cubes
from flows.area import AreaOfInterest
from flows.event import EarthquakeEvent
from flows.layout import EventLayout
from flows.planning import MapPlan

EVENT = EarthquakeEvent(
    id="us2000h8ty", ids=("us2000h8ty",), time=cubes.EVENT, updated=cubes.EVENT, lon=141.93, lat=42.69, depth_km=35.0,
    magnitude=6.6, magnitude_type="mww", place="27 km ESE of Chitose", title="M 6.6 - 27 km ESE of Chitose, Japan",
    status="reviewed", alert=None,
)  # fmt: skip


def map_plan(**event: Any) -> MapPlan:
    """A plan over `fakes.cubes.GRID` in the bucket `bucket`; `event` replaces fields of the earthquake."""
    layout = EventLayout("gs://bucket", "us2000h8ty")
    cube = cubes.plan(layout.cube("c" * 64))
    area = AreaOfInterest(
        shapely.from_wkt(cube.geometry_wkt), "MMI >= 6 of ShakeMap us version 9", "shakemap", ("a note on the area",)
    )
    run = layout.run("0123456789abcdef")
    return MapPlan(
        replace(EVENT, **event), area, cube, "resu-senet-slim_ten-band", "ab" * 32, run, ("a note on the plan",)
    )


GIVEN_EVENT = {
    "status": "given", "magnitude": math.nan, "depth_km": None, "id": "hill", "time": dt.datetime(2018, 9, 5, tzinfo=dt.UTC),
}  # fmt: skip
"""What differs for an event that was given by hand."""
