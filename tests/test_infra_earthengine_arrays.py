"""Array pixels: stacked, sorted, sliced, reduced and taken apart again, as the idioms for "the best pixel" do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ee
import numpy as np
import pytest
from fakes.catalogue import CatalogueWriter
from fakes.earthengine import earth_engine, pixels, values

from gee.types import Grid

GRID = Grid("EPSG:32654", (10.0, 0.0, 500_000.0, 0.0, -10.0, 4_700_000.0), (4, 6))
ROWS, COLS = np.mgrid[:4, :6]
LAYERS = np.stack([7 + COLS, np.where(COLS == 2, 0, 30 - 3 * COLS), np.where(ROWS == 1, 0, 5 * ROWS + 1)])
SCORES = np.stack([COLS, 5 - COLS, np.full(COLS.shape, 3)])


@pytest.fixture(scope="module", autouse=True)
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("catalogue")
    write = CatalogueWriter(root)
    for i, (layer, score) in enumerate(zip(LAYERS, SCORES, strict=True)):
        write.image(f"S/i{i}", {"v": layer.astype(np.uint16), "s": (score + 1).astype(np.uint16)}, GRID)
    with earth_engine(root, tmp_path_factory.mktemp("state")) as url:
        yield url


def stacked() -> Any:
    return ee.ImageCollection("S").toArray()


VALID = LAYERS > 0


def test_a_collection_becomes_rows_of_bands_without_the_masked_images() -> None:
    assert stacked().bandNames().getInfo() == ["array"]
    assert stacked().getInfo()["bands"][0]["data_type"]["dimensions"] == 2
    np.testing.assert_array_equal(pixels(stacked().arrayLength(0), GRID)["array"], VALID.sum(0))
    np.testing.assert_array_equal(pixels(stacked().arrayLength(1), GRID)["array"], 2)
    np.testing.assert_array_equal(pixels(stacked().arrayDimensions(), GRID)["array"], 2)
    first = values(stacked().arrayGet([0, 0]), GRID)
    np.testing.assert_array_equal(first, LAYERS[0])
    last = values(stacked().arraySlice(0, -1).arrayProject([1]).arrayFlatten([["v", "s"]]).select("v"), GRID)
    np.testing.assert_array_equal(last, np.where(VALID[2], LAYERS[2], np.where(VALID[1], LAYERS[1], LAYERS[0])))


def test_the_pixel_with_the_best_score() -> None:
    rows = stacked()
    score = rows.arraySlice(1, 1, 2)
    best = rows.arraySort(score.multiply(-1)).arraySlice(0, 0, 1).arrayProject([1]).arrayFlatten([["v", "s"]])
    chosen = np.where(VALID, SCORES, -1).argmax(0)
    np.testing.assert_array_equal(values(best.select("v"), GRID), np.take_along_axis(LAYERS, chosen[None], 0)[0])
    # The same by a reducer of several inputs, and by a quality mosaic.
    swapped = ee.ImageCollection("S").select(["s", "v"]).reduce(ee.Reducer.max(2)).rename(["s", "v"])
    np.testing.assert_array_equal(values(best.select("s"), GRID), values(swapped.select("s"), GRID))


def test_reducing_along_an_axis_heeds_the_lengths() -> None:
    middle = stacked().arraySlice(1, 0, 1).arrayReduce(ee.Reducer.median(), [0]).arrayGet([0, 0])
    wanted = np.nanmedian(np.where(VALID, LAYERS, np.nan).astype(float), axis=0)
    np.testing.assert_array_equal(values(middle, GRID), wanted)


def test_slices_count_from_each_array_s_own_end() -> None:
    for limits, wanted in (((0, 2), np.minimum(VALID.sum(0), 2)), ((-2, None), np.minimum(VALID.sum(0), 2)),
                           ((1, -1), VALID.sum(0) - 2), ((0, None), VALID.sum(0))):  # fmt: skip
        cut = stacked().arraySlice(0, *limits) if limits[1] is not None else stacked().arraySlice(0, limits[0])
        np.testing.assert_array_equal(pixels(cut.arrayLength(0), GRID)["array"], np.maximum(wanted, 0))
    steps = stacked().arraySlice(0, 0, 3, 2)
    np.testing.assert_array_equal(pixels(steps.arrayLength(0), GRID)["array"], -(-VALID.sum(0) // 2))


def test_bands_become_an_array_and_bands_again() -> None:
    image = ee.Image("S/i1")
    line = image.toArray()
    assert line.toArray(1).arrayDimensions().getInfo()["bands"][0]["id"] == "array"
    back = line.arrayFlatten([["x", "y"]])
    assert back.bandNames().getInfo() == ["x", "y"]
    np.testing.assert_array_equal(values(back.select("x"), GRID), np.where(VALID[1], LAYERS[1], np.nan))
    np.testing.assert_array_equal(values(line.arrayGet(1), GRID), np.where(VALID[1], SCORES[1] + 1, np.nan))
    twice = line.multiply(2).add(ee.Image("S/i1").select("s"))
    np.testing.assert_array_equal(
        values(twice.arrayGet(0), GRID), np.where(VALID[1], 2 * LAYERS[1] + SCORES[1] + 1, np.nan)
    )


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (stacked, "flatten the bands array first"),
        (lambda: stacked().arrayGet([9, 0]), "Position 9 is outside axis 0"),
        (lambda: stacked().arrayGet([0]), "A position with 2 bands is needed, got 1"),
        (lambda: stacked().arrayProject([1]).arrayGet([0]), "Axis 0 is longer than 1"),
        (lambda: stacked().arrayFlatten([["a"], ["v", "s"]]), "Expected arrays of length 1 along axis 0"),
        (lambda: stacked().arraySlice(2, 0, 1).arrayGet([0, 0]), "Axis 2 is not one of the 2"),
        (lambda: ee.Image(1).arrayLength(0), "numbers as pixels, arrays are needed"),
    ],
)
def test_what_does_not_fit_is_said(image: Any, words: str) -> None:
    with pytest.raises(ee.EEException, match=words):
        pixels(image(), GRID)
