"""The cut of an area to land and to slopes that can fail."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Geod, Transformer
from scipy.ndimage import distance_transform_edt
from shapely.geometry import Polygon, box

from flows.area import (
    AreaOfInterest,
    area_from_geometry,
    cut_to_land_and_slopes,
    given_area,
)
from flows.errors import AreaError

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
    assert steep.buffer(300 + 300).contains(kept)
    assert (cut.reason, cut.source) == ("a test", "given")
    assert cut.cut is not None
    assert cut.cut.before_km2 == pytest.approx(29.16, rel=0.01)
    assert cut.cut.sea_share == cut.cut.unknown_share == 0
    assert 1 - cut.cut.flat_share == pytest.approx(cut.area_km2 / cut.cut.before_km2, abs=0.02)
    assert cut.cut.text == (
        f"of 29 km², 0% sea and {cut.cut.flat_share:.0%} farther than 300 m from ground of 5° were cut away"
    )


@pytest.mark.parametrize("place", [(90, 90), (91, 91), (92, 90), (92, 92)])
def test_the_whole_reach_round_a_single_steep_pixel_is_kept(place: tuple[int, int]) -> None:
    terrain = Terrain()
    terrain.slope[:] = 0.0
    terrain.slope[place] = 6.0
    kept = terrain.cut(terrain.area())
    middle = shapely.Point(X0 + 30 * (place[1] + 0.5), Y0 - 30 * (place[0] + 0.5))
    assert metres(kept.geometry).contains(middle.buffer(299))
    assert middle.buffer(300 + 300).contains(metres(kept.geometry))


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


def test_a_cut_survives_storage() -> None:
    cut = Terrain().cut(Terrain().area())
    assert AreaOfInterest.from_dict(json.loads(json.dumps(cut.to_dict()))) == cut


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
    for azimuth in (0, 90, 180, 270):
        near_x, near_y, _ = Geod(ellps="WGS84").fwd(x, y, azimuth, 280)
        assert cut.geometry.distance(shapely.Point(near_x, near_y)) < 1e-9
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
    # A piece below a pixel is dropped: that can only happen where the edge of the area cuts it.
    steep = steep[shapely.contains(area.geometry.buffer(-1.5 * pixel_m / 80_000), steep)]
    assert bool((shapely.distance(cut.geometry, steep) < 1e-9).all())
    # Land within the reach of a steep pixel, counted pixel by pixel, is kept too.
    if not degrees:
        within = distance_transform_edt((terrain.slope <= 5) | (terrain.elevation == 0), sampling=pixel_m) <= reach_m
        near = terrain.points(within & (terrain.elevation != 0))
        near = near[shapely.contains(area.geometry.buffer(-1.5 * pixel_m / 80_000), near)]
        assert bool((shapely.distance(cut.geometry, near) < 1e-9).all())
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
