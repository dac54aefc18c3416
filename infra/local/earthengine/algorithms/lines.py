"""Lines cut at distances along them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import shapely

from infra.local.earthengine.algorithms.registry import algorithm
from infra.local.earthengine.errors import ArgumentError
from infra.local.earthengine.geometry import GEOD, WGS84, Geometry
from infra.local.earthengine.grid import Projection

Point = tuple[float, float]


@algorithm("Geometry.cutLines")
def cut_lines(
    geometry: Geometry, distances: list[float], maxError: Any = None, proj: Projection | None = None
) -> Geometry:
    """Each line in pieces that begin at the given distances along it, in metres; other geometries give no lines."""
    if proj is not None and proj.crs != WGS84:
        raise ArgumentError("Geometry.cutLines: The local stand-in measures in metres only; leave out 'proj'.")
    geometry.require("Geometry.cutLines")
    made = geometry.lonlat()
    lines = [p for p in shapely.get_parts(made) if p.geom_type in ("LineString", "LinearRing")]
    pieces = [piece for line in lines for piece in _pieces(np.asarray(line.coords)[:, :2], sorted(distances))]
    return Geometry(shapely.MultiLineString(pieces))


def _pieces(points: np.ndarray[Any, Any], distances: list[float]) -> Iterator[list[Point]]:
    """The parts of one line between its cuts; its length is that of the ellipsoid."""
    cuts = [d for d in distances if d > 0]
    piece: list[Point] = [(float(points[0][0]), float(points[0][1]))]
    passed = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        azimuth, _, length = GEOD.inv(x0, y0, x1, y1)
        while cuts and cuts[0] < passed + length:
            lon, lat, _ = GEOD.fwd(x0, y0, azimuth, cuts.pop(0) - passed)
            yield [*piece, (float(lon), float(lat))]
            piece = [(float(lon), float(lat))]
        passed += length
        piece.append((float(x1), float(y1)))
    yield piece
