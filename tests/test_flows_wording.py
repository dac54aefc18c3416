"""flows/wording.py: sentences that never turn "not seen" into "no landslide"."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fakes.products import ALIGNMENT, POST, PRE, facts, landslide

from flows.facts import ReportFacts
from flows.wording import alignment, caveats, degrees, headline, km2, landslides, percent, unknown
from gee.types import Observed
from modeling.rasters.coregister import Shift

ALL_SEEN = {int(Observed.CLEAR): 1_000_000}
NONE_SEEN = {int(Observed.CLOUD): 1_000_000}


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.0036, "0.004"), (1.234, "1.23"), (56.78, "56.8"), (1234.5, "1,234")]
)
def test_areas_have_the_digits_that_mean_something(value: float, text: str) -> None:
    assert km2(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.01, "<0.1"), (42.34, "42.3"), (99.95, ">99.9"), (100.0, "100"), (50.0, "50")]
)
def test_shares_are_never_rounded_to_nothing_or_everything(value: float, text: str) -> None:
    assert percent(value) == text


def test_numbers_of_landslides_agree_with_their_noun() -> None:
    assert [landslides(n) for n in (0, 1, 1234)] == ["no landslide", "1 landslide", "1,234 landslides"]


def test_positions_are_told_with_their_hemisphere() -> None:
    assert degrees(-73.5, -38.25) == "38.25000° S, 73.50000° W"


def test_the_result_is_told_with_the_part_that_was_seen() -> None:
    told = facts([landslide(4_000_000.0), landslide(1_000_000.0)], counts=ALL_SEEN)
    assert headline(told) == (
        "2 landslides with a total area of 5.00 km² were found in the 100.0 km² that could be seen (100 % of the area)."
    )
    assert unknown(told) == "All of the area was seen."


def test_nothing_found_is_told_of_the_seen_part_only() -> None:
    assert headline(facts([])) == "No landslide was found in the 1.40 km² that could be seen (77.8 % of the area)."
    assert unknown(facts([])).startswith(
        "0.400 km² (22.2 % of the area) was not seen: cloud 0.300 km², not imaged 0.100 km². "
    )


def test_nothing_seen_is_never_told_as_nothing_found() -> None:
    told = facts([], counts=NONE_SEEN)
    assert headline(told).startswith("Nothing could be seen")
    assert "not known" in unknown(told)
    assert unknown(facts([], counts={})) == "The area is empty."


def test_landslides_that_are_cut_off_are_told_as_larger() -> None:
    assert unknown(facts([landslide(900.0, cut_off=True)])).endswith(
        "1 landslide borders on ground that was not seen. Its true size may be larger."
    )


def test_how_the_images_lie_on_each_other_is_one_sentence() -> None:
    assert alignment(facts()) == ""
    moved = replace(facts(), alignment=ALIGNMENT)
    assert (
        alignment(moved)
        == "The image before lay 6.7 m from the one after (1.0 m south, 6.6 m east); that was corrected."
    )
    left = replace(facts(), alignment=replace(ALIGNMENT, corrected=False))
    assert alignment(left) == "The images before and after lie on each other to 6.7 m; nothing was moved."
    unknown_shift = replace(facts(), alignment=replace(ALIGNMENT, shift=Shift(False, "all is snow"), corrected=False))
    assert alignment(unknown_shift) == (
        "How well the images before and after lie on each other could not be measured: all is snow."
    )


def test_caveats_follow_from_the_facts() -> None:
    titles = {caveat.title for caveat in caveats(facts([], counts=ALL_SEEN))}
    assert not titles & {"Clouds were not masked", "Dates are assumed", "This is a simulated example"}
    assert "“Not seen” is not “no landslide”" not in titles
    doubtful = replace(
        facts(simulated=True),
        imagery=(replace(PRE, cloud_masked=False, dates_assumed=True), POST),
        notes=("The window was widened.",),
    )
    told = caveats(doubtful)
    assert told[0].title == "This is a simulated example"
    assert told[1].title == "“Not seen” is not “no landslide”"
    by_title = {caveat.title: caveat.text for caveat in told}
    assert "images before the event: clouds" in by_title["Clouds were not masked"]
    assert "images before the event were taken" in by_title["Dates are assumed"]
    assert by_title["Note"] == "The window was widened."
    assert "up to 45 days apart" in by_title["Not every change is the earthquake's"]


def test_a_report_says_when_high_probabilities_are_kept_back() -> None:
    title = "Few landslides have a probability of 0.9 and more"
    assert title not in {caveat.title for caveat in caveats(facts())}
    careful = replace(facts(), provenance=replace(facts().provenance, kept_back=True))
    assert "not measured for a map made like this one" in told(careful, title)
    measured = replace(careful, provenance=replace(careful.provenance, wrong_when_sure=0.0808))
    assert "8.1 % were wrong in the worst of the simulated regions" in told(measured, title)
    never = replace(careful, provenance=replace(careful.provenance, wrong_when_sure=0.0))
    assert "none were wrong" in told(never, title)


def told(facts: ReportFacts, title: str) -> str:
    (text,) = (caveat.text for caveat in caveats(facts) if caveat.title == title)
    return text
