"""Fitting a model's uncertainty to events of unseen domains, on a model whose errors are known."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes.training import BANDS, NORMALISATION
from torch import nn

from modeling.calibrated import plain_sure_margin
from modeling.data.batches import Block
from modeling.domains.fingerprint import fingerprint_of
from modeling.errors import DataError, WeightsError
from modeling.model import LandslideModel, load_model, save_model
from modeling.uncertainty.calibrate import calibrated_on
from modeling.uncertainty.shift import recalibrated
from modeling.uncertainty.stored import CARD_KEY, store_description, uncertainty_of

SIDE = 40


class Bright(nn.Module):
    """Calls landslide what is bright in the first channel, very surely."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([torch.zeros_like(x[:, 0]), 40 * (x[:, 0] - 1)], dim=1)


@dataclass(frozen=True)
class Events:
    """Squares, of which bright fields look like more as the domain goes: 0, 5, 10 ... % of the squares' area."""

    domains: int = 6
    each: int = 4

    def __len__(self) -> int:
        return self.domains * self.each

    def __iter__(self) -> Iterator[Block]:
        for domain in range(self.domains):
            for number in range(self.each):
                rng = np.random.default_rng((domain, number))
                truth = np.zeros((SIDE, SIDE), np.uint8)
                truth[4 : 4 + int(rng.integers(10, 20)), 4:24] = 1
                channels = 0.1 + 0.05 * rng.standard_normal((3, SIDE, SIDE)).astype(np.float32)
                channels[:, truth == 1] += 0.25
                channels[:, 36 : 36 + domain // 2, : 10 * domain] += 0.25
                yield Block(channels, truth, f"{domain}-{number}", f"domain{domain}", 100.0)


MODEL = LandslideModel(
    "bright",
    "tiny",
    Bright().eval(),
    BANDS,
    NORMALISATION,
    temperature=1.0,
    threshold=0.5,
    weights_hash="0" * 64,
    card={},
)


def test_intervals_and_temperature_come_from_domains_left_out() -> None:
    found = calibrated_on(MODEL, Events(), about={"command": "as typed"})
    stored = uncertainty_of(found.model)
    assert stored is not None
    assert stored.totals is not None
    assert stored.totals.domains == tuple(f"domain{number}" for number in range(6))
    assert stored.totals.events == 24
    assert stored.about["command"] == "as typed"
    assert 0.5 <= found.covered.share["area"] <= 1
    assert set(found.before) == set(found.after) == set(stored.totals.domains)
    worst = found.before["domain5"]
    assert worst.share > 0.02
    assert found.model.temperature > MODEL.temperature
    assert found.model.sure_margin > plain_sure_margin(found.model.temperature)
    stated = stored.about["calibration_error_of_mapped"]
    assert stated == {
        "before": {domain: each[0] for domain, each in found.errors.items()},
        "after": {domain: each[1] for domain, each in found.errors.items()},
    }


def test_claims_that_do_not_hold_are_kept_back_and_the_other_probabilities_stay_right() -> None:
    found = calibrated_on(MODEL, Events(12, 4))
    assert sum(each.wrong for each in found.after.values()) < 0.1 * sum(each.wrong for each in found.before.values())
    before, after = (np.mean([each[at] for each in found.errors.values()]) for at in (0, 1))
    cautious = recalibrated(MODEL, found.model.sure_margin / plain_sure_margin(1.0))
    x = torch.from_numpy(np.stack([block.channels for block in Events(6, 2)]))
    truth = np.stack([block.truth for block in Events(6, 2)]) == 1
    mapped = (MODEL.probability(x) >= MODEL.threshold).numpy()
    by_one = abs(float(cautious.probability(x).numpy()[mapped].mean()) - truth[mapped].mean())
    by_both = abs(float(found.model.probability(x).numpy()[mapped].mean()) - truth[mapped].mean())
    assert after <= before
    assert by_both < by_one, "one high temperature for all would make all probabilities too low"


def test_the_mask_and_the_weights_stay(tmp_path: Path) -> None:
    found = calibrated_on(MODEL, Events())
    x = torch.from_numpy(np.stack([block.channels for block in Events(2, 1)]))
    mask = MODEL.probability(x) >= MODEL.threshold
    assert torch.equal(found.model.probability(x) >= found.model.threshold, mask)

    shipped = load_model("resu-senet-slim_rgb")
    path = save_model(shipped, tmp_path)
    before, model = path.read_bytes(), load_model(path)
    card = {**model.card, CARD_KEY: found.model.card[CARD_KEY]}
    written = store_description(path, replace(model, temperature=3.5, sure_margin=9.0, threshold=0.5, card=card))
    assert path.read_bytes() == before
    again = load_model(path)
    assert (again.temperature, again.sure_margin, again.weights_hash) == (3.5, 9.0, model.weights_hash)
    assert uncertainty_of(again) == uncertainty_of(found.model)
    assert json.loads(written.read_text())["sha256"] == model.weights_hash
    with pytest.raises(WeightsError, match="other weights"):
        store_description(path, replace(model, weights_hash="0" * 64))


def test_a_domain_that_the_model_has_learned_from_is_refused() -> None:
    sample = fingerprint_of(Events(2, 2), BANDS.channels, rows=200)
    with pytest.raises(DataError, match="has learned from domain0"):
        calibrated_on(MODEL, Events(), sample=sample)


def test_too_few_domains_to_leave_one_out_are_told() -> None:
    with pytest.raises(DataError, match="80 %"):
        calibrated_on(MODEL, Events(domains=4, each=2))


def test_the_temperature_keeps_its_promise_where_the_others_are_alike() -> None:
    # One domain is a copy of another: what the others say of it is then what is true.
    class Twins(Events):
        def __iter__(self) -> Iterator[Block]:
            for block in Events(self.domains, self.each):
                other = replace(block, domain=f"twin of {block.domain}", name=f"twin of {block.name}")
                yield from (block, other)

        def __len__(self) -> int:
            return 2 * self.domains * self.each

    found = calibrated_on(MODEL, Twins(3, 3))
    assert all(isinstance(each.share, float) for each in found.after.values())
    assert sum(each.wrong for each in found.after.values()) <= sum(each.wrong for each in found.before.values())
