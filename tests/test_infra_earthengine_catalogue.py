"""Own scenes: what may stand in a catalogue folder, what is said about what is wrong, and the commands for it."""

from __future__ import annotations

import json
import os
import re
import shlex
import time
from pathlib import Path
from typing import Any

import ee
import numpy as np
import pytest
import rasterio
from fakes.catalogue import CatalogueWriter
from fakes.earthengine import earth_engine, pixels, values
from hypothesis import given
from hypothesis import strategies as st
from rasterio.transform import Affine

from gee.types import Grid
from infra.local import catalogue as command
from infra.local.earthengine.catalogue import LARGE, Catalogue
from infra.local.earthengine.description import BAND_FIELDS, FIELDS, DescriptionError, read_image
from infra.local.earthengine.errors import ArgumentError
from infra.local.earthengine.sources import Reader

GRID = Grid("EPSG:32654", (10.0, 0.0, 500_000.0, 0.0, -10.0, 4_700_000.0), (16, 16))
GUIDE = Path(__file__).resolve().parents[1] / "infra" / "local" / "README.md"
VRT = """<VRTDataset rasterXSize="4" rasterYSize="4"><SRS>EPSG:4326</SRS><GeoTransform>0,1,0,0,0,-1</GeoTransform>
<VRTRasterBand dataType="Byte" band="1"><SimpleSource><SourceFilename>/etc/hostname</SourceFilename></SimpleSource>
</VRTRasterBand></VRTDataset>"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "catalogue"
    CatalogueWriter(folder).image("S2/a", {"B2": np.arange(256, dtype=np.uint16).reshape(16, 16)}, GRID, masked=False)
    return folder


def described(**changes: Any) -> dict[str, Any]:
    return {"id": "S2/x", "bands": [{"id": "B2", "file": "a.tif"}], **changes}


def band(**changes: Any) -> dict[str, Any]:
    return described(bands=[{"id": "B2", "file": "a.tif", **changes}])


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ([], "it holds a list, an object is needed"),
        (described(id=3), "id must be text, got 3"),
        (described(id="../x"), "id '../x' is not an asset id"),
        (described(id="a b"), "id 'a b' is not an asset id"),
        (described(tiem_start="2018"), "unknown field 'tiem_start'; known are id, time_start"),
        (described(time_start="yesterday"), "time_start must be ISO 8601 such as"),
        (described(properties=[1]), "properties must be an object, got [1]"),
        (described(footprint={"type": "Polygon"}), "footprint is not a GeoJSON geometry"),
        (described(bands=[]), "bands must be a list of at least one band"),
        (described(bands=["B2"]), "bands[0] must be an object"),
        (described(bands=[{"id": "B2", "file": "a.tif"}] * 2), "bands: the id 'B2' comes twice"),
        (band(nodata=0), "bands[0]: unknown field 'nodata'; known are id, file, band, missing"),
        (band(id="B 2"), "bands[0].id 'B 2' must consist of"),
        (band(band=0), "bands[0].band must be a number from 1 on, got 0"),
        (band(missing=0), "bands[0].missing must be a list of numbers, got 0"),
        (band(pyramid="mean"), "bands[0].pyramid must be one of MEAN, SAMPLE"),
        (band(scale="big"), "bands[0].scale must be a number, got 'big'"),
        (band(file="../../secret.tif"), "'../../secret.tif' leaves the catalogue folder"),
        (band(file="/etc/hostname"), "'/etc/hostname' leaves the catalogue folder"),
        (band(file="gone.tif"), "bands[0].file 'gone.tif' does not exist"),
    ],
)
def test_what_is_wrong_is_said_with_file_and_field(root: Path, body: Any, words: str) -> None:
    path = root / "S2" / "x.json"
    path.write_text(json.dumps(body))
    with pytest.raises(DescriptionError, match=re.escape(words)) as caught:
        read_image(path, root, 0)
    assert str(path) in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*FIELDS, *BAND_FIELDS, "type"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(JSON)
def test_any_json_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, body: Any) -> None:
    folder = tmp_path_factory.getbasetemp() / "any"
    folder.mkdir(exist_ok=True)
    (folder / "x.json").write_text(json.dumps(body))
    with pytest.raises(DescriptionError):  # no raster is there, so nothing can be right
        read_image(folder / "x.json", folder, 0)


def test_hostile_files(root: Path, tmp_path: Path) -> None:
    (root / "S2" / "v.tif").write_text(VRT)
    (root / "S2" / "v.json").write_text(json.dumps(described(id="S2/v", bands=[{"id": "b", "file": "v.tif"}])))
    huge = {"driver": "GTiff", "width": 30_000, "height": 30_000, "count": 1, "dtype": "uint8", "crs": "EPSG:32654",
            "transform": Affine(*GRID.transform), "sparse_ok": True, "tiled": True, "blockxsize": 30_000,
            "blockysize": 30_000}  # fmt: skip
    with rasterio.open(root / "S2" / "h.tif", "w", **huge):
        pass
    assert (root / "S2" / "h.tif").stat().st_size < 1_000_000
    (root / "S2" / "h.json").write_text(json.dumps(described(id="S2/h", bands=[{"id": "b", "file": "h.tif"}])))
    (root / "S2" / "twin.json").write_text((root / "S2" / "a.json").read_text())
    (root / "S2" / "deep.json").write_text("[" * 100_000)
    problems = "\n".join(Catalogue(root, Reader()).problems())
    for words in (
        "v.tif' cannot be opened as a GeoTIFF",
        "blocks of 30000x30000 pixels",
        "has the id of",
        "it is not JSON",
    ):
        assert words in problems
    with earth_engine(root, tmp_path / "state"):
        assert ee.Image("S2/a").bandNames().getInfo() == ["B2"]
        with pytest.raises(ee.EEException, match="write it as a tiled GeoTIFF or a COG"):
            ee.Image("S2/h").getInfo()


def test_scale_offset_missing_and_defaults(root: Path, tmp_path: Path) -> None:
    body = {
        "time_start": "2018-09-06",
        "bands": [
            {"id": "reflectance", "file": "a.tif", "scale": 0.01, "offset": -0.1, "missing": [7]},
            {"id": "raw", "file": "a.tif"},
        ],
    }
    (root / "S2" / "b.json").write_text(json.dumps(body))
    stored = np.arange(256.0).reshape(16, 16)
    with earth_engine(root, tmp_path / "state"):
        image = ee.Image("S2/b")
        wanted = np.where(stored == 7, np.nan, stored * 0.01 - 0.1)
        np.testing.assert_allclose(values(image.select("reflectance"), GRID), wanted, rtol=1e-6)
        kinds = pixels(image, GRID).dtype
        assert (str(kinds["reflectance"]), str(kinds["raw"])) == ("float32", "uint16")
        assert image.date().format("YYYY-MM-dd").getInfo() == "2018-09-06"


def test_a_large_catalogue_is_followed_too(root: Path) -> None:
    body = (root / "S2" / "a.json").read_text()
    for i in range(LARGE):
        (root / "S2" / f"n{i}.json").write_text(body.replace('"S2/a"', f'"S2/n{i}"'))
    catalogue = Catalogue(root, Reader())
    assert len(catalogue.refresh().images) == LARGE + 1
    (root / "S2" / "new.json").write_text(body.replace('"S2/a"', '"S2/new"'))
    (root / "S2" / "n3.json").unlink()
    os.utime(root / "S2", ns=(time.time_ns(), time.time_ns() + 1_000_000))  # clocks of file systems are coarse
    listing = catalogue.refresh()
    assert "S2/new" in listing.images
    assert "S2/n3" not in listing.images
    with pytest.raises(ArgumentError, match="does not exist"):
        Catalogue(root / "nowhere", Reader())


def test_the_commands_add_and_check(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = str(root / "S2" / "a.tif"), str(tmp_path / "mine")
    options = [
        "--bands",
        "B4,B3",
        "--time",
        "2018-09-06T01:30:00Z",
        "--property",
        "CLOUDY_PIXEL_PERCENTAGE=3.5",
        "--missing",
        "0",
    ]
    assert command.main(["add", target, "MY/SCENES/one", source, source, *options]) == 0
    made = json.loads(Path(capsys.readouterr().out.strip()).read_text())
    assert [(b["id"], b["file"]) for b in made["bands"]] == [("B4", "one_1.tif"), ("B3", "one_2.tif")]
    assert made["properties"] == {"CLOUDY_PIXEL_PERCENTAGE": 3.5}
    assert command.main(["check", target]) == 0
    assert (
        capsys.readouterr().out
        == "MY/SCENES/one  2018-09-06T01:30:00+00:00  B4:uint16 B3:uint16  16x16 EPSG:32654 10 m\n"
    )
    for arguments, words in (
        (["add", target, "MY/SCENES/one", source], "give --replace to write it again"),
        (["add", target, "MY/two", source, "--bands", "a,b"], "2 band names were given, the files have 1 bands"),
        (["add", target, "../two", source], "is not an asset id"),
        (["add", target, "MY/two", source, "--time", "noon"], "time_start must be ISO 8601"),
        (["add", target, "MY/two", __file__], "cannot be opened as a GeoTIFF"),
        (["check", str(tmp_path / "none")], "does not exist"),
    ):
        assert command.main(arguments) == 2
        assert words in capsys.readouterr().err
    assert not (Path(target) / "MY" / "two.json").exists()
    (Path(target) / "bad.json").write_text("{}")
    assert command.main(["check", target]) == 2
    assert "bands must be a list of at least one band" in capsys.readouterr().err


def test_the_guide_s_example_works(shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands in the guide, run as they stand there, make a catalogue that the guide's Python reads."""
    text = GUIDE.read_text()
    shell = re.findall(r"```bash\n(.*?)```", text, re.S)[0]
    (tmp_path / "iburi2018").symlink_to(shared_data / "iburi2018")
    monkeypatch.chdir(tmp_path)
    lines = [shlex.split(line) for line in shell.replace("\\\n", " ").splitlines() if "infra.local.catalogue" in line]
    assert len(lines) == 4
    for line in lines:
        assert line[:3] == ["python", "-m", "infra.local.catalogue"]
        assert command.main(line[3:]) == 0
    with earth_engine(tmp_path / "scenes", tmp_path / "state"):
        scope: dict[str, Any] = {"ee": ee}
        exec(re.findall(r"```python\n(.*?)```", text, re.S)[0], scope)
        assert scope["found"] == ["iburi2018_pre", "iburi2018_post"]
        assert 0 < scope["slope"] < 45
