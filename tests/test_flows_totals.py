"""Intervals on a version's totals: stated where they were fitted for such a map, and nowhere else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fakes.products import FOOTPRINT, GRID, facts

from flows import wording
from flows.choice import BandDistance, Candidate, Selection
from flows.facts import ReportFacts, RulesFacts
from flows.report import render_report
from flows.settings import ModelSettings
from flows.stac import make_item
from flows.totals import with_totals_range
from gee.types import Observed
from modeling.model import LandslideModel, load_model
from modeling.uncertainty.conformal import ErrorModel, TotalsCalibration
from modeling.uncertainty.stored import Uncertainty, with_uncertainty

FITTED = TotalsCalibration(
    ErrorModel(0.0, 0.0, 0.6, 2000.0), ErrorModel(0.0, 0.0, 0.5, 2.0), 0.8, ("noto", "haiti", "gorkha", "luding"), 48
)
SETTINGS = ModelSettings()


@pytest.fixture(scope="module")
def model() -> LandslideModel:
    return with_uncertainty(load_model("resu-senet-slim_rgb"), Uncertainty(FITTED, None, {"simulated": True}))


def selection(*, novel: bool) -> Selection:
    near = Candidate("one", "0", "rgb", mean=BandDistance(0.4, 0.3, 0.5), novel=novel)
    return Selection("one", "0", True, "mean_mmd2", (near,))


def test_the_report_and_the_item_state_the_interval_and_what_it_is_of(model: LandslideModel) -> None:
    made = with_totals_range(facts(), model, SETTINGS)
    held = made.totals
    assert held is not None
    assert held.area_low_m2 < made.inventory.total_area_m2 < held.area_high_m2
    assert held.count_low <= made.inventory.count <= held.count_high
    text = wording.totals(made)
    assert "made to hold for 80 % of events, by simulated events in regions" in text
    assert "48 events in 4 regions" in text
    assert "nothing about the ground that was not seen" in text
    assert text.split(" and ")[0] in render_report(made, ())
    item = make_item(made, FOOTPRINT, GRID, {})
    stated = item.properties["quakeslide:totals_range"]
    assert stated["on"] == "observed ground only"
    assert stated["landslide_area_m2"] == [held.area_low_m2, held.area_high_m2]
    assert stated["fitted_to_simulated_events"] is True
    assert ReportFacts.from_json(made.to_json()) == made


def test_without_fitted_numbers_nothing_is_claimed() -> None:
    bare = load_model("resu-senet-slim_rgb")
    bare = replace(bare, card={key: value for key, value in bare.card.items() if key != "uncertainty"})
    made = with_totals_range(facts(), bare, SETTINGS)
    assert made.totals is None
    assert wording.totals(made) == ""
    assert 'id="totals"' not in render_report(made, ())
    assert make_item(made, FOOTPRINT, GRID, {}).properties["quakeslide:totals_range"] is None


@pytest.mark.parametrize(
    ("changes", "settings"),
    [
        ({"rules": RulesFacts("geology", "all", {}, 0, 0.0)}, {}),
        ({}, {"minimum_area_m2": 1000.0}),
        ({}, {"symmetries": 4}),
        ({}, {"scene_means": 0.5}),
    ],
)
def test_a_map_that_was_made_otherwise_has_no_interval(
    model: LandslideModel, changes: dict[str, Any], settings: dict[str, Any]
) -> None:
    made = with_totals_range(replace(facts(), **changes), model, SETTINGS.model_copy(update=settings))
    assert made.totals is None


def test_an_area_that_nobody_saw_has_no_totals(model: LandslideModel) -> None:
    assert with_totals_range(facts((), counts={int(Observed.CLOUD): 100}), model, SETTINGS).totals is None


def test_what_was_seen_wholly_needs_no_word_about_the_rest(model: LandslideModel) -> None:
    made = with_totals_range(facts(counts={int(Observed.CLEAR): 100_000}), model, SETTINGS)
    assert "not seen:" not in wording.totals(made)
    assert "say nothing" not in wording.totals(made)


def test_novelty_widens_where_it_is_known_and_must_be_known_where_it_widens(model: LandslideModel) -> None:
    wide = replace(FITTED, novelty="a distance", area=replace(FITTED.area, widening=2.0))
    widening = with_uncertainty(model, Uncertainty(wide))
    assert with_totals_range(facts(), widening, SETTINGS).totals is None
    plain = with_totals_range(facts(), model, SETTINGS).totals
    far = with_totals_range(replace(facts(), selection=selection(novel=True)), widening, SETTINGS)
    assert plain is not None
    assert far.totals is not None
    assert far.totals.area_high_m2 > plain.area_high_m2
    assert far.totals.beyond
    assert "may well lie outside" in wording.totals(far)
    near = with_totals_range(replace(facts(), selection=selection(novel=False)), widening, SETTINGS)
    assert near.totals is not None
    assert not near.totals.beyond
