"""`modeling.geology.subtraction`, `scan` and `scheme`: sub-regions, one date or two, histograms, and what is subtracted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from fakes.weights import random_model
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn

from modeling.bands import BAND_SETS, BandSet
from modeling.data.batches import IGNORE, Block
from modeling.errors import BandSetError, DataError
from modeling.geology.rules import GeologyRules
from modeling.geology.scan import scan, sub_regions
from modeling.geology.scheme import map_block
from modeling.geology.subtraction import HistogramDecision, as_after, bands_before, grown, is_single_date, subtract
from modeling.model import LandslideModel

Mask = npt.NDArray[np.bool_]
MASKS = arrays(bool, (16, 20))
COLOURS = ("red", "green", "blue")
CHANNELS = ("slope", *(f"{colour}_{phase}" for phase in ("pre", "post") for colour in COLOURS))


@settings(max_examples=50, deadline=None)
@given(st.tuples(st.integers(1, 60), st.integers(1, 60)), st.integers(4, 40), st.integers(0, 20))
def test_sub_regions_cover_a_scene_once_and_see_themselves(shape: tuple[int, int], side: int, overlap: int) -> None:
    count = np.zeros(shape, int)
    for own, seen in sub_regions(shape, side, overlap):
        count[own] += 1
        for inner, outer, size in zip(own, seen, shape, strict=True):
            assert 0 <= outer.start <= inner.start < inner.stop <= outer.stop <= size
            assert outer.start == max(inner.start - overlap, 0)
    assert (count == 1).all()


def test_a_scene_is_scanned_as_if_it_were_one_where_the_overlap_suffices() -> None:
    network = nn.AvgPool2d(5, 1, 2, count_include_pad=False)
    channels = np.random.default_rng(0).random((1, 70, 90)).astype(np.float32)

    def classify(x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = network(x)[:, 0]
        return found

    whole = scan(classify, channels, side_px=1000)
    np.testing.assert_allclose(scan(classify, channels, side_px=32, overlap_px=2), whole, atol=1e-6)
    assert np.abs(scan(classify, channels, side_px=32, overlap_px=0) - whole).max() > 0.01, "the paper's way has seams"
    with pytest.raises(DataError):
        list(sub_regions((10, 10), 0, 2))


def test_one_date_is_told_from_two() -> None:
    assert {name: is_single_date(bands) for name, bands in BAND_SETS.items()} == {
        "ten-band": False, "rgb-terrain": False, "rgb": True,
    }  # fmt: skip
    assert bands_before(BAND_SETS["rgb"]).channels == ("red_pre", "green_pre", "blue_pre")
    with pytest.raises(BandSetError, match="ten-band"):
        bands_before(BAND_SETS["ten-band"])
    assert not is_single_date(BandSet("terrain", ("slope",), ""))


def test_the_image_before_is_read_under_the_names_of_the_one_after() -> None:
    layers = {name: np.full((2, 2), number, np.float32) for number, name in enumerate(CHANNELS)}
    found = as_after(layers)
    assert set(found) == {"slope", "red_post", "green_post", "blue_post"}
    assert found["red_post"][0, 0] == layers["red_pre"][0, 0]


@pytest.mark.parametrize(("shift", "matched"), [(0.0, False), (0.008, False), (0.03, True)])
def test_histograms_are_matched_when_they_lie_far_enough_apart(shift: float, matched: bool) -> None:
    rng = np.random.default_rng(0)
    before = {colour: rng.normal(0.1, 0.02, (80, 80)).astype(np.float32) for colour in COLOURS}
    after = {colour: values + np.float32(shift * (colour == "red")) for colour, values in before.items()}
    decision = HistogramDecision(COLOURS)
    decision.add(before, after, np.ones((80, 80), bool))
    decided = decision.decide()
    assert decided.distances["red"] == pytest.approx(shift, abs=1e-3)
    assert (decided.match is not None) == matched
    assert ("red" in decided.why) == (shift > 0) or not shift
    if decided.match is not None:
        np.testing.assert_allclose(decided.match.apply("red", before["red"]).mean(), after["red"].mean(), atol=1e-3)


def test_too_little_common_ground_is_said_and_nothing_is_matched() -> None:
    decision = HistogramDecision(COLOURS)
    image = {colour: np.zeros((5, 5), np.float32) for colour in COLOURS}
    decision.add(image, image, np.ones((5, 5), bool))
    assert decision.decide().match is None
    assert "2000" in decision.decide().why


@settings(max_examples=50, deadline=None)
@given(after=MASKS, before=MASKS, margin=st.integers(0, 3))
def test_subtraction_only_takes_away_and_only_near_what_was_there(after: Mask, before: Mask, margin: int) -> None:
    left = subtract(after, before, margin)
    assert not (left & ~after).any()
    assert not (left & before).any()
    rows, columns = np.nonzero(after & ~left)
    there = np.argwhere(before)
    for row, column in zip(rows, columns, strict=True):
        assert np.abs(there - (row, column)).max(axis=1).min() <= margin
    assert np.array_equal(subtract(left, before, margin), left)
    if not before.any():
        assert np.array_equal(left, after)


def test_maps_of_other_sizes_are_refused() -> None:
    with pytest.raises(DataError, match="subtracted"):
        subtract(np.zeros((2, 2), bool), np.zeros((2, 3), bool))
    with pytest.raises(DataError, match="-1"):
        grown(np.zeros((2, 2), bool), -1)


class Bright(nn.Module):
    """Landslide is where the first channel is bright."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        score = (x[:, 0] - 0.3) * 50
        return torch.stack([-score, score], dim=1)


def bright_model(bands: str = "rgb") -> LandslideModel:
    return replace(random_model(bands), network=Bright())


def scene() -> Block:
    """A new scar, an old one that is brighter now, and ground that was not seen before."""
    rng = np.random.default_rng(1)
    channels = rng.normal(0.1, 0.02, (len(CHANNELS), 96, 96)).astype(np.float32)
    channels[0] = 25
    red_before, red_after = (channels[CHANNELS.index(f"red_{phase}")] for phase in ("pre", "post"))
    red_after[10:20, 10:20] = 0.5
    red_after[50:60, 50:62] = 0.6
    red_before[50:60, 50:60] = 0.5
    red_before[90:] = np.nan
    red_after[91:95, 5:25] = 0.5
    truth = np.zeros((96, 96), np.uint8)
    truth[10:20, 10:20] = 1
    truth[:, 80:] = IGNORE
    return Block(channels, truth, "b", "d", 100.0)


def test_what_was_bright_before_goes_and_what_was_not_seen_before_stays() -> None:
    maps = map_block(bright_model(), scene(), CHANNELS, before=True)
    assert maps.before is not None
    assert maps.histograms is not None
    assert maps.before[50:60, 50:60].all()
    left = maps.under(subtracted=True)
    expected = np.zeros((96, 96), bool)
    expected[10:20, 10:20] = True
    expected[50:60, 61] = True  # the old scar has grown by two columns, one of them within the margin
    expected[91:95, 5:25] = True
    assert np.array_equal(left, expected)
    cleaned = maps.under(GeologyRules(minimum_area_m2=2_000.0), subtracted=True)
    expected[50:60, 61] = False
    assert np.array_equal(cleaned, expected), "the sliver falls to the area rule"
    assert np.array_equal(maps.under(), maps.after)
    assert maps.slope_deg is not None


def test_a_network_of_two_dates_is_not_run_on_one() -> None:
    names = BAND_SETS["rgb-terrain"].channels
    block = Block(np.zeros((len(names), 32, 32), np.float32), np.zeros((32, 32), np.uint8), "b", "d")
    maps = map_block(random_model("rgb-terrain"), block, names, before=True)
    assert maps.before is None
    assert maps.pixel_m == 10.0
    assert np.array_equal(maps.under(subtracted=True), maps.after)
    with pytest.raises(BandSetError, match="ndvi_pre"):
        map_block(random_model("ten-band"), block, names)
