"""The classifier tells what differs, and does not tell what is alike."""

from __future__ import annotations

import numpy as np
import pytest

from modeling.errors import DataError
from modeling.realism.classifier import boosted_trees, logistic, tell_apart
from modeling.realism.patch_features import Patches


def patches(seed: int, shift: float = 0.0, spread: float = 1.0, tie: float = 0.0, count: int = 300) -> Patches:
    """Two features of one family and one of another: `shift` and `spread` of the first, `tie` of the two first."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((count, 3))
    values[:, 0] = values[:, 0] * spread + shift
    values[:, 1] += tie * values[:, 0]
    block = np.arange(count) // 10
    return Patches(("light: one", "light: two", "relief: three"), values, block, block % 5)


def test_what_is_alike_cannot_be_told() -> None:
    told = tell_apart("nothing", patches(1), patches(2), details=False)
    for found in (told.logistic, told.trees):
        assert 0.4 < found.value < 0.6
        assert found.low < found.value < found.high


def test_a_shift_is_told_and_its_feature_named() -> None:
    told = tell_apart("shift", patches(1, shift=1.5), patches(2))
    assert told.logistic.value > 0.8
    assert told.trees.value > 0.8
    best = max(told.feature, key=lambda name: abs(told.feature[name][0] - 0.5))
    assert best == "light: one"
    assert told.feature[best][0] > 0.8  # larger in the real ones
    assert told.family["light"] > 0.8 > 0.65 > told.family["relief"]


def test_too_regular_is_told_by_the_trees_alone() -> None:
    told = tell_apart("spread", patches(1, spread=3.0), patches(2, spread=0.3), details=False)
    assert told.trees.value > 0.85
    assert told.logistic.value < 0.65


def test_each_fold_has_as_many_of_both_kinds() -> None:
    assert tell_apart("more", patches(1), patches(2, count=900), details=False).simulated == 300


def test_without_a_region_for_a_strip_it_says_so() -> None:
    lone = patches(2)
    short = Patches(lone.names, lone.values, lone.block, np.zeros_like(lone.fold))
    with pytest.raises(DataError, match="raise --seeds"):
        tell_apart("x", patches(1), short)


@pytest.mark.parametrize("fit", [logistic, boosted_trees])
def test_a_fit_orders_new_values(fit: object) -> None:
    rng = np.random.default_rng(0)
    values, label = rng.standard_normal((400, 2)), np.zeros(400, np.int64)
    label[values[:, 0] > 0] = 1
    score = fit(values, label)(np.array([[-2.0, 0.0], [2.0, 0.0]]))  # type: ignore[operator]
    assert score[0] < 0 < score[1]
