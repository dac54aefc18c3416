"""`modeling.vectors.burn`: the pixels whose centres lie inside polygons, against `shapely.contains` and against outlines."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from modeling.vectors.burn import burn, polygon_runs
from modeling.vectors.vectorise import mask_polygons

GRID = Affine(10.0, 0.0, 500_000.0, 0.0, -10.0, 4_740_000.0)
SHAPE = (12, 15)


def centres(transform: Affine, shape: tuple[int, int] = SHAPE) -> npt.NDArray[np.object_]:
    rows, columns = np.indices(shape) + 0.5
    return shapely.points(*(transform @ (columns, rows)))


@settings(max_examples=80, deadline=None)
@given(arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_outlines_burnt_back_are_the_mask(mask: npt.NDArray[np.bool_]) -> None:
    assert np.array_equal(burn(mask_polygons(mask, GRID), mask.shape, GRID), mask)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([GRID, GRID @ Affine.rotation(30)]))
def test_any_polygons_have_the_pixels_whose_centres_they_contain(seed: int, transform: Affine) -> None:
    rng = np.random.default_rng(seed)
    columns, rows = rng.uniform(-4, 19, (2, 5, 7))
    x, y = transform @ (columns, rows)
    shapes: list[Any] = list(shapely.convex_hull(shapely.multipoints(np.stack([x, y], -1))))
    shapes[0] = shapely.difference(shapes[0], shapes[1])  # with a hole, in two parts, empty, as it comes
    shapes[2] = shapely.union(shapes[2], shapely.transform(shapes[3], lambda at: at + 80))
    runs, owner = polygon_runs([*shapes, None, shapely.Polygon()], SHAPE, transform)
    for index, shape in enumerate(shapes):
        own = np.zeros(SHAPE, bool)
        own.reshape(-1)[runs.taken(owner == index).flat(SHAPE[1])] = True
        assert np.array_equal(own, shapely.contains(shape, centres(transform)))
    assert set(owner) <= set(range(5))


def test_a_centre_on_an_edge_belongs_to_one_of_two_neighbours() -> None:
    """Boxes that meet on the centres of pixels: none is counted twice, none is lost."""
    edges = [0.5, 3.5, 7.5, 11.5, 14.5]
    boxes = [shapely.box(*(GRID @ (left, 11.5)), *(GRID @ (right, 0.5))) for left, right in pairwise(edges)]
    runs, _ = polygon_runs(boxes, SHAPE, GRID)
    count = np.bincount(runs.flat(SHAPE[1]), minlength=SHAPE[0] * SHAPE[1]).reshape(SHAPE)
    assert (count[:11, :14] == 1).all()
    assert count.sum() == 11 * 14


@pytest.mark.parametrize(
    "polygons", [[], [None], [shapely.Point(500_010, 4_739_990)], [shapely.box(0, 0, 1, 1)]], ids=str
)
def test_what_has_no_pixel_has_no_run(polygons: list[Any]) -> None:
    runs, owner = polygon_runs(polygons, SHAPE, GRID)
    assert len(runs) == len(owner) == 0
    assert not burn(polygons, SHAPE, GRID).any()
