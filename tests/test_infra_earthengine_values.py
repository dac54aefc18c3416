"""Values that are not pixels: collections, filters, dates, lists, reductions of properties, geometries, and errors."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import ee
import numpy as np
import pytest
import shapely
from fakes.catalogue import CatalogueWriter
from fakes.earthengine import earth_engine
from pyproj import Geod
from shapely.geometry import shape

from gee.types import Grid

GRID = Grid("EPSG:32654", (10.0, 0.0, 500_000.0, 0.0, -10.0, 4_700_000.0), (20, 30))
COLLECTION = "COPERNICUS/S2_HARMONIZED"
CLOUDS = (12.5, 80.0, None, 3.0)


@pytest.fixture(scope="module", autouse=True)
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("catalogue")
    write = CatalogueWriter(root)
    for i, cloud in enumerate(CLOUDS):
        east = Grid(GRID.crs, (10.0, 0.0, 500_000.0 + 5_000 * i, 0.0, -10.0, 4_700_000.0), GRID.shape_yx)
        bands = {"B2": np.full(GRID.shape_yx, i + 1, np.uint16), "B3": np.full(GRID.shape_yx, 10 * i, np.uint16)}
        properties = {"tile": f"54T{'WX'[i % 2]}N", **({} if cloud is None else {"CLOUDY_PIXEL_PERCENTAGE": cloud})}
        write.image(f"{COLLECTION}/i{i}", bands, east, dt.datetime(2018, 9, 3 + i, 1, 2, 3, tzinfo=dt.UTC), properties)
    write.collection("EMPTY/COLLECTION", {"title": "nothing yet"})
    rows, cols = np.mgrid[:20, :30]
    write.image(
        "ramp", {"a": (rows * 30 + cols).astype(np.int16), "b": (cols % 3).astype(np.int16)}, GRID, masked=False
    )
    with earth_engine(root, tmp_path_factory.mktemp("state")) as url:
        yield url


def collection() -> Any:
    return ee.ImageCollection(COLLECTION)


def indices(found: Any) -> list[str]:
    return list(found.aggregate_array("system:index").getInfo())


def test_an_image_is_described() -> None:
    info = ee.Image(f"{COLLECTION}/i0").getInfo()
    assert info["id"] == f"{COLLECTION}/i0"
    assert info["bands"][0] == {
        "id": "B2",
        "data_type": {"type": "PixelType", "precision": "int", "min": 0, "max": 65535},
        "dimensions": [30, 20],
        "crs": "EPSG:32654",
        "crs_transform": [10.0, 0.0, 500_000.0, 0.0, -10.0, 4_700_000.0],
    }
    properties = info["properties"]
    assert properties["system:time_start"] == 1535936523000
    assert (properties["system:index"], properties["CLOUDY_PIXEL_PERCENTAGE"]) == ("i0", 12.5)
    assert shape(properties["system:footprint"]).contains(shapely.Point(141.001, 42.4515))


def test_a_collection_comes_in_the_order_of_time() -> None:
    assert indices(collection()) == ["i0", "i1", "i2", "i3"]
    assert collection().size().getInfo() == 4
    assert collection().first().get("tile").getInfo() == "54TWN"
    assert [e["id"] for e in collection().getInfo()["features"]] == [f"{COLLECTION}/i{i}" for i in range(4)]
    assert ee.ImageCollection("EMPTY/COLLECTION").size().getInfo() == 0
    assert ee.ImageCollection("EMPTY/COLLECTION").first().getInfo() is None


def point(metres_east: float) -> Any:
    return ee.Geometry.Point([500_100 + metres_east, 4_699_900], "EPSG:32654")


@pytest.mark.parametrize(
    ("narrow", "wanted"),
    [
        (lambda c: c.filterDate("2018-09-04", "2018-09-06"), ["i1", "i2"]),
        (lambda c: c.filterDate("2018-09-03T01:02:03", "2018-09-04T01:02:03"), ["i0"]),
        (lambda c: c.filterBounds(point(5_000)), ["i1"]),
        (lambda c: c.filterBounds(ee.Geometry.Rectangle([141.05, 42.4, 141.2, 42.5])), ["i1", "i2", "i3"]),
        (lambda c: c.filterBounds(ee.Geometry.Point([0, 0])), []),
        (lambda c: c.filter(ee.Filter.lt("CLOUDY_PIXEL_PERCENTAGE", 50)), ["i0", "i3"]),
        # The client sends lte as "not greater than", which an image without the property is.
        (lambda c: c.filter(ee.Filter.lte("CLOUDY_PIXEL_PERCENTAGE", 12.5)), ["i0", "i2", "i3"]),
        (lambda c: c.filter(ee.Filter.gt("CLOUDY_PIXEL_PERCENTAGE", 12.5)), ["i1"]),
        (lambda c: c.filter(ee.Filter.gte("CLOUDY_PIXEL_PERCENTAGE", 12.5)), ["i0", "i1", "i2"]),
        (lambda c: c.filter(ee.Filter.eq("tile", "54TXN")), ["i1", "i3"]),
        (lambda c: c.filter(ee.Filter.neq("tile", "54TXN")), ["i0", "i2"]),
        (lambda c: c.filter(ee.Filter.inList("system:index", ["i3", "i0", "nope"])), ["i0", "i3"]),
        (lambda c: c.filter(ee.Filter.notNull(["CLOUDY_PIXEL_PERCENTAGE"])), ["i0", "i1", "i3"]),
        (lambda c: c.filter(ee.Filter.lt("CLOUDY_PIXEL_PERCENTAGE", 50).Not()), ["i1", "i2"]),
        (lambda c: c.filter(ee.Filter.And(ee.Filter.eq("tile", "54TXN"), ee.Filter.gt("CLOUDY_PIXEL_PERCENTAGE", 5))), ["i1"]),
        (lambda c: c.filter(ee.Filter.Or(ee.Filter.eq("system:index", "i0"), ee.Filter.eq("system:index", "i2"))), ["i0", "i2"]),
        (lambda c: c.filter(ee.Filter.stringContains("tile", "W")), ["i0", "i2"]),
        (lambda c: c.filter(ee.Filter.calendarRange(5, 6, "day_of_month")), ["i2", "i3"]),
        (lambda c: c.filter(ee.Filter.dayOfYear(246, 247)), ["i0"]),
        (lambda c: c.filter(ee.Filter.date(ee.Date("2018-09-05").getRange("day"))), ["i2"]),
        (lambda c: c.sort("CLOUDY_PIXEL_PERCENTAGE"), ["i3", "i0", "i1", "i2"]),
        (lambda c: c.sort("system:time_start", False), ["i3", "i2", "i1", "i0"]),
        (lambda c: c.limit(2), ["i0", "i1"]),
        (lambda c: c.limit(1, "system:time_start", False), ["i3"]),
        (lambda c: c.map(lambda i: i.select("B2").divide(10)), ["i0", "i1", "i2", "i3"]),
        (lambda c: c.merge(c.limit(1)), ["1_i0", "1_i1", "1_i2", "1_i3", "2_i0"]),
        (lambda c: ee.ImageCollection(c.toList(2, 1)), ["0", "1"]),
        (lambda c: c.distinct("tile"), ["i0", "i1"]),
    ],
)  # fmt: skip
def test_choosing_from_a_collection(narrow: Any, wanted: list[str]) -> None:
    assert indices(narrow(collection())) == wanted


def test_properties_are_reduced_together() -> None:
    columns = collection().reduceColumns(ee.Reducer.toList().repeat(2), ["system:index", "tile"]).getInfo()
    assert columns == {"list": [["i0", "i1", "i2", "i3"], ["54TWN", "54TXN", "54TWN", "54TXN"]]}
    rows = collection().reduceColumns(ee.Reducer.toList(2), ["system:index", "CLOUDY_PIXEL_PERCENTAGE"]).getInfo()
    assert rows == {"list": [["i0", 12.5], ["i1", 80.0], ["i3", 3.0]]}
    assert collection().aggregate_mean("CLOUDY_PIXEL_PERCENTAGE").getInfo() == pytest.approx(95.5 / 3)
    assert collection().aggregate_max("system:time_start").getInfo() == 1536195723000
    assert collection().aggregate_histogram("tile").getInfo() == {"54TWN": 2, "54TXN": 2}
    assert collection().aggregate_count_distinct("tile").getInfo() == 2
    counted = collection().iterate(lambda i, total: ee.Number(total).add(ee.Number(i.get("system:time_start"))), 0)
    assert counted.getInfo() == sum(1535936523000 + day * 86_400_000 for day in range(4))


def test_properties_are_set_and_copied() -> None:
    image = ee.Image(f"{COLLECTION}/i0")
    changed = image.divide(2).copyProperties(image, ["system:time_start", "tile"]).set("mine", [1, 2])
    assert changed.toDictionary().getInfo() == {"tile": "54TWN", "mine": [1, 2]}
    assert ee.Image(changed).date().format("YYYY-MM-dd HH:mm").getInfo() == "2018-09-03 01:02"
    assert image.divide(2).propertyNames().contains("tile").getInfo() is False
    assert image.metadata("CLOUDY_PIXEL_PERCENTAGE").reduceRegion(ee.Reducer.first(), point(0), 10).getInfo() == {
        "CLOUDY_PIXEL_PERCENTAGE": 12.5
    }


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (lambda: ee.Date("2018-09-06").millis(), 1536192000000),
        (lambda: ee.Date("2018-03-31").advance(-1, "month").format("YYYY-MM-dd"), "2018-02-28"),
        (lambda: ee.Date("2018-09-06").difference("2018-09-01", "day"), 5),
        (lambda: ee.Date("2018-09-06T12:00").getRelative("day", "year"), 248),
        (lambda: ee.Date("2018-09-06").getRange("month").end().format("YYYY-MM-dd"), "2018-10-01"),
        (lambda: ee.Date.fromYMD(2018, 2, 3).get("month"), 2),
        (lambda: ee.DateRange("2018-01-01", "2018-02-01").contains("2018-02-01"), False),
        (lambda: ee.Number(7).mod(4).add(0.5), 3.5),
        (lambda: ee.Number(7).divide(2).floor(), 3),
        (lambda: ee.Number(3.14159).format("%.2f"), "3.14"),
        (lambda: ee.Number.parse("12"), 12),
        (lambda: ee.List.sequence(1, 10, 3), [1, 4, 7, 10]),
        (lambda: ee.List([3, 1, 2]).sort(), [1, 2, 3]),
        (lambda: ee.List([1, [2, [3]]]).flatten(), [1, 2, 3]),
        (lambda: ee.List([1, 2, 3]).map(lambda n: ee.Number(n).multiply(2)), [2, 4, 6]),
        (lambda: ee.List([1, 2, 3, 4]).reduce(ee.Reducer.median()), 2.5),
        (lambda: ee.List([1, 2, 2]).reduce(ee.Reducer.frequencyHistogram()), {"1": 1, "2": 2}),
        (lambda: ee.List([1, 2, 3]).slice(-2), [2, 3]),
        (lambda: ee.List([1, 2]).zip([3, 4]), [[1, 3], [2, 4]]),
        (lambda: ee.Dictionary({"b": 1, "a": 2}).keys(), ["a", "b"]),
        (lambda: ee.Dictionary({"b": 1, "a": 2}).map(lambda k, v: ee.Number(v).add(1)), {"b": 2, "a": 3}),
        (lambda: ee.Dictionary({"a": 1}).combine({"a": 2, "c": 3}, False), {"a": 1, "c": 3}),
        (lambda: ee.String("a-b-c").split("-"), ["a", "b", "c"]),
        (lambda: ee.String("aXbX").replace("X", "_", "g"), "a_b_"),
        (lambda: ee.String("T54TXN").match("[0-9]+"), ["54"]),
        (lambda: ee.Algorithms.If(0, 1, "other"), "other"),
        (lambda: ee.Projection("EPSG:32654").atScale(10).nominalScale(), 10),
        (lambda: ee.Projection("EPSG:4326").nominalScale(), pytest.approx(111319.49, abs=0.01)),
        (lambda: ee.Image("ramp").projection().transform().index("elt_0_2"), pytest.approx(100, abs=200)),
        (lambda: ee.Image([1, 2]).bandNames(), ["constant", "constant_1"]),
        (lambda: ee.Image(1).addBands(ee.Image(2)).addBands(3).bandNames(), ["constant", "constant_1", "constant_2"]),
        (lambda: ee.Image(f"{COLLECTION}/i0").select("B.*").bandNames(), ["B2", "B3"]),
        (lambda: ee.Image(f"{COLLECTION}/i0").select([1], ["x"]).bandNames(), ["x"]),
        (lambda: collection().toBands().bandNames().slice(0, 2), ["i0_B2", "i0_B3"]),
    ],
)  # fmt: skip
def test_values(value: Any, wanted: Any) -> None:
    assert value().getInfo() == wanted


def test_regions_are_reduced() -> None:
    ramp = ee.Image("ramp")
    area = ee.Geometry.Rectangle([500_000, 4_699_950, 500_100, 4_700_000], "EPSG:32654", False)
    reducer = ee.Reducer.mean().combine(ee.Reducer.minMax(), "", True).combine(ee.Reducer.count(), "", True)
    wanted = {"a_mean": 64.5, "a_min": 0, "a_max": 129, "a_count": 50}
    found = ramp.reduceRegion(reducer, area, 10).getInfo()
    assert {k: v for k, v in found.items() if k.startswith("a_")} == wanted
    assert ramp.select("b").reduceRegion(ee.Reducer.frequencyHistogram(), area, 10).getInfo() == {
        "b": {"0": 20, "1": 15, "2": 15}
    }
    grouped = ramp.reduceRegion(ee.Reducer.sum().group(1, "kind"), area, 10).getInfo()
    assert [g["kind"] for g in grouped["groups"]] == [0, 1, 2]
    assert sum(g["sum"] for g in grouped["groups"]) == 50 * 64.5
    features = ee.FeatureCollection([ee.Feature(area, {"n": 1})])
    assert ramp.select("a").reduceRegions(features, ee.Reducer.max(), 10).first().get("max").getInfo() == 129
    assert ramp.reduceRegion(ee.Reducer.first(), point(0), 10).getInfo() == {"a": 310, "b": 1}
    sampled = ramp.sample(area, 10, numPixels=7, geometries=True).getInfo()["features"]
    assert len(sampled) == 7
    table = collection().select("B2").getRegion(point(0), 10).getInfo()
    assert table[0] == ["id", "longitude", "latitude", "time", "B2"]
    assert [row[-1] for row in table[1:]] == [1, None, None, None]
    with pytest.raises(ee.EEException, match="Found 50, but maxPixels allows only 9"):
        ramp.reduceRegion(ee.Reducer.mean(), area, 10, maxPixels=9).getInfo()
    with pytest.raises(ee.EEException, match="unbounded"):
        ee.Image(1).reduceRegion(ee.Reducer.mean(), scale=10).getInfo()


def test_what_geemap_asks_of_a_layer_to_stretch_its_colours() -> None:
    reducer = (
        ee.Reducer.minMax()
        .combine(ee.Reducer.mean().unweighted(), sharedInputs=True)
        .combine(ee.Reducer.stdDev(), sharedInputs=True)
    )
    view = ee.Image("ramp").select("a").geometry().bounds()
    found = ee.Image("ramp").select("a").reduceRegion(
        reducer, view, bestEffort=True, maxPixels=10_000, crs="SR-ORG:6627", scale=1
    )  # fmt: skip
    found = found.getInfo()
    assert (found["a_min"], found["a_max"]) == (0, 599)
    assert found["a_mean"] == pytest.approx(299.5, abs=5)
    assert found["a_stdDev"] == pytest.approx(np.arange(600).std(), abs=5)


def test_properties_are_selected_by_name_or_pattern() -> None:
    features = ee.FeatureCollection([ee.Feature(ee.Geometry.Point([1, 2]), {"area": 3, "aspect": 4, "n": 5})])

    def chosen(*arguments: Any) -> dict[str, Any]:
        return dict(features.select(*arguments).first().toDictionary().getInfo())

    assert chosen([".*"], None, False) == {"area": 3, "aspect": 4, "n": 5}
    assert features.select([".*"], None, False).first().getInfo()["geometry"] is None
    assert chosen(["a.*"]) == {"area": 3, "aspect": 4}
    assert chosen(["n", "gone"], ["m", "lost"]) == {"m": 5}
    assert chosen(["a.*"], ["x", "y"]) == {"x": 3, "y": 4}
    with pytest.raises(ee.EEException, match="2 properties selected but 1 names"):
        chosen(["a.*"], ["x"])
    with pytest.raises(ee.EEException, match=r"'\(' is not a valid property pattern"):
        chosen(["("])


def test_geometries() -> None:
    box = ee.Geometry.Rectangle([141.0, 42.0, 141.1, 42.2], None, False)
    geod = Geod(ellps="WGS84")
    outline = shapely.segmentize(shapely.box(141.0, 42.0, 141.1, 42.2), 0.001)
    assert box.area(1).getInfo() == pytest.approx(abs(geod.geometry_area_perimeter(outline)[0]), rel=1e-4)
    assert box.perimeter(1).getInfo() == pytest.approx(geod.geometry_area_perimeter(outline)[1], rel=1e-3)
    assert box.bounds().coordinates().getInfo()[0][0] == [141.1, 42.0]
    assert ee.Geometry.Point([141, 42]).buffer(1000).area(1).getInfo() == pytest.approx(np.pi * 1e6, rel=0.01)
    assert ee.Geometry.Point([141, 42]).distance(ee.Geometry.Point([141, 43])).getInfo() == pytest.approx(
        111_070, abs=50
    )
    unclosed = ee.Geometry.Polygon([[[0, 0], [1, 0], [1, 1], [0, 1]]], None, False)
    assert unclosed.getInfo()["coordinates"][0][0] == unclosed.getInfo()["coordinates"][0][-1]
    assert box.intersects(ee.Geometry.Point([141.05, 42.1]), 1).getInfo() is True
    assert box.difference(box, 1).area(1).getInfo() == 0
    utm = ee.Geometry.Point([500_000, 4_700_000], "EPSG:32654").transform("EPSG:4326", 1).coordinates().getInfo()
    assert utm == pytest.approx([141.0, 42.452], abs=1e-3)
    assert shape(ee.Image(f"{COLLECTION}/i0").geometry().getInfo()).area > 0
    with pytest.raises(ee.EEException, match="unbounded"):
        ee.Image(1).geometry().area(1).getInfo()


def test_features_and_joins() -> None:
    features = ee.FeatureCollection([ee.Feature(ee.Geometry.Point([i, 0]), {"n": i, "odd": i % 2}) for i in range(4)])
    assert features.filter(ee.Filter.eq("odd", 1)).aggregate_array("n").getInfo() == [1, 3]
    assert (
        features.map(lambda f: f.set("twice", ee.Number(f.get("n")).multiply(2))).aggregate_sum("twice").getInfo() == 12
    )
    assert [f["id"] for f in features.getInfo()["features"]] == ["0", "1", "2", "3"]
    shifted = collection().map(lambda i: i.set("other", ee.String(i.get("system:index")).replace("i", "j")))
    same = ee.Filter.equals(leftField="system:index", rightField="system:index")
    joined = ee.Join.saveFirst("match").apply(collection(), shifted.filter(ee.Filter.eq("tile", "54TXN")), same)
    assert indices(ee.ImageCollection(joined)) == ["i1", "i3"]
    assert ee.Image(ee.Image(joined.first()).get("match")).get("other").getInfo() == "j1"
    left = ee.Join.inverted().apply(collection(), collection().limit(3), same)
    assert indices(ee.ImageCollection(left)) == ["i3"]
    inner = ee.Join.inner().apply(collection(), collection(), same)
    assert ee.Image(ee.Feature(inner.first()).get("secondary")).get("tile").getInfo() == "54TWN"
    near = ee.Filter.maxDifference(1.5 * 86_400_000, leftField="system:time_start", rightField="system:time_start")
    counted = ee.Join.saveAll("near").apply(collection(), collection(), near)
    assert counted.map(lambda e: ee.Feature(None, {"n": ee.List(e.get("near")).size()})).aggregate_array("n").getInfo() == [
        2, 3, 3, 2,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (lambda: ee.Image("no/such"), r"^Image\.load: Image asset 'no/such' not found \(does not exist or caller does"),
        (lambda: ee.ImageCollection("no/such"), r"ImageCollection asset 'no/such' not found"),
        (lambda: ee.ImageCollection("ramp"), "'ramp' is not an ImageCollection"),
        (lambda: ee.Image(COLLECTION), "is not an Image"),
        (lambda: ee.Image(1).zeroCrossing(), "^Image.zeroCrossing: this algorithm is not known"),
        (lambda: ee.Image(1).select("nope"), r"Band pattern 'nope' did not match any bands\. Available bands: \[constant\]"),
        (lambda: ee.Image("ramp").rename(["a"]), "number of names"),
        (lambda: ee.Image("ramp").resample("lanczos"), "'bilinear' or 'bicubic', got 'lanczos'"),
        (lambda: ee.Image("ramp").reproject("EPSG:99999"), "could not be parsed: 'EPSG:99999'"),
        (lambda: ee.Date("yesterday"), "Bad date/time 'yesterday'"),
        (lambda: ee.DateRange("2018-02-01", "2018-01-01"), "Empty date ranges not supported"),
        (lambda: ee.List([1]).get(5), "List index must be between 0 and 0"),
        (lambda: ee.Dictionary({"a": 1}).get("b"), "does not contain key: 'b'"),
        (lambda: ee.Image(1).add(ee.String("x").cat("y")), "Image asset 'xy' not found"),
        (lambda: ee.Image(ee.List(["a"]).add("b")).add(1), "Expected type: Image"),
        (lambda: ee.Image("ramp").clip(ee.Number(1).add(2)), "Expected type: Geometry"),
        (lambda: collection().map(lambda i: ee.Algorithms.If(0, i, None)), "mapped function returned null"),
    ],
)  # fmt: skip
def test_errors_are_said_in_the_service_s_words(value: Any, words: str) -> None:
    with pytest.raises(ee.EEException, match=words):
        value().getInfo()
