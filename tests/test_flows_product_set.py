"""flows/product_set.py: what is not whole, of one grid and a raster is not published."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import rasterio
from affine import Affine
from fakes.products import GRID, write_products
from rasterio.errors import NotGeoreferencedWarning

from flows.errors import PublicationError
from flows.product_set import gather, json_bytes, sha256_of


def test_a_whole_set_has_its_grid_and_a_digest_of_every_byte(tmp_path: Path) -> None:
    first, second = gather(write_products(tmp_path / "a")), gather(write_products(tmp_path / "b", note="x"))
    assert first.grid == GRID
    assert gather(tmp_path / "a").digest == first.digest != second.digest


def test_metrics_are_part_of_a_version_when_there_are_some(tmp_path: Path) -> None:
    without = gather(write_products(tmp_path))
    (tmp_path / "metrics.json").write_text("{}")
    assert set(gather(tmp_path).files) - set(without.files) == {"metrics"}


def test_other_files_of_the_folder_are_not_products(tmp_path: Path) -> None:
    digest = gather(write_products(tmp_path)).digest
    (tmp_path / "scratch.npy").write_bytes(b"x")
    assert gather(tmp_path).digest == digest


def test_every_missing_file_is_named(tmp_path: Path) -> None:
    write_products(tmp_path)
    (tmp_path / "report.html").unlink()
    (tmp_path / "landslides.gpkg").unlink()
    with pytest.raises(PublicationError, match=r"landslides\.gpkg, report\.html is missing"):
        gather(tmp_path)


def test_rasters_of_different_grids_are_refused(tmp_path: Path) -> None:
    write_products(tmp_path)
    with rasterio.open(tmp_path / "mask.tif", "r+") as file:
        file.transform = Affine(10.0, 0.0, 572_850.0, 0.0, -10.0, 4_735_730.0)
    with pytest.raises(PublicationError, match="2 different grids"):
        gather(tmp_path)


def test_a_file_that_is_no_raster_is_refused(tmp_path: Path) -> None:
    write_products(tmp_path)
    (tmp_path / "mask.tif").write_text('<VRTDataset rasterXSize="1" rasterYSize="1"/>')
    with pytest.raises(PublicationError, match=r"mask\.tif cannot be read as a GeoTIFF"):
        gather(tmp_path)


@pytest.mark.filterwarnings("ignore", category=NotGeoreferencedWarning)
def test_a_raster_without_a_coordinate_system_is_refused(tmp_path: Path) -> None:
    write_products(tmp_path)
    profile = {"driver": "GTiff", "width": 2, "height": 2, "count": 1, "dtype": "uint8"}
    with rasterio.open(tmp_path / "mask.tif", "w", **profile):
        pass
    with pytest.raises(PublicationError, match=r"mask\.tif has no coordinate system"):
        gather(tmp_path)


def test_a_checksum_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256_of(tmp_path / "x") == hashlib.sha256(b"abc").hexdigest()


def test_a_document_is_strict_json() -> None:
    assert json_bytes({"ü": [1, None]}) == '{\n "ü": [\n  1,\n  null\n ]\n}\n'.encode()
    with pytest.raises(PublicationError, match="cannot be written as JSON"):
        json_bytes({"x": float("nan")})
