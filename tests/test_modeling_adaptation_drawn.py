"""modeling/adaptation/drawn.py: polygons are split by space, and each of their pixels is scored once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeling.adaptation.drawn import (
    CORE_PX,
    SIDE_PX,
    UNDRAWN,
    Ground,
    folds_of,
    pixel_weights,
    spatial_groups,
    split_by_space,
    windows_around,
)
from modeling.errors import DataError

EDGE_PX = (SIDE_PX - CORE_PX) // 2


@given(st.floats(0, 500), st.floats(0, 500), st.floats(0.5, 400), st.floats(0.5, 400))
def test_the_cores_of_a_polygons_windows_cover_it_without_overlap(
    top: float, left: float, height: float, width: float
) -> None:
    count = np.zeros((1200, 1200), int)
    for y, x in windows_around((top, left, top + height, left + width)):
        count[y + EDGE_PX + 100 : y + EDGE_PX + CORE_PX + 100, x + EDGE_PX + 100 : x + EDGE_PX + CORE_PX + 100] += 1
    assert count.max() == 1
    rows, columns = (
        np.arange(np.ceil(low - 0.5), np.floor(low + size - 0.5) + 1) for low, size in ((top, height), (left, width))
    )
    assert (count[np.ix_(rows.astype(int) + 100, columns.astype(int) + 100)] == 1).all()


def between(xy: np.ndarray) -> np.ndarray:
    apart: np.ndarray = np.linalg.norm(xy[:, None] - xy[None], axis=2)
    return apart


@given(st.integers(0, 10_000), st.integers(4, 30))
def test_near_polygons_are_held_out_together_and_folds_never_share_ground(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    xy, landslide = rng.uniform(0, 3000, (count, 2)), np.arange(count) % 2 == 0
    try:
        split = split_by_space(between(xy), landslide, (500.0, 250.0, 120.0), 5)
    except DataError:
        return
    apart = between(xy)
    assert (apart[split.fold[:, None] != split.fold[None]] > split.reach).all()
    assert split.folds <= 5
    for fold in range(split.folds):
        assert set(landslide[split.fold != fold].tolist()) == {True, False}, "both classes are there to learn from"
        assert (split.fold == fold).any()


def test_groups_are_chains_and_folds_have_equal_numbers_of_each_class() -> None:
    xy = np.array([[0, 0], [90, 0], [180, 0], [1000, 0], [1090, 0], [5000, 0]], float)
    assert spatial_groups(between(xy), 100).tolist() == [0, 0, 0, 1, 1, 2]
    group, landslide = np.arange(20), np.arange(20) < 10
    fold = folds_of(group, landslide, 5)
    for k in range(5):
        assert (landslide[fold == k].sum(), (~landslide[fold == k]).sum()) == (2, 2)


def test_polygons_in_one_place_cannot_be_split() -> None:
    xy = np.zeros((6, 2)) + np.arange(6)[:, None]
    with pytest.raises(DataError, match="draw some further away"):
        split_by_space(between(xy), np.arange(6) < 3, (60.0,), 5)
    far = np.array([[0, 0], [1, 0], [5000, 0], [9000, 0]], float)
    with pytest.raises(DataError, match="all of one class"):
        split_by_space(between(far), np.array([True, True, False, False]), (60.0,), 5)


def test_each_class_weighs_one_half_and_held_out_polygons_nothing() -> None:
    owner = np.full((2, SIDE_PX, SIDE_PX), UNDRAWN, np.int32)
    owner[0, 20:60, 20:60], owner[0, 70:73, 70:73], owner[1, 20:30, 20:30] = 0, 1, 2
    observed = np.ones(owner.shape, bool)
    observed[0, 20:25] = False
    ground = Ground(np.zeros((2, 1, SIDE_PX, SIDE_PX), np.float32), observed, owner, np.array([0, 2], np.int32))
    landslide = np.array([True, True, False])
    weight = pixel_weights(ground, landslide, np.ones(3, bool))
    assert weight[owner == 2].sum() == pytest.approx(0.5)
    assert weight[owner == 1].sum() == pytest.approx(0.5 * 3 / 43)
    assert (weight[~observed] == 0).all()
    assert (weight[owner == UNDRAWN] == 0).all()
    kept = np.array([False, True, True])
    assert (pixel_weights(ground, landslide, kept)[owner == 0] == 0).all()
    assert ground.scored[1].sum() == 100
    assert not ground.scored[0, 70:73, 70:73].any(), "a window scores its own polygon only"
