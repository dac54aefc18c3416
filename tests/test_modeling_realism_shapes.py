"""Area, elongation, compactness and clustering of shapes whose answers are known."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from modeling.realism.polygons import RINGS_M, real_noto
from modeling.realism.shapes import pair_correlation, shapes


def test_a_rectangle_and_a_disc() -> None:
    label = np.zeros((120, 120), np.int32)
    label[10:20, 10:70] = 1
    y, x = np.mgrid[:120, :120]
    label[np.hypot(y - 80, x - 60) < 20.5] = 2
    found = shapes(label, 10.0)
    assert found["area"][0] == pytest.approx(math.log10(600 * 100))
    assert 10 ** found["elongation"] == pytest.approx([6.0, 1.0], rel=1e-2)
    assert found["compactness"][1] == pytest.approx(1, abs=0.08)
    assert found["compactness"][0] < 0.75


def test_turning_a_shape_changes_little() -> None:
    y, x = np.mgrid[:200, :200] - 100.0
    for degrees in (0, 17, 45, 80):
        a, b = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        inside = (np.abs(a * x + b * y) < 40) & (np.abs(-b * x + a * y) < 10)
        found = shapes(inside.astype(np.int32), 10.0)
        assert 10 ** found["elongation"][0] == pytest.approx(4, rel=0.06)
        assert found["compactness"][0] == pytest.approx(0.63, abs=0.22)


def test_touching_shapes_are_apart() -> None:
    label = np.zeros((20, 20), np.int32)
    label[5:10, 5:10], label[5:10, 10:15] = 1, 2
    one, two = shapes(label, 10.0)["compactness"]
    assert one == two > 0.9


def test_even_points_do_not_cluster_and_gathered_ones_do() -> None:
    rng = np.random.default_rng(0)
    everywhere = rng.uniform(0, 8000, (3000, 2))
    even = rng.uniform(0, 8000, (400, 2))
    middles = rng.uniform(1000, 7000, (20, 2))
    gathered = (middles[:, None] + rng.normal(0, 80, (20, 20, 2))).reshape(-1, 2)
    assert pair_correlation(even, everywhere, RINGS_M) == pytest.approx(np.ones(5), abs=0.35)
    found = pair_correlation(gathered, everywhere, RINGS_M)
    assert found[0] > 10
    assert found[-1] < 2


def test_noto_as_it_is(shared_data: Path) -> None:
    real = real_noto(shared_data / "noto2024")
    assert real.polygons == 2334
    assert 1400 < len(real.block) < 1700
    assert 2000 < 10 ** np.median(real.shape["area"]) < 3000
    assert np.median(real.clustering[:, 0]) > 2  # landslides come in groups
