"""`modeling.vectors.vectorise`, `.outlines` and `.runs`: the same bodies however a mask is cut, and the same as those of GDAL."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio.features
import shapely
from affine import Affine
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from modeling.errors import InventoryError
from modeling.vectors.vectorise import Found, Vectoriser, mask_polygons

Array = npt.NDArray[Any]
GRID = Affine(10.0, 0.0, 500_000.0, 0.0, -10.0, 4_740_000.0)
MASKS = arrays(np.bool_, st.tuples(st.integers(1, 14), st.integers(1, 14)))


@dataclass(frozen=True)
class Cut:
    """Where windows end along each axis; lists longer than the axis are cut short."""

    rows: list[int]
    columns: list[int]

    def windows(self, shape: tuple[int, int]) -> Iterator[tuple[slice, slice]]:
        for rows in _spans(shape[0], self.rows):
            for columns in _spans(shape[1], self.columns):
                yield rows, columns


def _spans(size: int, steps: list[int]) -> Iterator[slice]:
    start = 0
    for step in (*steps, size):
        if start < size:
            yield slice(start, min(start + step, size))
        start += step


CUTS = st.builds(Cut, *[st.lists(st.integers(1, 6), max_size=6)] * 2)


def found_in(mask: Array, cut: Cut, seen: Array | None = None, minimum_px: float = 1, **rasters: Array) -> Found:
    vectoriser = Vectoriser(mask.shape, GRID, minimum_px=minimum_px)
    for window in cut.windows(mask.shape):
        here = {name: raster[window] for name, raster in rasters.items()}
        vectoriser.add(
            window,
            mask[window],
            quantities={name: raster for name, raster in here.items() if raster.dtype.kind == "f"},
            codes={name: raster for name, raster in here.items() if raster.dtype.kind == "i"},
            seen=None if seen is None else seen[window],
        )
    return vectoriser.finish()


def by_gdal(mask: Array) -> list[shapely.Geometry]:
    shapes = rasterio.features.shapes(mask.astype(np.uint8), mask=mask, connectivity=4, transform=GRID)
    return [shapely.geometry.shape(outline) for outline, _ in shapes]


def sorted_text(polygons: Any) -> list[str]:
    """Well-known text of polygons in one form; of rings that touch, GDAL and we may not begin at the same corner."""
    return sorted(shapely.to_wkt(shapely.normalize(np.asarray(polygons, object)), rounding_precision=3))


RING_AROUND_TWO_HOLES = np.array([[1, 1, 1, 1], [1, 0, 1, 1], [1, 1, 0, 1], [1, 1, 1, 1]], bool)
HOLE_AND_OUTSIDE_TOUCH = np.array([[1, 1, 0], [1, 0, 1], [1, 1, 1]], bool)
CHESS = np.indices((6, 6)).sum(0) % 2 == 0


@settings(max_examples=150, deadline=None)
@given(MASKS, CUTS)
@example(RING_AROUND_TWO_HOLES, Cut([2], [1]))
@example(HOLE_AND_OUTSIDE_TOUCH, Cut([1], [2]))
@example(CHESS, Cut([1, 1, 1], [3]))
@example(np.zeros((3, 3), bool), Cut([], []))
def test_any_cut_gives_the_polygons_of_the_whole_and_those_of_gdal(mask: Array, cut: Cut) -> None:
    polygons = found_in(mask, cut).polygons
    whole = mask_polygons(mask, GRID)
    assert len(polygons) == ndimage.label(mask)[1]
    assert shapely.equals_exact(polygons, whole).all()
    assert shapely.is_valid(polygons).all()
    assert sorted_text(polygons) == sorted_text(by_gdal(mask))


@settings(max_examples=80, deadline=None)
@given(MASKS, CUTS)
def test_areas_are_those_of_the_pixels_and_rings_turn_as_they_should(mask: Array, cut: Cut) -> None:
    found = found_in(mask, cut)
    assert np.array_equal(shapely.area(found.polygons), 100 * found.attributes.pixels)
    assert list(found.attributes.pixels) == sorted(np.bincount(ndimage.label(mask)[0].ravel())[1:], reverse=True)
    for polygon in found.polygons:
        assert polygon.exterior.is_ccw
        assert not any(hole.is_ccw for hole in polygon.interiors)


@settings(max_examples=100, deadline=None)
@given(MASKS, CUTS, st.integers(0, 1000))
def test_attributes_are_those_of_a_mask_for_each_body_however_it_is_cut(mask: Array, cut: Cut, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = (rng.normal(size=mask.shape) + 1000).astype(np.float32)
    values[rng.random(mask.shape) < 0.3] = np.nan
    days = rng.integers(-1, 4, mask.shape, dtype=np.int32)
    seen = rng.random(mask.shape) < 0.9
    found = found_in(mask, cut, seen, values=values, days=days)
    moments, common = found.attributes.moments, found.attributes.votes
    labels, count = ndimage.label(mask)
    places = [int(np.flatnonzero(labels.ravel() == label)[0]) for label in range(1, count + 1)]
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    order = sorted(range(count), key=lambda body: (-sizes[body], places[body]))
    assert [places[body] for body in order] == list(found.attributes.place)
    for index, body in enumerate(order):
        where = labels == body + 1
        known = values[where & ~np.isnan(values)].astype(np.float64)
        expected = (known.mean(), known.std(), known.min(), known.max()) if known.size else (np.nan,) * 4
        of = moments["values"]
        np.testing.assert_allclose([of.mean[index], of.std[index], of.min[index], of.max[index]], expected, atol=1e-9)
        assert of.number[index] == known.size
        dated, counts = np.unique(days[where & (days >= 0)], return_counts=True)
        assert common["days"].most_common[index] == (dated[counts.argmax()] if dated.size else -1)
        grown = ndimage.binary_dilation(np.pad(where, 1))
        assert found.attributes.cut[index] == (~np.pad(seen, 1)[grown]).any()


def test_spread_does_not_drown_in_large_values() -> None:
    values = np.full((4, 4), 4_000_000.0)
    values[::2] += 0.001
    found = found_in(np.ones((4, 4), bool), Cut([1, 2], [3]), values=values)
    assert found.attributes.moments["values"].std[0] == pytest.approx(0.0005, rel=1e-4)


def test_bodies_that_are_too_small_are_dropped_only_when_all_of_them_has_come() -> None:
    mask = np.zeros((9, 9), bool)
    mask[1:8, 4] = True
    mask[4, 0] = True
    found = found_in(mask, Cut([1] * 9, [1] * 9), minimum_px=7)
    assert list(found.attributes.pixels) == [7]


def test_open_bodies_are_all_that_is_kept_of_what_has_passed() -> None:
    """However long the map: a slide that never ends is kept, the thousand others are polygons."""
    vectoriser = Vectoriser((4000, 40), GRID)
    mask = np.zeros((8, 40), bool)
    mask[:, 2] = True
    mask[2:5, 10:20] = True
    for top in range(0, 4000, 8):
        vectoriser.add((slice(top, top + 8), slice(0, 40)), mask)
        assert vectoriser._open is not None
        assert top == 3992 or len(vectoriser._open[0]) == top + 8
    found = vectoriser.finish()
    assert len(found.polygons) == 501
    assert found.attributes.pixels[0] == 4000


@pytest.mark.parametrize(
    ("windows", "reason"),
    [
        ([((0, 4), (0, 4)), ((4, 8), (0, 8))], "does not follow"),
        ([((0, 4), (4, 8))], "does not follow"),
        ([((4, 8), (0, 8))], "does not follow"),
        ([((0, 4), (0, 4)), ((0, 5), (4, 8))], "does not follow"),
        ([((0, 4), (0, 9))], "not inside"),
        ([((0, 4), (0, 8))], r"end at row 4, column 8 of a mask of \(8, 8\)"),
        ([], "end at row 0"),
    ],
)
def test_windows_that_do_not_make_a_map_are_refused(windows: list[Any], reason: str) -> None:
    vectoriser = Vectoriser((8, 8), GRID)
    with pytest.raises(InventoryError, match=reason):
        for rows, columns in windows:
            mask = np.zeros((rows[1] - rows[0], columns[1] - columns[0]), bool)
            vectoriser.add((slice(*rows), slice(*columns)), mask)
        vectoriser.finish()


def test_rasters_of_another_shape_are_named() -> None:
    with pytest.raises(InventoryError, match=r"slope has shape \(2, 3\) in a window of \(3, 3\)"):
        Vectoriser((3, 3), GRID).add(
            (slice(0, 3), slice(0, 3)), np.ones((3, 3), bool), quantities={"slope": np.ones((2, 3), np.float32)}
        )
