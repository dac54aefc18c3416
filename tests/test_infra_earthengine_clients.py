"""What clients really send: xee, geedim, geemap and this project against the stand-in, and every algorithm they name.

The list of algorithms is taken from their requests and from this project's source, not kept by hand.
"""

from __future__ import annotations

import ast
import datetime as dt
import importlib
import json
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ee
import numpy as np
import pytest
from fakes.catalogue import CatalogueWriter
from fakes.earthengine import connected
from fakes.servers import serve
from starlette.types import Message, Receive, Scope, Send

from gee.types import Grid
from infra.local.earthengine import create_app
from infra.local.earthengine.algorithms.registry import known, summary
from infra.local.earthengine.signatures import signatures

GRID = Grid("EPSG:32654", (10.0, 0.0, 500_000.0, 0.0, -10.0, 4_700_000.0), (64, 64))
S2 = "COPERNICUS/S2_SR_HARMONIZED"
GEE = Path(__file__).resolve().parents[1] / "gee"


class Recorder:
    """Passes requests on to the stand-in, and keeps the names of the algorithms in them and the refusals."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.named: set[str] = set()
        self.refused: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, answer, status = bytearray(), bytearray(), 0

        async def reading() -> Message:
            message = await receive()
            body.extend(message.get("body", b""))
            return message

        async def sending(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            if status >= 400:
                answer.extend(message.get("body", b""))
            await send(message)

        await self.app(scope, reading, sending)
        if status >= 400:
            self.refused.append(f"{scope['path']}: {bytes(answer).decode()}")
        if body.startswith(b"{"):
            self.named |= set(_named(json.loads(bytes(body))))


def _named(value: Any) -> Iterator[str]:
    """The names of the algorithms that an expression calls."""
    if isinstance(value, dict):
        if isinstance(value.get("functionName"), str):
            yield value["functionName"]
        for inner in value.values():
            yield from _named(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _named(inner)


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorder]:
    root = tmp_path_factory.mktemp("catalogue")
    write, rng = CatalogueWriter(root), np.random.default_rng(3)
    for i in range(3):
        time = dt.datetime(2018, 9, 1 + i, tzinfo=dt.UTC)
        bands = {
            b: rng.integers(1, 5000, GRID.shape_yx).astype(np.uint16) for b in ("B1", "B2", "B3", "B4", "B8", "B11")
        }
        bands |= {
            "B12": bands["B11"],
            "SCL": rng.integers(1, 11, GRID.shape_yx).astype(np.uint16),
            "QA60": bands["B1"] * 0,
        }
        sun = {"MEAN_SOLAR_ZENITH_ANGLE": 40.0, "MEAN_SOLAR_AZIMUTH_ANGLE": 140.0, "CLOUDY_PIXEL_PERCENTAGE": 10.0 * i}
        write.image(f"{S2}/s{i}", bands, GRID, time, sun, masked=False)
        scores = {"cs": rng.random(GRID.shape_yx).astype(np.float32), "cs_cdf": np.full(GRID.shape_yx, 0.9, np.float32)}
        write.image(f"GOOGLE/CLOUD_SCORE_PLUS/V1/S2_HARMONIZED/s{i}", scores, GRID, time)
        cloudy = {"probability": rng.integers(0, 100, GRID.shape_yx).astype(np.uint8)}
        write.image(f"COPERNICUS/S2_CLOUD_PROBABILITY/s{i}", cloudy, GRID, time, masked=False)
    found = Recorder(create_app(root, tmp_path_factory.mktemp("state")))
    with serve(found) as url, connected(url):
        yield found


@pytest.fixture(autouse=True)
def nothing_was_refused(recorder: Recorder) -> Iterator[None]:
    recorder.named, recorder.refused = set(), []
    yield
    assert recorder.refused == []
    assert recorder.named <= known()


def area() -> Any:
    return ee.Geometry.Rectangle([500_100, 4_699_700, 500_300, 4_699_900], "EPSG:32654", False)


def collection() -> Any:
    return ee.ImageCollection(S2).select(["B2", "B3", "B4"])


@pytest.mark.filterwarnings("ignore")
def test_xee_opens_a_collection(recorder: Recorder) -> None:
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("xee")
    own = {"crs": GRID.crs, "crs_transform": GRID.transform, "shape_2d": GRID.shape_yx[::-1]}
    opened = xarray.open_dataset(collection(), engine="ee", getitem_kwargs={"max_retries": 1}, **own)
    assert opened["B2"].transpose("time", "y", "x").values.shape == (3, 64, 64)
    sliced = xarray.open_dataset(f"ee://{S2}", engine="ee", n_images=2, fast_time_slicing=True, **own)
    assert np.isfinite(sliced["B4"].isel(time=1).values).all()
    assert {"Collection.reduceColumns", "Image.unmask", "Collection.toList"} <= recorder.named


def quiet_geedim(monkeypatch: pytest.MonkeyPatch) -> Any:
    """geedim without its questions to a public catalogue of metadata."""
    geedim = pytest.importorskip("geedim")
    nothing = types.SimpleNamespace(get=lambda _: None)
    for name in ("image", "collection"):
        monkeypatch.setattr(importlib.import_module(f"geedim.{name}"), "STACClient", lambda: nothing)
    return geedim


GEEDIM: dict[str, Callable[[], Any]] = {
    "an image": lambda: ee.Image(f"{S2}/s1").gd.prepareForExport(crs=GRID.crs, region=area(), scale=10, dtype="uint16").gd,
    "another zone": lambda: ee.Image(f"{S2}/s1").select("B2").gd.resample("bilinear").gd.prepareForExport(
        crs="EPSG:32653", region=area(), scale=10, dtype="float32").gd,
    "coarser": lambda: ee.Image(f"{S2}/s1").select("B2").gd.resample("average").gd.prepareForExport(
        crs=GRID.crs, region=area(), scale=30, dtype="float32").gd,
    **{
        f"masked by {method}": lambda method=method: ee.Image(f"{S2}/s1").gd.addMaskBands(mask_method=method).gd.maskClouds()
        .gd.prepareForExport(crs=GRID.crs, region=area(), scale=10, dtype="float32").gd
        for method in ("cloud-score", "qa", "cloud-prob")
    },
    **{
        f"{method} composite": lambda method=method: ee.ImageCollection(S2).gd.composite(method, region=area())
        .gd.prepareForExport(crs=GRID.crs, region=area(), scale=10, dtype="float32").gd
        for method in ("q-mosaic", "mosaic", "median", "mode", "mean", "medoid")
    },
    "a collection": lambda: collection().gd.prepareForExport(crs=GRID.crs, region=area(), scale=10, dtype="float32").gd,
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", GEEDIM)
def test_geedim_pulls(recorder: Recorder, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    quiet_geedim(monkeypatch)
    found = GEEDIM[case]().toNumPy()
    assert np.isfinite(np.ma.getdata(found).astype(float)).any()
    assert "Image.clipToBoundsAndScale" in recorder.named


@pytest.mark.filterwarnings("ignore")
def test_geedim_covers_and_filters(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    quiet_geedim(monkeypatch)
    image = ee.Image(f"{S2}/s1")
    assert image.mask().gd.regionCoverage(region=area(), scale=10).getInfo()["B2"] == pytest.approx(100)
    found = ee.ImageCollection(S2).gd.filter("2018-08-01", "2018-10-01", area(), cloudless_portion=0)
    assert found.size().getInfo() == 3
    image.select("B2").gd.prepareForExport(crs=GRID.crs, region=area(), scale=10).gd.toGeoTIFF(tmp_path / "x.tif")
    assert (tmp_path / "x.tif").stat().st_size > 400


def geemap_cases(geemap: Any, out: Path) -> dict[str, Callable[[], Any]]:
    image = ee.Image(f"{S2}/s1")
    shapes = ee.FeatureCollection([ee.Feature(area(), {"n": 1}), ee.Feature(area().buffer(50), {"n": 2})])
    line = ee.Geometry.LineString([[141.001, 42.449], [141.003, 42.450]])
    shown = geemap.Map(center=[42.45, 141.0], zoom=12, ee_initialize=False)
    return {
        "layers": lambda: (
            shown.addLayer(image.select(["B4", "B3", "B2"]), {"min": 0, "max": 3000}, "a"),
            shown.addLayer(collection(), {"min": 0, "max": 3000}, "b"),
            shown.addLayer(image.select("B2"), {"min": 0, "max": 3000, "palette": ["red", "green"]}, "c", True, 0.5),
            shown.addLayer(shapes, {"color": "red"}, "d"),
            shown.addLayer(shapes.style(color="red", fillColor="ff000044"), {}, "e"),
            shown.addLayer(area(), {}, "f"),
            shown.centerObject(shapes, 12),
        ),
        "numbers": lambda: geemap.ee_to_numpy(image.select(["B2", "B3"]), region=area(), scale=10).shape,
        "files": lambda: (
            geemap.ee_export_image(image.select("B2"), str(out / "a.tif"), scale=10, region=area(), verbose=False),
            geemap.get_image_thumbnail(image, str(out / "b.png"), {"bands": ["B4"], "min": 0, "max": 3000}, region=area()),
            geemap.ee_to_csv(shapes, str(out / "c.csv")),
        ),
        "tables": lambda: (geemap.ee_to_gdf(shapes), geemap.ee_to_geojson(shapes), geemap.ee_to_bbox(shapes)),
        "zones": lambda: [
            geemap.zonal_stats(image.select("SCL"), shapes, "x.csv", stat_type=kind, scale=10, return_fc=True, **more).getInfo()
            for kind, more in (("MEAN", {}), ("MEDIAN", {}), ("HIST", {}),
                               ("FIXED_HIST", {"hist_min": 0, "hist_max": 12, "hist_steps": 12}))
        ],
        "groups": lambda: geemap.zonal_stats_by_group(image.select("SCL"), shapes, "x.csv", scale=10, return_fc=True).getInfo(),
        "statistics": lambda: (
            geemap.image_props(image).getInfo(),
            geemap.image_stats(image.select("B2"), area(), 10).getInfo(),
            geemap.image_area(image.select("SCL").gt(3), area(), 10, 1e4).getInfo(),
            geemap.image_area_by_group(image.select("SCL"), scale=10, region=area(), verbose=False),
            geemap.image_histogram(image.select("B2"), area(), scale=10, return_df=True),
            geemap.image_value_list(image.select("SCL"), area(), 10, return_hist=True).getInfo(),
        ),
        "points": lambda: (
            geemap.extract_pixel_values(image, region=ee.Geometry.Point([141.002, 42.449]), scale=10, getInfo=True),
            geemap.extract_timeseries_to_point(42.449, 141.002, collection(), band_names=["B2"], scale=10),
            geemap.extract_transect(image.select("B2"), line, reducer="mean", n_segments=5, scale=10).getInfo(),
        ),
        "dates": lambda: (geemap.image_dates(collection()).getInfo(), geemap.image_cell_size(image).getInfo()),
        "filters": lambda: (
            geemap.image_smoothing(image.select("B2"), ee.Reducer.mean(), ee.Kernel.square(1)).getInfo(),
            geemap.image_reclassify(image.select("SCL"), [3, 4], [1, 2]).getInfo(),
        ),
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "case", ["layers", "numbers", "files", "tables", "zones", "groups", "statistics", "points", "dates", "filters"]
)
def test_geemap_in_a_notebook(tmp_path: Path, case: str) -> None:
    geemap = pytest.importorskip("geemap")
    assert geemap_cases(geemap, tmp_path)[case]() is not None


CLASSES = (
    "Image", "ImageCollection", "Collection", "Feature", "Element", "Filter", "Reducer", "List", "Dictionary", "Number",
    "String", "Date", "DateRange", "Geometry", "Join", "Kernel", "Terrain", "Projection", "AggregateFeatureCollection",
)  # fmt: skip
OTHERS = {"Collection.remap", "Date.update", "Reducer.and", "Reducer.bitwiseAnd", "Reducer.or"}
"""Namesakes of what is called on images, and on hashes."""
CLIENT_NAMES = {"And": "and", "Or": "or", "Not": "not", "aggregate_array": "array", "aggregate_max": "max"}


def test_every_method_that_this_project_calls_is_known() -> None:
    """Names of methods in `gee` that are algorithms: all algorithms of that name on the usual classes are known."""
    called: set[str] = set()
    for path in GEE.glob("*.py"):
        tree = ast.parse(path.read_text())
        if not any(isinstance(n, ast.Import) and n.names[0].name == "ee" for n in ast.walk(tree)):
            continue
        called |= {n.func.attr for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)}
    named = {f"{c}.{CLIENT_NAMES.get(m, m)}" for m in called for c in CLASSES} & signatures().keys()
    assert {"Image.updateMask", "Image.addBands", "Collection.filter", "Image.resample"} <= named
    assert sorted(named - known() - OTHERS) == []


def test_every_algorithm_says_what_it_does() -> None:
    assert [name for name in sorted(known()) if len(summary(name)) < 10] == []
