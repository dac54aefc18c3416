"""Reads ShakeMap: the `grid.xml` of every version, and the ground within it that was shaken hard enough. Pure."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NoReturn

import contourpy
import defusedxml.ElementTree as SafeXml
import numpy as np
import numpy.typing as npt
from defusedxml.common import DefusedXmlException
from shapely.geometry import MultiPolygon, Polygon

from flows.errors import EventError
from flows.sphere import split_at_antimeridian

MAX_BYTES = 64 * 2**20
"""Larger files are not read; the largest ShakeMaps have about 15 MB."""
MAX_GRID_SIDE = 10_000
MAX_GRID_VALUES = 40_000_000
"""Largest number of values (points times columns) that is read: 320 MB while reading."""
MAX_FIELDS = 60
MAX_MMI = 13.0

UNITS = {
    "dd": "deg",
    "pctg": "%g",
    "cms": "cm/s",
    "ms": "m/s",
    "mmi": "intensity",
    "ln(pctg)": "ln(%g)",
    "ln(cms)": "ln(cm/s)",
}
"""The unit strings of ShakeMap 3 and what ShakeMap 4 writes for the same unit; others are kept as they are."""


@dataclass(frozen=True, eq=False)
class ShakeGrid:
    """One ShakeMap on its own grid, north up."""

    lon: npt.NDArray[np.float64]
    """Longitude of the columns (x,), degrees, increasing; beyond 180 when the map crosses the antimeridian."""
    lat: npt.NDArray[np.float64]
    """Latitude of the rows (y,), degrees, decreasing."""
    mmi: npt.NDArray[np.float32]
    """Modified Mercalli Intensity (y, x), NaN where there is none."""
    fields: Mapping[str, tuple[str, npt.NDArray[np.float32]]]
    """Every column but LON and LAT by its name (`PGA`, `PGV`, …): units and values (y, x)."""
    version: str
    """`shakemap_version` of the file."""
    event_id: str
    """`event_id` of the file."""
    code_version: str = ""
    """Version of the ShakeMap program, for example `3.5.1604`."""
    map_status: str = ""
    """`RELEASED`, `automatic`, …"""

    @property
    def maximum_mmi(self) -> float:
        """The strongest shaking on the map, NaN when it has no value at all."""
        return float(np.nanmax(self.mmi)) if bool(np.isfinite(self.mmi).any()) else float("nan")

    def reaches_edge(self, minimum_mmi: float) -> bool:
        """Whether ground at or above the intensity lies on the map's edge, so that the map may cut it off."""
        edge = np.concatenate([self.mmi[0], self.mmi[-1], self.mmi[:, 0], self.mmi[:, -1]])
        return bool((edge >= minimum_mmi).any())


def read_grid_xml(data: bytes) -> ShakeGrid:
    """A ShakeMap's `grid.xml`, read by the names of its `grid_field`s, so that the order of the columns is free.

    Entities, external references and document types are refused. Raises `EventError` that says what is wrong.
    """
    if len(data) > MAX_BYTES:
        _malformed(f"it has {len(data)} bytes, more than the {MAX_BYTES} that are read")
    try:
        root = SafeXml.fromstring(data, forbid_dtd=True)
    except (SafeXml.ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise EventError(f"the ShakeMap grid is not XML that can be read: {str(error)[:200]}") from error
    if _name(root) != "shakemap_grid":
        raise EventError(f"the ShakeMap grid has the root element <{_name(root)[:50]}>, not <shakemap_grid>")
    children = list(root)
    named = {_name(child): child for child in children if _name(child) in ("grid_specification", "grid_data")}
    for needed in ("grid_specification", "grid_data"):
        if needed not in named:
            _malformed(f"it has no <{needed}>")
    columns = _columns([dict(c.attrib) for c in children if _name(c) == "grid_field"])
    shape_yx = _shape_yx(named["grid_specification"].attrib, len(columns))
    values = _values(named["grid_data"].text or "", shape_yx, len(columns))
    by_name = {name: (unit, values[..., index]) for index, (name, unit) in columns.items()}
    lon, lat, fields = _oriented(by_name)
    unit, mmi = fields["MMI"]
    if unit not in ("intensity", ""):
        _malformed(f"its MMI has the unit {unit[:20]!r}")
    if bool((mmi > MAX_MMI).any()) or bool((mmi < 0).any()):
        _malformed(f"its MMI runs from {np.nanmin(mmi):g} to {np.nanmax(mmi):g}")
    attributes = {key: value[:100] for key, value in root.attrib.items()}
    return ShakeGrid(
        lon=lon,
        lat=lat,
        mmi=mmi,
        fields=fields,
        version=attributes.get("shakemap_version", ""),
        event_id=attributes.get("event_id", ""),
        code_version=attributes.get("code_version", ""),
        map_status=attributes.get("map_status", ""),
    )


def grid_polygon(grid: ShakeGrid, minimum_mmi: float) -> Polygon | MultiPolygon:
    """The ground at or above an intensity: filled contours of the grid, split at the antimeridian, empty when none.

    Between grid points the intensity is interpolated linearly; the map's edge closes what leaves it.
    """
    generator = contourpy.contour_generator(
        grid.lon, grid.lat, np.ma.masked_invalid(grid.mmi), fill_type=contourpy.FillType.OuterOffset
    )
    polygons = []
    # For this fill type contourpy gives, for each polygon, its points and where in them each ring starts.
    for points, offsets in zip(*generator.filled(minimum_mmi, np.inf)[:2], strict=True):
        if points is not None and offsets is not None:
            shell, *holes = (points[a:b] for a, b in pairwise(offsets))
            polygons.append(Polygon(shell, holes))
    return split_at_antimeridian(MultiPolygon(polygons)) if polygons else Polygon()


def _malformed(fact: str) -> NoReturn:
    raise EventError(f"the ShakeMap grid is malformed: {fact}")


def _name(element: Any) -> str:
    """The tag without its namespace; both versions use one, but not everyone who rewrites the file keeps it."""
    return str(element.tag).rpartition("}")[2]


def _columns(fields: list[dict[str, str]]) -> dict[int, tuple[str, str]]:
    """Name and normalised unit of each column, by its index from 0."""
    if not 3 <= len(fields) <= MAX_FIELDS:
        _malformed(f"it declares {len(fields)} columns")
    columns: dict[int, tuple[str, str]] = {}
    for field in fields:
        index, name, unit = (
            field.get("index", ""),
            field.get("name", "").strip().upper(),
            field.get("units", "").strip(),
        )
        if not (index.isascii() and index.isdigit() and len(index) < 4 and name):
            _malformed(f"it declares a column {name[:20]!r} with the index {index[:20]!r}")
        columns[int(index) - 1] = (name, UNITS.get(unit, unit))
    names = [name for name, _ in columns.values()]
    if set(columns) != set(range(len(fields))) or len(set(names)) != len(names):
        _malformed("its columns are not numbered from 1 without gaps, each with a name of its own")
    missing = {"LON", "LAT", "MMI"} - set(names)
    if missing:
        _malformed(f"it has no column {', '.join(sorted(missing))}")
    return columns


def _shape_yx(attributes: Mapping[str, str], n_columns: int) -> tuple[int, int]:
    """Height and width of the grid as declared, within the caps."""
    sides = []
    for key in ("nlat", "nlon"):
        text = attributes.get(key, "").strip()
        if not (text.isascii() and text.isdigit() and len(text) < 7 and 2 <= int(text) <= MAX_GRID_SIDE):
            _malformed(f"{key} is {text[:20]!r}, not a number from 2 to {MAX_GRID_SIDE}")
        sides.append(int(text))
    if sides[0] * sides[1] * n_columns > MAX_GRID_VALUES:
        _malformed(f"it declares {sides[0]} x {sides[1]} points, more than are read")
    return sides[0], sides[1]


def _values(text: str, shape_yx: tuple[int, int], n_columns: int) -> npt.NDArray[np.float64]:
    """The table as (y, x, column)."""
    points = shape_yx[0] * shape_yx[1]
    if not text.strip():
        _malformed("its <grid_data> is empty")
    try:
        table = np.loadtxt(io.StringIO(text), dtype=np.float64, comments=None, ndmin=2)
    except ValueError as error:
        _malformed(f"its <grid_data> is not a table of numbers: {str(error)[:150]}")
    if table.shape != (points, n_columns):
        _malformed(f"it declares {points} points of {n_columns} columns and holds {len(table)} of {table.shape[1]}")
    if bool(np.isinf(table).any()):
        _malformed("it holds infinite values")
    return table.reshape(*shape_yx, n_columns)


def _oriented(
    by_name: dict[str, tuple[str, npt.NDArray[np.float64]]],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], dict[str, tuple[str, npt.NDArray[np.float32]]]]:
    """Axes lon (x,) increasing and lat (y,) decreasing, and the other columns turned to match."""
    lon_yx, lat_yx = by_name["LON"][1], by_name["LAT"][1]
    # A map across the antimeridian may write its eastern columns as -180 and up.
    lon = _even(np.unwrap(lon_yx[0], period=360.0), "longitudes")
    southward = bool(lat_yx[0, 0] > lat_yx[-1, 0])
    rows = slice(None) if southward else slice(None, None, -1)
    lon_yx, lat_yx = lon_yx[rows], lat_yx[rows]
    lat = -_even(-lat_yx[:, 0], "latitudes")
    off_lon = np.abs((lon_yx - lon + 180.0) % 360.0 - 180.0).max() / (lon[1] - lon[0])
    off_lat = np.abs(lat_yx - lat[:, None]).max() / (lat[0] - lat[1])
    if not (off_lon < 1.0 and off_lat < 1.0):
        _malformed("its points do not lie row by row on a regular grid")
    if not (lon[0] >= -540 and lon[-1] <= 540 and lat[-1] >= -90 and lat[0] <= 90):
        _malformed(f"it spans longitude {lon[0]:g} to {lon[-1]:g}, latitude {lat[-1]:g} to {lat[0]:g}")
    fields = {
        name: (unit, np.ascontiguousarray(values[rows], dtype=np.float32))
        for name, (unit, values) in by_name.items()
        if name not in ("LON", "LAT")
    }
    return lon, lat, fields


def _even(axis: npt.NDArray[np.float64], what: str) -> npt.NDArray[np.float64]:
    """An increasing axis with even steps in place of one rounded to four decimals."""
    even = np.linspace(axis[0], axis[-1], len(axis))
    step = float(even[1] - even[0])
    if not (np.isfinite(step) and step > 0) or not bool(np.abs(axis - even).max() < 0.25 * step):
        _malformed(f"its {what} are not evenly spaced")
    return even
