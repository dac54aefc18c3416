"""The service around the values: limits, faults, the log, maps, pictures, downloads, and starting it by hand."""

from __future__ import annotations

import concurrent.futures
import datetime as dt
import io
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ee
import httpx
import numpy as np
import pytest
import rasterio
from fakes.catalogue import CatalogueWriter
from fakes.earthengine import connected, earth_engine, grid_request, pixels
from fakes.servers import serve, serve_process
from PIL import Image as Picture

from gee.types import Grid
from infra.local.earthengine import create_app
from infra.local.earthengine.__main__ import main

GRID = Grid("EPSG:32654", (10.0, 0.0, 500_000.0, 0.0, -10.0, 4_700_000.0), (256, 300))
PROJECT = "/v1/projects/local-project"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("catalogue")
    rows, cols = np.mgrid[:256, :300]
    bands = {"B2": cols + 1, "B3": rows + 1, "B4": np.where(cols < 150, 0, 1000)}
    stack = {name: np.where(rows < 20, 0, values).astype(np.uint16) for name, values in bands.items()}
    CatalogueWriter(root).image("S2/a", stack, GRID, dt.datetime(2018, 9, 1, tzinfo=dt.UTC))
    return root


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with earth_engine(folder, tmp_path_factory.mktemp("state")) as url:
        yield url


@pytest.fixture(autouse=True)
def no_faults(server: str) -> Iterator[None]:
    yield
    httpx.delete(f"{server}/_standin/faults")


def ask(server: str, grid: Grid = GRID, file_format: str = "NPY", expression: Any = None) -> httpx.Response:
    image = ee.Image("S2/a") if expression is None else expression
    encoded = ee.serializer.encode(image, for_cloud_api=True)
    body = {"expression": encoded, "grid": grid_request(grid), "fileFormat": file_format}
    return httpx.post(f"{server}{PROJECT}/image:computePixels", json=body, timeout=30)


def sized(height: int, width: int) -> Grid:
    return Grid(GRID.crs, GRID.transform, (height, width))


def test_requests_that_are_too_large_are_refused_in_the_service_s_words(server: str) -> None:
    size = 4000 * 4000 * 3 * (2 + 1)
    refused = ask(server, sized(4000, 4000))
    assert refused.status_code == 400
    words = f"Total request size ({size} bytes) must be less than or equal to 50331648 bytes."
    assert refused.json() == {"error": {"code": 400, "message": words, "status": "INVALID_ARGUMENT"}}
    assert "must be less than or equal to 32768" in ask(server, sized(1, 40_000)).json()["error"]["message"]
    just = ask(server, sized(4096, 1365), expression=ee.Image([1, 2, 3]).toUint16())
    assert 4096 * 1365 * 3 * 3 <= 50_331_648 < 4096 * 1366 * 3 * 3
    assert just.status_code == 200
    assert ask(server, sized(4096, 1366), expression=ee.Image([1, 2, 3]).toUint16()).status_code == 400


def test_wrong_requests_are_refused(server: str) -> None:
    assert ask(server, sized(0, 5)).status_code == 400
    assert "not known" in ask(server, file_format="TF_RECORD_IMAGE").json()["error"]["message"]
    for path, content, status, words in (
        ("/value:compute", b"{", 400, "Invalid JSON payload"),
        ("/value:compute", b"[]", 400, "an object is needed"),
        ("/value:compute", b"{}", 400, "no valid expression"),
        ("/image:nosuch", b"{}", 404, "is not known"),
        ("/value:compute", b"x" * 11_000_000, 400, "payload size exceeds the limit: 10485760 bytes"),
    ):
        answer = httpx.post(f"{server}{PROJECT}{path}", content=content)
        assert (answer.status_code, words in answer.json()["error"]["message"]) == (status, True), path
    assert httpx.get(f"{server}{PROJECT}/operations/NOPE").status_code == 404
    assert httpx.get(f"{server}{PROJECT}/maps/nope/tiles/0/0/0").status_code == 404
    assert httpx.get(f"{server}/v1/elsewhere").status_code == 404


def test_faults_on_demand(server: str) -> None:
    plan = {"match": "computePixels", "status": 429, "count": 2, "skip": 1, "headers": {"Retry-After": "7"}}
    assert httpx.post(
        f"{server}/_standin/faults", json={**plan, "message": "Too many concurrent aggregations."}
    ).is_success
    answers = [ask(server, sized(5, 5)) for _ in range(4)]
    assert [a.status_code for a in answers] == [200, 429, 429, 200]
    assert answers[1].headers["Retry-After"] == "7"
    assert answers[1].json()["error"]["message"] == "Too many concurrent aggregations."
    httpx.post(f"{server}/_standin/faults", json={"match": "computePixels", "cut_after": 1000})
    with pytest.raises(httpx.RemoteProtocolError):
        ask(server)
    assert ask(server).status_code == 200


def test_the_log_tells_the_grid_of_a_request_for_pixels(server: str) -> None:
    httpx.delete(f"{server}/_standin/log")
    ask(server, sized(7, 9))
    ee.Image("S2/a").bandNames().getInfo()
    entries = httpx.get(f"{server}/_standin/log").json()["requests"]
    assert [(e["method"], e["path"].rsplit("/", 1)[1]) for e in entries] == [
        ("POST", "image:computePixels"), ("POST", "value:compute"),
    ]  # fmt: skip
    assert entries[0]["detail"] == {"grid": grid_request(sized(7, 9)), "fileFormat": "NPY"}
    assert entries[1]["detail"] is None


def test_a_memory_limit_a_latency_and_a_limit_of_requests(folder: Path, tmp_path: Path, server: str) -> None:
    options = ["--memory-pixels", "100", "--latency-s", "0.3", "--max-concurrent", "2"]
    arguments = ["--catalogue", str(folder), "--state", str(tmp_path / "state"), *options]
    with serve_process("infra.local.earthengine", *arguments) as url:
        refused = ask(url, sized(11, 10))
        assert refused.json()["error"]["message"] == "User memory limit exceeded."
        assert refused.elapsed >= dt.timedelta(seconds=0.3)
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            codes = sorted(pool.map(lambda _: ask(url, sized(5, 5)).status_code, range(6)))
        assert codes == [200, 200, 429, 429, 429, 429]


def test_a_wrong_start_is_one_clear_line(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "infra.local.earthengine",
        "--catalogue",
        str(tmp_path / "no"),
        "--state",
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"the Earth Engine stand-in cannot start: The catalogue folder '{tmp_path / 'no'}' does not exist."
    ]


def test_the_command_line_teaches_and_plants_faults(
    folder: Path, tmp_path: Path, server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, code, words in (
        (["--help"], 0, "above 512 x 512 pixels need too much memory"),
        (["--algorithms"], 0, "Image.updateMask: Where the image is valid its mask becomes"),
        (["--fault", "{}"], 2, "regular expression on the path"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        said = capsys.readouterr()
        assert (ended.value.code, words in said.out + said.err) == (code, True)
    fault = '{"match": "Pixels", "every": 2, "status": 503, "message": "Try later."}'
    options = ["--catalogue", str(folder), "--state", str(tmp_path), "--fault", fault, "--max-per-s", "1000"]
    with serve_process("infra.local.earthengine", *options, "--bytes-per-s", "1e6") as url:
        answers = [ask(url, sized(5, 5)) for _ in range(4)]
    assert [a.status_code for a in answers] == [200, 503, 200, 503]
    assert answers[1].json()["error"]["message"] == "Try later."


def test_a_mistake_of_the_stand_in_is_told_from_one_of_the_client(folder: Path, tmp_path: Path, server: str) -> None:
    app = create_app(folder, tmp_path / "state")
    (tmp_path / "state" / "assets").rmdir()
    (tmp_path / "state" / "assets").write_text("in the way")
    with serve(app) as url:
        answer = httpx.post(f"{url}{PROJECT}/assets", params={"assetId": "x"}, json={"type": "FOLDER"})
    assert answer.status_code == 500
    assert "internal error has occurred in the local stand-in" in answer.json()["error"]["message"]


def picture(data: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Picture.open(io.BytesIO(data)))


def test_map_tiles(server: str) -> None:
    shown = ee.Image("S2/a").getMapId({"bands": ["B4", "B3", "B2"], "min": 0, "max": 255})
    # Web mercator tile of zoom 14 over 141.01 E, 42.45 N.
    x = int((141.01 + 180) / 360 * 2**14)
    y = int((1 - np.arcsinh(np.tan(np.radians(42.44))) / np.pi) / 2 * 2**14)
    tile = picture(shown["tile_fetcher"].fetch_tile(x, y, 14))
    assert tile.shape == (256, 256, 4)
    seen = tile[tile[..., 3] > 0]
    assert len(seen) > 3000
    assert (tile[..., 3] == 0).any(), "masked pixels are transparent"
    assert set(np.unique(seen[:, 0])) <= {0, 255}
    far = httpx.get(shown["tile_fetcher"].format_tile_url(0, 0, 14))
    assert (picture(far.content)[..., 3] == 0).all()
    assert far.headers["content-type"] == "image/png"
    whole = picture(httpx.get(shown["tile_fetcher"].format_tile_url(0, 0, 0)).content)
    assert whole.shape == (256, 256, 4)
    assert httpx.get(shown["tile_fetcher"].url_format.format(x=0, y=5, z=1)).status_code == 404
    with pytest.raises(ee.EEException, match="nope"):
        ee.Image("S2/a").getMapId({"bands": ["nope"]})


def test_palettes_and_ranges(server: str) -> None:
    def colours(image: Any, **options: Any) -> list[int]:
        found = pixels(ee.Image(image).visualize(**options), sized(1, 1))
        return [int(found[name][0, 0]) for name in found.dtype.names or ()]

    assert colours(5, min=0, max=10, palette=["000000", "ff0000", "ffffff"]) == [255, 0, 0]
    assert colours(2.5, min=0, max=10, palette=["black", "red", "white"]) == [128, 0, 0]
    assert colours(99, min=0, max=10, palette="0000ff,00ff00") == [0, 255, 0]
    assert colours([0, 5, 10], min=0, max=10) == [0, 128, 255]
    assert colours([1, 2, 3], min=[0, 0, 0], max=[1, 4, 6]) == [255, 128, 128]
    assert colours(5, min=0, max=10, gamma=2) == [int(0.5**0.5 * 255 + 0.5)]
    with pytest.raises(ee.EEException, match="'mauvish' is not a colour"):
        colours(5, palette=["mauvish", "red"])


def test_tables_are_drawn(server: str) -> None:
    area = ee.Geometry.Rectangle([500_500, 4_698_000, 501_500, 4_699_000], "EPSG:32654", False)
    table = ee.FeatureCollection([ee.Feature(area, {"n": 7})])
    styled = pixels(table.style(color="00ff00", fillColor="0000ff", width=4), GRID)
    assert tuple(styled[150, 100]) == (0, 0, 255)
    assert tuple(styled[150, 50]) == (0, 255, 0)
    hollow = pixels(table.style(color="red", fillColor="00000000", width=4).mask(), GRID)
    assert (hollow["vis-red"][150, 100], hollow["vis-red"][150, 50]) == (0, 1)
    painted = pixels(ee.Image(0).byte().paint(table, "n"), GRID)["constant"]
    assert (painted.sum(), painted[150, 100]) == (7 * 100 * 100, 7)
    reduced = pixels(table.reduceToImage(["n"], ee.Reducer.first()).unmask(0), GRID)["first"]
    np.testing.assert_array_equal(reduced, painted)
    assert len(table.getMapId({"color": "red"})["tile_fetcher"].fetch_tile(0, 0, 0)) > 100


def test_downloads(server: str) -> None:
    image = ee.Image("S2/a")
    area = ee.Geometry.Rectangle([500_100, 4_699_500, 500_400, 4_699_700], "EPSG:32654", False)
    geotiff = image.getDownloadURL({"region": area, "scale": 10, "crs": "EPSG:32654", "format": "GEO_TIFF"})
    with rasterio.MemoryFile(httpx.get(geotiff).content) as memory, memory.open() as file:
        assert (file.shape, file.descriptions, file.dtypes[0]) == ((20, 30), ("B2", "B3", "B4"), "uint16")
        assert file.transform.c == 500_100
        np.testing.assert_array_equal(file.read(1)[0], np.arange(11, 41))
    zipped = image.getDownloadURL({"region": area, "scale": 20, "filePerBand": False, "name": "scene"})
    with zipfile.ZipFile(io.BytesIO(httpx.get(zipped).content)) as archive:
        assert archive.namelist() == ["scene.tif"]
    each = image.getDownloadURL({"region": area, "scale": 20, "name": "scene"})
    with zipfile.ZipFile(io.BytesIO(httpx.get(each).content)) as archive:
        assert archive.namelist() == ["scene.B2.tif", "scene.B3.tif", "scene.B4.tif"]
    npy = httpx.get(image.getDownloadURL({"region": area, "scale": 10, "crs": "EPSG:32654", "format": "NPY"})).content
    assert np.load(io.BytesIO(npy)).shape == (20, 30)
    thumb = httpx.get(image.getThumbURL({"region": area, "dimensions": 64, "min": 0, "max": 300, "format": "jpg"}))
    assert (thumb.headers["content-type"], picture(thumb.content).shape) == ("image/jpeg", (43, 64, 3))
    table = ee.FeatureCollection([ee.Feature(area, {"n": 7})])
    assert httpx.get(table.getDownloadURL("csv")).text.splitlines()[0] == "system:index,n,.geo"
    assert httpx.get(table.getDownloadURL("geojson")).json()["features"][0]["properties"] == {"n": 7}
    with pytest.raises(ee.EEException, match="unbounded"):
        ee.data.computePixels({"expression": ee.Image(1), "fileFormat": "NUMPY_NDARRAY"})
    assert ee.data.getPixels({"assetId": "S2/a", "fileFormat": "NUMPY_NDARRAY"}).shape == (256, 300)


def test_many_requests_at_the_same_time_agree(server: str) -> None:
    image = ee.ImageCollection("S2").median().add(ee.Image("S2/a").resample("bilinear"))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ask(server, expression=image).content, range(8)))
    assert len(set(answers)) == 1


def test_nothing_but_the_loopback_address_is_answered(server: str) -> None:
    assert httpx.get(f"{server}{PROJECT}/algorithms", headers={"Host": "elsewhere.example"}).status_code == 403


def test_a_deeply_nested_expression_is_computed(server: str) -> None:
    value: Any = ee.Number(0)
    for _ in range(400):
        value = value.add(1)
    image = ee.Image(0)
    for _ in range(150):
        image = image.add(1)
    with connected(server):
        assert value.getInfo() == 400
        assert pixels(image, sized(1, 1))["constant"][0, 0] == 150
