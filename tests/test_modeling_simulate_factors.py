"""Terrain factors of shapes whose factors are known, and of regions, whose other layers they leave as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from modeling.benchmark.data import Simulated
from modeling.data.dataset import open_region
from modeling.data.patch_simulate import RegionPlan, region_of
from modeling.experiments.terrain import SimulatedTerrain, store_with_terrain, with_terrain
from modeling.simulate.factors import FACTORS, factors_of

CELL = 30.0
ROWS, COLUMNS = np.mgrid[:41, :41].astype(np.float64)
EAST, NORTH = (COLUMNS - 20) * CELL, (20 - ROWS) * CELL
INSIDE = slice(8, -8), slice(8, -8)


def inside(elevation: np.ndarray[tuple[int, ...], np.dtype[np.float64]], name: str) -> np.ndarray:  # type: ignore[type-arg]
    return factors_of(elevation, CELL)[name][INSIDE]


@pytest.mark.parametrize(("east", "north"), [(1.0, 0.0), (0.0, -1.0), (0.6, 0.8)])
def test_a_plane_faces_downhill_and_does_not_curve(east: float, north: float) -> None:
    plane = -0.3 * (east * EAST + north * NORTH)
    np.testing.assert_allclose(inside(plane, "aspect_east"), east, atol=1e-9)
    np.testing.assert_allclose(inside(plane, "aspect_north"), north, atol=1e-9)
    for name in ("plan_curvature", "profile_curvature"):
        np.testing.assert_allclose(inside(plane, name), 0, atol=1e-9)
    reach = 8 * CELL  # the circle's pixels along an axis, and at 37 degrees nearly as far
    np.testing.assert_allclose(inside(plane, "relief"), 2 * 0.3 * reach, rtol=0.06)


def test_what_bulges_has_positive_curvature_and_a_hollow_negative() -> None:
    ridge = -0.3 * NORTH - 1e-3 * EAST**2 / 2  # falls to the north, bulges across
    np.testing.assert_allclose(inside(ridge, "plan_curvature")[:, 12], 1e-3, rtol=1e-6)
    np.testing.assert_allclose(inside(-0.3 * NORTH + 1e-3 * EAST**2 / 2, "plan_curvature")[:, 12], -1e-3, rtol=1e-6)
    steepening = -0.3 * NORTH - 1e-4 * NORTH**2 / 2
    np.testing.assert_allclose(inside(steepening, "profile_curvature"), 1e-4, rtol=1e-6)


def test_water_gathers_in_a_valley_and_on_flat_ground_the_index_stays_finite() -> None:
    valley = 0.3 * np.abs(EAST) - 0.05 * NORTH
    wet = inside(valley, "twi")
    assert wet[:, 12].min() > wet[:, :10].max()
    assert np.isfinite(factors_of(np.zeros((20, 20)), CELL)["twi"]).all()


def test_a_region_keeps_its_layers_and_gets_factors_beside_them(tmp_path: Path) -> None:
    plan = RegionPlan("iburi", 7, 96)
    store_with_terrain(tmp_path, plan, tmp_path / "more")
    plain, more = open_region(region_of(tmp_path, plan)), open_region(tmp_path / "more")
    assert more.layer_names == (*plain.layer_names, *FACTORS)
    np.testing.assert_array_equal(np.asarray(more.stack[: len(plain.layer_names)]), np.asarray(plain.stack))
    np.testing.assert_array_equal(np.asarray(more.truth), np.asarray(plain.truth))
    layers = more.layers()
    # It is the same ground: uphill of the stored hillshade (lit from the west) is where the factors say.
    known = np.isfinite(layers["slope"]) & (layers["slope"] > 10)
    lit = layers["hillshade"][known] - 255 * np.cos(np.pi / 4)
    assert np.corrcoef(lit, -layers["aspect_east"][known])[0, 1] > 0.9


def test_only_the_simulators_data_are_extended() -> None:
    source = Simulated(Path("nowhere"), ("iburi",), 2, 1, 1, 96)
    more = with_terrain(source)
    assert isinstance(more, SimulatedTerrain)
    assert with_terrain(more) is more
    assert more.band_set().channels == (*source.band_set().channels, *FACTORS)
    assert {**more.about()} == {**source.about()}  # what ground it is has not changed
