"""The types that travel through the Earth Engine layer. Axis order is (y, x); units stand in the names."""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Any

from affine import Affine


class Observed(IntEnum):
    """Why a pixel was or was not seen in one phase: the codes of the cube's `observed (phase, y, x)` variable."""

    NO_PASS = 0
    """No scene of the window reaches the pixel: it has not been imaged yet."""
    CLEAR = 1
    """At least one scene saw the ground."""
    CLOUD = 2
    """Imaged, but only under cloud."""
    SHADOW = 3
    """Imaged, but at best in the shadow of a cloud (`gee.masks` says what each mask takes for it)."""
    SNOW = 4
    """Imaged, but only under snow."""
    NO_TERRAIN = 5
    """The elevation model has no value here, so no slope is known."""
    SWATH_GAP = 6
    """A scene of the window reaches the pixel but holds no data there: beyond the edge of the swath."""
    TERRAIN_SHADOW = 7
    """Imaged, but only in the shadow of the terrain."""
    WATER = 8
    """Imaged, and open water."""
    OUTSIDE = 255
    """Outside the area of interest: never asked for."""


OBSERVED_LABELS: dict[int, str] = {
    Observed.NO_PASS: "not imaged",
    Observed.CLEAR: "observed",
    Observed.CLOUD: "cloud",
    Observed.SHADOW: "cloud shadow",
    Observed.SNOW: "snow",
    Observed.NO_TERRAIN: "no elevation",
    Observed.SWATH_GAP: "swath gap",
    Observed.TERRAIN_SHADOW: "terrain shadow",
    Observed.WATER: "open water",
    Observed.OUTSIDE: "outside the area",
}
"""What a reader of a report sees for each code of `Observed`."""

PHASES = ("pre", "post")
"""The two phases of an event, in the order of the cube's `phase` axis."""


@dataclass(frozen=True)
class Tile:
    """A rectangle of a grid, in pixels."""

    row: int
    """Index of the tile from the top, in tiles."""
    col: int
    """Index of the tile from the left, in tiles."""
    y0: int
    """First pixel row."""
    x0: int
    """First pixel column."""
    shape_yx: tuple[int, int]
    """Height and width in pixels; smaller at the right and bottom edge of the grid."""

    @property
    def slices_yx(self) -> tuple[slice, slice]:
        """The tile as array slices (y, x)."""
        return slice(self.y0, self.y0 + self.shape_yx[0]), slice(self.x0, self.x0 + self.shape_yx[1])

    @property
    def name(self) -> str:
        """A name that sorts and is safe in object keys."""
        return f"{self.row:04d}-{self.col:04d}"


@dataclass(frozen=True)
class Grid:
    """A north-up raster grid in a projected CRS whose origin is a multiple of the pixel size."""

    crs: str
    """For example `EPSG:32654`."""
    transform: tuple[float, float, float, float, float, float]
    """Affine coefficients a, b, c, d, e, f: x = a*col + b*row + c, y = d*col + e*row + f, in metres."""
    shape_yx: tuple[int, int]
    """Height and width in pixels."""

    @property
    def affine(self) -> Affine:
        """The transform as `affine.Affine` (pixel corner to CRS)."""
        return Affine(*self.transform)

    @property
    def pixel_m(self) -> float:
        """Pixel size in metres."""
        return abs(self.transform[0])

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """left, bottom, right, top in CRS units."""
        a, _, c, _, e, f = self.transform
        return c, f + e * self.shape_yx[0], c + a * self.shape_yx[1], f

    def window(self, tile: Tile) -> Grid:
        """The grid of one tile: same CRS and pixel size, shifted origin."""
        a, b, c, d, e, f = self.transform
        x, y = c + a * tile.x0 + b * tile.y0, f + d * tile.x0 + e * tile.y0
        return Grid(self.crs, (a, b, x, d, e, y), tile.shape_yx)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Grid:
        """The inverse of `to_dict`."""
        a, b, c, d, e, f = (float(v) for v in value["transform"])
        y, x = (int(v) for v in value["shape_yx"])
        return cls(str(value["crs"]), (a, b, c, d, e, f), (y, x))


@dataclass(frozen=True)
class Scene:
    """One image of a collection, as the catalogue describes it."""

    id: str
    """Asset id, for example `COPERNICUS/S2_HARMONIZED/20180908T…_T54TXN`."""
    time: dt.datetime
    """Acquisition time, UTC."""
    cloud_percent: float | None
    """`CLOUDY_PIXEL_PERCENTAGE` of the granule, None when the catalogue has none."""
    bands: tuple[str, ...]
    """Band names that the asset really has."""
    footprint_wkt: str
    """Footprint in WGS84."""
    properties: tuple[tuple[str, Any], ...] = ()
    """Further properties kept for provenance, sorted by name."""
    grid: Grid | None = None
    """The raster of its first band: which pixels its granule reaches, with data or without. None when unknown."""

    @property
    def index(self) -> str:
        """`system:index`: its name within the collection, the same in collections made from the same granule."""
        return self.id.rpartition("/")[2]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            **asdict(self),
            "time": self.time.isoformat(),
            "bands": list(self.bands),
            "properties": dict(self.properties),
            "grid": None if self.grid is None else self.grid.to_dict(),
        }

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Scene:
        """The inverse of `to_dict`."""
        return cls(
            id=str(value["id"]),
            time=dt.datetime.fromisoformat(value["time"]),
            cloud_percent=value["cloud_percent"],
            bands=tuple(value["bands"]),
            footprint_wkt=str(value["footprint_wkt"]),
            properties=tuple(sorted(value["properties"].items())),
            grid=None if value["grid"] is None else Grid.from_dict(value["grid"]),
        )


@dataclass(frozen=True)
class Window:
    """A half-open interval of time [start, end), UTC."""

    start: dt.datetime
    """First instant."""
    end: dt.datetime
    """First instant after the window."""
