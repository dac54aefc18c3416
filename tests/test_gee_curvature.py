"""Curvature against surfaces whose answer is known, and against RichDEM on a real elevation model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from conftest import SHARED_DATA
from fakes.catalogue import CatalogueWriter
from fakes.earthengine import earth_engine, values
from shapely.geometry import box

from gee.curvature import EARTH_RADIUS_M, curvatures
from gee.dem import DemChoice, DemZone, elevation_image
from gee.types import Grid

METRIC = Grid("EPSG:32654", (30.0, 0.0, 500_010.0, 0.0, -30.0, 4_700_010.0), (21, 25))
STEP = 1 / 3600
NORTHERN = Grid("EPSG:4326", (2 * STEP, 0.0, 25.0, 0.0, -STEP, 65.0), (21, 25))
UPWARD = Grid("EPSG:32654", (30.0, 0.0, 500_010.0, 0.0, 30.0, 4_700_010.0), (21, 25))
INNER = (slice(1, -1), slice(1, -1))
Array = npt.NDArray[np.float64]


def offsets(grid: Grid) -> tuple[Array, Array]:
    """Metres to the east and to the north of the middle pixel, (y, x)."""
    a, _, _, _, e, f = grid.transform
    rows, cols = np.mgrid[: grid.shape_yx[0], : grid.shape_yx[1]].astype(float)
    east, north = (cols - 12) * a, (rows - 10) * e
    if grid.crs == "EPSG:4326":
        metres = np.radians(1) * EARTH_RADIUS_M
        return east * metres * np.cos(np.radians(f + e * 10.5)), north * metres
    return east, north


SURFACES = {
    # z, z_x, z_y, z_xx, z_xy, z_yy
    "plane": lambda x, y: (0.3 * x - 0.2 * y, 0.3, -0.2, 0, 0, 0),
    "dome": lambda x, y: (-1e-4 * (x**2 + y**2), -2e-4 * x, -2e-4 * y, -2e-4, 0, -2e-4),
    "bowl": lambda x, y: (2e-4 * x**2 + 1e-4 * y**2, 4e-4 * x, 2e-4 * y, 4e-4, 0, 2e-4),
    "saddle": lambda x, y: (1e-4 * x * y, 1e-4 * y, 1e-4 * x, 0, 1e-4, 0),
    "ridge": lambda x, y: (0.2 * y - 3e-4 * x**2, -6e-4 * x, 0.2 + 0 * y, -6e-4, 0, 0),
    "flat": lambda x, y: (0 * x, 0, 0, 0, 0, 0),
}
GRIDS = {"metric": METRIC, "northern": NORTHERN, "upward": UPWARD}


def wanted(surface: str, grid: Grid) -> tuple[Array, Array]:
    """Plan and profile curvature by their definition, as directional derivatives."""
    x, y = offsets(grid)
    _, p, q, r, s, t = np.broadcast_arrays(*SURFACES[surface](x, y), x)[:6]
    steep = np.hypot(p, q)
    with np.errstate(invalid="ignore"):
        along = np.stack([p, q]) / steep
    across = np.stack([-along[1], along[0]])

    def second(direction: Array) -> Array:
        u, v = direction
        return np.asarray(r * u * u + 2 * s * u * v + t * v * v)

    flat = steep < 1e-6
    return np.where(flat, 0, -second(across)), np.where(flat, 0, -second(along))


@pytest.fixture(scope="module", autouse=True)
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("catalogue")
    write = CatalogueWriter(root)
    for name, grid in GRIDS.items():
        for surface, function in SURFACES.items():
            z = function(*offsets(grid))[0]
            if surface == "plane":
                z[10, 12] = np.nan
            write.image(f"{name}/{surface}", {"z": z}, grid)
    reference = SHARED_DATA / "terrain_reference"
    if reference.is_dir():
        heights, grid = read(reference / "shifted_reprojected_xoff20.0_yoff20.0.tif")
        write.image("real", {"z": heights}, grid)
    with earth_engine(root, tmp_path_factory.mktemp("state")) as url:
        yield url


def read(path: Path) -> tuple[Array, Grid]:
    with rasterio.open(path, driver="GTiff") as file:
        found = file.read(1, masked=True).astype(np.float64).filled(np.nan)
        t = file.transform
        return found, Grid(file.crs.to_string(), (t.a, t.b, t.c, t.d, t.e, t.f), file.shape)


def computed(asset: str, grid: Grid) -> tuple[Array, Array]:
    zone = DemZone(grid.crs, grid.transform)
    dem = DemChoice(asset, "z", "image", "", (zone,))
    both = curvatures(elevation_image(dem, box(0, 0, 1, 1)), zone)
    plan, profile = (values(both.select(name), grid) for name in ("plan_curvature", "profile_curvature"))
    return plan, profile


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("name", GRIDS)
def test_known_surfaces(name: str, surface: str) -> None:
    grid = GRIDS[name]
    # On the sphere the width of a pixel changes by 1e-4 from row to row up here, which the formulas know nothing of.
    tolerance = {"rtol": 2e-3, "atol": 4e-7} if name == "northern" else {"rtol": 1e-9, "atol": 1e-12}
    for got, known in zip(computed(f"{name}/{surface}", grid), wanted(surface, grid), strict=True):
        inside = np.isfinite(got)
        assert inside[INNER].mean() > 0.95
        np.testing.assert_allclose(got[inside], known[inside], **tolerance)  # type: ignore[arg-type]


def test_what_bulges_is_positive() -> None:
    assert (np.concatenate([c[INNER].ravel() for c in computed("metric/dome", METRIC)]) >= 0).all()
    plan, profile = computed("metric/bowl", METRIC)
    assert (plan[INNER] <= 0).all()
    assert (profile[INNER] <= 0).all()
    plan, _ = computed("metric/ridge", METRIC)
    assert plan[10, 12] == pytest.approx(6e-4), "the crest parts the water"


def test_it_is_unknown_where_any_of_eight_neighbours_is() -> None:
    unknown = np.ones(METRIC.shape_yx, bool)
    unknown[INNER] = False
    unknown[9:12, 11:14] = True
    for got in computed("metric/plane", METRIC):
        np.testing.assert_array_equal(np.isnan(got), unknown)


def test_real_terrain_as_richdem_has_it(shared_data: Path) -> None:
    folder = shared_data / "terrain_reference"
    _, grid = read(folder / "shifted_reprojected_xoff20.0_yoff20.0.tif")
    plan, profile = computed("real", grid)

    def reference(name: str) -> Any:
        found, _ = read(folder / "richdem" / f"{name}.tif")
        placed = np.full(found.shape, np.nan)
        placed[1:, :-1] = found[:-1, 1:]  # made of the same model one pixel to the north-east (SOURCE.txt)
        return placed / 100  # in hundredths

    for got, known in ((plan, reference("planform_curvature")), (-profile, reference("profile_curvature"))):
        known[:3] = np.nan  # RichDEM took the unknown pixels beyond the northern edge of its model for heights
        both = np.isfinite(got) & np.isfinite(known)
        assert both.sum() > 2_300
        np.testing.assert_allclose(got[both], known[both], atol=1e-8)
