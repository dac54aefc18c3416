"""Areas of interest: on the globe, from events, from files, and cut to the ground where landslides can be."""

from __future__ import annotations

import datetime as dt
import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import shapely
from affine import Affine
from fakes.servers import serve
from fakes.shakemaps import LAT, LON, MMI, contours, grid_xml, ring
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Geod, Transformer
from shapely.geometry import MultiPolygon, Polygon, box
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from flows.area import (
    AreaOfInterest,
    area_from_file,
    area_from_geometry,
    area_from_magnitude,
    area_from_radius,
    area_of_event,
    check_size,
    cut_to_land_and_slopes,
    given_area,
)
from flows.errors import AreaError, ContentMissingError, ServiceError
from flows.event import EarthquakeEvent, ProductRef
from flows.settings import AreaSettings
from flows.sphere import area_km2, joined, split_at_antimeridian
from flows.usgs import UsgsClient

GEOD = Geod(ellps="WGS84")
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


# --- the globe -------------------------------------------------------------------------------------------------------

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


# --- given areas -----------------------------------------------------------------------------------------------------


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
    cut = Terrain().cut(Terrain().area())
    for area in (cut, area_of_event(EVENT, Files({"g": GRID}), SETTINGS)):
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


# --- files -----------------------------------------------------------------------------------------------------------

SQUARE = box(142.0, 42.0, 142.2, 42.1)


def write(path: Path, crs: str | None = "EPSG:4326", geometries: list[Any] | None = None) -> Path:
    frame = geopandas.GeoDataFrame(geometry=geometries or [SQUARE], crs="EPSG:4326").to_crs(crs or "EPSG:4326")
    frame = frame if crs else frame.set_crs(None, allow_override=True)
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_file(path)
    return path


@pytest.mark.parametrize("suffix", [".geojson", ".gpkg", ".parquet", ".fgb", ".shp"])
@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:32654", "EPSG:3857"])
def test_every_format_in_any_coordinate_system_gives_the_same_area(tmp_path: Path, suffix: str, crs: str) -> None:
    area = area_from_file(write(tmp_path / f"aoi{suffix}", crs))
    assert area.geometry.symmetric_difference(SQUARE).area < 1e-6
    assert area.reason == f"given by file aoi{suffix}"


def test_the_format_is_told_by_the_content_not_by_the_name(tmp_path: Path) -> None:
    path = write(tmp_path / "aoi.gpkg").rename(tmp_path / "aoi.txt")
    assert area_from_file(path).geometry.area == pytest.approx(0.02)


@pytest.mark.parametrize("kind", ["geometry", "feature", "collection", "bom"])
def test_any_geojson_object_is_an_area(tmp_path: Path, kind: str) -> None:
    geometry = shapely.geometry.mapping(SQUARE)
    feature = {"type": "Feature", "properties": {}, "geometry": geometry}
    none = {"type": "Feature", "properties": {}, "geometry": None}
    value = {"geometry": geometry, "feature": feature}.get(
        kind, {"type": "FeatureCollection", "features": [none, feature]}
    )
    (tmp_path / "a.json").write_text(("\ufeff" if kind == "bom" else "") + json.dumps(value), encoding="utf-8")
    assert area_from_file(tmp_path / "a.json").geometry.equals(SQUARE)


VRT = '<OGRVRTDataSource><OGRVRTLayer name="x"><SrcDataSource>/etc/passwd</SrcDataSource></OGRVRTLayer>'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "aoi.gpkg is empty"),
        (b"some notes on landslides", "no file of polygons"),
        (VRT.encode(), "no file of polygons"),
        (b'{"type": "FeatureCollection", "features": []}', "holds no geometry"),
        (b'{"type": "Feature", "geometry": null}', "holds no geometry"),
        (b'{"type": "Point", "coordinates": [1, 2]}', "no polygons"),
        (b'{"type": "Topology"}', "its type is 'Topology'"),
        (b'{"type": "Polygon", "coordinates": [[["a"]]]}', "not GeoJSON that can be read"),
        (b'{"type": "FeatureCollection", "features": [{}]}', "not GeoJSON that can be read"),
        (b'{"a":' * 100_000, "not GeoJSON that can be read"),
        (b"{" * 10, "not GeoJSON that can be read"),
        (b'{"type": "Point", "coordinates": [1, 2], "crs": {"properties": {"name": "EPSG:0"}}}', "not GeoJSON"),
        (b"SQLite format 3\0 and then nothing of the kind", "cannot be read"),
        (b"PAR1 and then nothing of the kind", "not GeoParquet"),
        (b"\x00\x00\x27\x0a and then nothing", "cannot be read"),
    ],
)
def test_a_file_that_is_no_area_says_why(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "aoi.gpkg").write_bytes(content)
    with pytest.raises(AreaError, match=message):
        area_from_file(tmp_path / "aoi.gpkg")


def test_files_without_polygons_or_system_or_with_two_layers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AreaError, match="there is no file"):
        area_from_file(tmp_path / "none.gpkg")
    with pytest.raises(AreaError, match="no polygons"):
        area_from_file(write(tmp_path / "points.gpkg", geometries=[shapely.Point(1, 2)]))
    with pytest.raises(AreaError, match=r"bare.shp has no coordinate system"):
        area_from_file(write(tmp_path / "bare.shp", crs=None))
    two = write(tmp_path / "two.gpkg")
    geopandas.GeoDataFrame(geometry=[SQUARE], crs="EPSG:4326").to_file(two, layer="second")
    with pytest.raises(AreaError, match=r"2 layers \(two, second\)"):
        area_from_file(two)


def test_a_file_larger_than_the_cap_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.area_file.MAX_BYTES", 10)
    with pytest.raises(AreaError, match="more than the 10 that are read"):
        area_from_file(write(tmp_path / "aoi.gpkg"))


def test_polygons_of_a_pacific_map_are_split_at_the_antimeridian(tmp_path: Path) -> None:
    path = tmp_path / "fiji.gpkg"
    to_map = Transformer.from_crs("EPSG:4326", "EPSG:3832", always_xy=True)
    corners = [to_map.transform(*c) for c in [(179.5, -17), (180.5, -17), (180.5, -16), (179.5, -16)]]
    geopandas.GeoDataFrame(geometry=[Polygon(corners)], crs="EPSG:3832").to_file(path)
    geometry = area_from_file(path).geometry
    assert isinstance(geometry, MultiPolygon)
    assert geometry.area == pytest.approx(1.0)


# --- events ----------------------------------------------------------------------------------------------------------


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
    assert area.reason.startswith("radius 5")
    assert "Allen, Wald and Worden (2012)" in area.reason
    assert area.notes[0].startswith("ShakeMap us/us1 version 10 could not be used: ")
    assert "version 10 could not be used" in area.description


def test_an_event_without_a_shakemap_gets_the_magnitudes_radius() -> None:
    area = area_of_event(replace(EVENT, products=()), Files(), SETTINGS)
    assert area.notes == ("the event has no ShakeMap",)
    assert area.area_km2 == pytest.approx(8_800, rel=0.1)
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


# --- the cut ---------------------------------------------------------------------------------------------------------

Y0, X0 = 4_720_000.0, 400_000.0
UTM = "EPSG:32654"
THIRTY_METRES = Affine(30, 0, X0, 0, -30, Y0)


@dataclass
class Terrain:
    """Flat land at 100 m on 200 x 200 pixels of 30 m, with whatever a test puts there."""

    shape_yx: tuple[int, int] = (200, 200)
    transform: Affine = THIRTY_METRES
    crs: str = UTM

    def __post_init__(self) -> None:
        self.elevation = np.full(self.shape_yx, 100.0, dtype=np.float32)
        self.slope = np.zeros(self.shape_yx, dtype=np.float32)
        self.slope[80:100, 100:120] = 20.0

    def lonlat(self, x: Any, y: Any) -> tuple[Any, Any]:
        return Transformer.from_crs(self.crs, "EPSG:4326", always_xy=True).transform(x, y)

    def corner(self, col: float, row: float) -> tuple[float, float]:
        """Lon/lat of a place in pixels."""
        t = self.transform
        lon, lat = self.lonlat(t.c + t.a * col, t.f + t.e * row)
        return lon, lat

    def area(self, margin_px: float = 10) -> AreaOfInterest:
        """The grid without a margin."""
        height, width = self.shape_yx
        corners = [(margin_px, margin_px), (width - margin_px, margin_px), (width - margin_px, height - margin_px),
                   (margin_px, height - margin_px)]  # fmt: skip
        return AreaOfInterest(Polygon([self.corner(*corner) for corner in corners]), "a test")

    def cut(self, area: AreaOfInterest, **rule: Any) -> AreaOfInterest:
        known = {"minimum_slope_deg": 5.0, "reach_m": 300.0, "transform": self.transform, "crs": self.crs}
        return cut_to_land_and_slopes(area, self.elevation, self.slope, **(known | rule))

    def points(self, mask: np.ndarray) -> np.ndarray:
        """Centres of the set pixels as lon/lat points."""
        rows, cols = np.nonzero(mask)
        x = self.transform.c + self.transform.a * (cols + 0.5)
        y = self.transform.f + self.transform.e * (rows + 0.5)
        return shapely.points(np.column_stack(self.lonlat(x, y)))


def metres(geometry: Any, crs: str = UTM) -> Any:
    project = Transformer.from_crs("EPSG:4326", crs, always_xy=True)
    return shapely.transform(geometry, lambda xy: np.column_stack(project.transform(xy[:, 0], xy[:, 1])))


def test_only_ground_near_steep_slopes_is_kept() -> None:
    terrain = Terrain()
    area = terrain.area()
    cut = terrain.cut(area)
    steep = box(X0 + 3000, Y0 - 3000, X0 + 3600, Y0 - 2400)
    kept = metres(cut.geometry)
    assert kept.contains(steep.buffer(290))
    assert steep.buffer(300 + 250).contains(kept)
    assert (cut.reason, cut.source) == ("a test", "given")
    assert cut.cut is not None
    assert cut.cut.before_km2 == pytest.approx(29.16, rel=0.01)
    assert cut.cut.sea_share == cut.cut.unknown_share == 0
    assert 1 - cut.cut.flat_share == pytest.approx(cut.area_km2 / cut.cut.before_km2, abs=0.02)
    assert cut.cut.text == (
        f"of 29 km², 0% sea and {cut.cut.flat_share:.0%} farther than 300 m from ground of 5° were cut away"
    )


def test_sea_and_unknown_ground_are_counted_apart() -> None:
    terrain = Terrain()
    terrain.elevation[:, :60] = 0.0
    terrain.elevation[:20] = np.nan
    cut = terrain.cut(terrain.area()).cut
    assert cut is not None
    assert cut.unknown_share == pytest.approx(10 / 180, abs=0.002)
    assert cut.sea_share == pytest.approx(50 / 180 * 170 / 180, abs=0.002)
    assert "6% without elevation" in cut.text


def test_a_cliff_over_the_sea_is_kept_whole_and_the_sea_is_not() -> None:
    terrain = Terrain()
    terrain.elevation[:, :100] = 0.0
    kept = metres(terrain.cut(terrain.area()).geometry)
    assert kept.contains(box(X0 + 3000, Y0 - 3000, X0 + 3600, Y0 - 2400))
    assert kept.bounds[0] > X0 + 3000 - 200


def test_steep_ground_just_outside_reaches_into_the_area() -> None:
    terrain = Terrain()
    beside = terrain.area()
    corner = [terrain.corner(*c) for c in [(123, 50), (190, 50), (190, 150), (123, 150)]]
    cut = terrain.cut(replace(beside, geometry=Polygon(corner)))
    assert 0.1 < cut.area_km2 < 0.6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.elevation.fill(0.0), "the area is at sea: it holds no land"),
        (lambda t: t.elevation.fill(np.nan), "no elevation is known in the area"),
        (lambda t: t.slope.fill(4.9), "the area is flat: no ground of 5° or more within 300 m"),
        (lambda t: t.slope.fill(np.nan), "the area is flat"),
    ],
)
def test_nothing_left_says_why(change: Any, message: str) -> None:
    terrain = Terrain()
    change(terrain)
    with pytest.raises(AreaError, match=message):
        terrain.cut(terrain.area())


def test_an_area_larger_than_allowed_after_the_cut_is_refused() -> None:
    terrain = Terrain()
    area = replace(terrain.area(), source="shakemap")
    assert terrain.cut(area, maximum_area_km2=20.0).area_km2 < 3
    with pytest.raises(AreaError, match="the area has 2 km², more than 1"):
        terrain.cut(area, maximum_area_km2=1.0)


def test_ground_beyond_the_elevation_model_counts_as_unknown() -> None:
    terrain = Terrain()
    cut = terrain.cut(terrain.area(margin_px=-100)).cut
    assert cut is not None
    assert cut.unknown_share == pytest.approx(0.75, abs=0.01)
    far = given_area("POLYGON ((10 10, 11 10, 11 11, 10 10))")
    with pytest.raises(AreaError, match="does not cover the area"):
        terrain.cut(far)


def test_an_area_smaller_than_a_pixel_is_kept() -> None:
    terrain = Terrain()
    tiny = terrain.area()
    corner = [terrain.corner(*c) for c in [(110, 90), (110.2, 90), (110.2, 90.2), (110, 90.2)]]
    cut = terrain.cut(replace(tiny, geometry=Polygon(corner)))
    assert cut.area_km2 == pytest.approx(0.000036, rel=0.02)


@pytest.mark.parametrize("west", [179.5, -180.5, 141.0])
def test_a_cut_in_degrees_works_across_the_antimeridian(west: float) -> None:
    terrain = Terrain((400, 800), Affine(1 / 800, 0, west, 0, -1 / 800, 60.25), "EPSG:4326")
    terrain.slope[:] = 0
    terrain.slope[200, 400] = 30
    area = area_from_geometry(box(west + 0.1, 59.8, west + 0.9, 60.2), "x")
    cut = terrain.cut(area)
    assert cut.geometry.bounds[0] >= -180
    assert cut.geometry.bounds[2] <= 180
    x, y = west + 400.5 / 800, 60.25 - 200.5 / 800
    x = (x + 180) % 360 - 180
    assert cut.geometry.distance(shapely.Point(x, y)) < 1e-9
    assert 0.15 < cut.area_km2 < 0.7
    assert area.geometry.buffer(1e-9).contains(cut.geometry)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.sampled_from([30.0, 90.0, 200.0]), st.floats(50, 900), st.booleans(),
    st.floats(0.001, 0.05),
)  # fmt: skip
def test_no_steep_ground_of_the_area_is_ever_lost(
    seed: int, pixel_m: float, reach_m: float, degrees: bool, density: float
) -> None:
    random = np.random.default_rng(seed)
    if degrees:
        step = pixel_m / 111_195
        terrain = Terrain((60, 60), Affine(step, 0, 141, 0, -step, 43), "EPSG:4326")
    else:
        terrain = Terrain((60, 60), Affine(pixel_m, 0, X0, 0, -pixel_m, Y0))
    terrain.slope = np.where(random.random((60, 60)) < density, 30.0, 0.0).astype(np.float32)
    terrain.slope[30, 30] = 30.0
    terrain.elevation[random.random((60, 60)) < 0.3] = 0.0
    terrain.elevation[30, 30] = 5.0
    area = terrain.area(margin_px=5)
    cut = terrain.cut(area, reach_m=reach_m)
    assert cut.geometry.is_valid
    assert cut.geometry.difference(area.geometry).area < 1e-12
    steep = terrain.points((terrain.slope > 5) & (terrain.elevation != 0))
    steep = steep[shapely.contains(area.geometry, steep)]
    assert bool((shapely.distance(cut.geometry, steep) < 1e-9).all())
    farther = terrain.cut(area, reach_m=reach_m * 1.5 + 3 * pixel_m)
    assert farther.area_km2 > cut.area_km2 * 0.98


def test_terrain_that_does_not_fit_together_is_refused() -> None:
    terrain = Terrain()
    area = terrain.area()
    with pytest.raises(AreaError, match="do not lie on one"):
        cut_to_land_and_slopes(
            area,
            terrain.elevation,
            terrain.slope[1:],
            transform=terrain.transform,
            crs=UTM,
            minimum_slope_deg=5,
            reach_m=9,
        )
    with pytest.raises(AreaError, match="not a north-up grid"):
        terrain.cut(area, transform=Affine.rotation(10))
    with pytest.raises(AreaError, match="degrees or metres"):
        terrain.cut(area, crs="EPSG:2263")
