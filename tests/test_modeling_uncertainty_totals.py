"""An event's totals, counted as the inventory counts, and what is stored of them with a model."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from modeling.data.batches import IGNORE
from modeling.errors import DataError, WeightsError
from modeling.model import load_model, save_model
from modeling.uncertainty.conformal import fit_totals
from modeling.uncertainty.stored import CARD_KEY, Uncertainty, uncertainty_of, with_uncertainty, wrong_when_sure
from modeling.uncertainty.totals import EventTotals, totals_of

TRUTH = np.zeros((8, 8), np.uint8)
TRUTH[0:2, 0:2] = 1  # 4 pixels: a landslide
TRUTH[2, 2] = 1  # touches it at a corner only: a body of its own, and too small
TRUTH[5:8, 5:8] = 1
TRUTH[:, 7] = IGNORE
EVENTS = [
    EventTotals(f"e{n}", f"d{n}", 900.0 * (n + 1), 900.0, n + 1, 1000.0 * (n + 1), n + 2, 1e6, 0.1) for n in range(5)
]


def test_an_event_is_counted_by_the_inventory_s_rule() -> None:
    probability = np.full((8, 8), 0.25, np.float32)
    probability[0:2, 0:3] = 0.75  # six pixels
    probability[7, 0] = 0.9  # one pixel: below the minimum
    probability[5, 5] = np.nan
    found = totals_of(probability, 0.5, TRUTH, name="one", domain="here", pixel_m2=100.0)
    assert (found.mapped_m2, found.mapped_count) == (600.0, 1)
    # In truth 4 + 1 pixels, and 3 by 2 in the corner less the one that was not observed; two bodies have 4 and more.
    assert (found.true_m2, found.true_count) == (1000.0, 2)
    assert found.observed_m2 == 100.0 * (8 * 7 - 1)
    assert found.expected_m2 == pytest.approx(100 * (6 * 0.75 + 0.9 + (55 - 7) * 0.25))
    assert EventTotals.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_an_event_that_nobody_saw_has_no_totals() -> None:
    with pytest.raises(DataError, match="no pixel was observed"):
        totals_of(np.full((8, 8), np.nan, np.float32), 0.5, TRUTH, name="one", domain="here")
    with pytest.raises(DataError, match="shape"):
        totals_of(np.zeros((4, 4), np.float32), 0.5, TRUTH, name="one", domain="here")


def test_no_more_landslides_are_expected_than_have_room() -> None:
    fitted = fit_totals(EVENTS)
    free, bound = fitted.count_range(300, 8.0), fitted.count_range(300, 8.0, observed_m2=1e5)
    assert bound.high == min(free.high, math.ceil(1e5 / fitted.minimum_area_m2))
    assert bound.low <= bound.high


def test_the_worst_share_is_of_domains_with_claims() -> None:
    measured = {
        "wrong_at_090": {"after": {"a": 0.02, "b": 0.08, "c": 0.0}},
        "reached_at_090": {"a": 0.1, "b": 0.1, "c": 0.0},
    }
    assert wrong_when_sure(Uncertainty(about=measured)) == 0.08
    silent = {"wrong_at_090": {"after": {"c": 0.0}}, "reached_at_090": {"c": 0.0}}
    assert wrong_when_sure(Uncertainty(about=silent)) is None
    right = {"wrong_at_090": {"after": {"c": 0.0}}, "reached_at_090": {"c": 0.2}}
    assert wrong_when_sure(Uncertainty(about=right)) == 0.0
    assert wrong_when_sure(Uncertainty()) is None


def test_what_was_fitted_is_stored_with_the_model_and_read_again(tmp_path: Path) -> None:
    model = load_model("resu-senet-slim_rgb")
    fitted = Uncertainty(fit_totals(EVENTS), None, {"command": "as typed"})
    path = save_model(with_uncertainty(model, fitted), tmp_path)
    again = load_model(path)
    assert uncertainty_of(again) == fitted
    bare = replace(again, card={key: value for key, value in again.card.items() if key != CARD_KEY})
    assert uncertainty_of(bare) is None
    damaged = replace(again, card={**again.card, CARD_KEY: {"totals": {}}})
    with pytest.raises(WeightsError, match="damaged"):
        uncertainty_of(damaged)


def test_numbers_of_a_network_are_not_those_of_an_adapted_one() -> None:
    model = with_uncertainty(load_model("resu-senet-slim_rgb"), Uncertainty(fit_totals(EVENTS)))
    adapted = replace(model, card={**model.card, "adaptation": [{"method": "any"}]})
    assert uncertainty_of(adapted) is None
