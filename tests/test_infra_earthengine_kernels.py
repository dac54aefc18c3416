"""Kernels against the weights that the reference pages print, and what is computed with them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ee
import numpy as np
import pytest
from fakes.catalogue import CatalogueWriter
from fakes.earthengine import earth_engine, pixels, values

from gee.types import Grid

METRIC = Grid("EPSG:32654", (30.0, 0.0, 500_010.0, 0.0, -30.0, 4_700_010.0), (15, 17))
RAMP = np.arange(15 * 17, dtype=np.float32).reshape(15, 17)


@pytest.fixture(scope="module", autouse=True)
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("catalogue")
    write = CatalogueWriter(root)
    impulse = np.zeros((15, 17), np.float32)
    impulse[7, 8] = 1
    holed = RAMP.copy()
    holed[7, 8] = np.nan
    write.image("impulse", {"a": impulse}, METRIC)
    write.image("ramp", {"a": RAMP, "b": -RAMP}, METRIC)
    write.image("holed", {"a": holed}, METRIC)
    with earth_engine(root, tmp_path_factory.mktemp("state")) as url:
        yield url


def weights(kernel: Any, radius: int = 3) -> np.ndarray[Any, Any]:
    """The weights about the focus: convolving a single 1 turns them over."""
    got = values(ee.Image("impulse").convolve(kernel), METRIC)
    return got[7 - radius : 8 + radius, 8 - radius : 9 + radius][::-1, ::-1]


CIRCLE = ["0001000", "0111110", "0111110", "1111111", "0111110", "0111110", "0001000"]
OCTAGON = ["0011100", "0111110", "1111111", "1111111", "1111111", "0111110", "0011100"]
DIAMOND = ["0001000", "0011100", "0111110", "1111111", "0111110", "0011100", "0001000"]


@pytest.mark.parametrize(("name", "picture"), [("circle", CIRCLE), ("octagon", OCTAGON), ("diamond", DIAMOND)])
def test_boolean_kernels_have_the_published_shape(name: str, picture: list[str]) -> None:
    wanted = np.array([[int(c) for c in row] for row in picture], float)
    make = getattr(ee.Kernel, name)
    np.testing.assert_allclose(weights(make(3)), wanted / wanted.sum(), atol=1e-6)
    np.testing.assert_allclose(weights(make(3, "pixels", False, 2)), wanted * 2, atol=1e-6)
    np.testing.assert_allclose(weights(make(90, "meters", False)), wanted, atol=1e-6)


def test_squares_rectangles_crosses() -> None:
    assert weights(ee.Kernel.square(1, "pixels", False)).sum() == 9
    np.testing.assert_array_equal(
        weights(ee.Kernel.rectangle(3, 1, "pixels", False)).sum(axis=1), [0, 0, 7, 7, 7, 0, 0]
    )
    np.testing.assert_array_equal(np.diag(weights(ee.Kernel.cross(3, "pixels", False))), np.ones(7))
    np.testing.assert_array_equal(weights(ee.Kernel.plus(2, "pixels", False))[3], [0, 1, 1, 1, 1, 1, 0])


def test_a_gaussian_of_radius_three_has_the_published_weights() -> None:
    row_0, row_2 = [0.002, 0.013, 0.021, 0.013, 0.002], [0.021, 0.098, 0.162, 0.098, 0.021]
    got = weights(ee.Kernel.gaussian(3))
    np.testing.assert_allclose(got[1, 1:6], row_0, atol=1e-3)
    np.testing.assert_allclose(got[3, 1:6], row_2, atol=1e-3)
    assert got[0].max() == got[:, 0].max() == 0


def test_distances_from_the_focus() -> None:
    np.testing.assert_array_equal(weights(ee.Kernel.manhattan(3))[0], [6, 5, 4, 3, 4, 5, 6])
    np.testing.assert_array_equal(weights(ee.Kernel.chebyshev(3))[1], [3, 2, 2, 2, 2, 2, 3])
    assert weights(ee.Kernel.euclidean(3))[0, 0] == pytest.approx(np.sqrt(18))


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("sobel", [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]),
        ("prewitt", [[1, 0, -1], [1, 0, -1], [1, 0, -1]]),
        ("compass", [[1, 1, -1], [1, -2, -1], [1, 1, -1]]),
        ("kirsch", [[5, -3, -3], [5, 0, -3], [5, -3, -3]]),
        ("roberts", [[1, 0, 0], [0, -1, 0], [0, 0, 0]]),
        ("laplacian4", [[0, 1, 0], [1, -4, 1], [0, 1, 0]]),
        ("laplacian8", [[1, 1, 1], [1, -8, 1], [1, 1, 1]]),
    ],
)
def test_edge_detectors_have_the_published_weights(name: str, wanted: list[list[int]]) -> None:
    np.testing.assert_array_equal(weights(getattr(ee.Kernel, name)(), 1), wanted)


def test_fixed_weights_are_laid_on_the_image_as_they_are_written() -> None:
    right = ee.Kernel.fixed(weights=[[0, 0, 0], [0, 0, 1], [0, 0, 0]])
    np.testing.assert_array_equal(values(ee.Image("ramp").convolve(right), METRIC)[:, :-1], RAMP[:, 1:])
    np.testing.assert_array_equal(weights(right.rotate(1), 1), [[0, 0, 0], [0, 0, 0], [0, 1, 0]])
    both = right.add(ee.Kernel.fixed(weights=[[2]]))
    np.testing.assert_array_equal(weights(both, 1), [[0, 0, 0], [0, 2, 1], [0, 0, 0]])
    np.testing.assert_array_equal(weights(both.inverse(), 1)[1], [0, 0.5, 1])
    np.testing.assert_array_equal(weights(ee.Kernel.fixed(2, 1, [[3, 4]], 0, 0), 1)[1], [0, 3, 4])
    assert weights(ee.Kernel.fixed(weights=[[1, 3]], normalize=True), 1).sum() == 1
    assert abs(weights(ee.Kernel.fixed(weights=[[1, -3]], normalize=True), 1).sum()) < 1e-6


def test_convolution_is_masked_where_a_pixel_that_counts_is_masked() -> None:
    got = np.isfinite(values(ee.Image("holed").convolve(ee.Kernel.plus(1)), METRIC))
    wanted = np.zeros((15, 17), bool)
    wanted[1:-1, 1:-1] = True
    for row, col in ((7, 8), (6, 8), (8, 8), (7, 7), (7, 9)):
        wanted[row, col] = False
    np.testing.assert_array_equal(got, wanted)


def test_a_neighbourhood_is_reduced_over_its_valid_pixels() -> None:
    window = ee.Kernel.square(1)
    reduced = ee.Image("holed").reduceNeighborhood(ee.Reducer.minMax(), window)
    assert reduced.bandNames().getInfo() == ["a_min", "a_max"]
    got = pixels(reduced.unmask(-1, False), METRIC)
    assert got["a_max"][7, 8] == -1, "the hole itself stays a hole"
    assert got["a_max"][6, 7] == RAMP[7, 7], "and its neighbours do without it"
    assert got["a_min"][0, 0] == 0
    assert got["a_max"][0, 0] == RAMP[1, 1], "nothing lies beyond the edge"
    filled = ee.Image("holed").reduceNeighborhood(ee.Reducer.mean(), window, skipMasked=False)
    assert values(filled, METRIC)[7, 8] == pytest.approx(RAMP[7, 8])
    assert values(ee.Image("holed").reduceNeighborhood(ee.Reducer.count(), window), METRIC)[6, 8] == 8


def test_the_weights_of_the_kernel_count() -> None:
    image = ee.Image("ramp").select("a")
    inner = (slice(1, -1), slice(1, -1))
    mean = values(image.reduceNeighborhood(ee.Reducer.sum(), ee.Kernel.square(1)), METRIC)
    np.testing.assert_allclose(mean[inner], RAMP[inner], rtol=1e-5)
    total = values(image.reduceNeighborhood(ee.Reducer.sum(), ee.Kernel.square(1, "pixels", False)), METRIC)
    np.testing.assert_allclose(total[inner], 9 * RAMP[inner], rtol=1e-5)
    total = values(image.reduceNeighborhood(ee.Reducer.sum(), ee.Kernel.square(1), "mask"), METRIC)
    np.testing.assert_allclose(total[inner], 9 * RAMP[inner], rtol=1e-5)
    lopsided = ee.Kernel.fixed(weights=[[1, 0, 3]])
    got = values(image.reduceNeighborhood(ee.Reducer.mean(), lopsided), METRIC)
    np.testing.assert_allclose(got[:, 1:-1], RAMP[:, 1:-1] + 0.5, rtol=1e-6)


def test_reducers_of_two_inputs_take_the_bands_together() -> None:
    both = ee.Image("ramp").reduceNeighborhood(ee.Reducer.max(2), ee.Kernel.plus(1))
    assert both.bandNames().getInfo() == ["max", "max1"]
    got = pixels(both, METRIC)
    np.testing.assert_array_equal(got["max1"], -got["max"])


def test_neighbours_become_bands() -> None:
    bands = ee.Image("ramp").select("a").neighborhoodToBands(ee.Kernel.fixed(weights=[[0, 5, 0], [0, 0, 1], [0, 0, 0]]))
    assert bands.bandNames().getInfo() == ["a_0_-1", "a_1_0"]
    got = pixels(bands.unmask(-1, False), METRIC)
    np.testing.assert_array_equal(got["a_0_-1"][1:], RAMP[:-1])
    np.testing.assert_array_equal(got["a_1_0"][:, :-1], RAMP[:, 1:])
    assert (got["a_0_-1"][0] == -1).all()


def test_focal_operations_take_a_kernel() -> None:
    image = ee.Image("ramp").select("a")
    kernel = ee.Kernel.plus(1)
    own = values(image.focalMax(kernel=kernel), METRIC)
    np.testing.assert_array_equal(own, values(image.focalMax(1, "plus"), METRIC))
    assert values(ee.Image("holed").focalMean(1, "square"), METRIC)[7, 8] == pytest.approx(RAMP[7, 8]), "holes fill up"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda image: image.convolve(ee.Kernel.circle(3, "feet")), "Unknown units 'feet'"),
        (lambda image: image.convolve(ee.Kernel.circle(300)), "too large"),
        (lambda image: image.convolve(ee.Kernel.fixed(weights=[[1, 2], [3]])), "rows of the same length"),
        (lambda image: image.convolve(ee.Kernel.fixed(3, 1, [[1, 2]])), "2 x 1"),
        (lambda image: image.focalMean(1, "star"), "'star' is not known"),
        (lambda image: image.reduceNeighborhood(ee.Reducer.mean(), ee.Kernel.square(1), "some"), "'some'"),
        (lambda image: image.reduceNeighborhood(ee.Reducer.max(3), ee.Kernel.square(1)), "3 inputs"),
        (lambda image: image.neighborhoodToBands(ee.Kernel.circle(60, "meters")), "in metres"),
    ],
)
def test_what_cannot_be_done_is_said(make: Any, words: str) -> None:
    with pytest.raises(ee.EEException, match=words):
        pixels(make(ee.Image("ramp")), METRIC)
