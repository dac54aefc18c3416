"""Tiny ShakeMap products with known truth: a cone of shaking as `grid.xml` of either version and as contour lines."""

from __future__ import annotations

import json

import numpy as np

NAMESPACE = 'xmlns="http://earthquake.usgs.gov/eqcenter/shakemap"'


def cone(
    lon: np.ndarray, lat: np.ndarray, lon0: float, lat0: float, top: float = 8.0, per_deg: float = 4.0
) -> np.ndarray:
    """Shaking (y, x) that falls off evenly from a point."""
    return np.maximum(top - per_deg * np.hypot(lon[None, :] - lon0, lat[:, None] - lat0), 1.0)


def grid_xml(lon: np.ndarray, lat: np.ndarray, mmi: np.ndarray, version: int = 4) -> str:
    """A `grid.xml` with the columns and unit strings of ShakeMap 3 or 4, rows in the order of `lat`."""
    pga = np.exp(mmi)
    if version == 3:
        names = [("LON", "dd"), ("LAT", "dd"), ("PGA", "pctg"), ("PGV", "cms"), ("MMI", "intensity")]
        columns = [None, None, pga, pga / 2, mmi]
    else:
        names = [("LON", "dd"), ("LAT", "dd"), ("MMI", "intensity"), ("PGA", "%g"), ("PGV", "cm/s")]
        columns = [None, None, mmi, pga, pga / 2]
    fields = "".join(f'<grid_field index="{i}" name="{n}" units="{u}" />\n' for i, (n, u) in enumerate(names, 1))
    rows = []
    for y, north in enumerate(lat):
        for x, east in enumerate(lon):
            wrapped = (east + 180) % 360 - 180
            cells = " ".join(f"{column[y, x]:.4f}" for column in columns if column is not None)
            rows.append(f"{wrapped:.4f} {north:.4f} {cells}")
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<shakemap_grid {NAMESPACE} event_id="us1" shakemap_version="7" '
        f'code_version="{version}.0" map_status="RELEASED">\n'
        f'<grid_specification nlon="{len(lon)}" nlat="{len(lat)}" />\n{fields}<grid_data>\n'
        + "\n".join(rows)
        + "\n</grid_data>\n</shakemap_grid>"
    )


LON = np.linspace(140.0, 142.0, 41)
LAT = np.linspace(43.0, 41.0, 41)
MMI = cone(LON, LAT, 141.0, 42.0)


def ring(lon: float, lat: float, radius: float) -> list[list[float]]:
    angles = np.linspace(0, 2 * np.pi, 61)
    xy = np.column_stack([lon + radius * np.cos(angles), lat + radius * np.sin(angles)])
    xy[-1] = xy[0]
    return [[float(x), float(y)] for x, y in xy]


def contours(levels: dict[float, list[list[list[float]]]]) -> bytes:
    features = [
        {"type": "Feature", "properties": {"value": level, "units": "mmi"},
         "geometry": {"type": "MultiLineString", "coordinates": lines}}
        for level, lines in levels.items()
    ]  # fmt: skip
    return json.dumps({"type": "FeatureCollection", "features": features}).encode()
