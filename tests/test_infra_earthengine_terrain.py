"""Slope, aspect and hillshade of planes whose answer is known."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ee
import numpy as np
import pytest
from fakes.catalogue import CatalogueWriter
from fakes.earthengine import earth_engine, values

from gee.types import Grid

METRIC = Grid("EPSG:32654", (30.0, 0.0, 500_010.0, 0.0, -30.0, 4_700_010.0), (20, 20))
ARC_SECOND = Grid("EPSG:4326", (1 / 3600, 0.0, 141.0, 0.0, -1 / 3600, 60.0), (20, 20))
INNER = (slice(1, -1), slice(1, -1))


def plane(east: float, north: float) -> np.ndarray[Any, Any]:
    """Elevations that rise by so much for each pixel to the east and to the north."""
    rows, cols = np.mgrid[:20, :20]
    return (100 + east * cols - north * rows).astype(np.float32)


@pytest.fixture(scope="module", autouse=True)
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("catalogue")
    write = CatalogueWriter(root)
    for name, (east, north) in {"east": (30, 0), "north": (0, 30), "southwest": (10, 10), "flat": (0, 0)}.items():
        write.image(f"plane/{name}", {"elevation": plane(east, north)}, METRIC)
    write.image("degrees", {"elevation": plane(30, 0)}, ARC_SECOND)
    holed = plane(30, 0)
    holed[10, 10] = np.nan
    write.image("holed", {"elevation": holed}, METRIC)
    with earth_engine(root, tmp_path_factory.mktemp("state")) as url:
        yield url


@pytest.mark.parametrize(
    ("name", "slope", "aspect"), [("east", 45.0, 270.0), ("north", 45.0, 180.0), ("southwest", 25.2394, 225.0)]
)
def test_planes(name: str, slope: float, aspect: float) -> None:
    dem = ee.Image(f"plane/{name}")
    np.testing.assert_allclose(values(ee.Terrain.slope(dem), METRIC)[INNER], slope, rtol=1e-5)
    np.testing.assert_allclose(values(ee.Terrain.aspect(dem), METRIC)[INNER], aspect, rtol=1e-5)


def test_hillshade_has_no_cosine_on_its_first_term() -> None:
    faces_west = ee.Image("plane/east")
    sine = np.sin(np.radians(45))
    assert (values(ee.Terrain.hillshade(faces_west), METRIC)[INNER] == np.round(255 * (sine + sine * sine))).sum() == 0
    assert (values(ee.Terrain.hillshade(faces_west), METRIC)[INNER] == 255).all(), "1.207 is cut off at 1"
    shaded = np.round(255 * (sine - sine * sine))
    assert (values(ee.Terrain.hillshade(faces_west, 90, 45), METRIC)[INNER] == shaded).all()
    assert (values(ee.Terrain.hillshade(ee.Image("plane/flat"), 0, 30), METRIC)[INNER] == 128).all()


def test_edges_and_the_neighbours_of_holes_are_masked() -> None:
    known = np.isfinite(values(ee.Terrain.slope("holed"), METRIC))
    wanted = np.zeros((20, 20), bool)
    wanted[INNER] = True
    for row, col in ((10, 10), (9, 10), (11, 10), (10, 9), (10, 11)):
        wanted[row, col] = False
    np.testing.assert_array_equal(known, wanted)


def test_degrees_are_shorter_to_the_east() -> None:
    metres = 6371007.18 * np.pi / 180 / 3600
    latitude = np.radians(60 - (np.arange(20) + 0.5) / 3600)
    wanted = np.degrees(np.arctan(30 / (metres * np.cos(latitude))))
    got = values(ee.Terrain.slope("degrees"), ARC_SECOND)[INNER]
    np.testing.assert_allclose(got, np.broadcast_to(wanted[1:-1, None], (18, 18)), atol=1e-4)


def test_products_are_on_the_native_grid_whatever_is_asked_for() -> None:
    fine = Grid("EPSG:32654", (10.0, 0.0, 500_010.0, 0.0, -10.0, 4_700_010.0), (60, 60))
    products = ee.Terrain.products("holed")
    assert products.bandNames().getInfo() == ["elevation", "slope", "aspect", "hillshade"]
    got = values(products.select("slope"), fine)
    native = values(products.select("slope"), METRIC)
    np.testing.assert_array_equal(got, native.repeat(3, 0).repeat(3, 1))
