"""ShakeMap contour lines: those that bound an area, and those that do not."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import shapely
from fakes.shakemaps import contours, ring

from flows.contours import contour_polygons
from flows.errors import EventError
from flows.sphere import area_km2


def test_closed_contours_bound_an_area_with_its_holes() -> None:
    data = contours({
        6.0: [ring(140, 42, 1.0), ring(140, 42, 0.2), ring(145, 42, 0.1), [[0, 0], [0, 0]]],
        6.5: [ring(140, 42, 0.8), ring(140.0, 42, 0.3)],
    })  # fmt: skip
    polygon, level = contour_polygons(data, 6.0)
    assert level == 6.0
    assert polygon.area == pytest.approx(math.pi * (1.0 - 0.04 + 0.01), rel=0.01)


def test_the_next_lower_contour_is_used_between_two_steps() -> None:
    data = contours({5.5: [ring(140, 42, 1.0)], 6.5: [ring(140, 42, 0.5)]})
    polygon, level = contour_polygons(data, 6.2)
    assert level == 5.5
    assert polygon.area == pytest.approx(math.pi, rel=0.01)
    assert contour_polygons(data, 7.0)[0].is_empty


def test_an_open_contour_does_not_bound_an_area() -> None:
    data = contours({6.0: [ring(140, 42, 1.0), ring(141, 42, 1.0)[:30]]})
    with pytest.raises(EventError, match="contour of MMI 6 leaves the map"):
        contour_polygons(data, 6.0)


def test_contours_that_contradict_each_other_are_not_used() -> None:
    data = contours({6.0: [ring(140, 42, 0.2)], 6.5: [ring(150, 42, 1.0)]})
    with pytest.raises(EventError, match="does not hold the contours above it"):
        contour_polygons(data, 6.0)


def test_contours_across_the_antimeridian_are_split_there() -> None:
    jumping = [[x - 360 if x > 180 else x, y] for x, y in ring(180, 10, 1.0)]
    polygon, _ = contour_polygons(contours({6.0: [jumping], 6.5: [ring(-180, 10, 0.5)]}), 6.0)
    assert isinstance(polygon, shapely.MultiPolygon)
    assert polygon.area == pytest.approx(math.pi, rel=0.01)


@pytest.mark.parametrize(
    "data",
    [
        b"<xml/>", b"[]", b'{"features": 3}', b'{"features": []}', b'{"features": [3]}',
        contours({6.0: [[["a", "b"], [1, 2]]]}), contours({99.0: [ring(0, 0, 1)]}), contours({6.0: [[[1], [2]]]}),
        contours({6.0: [[[1, 2], [1e300, 4]]]}), contours({6.0: []}), contours({6.0: [[[[1, 2]]]]}),
    ],
)  # fmt: skip
def test_malformed_contours_are_refused(data: bytes) -> None:
    with pytest.raises(EventError):
        contour_polygons(data, 6.0)


def test_real_contours_close_at_high_levels_and_leave_the_map_at_low_ones(shared_data: Any) -> None:
    data = (shared_data / "shakemap" / "idaho_cont_mmi.json").read_bytes()
    areas = [contour_polygons(data, level)[0] for level in (4.0, 5.0, 6.0, 7.0, 8.0)]
    sizes = [area_km2(polygon) for polygon in areas]
    assert sizes == sorted(sizes, reverse=True)
    assert all(inner.difference(outer).area < 1e-3 for outer, inner in pairwise(areas))
    with pytest.raises(EventError, match=r"contour of MMI 3.5 leaves the map"):
        contour_polygons(data, 3.9)
