"""How dangerous each tile of a plan is, so that the worst valleys are pulled, mapped and published first.

Where the USGS has a ground-failure product, by its landslide model (Nowicki Jessee and others 2018, Journal of
Geophysical Research: Earth Surface 123, 1835-1859): the share of each cell that it expects to fail, summed over the part
of the area in a tile, km². Else by shaking times slope: intensity above `HARMLESS_MMI`, from the ShakeMap or, without
one, from magnitude and distance, times the slope in degrees. The two are never mixed in one order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely
from affine import Affine
from pyproj import CRS, Transformer
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader, MemoryFile
from rasterio.windows import Window, from_bounds
from shapely.geometry import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

from flows.area import GRID_FILE, ProductFiles
from flows.errors import AreaError, ContentMissingError, EventError
from flows.event import EarthquakeEvent, ProductRef
from flows.intensity import ASSUMED_DEPTH_KM, predicted_mmi
from flows.shakemap import MAX_BYTES, ShakeGrid, read_grid_xml
from flows.sphere import polygonal, split_at_antimeridian
from gee.grid import to_grid_crs, unwrap
from gee.plan import CubePlan
from gee.types import Grid, Tile

MODELS = ("jessee_2018", "jessee_2017", "nowicki_2014_global", "godt_2008")
"""Landslide models of the product, the one that the USGS shows first."""
MAX_MODEL_BYTES = 256 * 2**20
"""Larger files are not read; that of the Tohoku earthquake of 2011 has about 60 million cells, compressed."""
MAX_CELLS = 400_000_000
MAX_BLOCK_PX = 2**24
"""Cells of one block of the file, which is decompressed at once."""
MAX_READ_PX = 4_000_000
"""Cells that are kept: the model is averaged to as many over the area."""
HARMLESS_MMI = 4.0
"""The weakest shaking that has brought down rock and soil (Keefer 1984, Geological Society of America Bulletin 95)."""
SAMPLES = 48
"""Points on a side of a tile at which it is looked at: every hundred metres."""
INSET_M = 1.0
"""What is taken off each edge of a tile when tiles become an area: else its neighbours, which it touches, would belong to
it. No pixel's centre lies so near to an edge."""

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]
Slopes = Callable[[], tuple[FloatArray, Grid]]
"""Slope in degrees (y, x), NaN where unknown, and its grid: asked for only when shaking times slope is needed."""


@dataclass(frozen=True, eq=False)
class Field:
    """A quantity on a north-up raster."""

    values: FloatArray
    """(y, x), NaN where there is none."""
    transform: Affine
    """Pixel corner to coordinates of `crs`."""
    crs: str
    """Coordinate system."""

    def at(self, x: DoubleArray, y: DoubleArray) -> FloatArray:
        """The value of the pixel at each point (coordinates of `crs`); 0 beyond the raster and where there is none."""
        column, row = (np.floor(each) for each in ~self.transform @ (x, y))
        height, width = self.values.shape
        with np.errstate(invalid="ignore"):
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        found = np.zeros(x.shape, np.float32)
        found[inside] = self.values[row[inside].astype(int), column[inside].astype(int)]
        return np.nan_to_num(found)


@dataclass(frozen=True)
class Predicted:
    """Shaking by magnitude and distance, where there is no ShakeMap."""

    event: EarthquakeEvent
    """The earthquake."""

    def at(self, lon: DoubleArray, lat: DoubleArray) -> FloatArray:
        """Intensity at points in degrees (`flows.intensity.predicted_mmi`)."""
        depth_km = self.event.depth_km if self.event.depth_km is not None else ASSUMED_DEPTH_KM
        half = np.sin(np.radians(lat - self.event.lat) / 2) ** 2
        across = np.cos(np.radians(lat)) * math.cos(math.radians(self.event.lat))
        half = half + across * np.sin(np.radians(lon - self.event.lon) / 2) ** 2
        surface_km = 2 * 6371.0 * np.arcsin(np.sqrt(np.clip(half, 0.0, 1.0)))
        distances = np.linspace(0.0, max(1.0, float(surface_km.max())), 256)
        table = [predicted_mmi(self.event.magnitude, max(1.0, math.hypot(d, max(depth_km, 0.0)))) for d in distances]
        return np.asarray(np.interp(surface_km, distances, table), np.float32)


@dataclass(frozen=True)
class Danger:
    """The danger of the tiles of a plan."""

    tiles: Mapping[str, float]
    """Tile name -> danger, the larger the worse; every tile of the plan."""
    source: str
    """What it is from, in words."""

    def worst_first(self) -> tuple[str, ...]:
        """The names of the tiles, the most dangerous first, equal ones by name."""
        return tuple(sorted(self.tiles, key=lambda name: (-self.tiles[name], name)))


def danger_of(events: Sequence[EarthquakeEvent], client: ProductFiles, plan: CubePlan, slopes: Slopes) -> Danger:
    """How dangerous the tiles of a plan are after one or several earthquakes (with their products).

    A file that is missing or cannot be read leads to the next source. Raises `EventError` without an earthquake,
    `ServiceError` when the USGS cannot be reached, and what `slopes` raises.
    """
    if not events:
        raise EventError("no earthquake is given: nothing says where the danger is")
    models = [_model_field(event, client, plan) for event in events]
    known = [model for model in models if model is not None]
    if len(known) == len(events):
        summed = [tile_danger(plan, field) for field, _ in known]
        tiles = {tile.name: math.fsum(one[tile.name] for one in summed) for tile in plan.tiles}
        return Danger(tiles, "expected landslides by " + " and ".join(name for _, name in known))
    slope, grid = slopes()
    shaking = [_shaking(event, client) for event in events]
    field = shaken_slopes([each for each, _ in shaking], slope, grid)
    return Danger(tile_danger(plan, field), "shaking times slope by " + " and ".join(name for _, name in shaking))


def tile_danger(plan: CubePlan, field: Field) -> dict[str, float]:
    """Tile name -> the field's sum over the part of the area in the tile, times its size in km²."""
    area = to_grid_crs(plan.geometry, plan.grid.crs)
    transformer = Transformer.from_crs(plan.grid.crs, field.crs, always_xy=True)
    danger = {}
    for tile in plan.tiles:
        x, y = _points(plan.grid, tile)
        inside = shapely.contains_xy(area, x, y)
        if not inside.any():
            danger[tile.name] = 0.0
            continue
        lon, lat = transformer.transform(x[inside], y[inside])
        km2 = tile.shape_yx[0] * tile.shape_yx[1] * plan.grid.pixel_m**2 / 1e6
        danger[tile.name] = float(field.at(_turned(lon, field), np.asarray(lat)).sum() / x.size * km2)
    return danger


def worst_part(plan: CubePlan, danger: Danger, share: float = 0.25) -> Polygon | MultiPolygon:
    """The part of a plan's area (WGS84) in the most dangerous of its tiles: so many of them, at least one.

    A plan of this part has these tiles and no others, and each holds the same pixels of the area as in the whole plan: a
    later plan of the whole takes them over. Raises `AreaError` for a share that is none.
    """
    if not 0.0 < share <= 1.0:
        raise AreaError(f"a share of {share:g} of the tiles is none: give more than 0, at most 1")
    inside = [name for name in danger.worst_first() if _meets(plan, plan.tile(name))]
    if not inside:
        return polygonal(plan.geometry)
    chosen = [plan.tile(name) for name in inside[: max(1, math.ceil(share * len(inside)))]]
    to_degrees = Transformer.from_crs(plan.grid.crs, "EPSG:4326", always_xy=True)
    middle = unwrap(plan.geometry).centroid.x

    def degrees(xy: DoubleArray) -> DoubleArray:
        lon, lat = (np.asarray(each) for each in to_degrees.transform(xy[:, 0], xy[:, 1]))
        return np.column_stack([lon + 360.0 * np.round((middle - lon) / 360.0), lat])

    boxes = shapely.union_all([_inset(plan.grid, tile) for tile in chosen])
    ground = shapely.transform(shapely.segmentize(boxes, 200.0), degrees)
    return split_at_antimeridian(polygonal(shapely.intersection(unwrap(plan.geometry), ground)))


def model_file(product: ProductRef) -> tuple[str, str] | None:
    """Name and address of the landslide model's raster in a ground-failure product; None when it lists none."""
    shown = (product.property("landslide-overlay") or "").removesuffix(".png")
    for stem in dict.fromkeys((shown, *MODELS)):
        for name in (f"{stem}_model.tif", f"download/{stem}_model.tif"):
            url = product.url(name) if stem in MODELS else None
            if url is not None:
                return name, url
    return None


def read_model(data: bytes, bounds: tuple[float, float, float, float]) -> Field:
    """The part of a landslide model's GeoTIFF that meets bounds (west, south, east, north in degrees): 0 to 1.

    Averaged to at most `MAX_READ_PX` cells. What it says is not trusted: sizes are capped before anything is
    decompressed, only GeoTIFF is read, and values beyond 0 to 1 count as none. Raises `EventError` that says what is
    wrong, also when it does not meet the bounds.
    """
    if data[:4] not in _TIFF:
        raise EventError(f"the landslide model is no GeoTIFF that can be read: it starts with {data[:4]!r}")
    try:
        with MemoryFile(data) as memory, memory.open(driver="GTiff") as file:
            return _read(file, bounds)
    except (RasterioError, ValueError, MemoryError) as error:
        raise EventError(f"the landslide model is no GeoTIFF that can be read: {str(error)[:150]}") from error


def _read(file: DatasetReader, bounds: tuple[float, float, float, float]) -> Field:
    transform, crs = file.transform, file.crs
    if file.width * file.height > MAX_CELLS or any(math.prod(shape) > MAX_BLOCK_PX for shape in file.block_shapes):
        raise EventError(f"the landslide model has {file.width} x {file.height} cells: more than are read")
    if crs is None or not CRS.from_user_input(crs).is_geographic:
        raise EventError(f"the landslide model lies in {str(crs)[:60] or 'no coordinate system'}, not in degrees")
    if transform.b or transform.d or transform.a <= 0 or transform.e >= 0:
        raise EventError("the landslide model is not a north-up grid")
    if file.dtypes[0] not in ("float32", "float64", "uint8", "int16", "uint16"):
        raise EventError(f"the landslide model holds {file.dtypes[0]}, not numbers from 0 to 1")
    west, south, east, north = bounds
    turn = 360.0 * round(((file.bounds.left + file.bounds.right) - (west + east)) / 720.0)
    wanted = from_bounds(west + turn, south, east + turn, north, transform)
    top, left = math.floor(wanted.row_off) - 1, math.floor(wanted.col_off) - 1
    bottom, right = math.ceil(wanted.row_off + wanted.height) + 1, math.ceil(wanted.col_off + wanted.width) + 1
    top, left, bottom, right = max(0, top), max(0, left), min(file.height, bottom), min(file.width, right)
    if top >= bottom or left >= right:
        raise EventError("the landslide model does not reach the area")
    height, width = bottom - top, right - left
    step = max(1.0, math.sqrt(height * width / MAX_READ_PX))
    shape = max(1, int(height / step)), max(1, int(width / step))
    window = Window(left, top, width, height)
    values = file.read(1, window=window, out_shape=shape, resampling=Resampling.average, masked=True)
    plain = np.asarray(np.ma.filled(values.astype(np.float32), np.nan))
    with np.errstate(invalid="ignore"):
        plain[~((plain >= 0.0) & (plain <= 1.0))] = np.nan
    own = transform @ Affine.translation(left, top) @ Affine.scale(width / shape[1], height / shape[0])
    return Field(plain, own, "EPSG:4326")


def shaken_slopes(shaking: Sequence[ShakeGrid | Predicted], slope: FloatArray, grid: Grid) -> Field:
    """The strongest shaking above `HARMLESS_MMI` times the slope in degrees, on the slope's grid."""
    x, y = _centres(grid)
    lon, lat = Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True).transform(x, y)
    strongest = np.zeros(grid.shape_yx, np.float32)
    for one in shaking:
        mmi = _mmi_at(one, lon, lat) if isinstance(one, ShakeGrid) else one.at(lon, lat)
        strongest = np.fmax(strongest, mmi - np.float32(HARMLESS_MMI))
    return Field((strongest * np.nan_to_num(slope)).astype(np.float32), grid.affine, grid.crs)


def _model_field(event: EarthquakeEvent, client: ProductFiles, plan: CubePlan) -> tuple[Field, str] | None:
    product = event.ground_failure
    found = None if product is None else model_file(product)
    if product is None or found is None:
        return None
    try:
        field = read_model(client.content(found[1], MAX_MODEL_BYTES), unwrap(plan.geometry).bounds)
    except (ContentMissingError, EventError):
        return None
    name = found[0].removeprefix("download/").removesuffix("_model.tif")
    return field, f"{name} of ground failure {product.name}"


def _shaking(event: EarthquakeEvent, client: ProductFiles) -> tuple[ShakeGrid | Predicted, str]:
    product = event.shakemap
    url = None if product is None else product.url(GRID_FILE)
    if product is not None and url is not None:
        try:
            return read_grid_xml(client.content(url, MAX_BYTES)), f"ShakeMap {product.name}"
        except (ContentMissingError, EventError):
            pass
    return Predicted(event), f"the distance from M {event.magnitude:g}"


def _mmi_at(grid: ShakeGrid, lon: DoubleArray, lat: DoubleArray) -> FloatArray:
    """Intensity at the nearest point of a ShakeMap, NaN beyond it."""
    dx, dy = float(grid.lon[1] - grid.lon[0]), float(grid.lat[0] - grid.lat[1])
    corner = Affine(dx, 0.0, float(grid.lon[0]) - dx / 2, 0.0, -dy, float(grid.lat[0]) + dy / 2)
    field = Field(grid.mmi, corner, "EPSG:4326")
    return field.at(_turned(lon, field), np.asarray(lat))


def _turned(lon: npt.ArrayLike, field: Field) -> DoubleArray:
    """Longitudes on the turn of the globe on which a field in degrees is written; other coordinates as they are."""
    x = np.asarray(lon, np.float64)
    if not CRS.from_user_input(field.crs).is_geographic:
        return x
    middle = field.transform.c + field.transform.a * field.values.shape[1] / 2
    return np.asarray(x + 360.0 * np.round((middle - x) / 360.0))


def _points(grid: Grid, tile: Tile) -> tuple[DoubleArray, DoubleArray]:
    """Points spread evenly over a tile, coordinates of the grid."""
    left, bottom, right, top = grid.window(tile).bounds
    steps = (np.arange(SAMPLES) + 0.5) / SAMPLES
    x, y = np.meshgrid(left + steps * (right - left), top - steps * (top - bottom))
    return x.ravel(), y.ravel()


def _centres(grid: Grid) -> tuple[DoubleArray, DoubleArray]:
    rows, columns = np.mgrid[: grid.shape_yx[0], : grid.shape_yx[1]]
    x, y = grid.affine @ (columns + 0.5, rows + 0.5)
    return np.asarray(x), np.asarray(y)


def _inset(grid: Grid, tile: Tile) -> BaseGeometry:
    left, bottom, right, top = grid.window(tile).bounds
    return shapely.box(left + INSET_M, bottom + INSET_M, right - INSET_M, top - INSET_M)


def _meets(plan: CubePlan, tile: Tile) -> bool:
    return bool(to_grid_crs(plan.geometry, plan.grid.crs).intersects(_inset(plan.grid, tile)))
