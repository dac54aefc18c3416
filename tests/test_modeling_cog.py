"""`modeling.cog`: what GIS tools read back, and what is left when something fails."""

from __future__ import annotations

import resource
import shutil
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from rio_cogeo.cogeo import cog_validate

from modeling.cog import Category, CogProfile, CogWriter, class_profile, mask_profile, probability_profile, write_cog
from modeling.errors import RasterError

CRS, TRANSFORM = "EPSG:32654", (10.0, 0.0, 500_000.0, 0.0, -10.0, 4_740_000.0)


def probability(height: int = 1300, width: int = 700) -> npt.NDArray[np.float32]:
    values = np.random.default_rng(3).random((height, width), dtype=np.float32)
    values[: height // 4, : width // 2] = np.nan
    return values


def profile_of(values: npt.NDArray[Any], **tags: str) -> CogProfile:
    return probability_profile(CRS, TRANSFORM, values.shape[-2:], tags)


def hidden_leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.startswith(".")]


def test_a_probability_map_reads_back_to_the_bit_and_is_a_valid_cog(tmp_path: Path) -> None:
    values = probability()
    write_cog(tmp_path / "new" / "p.tif", values, profile_of(values, weights="abc"))
    with rasterio.open(tmp_path / "new" / "p.tif", driver="GTiff") as file:
        np.testing.assert_array_equal(file.read(1), values)
        assert file.crs.to_epsg() == 32654
        assert tuple(file.transform)[:6] == TRANSFORM
        assert np.isnan(file.nodata)
        assert file.descriptions == ("landslide probability",)
        assert file.tags()["weights"] == "abc"
        assert file.overviews(1) == [2, 4]
        half = file.read(1, out_shape=(650, 350))
    np.testing.assert_allclose(half[400:], values[800:].reshape(250, 2, 350, 2).mean((1, 3)), atol=1e-6)
    assert cog_validate(tmp_path / "new" / "p.tif", strict=True) == (True, [], [])
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["p.tif"]


def test_a_mask_has_a_colour_table_and_names_for_its_values(tmp_path: Path) -> None:
    values = np.random.default_rng(0).choice([0, 1, 255], size=(600, 600)).astype(np.uint8)
    write_cog(tmp_path / "m.tif", values, mask_profile(CRS, TRANSFORM, (600, 600)))
    with rasterio.open(tmp_path / "m.tif", driver="GTiff") as file:
        np.testing.assert_array_equal(file.read(1), values)
        np.testing.assert_array_equal(file.read_masks(1) == 0, values == 255)
        assert file.colormap(1)[1] == (215, 48, 39, 255)
        assert file.tags(1)["category_1"] == "landslide"
        assert set(np.unique(file.read(1, out_shape=(300, 300)))) == {0, 1, 255}
    assert cog_validate(tmp_path / "m.tif", strict=True)[0]


def test_classes_of_two_phases_are_two_bands_without_a_colour_table(tmp_path: Path) -> None:
    values = np.stack([np.zeros((30, 40), np.uint8), np.full((30, 40), 2, np.uint8)])
    kinds = {0: Category("no pass", (128, 128, 128, 255)), 2: Category("cloud", (255, 255, 255, 255))}
    write_cog(
        tmp_path / "o.tif",
        values,
        class_profile(CRS, TRANSFORM, (30, 40), descriptions=("pre", "post"), categories=kinds),
    )
    with rasterio.open(tmp_path / "o.tif", driver="GTiff") as file:
        np.testing.assert_array_equal(file.read(), values)
        assert file.descriptions == ("pre", "post")
        assert file.tags(2)["category_2"] == "cloud"
    assert cog_validate(tmp_path / "o.tif", strict=True)[0]


def test_windows_may_come_in_any_order_and_what_never_came_is_unknown(tmp_path: Path) -> None:
    values = probability(520, 520)
    with CogWriter(tmp_path / "p.tif", profile_of(values)) as cog:
        for rows in (slice(300, 520), slice(0, 300)):
            cog.write((rows, slice(7, 520)), values[rows, 7:])
    with rasterio.open(tmp_path / "p.tif", driver="GTiff") as file:
        found = file.read(1)
    np.testing.assert_array_equal(found[:, 7:], values[:, 7:])
    assert np.isnan(found[:, :7]).all()


def test_an_error_on_the_way_leaves_nothing_and_keeps_the_older_file(tmp_path: Path) -> None:
    values = probability(64, 64)
    write_cog(tmp_path / "p.tif", values, profile_of(values))
    before = (tmp_path / "p.tif").read_bytes()
    with pytest.raises(KeyError, match="tile 7"), CogWriter(tmp_path / "p.tif", profile_of(values)) as cog:
        cog.write((slice(0, 32), slice(0, 64)), values[:32])
        raise KeyError("tile 7")
    assert (tmp_path / "p.tif").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["p.tif"]


def test_values_of_another_shape_are_refused_not_resampled(tmp_path: Path) -> None:
    values = probability(64, 64)
    with pytest.raises(RasterError, match="shape"), CogWriter(tmp_path / "p.tif", profile_of(values)) as cog:
        cog.write((slice(0, 64), slice(0, 64)), values[:32])
    assert list(tmp_path.iterdir()) == []


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def test_too_little_space_is_noticed_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(10**6, 10**6 - 1000, 1000))
    values = probability(640, 640)
    with pytest.raises(RasterError, match=r"p\.tif may need 4369066 bytes .* only 1000 are free"):
        write_cog(tmp_path / "p.tif", values, profile_of(values))
    assert list(tmp_path.iterdir()) == []


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """The system refuses to let any file grow beyond `size` bytes: what a full disk does, without filling one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [10_000, 1_000_000, 3_400_000, 4_000_000])
def test_a_disk_that_fills_up_on_the_way_is_a_clear_error_and_leaves_nothing(tmp_path: Path, size: int) -> None:
    """The limits fall into the tiled file, its last bytes, and the finished file: GDAL keeps quiet about some."""
    values = probability(1100, 1000)
    with files_no_larger_than(size), pytest.raises(RasterError, match=r"p\.tif.* bytes are free on its disk"):
        write_cog(tmp_path / "p.tif", values, profile_of(values))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    values = probability(64, 64)
    with pytest.raises(RasterError, match="cannot be written"):
        write_cog(tmp_path / "file" / "p.tif", values, profile_of(values))


def test_memory_is_that_of_the_windows_not_of_the_raster(tmp_path: Path) -> None:
    shape = (8192, 1024)

    def blocks() -> Iterator[tuple[tuple[slice, slice], npt.NDArray[np.float32]]]:
        for top in range(0, shape[0], 512):
            yield (slice(top, top + 512), slice(0, 1024)), np.full((512, 1024), 0.5, np.float32)

    tracemalloc.start()
    try:
        write_cog(tmp_path / "p.tif", blocks(), probability_profile(CRS, TRANSFORM, shape))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < shape[0] * shape[1] * 4 / 3
    assert hidden_leftovers(tmp_path) == []
