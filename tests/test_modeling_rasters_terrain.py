"""`modeling.rasters.terrain` against planes of known slope and against Earth Engine's own output."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from affine import Affine

from modeling.rasters.terrain import EARTH_RADIUS_M, hillshade, slope_deg, spacing_m

INNER = (slice(1, -1), slice(1, -1))


def plane(east: float, north: float, *, dx: float = 10.0, dy: float = 20.0) -> npt.NDArray[np.float64]:
    """A (7, 9) plane that rises by `east` and `north` metres a metre."""
    rows, columns = np.mgrid[0:7, 0:9]
    return np.asarray(100 + east * dx * columns - north * dy * rows)


@pytest.mark.parametrize(("east", "north"), [(0.0, 0.0), (1.0, 0.0), (0.0, -0.5), (0.3, 0.4)])
def test_a_plane_has_its_slope_everywhere_but_at_the_edge(east: float, north: float) -> None:
    slope = slope_deg(plane(east, north), 10.0, 20.0)
    np.testing.assert_allclose(slope[INNER], np.rad2deg(np.arctan(np.hypot(east, north))), rtol=1e-6)
    edge = np.ones(slope.shape, bool)
    edge[INNER] = False
    assert np.isnan(slope[edge]).all()


def test_ground_that_faces_the_sun_is_bright_and_ground_that_faces_away_is_dark() -> None:
    facing_west, flat, facing_east = (hillshade(plane(east, 0.0), 10.0, 20.0)[3, 4] for east in (1.0, 0.0, -1.0))
    # cos 45 + sin 45 * sin 45 = 1.207: clipped; flat: cos 45; away: cos 45 - 0.5
    assert (facing_west, flat, facing_east) == (255, 180, 53)
    assert hillshade(plane(0.0, -1.0), 10.0, 20.0, azimuth_deg=0.0)[3, 4] == 255


def test_an_unknown_elevation_makes_itself_and_its_four_neighbours_unknown() -> None:
    z = plane(0.2, 0.1)
    z[3, 4] = np.nan
    unknown = np.isnan(slope_deg(z, 10.0, 20.0)[INNER])
    assert sorted(zip(*np.nonzero(unknown), strict=True)) == [(1, 3), (2, 2), (2, 3), (2, 4), (3, 3)]
    assert np.array_equal(np.isnan(hillshade(z, 10.0, 20.0)[INNER]), unknown)


def test_a_degree_of_longitude_shrinks_with_the_latitude_of_the_pixel_centre() -> None:
    dx, dy = spacing_m(Affine(1.0, 0, 140, 0, -1.0, 61), 2, geographic=True)
    degree = EARTH_RADIUS_M * np.pi / 180
    np.testing.assert_allclose(dx, [degree * np.cos(np.deg2rad(60.5)), degree * np.cos(np.deg2rad(59.5))])
    assert dy == pytest.approx(degree)
    dx, dy = spacing_m(Affine(30.0, 0, 5e5, 0, -20.0, 4.7e6), 3, geographic=False)
    assert (dx.tolist(), dy) == ([30.0] * 3, 20.0)


def test_a_raster_too_small_for_differences_is_unknown() -> None:
    assert np.isnan(slope_deg(np.zeros((2, 5)), 1.0, 1.0)).all()


def test_slope_and_hillshade_are_those_of_earth_engine(shared_data: Path) -> None:
    """The files are nearest-neighbour resamples of the native 1/3600 degree grid: duplicates are dropped first."""
    folder = shared_data / "iburi2018"

    def band(name: str) -> npt.NDArray[np.float64]:
        with rasterio.open(folder / name) as file:
            return np.asarray(file.read(1), np.float64)

    dsm = band("dsm_aw3d30.tif")
    rows, columns = (first_of_duplicates(dsm, axis) for axis in (0, 1))
    z = dsm[np.ix_(rows, columns)]
    assert z.shape == (314, 497)
    with rasterio.open(folder / "dsm_aw3d30.tif") as file:
        top_left = file.xy(0, 0)
    native = 1 / 3600
    # The native pixel that holds the first pixel centre is the first native pixel.
    west, north = np.floor(top_left[0] / native) * native, np.ceil(top_left[1] / native) * native
    dx, dy = spacing_m(Affine(native, 0, west, 0, -native, north), len(z), geographic=True)

    slope_there, shade_there = (
        band(f"ee_terrain_{name}.tif")[np.ix_(rows, columns)] for name in ("slope", "hillshade")
    )
    seen = np.zeros(z.shape, bool)
    seen[INNER] = ((slope_there > 0) | (shade_there > 0))[
        INNER
    ]  # Earth Engine masked one more column at the right edge
    assert seen.sum() > 0.98 * z.size
    assert np.abs(slope_deg(z, dx, dy) - slope_there)[seen].max() < 1e-4
    assert np.array_equal(hillshade(z, dx, dy)[seen], shade_there[seen])


def first_of_duplicates(values: npt.NDArray[np.float64], axis: int) -> npt.NDArray[np.intp]:
    """Indices along `axis` that do not repeat the one before."""
    moved = np.moveaxis(values, axis, 0)
    changed = np.any(moved[1:] != moved[:-1], axis=1)
    return np.concatenate([[0], np.flatnonzero(changed) + 1])
