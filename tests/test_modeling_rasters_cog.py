"""`modeling.rasters.cog`: what GIS tools read back, and what is left when something fails."""

from __future__ import annotations

import resource
import shutil
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil, log2
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from rio_cogeo.cogeo import cog_validate

from modeling.errors import RasterError
from modeling.rasters import cog, tiff
from modeling.rasters.cog import (
    Category,
    CogProfile,
    CogWriter,
    class_profile,
    mask_profile,
    probability_profile,
    write_cog,
)

SlicesYX = tuple[slice, slice]
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


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.tuples(st.integers(8, 1200), st.integers(8, 1200)),
    bands=st.integers(1, 3),
    dtype=st.sampled_from(["uint8", "uint16", "int16", "int32", "float32", "float64"]),
    cut=st.tuples(st.sampled_from([300, 512, 700, 1024]), st.sampled_from([256, 512, 1100])),
    seed=st.integers(0, 99),
)
@example(shape=(513, 1025), bands=1, dtype="float32", cut=(512, 512), seed=0)
def test_any_raster_in_any_windows_is_read_back_by_gdal(
    tmp_path: Path, shape: tuple[int, int], bands: int, dtype: str, cut: tuple[int, int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 200, (bands, *shape)).astype(dtype)
    values[:, : shape[0] // 3] = 255
    if dtype.startswith("float"):
        values /= 3
    profile = CogProfile(CRS, TRANSFORM, shape, dtype, 255, tuple("abc"[:bands]))
    windows = [
        (slice(top, min(top + cut[0], shape[0])), slice(left, min(left + cut[1], shape[1])))
        for top in range(0, shape[0], cut[0])
        for left in range(0, shape[1], cut[1])
    ]
    rng.shuffle(windows)
    write_cog(tmp_path / "x.tif", ((window, values[:, *window]) for window in windows), profile)
    with rasterio.open(tmp_path / "x.tif", driver="GTiff") as file:
        np.testing.assert_array_equal(file.read(), values)
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        levels = file.overviews(1)
    assert cog_validate(tmp_path / "x.tif", strict=True)[0]
    assert len(levels) == ceil(log2(max(max(shape) / 512, 1)))
    for level in range(len(levels)):
        factor = 2 ** (level + 1)
        with rasterio.open(tmp_path / "x.tif", driver="GTiff", overview_level=level) as overview:
            np.testing.assert_array_equal(overview.read(), values[:, ::factor, ::factor])


def test_a_line_of_pixels_is_a_raster_too(tmp_path: Path) -> None:
    values = np.arange(1300, dtype=np.float32)[:, np.newaxis]
    write_cog(tmp_path / "x.tif", values, CogProfile(CRS, TRANSFORM, values.shape, "float32", -1, ("x",), "average"))
    with rasterio.open(tmp_path / "x.tif", driver="GTiff") as file:
        np.testing.assert_array_equal(file.read(1), values)
    with rasterio.open(tmp_path / "x.tif", driver="GTiff", overview_level=1) as file:
        assert file.shape == (325, 1)
        assert file.read(1)[:2, 0].tolist() == [1.5, 5.5]


def test_overviews_are_means_of_what_is_known(tmp_path: Path) -> None:
    values = probability(601, 1203)
    values[np.random.default_rng(0).random(values.shape) < 0.2] = np.nan
    write_cog(tmp_path / "p.tif", values, profile_of(values))
    even = np.pad(values, ((0, 1), (0, 1)), constant_values=np.nan)
    blocks = even.reshape(301, 2, 602, 2).transpose(0, 2, 1, 3).reshape(301, 602, 4)
    known = np.isfinite(blocks).any(-1)
    with rasterio.open(tmp_path / "p.tif", driver="GTiff", overview_level=0) as overview:
        found = overview.read(1)
    assert np.array_equal(np.isfinite(found), known)
    np.testing.assert_allclose(found[known], np.nanmean(blocks[known], -1), rtol=1e-6)


def test_means_of_whole_numbers_are_rounded_and_leave_nodata_out(tmp_path: Path) -> None:
    values = np.full((600, 600), -5, np.int16)
    values[0, :2], values[1, :2] = (10, -9999), (11, -9999)
    values[2:4, :2] = -9999
    profile = CogProfile(CRS, TRANSFORM, (600, 600), "int16", -9999, ("height",), "average")
    write_cog(tmp_path / "h.tif", values, profile)
    with rasterio.open(tmp_path / "h.tif", driver="GTiff", overview_level=0) as overview:
        assert overview.read(1)[:3, 0].tolist() == [10, -9999, -5]
        assert overview.nodata == -9999


def test_a_file_too_large_for_a_tiff_becomes_a_big_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiff, "_CLASSIC_END", 100_000)
    values = probability(1100, 900)
    write_cog(tmp_path / "p.tif", values, profile_of(values, weights="abc"))
    assert (tmp_path / "p.tif").read_bytes()[:4] == b"II+\0"
    with rasterio.open(tmp_path / "p.tif", driver="GTiff") as file:
        np.testing.assert_array_equal(file.read(1), values)
        assert file.crs.to_epsg() == 32654
        assert file.tags()["weights"] == "abc"
    assert cog_validate(tmp_path / "p.tif", strict=True)[0]


@pytest.mark.parametrize("again", [(slice(0, 512), slice(0, 512)), (slice(100, 200), slice(10, 20))])
@pytest.mark.parametrize("first", [(slice(0, 512), slice(0, 512)), (slice(0, 512), slice(0, 300))])
def test_a_pixel_written_twice_is_refused(tmp_path: Path, first: SlicesYX, again: SlicesYX) -> None:
    values = probability(600, 600)
    with pytest.raises(RasterError, match="given pixels"), CogWriter(tmp_path / "p.tif", profile_of(values)) as cog:
        cog.write(first, values[first])
        cog.write(again, values[again])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("window", [(slice(0, 65), slice(0, 64)), (slice(-1, 63), slice(0, 64))])
def test_a_window_outside_the_raster_is_refused(tmp_path: Path, window: SlicesYX) -> None:
    values = np.zeros((window[0].stop - window[0].start, 64), np.float32)
    with (
        pytest.raises(RasterError, match="not inside its 64 x 64 pixels"),
        CogWriter(tmp_path / "p.tif", probability_profile(CRS, TRANSFORM, (64, 64))) as cog,
    ):
        cog.write(window, values)


def test_overviews_of_an_unknown_kind_are_refused(tmp_path: Path) -> None:
    profile = CogProfile(CRS, TRANSFORM, (64, 64), "uint8", 255, ("x",), "mode")
    with pytest.raises(RasterError, match="average or nearest, not mode"), CogWriter(tmp_path / "p.tif", profile):
        pass


@pytest.mark.parametrize("at", [0.02, 0.5, 0.999])
def test_bytes_that_change_on_the_way_to_the_disk_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: float
) -> None:
    """Wherever they are: in an overview, in a tile, in the last one."""
    copied = cog._copy_tiles

    def copy_and_damage(spool: Any, resolution: Any, file: Any) -> None:
        copied(spool, resolution, file)
        if resolution.shape_yx == (1024, 1024):
            file.seek(int(file.tell() * at))
            file.write(bytes(40))
            file.seek(0, 2)

    monkeypatch.setattr(cog, "_copy_tiles", copy_and_damage)
    values = probability(1024, 1024)
    with pytest.raises(RasterError, match="read"):
        write_cog(tmp_path / "p.tif", values, profile_of(values))
    assert list(tmp_path.iterdir()) == []


def test_no_thread_outlives_its_file(tmp_path: Path) -> None:
    before = threading.active_count()
    write_cog(tmp_path / "p.tif", probability(600, 600), probability_profile(CRS, TRANSFORM, (600, 600)))
    with pytest.raises(KeyError), CogWriter(tmp_path / "q.tif", probability_profile(CRS, TRANSFORM, (600, 600))):
        raise KeyError
    assert threading.active_count() == before


def peak_of(path: Path, shape: tuple[int, int]) -> int:
    """Most bytes that numpy and Python held while a map came window by window."""
    made = np.random.default_rng(0).random((512, 512), dtype=np.float32)
    tracemalloc.start()
    try:
        with CogWriter(path, probability_profile(CRS, TRANSFORM, shape)) as writer:
            for top in range(0, shape[0], 512):
                for left in range(0, shape[1], 512):
                    writer.write((slice(top, top + 512), slice(left, left + 512)), made)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_is_that_of_a_row_of_tiles_whatever_the_height(tmp_path: Path) -> None:
    """Some windows wait for the writer, more of them on a busy machine; all of the map would be 64 MiB."""
    assert peak_of(tmp_path / "p.tif", (16_384, 1024)) < 25e6
    assert hidden_leftovers(tmp_path) == []
