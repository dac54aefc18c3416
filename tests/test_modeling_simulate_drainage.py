"""Water runs downhill, out of every hollow, and none is lost."""

from __future__ import annotations

import numpy as np
import pytest

from modeling.errors import DataError
from modeling.simulate.drainage import Drainage, accumulate, climb, route
from modeling.simulate.noise import FloatArray, fractal, stream

CELL_M = 30.0
SHAPE = (40, 57)


def edge(shape: tuple[int, int]) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    border = np.ones(shape, bool)
    border[1:-1, 1:-1] = False
    return border


@pytest.fixture(scope="module")
def height() -> FloatArray:
    return 50 * fractal(stream(3, "hollows"), SHAPE, 30, 2)  # rough enough for many hollows


@pytest.fixture(scope="module")
def network(height: FloatArray) -> Drainage:
    return route(height, edge(SHAPE), CELL_M)


def test_every_cell_reaches_an_outlet_in_as_many_steps_as_said(network: Drainage) -> None:
    at = np.arange(network.receiver.size)
    steps = np.zeros(at.size, dtype=np.int64)
    for _ in range(at.size):
        below = network.receiver[at]
        if np.array_equal(below, at):
            break
        steps += below != at
        at = below
    assert edge(SHAPE).ravel()[at].all()
    assert np.array_equal(steps, network.depth)


def test_water_flows_down_the_steepest_way_but_out_of_pits(height: FloatArray, network: Drainage) -> None:
    flat = height.ravel()
    here = np.arange(flat.size)
    flows = network.receiver != here
    uphill = flows & (flat[network.receiver] >= flat)
    assert network.breached > 10
    assert uphill.sum() <= network.breached
    rows, cols = SHAPE
    for cell in np.flatnonzero(flows & ~uphill):
        y, x = divmod(int(cell), cols)
        best = max(
            (flat[cell] - height[y + dy, x + dx]) / np.hypot(dy, dx)
            for dy in (-1, 0, 1)
            for dx in (-1, 0, 1)
            if (dy or dx) and 0 <= y + dy < rows and 0 <= x + dx < cols
        )
        to_y, to_x = divmod(int(network.receiver[cell]), cols)
        away = np.hypot(to_y - y, to_x - x)
        if best <= 0:
            continue  # a pit that was joined to a lower cell beyond its pass
        assert (flat[cell] - flat[network.receiver[cell]]) / away == pytest.approx(best, rel=1e-4)
        assert network.distance_m[cell] == pytest.approx(CELL_M * away, rel=1e-5)


def test_a_bowl_drains_over_its_lowest_pass() -> None:
    height = np.full((7, 9), 10, np.float32)
    height[3, 2:6] = 1.0  # the bowl
    height[3, 6:8] = (4.0, 2.0)  # its pass, and the way out
    height[3, 8] = 0.0
    outlet = np.zeros((7, 9), bool)
    outlet[3, 8] = True
    network = route(height, outlet, 1.0)
    bowl = 3 * 9 + 3
    seen = [bowl]
    while network.receiver[seen[-1]] != seen[-1]:
        seen.append(int(network.receiver[seen[-1]]))
    assert seen[-1] == 3 * 9 + 8
    assert len(seen) == len(set(seen)) <= 7


def test_drained_area_sums_up(network: Drainage) -> None:
    each = stream(1, "rain").uniform(0.5, 2, network.receiver.size)
    drained = accumulate(network, each)
    roots = network.receiver == np.arange(each.size)
    assert drained[roots].sum() == pytest.approx(each.sum())
    into = np.zeros(each.size)
    np.add.at(into, network.receiver[~roots], drained[~roots])
    assert np.allclose(drained, each + into)


def test_heights_rise_from_the_outlet_by_the_rise_of_each_cell(network: Drainage) -> None:
    rng = stream(1, "rise")
    rise, base = rng.uniform(0, 3, network.receiver.size), rng.uniform(0, 9, network.receiver.size)
    height = climb(network, rise, base)
    roots = network.receiver == np.arange(rise.size)
    assert np.allclose(height[roots], base[roots])
    assert np.allclose((height - height[network.receiver])[~roots], rise[~roots])


def test_without_an_outlet_it_says_so() -> None:
    with pytest.raises(DataError, match="outlet"):
        route(np.zeros((4, 4), np.float32), np.zeros((4, 4), bool), 1.0)
