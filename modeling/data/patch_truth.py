"""Truth from a mapped inventory: polygons of landslides, of the area that was looked at, and of what could not be seen."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import geopandas
import numpy as np
import numpy.typing as npt
import pandas
import pyarrow
import pyogrio
import pyproj
import shapely
from rasterio.features import rasterize

from modeling.data import drawn_class
from modeling.data.batches import IGNORE, ByteArray
from modeling.errors import DataError
from modeling.rasters.raster import RasterGrid, SlicesYX

Geometries = npt.NDArray[np.object_]

MAX_FEATURES = 5_000_000
MAX_BYTES = 8 * 2**30
_CLASSES = drawn_class.LANDSLIDE | drawn_class.OTHER
_POLYGONS = (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON)


@dataclass(frozen=True)
class Inventory:
    """Mapped landslides in one coordinate system."""

    crs: str
    """Of all geometries."""
    landslides: Geometries
    """Polygons of landslides, may overlap."""
    extents: Geometries
    """What was looked at; empty: everything that is asked for."""
    ignored: Geometries
    """Where nothing is known, such as under cloud: stronger than a landslide."""
    notes: tuple[str, ...] = ()
    """What was done to polygons so that they could be used."""

    def in_system(self, crs: str) -> Inventory:
        """The same in another coordinate system."""
        if pyproj.CRS(crs) == pyproj.CRS(self.crs):
            return self
        slides, extents, ignored = (
            _moved(part, self.crs, crs) for part in (self.landslides, self.extents, self.ignored)
        )
        return Inventory(crs, slides, extents, ignored, self.notes)

    def truth(self, grid: RasterGrid, where: SlicesYX) -> ByteArray:
        """The truth (y, x) of a window of a grid in this system: 1 where a pixel's centre lies in a landslide.

        `IGNORE` outside the extents and inside what is ignored.
        """
        part = grid.window(where)
        truth = self._burn(part, self._landslides, self.landslides)
        if len(self.extents):
            truth[self._burn(part, self._extents, self.extents) == 0] = IGNORE
        truth[self._burn(part, self._ignored, self.ignored) == 1] = IGNORE
        return truth

    def covering_grid(self, pixel_m: float) -> RasterGrid:
        """The UTM grid of pixels of `pixel_m`, at multiples of it, over the extents, or else over the landslides."""
        shown = self.extents if len(self.extents) else self.landslides
        degrees = _moved(shown, self.crs, "EPSG:4326")
        west, south, east, north = shapely.total_bounds(degrees)
        lon, lat = (west + east) / 2, (south + north) / 2
        crs = f"EPSG:{(32600 if lat >= 0 else 32700) + int((lon + 180) // 6) % 60 + 1}"
        left, bottom, right, top = shapely.total_bounds(_moved(shown, self.crs, crs))
        x0, y0 = math.floor(left / pixel_m) * pixel_m, math.ceil(top / pixel_m) * pixel_m
        shape = math.ceil((y0 - bottom) / pixel_m), math.ceil((right - x0) / pixel_m)
        return RasterGrid(crs, (pixel_m, 0.0, x0, 0.0, -pixel_m, y0), shape)

    @cached_property
    def _landslides(self) -> shapely.STRtree:
        return shapely.STRtree(self.landslides)

    @cached_property
    def _extents(self) -> shapely.STRtree:
        return shapely.STRtree(self.extents)

    @cached_property
    def _ignored(self) -> shapely.STRtree:
        return shapely.STRtree(self.ignored)

    @staticmethod
    def _burn(part: RasterGrid, tree: shapely.STRtree, geometries: Geometries) -> ByteArray:
        """1 where a pixel's centre lies in one of the geometries."""
        found = geometries[tree.query(shapely.box(*part.bounds))]
        if len(found) == 0:
            return np.zeros(part.shape_yx, np.uint8)
        burnt: ByteArray = rasterize(found, out_shape=part.shape_yx, transform=part.affine, fill=0, default_value=1)
        return burnt.astype(np.uint8, copy=False)


def read_inventory(
    landslides: Sequence[Path], *, extents: Sequence[Path] = (), ignored: Sequence[Path] = ()
) -> Inventory:
    """Read polygons of any vector format, of several files and coordinate systems, into the first one's.

    A layer of a file that has several is named after a colon: `inventory.gpkg:landslides`. Raises `DataError` when a file is
    missing, unreadable, too large, without coordinate system, has several layers of which none is named, or holds anything
    but polygons, or when there is no landslide. Polygons whose property `class` or `label` says that they are none, as those
    that `quakeslide adapt` takes have it, are left out, and rings that cross themselves are mended: both in `notes`.
    """
    if not landslides:
        raise DataError("an inventory needs at least one file with polygons of landslides")
    notes: list[str] = []
    first, crs = _polygons(landslides[0], notes, classed=True)
    parts = [[first], [], []]
    for place, paths in enumerate((landslides[1:], extents, ignored)):
        for path in paths:
            geometries, own = _polygons(path, notes, classed=place == 0)
            parts[place].append(_moved(geometries, own, crs))
    landslide, extent, unknown = (np.concatenate([np.empty(0, object), *group]) for group in parts)
    return Inventory(crs, landslide, extent, unknown, tuple(notes))


def _polygons(path: Path, notes: list[str], *, classed: bool) -> tuple[Geometries, str]:
    """The polygons of a file, made valid, and their coordinate system; where `classed` without those that are no landslide."""
    frame = _frame(path, drawn_class.PROPERTIES if classed else ())
    if len(frame) == 0:
        raise DataError(f"{path} holds no polygon")
    if len(frame) > MAX_FEATURES:
        raise DataError(f"{path} has more than {MAX_FEATURES:,} features: cut it")
    if frame.crs is None:
        raise DataError(
            f"{path} has no coordinate system: write one into the file (for a shapefile, the .prj beside it)"
        )
    if classed:
        frame = _landslides(frame, path, notes)
    geometries = shapely.force_2d(np.asarray(frame.geometry.array, object))
    geometries = geometries[~(shapely.is_missing(geometries) | shapely.is_empty(geometries))]
    other = ~np.isin(shapely.get_type_id(geometries), _POLYGONS)
    if other.any():
        kind = geometries[other][0].geom_type
        raise DataError(
            f"{path} holds {kind} ({int(other.sum())} of {len(geometries)}): truth is made from polygons only"
        )
    if not np.isfinite(shapely.bounds(geometries)).all():
        raise DataError(f"{path} has coordinates that are not finite")
    invalid = ~shapely.is_valid(geometries)
    if invalid.any():
        why = shapely.is_valid_reason(geometries[invalid][0])
        notes.append(f"{path.name}: {int(invalid.sum())} of {len(geometries)} polygons were mended (the first: {why})")
    geometries[invalid] = shapely.make_valid(geometries[invalid], method="structure", keep_collapsed=False)
    geometries = geometries[~shapely.is_empty(geometries)]
    if len(geometries) == 0:
        raise DataError(f"{path} holds no polygon with an area")
    return geometries, pyproj.CRS(frame.crs).to_string()


def _landslides(frame: geopandas.GeoDataFrame, path: Path, notes: list[str]) -> geopandas.GeoDataFrame:
    """Without the polygons of which a property says that they are no landslide.

    A property that says other things too, such as kinds of landslides, is no class; one that does and calls a polygon no
    landslide all the same is refused.
    """
    for name in [str(name) for name in frame.columns if str(name).lower() in drawn_class.PROPERTIES]:
        words = [None if drawn_class.is_missing(value) else drawn_class.plain(value) for value in frame[name]]
        codes, said = pandas.factorize(np.array(words, object))
        other = np.array([*(each in drawn_class.OTHER for each in said), False])[codes]
        if not other.any():
            continue
        shown, strange = said[codes[other][0]], [each for each in said if each not in _CLASSES]
        if strange or (codes < 0).any():
            if any(each in drawn_class.NO_LANDSLIDE for each in said):
                beside = f"{strange[0]!r}" if strange else "nothing"
                raise DataError(
                    f"{path}: its property {name!r} says that some polygons are no landslide, but of others {beside}: say "
                    "landslide or not-landslide of all, or take out those that are none"
                )
            continue
        if other.all():
            raise DataError(
                f"{path} holds no landslide: its property {name!r} says that all {len(frame)} polygons are none ({shown!r})"
            )
        notes.append(
            f"{path.name}: {int(other.sum())} of {len(frame)} polygons have the class {shown!r} and are left out"
        )
        frame = frame[~other]
    return frame


def _frame(named: Path, properties: Sequence[str]) -> geopandas.GeoDataFrame:
    path, layer = _file_and_layer(named)
    if path.is_file() and (size := path.stat().st_size) > MAX_BYTES:
        raise DataError(f"{path} has {size:,} bytes, more than the {MAX_BYTES:,} that are read: cut it")
    try:
        if path.is_file() and _starts(path) == b"PAR1":
            if layer is not None:
                raise DataError(f"{path} is a Parquet file, which has no layers: leave out :{layer}")
            return geopandas.read_parquet(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # GDAL's remarks on names and rings
            chosen = _layer(path, layer)
            columns = []
            if properties:
                there = pyogrio.read_info(path.resolve(), layer=chosen)["fields"]
                columns = [name for name in there if str(name).lower() in properties]
            frame = pyogrio.read_dataframe(path.resolve(), layer=chosen, columns=columns, max_features=MAX_FEATURES + 1)
    except (
        pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, pyogrio.errors.FieldError, pyarrow.ArrowException,
        shapely.errors.ShapelyError, ValueError, OSError,
    ) as error:  # fmt: skip
        raise DataError(f"{path} is no file of polygons that can be read: {str(error)[:150]}") from error
    if not isinstance(frame, geopandas.GeoDataFrame):
        raise DataError(f"{named} is a table without geometry: give a file with polygons")
    return frame


def _file_and_layer(named: Path) -> tuple[Path, str | None]:
    """A file, and the layer that is named after it; a file whose own name has a colon is taken as it is."""
    if named.exists():
        return named, None
    file, colon, layer = str(named).rpartition(":")
    if colon and layer and Path(file).exists():
        return Path(file), layer
    raise DataError(f"{named}: there is no such file")


def _layer(path: Path, wanted: str | None) -> str | None:
    """The layer to read; None for the only one, whatever it is called."""
    layers = [str(name) for name, kind in pyogrio.list_layers(path.resolve()) if kind is not None]
    there = ", ".join(layers)[:300] or "none with geometry"
    if wanted is not None and wanted not in layers:
        raise DataError(f"{path} has no layer {wanted!r}: it has {there}")
    if wanted is None and len(layers) > 1:
        raise DataError(f"{path} has {len(layers)} layers ({there}): name one, such as {path}:{layers[0]}")
    return wanted


def _starts(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4)


def _moved(geometries: Geometries, source: str, target: str) -> Geometries:
    transformer = pyproj.Transformer.from_crs(source, target, always_xy=True)

    def move(xy: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.column_stack(transformer.transform(xy[:, 0], xy[:, 1]))

    moved: Geometries = shapely.transform(geometries, move)
    if not np.isfinite(shapely.bounds(moved)).all():
        raise DataError(f"polygons in {source} do not fit into {target}: check the coordinate system of the file")
    return moved
