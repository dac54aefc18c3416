"""Evaluation: counts add up whatever the batching, hold what is known by hand, and survive their JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modeling.data.batches import IGNORE, Block
from modeling.errors import DataError, ModelingError
from modeling.scoring import evaluate as evaluation
from modeling.scoring.evaluate import Evaluation, block_margins, evaluate_margin, evaluate_mask
from modeling.scoring.metrics import Confusion


class Ground:
    """Blocks in memory."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        self.blocks = list(blocks)

    def __len__(self) -> int:
        return len(self.blocks)

    def __iter__(self) -> Iterator[Block]:
        return iter(self.blocks)


def ground(*shapes: tuple[int, int], domains: Sequence[str] = ("a", "b"), seed: int = 0) -> Ground:
    """Blocks whose first channel is a noisy margin of their truth; one pixel in twenty does not count."""
    rng = np.random.default_rng(seed)
    blocks = []
    for number, shape in enumerate(shapes):
        truth = (rng.random(shape) < 0.2).astype(np.uint8)
        channel = (truth * 4.0 - 2.0 + rng.normal(0, 2, shape)).astype(np.float32)
        truth[rng.random(shape) < 0.05] = IGNORE
        blocks.append(Block(np.stack([channel, channel * 0]), truth, f"block {number}", domains[number % len(domains)]))
    return Ground(blocks)


def first_channel(x: torch.Tensor) -> torch.Tensor:
    return x[:, 0]


def blurred(x: torch.Tensor) -> torch.Tensor:
    """Looks eight pixels far, and no further."""
    return torch.nn.functional.avg_pool2d(x[:, :1], 17, 1, 8, count_include_pad=False)[:, 0]


def test_counts_are_those_of_all_pixels_together() -> None:
    blocks = ground((30, 40), (30, 40), (12, 9))
    result = evaluate_margin(first_channel, blocks)
    margin = np.concatenate([block.channels[0].ravel() for block in blocks])
    truth = np.concatenate([block.truth.ravel() for block in blocks])
    mapped, counts = margin >= 0, truth != IGNORE
    expected = tuple(
        int((counts & (mapped == claim) & ((truth == 1) == real)).sum())
        for claim, real in ((True, True), (True, False), (False, True), (False, False))
    )
    assert result.pixels.counts == expected
    assert sum(histogram.pixels for histogram in result.margins.values()) == sum(expected)
    assert result.scores()["f1"] == pytest.approx(2 * expected[0] / (2 * expected[0] + expected[1] + expected[2]))


def test_a_domain_is_a_part_and_parts_make_the_whole() -> None:
    result = evaluate_margin(first_channel, ground((20, 20), (20, 20), (20, 20)))
    assert result.domains == ("a", "b")
    assert [len(result.of(domain).blocks) for domain in result.domains] == [2, 1]
    assert result.of("a").pixels + result.of("b").pixels == result.pixels
    assert result.of("a").objects + result.of("b").objects == result.objects
    assert set(result.of("b").margins) == {"b"}
    with pytest.raises(DataError, match="'c'"):
        result.of("c")


def test_threshold_and_temperature_are_the_models() -> None:
    blocks = ground((40, 40))
    block = blocks.blocks[0]
    result = evaluate_margin(first_channel, blocks, temperature=2.0, threshold=0.7)
    certain = 1 / (1 + np.exp(-block.channels[0] / 2)) >= 0.7
    counted = block.truth != IGNORE
    assert result.pixels.tp + result.pixels.fp == int((certain & counted).sum())
    assert (result.temperature, result.threshold) == (2.0, 0.7)
    diagram = result.reliability()
    assert diagram is not None
    assert sum(diagram.pixels) == int(counted.sum())


@settings(max_examples=30, deadline=None)
@given(
    shapes=st.lists(st.sampled_from([(8, 8), (8, 9), (16, 5)]), min_size=1, max_size=7),
    pixels=st.integers(min_value=1, max_value=400),
)
def test_batching_changes_no_margin_and_no_order(shapes: list[tuple[int, int]], pixels: int) -> None:
    blocks = ground(*shapes)
    got = list(block_margins(first_channel, blocks, batch_pixels=pixels))
    assert [block.name for block, _ in got] == [block.name for block in blocks]
    for block, margin in got:
        np.testing.assert_array_equal(margin, block.channels[0])


def test_blocks_of_one_shape_go_through_the_network_together() -> None:
    sizes: list[int] = []

    def counting(x: torch.Tensor) -> torch.Tensor:
        sizes.append(len(x))
        return x[:, 0]

    list(block_margins(counting, ground(*[(8, 8)] * 5, (4, 4), (8, 8)), batch_pixels=2 * 64))
    assert sizes == [2, 2, 1, 1, 1]


def test_a_large_block_in_pieces_is_the_block_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = ground((70, 53))
    [(_, whole)] = block_margins(blurred, blocks)
    monkeypatch.setattr(evaluation, "PIECE_PX", 20)
    monkeypatch.setattr(evaluation, "HALO_PX", 8)
    [(_, pieces)] = block_margins(blurred, blocks)
    np.testing.assert_allclose(pieces, whole, atol=1e-5)
    monkeypatch.setattr(evaluation, "HALO_PX", 3)
    [(_, narrow)] = block_margins(blurred, blocks)
    assert np.abs(narrow - whole).max() > 1e-3, "too little context must show, or the test proves nothing"


def test_json_gives_the_evaluation_back() -> None:
    result = evaluate_margin(first_channel, ground((20, 20), (20, 20), (9, 9)), temperature=1.5, threshold=0.4)
    again = Evaluation.from_json(json.loads(json.dumps(result.to_json(), allow_nan=False)))
    assert again.blocks == result.blocks
    assert again.scores() == result.scores()
    assert again.reliability() == result.reliability()
    assert again.intervals(resamples=50) == result.intervals(resamples=50)


@pytest.mark.parametrize("damage", ["blocks", "margins", "threshold"])
def test_damaged_json_is_refused(damage: str) -> None:
    stored = evaluate_margin(first_channel, ground((9, 9))).to_json()
    with pytest.raises(DataError, match="not a stored evaluation"):
        Evaluation.from_json({name: value for name, value in stored.items() if name != damage})


def test_an_interval_holds_the_score_and_narrows_with_blocks() -> None:
    few = evaluate_margin(first_channel, ground(*[(16, 16)] * 6)).intervals(resamples=300)["f1"]
    many = evaluate_margin(first_channel, ground(*[(16, 16)] * 60)).intervals(resamples=300)["f1"]
    assert few.low <= few.value <= few.high
    assert many.high - many.low < few.high - few.low


def test_landslides_of_unknown_pixel_size_count_as_10_m_pixels() -> None:
    truth = np.zeros((20, 20), np.uint8)
    truth[2:6, 2:6] = 1  # 16 pixels: 1,600 m² at 10 m, 16 m² at 1 m
    channels = (truth * 2.0 - 1.0)[np.newaxis].astype(np.float32)
    for pixel_m2, expected in ((float("nan"), 1), (100.0, 1), (1.0, 0)):
        result = evaluate_margin(first_channel, Ground([Block(channels, truth, "block", "a", pixel_m2)]))
        found = [row["low_m2"] for row in result.objects.by_size() if row["true"]]
        assert found == [result.objects.edges_m2[0] if expected else 0.0]


def test_a_mask_is_scored_without_a_probability() -> None:
    blocks = ground((20, 20), (20, 20))
    result = evaluate_mask(lambda block: block.channels[0] >= 0, blocks)
    assert result.pixels == evaluate_margin(first_channel, blocks).pixels
    assert result.reliability() is None
    with pytest.raises(DataError, match="shape"):
        evaluate_mask(lambda block: np.zeros((3, 3), bool), blocks)


def test_nothing_to_evaluate_is_an_error() -> None:
    with pytest.raises(DataError, match="no block"):
        evaluate_margin(first_channel, Ground([]))
    unknown = Block(np.zeros((1, 4, 4), np.float32), np.full((4, 4), IGNORE, np.uint8), "dark", "a")
    with pytest.raises(DataError, match="none of the 1 blocks"):
        evaluate_margin(first_channel, Ground([unknown]))


def test_a_damaged_network_is_named_with_its_block() -> None:
    with pytest.raises(ModelingError, match="block 1"):
        evaluate_margin(_broken_in_the_second(), ground((4, 4), (5, 5)))


def _broken_in_the_second() -> evaluation.Margin:
    seen = 0

    def margin(x: torch.Tensor) -> torch.Tensor:
        nonlocal seen
        seen += 1
        return x[:, 0] if seen == 1 else x[:, 0] * torch.nan

    return margin


def test_blocks_of_one_group_are_drawn_together() -> None:
    """Eight patches of two regions are two pieces of ground: the interval says so, and is wider for it."""
    alone = ground(*[(16, 16)] * 8, domains=("a",))
    worse = [replace(block, truth=1 - block.truth % 2) if n < 4 else block for n, block in enumerate(alone)]
    apart = evaluate_margin(first_channel, Ground(worse))
    grouped = evaluate_margin(
        first_channel, Ground([replace(block, group=f"region {n // 4}") for n, block in enumerate(worse)])
    )
    assert [piece.name for piece in grouped.ground()] == ["region 0", "region 1"]
    assert sum((piece.pixels for piece in grouped.ground()), Confusion()) == apart.pixels == grouped.pixels
    wide, narrow = grouped.intervals()["f1"], apart.intervals()["f1"]
    assert (wide.blocks, narrow.blocks) == (2, 8)
    assert wide.high - wide.low > narrow.high - narrow.low
    again = Evaluation.from_json(json.loads(json.dumps(grouped.to_json())))
    assert again.ground() == grouped.ground()
