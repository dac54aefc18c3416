"""ShakeMap grids of both versions, hostile XML, and the ground that was shaken hard enough."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import shapely
from fakes.shakemaps import LAT, LON, MMI, cone, grid_xml
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.errors import EventError
from flows.shakemap import grid_polygon, read_grid_xml
from flows.sphere import area_km2


@pytest.mark.parametrize("version", [3, 4])
def test_columns_are_read_by_name_whatever_their_order(version: int) -> None:
    grid = read_grid_xml(grid_xml(LON, LAT, MMI, version).encode())
    assert (grid.event_id, grid.version, grid.map_status) == ("us1", "7", "RELEASED")
    np.testing.assert_allclose(grid.mmi, MMI, atol=1e-4)
    np.testing.assert_allclose(grid.lon, LON)
    np.testing.assert_allclose(grid.lat, LAT)
    assert {name: unit for name, (unit, _) in grid.fields.items()} == {"MMI": "intensity", "PGA": "%g", "PGV": "cm/s"}
    assert grid.fields["PGA"][1].shape == (41, 41)
    assert grid.maximum_mmi == pytest.approx(8.0, abs=1e-3)


def test_rows_from_the_south_are_turned_to_north_up() -> None:
    grid = read_grid_xml(grid_xml(LON, LAT[::-1], MMI[::-1] + np.arange(41)[:, None] * 0.01).encode())
    assert grid.lat[0] > grid.lat[-1]
    np.testing.assert_allclose(grid.mmi, MMI + np.arange(41)[::-1, None] * 0.01, atol=1e-3)


def test_the_shaken_ground_is_interpolated_between_grid_points() -> None:
    grid = read_grid_xml(grid_xml(LON, LAT, MMI).encode())
    polygon = grid_polygon(grid, 6.0)
    # The cone falls by 4 a degree: MMI 6 is a circle of half a degree.
    assert polygon.area == pytest.approx(math.pi * 0.25, rel=0.01)
    assert polygon.centroid.distance(shapely.Point(141, 42)) < 1e-3
    assert not grid.reaches_edge(6.0)
    assert grid_polygon(grid, 8.5).is_empty


def test_ground_that_leaves_the_map_is_closed_by_its_edge() -> None:
    grid = read_grid_xml(grid_xml(LON, LAT, cone(LON, LAT, 140.0, 42.0)).encode())
    assert grid_polygon(grid, 6.0).area == pytest.approx(math.pi * 0.125, rel=0.02)
    assert grid.reaches_edge(6.0)
    everywhere = grid_polygon(grid, 0.5)
    assert everywhere.equals(shapely.box(140, 41, 142, 43))


def test_holes_and_islands_are_kept() -> None:
    mmi = np.full((41, 41), 5.0)
    mmi[5:20, 5:20] = 7.0
    mmi[10:15, 10:15] = 4.0
    mmi[30:35, 30:35] = 7.0
    polygon = grid_polygon(read_grid_xml(grid_xml(LON, LAT, mmi).encode()), 6.0)
    assert isinstance(polygon, shapely.MultiPolygon)
    assert sum(len(part.interiors) for part in polygon.geoms) == 1


def test_a_map_across_the_antimeridian_is_split_there() -> None:
    lon = np.linspace(179.0, 181.0, 41)
    polygon = grid_polygon(read_grid_xml(grid_xml(lon, LAT, cone(lon, LAT, 180.0, 42.0)).encode()), 6.0)
    assert isinstance(polygon, shapely.MultiPolygon)
    assert polygon.bounds[0] == -180
    assert polygon.bounds[2] == 180
    here = grid_polygon(read_grid_xml(grid_xml(LON, LAT, MMI).encode()), 6.0)
    assert area_km2(polygon) == pytest.approx(area_km2(here), rel=1e-3)


def test_values_that_are_not_known_are_not_shaken() -> None:
    mmi = MMI.copy()
    mmi[:, :20] = np.nan
    grid = read_grid_xml(grid_xml(LON, LAT, mmi).encode())
    assert np.isnan(grid.mmi).sum() == 41 * 20
    assert grid_polygon(grid, 6.0).area == pytest.approx(math.pi * 0.125, rel=0.05)


BOMB = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>'


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        (lambda t: t[:-30], "not XML"),
        (lambda t: "", "not XML"),
        (lambda t: BOMB + t.split("?>", 1)[1].replace("<grid_data>", "<grid_data>&b;"), "not XML"),
        (lambda t: t.replace('?>', '?><!DOCTYPE x SYSTEM "file:///etc/passwd">', 1), "not XML"),
        (lambda t: "<html/>", "root element <html>"),
        (lambda t: t.replace("grid_specification", "other"), "no <grid_specification>"),
        (lambda t: t.replace("grid_data>", "data>"), "no <grid_data>"),
        (lambda t: t.replace('name="MMI"', 'name="XYZ"'), "no column MMI"),
        (lambda t: t.replace('name="PGV"', 'name="PGA"'), "a name of its own"),
        (lambda t: t.replace('index="3"', 'index="9"'), "not numbered from 1"),
        (lambda t: t.replace('index="3"', 'index="-3"'), "with the index '-3'"),
        (lambda t: t.replace('nlon="41"', 'nlon="40"'), "declares 1640 points of 5 columns and holds 1681"),
        (lambda t: t.replace('nlon="41"', 'nlon="9999999999"'), "nlon is '9999999999'"),
        (lambda t: t.replace('nlon="41"', 'nlon="9999"').replace('nlat="41"', 'nlat="9999"'), "more than are read"),
        (lambda t: t.replace('nlat="41"', ""), "nlat is ''"),
        (lambda t: t.replace("141.0000", "abc", 1), "not a table of numbers"),
        (lambda t: t.replace("141.0000 42.0000 ", "141.0000 ", 1), "not a table of numbers"),
        (lambda t: t.replace("140.0000 43.0000", "nan nan", 1), "not evenly spaced"),
        (lambda t: t.replace("141.0000 42.0000", "nan nan", 1), "regular grid"),
        (lambda t: t.replace("141.0000 42.0000", "151.0000 42.0000", 1), "regular grid"),
        (lambda t: t.replace("8.0000", "inf"), "infinite"),
        (lambda t: t.replace("8.0000", "99"), "MMI runs from"),
        (lambda t: t.replace("intensity", "pctg"), "MMI has the unit '%g'"),
        (lambda t: t.split("<grid_data>")[0] + "<grid_data> </grid_data></shakemap_grid>", "is empty"),
    ],
)  # fmt: skip
def test_a_malformed_grid_is_refused_with_the_fact(change: Any, fact: str) -> None:
    with pytest.raises(EventError, match=fact):
        read_grid_xml(change(grid_xml(LON, LAT, MMI)).encode())


@settings(max_examples=40)
@given(st.binary(max_size=300), st.integers(0, 2000))
def test_damage_anywhere_is_an_error_of_the_event_or_harmless(junk: bytes, where: int) -> None:
    whole = grid_xml(LON[:3], LAT[:3], MMI[:3, :3]).encode()
    try:
        grid = read_grid_xml(whole[:where] + junk + whole[where + len(junk) :])
    except EventError:
        return
    assert grid.mmi.shape == (3, 3)


def test_both_versions_of_a_real_shakemap_agree(shared_data: Any) -> None:
    folder = shared_data / "shakemap"
    old, new = (read_grid_xml((folder / f"shakemap{v}.xml").read_bytes()) for v in (3, 4))
    assert old.event_id == new.event_id == "us1000dyad"
    assert (old.version, new.version) == ("6", "1")
    assert old.mmi.shape == new.mmi.shape == (211, 271)
    np.testing.assert_allclose(old.lon, new.lon, atol=1e-3)
    assert {k: v[0] for k, v in old.fields.items() if k in new.fields} == {k: v[0] for k, v in new.fields.items()}
    assert float(np.corrcoef(old.mmi.ravel(), new.mmi.ravel())[0, 1]) > 0.98
    first, second = grid_polygon(old, 6.0), grid_polygon(new, 6.0)
    overlap = first.intersection(second).area / first.union(second).area
    assert overlap > 0.75
    assert area_km2(first) == pytest.approx(area_km2(second), rel=0.15)
