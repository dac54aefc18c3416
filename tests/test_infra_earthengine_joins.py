"""Collections: filters with nulls, joins of every kind, links, order, and what a client may do with the elements."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import ee
import numpy as np
import pytest
from fakes.catalogue import CatalogueWriter
from fakes.earthengine import earth_engine, pixels, values

from gee.types import Grid

GRID = Grid("EPSG:32654", (10.0, 0.0, 500_000.0, 0.0, -10.0, 4_700_000.0), (6, 8))
DAY = 86_400_000


@pytest.fixture(scope="module", autouse=True)
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("catalogue")
    write = CatalogueWriter(root)
    for i, orbit in enumerate((7, 7, None, 9, 7)):
        bands = {"B2": np.full(GRID.shape_yx, i + 1, np.uint16), "B3": np.full(GRID.shape_yx, 10, np.uint16)}
        properties = {} if orbit is None else {"orbit": orbit}
        write.image(f"S2/i{i}", bands, GRID, dt.datetime(2018, 9, 1 + i, tzinfo=dt.UTC), properties)
    for i in (1, 3):
        time = dt.datetime(2018, 9, 1 + i, 6, tzinfo=dt.UTC)
        cloud = {"cs": np.full(GRID.shape_yx, i / 10, np.float32), "B3": np.full(GRID.shape_yx, 99, np.float32)}
        write.image(f"CLOUD/i{i}", cloud, GRID, time, {"note": f"n{i}"})
    with earth_engine(root, tmp_path_factory.mktemp("state")) as url:
        yield url


def images() -> Any:
    return ee.ImageCollection("S2")


def clouds() -> Any:
    return ee.ImageCollection("CLOUD")


def indices(found: Any) -> list[str]:
    return list(ee.ImageCollection(found).aggregate_array("system:index").getInfo())


SAME = {"leftField": "system:index", "rightField": "system:index"}


def near(days: float) -> Any:
    return ee.Filter.maxDifference(days * DAY, leftField="system:time_start", rightField="system:time_start")


def test_simple_and_inverted_joins() -> None:
    same = ee.Filter.equals(**SAME)
    assert indices(ee.Join.simple().apply(images(), clouds(), same)) == ["i1", "i3"]
    assert indices(ee.Join.inverted().apply(images(), clouds(), same)) == ["i0", "i2", "i4"]


def test_save_first_best_and_all() -> None:
    first = ee.Join.saveFirst("match", "system:time_start", False).apply(images(), clouds(), near(2))
    picked = [
        ee.Image(ee.Image(first.toList(9).get(i)).get("match")).get("note").getInfo()
        for i in range(first.size().getInfo())
    ]
    assert picked == ["n1", "n1", "n3", "n3", "n3"]
    best = ee.Join.saveBest("match", "apart").apply(images(), clouds(), near(2))
    measures = [
        ee.Image(ee.Image(best.toList(9).get(i)).get("match")).get("apart").getInfo() / DAY
        for i in range(best.size().getInfo())
    ]
    assert measures == [1.25, 0.25, 0.75, 0.25, 0.75]
    every = ee.Join.saveAll("all", "system:time_start", True, "apart", True).apply(images(), clouds(), near(0.5))
    sizes = every.map(lambda i: ee.Feature(None, {"n": ee.List(i.get("all")).size()})).aggregate_array("n")
    assert sizes.getInfo() == [0, 1, 0, 1, 0], "outer keeps what has no match"
    assert indices(ee.Join.saveAll("all").apply(images(), clouds(), near(0.5))) == ["i1", "i3"]
    with pytest.raises(ee.EEException, match="does not measure"):
        ee.Join.saveBest("m", "d").apply(images(), clouds(), ee.Filter.equals(**SAME)).size().getInfo()


def test_inner_joins_pair_and_measure() -> None:
    pairs = ee.Join.inner("left", "right", "apart").apply(images(), clouds(), near(1))
    found = pairs.map(
        lambda p: ee.Feature(
            None,
            {
                "l": ee.Image(p.get("left")).get("system:index"),
                "r": ee.Image(p.get("right")).get("system:index"),
                "d": ee.Number(p.get("apart")).divide(DAY),
            },
        )
    )
    rows = [f["properties"] for f in found.getInfo()["features"]]
    assert [(r["l"], r["r"], r["d"]) for r in rows] == [
        ("i1", "i1", 0.25), ("i2", "i1", 0.75), ("i3", "i3", 0.25), ("i4", "i3", 0.75),
    ]  # fmt: skip


def test_linked_bands_and_properties_replace_those_of_the_same_name() -> None:
    linked = images().linkCollection(clouds(), ["cs", "B3"], ["note"])
    assert linked.first().bandNames().getInfo() == ["B2", "B3", "cs"]
    second, third = (ee.Image(linked.toList(9).get(i)) for i in (1, 2))
    assert set(pixels(second, GRID)["B3"].ravel()) == {99}
    assert np.isnan(values(third.select("B3"), GRID)).all(), "masked where nothing is linked"
    assert (second.get("note").getInfo(), third.get("note").getInfo()) == ("n1", None)
    by_orbit = ee.Image("S2/i4").linkCollection(images().limit(2), ["B2"], None, "orbit")
    assert set(pixels(by_orbit, GRID)["B2"].ravel()) <= {1, 2}


def test_the_order_is_stable_and_nulls_come_last() -> None:
    assert indices(images().sort("orbit")) == ["i0", "i1", "i4", "i3", "i2"]
    assert indices(images().sort("orbit", False)) == ["i3", "i0", "i1", "i4", "i2"]
    assert indices(images().limit(2, "system:time_start", False)) == ["i4", "i3"]
    assert indices(images().distinct(["orbit"])) == ["i0", "i2", "i3"]


@pytest.mark.parametrize(
    ("condition", "wanted"),
    [
        (lambda: ee.Filter.eq("orbit", 7), "014"), (lambda: ee.Filter.neq("orbit", 7), "23"),
        (lambda: ee.Filter.notNull(["orbit"]).Not(), "2"), (lambda: ee.Filter.inList("orbit", [9, 8]), "3"),
        (lambda: ee.Filter.inList("system:index", ["i0", "i4"]).Not(), "123"),
        (lambda: ee.Filter.rangeContains("orbit", 8, 9), "3"), (lambda: ee.Filter.date("2018-09-02", "2018-09-04"), "12"),
        (lambda: ee.Filter.date("2018-09-03"), "2"), (lambda: ee.Filter.calendarRange(9, 9, "month"), "01234"),
        (lambda: ee.Filter.bounds(ee.Geometry.Point([141.0005, 42.4521])), "01234"),
        (lambda: ee.Filter.bounds(ee.Geometry.Point([140.9, 42.45])), ""),
        (lambda: ee.Filter.stringEndsWith("system:index", "3"), "3"),
        (lambda: ee.Filter.And(ee.Filter.gt("orbit", 1), ee.Filter.lt("orbit", 8)), "014"),
        (lambda: ee.Filter.Or(ee.Filter.eq("orbit", 9), ee.Filter.eq("system:index", "i2")), "23"),
        (lambda: ee.Filter.listContains(leftValue=["i1", "i3"], rightField="system:index"), "13"),
    ],
)  # fmt: skip
def test_filters(condition: Any, wanted: str) -> None:
    assert indices(images().filter(condition())) == [f"i{c}" for c in wanted]


def test_nulls_are_dropped_when_asked() -> None:
    kept = images().map(lambda i: ee.Algorithms.If(ee.Number(i.get("orbit")), i, None), True)
    assert indices(kept) == ["i0", "i1", "i3", "i4"]
    assert ee.List([1, 2, 3]).map(lambda n: ee.Algorithms.If(ee.Number(n).mod(2), n, None), True).getInfo() == [1, 3]
    merged = clouds().merge(images().limit(1))
    assert indices(merged) == ["1_i1", "1_i3", "2_i0"]
    stats = images().aggregate_stats("orbit").getInfo()
    assert (stats["total_count"], stats["valid_count"], stats["mean"]) == (5, 4, 7.5)
    newest = images().iterate(lambda i, best: ee.Number(best).max(ee.Number(i.get("system:time_start"))), 0)
    assert newest.getInfo() == dt.datetime(2018, 9, 5, tzinfo=dt.UTC).timestamp() * 1000
