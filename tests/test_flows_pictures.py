"""flows/pictures.py and flows/mapframe.py: pictures show what is there, and grey stripes where nothing is known."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pytest
from fakes.products import GRID, polygons, write_rasters
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from flows.decimate import Raster, SlicesYX
from flows.mapframe import height_of, metres_label, nice_length
from flows.pictures import MapLayers, map_layers, preview_png, report_pictures, stripes, true_colour
from gee.types import Grid, Observed

FloatArray = npt.NDArray[np.float32]
YELLOW = np.array([255, 214, 10])


def scene(window: SlicesYX) -> Mapping[str, FloatArray]:
    """Green land that has become a little browner."""
    rows, columns = np.mgrid[window].astype(np.float32)
    texture = 0.01 * np.sin(rows / 7) * np.cos(columns / 5)
    colours = {
        "red_pre": 0.05,
        "green_pre": 0.09,
        "blue_pre": 0.07,
        "red_post": 0.06,
        "green_post": 0.09,
        "blue_post": 0.07,
    }
    return {name: (value + texture).astype(np.float32) for name, value in colours.items()}


def layers(
    folder: Path, observed: npt.NDArray[np.uint8] | None = None, slides: gpd.GeoDataFrame | None = None
) -> MapLayers:
    write_rasters(folder, observed)
    slides = polygons() if slides is None else slides
    return map_layers(scene, GRID, folder / "probability.tif", folder / "observed.tif", slides)


def none_found() -> gpd.GeoDataFrame:
    return polygons(1).iloc[:0]


def pixels(data: bytes) -> npt.NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def share_near(picture: npt.NDArray[np.uint8], colour: npt.NDArray[np.int_], reach: int = 40) -> float:
    return float((np.abs(picture.astype(int) - colour).max(axis=-1) < reach).mean())


def test_a_preview_outlines_the_landslides(tmp_path: Path) -> None:
    picture = pixels(preview_png(layers(tmp_path), "M 6.6 - somewhere"))
    assert picture.shape[1] == 1200
    empty = pixels(preview_png(layers(tmp_path, slides=none_found()), "M 6.6 - somewhere"))
    assert share_near(picture, YELLOW) > 0.0002
    assert share_near(empty, YELLOW) == 0


def test_a_preview_is_the_same_file_every_time(tmp_path: Path) -> None:
    assert preview_png(layers(tmp_path), "x") == preview_png(layers(tmp_path), "x")


def test_ground_that_was_not_observed_is_grey_and_never_shows_an_image(tmp_path: Path) -> None:
    codes = np.full(GRID.shape_yx, Observed.CLEAR, np.uint8)
    codes[:60] = Observed.CLOUD
    picture = pixels(preview_png(layers(tmp_path, codes, none_found()), ""))
    upper, lower = picture[40 : picture.shape[0] // 3], picture[picture.shape[0] * 2 // 3 : -150]
    grey = lambda part: float((np.ptp(part.astype(int), axis=-1) < 20).mean())  # noqa: E731
    assert grey(upper[:, 100:1000]) > 0.99
    assert grey(lower[:, 100:1000]) < 0.5


def test_stripes_cover_exactly_what_is_not_known() -> None:
    codes = np.array([[0, 1, 2, 3, 4, 5, 255]], np.uint8)
    alpha = stripes(codes)[0, :, 3]
    assert alpha.tolist() == pytest.approx([1, 0, 1, 1, 1, 1, 0.6])


def test_colours_are_transparent_where_unknown_and_within_range() -> None:
    values = np.full((3, 4, 4), 0.1, np.float32)
    values[0] += np.arange(16, dtype=np.float32).reshape(4, 4) / 100
    values[:, 0, 0] = np.nan
    rgba = true_colour(Raster(values, (0, 0, 4, 4)))
    assert rgba[0, 0].tolist() == [0, 0, 0, 0]
    assert (rgba[..., 3].sum(), rgba.min(), rgba.max()) == (15, 0, 1)


def test_an_image_of_nothing_is_transparent() -> None:
    assert not true_colour(Raster(np.full((3, 2, 2), np.nan, np.float32), (0, 0, 2, 2))).any()


@pytest.mark.parametrize("simulated", [False, True])
def test_a_report_has_its_four_pictures_with_words_for_those_who_cannot_see(tmp_path: Path, simulated: bool) -> None:
    overview = layers(tmp_path)
    pictures = report_pictures(overview, overview, simulated=simulated)
    assert [picture.key for picture in pictures] == ["map", "detail", "probability", "coverage"]
    for picture in pictures:
        assert Image.open(io.BytesIO(picture.data)).size == picture.size_px
        assert len(picture.alt) > 20
        assert picture.caption.startswith("Simulated scene.") is simulated
    assert "3 mapped landslides" in pictures[0].alt
    assert "observed 100%" in pictures[-1].alt


def test_pictures_of_nothing_observed_and_nothing_found_can_be_drawn(tmp_path: Path) -> None:
    codes = np.full(GRID.shape_yx, Observed.NO_PASS, np.uint8)
    write_rasters(tmp_path, codes)

    def dark(window: SlicesYX) -> Mapping[str, FloatArray]:
        return {name: np.full_like(values, np.nan) for name, values in scene(window).items()}

    nothing = map_layers(dark, GRID, tmp_path / "probability.tif", tmp_path / "observed.tif", none_found())
    pictures = report_pictures(nothing, None, simulated=False)
    assert [picture.key for picture in pictures] == ["map", "probability", "coverage"]
    assert "no mapped landslide" in pictures[0].alt
    assert "not imaged 100%" in pictures[-1].alt
    assert preview_png(nothing, "nothing seen").startswith(b"\x89PNG")


@pytest.mark.parametrize("shape", [(1, 1), (3, 400), (400, 3)])
def test_areas_of_any_shape_can_be_drawn(
    tmp_path: Path, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = Grid(GRID.crs, GRID.transform, shape)
    monkeypatch.setattr("fakes.products.GRID", grid)
    write_rasters(tmp_path)
    drawn = map_layers(scene, grid, tmp_path / "probability.tif", tmp_path / "observed.tif", none_found())
    width, height = Image.open(io.BytesIO(preview_png(drawn, "x"))).size
    assert width == 1200
    assert 400 < height < 2000


def test_without_an_image_before_the_event_the_panel_has_two_parts(tmp_path: Path) -> None:
    write_rasters(tmp_path)
    window = slice(20, 80), slice(60, 120)
    place = (scene, GRID, tmp_path / "probability.tif", tmp_path / "observed.tif", polygons())
    both = report_pictures(map_layers(*place), map_layers(*place, window=window), simulated=False)[1]
    single = report_pictures(map_layers(*place), map_layers(*place, window=window, with_pre=False), simulated=False)[1]
    assert single.size_px[1] > both.size_px[1] * 1.3  # two squares over the same width are higher than three


def test_polygons_outside_a_window_are_not_drawn_in_it(tmp_path: Path) -> None:
    write_rasters(tmp_path)
    place = (scene, GRID, tmp_path / "probability.tif", tmp_path / "observed.tif", polygons())
    assert len(map_layers(*place, window=(slice(0, 30), slice(0, 30))).landslides) == 0
    assert len(map_layers(*place).landslides) == 3


@given(st.floats(1e-6, 1e9))
@example(999_999_999.999_999_9)
def test_scale_bars_have_round_lengths_that_fit(longest: float) -> None:
    length = nice_length(longest)
    assert longest / 2.6 <= length <= longest
    assert f"{length:.0e}"[0] in "125"


def test_lengths_are_told_in_the_unit_that_people_use() -> None:
    assert [metres_label(metres) for metres in (500.0, 1000.0, 20_000.0)] == ["500 m", "1 km", "20 km"]


def test_frames_are_neither_ribbons_nor_towers() -> None:
    assert height_of((0, 0, 100, 1), 10) == pytest.approx(4.5)
    assert height_of((0, 0, 1, 100), 10) == pytest.approx(13.5)
    assert height_of((0, 0, 100, 80), 10) == pytest.approx(8)
