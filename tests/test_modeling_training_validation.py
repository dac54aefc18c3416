"""A validation pass counts every pixel once, however blocks share batches."""

from __future__ import annotations

import pytest
import torch
from fakes.training import BANDS, ToyBlocks

from modeling.data.batches import IGNORE
from modeling.training.losses import loss, margin_of
from modeling.training.validation import require_usable, validate

CPU = torch.device("cpu")


def logits(x: torch.Tensor) -> torch.Tensor:
    return (torch.nan_to_num(x).mean(1, keepdim=True) - 0.15) * 40


@pytest.mark.parametrize("batch", [1, 2, 3, 100])
def test_pixels_do_not_depend_on_the_batch(batch: int) -> None:
    blocks = ToyBlocks(5)
    found = validate(logits, blocks, loss("cross-entropy"), batch=batch, device=CPU)
    valid = sum(int((block.truth != IGNORE).sum()) for block in blocks)
    assert found.margins.pixels == valid
    landslide = sum(int((block.truth == 1).sum()) for block in blocks)
    assert int(found.margins.landslide.sum()) == landslide
    hits = claimed = 0
    for block in blocks:
        mapped = margin_of(logits(torch.from_numpy(block.channels)[None]))[0].numpy() >= 0
        hits += int((mapped & (block.truth == 1)).sum())
        claimed += int((mapped & (block.truth != IGNORE)).sum())
    assert found.f1 == pytest.approx(2 * hits / (claimed + landslide))


def test_the_loss_is_the_mean_over_blocks() -> None:
    measure = loss("dice")
    each = [
        float(
            measure(
                logits(torch.from_numpy(b.channels)[None]),
                *(torch.from_numpy(a)[None] for a in (b.truth, b.truth != IGNORE)),
            )
        )
        for b in ToyBlocks(4)
    ]
    found = validate(logits, ToyBlocks(4), measure, batch=1, device=CPU)
    assert found.loss == pytest.approx(sum(each) / 4, rel=1e-5)


def test_what_can_be_validated_passes() -> None:
    require_usable(ToyBlocks(), BANDS.channels)
