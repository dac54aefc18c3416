"""Catalogue folders, written assets, ingestion and exports, and what is remembered over a restart."""

from __future__ import annotations

import datetime as dt
import io
import json
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ee
import geopandas
import httpx
import numpy as np
import pytest
import rasterio
import shapely
from fakes.catalogue import CatalogueWriter
from fakes.earthengine import ROOT, earth_engine, pixels, values
from fakes.servers import serve_process

from gee.types import Grid

GRID = Grid("EPSG:32654", (10.0, 0.0, 500_000.0, 0.0, -10.0, 4_700_000.0), (40, 50))
BUCKET = "a-bucket"


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    # A process of its own: GDAL holds the interpreter while it opens a remote file.
    with serve_process("infra.local.storage", "--root", str(tmp_path_factory.mktemp("storage"))) as url:
        httpx.post(f"{url}/storage/v1/b", params={"project": "p"}, json={"name": BUCKET}).raise_for_status()
        yield url


@pytest.fixture
def catalogue(tmp_path: Path) -> CatalogueWriter:
    root = tmp_path / "catalogue"
    root.mkdir()
    write = CatalogueWriter(root)
    write.image("S2/a", {"B2": counted()}, GRID, dt.datetime(2018, 9, 1, tzinfo=dt.UTC))
    return write


@pytest.fixture
def server(catalogue: CatalogueWriter, tmp_path: Path, storage: str) -> Iterator[str]:
    with earth_engine(catalogue.root, tmp_path / "state", storage_endpoint=storage, operation_s=0.1) as url:
        ee.data.createFolder(f"{ROOT}/quakeslide")
        yield url


def counted() -> np.ndarray[Any, Any]:
    return np.arange(1, 2001, dtype=np.uint16).reshape(GRID.shape_yx)


def put(storage: str, name: str, data: bytes) -> str:
    parameters = {"uploadType": "media", "name": name}
    httpx.post(f"{storage}/upload/storage/v1/b/{BUCKET}/o", params=parameters, content=data).raise_for_status()
    return f"gs://{BUCKET}/{name}"


def fetched(storage: str, name: str) -> bytes:
    found = httpx.get(f"{storage}/storage/v1/b/{BUCKET}/o/{name.replace('/', '%2F')}", params={"alt": "media"})
    return found.raise_for_status().content


def cog(probability: np.ndarray[Any, Any]) -> bytes:
    a, b, c, d, e, f = GRID.transform
    with rasterio.MemoryFile() as memory:
        with memory.open(
            driver="COG", height=GRID.shape_yx[0], width=GRID.shape_yx[1], count=2, dtype="float32", crs=GRID.crs,
            transform=rasterio.Affine(a, b, c, d, e, f), nodata=float("nan"),
        ) as file:  # fmt: skip
            file.write(np.stack([probability, probability * 2]).astype(np.float32))
        return bytes(memory.read())


def ended(name: str, deadline_s: float = 20) -> dict[str, Any]:
    """An operation once it has ended."""
    limit = time.monotonic() + deadline_s
    while time.monotonic() < limit:
        operation: dict[str, Any] = ee.data.getOperation(name)
        if operation.get("done"):
            return operation
        time.sleep(0.02)
    raise AssertionError(f"{name} did not end")


def manifest(name: str, uri: str, **more: Any) -> dict[str, Any]:
    tilesets = [{"id": "all", "sources": [{"uris": [uri]}]}]
    bands = [{"id": "probability", "tilesetId": "all", "tilesetBandIndex": 0}]
    return {"name": f"{ROOT}/{name}", "tilesets": tilesets, "bands": bands, **more}


def test_a_scene_added_while_it_runs_is_seen(server: str, catalogue: CatalogueWriter) -> None:
    collection = ee.ImageCollection("S2")
    assert collection.aggregate_array("system:index").getInfo() == ["a"]
    catalogue.image("S2/b", {"B2": counted()}, GRID, dt.datetime(2018, 9, 2, tzinfo=dt.UTC))
    assert collection.aggregate_array("system:index").getInfo() == ["a", "b"]
    described = catalogue.root / "S2" / "b.json"
    body = json.loads(described.read_text())
    described.write_text(json.dumps({**body, "properties": {"new": 1}}))
    assert collection.aggregate_array("new").getInfo() == [1]
    described.unlink()
    assert collection.size().getInfo() == 1


def test_a_damaged_catalogue_file_is_named_and_harms_no_other(server: str, catalogue: CatalogueWriter) -> None:
    (catalogue.root / "S2" / "bad.json").write_text("{")
    (catalogue.root / "lost.json").write_text(json.dumps({"id": "lost", "bands": [{"id": "b", "file": "lost.tif"}]}))
    (catalogue.root / "text.tif").write_text("not a raster")
    (catalogue.root / "text.json").write_text(json.dumps({"id": "text", "bands": [{"id": "b", "file": "text.tif"}]}))
    assert ee.Image("S2/a").bandNames().getInfo() == ["B2"]
    with pytest.raises(ee.EEException, match=r"bad\.json' cannot be used: it is not JSON"):
        ee.ImageCollection("S2").size().getInfo()
    with pytest.raises(ee.EEException, match=r"lost.json' cannot be used: bands\[0\]\.file 'lost\.tif' does not exist"):
        ee.Image("lost").getInfo()
    with pytest.raises(ee.EEException, match=r"text\.tif' cannot be opened as a GeoTIFF"):
        ee.Image("text").getInfo()


def test_a_footprint_may_be_given(server: str, catalogue: CatalogueWriter) -> None:
    described = catalogue.root / "S2" / "a.json"
    swath = shapely.box(141.0, 42.4, 141.003, 42.5)
    described.write_text(
        json.dumps({**json.loads(described.read_text()), "footprint": shapely.geometry.mapping(swath)})
    )
    assert shapely.geometry.shape(ee.Image("S2/a").geometry().getInfo()).bounds == swath.bounds
    assert ee.ImageCollection("S2").filterBounds(ee.Geometry.Point([141.004, 42.45])).size().getInfo() == 0


def test_folders_and_collections(server: str) -> None:
    ee.data.createAsset({"type": "IMAGE_COLLECTION", "properties": {"event": "us1"}}, f"{ROOT}/quakeslide/maps")
    assert ee.ImageCollection(f"{ROOT}/quakeslide/maps").get("event").getInfo() == "us1"
    assert [a["type"] for a in ee.data.listAssets(f"{ROOT}/quakeslide")["assets"]] == ["IMAGE_COLLECTION"]
    assert [a["id"] for a in ee.data.listAssets(ROOT)["assets"]] == [f"{ROOT}/quakeslide"]
    assert ee.data.getAsset("S2/a")["bands"][0]["grid"]["dimensions"] == {"width": 50, "height": 40}
    assert [a["id"] for a in ee.data.listAssets("S2")["assets"]] == ["S2/a"]
    for request, words in (
        (lambda: ee.data.createFolder(f"{ROOT}/quakeslide"), "Cannot overwrite asset"),
        (lambda: ee.data.createFolder(f"{ROOT}/no/such"), "its parent '.*/no' does not exist"),
        (lambda: ee.data.getAsset(f"{ROOT}/nothing"), "does not exist or doesn't allow this operation"),
        (lambda: ee.data.deleteAsset(f"{ROOT}/quakeslide"), "it has children"),
        (lambda: ee.data.deleteAsset(f"{ROOT}/nothing"), "does not exist or doesn't allow this operation"),
        (lambda: ee.data.deleteAsset("S2/a"), "belongs to the catalogue folder"),
    ):
        with pytest.raises(ee.EEException, match=words):
            request()
    ee.data.deleteAsset(f"{ROOT}/quakeslide/maps")
    assert ee.data.listAssets(f"{ROOT}/quakeslide")["assets"] == []


def test_a_cog_backed_image_is_read_where_it_lies(server: str, storage: str) -> None:
    probability = np.linspace(0, 1, 2000, dtype=np.float32).reshape(GRID.shape_yx)
    probability[:3] = np.nan
    uri = put(storage, "events/us1/probability.tif", cog(probability))
    properties = {"quakeslide:version": 1}
    ee.data.startExternalImageIngestion(
        manifest("quakeslide/v1", uri, properties=properties, startTime="2018-09-06T00:00:00Z")
    )
    image = ee.Image(f"{ROOT}/quakeslide/v1")
    np.testing.assert_array_equal(values(image, GRID), probability.astype(float))
    assert image.bandNames().getInfo() == ["probability"]
    assert image.toDictionary().getInfo() == properties
    assert image.date().format("YYYY-MM-dd").getInfo() == "2018-09-06"
    asset = ee.data.getAsset(f"{ROOT}/quakeslide/v1")
    (kept,) = asset["cloudStorageLocation"]["uris"]
    assert kept.rpartition("#")[0] == uri, "Earth Engine keeps the object's generation"
    with pytest.raises(ee.EEException, match="Cannot overwrite"):
        ee.data.startExternalImageIngestion(manifest("quakeslide/v1", uri))
    put(storage, "events/us1/probability.tif", cog(probability / 2))
    with pytest.raises(ee.EEException, match=r"Failed to load the GeoTIFF at `gs://.*probability\.tif#\d+`"):
        values(image, GRID)
    ee.data.startExternalImageIngestion(manifest("quakeslide/v1", uri), allow_overwrite=True)
    np.testing.assert_array_equal(values(image, GRID), (probability / 2).astype(float))


def test_wrong_manifests_are_refused_and_leave_nothing(server: str, storage: str) -> None:
    good = put(storage, "good.tif", cog(np.zeros(GRID.shape_yx)))
    text = put(storage, "text.tif", b"no raster")
    for body, words in (
        (manifest("quakeslide/x", f"gs://{BUCKET}/missing.tif"), "missing.tif' cannot be opened as a GeoTIFF"),
        (manifest("quakeslide/x", text), "text.tif' cannot be opened as a GeoTIFF"),
        (manifest("quakeslide/x", "http://elsewhere/x.tif"), "is not a Cloud Storage address"),
        (manifest("no/folder/x", good), "its parent .* does not exist"),
        (manifest("quakeslide/x", good, bands=[{"id": "b", "tilesetId": "all", "tilesetBandIndex": 5}]), "which has 2"),
        (manifest("quakeslide/x", good, tilesets=[]), "no tilesets"),
    ):
        with pytest.raises(ee.EEException, match=words):
            ee.data.startExternalImageIngestion(body)
    assert ee.data.listAssets(f"{ROOT}/quakeslide")["assets"] == []


def test_an_ingested_image_outlives_its_source(server: str, storage: str) -> None:
    probability = np.linspace(0, 1, 2000).reshape(GRID.shape_yx)
    uri = put(storage, "once.tif", cog(probability))
    task = ee.data.startIngestion(ee.data.newTaskId()[0], manifest("quakeslide/in", uri, missingData={"values": [0]}))
    assert ended(task["name"])["metadata"]["state"] == "SUCCEEDED"
    httpx.delete(f"{storage}/storage/v1/b/{BUCKET}/o/once.tif").raise_for_status()
    got = values(f"{ROOT}/quakeslide/in", GRID)
    np.testing.assert_array_equal(np.isnan(got), probability == 0)
    failing = ee.data.startIngestion(ee.data.newTaskId()[0], manifest("quakeslide/out", uri))
    operation = ended(failing["name"])
    assert operation["metadata"]["state"] == "FAILED"
    assert "Cloud Storage answered 404" in operation["error"]["message"]


def polygons() -> geopandas.GeoDataFrame:
    shapes = [shapely.box(141.001, 42.44, 141.002, 42.445), shapely.box(141.003, 42.44, 141.004, 42.442)]
    return geopandas.GeoDataFrame({"label": ["a", "b"], "area_m2": [10.5, 20.0]}, geometry=shapes, crs="EPSG:4326")


def as_csv(frame: geopandas.GeoDataFrame) -> bytes:
    table = frame.drop(columns="geometry").assign(
        geometry=[json.dumps(shapely.geometry.mapping(s)) for s in frame.geometry]
    )
    return table.to_csv(index=False).encode()


def as_zipped_shapefile(frame: geopandas.GeoDataFrame, folder: Path) -> bytes:
    frame.to_crs("EPSG:32654").to_file(folder / "slides.shp")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in folder.glob("slides.*"):
            archive.write(path, f"inner/{path.name}")
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["csv", "zip"])
def test_a_table_is_ingested(server: str, storage: str, tmp_path: Path, kind: str) -> None:
    data = as_csv(polygons()) if kind == "csv" else as_zipped_shapefile(polygons(), tmp_path)
    uri = put(storage, f"slides.{kind}", data)
    body = {"name": f"{ROOT}/quakeslide/slides", "sources": [{"uris": [uri]}], "properties": {"event": "us1"}}
    task = ee.data.startTableIngestion(ee.data.newTaskId()[0], body)
    assert ended(f"projects/local-project/operations/{task['id']}")["metadata"]["state"] == "SUCCEEDED"
    table = ee.FeatureCollection(f"{ROOT}/quakeslide/slides")
    assert table.aggregate_array("label").getInfo() == ["a", "b"]
    assert table.aggregate_sum("area_m2").getInfo() == 30.5
    assert table.get("event").getInfo() == "us1"
    bounds = shapely.geometry.shape(table.geometry().getInfo()).bounds
    np.testing.assert_allclose(bounds, (141.001, 42.44, 141.004, 42.445), atol=1e-7)
    frame = ee.data.listFeatures({"assetId": f"{ROOT}/quakeslide/slides", "fileFormat": "PANDAS_DATAFRAME"})
    assert list(frame["label"]) == ["a", "b"]
    assert ee.data.getAsset(f"{ROOT}/quakeslide/slides")["type"] == "TABLE"


def test_exports_to_assets_and_to_cloud_storage(server: str, storage: str) -> None:
    image = ee.Image("S2/a")
    region = ee.Geometry.Rectangle([500_100, 4_699_800, 500_300, 4_699_900], "EPSG:32654", False)
    masked = image.updateMask(image.gt(700))
    common = {"region": region, "crs": "EPSG:32654", "crsTransform": list(GRID.transform)}
    tasks = [
        ee.batch.Export.image.toAsset(masked, assetId=f"{ROOT}/quakeslide/exported", **common),
        ee.batch.Export.image.toCloudStorage(image, bucket=BUCKET, fileNamePrefix="out/image", **common),
        ee.batch.Export.table.toAsset(
            ee.FeatureCollection([ee.Feature(region, {"n": 1})]), assetId=f"{ROOT}/quakeslide/table"
        ),
        ee.batch.Export.table.toCloudStorage(
            ee.FeatureCollection([ee.Feature(region, {"n": 1})]),
            bucket=BUCKET,
            fileNamePrefix="out/t",
            fileFormat="CSV",
        ),
    ]
    for task in tasks:
        task.start()
    states = [ended(f"projects/local-project/operations/{task.id}")["metadata"]["state"] for task in tasks]
    assert states == ["SUCCEEDED"] * 4
    wanted = np.where(counted() > 700, counted().astype(float), np.nan)
    wanted[:10], wanted[20:], wanted[:, :10], wanted[:, 30:] = np.nan, np.nan, np.nan, np.nan
    np.testing.assert_array_equal(values(f"{ROOT}/quakeslide/exported", GRID), wanted)
    with rasterio.MemoryFile(fetched(storage, "out/image.tif")) as memory, memory.open() as file:
        np.testing.assert_array_equal(file.read(1), counted()[10:20, 10:30])
        assert file.transform.c == 500_100
    assert ee.FeatureCollection(f"{ROOT}/quakeslide/table").aggregate_array("n").getInfo() == [1]
    assert fetched(storage, "out/t.csv").splitlines()[0] == b"system:index,n,.geo"
    with pytest.raises(ee.EEException, match="Export too large"):
        ee.batch.Export.image.toAsset(image, assetId=f"{ROOT}/quakeslide/big", region=region, scale=0.01).start()


def test_operations_take_their_time_and_are_begun_again_after_a_restart(
    catalogue: CatalogueWriter, tmp_path: Path
) -> None:
    with earth_engine(catalogue.root, tmp_path / "state", operation_s=600):
        ee.data.createFolder(f"{ROOT}/kept")
        ee.data.updateAsset(f"{ROOT}/kept", {"properties": {"note": "x"}}, ["properties"])
        task = ee.batch.Export.image.toAsset(ee.Image("S2/a"), assetId=f"{ROOT}/kept/image")
        task.start()
        body = {"expression": ee.Image("S2/a"), **destination("kept/twice")}
        first, second = (ee.data.exportImage("the-same-request", body) for _ in range(2))
        assert first["name"] == second["name"]
        ee.data.cancelOperation(first["name"])
        assert state_of(task) == "PENDING"
        doomed = ee.batch.Export.image.toAsset(ee.Image("S2/a"), assetId=f"{ROOT}/kept/doomed")
        doomed.start()
        doomed.cancel()
        assert state_of(doomed) == "CANCELLED"
        tiles = ee.Image("S2/a").getMapId({"min": 0, "max": 2000})["mapid"]
    with earth_engine(catalogue.root, tmp_path / "state", operation_s=0.05) as url:
        assert ee.data.getAsset(f"{ROOT}/kept")["properties"] == {"note": "x"}
        assert ended(f"projects/local-project/operations/{task.id}")["metadata"]["state"] == "SUCCEEDED"
        assert pixels(f"{ROOT}/kept/image", GRID)["B2"].max() == 2000
        assert state_of(doomed) == "CANCELLED"
        assert httpx.get(f"{url}/v1/{tiles}/tiles/0/0/0").status_code == 200


def state_of(task: Any) -> str:
    return str(ee.data.getOperation(f"projects/local-project/operations/{task.id}")["metadata"]["state"])


def destination(name: str) -> dict[str, Any]:
    return {"assetExportOptions": {"earthEngineDestination": {"name": f"{ROOT}/{name}"}}}


def test_codes_are_not_averaged_in_a_pyramid(server: str, storage: str) -> None:
    codes = np.where(np.indices(GRID.shape_yx).sum(axis=0) % 4, 7, 1)
    uri = put(storage, "codes.tif", cog(codes))
    bands = [{"id": "code", "tilesetId": "all", "tilesetBandIndex": 0, "pyramidingPolicy": "MODE"}]
    task = ee.data.startIngestion(ee.data.newTaskId()[0], manifest("quakeslide/codes", uri, bands=bands))
    assert ended(task["name"])["metadata"]["state"] == "SUCCEEDED"
    assert ee.data.getAsset(f"{ROOT}/quakeslide/codes")["bands"][0]["pyramidingPolicy"] == "MODE"
    coarse = Grid(GRID.crs, (40.0, 0.0, 500_000.0, 0.0, -40.0, 4_700_000.0), (10, 12))
    np.testing.assert_array_equal(values(f"{ROOT}/quakeslide/codes", coarse), 7)
    bands[0]["pyramidingPolicy"] = "GUESS"
    wrong = ee.data.startIngestion(ee.data.newTaskId()[0], manifest("quakeslide/wrong", uri, bands=bands))
    assert "Invalid pyramiding policy 'GUESS'" in ended(wrong["name"])["error"]["message"]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (b"a,geometry\n", "The table has no features"),
        (b'a,geometry\n1,"{nothing"\n', "Row 1 of the table has no valid geometry"),
        (b"a,geometry\n" + b"x" * 100_001 + b',"POINT (1 2)"\n', "'a' has 100001 characters, the maximum is 100000"),
        (
            ",".join([*(f"c{n}" for n in range(1001)), "geometry"]).encode()
            + b"\n"
            + b"1," * 1001
            + b'"POINT (1 2)"\n',
            "1001 columns, the maximum is 1000",
        ),
        (
            b'a,geometry\n1,"LINESTRING (' + b",".join(b"%d 1" % (n % 9) for n in range(1_000_001)) + b')"\n',
            "Row 1: the geometry has 1000001 vertices, the maximum is 1000000",
        ),
    ],
)
def test_a_table_that_is_too_large_or_empty_is_refused(server: str, storage: str, rows: bytes, words: str) -> None:
    body = {"name": f"{ROOT}/quakeslide/table", "sources": [{"uris": [put(storage, "table.csv", rows)]}]}
    task = ee.data.startTableIngestion(ee.data.newTaskId()[0], body)
    operation = ended(f"projects/local-project/operations/{task['id']}")
    assert operation["metadata"]["state"] == "FAILED"
    assert words in operation["error"]["message"]


def test_of_two_operations_for_one_name_the_second_fails(server: str, storage: str) -> None:
    uri = put(storage, "race.tif", cog(np.zeros(GRID.shape_yx)))
    tasks = [ee.data.startIngestion(ee.data.newTaskId()[0], manifest("quakeslide/race", uri)) for _ in range(2)]
    operations = [ended(task["name"]) for task in tasks]
    assert sorted(operation["metadata"]["state"] for operation in operations) == ["FAILED", "SUCCEEDED"]
    failed = next(each for each in operations if "error" in each)
    assert "Cannot overwrite asset" in failed["error"]["message"]


def test_a_listing_shows_an_image_whose_object_is_gone(server: str, storage: str) -> None:
    uri = put(storage, "gone.tif", cog(np.zeros(GRID.shape_yx)))
    ee.data.startExternalImageIngestion(manifest("quakeslide/gone", uri))
    httpx.delete(f"{storage}/storage/v1/b/{BUCKET}/o/gone.tif").raise_for_status()
    (listed,) = ee.data.listAssets(f"{ROOT}/quakeslide")["assets"]
    assert [band["id"] for band in listed["bands"]] == ["probability"]
    with pytest.raises(ee.EEException, match="Failed to load the GeoTIFF"):
        values(f"{ROOT}/quakeslide/gone", GRID)
    ee.data.deleteAsset(f"{ROOT}/quakeslide/gone")
