"""Land cover is where it can be, and everything that is no landslide but looks like one is there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from modeling.simulate import domain
from modeling.simulate.landcover import (
    BROADLEAF,
    CLASSES,
    CONIFER,
    CROP,
    GRAVEL,
    OPEN,
    ROCK,
    TOWN,
    WATER,
    Cover,
    make_cover,
)
from modeling.simulate.terrain import Terrain, make_terrain

SHAPE = (220, 240)
BUSY = replace(
    domain("iburi"), conifer_share=0.3, rock_share=0.05, town_share=0.1, clearcut_share=0.04, burnt_share=0.05,
    old_scar_share=0.03, road_km=40.0, sites=1500.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def terrain() -> Terrain:
    return make_terrain(BUSY, 4, SHAPE, 10.0)


@pytest.fixture(scope="module")
def cover(terrain: Terrain) -> Cover:
    return make_cover(BUSY, 4, terrain, 10.0)


def test_codes_are_those_that_have_names(cover: Cover) -> None:
    assert cover.classes.dtype == np.uint8
    assert cover.classes.shape == SHAPE
    assert set(np.unique(cover.classes)) == set(range(len(CLASSES)))
    assert len({BROADLEAF, CONIFER, OPEN, CROP, ROCK, TOWN, WATER, GRAVEL}) == len(CLASSES)


def test_fields_and_towns_lie_on_flat_ground_and_rock_on_steep(cover: Cover, terrain: Terrain) -> None:
    for code in (CROP, TOWN):
        assert terrain.slope_deg[cover.classes == code].max() < 9
    woods = np.isin(cover.classes, (BROADLEAF, CONIFER))
    assert terrain.slope_deg[cover.classes == ROCK].mean() > terrain.slope_deg[woods].mean()
    assert (cover.classes == CONIFER).sum() / woods.sum() == pytest.approx(0.3, abs=0.12)


def test_the_river_lies_in_the_valley_and_gravel_beside_it(cover: Cover, terrain: Terrain) -> None:
    river = np.isin(cover.classes, (WATER, GRAVEL))
    assert 0.001 < river.mean() < 0.1
    assert np.median(terrain.above_valley_m[river]) < 3
    assert np.median(terrain.channel_area_m2[cover.classes == WATER]) > 1e6


def test_changes_happen_where_they_can(cover: Cover) -> None:
    woods = np.isin(cover.classes, (BROADLEAF, CONIFER, OPEN))
    assert not cover.harvested[cover.classes != CROP].any()
    assert not cover.felled[~woods].any()
    assert not cover.burnt[~woods].any()
    assert not cover.opened[cover.classes == WATER].any()
    assert not cover.flooded[~np.isin(cover.classes, (WATER, GRAVEL))].any()
    for change in (cover.harvested, cover.felled, cover.burnt, cover.opened, cover.old_scar):
        assert change.any()
        assert 0 <= change.min() <= change.max() <= 1
    assert np.abs(cover.flooded).max() <= 1


def test_changes_cover_about_what_is_asked(cover: Cover, terrain: Terrain) -> None:
    felled = np.mean([(make_cover(BUSY, seed, terrain, 10.0).felled > 0).mean() for seed in range(4)])
    assert 0.01 < felled < 0.06
    assert 0.02 < (cover.burnt > 0.1).mean() < 0.06


def test_without_a_cause_there_is_no_change(terrain: Terrain) -> None:
    quiet = replace(BUSY, clearcut_share=0.0, burnt_share=0.0, old_scar_share=0.0, road_km=0.0, sites=0.0)
    cover = make_cover(quiet, 4, terrain, 10.0)
    for change in (cover.felled, cover.opened, cover.old_scar):
        assert not change.any()
    assert (cover.burnt > 0.1).mean() < 0.001


def test_above_the_tree_line_grows_no_forest(terrain: Terrain) -> None:
    line = float(np.quantile(terrain.elevation_m, 0.5))
    cover = make_cover(replace(BUSY, tree_line=line), 4, terrain, 10.0)
    high = terrain.elevation_m > np.quantile(terrain.elevation_m, 0.9)
    forest = np.isin(cover.classes, (BROADLEAF, CONIFER))
    assert forest[high].mean() < 0.25 * forest.mean()


def test_the_seed_decides(cover: Cover, terrain: Terrain) -> None:
    assert np.array_equal(cover.classes, make_cover(BUSY, 4, terrain, 10.0).classes)
    assert not np.array_equal(cover.classes, make_cover(BUSY, 5, terrain, 10.0).classes)
