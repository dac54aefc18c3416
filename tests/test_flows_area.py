"""Areas of interest as they are given and as events have them."""

from __future__ import annotations

import datetime as dt
import json
import math
from dataclasses import dataclass, field, replace

import pytest
from fakes.servers import serve
from fakes.shakemaps import LAT, LON, MMI, contours, grid_xml, ring
from shapely.geometry import MultiPolygon, Polygon
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from flows.area import (
    AreaOfInterest,
    area_from_geometry,
    area_from_magnitude,
    area_from_radius,
    area_of_event,
    check_size,
    given_area,
)
from flows.errors import AreaError, ContentMissingError, ServiceError
from flows.event import EarthquakeEvent, ProductRef
from flows.settings import AreaSettings
from flows.usgs import UsgsClient

TIME = dt.datetime(2018, 9, 5, 18, 7, 59, tzinfo=dt.UTC)
PRODUCT = ProductRef(
    "us", "shakemap", "us1", TIME, "10", "UPDATE", 1,
    (("download/cont_mmi.json", "https://earthquake.usgs.gov/c"), ("download/grid.xml", "https://earthquake.usgs.gov/g")),
)  # fmt: skip
EVENT = EarthquakeEvent(
    "us1", ("us1",), TIME, TIME, 141.0, 42.0, 10.0, 6.6, "mww", "here", "M 6.6 - here", "reviewed", None,
    products=(PRODUCT,),
)  # fmt: skip
SETTINGS = AreaSettings()
GRID = grid_xml(LON, LAT, MMI).encode()
CONTOURS = contours({6.0: [ring(141, 42, 0.4)], 7.0: [ring(141, 42, 0.2)]})


def test_a_given_area_that_jumps_over_the_antimeridian_is_split_there() -> None:
    area = given_area("POLYGON ((179 -17, -179 -17, -179 -16, 179 -16, 179 -17))", "given by hand")
    assert isinstance(area.geometry, MultiPolygon)
    assert area.geometry.area == pytest.approx(2.0)
    assert (area.reason, area.source) == ("given by hand", "given")


@pytest.mark.parametrize(
    ("wkt", "message"),
    [
        ("hello", "not WKT"),
        ("POINT (1 2)", "has no polygons"),
        ("POLYGON EMPTY", "is empty"),
        ("POLYGON ((500000 4700000, 500100 4700000, 500100 4700100, 500000 4700000))", "these are not degrees"),
        ("POLYGON ((1 1, 2 2, 1 1, 1 1))", "has no polygons"),
        ("POLYGON ((1 1, 2 nan, 1 2, 1 1))", "not degrees|not WKT"),
    ],
)
def test_a_given_area_that_is_none_says_why(wkt: str, message: str) -> None:
    with pytest.raises(AreaError, match=message):
        given_area(wkt)


def test_a_polygon_that_crosses_itself_is_repaired() -> None:
    assert area_from_geometry(Polygon([(0, 0), (2, 2), (2, 0), (0, 2)]), "x").geometry.area == pytest.approx(2.0)


def test_areas_survive_storage() -> None:
    crossing = given_area("POLYGON ((179 -1, -179 -1, -179 1, 179 1, 179 -1))")
    for area in (crossing, area_of_event(EVENT, Files({"g": GRID}), SETTINGS)):
        stored = json.loads(json.dumps(area.to_dict()))
        assert AreaOfInterest.from_dict(stored) == area
    with pytest.raises(AreaError, match="not a stored area"):
        AreaOfInterest.from_dict({"geometry": 1})


def test_an_area_may_be_too_large_unless_it_is_given() -> None:
    large = area_from_radius(10, 10, 200)
    assert check_size(large, 130_000) is large
    with pytest.raises(AreaError, match=r"the area has 125,\d+ km², more than 40,000"):
        check_size(large, 40_000)
    assert check_size(replace(large, source="given"), 40_000)


@dataclass
class Files:
    """The product files of the USGS by the last letters of their address."""

    files: dict[str, bytes] = field(default_factory=dict)

    def content(self, url: str, max_bytes: int = 0) -> bytes:
        name = url.rpartition("/")[2]
        if name not in self.files:
            raise ContentMissingError(f"the product file {name} is not there (HTTP 404)")
        return self.files[name]


def test_the_area_of_an_event_is_its_shakemaps_grid() -> None:
    area = area_of_event(EVENT, Files({"g": GRID, "c": CONTOURS}), SETTINGS)
    assert area.reason == "MMI >= 6 of ShakeMap us/us1 version 10"
    assert (area.source, area.shakemap, area.shakemap_version, area.minimum_mmi) == ("shakemap", "us/us1", "10", 6.0)
    assert area.shakemap_updated == TIME.isoformat()
    assert area.geometry.area == pytest.approx(math.pi * 0.25, rel=0.01)
    assert area.notes == ()


def test_contours_stand_in_for_a_grid_that_is_not_there() -> None:
    area = area_of_event(EVENT, Files({"c": CONTOURS}), SETTINGS)
    assert area.source == "shakemap"
    assert area.geometry.area == pytest.approx(math.pi * 0.16, rel=0.01)
    assert "contour lines" in area.notes[0]
    assert "g is not there (HTTP 404)" in area.notes[1]


@pytest.mark.parametrize("files", [{}, {"g": b"<html/>"}, {"g": b"", "c": b"{}"}])
def test_the_magnitude_stands_in_for_a_shakemap_that_cannot_be_used(files: dict[str, bytes]) -> None:
    area = area_of_event(EVENT, Files(files), SETTINGS)
    assert area.source == "radius"
    assert area.reason.startswith("radius 49 km, where M 6.6 at 10 km depth is expected to reach MMI 6 ")
    assert "Allen, Wald and Worden (2012)" in area.reason
    assert area.notes[0].startswith("ShakeMap us/us1 version 10 could not be used: ")
    assert "version 10 could not be used" in area.description


def test_an_event_without_a_shakemap_gets_the_magnitudes_radius() -> None:
    area = area_of_event(replace(EVENT, products=()), Files(), SETTINGS)
    assert area.notes == ("the event has no ShakeMap",)
    assert area.area_km2 == pytest.approx(math.pi * 48.9**2, rel=0.005)
    withdrawn = replace(PRODUCT, status="DELETE", contents=(), updated=TIME + dt.timedelta(hours=1))
    deleted = area_of_event(replace(EVENT, products=(PRODUCT, withdrawn)), Files({"g": GRID}), SETTINGS)
    assert deleted == area


def test_a_shakemap_too_weak_for_landslides_ends_the_matter() -> None:
    with pytest.raises(AreaError, match=r"us/us1 version 10 shakes nowhere at MMI 8.5 \(strongest 8.0\)"):
        area_of_event(EVENT, Files({"g": GRID}), AreaSettings(minimum_mmi=8.5))


def test_a_quake_too_deep_for_landslides_ends_the_matter() -> None:
    with pytest.raises(AreaError, match=r"M 6.6 at 600 km depth is expected to shake at MMI 2\.\d at most, below 6"):
        area_from_magnitude(replace(EVENT, depth_km=600.0), 6.0)


def test_what_had_to_be_assumed_is_said() -> None:
    area = area_from_magnitude(replace(EVENT, depth_km=None, magnitude=8.8), 6.0)
    assert any("10 km was assumed" in note for note in area.notes)
    assert any("outside the equation's range of 5 to 7.9" in note for note in area.notes)
    assert any("held at 300 km" in note for note in area.notes)


def test_shaking_that_leaves_the_map_is_said() -> None:
    area = area_of_event(EVENT, Files({"g": grid_xml(LON[:21], LAT, MMI[:, :21]).encode()}), SETTINGS)
    assert area.notes == ("shaking of MMI 6 reaches the edge of the ShakeMap: the area may go on beyond it",)


def test_over_the_wire_a_missing_file_falls_back_and_a_failing_service_does_not() -> None:
    answers = {"/g": Response("gone", 404), "/c": Response(CONTOURS)}

    async def answer(request: Request) -> Response:
        return answers[request.url.path]

    app = Starlette(routes=[Route("/{path:path}", answer)])
    with serve(app) as address, UsgsClient(address, timeout_s=5, backoff_s=0.001) as client:
        assert "HTTP 404" in area_of_event(EVENT, client, SETTINGS).notes[1]
        answers["/g"] = Response("later", 503)
        with pytest.raises(ServiceError, match="HTTP 503"):
            area_of_event(EVENT, client, SETTINGS)
