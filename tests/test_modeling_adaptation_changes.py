"""modeling/adaptation/changes.py: where nobody has looked, the map stays as it was unless what changes is like what was drawn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from modeling.adaptation.changes import (
    Change,
    ChangeRule,
    classify,
    flips,
    likeness_of,
    merged,
    within_budget,
)
from modeling.adaptation.drawn import SIDE_PX, UNDRAWN, Ground
from modeling.data.normalise import Normalisation
from modeling.errors import DataError

SHAPE = (12, 14)
PROBABILITY = arrays.arrays(np.float32, SHAPE, elements=st.sampled_from([0.0, 0.2, 0.49, 0.5, 0.7, 1.0, np.nan]))
MASK = arrays.arrays(np.bool_, SHAPE)
FAR_TAKEN = (Change.ADDED_ALIKE, Change.REMOVED_ALIKE)
FAR_KEPT = (Change.KEPT_BACKGROUND, Change.KEPT_LANDSLIDE)


@given(PROBABILITY, PROBABILITY, MASK, MASK, st.booleans())
def test_no_class_flips_where_nobody_looked_unless_it_is_counted(
    first: np.ndarray, adapted: np.ndarray, looked: np.ndarray, alike: np.ndarray, allowed: bool
) -> None:
    seen = np.isfinite(first) & np.isfinite(adapted)
    codes, patches = classify(flips(first, adapted, 0.5), seen, looked, alike)
    codes = within_budget(codes, allowed)
    final = merged(first, adapted, codes)
    changed = seen & ((final >= 0.5) != (first >= 0.5))
    silent = changed & ~looked & ~np.isin(codes, FAR_TAKEN)
    assert not silent.any()
    assert allowed or not (changed & ~looked).any(), "beyond the budget nothing changes there"
    assert (np.isin(codes, FAR_TAKEN + FAR_KEPT) & looked).sum() == 0
    kept = np.isin(codes, FAR_KEPT)
    assert (final[kept] == first[kept]).all()
    assert (final[seen & ~kept] == adapted[seen & ~kept]).all()
    far = seen & ~looked & ((adapted >= 0.5) != (first >= 0.5))
    assert sum(patch.pixels for patch in patches) == far.sum()
    assert (codes[~seen] == Change.UNOBSERVED).all()


def test_a_patch_is_taken_whole_by_its_majority() -> None:
    flip = np.zeros(SHAPE, np.int8)
    flip[2:5, 2:5], flip[8:10, 8:11] = 1, -1
    alike = np.zeros(SHAPE, bool)
    alike[2:5, 2:4] = True  # six of nine
    alike[8, 8:11] = True  # three of six
    codes, patches = classify(flip, np.ones(SHAPE, bool), np.zeros(SHAPE, bool), alike)
    assert (codes[2:5, 2:5] == Change.ADDED_ALIKE).all()
    assert (codes[8:10, 8:11] == Change.KEPT_LANDSLIDE).all()
    assert [(p.added, p.alike, p.pixels, p.row, p.column) for p in patches] == [
        (True, True, 9, 3.5, 3.5),
        (False, False, 6, 9.0, 9.5),
    ]


def test_the_budget_is_a_share_of_the_landslides_there_or_of_the_ground() -> None:
    rule = ChangeRule(budget=0.25, least_budget=0.001)
    assert rule.allows(25, 100, 10_000)
    assert not rule.allows(26, 100, 10_000)
    assert rule.allows(100, 0, 100_000), "where there was none, a thousandth of the ground"
    assert not ChangeRule(budget=0, least_budget=0).allows(1, 100, 100)
    for wrong in (-1.0, float("nan"), float("inf")):
        with pytest.raises(DataError, match=rf"--reach {wrong:g} cannot be: give a finite number"):
            ChangeRule(reach_m=wrong)
        with pytest.raises(DataError, match=rf"--budget {wrong:g} cannot be"):
            ChangeRule(budget=wrong)
    with pytest.raises(DataError, match="alike: 1 cannot be"):
        ChangeRule(alike=1.0)


def painted(values: list[float], landslide: list[bool]) -> tuple[Ground, np.ndarray]:
    """One window a polygon, of one value each with a little noise."""
    count = len(values)
    channels = np.random.default_rng(0).normal(0, 0.02, (count, 1, SIDE_PX, SIDE_PX)).astype(np.float32)
    channels += np.asarray(values, np.float32)[:, None, None, None]
    owner = np.full((count, SIDE_PX, SIDE_PX), UNDRAWN, np.int32)
    owner[:, 40:56, 40:56] = np.arange(count)[:, None, None]
    return Ground(channels, np.ones(owner.shape, bool), owner, np.arange(count, dtype=np.int32)), np.asarray(landslide)


PLAIN = Normalisation("standardise", (0.0,), (1.0,), (0.0,), (-9.0, 9.0))


def test_alike_is_what_lies_as_near_as_drawn_polygons_to_each_other() -> None:
    ground, landslide = painted([1.0, 1.05, 1.1, 0.0, 0.05, 0.1], [True] * 3 + [False] * 3)
    likeness = likeness_of(ground, landslide, np.arange(6), PLAIN, ChangeRule())
    values = np.array([[1.04], [0.04], [5.0], [0.55]], np.float32)
    assert likeness.like(values, np.array([True, True, True, True])).tolist() == [True, False, False, False]
    assert likeness.like(values, np.array([False] * 4)).tolist() == [False, True, False, False]


def test_one_group_of_a_class_says_nothing_of_its_variety() -> None:
    ground, landslide = painted([1.0, 1.05, 0.0, 0.05], [True, True, False, False])
    likeness = likeness_of(ground, landslide, np.array([0, 0, 1, 2]), PLAIN, ChangeRule())
    assert not likeness.like(np.array([[1.0]], np.float32), np.array([True])).any()
    assert likeness.like(np.array([[0.02]], np.float32), np.array([False])).all()
