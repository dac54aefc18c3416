"""A simulated ShakeMap: the shaking of a simulated region as the files that USGS publishes."""

from __future__ import annotations

import datetime as dt
import io
import json
import math
from dataclasses import dataclass
from typing import cast
from xml.sax.saxutils import quoteattr

import contourpy
import numpy as np
import numpy.typing as npt
from affine import Affine
from pyproj import Transformer
from scipy import ndimage

FloatArray = npt.NDArray[np.float64]

CELLS_PER_DEGREE = 1200
CONTOUR_STEP = 0.5
_COLOURS = {
    2: "#bfccff", 3: "#a0e6ff", 4: "#80ffff", 5: "#7aff93", 6: "#ffff00", 7: "#ffc800", 8: "#ff9100", 9: "#ff0000",
    10: "#c80000",
}  # fmt: skip
_GRAVITY_PERCENT_CM_S2 = 9.80665


@dataclass(frozen=True)
class Shaking:
    """Intensity on a regular grid of points in WGS84."""

    lon: FloatArray
    """Longitudes (x,), increasing, degrees."""
    lat: FloatArray
    """Latitudes (y,), decreasing, degrees."""
    mmi: FloatArray
    """Modified Mercalli intensity (y, x)."""


@dataclass(frozen=True)
class ShakeMapEvent:
    """What the header of a ShakeMap says about its quake."""

    id: str
    """Event id."""
    time: dt.datetime
    """Origin time, UTC."""
    lon: float
    """Epicentre, degrees."""
    lat: float
    """Epicentre, degrees."""
    depth_km: float
    """Depth."""
    magnitude: float
    """Magnitude."""
    description: str
    """Where it was, and that it is simulated."""


def sample_shaking(
    mmi: npt.NDArray[np.floating], crs: str, transform: tuple[float, float, float, float, float, float]
) -> Shaking:
    """Bring `mmi` (y, x) on a grid in `crs` to a WGS84 grid of 1/1200 degree that covers it.

    Points of the covering box outside the region take the value of the nearest edge.
    """
    height, width = mmi.shape
    affine = Affine(*transform)
    along = np.linspace(0, 1, 50)
    zero, one = np.zeros_like(along), np.ones_like(along)
    edge_x = np.concatenate([along, along, zero, one]) * width
    edge_y = np.concatenate([zero, one, along, along]) * height
    x, y = affine @ (edge_x, edge_y)
    longitude, latitude = Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(x, y)
    lon = _axis(min(longitude), max(longitude))
    lat = _axis(min(latitude), max(latitude))[::-1]
    x, y = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(*np.meshgrid(lon, lat))
    column, row = ~affine @ (x, y)
    sampled = ndimage.map_coordinates(mmi.astype(np.float64), [row - 0.5, column - 0.5], order=1, mode="nearest")
    return Shaking(lon, lat, np.round(sampled, 3))


def grid_xml(shaking: Shaking, event: ShakeMapEvent) -> bytes:
    """The `grid.xml` of ShakeMap 4 with the columns LON, LAT, MMI, PGA (percent of g) and PGV (cm/s)."""
    origin = event.time.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S")
    rows, columns = shaking.mmi.shape
    step = 1 / CELLS_PER_DEGREE
    head = f"""<?xml version="1.0" encoding="US-ASCII" standalone="yes"?>
<shakemap_grid xmlns="http://earthquake.usgs.gov/eqcenter/shakemap" event_id="{event.id}" shakemap_id="{event.id}" \
shakemap_version="1" code_version="simulated" process_timestamp="{origin}" shakemap_originator="sim" \
map_status="automatic" shakemap_event_type="SCENARIO">
<event event_id="{event.id}" magnitude="{event.magnitude:.1f}" depth="{event.depth_km:.1f}" lat="{event.lat:.4f}" \
lon="{event.lon:.4f}" event_timestamp="{origin}" event_network="sim" event_description={quoteattr(event.description)}/>
<grid_specification lon_min="{shaking.lon[0]:.6f}" lat_min="{shaking.lat[-1]:.6f}" lon_max="{shaking.lon[-1]:.6f}" \
lat_max="{shaking.lat[0]:.6f}" nominal_lon_spacing="{step:.6f}" nominal_lat_spacing="{step:.6f}" \
nlon="{columns}" nlat="{rows}"/>
<grid_field index="1" name="LON" units="dd" />
<grid_field index="2" name="LAT" units="dd" />
<grid_field index="3" name="MMI" units="intensity" />
<grid_field index="4" name="PGA" units="%g" />
<grid_field index="5" name="PGV" units="cm/s" />
<grid_data>
"""
    longitude, latitude = np.meshgrid(shaking.lon, shaking.lat)
    pga, pgv = ground_motion(shaking.mmi)
    table = np.stack([longitude, latitude, shaking.mmi, pga, pgv], axis=-1).reshape(-1, 5)
    body = io.StringIO()
    np.savetxt(body, table, fmt=["%.6f", "%.6f", "%.3f", "%.4g", "%.4g"])
    return (head + body.getvalue() + "</grid_data>\n</shakemap_grid>\n").encode("ascii", "xmlcharrefreplace")


def ground_motion(mmi: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(peak acceleration in percent of g, peak velocity in cm/s) for an intensity, both as `mmi` is shaped.

    The inverse of Worden et al. (2012), Bulletin of the Seismological Society of America 102(1), equation 3:
    MMI = c1 + c2 log10(Y) up to the hinge, c3 + c4 log10(Y) beyond, Y in cm/s2 and cm/s.
    """
    pga = np.where(mmi <= 1.78 + 1.55 * 1.57, (mmi - 1.78) / 1.55, (mmi + 1.60) / 3.70)
    pgv = np.where(mmi <= 3.78 + 1.47 * 0.53, (mmi - 3.78) / 1.47, (mmi - 2.89) / 3.16)
    return 10**pga / _GRAVITY_PERCENT_CM_S2, 10**pgv


def cont_mmi_json(shaking: Shaking) -> bytes:
    """The `cont_mmi.json` of ShakeMap 4: contour lines of intensity every half unit."""
    separate = contourpy.LineType.Separate
    contours = contourpy.contour_generator(shaking.lon, shaking.lat, shaking.mmi, line_type=separate)
    first = math.ceil(float(shaking.mmi.min()) / CONTOUR_STEP) * CONTOUR_STEP
    features = []
    for value in np.arange(first, float(shaking.mmi.max()) + 1e-9, CONTOUR_STEP):
        found = cast("list[FloatArray]", contours.lines(float(value)))
        lines = [np.round(line, 6).tolist() for line in found if len(line) > 1]
        if lines:
            features.append(
                {
                    "type": "Feature",
                    "properties": {
                        "value": float(value),
                        "units": "mmi",
                        "color": _COLOURS.get(math.floor(value), "#ffffff"),
                        "weight": 4 if float(value).is_integer() else 2,
                    },
                    "geometry": {"type": "MultiLineString", "coordinates": lines},
                }
            )
    return json.dumps({"type": "FeatureCollection", "features": features}).encode()


def _axis(low: float, high: float) -> FloatArray:
    """Multiples of the grid step from below `low` to above `high`, increasing."""
    return np.arange(math.floor(low * CELLS_PER_DEGREE), math.ceil(high * CELLS_PER_DEGREE) + 1) / CELLS_PER_DEGREE
