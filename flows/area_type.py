"""The type of an area of interest: a part of the globe with the reason for it. Pure."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import shapely
from shapely.geometry import MultiPolygon, Polygon, mapping, shape
from shapely.geometry.base import BaseGeometry

from flows.errors import AreaError
from flows.sphere import area_km2, continuous, polygonal, split_at_antimeridian


@dataclass(frozen=True)
class AreaCut:
    """What was cut away from an area because nothing can slide there. Shares are of the area before the cut."""

    before_km2: float
    """Area before the cut."""
    sea_share: float
    """Water: elevation exactly 0."""
    flat_share: float
    """Land farther than the reach from any ground as steep as the minimum."""
    unknown_share: float
    """No elevation is known."""
    minimum_slope_deg: float
    """Ground less steep cannot fail."""
    reach_m: float
    """How far from steep ground a landslide may run."""

    @property
    def text(self) -> str:
        """One line for the report."""
        unknown = f", {self.unknown_share:.0%} without elevation" if self.unknown_share >= 0.005 else ""
        return (
            f"of {self.before_km2:,.0f} km², {self.sea_share:.0%} sea and {self.flat_share:.0%} farther than "
            f"{self.reach_m:g} m from ground of {self.minimum_slope_deg:g}°{unknown} were cut away"
        )


@dataclass(frozen=True)
class AreaOfInterest:
    """A part of the globe with the reason for it."""

    geometry: Polygon | MultiPolygon
    """WGS84 lon/lat; a MultiPolygon split at 180 degrees where it crosses the antimeridian (RFC 7946)."""
    reason: str
    """Why the area is this one, for example `MMI >= 6 of ShakeMap us/us2000h8ty version 10`."""
    source: str = "given"
    """`shakemap`, `radius` or `given`."""
    notes: tuple[str, ...] = ()
    """What a reader should know besides: fallbacks taken, a map edge reached."""
    minimum_mmi: float | None = None
    """The intensity that bounds the area, None for a given one."""
    shakemap: str = ""
    """Source and code of the ShakeMap, for example `us/us2000h8ty`; empty when none was used."""
    shakemap_version: str = ""
    """The maker's number of that version."""
    shakemap_updated: str = ""
    """When that version was sent, ISO 8601: tells apart versions that have the same number."""
    cut: AreaCut | None = None
    """What was cut away, None for an uncut area."""

    @cached_property
    def area_km2(self) -> float:
        """Area on the ellipsoid in km²."""
        return area_km2(self.geometry)

    @property
    def description(self) -> str:
        """Reason, cut and notes in one text for the report."""
        return "; ".join([self.reason, *([self.cut.text] if self.cut else []), *self.notes])

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values, the geometry as GeoJSON."""
        plain = {item.name: getattr(self, item.name) for item in fields(self) if item.name not in ("geometry", "cut")}
        cut = None if self.cut is None else asdict(self.cut)
        # Through JSON, so that tuples of coordinates become the lists that a reader of the file would get.
        value = {**plain, "notes": list(self.notes), "cut": cut, "geometry": mapping(self.geometry)}
        as_json: dict[str, Any] = json.loads(json.dumps(value))
        return as_json

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> AreaOfInterest:
        """The inverse of `to_dict`. Raises `AreaError` when `value` is not what `to_dict` writes."""
        try:
            cut = None if value["cut"] is None else AreaCut(**value["cut"])
            geometry = shape(value["geometry"])
            area = cls(**{**value, "geometry": geometry, "cut": cut, "notes": tuple(value["notes"])})
        except (KeyError, TypeError, ValueError, AttributeError, shapely.errors.ShapelyError) as error:
            raise AreaError(f"this is not a stored area of interest: {error!r}; plan the event again") from error
        if not isinstance(geometry, Polygon | MultiPolygon):
            raise AreaError(
                f"a stored area of interest has a {geometry.geom_type} for its geometry; plan the event again"
            )
        return area


def area_from_geometry(geometry: BaseGeometry, reason: str) -> AreaOfInterest:
    """An area from any lon/lat geometry with polygons, repaired and split at the antimeridian.

    Raises `AreaError` when there are no polygons, or when the coordinates cannot be degrees.
    """
    flat = shapely.force_2d(geometry)
    if flat.is_empty:
        raise AreaError(f"the area {reason} is empty: give one polygon or more")
    west, south, east, north = flat.bounds
    if (
        not bool(np.isfinite(shapely.get_coordinates(flat)).all())
        or west < -360
        or east > 360
        or south < -90
        or north > 90
    ):
        raise AreaError(
            f"the area {reason} reaches from {west:g}, {south:g} to {east:g}, {north:g}: these are not degrees; "
            "name its coordinate system"
        )
    split = split_at_antimeridian(continuous(flat)) if _has_polygons(flat) else Polygon()
    if split.is_empty:
        raise AreaError(f"the area {reason} has no polygons ({geometry.geom_type}): give polygons, not lines or points")
    return AreaOfInterest(split, reason)


def _has_polygons(geometry: BaseGeometry) -> bool:
    return not polygonal(geometry).is_empty


def check_size(area: AreaOfInterest, maximum_area_km2: float) -> AreaOfInterest:
    """The area itself, or `AreaError` when it is larger than allowed; one that was given by hand may have any size."""
    if area.source != "given" and area.area_km2 > maximum_area_km2:
        raise AreaError(
            f"the area has {area.area_km2:,.0f} km², more than {maximum_area_km2:,.0f} ({area.reason}): give a smaller "
            "one with --aoi, or raise `area.maximum_area_km2` or `area.minimum_mmi`"
        )
    return area
