"""A small simulated earthquake, written as the stand-ins serve it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from infra.local.simulated import SimulatedQuakeFiles, write_simulated
from modeling.simulate import Pass, Region, domain, simulate_region

EVENT_ID = "simsmall"
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
