"""Cuts an area to the ground where landslides can be: land, near enough to slopes that can fail. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import shapely
from affine import Affine
from pyproj import CRS, Transformer
from rasterio.features import geometry_mask
from rasterio.features import shapes as raster_shapes
from scipy.ndimage import distance_transform_edt
from shapely.geometry import MultiPolygon, Polygon, shape

from flows.area_type import AreaCut, AreaOfInterest, check_size
from flows.errors import AreaError
from flows.sphere import area_km2, joined, polygonal, split_at_antimeridian

Mask = npt.NDArray[np.bool_]

METRES_PER_DEGREE = 111_195.0
"""Length of a degree of latitude on Earth Engine's sphere of 6371007.18 m."""
CELLS_PER_REACH = 3
"""The cut is made on cells of about this part of the reach, so that ground up to twice as far may be kept: finer cells
would fray the edge and make the area's outline many times as long."""
HOLE_KM2 = 0.02
"""Smaller holes in the result are filled."""
UNCOVERED_SHARE = 0.02
"""An area that the elevation raster covers less than this short of whole counts as covered: pixels are coarse."""


@dataclass(frozen=True)
class _Raster:
    """The grid of the terrain: where it lies and how large its pixels are."""

    crs: CRS
    transform: Affine
    shape_yx: tuple[int, int]
    geometry: Polygon | MultiPolygon
    """The area in the coordinates of the raster."""
    centre_lon: float
    """Longitude near which the area lies, beyond 180 if need be."""

    @property
    def geographic(self) -> bool:
        return bool(self.crs.is_geographic)

    def pixel_m(self) -> tuple[float, float]:
        """Height and width of a pixel in metres; the least width there is, so that no reach comes out too short."""
        height, width = -self.transform.e, self.transform.a
        if not self.geographic:
            return height, width
        top, bottom = self.transform.f, self.transform.f - height * self.shape_yx[0]
        farthest = min(max(abs(top), abs(bottom)), 89.0)
        return height * METRES_PER_DEGREE, width * METRES_PER_DEGREE * math.cos(math.radians(farthest))

    def row_area_m2(self) -> npt.NDArray[np.float64]:
        """Area of a pixel of each row (y,)."""
        height, width = -self.transform.e, self.transform.a
        if not self.geographic:
            return np.full(self.shape_yx[0], height * width)
        lat = self.transform.f - height * (np.arange(self.shape_yx[0]) + 0.5)
        return np.asarray(height * width * METRES_PER_DEGREE**2 * np.cos(np.radians(np.clip(lat, -90.0, 90.0))))

    def inside(self) -> Mask:
        """Pixels (y, x) of the area: by their centres, or all that it touches where it is smaller than a pixel."""
        for all_touched in (False, True):
            mask: Mask = geometry_mask(
                [self.geometry], self.shape_yx, self.transform, all_touched=all_touched, invert=True
            )
            if mask.any():
                return mask
        raise AreaError("the elevation model does not cover the area at all: choose another in `imagery.dems`")

    def to_lonlat(self, geometry: Polygon | MultiPolygon) -> Polygon | MultiPolygon:
        """A geometry of the raster in degrees, longitudes on the same stretch as `centre_lon`."""
        to_degrees = Transformer.from_crs(self.crs, "EPSG:4326", always_xy=True)

        def project(xy: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
            lon, lat = (xy[:, 0], xy[:, 1]) if self.geographic else to_degrees.transform(xy[:, 0], xy[:, 1])
            lon = np.asarray(lon) + 360.0 * np.round((self.centre_lon - np.asarray(lon)) / 360.0)
            return np.column_stack([lon, lat])

        return polygonal(shapely.transform(geometry, project))


def cut_to_land_and_slopes(
    area: AreaOfInterest,
    elevation: npt.NDArray[np.floating],
    slope_deg: npt.NDArray[np.floating],
    *,
    transform: Affine,
    crs: str,
    minimum_slope_deg: float,
    reach_m: float,
    maximum_area_km2: float | None = None,
) -> AreaOfInterest:
    """The part of an area that is land and within `reach_m` of ground of `minimum_slope_deg` or more.

    `elevation` (m) and `slope_deg` are (y, x) on one north-up grid in degrees or metres (`transform`, `crs`), NaN where
    not known. Elevation 0 is sea, as in SRTM. The result lies within the area, holds every steep pixel of it (but for
    pieces below a pixel that the area's edge cuts off), and says what was cut away and how much of it. Raises
    `AreaError` when nothing is left (at sea, flat, no elevation) or when the result is larger than `maximum_area_km2`
    and was not given by hand.
    """
    raster = _raster(area, elevation.shape, slope_deg.shape, transform, crs)
    inside = raster.inside()
    known = np.isfinite(elevation)
    land = known & (elevation != 0)
    # Comparison with NaN is False: ground of unknown slope is not steep.
    steep = land & (slope_deg >= minimum_slope_deg)
    where = f"{area.area_km2:,.0f} km², {area.reason}"
    if not (known & inside).any():
        raise AreaError(f"no elevation is known in the area ({where}): choose another model in `imagery.dems`")
    if not (land & inside).any():
        raise AreaError(f"the area is at sea: it holds no land ({where}); give an area on land with --aoi")
    keep, outline = _kept(raster, land, steep, reach_m)
    kept = polygonal(shapely.intersection(joined(area.geometry), raster.to_lonlat(outline)))
    geometry = split_at_antimeridian(_without_crumbs(kept, raster))
    if not (keep & inside).any() or geometry.is_empty:
        raise AreaError(
            f"the area is flat: no ground of {minimum_slope_deg:g}° or more within {reach_m:g} m of it ({where}); "
            "lower `area.minimum_slope_deg` or give another area with --aoi"
        )
    shares = _shares(raster, inside, {"sea": known & ~land, "flat": land & ~keep, "unknown": ~known}, area.area_km2)
    cut = AreaCut(
        before_km2=area.area_km2,
        sea_share=shares["sea"],
        flat_share=shares["flat"],
        unknown_share=shares["unknown"],
        minimum_slope_deg=minimum_slope_deg,
        reach_m=reach_m,
    )
    result = replace(area, geometry=geometry, cut=cut)
    return result if maximum_area_km2 is None else check_size(result, maximum_area_km2)


def _raster(
    area: AreaOfInterest,
    shape_yx: tuple[int, ...],
    slope_shape_yx: tuple[int, ...],
    transform: Affine,
    crs: str,
) -> _Raster:
    """The grid, with the area in its coordinates. Raises `AreaError` for a grid that the cut cannot work on."""
    if len(shape_yx) != 2 or shape_yx != slope_shape_yx:
        raise AreaError(f"elevation {shape_yx} and slope {slope_shape_yx} do not lie on one (y, x) grid")
    if transform.b != 0 or transform.d != 0 or transform.a <= 0 or transform.e >= 0:
        raise AreaError("the elevation model is not a north-up grid: warp it first")
    system = CRS.from_user_input(crs)
    if not system.is_geographic and system.axis_info[0].unit_name != "metre":
        raise AreaError(f"the elevation model is in {crs}: give one in degrees or metres")
    whole = joined(area.geometry)
    centre_lon = float(whole.centroid.x)
    if system.is_geographic:
        middle = transform.c + transform.a * shape_yx[1] / 2
        turn = 360.0 * round((middle - centre_lon) / 360.0)
        placed = shapely.transform(whole, lambda xy: xy + np.array([turn, 0.0]))
    else:
        projector = Transformer.from_crs("EPSG:4326", system, always_xy=True)
        placed = shapely.transform(
            shapely.segmentize(whole, 0.05), lambda xy: np.column_stack(projector.transform(xy[:, 0], xy[:, 1]))
        )
    return _Raster(system, transform, (shape_yx[0], shape_yx[1]), polygonal(placed), centre_lon)


def _kept(raster: _Raster, land: Mask, steep: Mask, reach_m: float) -> tuple[Mask, Polygon | MultiPolygon]:
    """Land within the reach of steep ground: as pixels (y, x) and as polygons in the coordinates of the raster."""
    pixel_m = raster.pixel_m()
    factor = max(1, int(reach_m / CELLS_PER_REACH / max(pixel_m)))
    cells: Mask = np.logical_and(_near(_pooled(steep, factor), pixel_m, factor, reach_m), _pooled(land, factor))
    return _spread(cells, factor, raster.shape_yx), _outline(cells, raster.transform, factor)


def _pooled(mask: Mask, factor: int) -> Mask:
    """Cells of `factor` x `factor` pixels (y, x), set where any pixel is."""
    if factor == 1:
        return mask
    height, width = (-side % factor for side in mask.shape)
    padded = np.pad(mask, ((0, height), (0, width)))
    rows, cols = padded.shape[0] // factor, padded.shape[1] // factor
    pooled: Mask = np.asarray(padded.reshape(rows, factor, cols, factor).any(axis=(1, 3)))
    return pooled


def _spread(cells: Mask, factor: int, shape_yx: tuple[int, int]) -> Mask:
    """Pixels (y, x) of the cells."""
    pixels: Mask = cells.repeat(factor, axis=0).repeat(factor, axis=1)[: shape_yx[0], : shape_yx[1]]
    return pixels


def _near(steep: Mask, pixel_m: tuple[float, float], factor: int, reach_m: float) -> Mask:
    """Cells (y, x) whose centre lies within the reach of a steep one, never fewer than on single pixels."""
    if not steep.any():
        return np.zeros_like(steep)
    cell_m = (pixel_m[0] * factor, pixel_m[1] * factor)
    slack_m = math.hypot(*cell_m) if factor > 1 else 0.0
    distance_m = distance_transform_edt(~steep, sampling=cell_m)
    near: Mask = np.asarray(distance_m) <= reach_m + slack_m
    return near


def _outline(cells: Mask, transform: Affine, factor: int) -> Polygon | MultiPolygon:
    """Polygons round the set cells, in the coordinates of the raster, with smoothed steps and never smaller."""
    scaled = Affine(transform.a * factor, 0.0, transform.c, 0.0, transform.e * factor, transform.f)
    found = raster_shapes(cells.astype(np.uint8), mask=cells, connectivity=4, transform=scaled)
    whole = shapely.union_all([shape(geometry) for geometry, _ in found])
    # Widened by as much as the smoothing may take away: a cliff above the sea must stay inside.
    step = min(scaled.a, -scaled.e)
    return polygonal(whole.buffer(0.5 * step, join_style="mitre").simplify(0.5 * step))


def _without_crumbs(geometry: Polygon | MultiPolygon, raster: _Raster) -> Polygon | MultiPolygon:
    """Pieces below a pixel and holes below `HOLE_KM2` removed; of an area as small as that, the main ones stay."""
    sizes = [(part, area_km2(part)) for part in shapely.get_parts(geometry)]
    least = min(float(raster.row_area_m2().max()) / 1e6, 0.1 * max((size for _, size in sizes), default=0.0))
    kept = []
    for part, size in sizes:
        if size >= least:
            holes = [ring for ring in part.interiors if area_km2(Polygon(ring)) >= HOLE_KM2]
            kept.append(Polygon(part.exterior, holes))
    return polygonal(MultiPolygon(kept))


def _shares(raster: _Raster, inside: Mask, parts: dict[str, Mask], area_in_km2: float) -> dict[str, float]:
    """Share of the area in each of the parts; what the raster does not cover goes to `unknown`."""
    row_km2 = raster.row_area_m2() / 1e6
    covered = float(inside.sum(axis=1) @ row_km2)
    beyond = max(0.0, area_in_km2 - covered)
    beyond = beyond if beyond > UNCOVERED_SHARE * area_in_km2 else 0.0
    km2 = {name: float((part & inside).sum(axis=1) @ row_km2) for name, part in parts.items()}
    km2["unknown"] += beyond
    return {name: value / (covered + beyond) for name, value in km2.items()}
