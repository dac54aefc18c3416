"""The globe: circles, poles, the antimeridian and areas on the ellipsoid."""

from __future__ import annotations

import math

import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Geod
from shapely.geometry import MultiPolygon, box

from flows.area import (
    area_from_radius,
)
from flows.errors import AreaError
from flows.sphere import area_km2, joined, split_at_antimeridian

GEOD = Geod(ellps="WGS84")


centres = {"lon": st.floats(-180, 180), "lat": st.floats(-90, 90)}


@settings(max_examples=60)
@given(**centres, radius=st.floats(1, 500), azimuth=st.floats(0, 360), share=st.floats(0, 2))
def test_a_circle_holds_what_is_nearer_and_not_what_is_farther(
    lon: float, lat: float, radius: float, azimuth: float, share: float
) -> None:
    circle = area_from_radius(lon, lat, radius).geometry
    west, south, east, north = circle.bounds
    assert west >= -180
    assert east <= 180
    assert -90 <= south <= north <= 90
    assert circle.is_valid
    x, y, _ = GEOD.fwd(lon, lat, azimuth, share * radius * 1000)
    inside = circle.distance(shapely.Point(x, y)) < 1e-9
    if share < 0.99:
        assert inside
    elif share > 1.08:  # a circle that all but touches a pole takes the pole in
        assert not inside


@settings(max_examples=60)
@given(**centres, radius=st.floats(1, 500))
def test_a_circle_has_its_area_wherever_it_lies(lon: float, lat: float, radius: float) -> None:
    size = area_from_radius(lon, lat, radius).area_km2
    flat = math.pi * radius**2
    if abs(lat) + radius / 111.0 * 1.05 < 90 or abs(lat) + radius / 112.0 * 0.9 > 90:
        assert size == pytest.approx(flat, rel=0.02)
    assert size < flat * 1.17


@settings(max_examples=40)
@given(**centres, radius=st.floats(1, 400), more=st.floats(1, 100))
def test_a_larger_radius_gives_a_larger_area(lon: float, lat: float, radius: float, more: float) -> None:
    assert area_from_radius(lon, lat, radius + more).area_km2 > area_from_radius(lon, lat, radius).area_km2 * 0.9999


@pytest.mark.parametrize("lon", [179.9, -179.9, 180.0, -180.0])
@pytest.mark.parametrize("lat", [0.0, 60.0, -75.0])
def test_a_circle_across_the_antimeridian_has_a_part_on_each_side(lon: float, lat: float) -> None:
    geometry = area_from_radius(lon, lat, 100.0).geometry
    assert isinstance(geometry, MultiPolygon)
    assert area_km2(geometry) == pytest.approx(math.pi * 1e4, rel=0.001)
    assert geometry.intersects(shapely.Point(179.95, lat))
    assert geometry.intersects(shapely.Point(-179.95, lat))


@pytest.mark.parametrize(("lon", "lat"), [(0, 90), (123, -90), (50, 89.9999), (-180, 89.6), (180, -89.6)])
def test_a_circle_at_a_pole_holds_the_pole(lon: float, lat: float) -> None:
    area = area_from_radius(lon, lat, 100.0)
    assert area.geometry.intersects(shapely.Point(17, math.copysign(90, lat)))
    assert area.area_km2 == pytest.approx(math.pi * 1e4, rel=0.01)


@pytest.mark.parametrize(("lon", "lat", "radius"), [(0, 91, 1), (181, 0, 1), (0, 0, 0), (0, 0, math.nan), (0, 0, 1e5)])
def test_an_impossible_circle_is_refused(lon: float, lat: float, radius: float) -> None:
    with pytest.raises(AreaError, match="no area can be drawn"):
        area_from_radius(lon, lat, radius)


@settings(max_examples=50)
@given(st.floats(-400, 400), st.floats(-80, 70), st.floats(0.1, 100), st.floats(0.1, 10))
def test_splitting_at_the_antimeridian_keeps_the_area(west: float, south: float, width: float, height: float) -> None:
    whole = box(west, south, min(west + width, 539), south + height)
    split = split_at_antimeridian(whole)
    assert split.bounds[0] >= -180
    assert split.bounds[2] <= 180
    assert split.area == pytest.approx(whole.area, rel=1e-9)
    assert area_km2(joined(split)) == pytest.approx(area_km2(split), rel=1e-6)


def test_a_box_of_one_degree_has_the_size_of_the_ellipsoid() -> None:
    assert area_km2(box(0, 0, 1, 1)) == pytest.approx(12308.8, rel=1e-4)
