"""Rasters and pairs of rasters of users: what they are refused for, and what is read of good ones."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Transformer
from rasterio.warp import transform_bounds

from modeling.errors import BandSetError, RasterError
from modeling.rasters.raster import RasterGrid, band_colours, is_metric, open_raster
from modeling.rasters.raster_pair import RasterPair, Scaling, open_pair
from modeling.rasters.raster_terrain import TerrainReader
from modeling.rasters.resample import Resampler

UTM = "EPSG:32654"
AT = (10.0, 0.0, 500_000.0, 0.0, -10.0, 4_740_000.0)
RGBN = ("B2", "B3", "B4", "B8")
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write (band, y, x) or (y, x) values as a GeoTIFF: `write(name, values, at=…, crs=…, names=…, **profile)`."""

    def write_tif(
        name: str,
        values: npt.NDArray[Any],
        *,
        at: tuple[float, ...] = AT,
        crs: str | None = UTM,
        names: tuple[str, ...] = (),
        **profile: Any,
    ) -> Path:
        bands = values[np.newaxis] if values.ndim == 2 else values
        path = tmp_path / name
        count, height, width = bands.shape
        with rasterio.open(
            path, "w", driver="GTiff", count=count, height=height, width=width, dtype=bands.dtype, crs=crs,
            transform=Affine(*at), **profile,
        ) as file:  # fmt: skip
            file.write(bands)
            for band, band_name in enumerate(names, start=1):
                file.set_band_description(band, band_name)
        return path

    return write_tif


def numbers(seed: int, shape: tuple[int, ...] = (4, 40, 50)) -> npt.NDArray[np.uint16]:
    """Reflectance 0.03 to 0.3 as Sentinel-2 stores it."""
    return np.random.default_rng(seed).integers(300, 3000, shape).astype(np.uint16)


def hills(shape: tuple[int, int] = (40, 50)) -> npt.NDArray[np.float32]:
    y, x = np.mgrid[: shape[0], : shape[1]]
    return (200 + 50 * np.sin(x / 9) + 40 * np.cos(y / 7)).astype(np.float32)


class Files:
    """A good pair with its elevation model, on one grid."""

    def __init__(self, write: Write) -> None:
        self.pre = write("pre.tif", numbers(1), names=RGBN, nodata=0)
        self.post = write("post.tif", numbers(2), names=RGBN, nodata=0)
        self.dem = write("dem.tif", hills())


WHOLE = (slice(0, 40), slice(0, 50))


# --- one file ---------------------------------------------------------------------------------------------------------


def test_a_missing_file_a_folder_and_a_text_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.tif").write_text("pre,post\n1,2\n")
    (tmp_path / "link.tif").write_text('<VRTDataset rasterXSize="1" rasterYSize="1"></VRTDataset>')
    for name, reason in (
        ("absent.tif", "there is no such file"),
        (".", "there is no such file"),
        ("text.tif", "is not a GeoTIFF that can be read"),
        ("link.tif", "is not a GeoTIFF that can be read"),
    ):
        with pytest.raises(RasterError, match=reason):
            open_raster(tmp_path / name)


def test_a_network_address_is_no_file() -> None:
    with pytest.raises(RasterError, match="no such file"):
        open_raster("/vsicurl/http://127.0.0.1:9/pre.tif")


def test_rasters_without_a_place_on_earth_are_refused(write: Write, tmp_path: Path) -> None:
    with pytest.raises(RasterError, match="no coordinate reference system: add it"):
        open_raster(write("no-crs.tif", numbers(0), crs=None))
    with pytest.raises(RasterError, match="rotated"):
        open_raster(write("rotated.tif", numbers(0), at=(9.0, 1.0, 5e5, 1.0, -9.0, 4e6)))
    with pytest.raises(RasterError, match="south-up"):
        open_raster(write("south-up.tif", numbers(0), at=(10.0, 0.0, 5e5, 0.0, 10.0, 4e6)))
    bare = tmp_path / "bare.tif"
    with (
        pytest.warns(rasterio.errors.NotGeoreferencedWarning),
        rasterio.open(bare, "w", driver="GTiff", count=1, height=4, width=4, dtype="uint8") as file,
    ):
        file.write(np.ones((1, 4, 4), np.uint8))
    with pytest.raises(RasterError, match="not georeferenced"):
        open_raster(bare)
    with pytest.raises(RasterError, match="complex"):
        open_raster(write("complex.tif", np.ones((4, 4), np.complex64)))


def declaring(path: Path, side: int, **profile: Any) -> Path:
    """A file of a few kilobytes that declares `side` x `side` pixels and stores none."""
    with rasterio.open(
        path, "w", driver="GTiff", count=1, height=side, width=side, dtype="uint8", crs=UTM, transform=Affine(*AT),
        sparse_ok=True, **profile,
    ):  # fmt: skip
        pass
    return path


def test_a_small_file_that_declares_much_is_refused_before_it_is_read(tmp_path: Path) -> None:
    tiled = {"tiled": True, "blockxsize": 512, "blockysize": 512}
    with pytest.raises(RasterError, match=r"declares 900000000 bytes of pixels in a file of \d+"):
        open_raster(declaring(tmp_path / "bomb.tif", 30_000, **tiled))
    with pytest.raises(RasterError, match="declares 40000 x 40000 pixels; at most 1000000000 are allowed"):
        open_raster(declaring(tmp_path / "huge.tif", 40_000, **tiled))
    with pytest.raises(RasterError, match="declares 512 x 512 pixels; at most 1000 are allowed"):
        open_raster(declaring(tmp_path / "capped.tif", 512, **tiled), max_pixels=1000)


def test_a_raster_in_one_huge_block_is_refused(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modeling.rasters.raster._MAX_BLOCK_BYTES", 1000)
    with pytest.raises(RasterError, match="blocks of 4000 bytes"):
        open_raster(write("strip.tif", numbers(0, (1, 40, 50)), blockysize=40))


@pytest.mark.parametrize(
    ("crs", "at", "metric"),
    [
        (UTM, AT, True),
        ("EPSG:2193", (10.0, 0, 1_600_000.0, 0, -10.0, 5_400_000.0), True),
        ("EPSG:4326", (1e-4, 0, 141.9, 0, -1e-4, 42.7), False),
        ("EPSG:3857", (10.0, 0, 15_800_000.0, 0, -10.0, 5_270_000.0), False),
        ("EPSG:2263", (10.0, 0, 980_000.0, 0, -10.0, 200_000.0), False),
    ],
    ids=["utm", "new zealand", "degrees", "web mercator", "feet"],
)
def test_lengths_can_be_measured_on_true_metres_only(crs: str, at: tuple[float, ...], metric: bool) -> None:
    a, b, c, d, e, f = at
    assert is_metric(RasterGrid(crs, (a, b, c, d, e, f), (100, 100))) is metric


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("B2", "B3", "B4", "B8"), {"blue": 1, "green": 2, "red": 3, "nir": 4}),
        (("red", "Green", "BLUE"), {"red": 1, "green": 2, "blue": 3}),
        (("B02", "band 4", "B8A", "B08", "B11", "B12"), {"blue": 1, "red": 2, "nir": 4, "swir1": 5, "swir2": 6}),
        (("T54TXN_20180908_B04", "s2_nir", "SCL"), {"red": 1, "nir": 2}),
    ],
)
def test_bands_are_known_by_their_descriptions(write: Write, names: tuple[str, ...], expected: dict[str, int]) -> None:
    with open_raster(write("x.tif", numbers(0, (len(names), 4, 4)), names=names)) as file:
        assert band_colours("x.tif", file) == expected


def test_bands_may_be_named_and_must_be_there(write: Write) -> None:
    with open_raster(write("three.tif", numbers(0, (3, 4, 4)))) as file:
        assert band_colours("three.tif", file, ("nir", "other", "red")) == {"nir": 1, "red": 3}
        with pytest.raises(RasterError, match="has 3 bands, but 4 are named"):
            band_colours("three.tif", file, ("blue", "green", "red", "nir"))
        with pytest.raises(RasterError, match="do not say which colours they are"):
            band_colours("three.tif", file)
        with pytest.raises(RasterError, match="bands 1 and 2 both say that they are red"):
            band_colours("three.tif", file, ("red", "red"))
    with open_raster(write("pre_B4.tif", numbers(0, (1, 4, 4)))) as file:
        assert band_colours("pre_B4.tif", file) == {"red": 1}


# --- a pair -----------------------------------------------------------------------------------------------------------


def test_a_good_pair_gives_reflectance_and_terrain_on_its_own_grid(write: Write) -> None:
    files = Files(write)
    with open_pair([files.pre], [files.post], files.dem) as pair:
        assert (pair.grid, pair.note) == (RasterGrid(UTM, AT, (40, 50)), "")
        wanted = ("nir_post", "red_pre", "slope", "elevation", "hillshade")
        layers, valid = pair.read(WHOLE, wanted)
        assert tuple(layers) == wanted
        np.testing.assert_allclose(layers["nir_post"], numbers(2)[3] / 10_000, rtol=1e-6)
        np.testing.assert_allclose(layers["red_pre"], numbers(1)[2] / 10_000, rtol=1e-6)
        np.testing.assert_allclose(layers["elevation"], hills(), rtol=1e-6)
        expected = np.hypot(*(gradient[1:-1, 1:-1] for gradient in np.gradient(hills(), 10.0)))
        np.testing.assert_allclose(layers["slope"][1:-1, 1:-1], np.rad2deg(np.arctan(expected)), rtol=1e-4)
        edge = np.ones((40, 50), bool)
        edge[1:-1, 1:-1] = False
        assert np.array_equal(valid, ~edge)
        _, without_terrain = pair.read(WHOLE, ("red_post",))
        assert without_terrain.all()


def test_windows_are_parts_of_the_whole(write: Write) -> None:
    files = Files(write)
    with open_pair([files.pre], [files.post], files.dem) as pair:
        whole, valid = pair.read(WHOLE, pair.layer_names)
        where = slice(13, 29), slice(7, 50)
        part, part_valid = pair.read(where, pair.layer_names)
        for name, layer in part.items():
            np.testing.assert_allclose(layer, whole[name][where], rtol=1e-5, err_msg=name)
        assert np.array_equal(part_valid, valid[where])
        assert np.array_equal(pair.observed(where), pair.observed(WHOLE)[:, *where])


def test_gaps_are_unknown_and_said_by_phase(write: Write) -> None:
    pre, post = numbers(1), numbers(2).astype(np.float32) / 10_000
    pre[:, 5, 6] = 0
    post[2, 20, 21] = np.nan
    files = [write("pre.tif", pre, names=RGBN)], [write("post.tif", post, names=RGBN, nodata=np.nan)]
    with open_pair(*files, write("dem.tif", hills())) as pair:
        _, valid = pair.read(WHOLE, ("red_pre", "red_post"))
        assert sorted(zip(*np.nonzero(~valid), strict=True)) == [(5, 6), (20, 21)]
        observed = pair.observed(WHOLE)
        assert (observed[:, 5, 6].tolist(), observed[:, 20, 21].tolist()) == ([0, 1], [1, 0])
        assert observed[:, 0, 0].tolist() == [5, 5]
        assert (observed[:, 25, 25] == 1).all()


@pytest.mark.parametrize(
    "filled",
    [np.uint16(0), np.uint16(65535), np.int16(-9999), np.float32(-9999), np.float32(-3.4e38), np.float32(0)],
)
def test_undeclared_gaps_are_unknown_and_said(write: Write, filled: np.generic) -> None:
    whole = np.asarray(filled).dtype.kind in "iu"
    pre = (numbers(1) if whole else numbers(1) / 10_000).astype(filled.dtype)
    pre[:, :8, :10] = filled
    files = [write("pre.tif", pre, names=RGBN)], [write("post.tif", numbers(2), names=RGBN)]
    with open_pair(*files, write("dem.tif", hills())) as pair:
        observed = pair.observed(WHOLE)
        assert (observed[0, :8, :10] == 0).all()
        assert (observed[0, 20:30, 20:30] == 1).all()
        assert pair.note.startswith("about 4.0 % of the pixels of the image before the event count as not seen")
        assert "after" not in pair.note


def test_a_gap_anywhere_in_a_large_image_is_said(write: Write) -> None:
    pre = numbers(1, (1, 1200, 900)) / np.float32(10_000)
    pre[:, 450:650, 400:600] = -9999
    pre[:, :100] = np.nan
    with open_pair([write("pre_B4.tif", pre)], [write("post_B4.tif", pre, nodata=-9999)]) as pair:
        said = re.match(r"about (\d\.\d) % of the pixels of the image before the event", pair.note)
        assert said
        assert float(said[1]) == pytest.approx(100 * 200 * 200 / (1200 * 900), abs=1.0), "what is NaN is declared"
        assert "after the event" not in pair.note


def test_what_is_seen_is_kept(write: Write) -> None:
    """Bright clouds, what a correction for the air leaves below 0, dark water of one band, white of 8 bits."""
    pre = (numbers(1) / 10_000).astype(np.float32)
    pre[:, 2:4, 2:4], pre[0, 6:8, 6:8], pre[3, 10:20, 10:20] = 1.9, -0.15, 0.0
    whole = (numbers(1) // 30).astype(np.uint8)
    whole[:, 2:6, 2:6] = 255
    for image, scaling in ((pre, None), (whole, Scaling(scale=1 / 255))):
        path = write(f"{image.dtype}.tif", image, names=RGBN)
        with open_pair([path], [path], scaling=scaling) as pair:
            assert pair.note == ""
            assert (pair.observed(WHOLE) == 1).all()
            layers, valid = pair.read(WHOLE, ("nir_pre",))
            assert valid.all(), "a band alone is no gap either"
            assert layers["nir_pre"][15, 15] == pytest.approx(0 if scaling is None else image[3, 15, 15] / 255)


def test_an_image_that_is_mostly_an_undeclared_gap_is_refused(write: Write) -> None:
    pre = (numbers(1) / 10_000).astype(np.float32)
    pre[:, :30] = -9999
    with (
        pytest.raises(RasterError, match="declare the value that fills gaps"),
        open_pair([write("pre.tif", pre, names=RGBN)], [write("post.tif", numbers(2), names=RGBN)]),
    ):
        pass


def test_a_file_that_is_cut_short_is_named(write: Write) -> None:
    cut, whole, dem = write("pre_B4.tif", numbers(1)[0]), write("post_B4.tif", numbers(2)[0]), write("dem.tif", hills())
    for path in (cut, dem):
        path.write_bytes(path.read_bytes()[:2500])
    with pytest.raises(RasterError, match=r"pre_B4\.tif is damaged or cut short"), open_pair([cut], [whole]):
        pass
    with (
        pytest.raises(RasterError, match=r"dem\.tif is damaged or cut short"),
        open_pair([whole], [whole], dem) as pair,
    ):
        pair.observed(WHOLE)


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), 0.0, -1.0])
def test_a_scale_that_nothing_can_be_scaled_by_is_refused(scale: float) -> None:
    with pytest.raises(RasterError, match="--scale"):
        Scaling(scale=scale)


def test_images_on_different_grids_are_refused_with_both(write: Write) -> None:
    files = Files(write)
    shifted = write("shifted.tif", numbers(2), names=RGBN, at=(10.0, 0.0, 500_005.0, 0.0, -10.0, 4_740_000.0))
    zone = write("zone.tif", numbers(2), names=RGBN, crs="EPSG:32655")
    small = write("small.tif", numbers(2)[:, :30], names=RGBN)
    for other, fact in ((shifted, r"\(500005, 4740000\)"), (zone, "EPSG:32655"), (small, "50 x 30 pixels")):
        with (
            pytest.raises(RasterError, match=rf"must share one grid, but .*pre\.tif is .*EPSG:32654.*{fact}"),
            open_pair([files.pre], [other], files.dem),
        ):
            pass


def test_a_pair_in_degrees_is_mapped_in_utm(write: Write) -> None:
    degrees = (9e-5, 0.0, 141.9, 0.0, -9e-5, 42.7)
    files = [[write(f"{phase}.tif", np.full((1, 300, 400), 1500, np.uint16), crs="EPSG:4326", at=degrees, nodata=0)]
             for phase in ("pre_B4", "post_B4")]  # fmt: skip
    with open_pair(*files) as pair:
        assert pair.grid.crs == "EPSG:32654"
        assert (pair.grid.transform[0], pair.grid.transform[2] % 10, pair.grid.transform[5] % 10) == (10, 0, 0)
        assert "EPSG:4326) were warped" in pair.note
        shape = pair.grid.shape_yx
        layers, valid = pair.read((slice(0, shape[0]), slice(0, shape[1])), ("red_pre",))
        assert valid.mean() > 0.95
        np.testing.assert_allclose(layers["red_pre"][valid], 0.15, atol=1e-6)
        left, bottom, right, top = pair.grid.bounds
        inside = transform_bounds("EPSG:4326", UTM, 141.9, 42.7 - 0.027, 141.936, 42.7)
        assert left <= inside[0] and bottom <= inside[1] and right >= inside[2] and top >= inside[3]


def test_pixels_far_from_the_networks_are_warped_unless_asked_for(write: Write) -> None:
    fine = (2.5, 0.0, 500_000.0, 0.0, -2.5, 4_740_000.0)
    values = np.repeat(np.repeat(numbers(1, (1, 20, 20)), 4, 1), 4, 2)
    files = [[write(f"{phase}_B4.tif", values, at=fine)] for phase in ("pre", "post")]
    with open_pair(*files) as pair:
        assert pair.grid == RasterGrid(UTM, (10.0, 0.0, 500_000.0, 0.0, -10.0, 4_740_000.0), (20, 20))
    with open_pair(*files, pixel_m=2.5) as pair:
        assert (pair.grid.transform[0], pair.note) == (2.5, "")


def read_red(pair: RasterPair) -> float:
    layers, _ = pair.read(WHOLE, ("red_pre",))
    return float(np.nanmean(layers["red_pre"]))


def test_the_scale_is_taken_from_the_file_or_the_user_and_wrong_ones_are_noticed(write: Write, tmp_path: Path) -> None:
    stored = np.full((1, 40, 50), 2000, np.uint16)
    plain = write("plain_B4.tif", stored)
    declared = write("declared_B4.tif", stored)
    with rasterio.open(declared, "r+", driver="GTiff") as file:
        file.scales, file.offsets = (2e-4,), (-0.1,)
    floating = write("floating_B4.tif", stored.astype(np.float32))
    reflectance = write("reflectance_B4.tif", stored.astype(np.float32) / 10_000)
    for path, scaling, expected in (
        (plain, None, 0.2),
        (plain, Scaling(offset=-0.1), 0.1),
        (declared, None, 0.3),
        (floating, Scaling(scale=1e-4), 0.2),
        (reflectance, None, 0.2),
    ):
        with open_pair([path], [path], scaling=scaling) as pair:
            assert read_red(pair) == pytest.approx(expected, rel=1e-5)
    with pytest.raises(RasterError, match="beyond 2000 as reflectance"), open_pair([floating], [plain]):
        pass
    with (
        pytest.raises(RasterError, match="beyond 2e-05 as reflectance"),
        open_pair([reflectance], [reflectance], scaling=Scaling(scale=1e-4)),
    ):
        pass
    picture = write("picture_B4.tif", np.full((1, 40, 50), 90, np.uint8))
    with pytest.raises(RasterError, match="8-bit"), open_pair([picture], [picture]):
        pass
    with open_pair([picture], [picture], scaling=Scaling(scale=1 / 255)) as pair:
        assert read_red(pair) == pytest.approx(90 / 255)


def test_layers_that_are_not_there_are_named(write: Write) -> None:
    files = Files(write)
    with (
        open_pair([files.pre], [files.post]) as pair,
        pytest.raises(BandSetError, match=r"slope cannot be had from these rasters, which give blue_pre"),
    ):
        pair.read(WHOLE, ("red_pre", "slope"))
    with (
        pytest.raises(RasterError, match="more than one file gives blue_pre"),
        open_pair([files.pre] * 2, [files.post]),
    ):
        pass
    with (
        pytest.raises(
            RasterError, match=r"--bands blue is the order within one file, but .*pre.*pre.* are of one date"
        ),
        open_pair([files.pre] * 2, [files.post], bands=["blue"]),
    ):
        pass
    with pytest.raises(RasterError, match="one image before and one after"), open_pair([files.pre], []):
        pass


def test_files_are_closed_after_an_error(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []
    monkeypatch.setattr(
        "modeling.rasters.raster_pair.open_raster",
        lambda *args, **kw: opened.append(open_raster(*args, **kw)) or opened[-1],
    )
    files = Files(write)
    with contextlib.suppress(RasterError), open_pair([files.pre], [write("z.tif", numbers(2), crs="EPSG:32655")]):
        pass
    assert len(opened) == 2
    assert all(file.closed for file in opened)


# --- elevation models on other grids ----------------------------------------------------------------------------------


def plane(lon: npt.NDArray[Any], lat: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Rises 0.3 m a metre to the east at 42.7 degrees north."""
    return np.asarray(100 + 0.3 * (lon - 141.0) * 111_194.93 * np.cos(np.deg2rad(42.7)), np.float32) + 0 * lat


def test_an_elevation_model_in_degrees_keeps_its_slope_and_place(write: Write) -> None:
    step = 1 / 3600
    lon, lat = np.meshgrid(140.98 + step * (np.arange(200) + 0.5), 42.72 - step * (np.arange(150) + 0.5))
    dem = write("dem.tif", plane(lon, lat).astype(np.float32), crs="EPSG:4326", at=(step, 0, 140.98, 0, -step, 42.72))
    left, _, _, top = transform_bounds("EPSG:4326", UTM, 140.99, 42.69, 141.01, 42.71)
    grid = RasterGrid(UTM, (10.0, 0.0, round(left, -1), 0.0, -10.0, round(top, -1)), (60, 70))
    with open_raster(dem) as file:
        layers = TerrainReader.of("dem.tif", file, grid).read(grid)
    np.testing.assert_allclose(layers["slope"], np.rad2deg(np.arctan(0.3)), atol=0.02)
    x, y = np.meshgrid(grid.transform[2] + 10 * (np.arange(70) + 0.5), grid.transform[5] - 10 * (np.arange(60) + 0.5))
    there = Transformer.from_crs(UTM, "EPSG:4326", always_xy=True).transform(x, y)
    np.testing.assert_allclose(layers["elevation"], plane(*there), atol=0.02)
    assert (layers["hillshade"] > 181).all()  # it faces west, where the sun stands


def test_a_fine_elevation_model_is_averaged_first(write: Write) -> None:
    """Metre-high noise on flat ground at 2 m is roughness: its slope at the networks' scale is small."""
    noise = np.random.default_rng(0).normal(100, 1, (200, 250)).astype(np.float32)
    dem = write("dem.tif", noise, at=(2.0, 0.0, 500_000.0, 0.0, -2.0, 4_740_000.0))
    grid = RasterGrid(UTM, AT, (40, 50))
    with open_raster(dem) as file:
        reader = TerrainReader.of("dem.tif", file, grid)
        layers = reader.read(grid)
        np.testing.assert_allclose(layers["elevation"], noise.reshape(40, 5, 50, 5).mean((1, 3)), rtol=1e-5)
    assert reader.resampler.reduce_yx == (5, 5)
    assert np.nanmedian(layers["slope"]) < 2


def test_undeclared_voids_of_the_elevation_model_are_unknown(write: Write) -> None:
    z = hills()
    z[10, 10] = -32_768
    grid = RasterGrid(UTM, AT, (40, 50))
    with open_raster(write("dem.tif", z)) as file:
        layers = TerrainReader.of("dem.tif", file, grid).read(grid)
    unknown = {(10, 10), (9, 10), (11, 10), (10, 9), (10, 11)}
    assert set(zip(*np.nonzero(np.isnan(layers["slope"][1:-1, 1:-1])), strict=True)) == {
        (y - 1, x - 1) for y, x in unknown
    }


def test_an_elevation_model_elsewhere_or_in_feet_is_refused(write: Write) -> None:
    files = Files(write)
    away = write("away.tif", hills(), at=(10.0, 0.0, 700_000.0, 0.0, -10.0, 4_740_000.0))
    feet = write("feet.tif", hills(), crs="EPSG:2263", at=(30.0, 0.0, 980_000.0, 0.0, -30.0, 200_000.0))
    degrees = Transformer.from_crs(UTM, "EPSG:2263", always_xy=True).transform(500_000, 4_740_000)
    here = write(
        "here.tif", hills(), crs="EPSG:2263", at=(500.0, 0.0, degrees[0] - 9000, 0.0, -500.0, degrees[1] + 9000)
    )
    far = write("far.tif", hills(), at=(10.0, 0.0, 1_500_000.0, 0.0, -10.0, 4_740_000.0))
    for dem, reason in (
        (away, "does not cover the images"),
        (far, "does not cover the images"),
        (feet, "does not cover the images"),
        (here, "not in true metres"),
    ):
        with pytest.raises(RasterError, match=reason), open_pair([files.pre], [files.post], dem):
            pass


def test_the_real_pair_of_iburi_is_read_with_its_swath_gap(shared_data: Path) -> None:
    folder = shared_data / "iburi2018"
    pre, post = ([folder / f"s2_{phase}_B{band}.tif" for band in (2, 3, 4)] for phase in ("pre", "post"))
    with open_pair(pre, post, folder / "dsm_aw3d30.tif") as pair:
        assert pair.grid.crs == "EPSG:32654"
        height, width = pair.grid.shape_yx
        layers, valid = pair.read((slice(0, height), slice(0, width)), pair.layer_names)
        share = np.isfinite(layers["red_pre"]).mean(), np.isfinite(layers["red_post"]).mean()
        # 601,271 of 1,487,010 pixels of the pre image are the gap.
        assert share[0] / share[1] == pytest.approx(1 - 601_271 / 1_487_010, abs=0.01)
        assert 0.02 < np.nanmedian(layers["red_post"]) < 0.2
        assert 5 < np.nanmedian(layers["slope"]) < 30
        assert 0.5 < valid.mean() < 0.62


@settings(max_examples=25, deadline=None)
@given(
    y=st.integers(0, 60),
    x=st.integers(0, 60),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    seed=st.integers(0, 9),
)
def test_a_warped_window_is_the_part_of_the_whole(y: int, x: int, height: int, width: int, seed: int) -> None:
    """Also at gaps: whether a pixel has a value must not depend on the tile that it was read with."""
    rng = np.random.default_rng(seed)
    values = rng.random((2, 220, 260), dtype=np.float32)
    values[rng.random(values.shape) < 0.3] = np.nan
    source = RasterGrid("EPSG:4326", (4e-5, 0.0, 140.999, 0.0, -9e-5, 42.71), (220, 260))
    grid = RasterGrid(UTM, (10.0, 0.0, 500_030.0, 0.0, -10.0, 4_728_550.0), (100, 100))
    resampler = Resampler.between(source, grid)
    assert resampler.reduce_yx == (1, 3)

    def sampled(part: RasterGrid) -> npt.NDArray[np.float32]:
        return resampler.sample(*resampler.native(part, lambda where: values[:, *where], layers=2), part)

    where = slice(y, y + height), slice(x, x + width)
    np.testing.assert_allclose(sampled(grid.window(where)), sampled(grid)[:, *where], rtol=0, atol=1e-6)
    assert 0.2 < np.isfinite(sampled(grid)).mean() < 1
