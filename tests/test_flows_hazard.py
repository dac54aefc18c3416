"""flows/hazard.py: which tiles are worst, whatever the product is like, and what an area of them is."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pytest
import shapely
from affine import Affine
from fakes import cubes
from fakes.quakes import EVENT_ID
from fakes.shakemaps import LAT, LON, MMI, grid_xml
from hypothesis import given, settings
from hypothesis import strategies as st
from prefect.logging import disable_run_logger
from rasterio.io import MemoryFile
from shapely.geometry import box

from flows.errors import AreaError, ContentMissingError, EventError
from flows.event import EarthquakeEvent, ProductRef
from flows.hazard import Danger, danger_of, model_file, read_model, tile_danger, worst_part
from flows.map_event import plan_event
from flows.planning import find_event, make_plan
from flows.reaching import connected
from flows.request import MapRequest
from flows.settings import load_settings
from flows.usgs import UsgsClient
from gee.grid import geometry_mask, tiles_over
from gee.plan import CubePlan
from gee.terrain import coarse_terrain
from gee.types import Grid

TIME = dt.datetime(2018, 9, 5, 18, 7, 59, tzinfo=dt.UTC)
STEP = 1 / 480
"""Degrees: the cells of the USGS's landslide model."""
PLAN = cubes.plan("gs://bucket/cube.zarr", 10)
BOUNDS = PLAN.geometry.bounds
HOST = "https://earthquake.usgs.gov/"


def model(
    values: npt.NDArray[np.float32], west: float, north: float, step: float = STEP, crs: str = "EPSG:4326",
    nodata: float | None = None,
) -> bytes:  # fmt: skip
    with MemoryFile() as memory:
        with memory.open(
            driver="GTiff", count=1, height=values.shape[0], width=values.shape[1], dtype=values.dtype, crs=crs,
            transform=Affine(step, 0, west, 0, -step, north), nodata=nodata,
        ) as file:  # fmt: skip
            file.write(values, 1)
        return bytes(memory.read())


def covering(values: npt.NDArray[np.float32] | None = None, **changes: float | str) -> bytes:
    """A model over the plan's area with some to spare."""
    west, _, _, north = BOUNDS
    filled = np.full((40, 40), 0.25, np.float32) if values is None else values
    return model(filled, west - 10 * STEP, north + 10 * STEP, **changes)  # type: ignore[arg-type]


@dataclass
class Files:
    """Product files by their address."""

    bodies: dict[str, bytes] = field(default_factory=dict)

    def content(self, url: str, max_bytes: int = 0) -> bytes:
        if url not in self.bodies:
            raise ContentMissingError(f"{url} is not there")
        if len(self.bodies[url]) > max_bytes:
            raise ContentMissingError(f"{url} is too large")
        return self.bodies[url]


def quake(*products: ProductRef) -> EarthquakeEvent:
    return EarthquakeEvent(
        "us1", ("us1",), TIME, TIME, 141.0, 42.0, 10.0, 6.6, "mww", "here", "M 6.6 - here", "reviewed", None,
        products=products,
    )  # fmt: skip


def product(kind: str, *names: str, **properties: str) -> ProductRef:
    contents = tuple(sorted((name, HOST + name) for name in names))
    told = tuple(sorted((name.replace("_", "-"), value) for name, value in properties.items()))
    return ProductRef("us", kind, "us1", TIME, "3", "UPDATE", 1, contents, told)


def no_slopes() -> tuple[npt.NDArray[np.float32], Grid]:
    raise AssertionError("slopes were asked for though the model is there")


def test_the_model_that_the_usgs_shows_is_read() -> None:
    names = ("godt_2008_model.tif", "jessee_2017_model.tif", "jessee_2018_model.tif", "info.json")
    assert model_file(product("ground-failure", *names)) == ("jessee_2018_model.tif", HOST + "jessee_2018_model.tif")
    shown = model_file(product("ground-failure", *names, landslide_overlay="jessee_2017.png"))
    assert shown == ("jessee_2017_model.tif", HOST + "jessee_2017_model.tif")
    odd = model_file(product("ground-failure", "godt_2008_model.tif", landslide_overlay="../../etc/passwd"))
    assert odd == ("godt_2008_model.tif", HOST + "godt_2008_model.tif")
    assert model_file(product("ground-failure", "zhu_2017_general_model.tif")) is None


def test_a_tile_s_danger_is_the_ground_in_it_that_is_expected_to_fail() -> None:
    danger = tile_danger(PLAN, read_model(covering(), BOUNDS))
    assert sum(danger.values()) == pytest.approx(0.25 * 93 * 121 * 1e-4, rel=0.01)
    whole = [tile for tile in PLAN.tiles if tile.shape_yx == (10, 10)]
    inner = [tile.name for tile in whole if 0 < tile.row < 8 and 0 < tile.col < 11]
    assert [danger[name] for name in inner] == pytest.approx([0.25 * 0.01] * len(inner), rel=0.01)
    nothing = tile_danger(PLAN, read_model(covering(np.full((40, 40), np.nan, np.float32)), BOUNDS))
    assert set(nothing.values()) == {0.0}


def test_the_valley_that_fails_comes_first() -> None:
    values = np.full((40, 40), 0.001, np.float32)
    values[12, 13] = 0.9
    found = danger_of(
        [quake(product("ground-failure", "jessee_2018_model.tif"))],
        Files({f"{HOST}jessee_2018_model.tif": covering(values)}), PLAN, no_slopes,
    )  # fmt: skip
    assert found.source == "expected landslides by jessee_2018 of ground failure us/us1 version 3"
    first = PLAN.tile(found.worst_first()[0])
    west, _, _, north = BOUNDS
    there = shapely.Point(west + 3.5 * STEP, north - 2.5 * STEP)
    assert worst_part(PLAN, found, 0.01).distance(there) < STEP
    assert first.name in {tile.name for tile in PLAN.tiles}
    assert set(found.worst_first()) == {tile.name for tile in PLAN.tiles}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"not a raster", "no GeoTIFF"),
        (b"", "no GeoTIFF"),
        (covering()[:400], "no GeoTIFF"),
        (b"<VRTDataset rasterXSize='9' rasterYSize='9'><VRTRasterBand/></VRTDataset>", "no GeoTIFF"),
        (model(np.ones((9, 9), np.float32), 5e5, 4.7e6, 10.0, "EPSG:32654"), "not in degrees"),
        (covering(np.ones((9, 9), np.complex64)), "holds complex64"),
        (model(np.ones((9, 9), np.float32), 10.0, 10.0), "does not reach the area"),
        (b"\x89PNG\r\n\x1a\n", "no GeoTIFF"),
    ],
)
def test_a_hostile_model_is_refused_with_a_reason(data: bytes, words: str) -> None:
    with pytest.raises(EventError, match=words):
        read_model(data, BOUNDS)


def test_a_model_of_too_many_cells_is_refused_before_it_is_read() -> None:
    with MemoryFile() as memory:
        with memory.open(
            driver="GTiff", count=1, height=40_000, width=40_000, dtype="float32", crs="EPSG:4326", sparse_ok=True,
            transform=Affine(1e-4, 0, 140.0, 0, -1e-4, 44.0), tiled=True,
        ):  # fmt: skip
            pass
        data = bytes(memory.read())
    assert len(data) < 1_000_000
    with pytest.raises(EventError, match="40000 x 40000 cells: more than are read"):
        read_model(data, BOUNDS)


def test_values_that_are_no_share_count_as_none() -> None:
    values = np.full((40, 40), 0.5, np.float32)
    values[::2] = np.inf
    values[1::4] = -9999.0
    field = read_model(covering(values), BOUNDS)
    assert np.nanmax(field.values) <= 1.0
    assert np.nanmin(field.values) >= 0.0
    assert 0 < sum(tile_danger(PLAN, field).values()) < 0.5 * 93 * 121 * 1e-4


def test_a_model_that_goes_on_beyond_180_degrees_is_found() -> None:
    field = read_model(
        model(np.full((40, 40), 0.5, np.float32), 180.0 - 20 * STEP, 10.0), (-179.99, 9.95, -179.98, 9.96)
    )
    assert np.nanmax(field.values) == 0.5
    assert field.at(np.array([180.015]), np.array([9.955])) == [0.5]


def sloping(plan: CubePlan) -> tuple[npt.NDArray[np.float32], Grid]:
    """Steep in the east."""
    grid = Grid(plan.grid.crs, (30.0, 0.0, cubes.WEST, 0.0, -30.0, cubes.NORTH), (31, 41))
    return np.broadcast_to(np.linspace(0, 40, 41, dtype=np.float32), (31, 41)).copy(), grid


def test_without_a_model_shaking_times_slope_decides() -> None:
    shakemap = product("shakemap", "download/grid.xml")
    lon, lat = (LON - LON.mean() + BOUNDS[0]), (LAT - LAT.mean() + BOUNDS[1])
    files = Files({f"{HOST}download/grid.xml": grid_xml(lon, lat, MMI).encode()})
    found = danger_of([quake(shakemap)], files, PLAN, lambda: sloping(PLAN))
    assert found.source == "shaking times slope by ShakeMap us/us1 version 3"
    columns = [PLAN.tile(name).col for name in found.worst_first()]
    assert np.mean(columns[:20]) > 9 > 6 > np.mean(columns[-20:])
    without = danger_of([quake()], Files(), PLAN, lambda: sloping(PLAN))
    assert without.source == "shaking times slope by the distance from M 6.6"
    assert np.mean([PLAN.tile(name).col for name in without.worst_first()][:20]) > 9


@pytest.mark.parametrize("body", [None, b"garbage"])
def test_a_model_that_is_not_there_or_damaged_leads_to_shaking(body: bytes | None) -> None:
    failure = product("ground-failure", "jessee_2018_model.tif")
    files = Files({} if body is None else {f"{HOST}jessee_2018_model.tif": body})
    found = danger_of([quake(failure)], files, PLAN, lambda: sloping(PLAN))
    assert found.source.startswith("shaking times slope")


def test_two_quakes_are_not_measured_by_two_scales() -> None:
    modelled = quake(product("ground-failure", "jessee_2018_model.tif"))
    files = Files({f"{HOST}jessee_2018_model.tif": covering()})
    both = danger_of([modelled, modelled], files, PLAN, no_slopes)
    one = danger_of([modelled], files, PLAN, no_slopes)
    assert both.tiles == {name: pytest.approx(2 * value) for name, value in one.tiles.items()}
    mixed = danger_of([modelled, quake()], files, PLAN, lambda: sloping(PLAN))
    assert mixed.source.startswith("shaking times slope")
    with pytest.raises(EventError, match="no earthquake"):
        danger_of([], files, PLAN, no_slopes)


def test_a_share_that_is_none_is_refused() -> None:
    with pytest.raises(AreaError, match="a share of 0"):
        worst_part(PLAN, Danger({tile.name: 1.0 for tile in PLAN.tiles}, ""), 0.0)


def off_centre(low: int, high: int) -> st.SearchStrategy[float]:
    """Places in pixels that no pixel's centre lies on: one whose centre an edge meets counts either way."""
    return st.integers(4 * low, 4 * high - 1).map(lambda quarters: quarters / 4 + 0.125)


@settings(deadline=None, max_examples=15)
@given(
    st.floats(0.01, 1.0), st.integers(8, 60), st.randoms(use_true_random=False),
    st.tuples(off_centre(0, 50), off_centre(0, 40), off_centre(60, 121), off_centre(50, 93)),
)  # fmt: skip
def test_a_plan_of_the_worst_part_has_the_worst_tiles_and_the_same_pixels_in_them(
    share: float, tile_px: int, random: object, edges: tuple[float, float, float, float]
) -> None:
    left, top, right, bottom = edges
    area = cubes.area_in(cubes.GRID, left, top, right, bottom)
    plan = cubes.plan("gs://bucket/cube.zarr", tile_px, area)
    danger = Danger({tile.name: random.random() for tile in plan.tiles}, "")  # type: ignore[attr-defined]
    part = worst_part(plan, danger, share)
    tiles = tiles_over(plan.grid, tile_px, part)
    met = [
        name for name in danger.worst_first() if geometry_mask(plan.grid.window(plan.tile(name)), plan.geometry).any()
    ]
    assert len(tiles) >= 1
    assert abs(len(tiles) - np.ceil(share * len(met))) <= len(plan.tiles) - len(met) + 1
    for tile in tiles:
        window = plan.grid.window(tile)
        differ = geometry_mask(window, part) != geometry_mask(window, area)
        assert differ.sum() == 0
    assert plan.geometry.buffer(1e-9).contains(part)


def test_the_worst_part_of_an_area_across_the_antimeridian_is_split_there() -> None:
    taveuni = shapely.MultiPolygon([box(179.9, -17.0, 180.0, -16.9), box(-180.0, -17.0, -179.95, -16.9)])
    from gee.grid import grid_for

    grid = grid_for(taveuni, snap_px=512)
    plan = replace(PLAN, grid=grid, tile_px=512, tiles=tiles_over(grid, 512, taveuni), geometry_wkt=taveuni.wkt)
    part = worst_part(plan, Danger({tile.name: 1.0 for tile in plan.tiles}, ""), 1.0)
    assert -180.0 <= part.bounds[0] < part.bounds[2] <= 180.0
    assert part.area == pytest.approx(taveuni.area, rel=1e-3)


def test_a_plan_of_many_tiles_is_pulled_the_worst_first(
    services: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    request = MapRequest(event_id=EVENT_ID)
    with disable_run_logger():
        assert plan_event.fn(request, load_settings()).worst_first == (), "of so few the order does not matter"
        monkeypatch.setenv("QUAKESLIDE_CAMPAIGN__PARTIAL_ABOVE_TILES", "1")
        here = load_settings()
        plan = plan_event.fn(request, here)
    with UsgsClient(here.usgs.url) as usgs, connected(here) as session:
        danger = danger_of(
            [plan.event], usgs, plan.cube, lambda: coarse_terrain(session, plan.cube.dem, plan.area.geometry)[1:]
        )
    assert danger.source.startswith("shaking times slope by ShakeMap")
    assert plan.worst_first == danger.worst_first()
    assert set(plan.worst_first) == {tile.name for tile in plan.cube.tiles}
    assert len(set(danger.tiles.values())) > 1
    part = worst_part(plan.cube, danger, 0.25)
    again = MapRequest(event_id=EVENT_ID, area_wkt=part.wkt, cut=False)
    with UsgsClient(here.usgs.url) as usgs, connected(here) as session:
        held = make_plan(again, find_event(again, usgs), here, session, usgs)
    windows = {plan.cube.grid.window(plan.cube.tile(name)) for name in danger.worst_first()[: len(held.cube.tiles)]}
    assert {held.cube.grid.window(tile) for tile in held.cube.tiles} == windows, "the worst tiles and no others"
    assert len(held.cube.tiles) == np.ceil(0.25 * len(plan.cube.tiles))
