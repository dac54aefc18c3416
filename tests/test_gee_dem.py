"""Which elevation model is taken for an area, and why."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import ee
import numpy as np
import pytest
from fakes.catalogue import CatalogueWriter
from fakes.servers import serve
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Transformer
from shapely.geometry import Polygon, box

from gee.dem import DEM_NAMES, DemChoice, asset_of, choose_dem, elevation_image, zones_of
from gee.errors import PermanentError
from gee.grid import grid_for, pixel_centres
from gee.pixels import fetch_pixels
from gee.session import Session, open_session
from gee.types import Grid
from infra.local.earthengine import create_app

SRTM, ALOS, GLO30 = "USGS/SRTMGL1_003", "JAXA/ALOS/AW3D30/V3_2", "COPERNICUS/DEM/GLO30"
SECOND = 1 / 3600
EARTH_RADIUS_M = 6_371_007.18
ARCTIC = box(25.004, 64.98, 25.03, 64.996)
"""Within the zone of Copernicus GLO-30 whose pixels are two seconds wide."""
BORDER = box(25.004, 59.993, 25.03, 60.007)
"""Pixels are one and a half seconds wide south of 60 degrees."""
AREA = box(142.0, 42.6, 142.1, 42.7)
NEAR = Grid("EPSG:4326", (0.01, 0.0, 141.95, 0.0, -0.01, 42.75), (20, 20))


def tile(west_s: float, north: float, wide_s: float, shape: tuple[int, int]) -> Grid:
    """A tile of Copernicus GLO-30: half a pixel to the north-west of round seconds from 25 degrees east."""
    west = 25.0 + (west_s - wide_s / 2) * SECOND
    return Grid("EPSG:4326", (wide_s * SECOND, 0.0, west, 0.0, -SECOND, north + SECOND / 2), shape)


TILES = {
    "N65E": tile(0, 65.0, 2.0, (100, 70)),
    "N60W": tile(0, 60.0 + 40 * SECOND, 2.0, (40, 30)),
    "N60E": tile(60, 60.0 + 40 * SECOND, 2.0, (40, 40)),
    "N59W": tile(0, 60.0, 1.5, (40, 40)),
    "N59E": tile(60, 60.0, 1.5, (40, 60)),
}


def height(lon: Any, lat: Any) -> Any:
    """A plane in longitude and latitude, in metres."""
    return 100 + (lon - 25) * 20_000 + (lat - np.round(np.mean(lat))) * 30_000


def slope(lat: Any) -> Any:
    """Its slope in degrees."""
    degree = np.radians(1) * EARTH_RADIUS_M
    return np.degrees(np.arctan(np.hypot(20_000 / (degree * np.cos(np.radians(lat))), 30_000 / degree)))


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    folder = tmp_path_factory.mktemp("catalogue")
    catalogue, heights = CatalogueWriter(folder), np.full((20, 20), 100, np.int16)
    catalogue.image(SRTM, {"elevation": heights}, NEAR)
    catalogue.image("CUSTOM/HALF", {"height": heights}, Grid("EPSG:4326", (0.01, 0, 142.05, 0, -0.01, 42.75), (20, 20)))
    catalogue.image(f"{ALOS}/N42E142", {"DSM": heights, "MSK": heights}, NEAR)
    catalogue.image(f"{ALOS}/N70E025", {"DSM": heights}, Grid("EPSG:4326", (0.1, 0, 25.0, 0, -0.1, 71.0), (20, 20)))
    for name, grid in TILES.items():
        heights = height(*np.meshgrid(*pixel_centres(grid))).astype(np.float32)
        catalogue.image(f"{GLO30}/{name}", {"DEM": heights, "EDM": heights}, grid)
    with (
        serve(create_app(folder, tmp_path_factory.mktemp("state"))) as url,
        open_session(url, "local", timeout_s=30.0, max_attempts=2) as opened,
    ):
        yield opened


def test_the_first_model_that_covers_the_area_is_taken(session: Session) -> None:
    choice = choose_dem(session, [SRTM, ALOS], AREA)
    assert (choice.id, choice.band, choice.kind, choice.why) == (SRTM, "elevation", "image", "")


def test_a_model_that_is_not_there_is_replaced_and_said(session: Session) -> None:
    choice = choose_dem(session, ["NASA/NASADEM_HGT/001", ALOS, SRTM], AREA)
    assert (choice.id, choice.band, choice.kind) == (ALOS, "DSM", "collection")
    assert choice.why == "NASA/NASADEM_HGT/001 does not exist here"


def test_srtm_ends_at_sixty_degrees(session: Session) -> None:
    choice = choose_dem(session, [SRTM, ALOS], box(25.1, 70.0, 25.4, 70.4))
    assert choice.id == ALOS
    assert choice.why == f"{SRTM} covers 0% of the area, it ends at 60 degrees N and 56 degrees S"


def test_the_band_of_an_unknown_model_is_its_first(session: Session) -> None:
    choice = choose_dem(session, ["CUSTOM/HALF"], box(142.1, 42.6, 142.2, 42.7))
    assert (choice.band, choice.kind) == ("height", "image")


def test_a_model_that_covers_a_part_is_better_than_none(session: Session) -> None:
    choice = choose_dem(session, ["NO/SUCH", "CUSTOM/HALF"], AREA)
    assert choice.id == "CUSTOM/HALF"
    assert choice.why == "NO/SUCH does not exist here; CUSTOM/HALF covers 50% of the area; none covers all of it"


def test_no_model_at_all_names_all_candidates(session: Session) -> None:
    with pytest.raises(PermanentError, match=rf"NO/SUCH does not exist here; {SRTM} covers 0%.*{ALOS} covers 0%"):
        choose_dem(session, ["NO/SUCH", SRTM, ALOS], Polygon([(10, 10), (10.1, 10), (10, 10.1)]))


def test_models_have_short_names(session: Session) -> None:
    assert asset_of("srtm") == asset_of("SRTM") == SRTM
    assert asset_of("glo30") == GLO30
    assert asset_of("CUSTOM/HALF") == "CUSTOM/HALF"
    assert set(DEM_NAMES) == {"srtm", "nasadem", "glo30", "aw3d30"}
    assert choose_dem(session, ["srtm"], AREA).id == SRTM


def test_north_of_sixty_another_model_replaces_srtm_and_it_is_said(session: Session) -> None:
    choice = choose_dem(session, ["srtm", "glo30"], ARCTIC)
    assert (choice.id, choice.band, choice.kind) == (GLO30, "DEM", "collection")
    assert choice.why == f"{SRTM} covers 0% of the area, it ends at 60 degrees N and 56 degrees S"
    assert [zone.tiles for zone in choice.zones] == [("N65E",)]
    assert choice.native.transform == pytest.approx(TILES["N65E"].transform)


def test_the_grids_of_a_model_are_looked_up_finest_first(session: Session) -> None:
    choice = choose_dem(session, ["glo30"], BORDER)
    assert [zone.tiles for zone in choice.zones] == [("N59E", "N59W"), ("N60E", "N60W")]
    assert [zone.transform[0] / SECOND for zone in choice.zones] == pytest.approx([1.5, 2.0])
    assert choose_dem(session, [SRTM], AREA).zones[0].transform == pytest.approx(NEAR.transform)


def test_a_choice_is_the_same_after_a_round_trip(session: Session) -> None:
    choice = choose_dem(session, ["srtm", "glo30"], BORDER)
    assert DemChoice.from_dict(json.loads(json.dumps(choice.to_dict()))) == choice


def test_a_tile_without_the_band_is_named() -> None:
    band = {"id": "DSM", "crs": "EPSG:4326", "crs_transform": [1, 0, 0, 0, -1, 0]}
    with pytest.raises(PermanentError, match="X/Y has no band DEM"):
        zones_of([{"id": "X/Y", "bands": [band], "properties": {}}], "DEM", tiled=True)


@given(
    st.lists(st.tuples(st.sampled_from([1.0, 1.5, 2.0, 3.0]), st.sampled_from(["EPSG:4326", "EPSG:4267"])), min_size=1)
)
def test_every_tile_is_in_one_zone_and_the_finest_come_first(tiles: list[tuple[float, str]]) -> None:
    images = [
        {"bands": [{"id": "DEM", "crs": crs, "crs_transform": [wide, 0, number, 0, -1, 0]}],
         "properties": {"system:index": f"T{number}"}}
        for number, (wide, crs) in enumerate(tiles)
    ]  # fmt: skip
    zones = zones_of(images, "DEM", tiled=True)
    assert sorted(name for zone in zones for name in zone.tiles) == sorted(f"T{number}" for number in range(len(tiles)))
    assert {(zone.transform[0], zone.crs) for zone in zones} == set(tiles)
    assert len(zones) == len(set(tiles))
    widths = [zone.transform[0] for zone in zones]
    assert widths == sorted(widths)


def pulled(session: Session, candidates: list[str], area: Any) -> tuple[Any, Any, Any, Any]:
    """(longitude, latitude, elevation, slope) of the pixels of a 10 m grid over an area."""
    dem = choose_dem(session, candidates, area)
    grid = grid_for(area)
    elevation = elevation_image(dem, area)
    steep = ee.Terrain.slope(elevation).reproject(dem.native.projection)
    both = [part.resample("bilinear").unmask(-9999, False).toFloat() for part in (elevation, steep)]
    expression = ee.serializer.encode(both[0].addBands(both[1].rename("slope")), for_cloud_api=True)
    got = fetch_pixels(session, expression, grid, {"elevation": "float32", "slope": "float32"})
    to_degrees = Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True)
    lon, lat = to_degrees.transform(*np.meshgrid(*pixel_centres(grid)))
    return lon, lat, got["elevation"], got["slope"]


def test_slopes_are_right_at_sixty_five_degrees_north(session: Session) -> None:
    lon, lat, elevation, steep = pulled(session, ["srtm", "glo30"], ARCTIC)
    np.testing.assert_allclose(elevation, height(lon, lat), atol=0.01)
    np.testing.assert_allclose(steep, slope(lat), atol=0.001)


def test_where_the_width_of_the_pixels_changes_there_is_neither_a_gap_nor_a_step(session: Session) -> None:
    lon, lat, elevation, steep = pulled(session, ["srtm", "glo30"], BORDER)
    assert (elevation > -9999).all()
    assert (steep > -9999).all()
    np.testing.assert_allclose(elevation, height(lon, lat), atol=0.01)
    np.testing.assert_allclose(steep, slope(lat), atol=0.001)
