"""flows/campaign/notes.py and wording.py: what is remembered and told of a version, from its own facts."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace

import pytest
import shapely
from fakes.campaigns import NOW, a_campaign, a_version, an_area
from fakes.products import FOOTPRINT, GRID, facts
from hypothesis import given
from hypothesis import strategies as st

from flows.campaign.context import CampaignContext, context_of
from flows.campaign.model import Cost, ExpectedPass
from flows.campaign.notes import NOT_YET, note_of, shares, with_notes
from flows.campaign.wording import campaign_property, campaign_sentences
from flows.facts import ReportFacts
from flows.publish import Publication
from flows.report import render_report
from flows.stac import make_item

PUBLICATION = Publication("us1", 3, "ab" * 8, "gs://b/events/us1/runs/ab/cd/item.json", "00", {}, NOW)
PASS = ExpectedPass(satellite="Sentinel-2B", time=NOW + dt.timedelta(days=2), orbit=54, share=0.8)


def told(kind: str = "whole", area_km2: float = 1.8, **changes: object) -> ReportFacts:
    campaign = a_campaign(versions=2, area=an_area(area_km2=area_km2), passes=(PASS,))
    assert kind in ("partial", "whole")
    context = context_of(campaign, kind, "2 new scenes", 0.7)  # type: ignore[arg-type]
    return replace(facts(simulated=True), campaign=context.model_copy(update=changes), used=Cost(requests=7))


def test_a_version_is_remembered_as_its_facts_tell() -> None:
    note = note_of(PUBLICATION, told(), None, 1000)
    assert (note.version, note.kind, note.why, note.published) == (3, "whole", "2 new scenes", NOW)
    assert note.shares["observed"] == pytest.approx(14 / 18)
    assert note.observed_km2 == pytest.approx(1.4)
    assert (note.cost.requests, note.cost.stored_bytes) == (7, 1000)
    assert note.scenes_after == ("S2/B", "S2/C")
    assert note.expected_share == 0.7


def test_a_partial_version_says_how_much_is_not_mapped_yet() -> None:
    note = note_of(PUBLICATION, told("partial", area_km2=7.2), None, 0)
    assert note.shares[NOT_YET] == pytest.approx(0.75)
    assert note.shares["observed"] == pytest.approx(1.4 / 7.2)
    assert note.area_km2 == pytest.approx(1.8)


def test_a_version_that_was_asked_for_by_hand_is_remembered_too() -> None:
    note = note_of(PUBLICATION, facts(), None, 0)
    assert (note.kind, note.why, note.expected_share) == ("whole", "asked for by hand", None)


@given(st.dictionaries(st.sampled_from([0, 1, 2, 4, 8]), st.integers(1, 10**6)), st.floats(0.001, 1e4))
def test_shares_sum_to_one_whatever_was_seen(counts: dict[int, int], whole_km2: float) -> None:
    made = facts(counts=counts)
    found = shares(made, max(whole_km2, made.coverage.area_km2))
    assert sum(found.values()) == pytest.approx(1.0)
    assert all(share >= 0 for share in found.values())


def test_what_a_campaign_has_used_is_what_its_versions_cost_however_often_they_are_noted() -> None:
    notes = [a_version(number, cost=Cost(requests=number, eecu_hours=0.5)) for number in (3, 1, 2)]
    after = with_notes(a_campaign(), notes)
    assert [note.version for note in after.versions] == [1, 2, 3]
    assert after.used == Cost(requests=6, eecu_hours=1.5)
    assert with_notes(after, notes) == after


def test_a_report_says_why_what_changed_and_what_comes_next() -> None:
    made = told()
    text = " ".join(campaign_sentences(made))
    assert "Made because of 2 new scenes." in text
    assert "Since version 2 of 2026-01-10 00:00 UTC: 2 new images; 1.40 km² more ground was seen" in text
    assert "8 landslides fewer were found" in text
    assert "Sentinel-2B on 2026-01-12 00:00 UTC over 80% of the area" in text
    assert "Whether they see through the clouds is not known." in text
    page = render_report(made, ())
    assert all(sentence in page for sentence in ("Made because of 2 new scenes.", "Next expected passes"))
    assert "This version, and what comes next" not in render_report(facts(), ())


def test_a_partial_version_says_so_in_its_report() -> None:
    assert any("the most dangerous 1.80 of 7.20 km² (25 %)" in one for one in campaign_sentences(told("partial", 7.2)))


def test_a_first_version_compares_with_nothing_and_unknown_passes_are_called_unknown() -> None:
    sentences = campaign_sentences(told(previous=None, passes=()))
    assert sentences[0] == "The first version: 2 new scenes."
    assert not any("Since version" in one for one in sentences)
    assert any("is not known" in one for one in sentences)


def test_the_item_of_a_campaigns_version_is_valid_and_tells_of_it() -> None:
    made = told()
    item = make_item(made, shapely.Polygon(FOOTPRINT), GRID, {}, "00").to_dict(include_self_link=False)
    held = item["properties"]["quakeslide:campaign"]
    assert json.loads(json.dumps(held)) == campaign_property(made)
    assert held["kind"] == "whole"
    assert held["previous"]["version"] == 2
    assert "quakeslide:campaign" not in make_item(facts(), FOOTPRINT, GRID, {}, "00").properties


def test_facts_with_a_campaign_survive_storage() -> None:
    made = told()
    again = ReportFacts.from_json(made.to_json())
    assert again == made
    assert isinstance(again.campaign, CampaignContext)
