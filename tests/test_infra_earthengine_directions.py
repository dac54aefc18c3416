"""Looking along one direction, against walking there by hand."""

from __future__ import annotations

import math
from collections.abc import Iterator

import ee
import numpy as np
import pytest
from fakes.catalogue import CatalogueWriter
from fakes.earthengine import earth_engine, pixels, values

from gee.types import Grid

GRID = Grid("EPSG:32654", (10.0, 0.0, 600_000.0, 0.0, -10.0, 4_730_000.0), (20, 24))
LABEL = np.zeros(GRID.shape_yx, np.int16)
LABEL[10, 12] = 7
LABEL[3, 4:7] = 2
LABEL[15, 2] = -32_768  # masked
HEIGHT = np.arange(GRID.shape_yx[0] * GRID.shape_yx[1], dtype=np.int16).reshape(GRID.shape_yx)


@pytest.fixture(scope="module", autouse=True)
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("catalogue")
    CatalogueWriter(folder).image("A/a", {"label": LABEL, "height": HEIGHT}, GRID)
    with earth_engine(folder, tmp_path_factory.mktemp("state")) as url:
        yield url


def label() -> ee.Image:
    return ee.Image("A/a").select("label")


@pytest.mark.parametrize(
    ("angle", "dy", "dx"), [(0, 0, 1), (90, -1, 0), (180, 0, -1), (270, 1, 0), (45, -1, 1), (-60, 1, 0.5)]
)
def test_the_distance_is_that_to_the_first_pixel_on_the_way(angle: float, dy: float, dx: float) -> None:
    got = values(label().directionalDistanceTransform(angle, 9), GRID)
    wanted = np.full(GRID.shape_yx, np.nan)
    for y, x in np.ndindex(GRID.shape_yx):
        if LABEL[y, x] == -32_768:
            continue
        for step in range(10):
            row = y - round(step * math.sin(math.radians(angle)))
            col = x + round(step * math.cos(math.radians(angle)))
            inside = 0 <= row < GRID.shape_yx[0] and 0 <= col < GRID.shape_yx[1]
            if inside and LABEL[row, col] > 0:
                wanted[y, x] = math.hypot(row - y, col - x)
                break
    np.testing.assert_allclose(got, wanted)
    assert np.isfinite(got).sum() > 10
    # From the pixel that lies three of these steps away from it, it is found at that distance.
    start = round(10 - 3 * dy), round(12 - 3 * dx)
    if angle % 45 == 0:
        assert got[start] == pytest.approx(3 * math.hypot(dy, dx))


def test_nothing_is_found_beyond_the_largest_distance() -> None:
    got = values(label().directionalDistanceTransform(0, 4), GRID)
    assert np.flatnonzero(np.isfinite(got[10])).tolist() == [8, 9, 10, 11, 12]
    assert got[10, 12] == 0


def test_with_a_label_band_the_others_are_taken_from_where_it_was_found() -> None:
    found = ee.Image("A/a").directionalDistanceTransform(90, 6, "label")
    got = pixels(found, GRID)
    assert got.dtype.names == ("height", "distance")
    np.testing.assert_array_equal(got["height"][10:17, 12], HEIGHT[10, 12])
    np.testing.assert_array_equal(got["distance"][10:17, 12], np.arange(7))


def test_what_cannot_be_looked_for_is_refused() -> None:
    with pytest.raises(ee.EEException, match="needs a labelBand"):
        pixels(ee.Image("A/a").directionalDistanceTransform(0, 4), GRID)
    with pytest.raises(ee.EEException, match="maxDistance is 0"):
        pixels(label().directionalDistanceTransform(0, 0), GRID)
