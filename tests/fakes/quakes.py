"""A small simulated earthquake, written as the stand-ins serve it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from affine import Affine

from fakes.usgs_records import feature
from infra.local.scenes import AW3D30, write_collection, write_image
from infra.local.simulated import SimulatedQuakeFiles, write_simulated
from modeling.simulate import Pass, Region, domain, simulate_region

EVENT_ID = "simsmall"
WEAK_EVENT_ID, SEA_EVENT_ID = "simweak", "simatsea"
SEA = (150.0, 20.0, 151.0, 21.0)
"""Where the elevation model knows water only: west, south, east, north."""
BANDS = ("B2", "B3", "B4", "B8")
GAP_COLUMNS = 90
"""How many columns in the west of the region no pass before the event has seen."""


@dataclass(frozen=True)
class SmallQuake:
    """A region of 256 x 256 pixels with its files."""

    region: Region
    """The region, with a swath gap in the west before the event."""
    catalogue: Path
    """Scenes and elevation for the Earth Engine stand-in."""
    usgs: Path
    """Events for the USGS stand-in."""
    files: SimulatedQuakeFiles
    """The event's files."""


def write_small_quake(folder: Path) -> SmallQuake:
    """Simulate the quake and write it below `folder`."""
    whole = simulate_region(domain("luding"), seed=11, shape_yx=(256, 256), bands=BANDS)
    region = replace(whole, passes=tuple(_with_gap(one) for one in whole.passes))
    catalogue, usgs = folder / "catalogue", folder / "usgs"
    return SmallQuake(region, catalogue, usgs, write_simulated(region, catalogue, usgs, event_id=EVENT_ID))


def _with_gap(one: Pass) -> Pass:
    if one.phase == "post":
        return one
    outside = np.zeros(one.cs.shape, bool)
    outside[:, :GAP_COLUMNS] = True
    return replace(one, dn=np.where(outside, 0, one.dn).astype(one.dn.dtype), cs=np.where(outside, np.nan, one.cs))


def write_others(quake: SmallQuake) -> None:
    """Beside `quake`: an event below the rule, one far out at sea, and the elevation there."""
    west, south, east, north = SEA
    times = {"time": int(quake.region.event.time.timestamp() * 1e3)}
    for event_id, magnitude, place in ((WEAK_EVENT_ID, 4.1, (102.0, 29.6)), (SEA_EVENT_ID, 5.6, (150.5, 20.5))):
        point = {"type": "Point", "coordinates": [*place, 10.0]}
        detail = feature(event_id, geometry=point, mag=magnitude, ids=f",{event_id},", products={}, **times)
        (quake.usgs / "fdsn_event_detail" / f"{event_id}.geojson").write_text(json.dumps(detail))
    write_collection(quake.catalogue, AW3D30, {})
    step = 0.005
    water = np.zeros((round((north - south) / step), round((east - west) / step)), np.int16)
    grid = Affine(step, 0, west, 0, -step, north)
    write_image(quake.catalogue, f"{AW3D30}/sea", {"DSM": water}, crs="EPSG:4326", transform=grid, nodata=None)
