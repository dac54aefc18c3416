"""Where landslides are looked for, and why there: from a ShakeMap, from the magnitude, or as given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import numpy as np
import shapely

from flows.area_cut import cut_to_land_and_slopes
from flows.area_file import area_from_file
from flows.area_type import AreaCut, AreaOfInterest, area_from_geometry, check_size
from flows.contours import contour_polygons
from flows.errors import AreaError, ContentMissingError, EventError
from flows.event import EarthquakeEvent, ProductRef
from flows.intensity import (
    ASSUMED_DEPTH_KM,
    CITATION,
    MAX_DISTANCE_KM,
    VALID_MAGNITUDES,
    magnitude_radius_km,
    predicted_mmi,
)
from flows.settings import AreaSettings
from flows.shakemap import MAX_BYTES, ShakeGrid, grid_polygon, read_grid_xml
from flows.sphere import geodesic_circle

__all__ = [
    "AreaCut",
    "AreaOfInterest",
    "ProductFiles",
    "area_from_file",
    "area_from_geometry",
    "area_from_magnitude",
    "area_from_radius",
    "area_from_shakemap",
    "area_of_event",
    "check_size",
    "cut_to_land_and_slopes",
    "given_area",
]

GRID_FILE = "download/grid.xml"
CONTOUR_FILE = "download/cont_mmi.json"
MAX_WKT_CHARS = 20_000_000


class ProductFiles(Protocol):
    """Where the files of a product come from; `flows.usgs.UsgsClient` is one."""

    def content(self, url: str, max_bytes: int = ...) -> bytes:
        """The bytes at an address. Raises `ContentMissingError` when there are none."""
        ...


def area_from_shakemap(
    product: ProductRef, minimum_mmi: float, *, grid: bytes | None = None, contours: bytes | None = None
) -> AreaOfInterest:
    """The ground that a ShakeMap shakes at or above an intensity, from its `grid.xml` or else its `cont_mmi.json`.

    Raises `EventError` when the file cannot be read or does not bound an area, `AreaError` when the shaking stays below
    `minimum_mmi` everywhere.
    """
    notes: tuple[str, ...] = ()
    level = minimum_mmi
    if grid is not None:
        read = read_grid_xml(grid)
        geometry = grid_polygon(read, minimum_mmi)
        notes = _edge_note(read, minimum_mmi)
        strongest = f" (strongest {read.maximum_mmi:.1f})"
    elif contours is not None:
        geometry, level = contour_polygons(contours, minimum_mmi)
        strongest = ""
        notes = ("the area is from contour lines, without the ShakeMap's grid",)
    else:
        raise EventError(f"ShakeMap {product.name} lists neither {GRID_FILE} nor {CONTOUR_FILE}")
    if geometry.is_empty:
        raise AreaError(
            f"ShakeMap {product.name} shakes nowhere at MMI {minimum_mmi:g}{strongest}: few landslides are to be "
            "expected; lower `area.minimum_mmi` or give an area with --aoi"
        )
    return AreaOfInterest(
        geometry=geometry,
        reason=f"MMI >= {level:g} of ShakeMap {product.name}",
        source="shakemap",
        notes=notes,
        minimum_mmi=level,
        shakemap=f"{product.source}/{product.code}",
        shakemap_version=product.version,
        shakemap_updated=product.updated.isoformat(),
    )


def _edge_note(grid: ShakeGrid, minimum_mmi: float) -> tuple[str, ...]:
    if not grid.reaches_edge(minimum_mmi):
        return ()
    return (f"shaking of MMI {minimum_mmi:g} reaches the edge of the ShakeMap: the area may go on beyond it",)


def area_from_radius(lon: float, lat: float, radius_km: float, reason: str = "") -> AreaOfInterest:
    """All ground within a distance of a point (degrees, km). Raises `AreaError` for an impossible point or radius."""
    try:
        geometry = geodesic_circle(lon, lat, radius_km)
    except ValueError as error:
        raise AreaError(f"no area can be drawn: {error}") from error
    return AreaOfInterest(geometry, reason or f"radius {radius_km:.0f} km round {lat:.3f}, {lon:.3f}", source="radius")


def area_from_magnitude(event: EarthquakeEvent, minimum_mmi: float, why: str = "") -> AreaOfInterest:
    """The circle within which an event without a usable ShakeMap is expected to shake at or above an intensity.

    Its radius is `flows.intensity.magnitude_radius_km`. Raises `AreaError` when the intensity is reached nowhere.
    """
    radius_km = magnitude_radius_km(event.magnitude, event.depth_km, minimum_mmi)
    depth = ASSUMED_DEPTH_KM if event.depth_km is None else event.depth_km
    if radius_km <= 0:
        raise AreaError(
            f"M {event.magnitude:g} at {depth:g} km depth is expected to shake at MMI "
            f"{predicted_mmi(event.magnitude, max(depth, 0.0)):.1f} at most, below {minimum_mmi:g}: few landslides are "
            "to be expected; lower `area.minimum_mmi` or give an area with --aoi"
        )
    notes = [why] if why else []
    if event.depth_km is None:
        notes.append(f"the depth is not known, {ASSUMED_DEPTH_KM:g} km was assumed")
    low, high = VALID_MAGNITUDES
    if not low <= event.magnitude <= high:
        notes.append(f"M {event.magnitude:g} is outside the equation's range of {low:g} to {high:g}")
    if radius_km >= MAX_DISTANCE_KM:
        notes.append(f"the radius was held at {MAX_DISTANCE_KM:g} km, the equation's range")
    circle = area_from_radius(
        event.lon,
        event.lat,
        radius_km,
        f"radius {radius_km:.0f} km, where M {event.magnitude:g} at {depth:g} km depth is expected to reach MMI "
        f"{minimum_mmi:g} ({CITATION})",
    )
    return AreaOfInterest(circle.geometry, circle.reason, "radius", tuple(notes), minimum_mmi)


def given_area(wkt: str, reason: str = "given by hand") -> AreaOfInterest:
    """An area given as WKT in lon/lat degrees. Raises `AreaError` when it is not one."""
    try:
        with np.errstate(invalid="ignore"):  # NaN coordinates are refused below, with a message
            geometry = shapely.from_wkt(wkt) if len(wkt) <= MAX_WKT_CHARS else None
    except (shapely.errors.ShapelyError, TypeError, ValueError) as error:
        raise AreaError(f"the area is not WKT: {str(error)[:150]}; give POLYGON ((lon lat, …))") from error
    if geometry is None:
        raise AreaError("the area cannot be read as WKT: give POLYGON ((lon lat, …))")
    return area_from_geometry(geometry, reason)


def area_of_event(event: EarthquakeEvent, client: ProductFiles, settings: AreaSettings) -> AreaOfInterest:
    """The area of an event: its ShakeMap's grid, else its contours, else the magnitude's radius; never cut.

    A file that is missing or cannot be read leads to the next source, and the notes say so. Raises `AreaError` when the
    shaking stays below the intensity of the settings, `ServiceError` when the USGS cannot be reached.
    """
    product = event.shakemap
    if product is None:
        return area_from_magnitude(event, settings.minimum_mmi, "the event has no ShakeMap")
    failures: list[str] = []
    for name, read in _readers(product, settings.minimum_mmi):
        url = product.url(name)
        if url is None:
            continue
        try:
            found = read(client.content(url, MAX_BYTES))
        except (ContentMissingError, EventError) as error:
            failures.append(str(error))
            continue
        return replace(found, notes=(*found.notes, *failures))
    failed = "; ".join(failures) or f"it lists neither {GRID_FILE} nor {CONTOUR_FILE}"
    return area_from_magnitude(event, settings.minimum_mmi, f"ShakeMap {product.name} could not be used: {failed}")


def _readers(product: ProductRef, minimum_mmi: float) -> list[tuple[str, Callable[[bytes], AreaOfInterest]]]:
    """The files of a ShakeMap that can give an area, the better one first, and how each is read."""
    return [
        (GRID_FILE, lambda data: area_from_shakemap(product, minimum_mmi, grid=data)),
        (CONTOUR_FILE, lambda data: area_from_shakemap(product, minimum_mmi, contours=data)),
    ]
