"""flows/adapt_facts.py: what is said of an adaptation, above all where nobody can tell how good it is."""

from __future__ import annotations

import numpy as np
import pytest

from flows.adapt_facts import AdaptationFacts, estimate_text, verdict_text
from modeling.adaptation.judging import Held, Judgement, WholeMap, judge

LANDSLIDE = np.arange(20) < 10


def judgement(found_before: float) -> Judgement:
    """Of an adaptation that finds nearly all of the drawn landslides, of which the map before had found this share."""

    def counts(found: float) -> np.ndarray:
        zero = np.zeros(20)
        return np.stack([np.where(LANDSLIDE, 100 * found, zero), zero,
                         np.where(LANDSLIDE, 100 * (1 - found), zero), np.where(LANDSLIDE, zero, 100)], 1)  # fmt: skip

    before = counts(found_before)
    held = Held(counts(0.95), before[:, 0], gained=9_000.0, lost=0.0)
    return judge("64 steps", before, held, range(20), WholeMap(10_000, 9_000), resamples=200)


def facts(found_before: float) -> AdaptationFacts:
    return AdaptationFacts(
        parent_version=1, parent_run_key="run", parent_model="toy", parent_weights="ab", labels_name="drawn.geojson",
        labels_sha256="cd", landslide_polygons=10, other_polygons=10, folds=5, groups_apart_m=500.0,
        judgement=judgement(found_before), judged_polygons=20, right_before=12, right_after=19, model_sha256="ef",
        seconds=60.0,
    )  # fmt: skip


def test_landslides_drawn_for_being_missed_prove_nothing_and_it_is_said_what_to_do() -> None:
    text = verdict_text(facts(0.1))
    assert text.startswith(
        "The adapted model was not shown to be better (of the landslides drawn the map had found 10%"
    )
    assert "draw some that it has found as well" in text
    told = estimate_text(facts(0.1).judgement)
    assert "had found 10%" in told
    assert "taken to find 40% of all landslides" in told


def test_a_fair_drawing_is_believed_with_what_it_cannot_tell() -> None:
    assert verdict_text(facts(0.6)).startswith("The adapted model is better: ")
    assert "too kind to this map if" in estimate_text(facts(0.6).judgement)


@pytest.mark.parametrize("found", [0.1, 0.6])
def test_facts_survive_json(found: float) -> None:
    assert AdaptationFacts.from_json(facts(found).to_json()) == facts(found)
