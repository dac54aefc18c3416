"""flows/campaign/telling.py: what an operator reads of campaigns, in a terminal of eighty columns and on a run's page."""

from __future__ import annotations

import datetime as dt
import io

from fakes.campaigns import NOW, a_campaign, a_quake, a_sight, an_area
from rich.console import Console

from flows.campaign.model import Approval, Campaign, ExpectedPass, Lease, State
from flows.campaign.record import moved
from flows.campaign.telling import coming, details, markdown, overview, title_of

HOUR = dt.timedelta(hours=1)
PASS = ExpectedPass(satellite="Sentinel-2B", time=NOW + 30 * HOUR, orbit=54, share=0.8)


def shown(campaign: Campaign) -> str:
    console = Console(file=io.StringIO(), width=80, highlight=False)
    for table in (overview([campaign], NOW), *details(campaign, NOW)):
        console.print(table)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def full() -> Campaign:
    campaign = a_campaign(
        versions=2, area=an_area(), sight=a_sight(), passes=(PASS,), look_after=NOW + HOUR, quakes=(a_quake(),)
    )
    return moved(campaign, State.MAPPING, "2 new scenes", NOW)


def test_versions_with_their_shares_fit_a_terminal() -> None:
    text = shown(full())
    for word in (
        "whole",
        "observed 50.0%",
        "not imaged 20.0%",
        "first scenes",
        "Sentinel-2B",
        "54",
        "80%",
        "in 30 hours",
    ):
        assert word in text
    assert max(map(len, text.splitlines())) <= 80


def test_a_pass_that_was_flown_is_told_of_until_its_images_are_there() -> None:
    later = PASS.time + HOUR
    assert coming(full(), later).endswith(
        "Sentinel-2B passed at " + f"{PASS.time:%Y-%m-%d %H:%M}, its images are on their way"
    )
    assert "its images are on their way" in markdown(full(), later)
    assert "its images are on their way" not in markdown(full(), NOW)


def test_the_minutes_of_the_next_version_say_at_which_rate() -> None:
    sight = a_sight(speed="80,000 px/s, measured by version 2")
    told = markdown(full().model_copy(update={"sight": sight}), NOW)
    assert "GB kept (at 80,000 px/s, measured by version 2)" in told
    assert "(at" not in markdown(full(), NOW)


def test_what_is_waited_for_is_said() -> None:
    campaign = full()
    assert coming(campaign, NOW) == "looks again in 60 minutes; Sentinel-2B passes in 30 hours"
    assert (
        coming(campaign.model_copy(update={"lease": Lease(holder="x", until=NOW + HOUR)}), NOW) == "a step is at work"
    )
    asks = moved(campaign, State.ASKING, "more?", NOW)
    assert coming(asks.model_copy(update={"approval": Approval(asked=NOW, question="more?")}), NOW) == "asks: more?"
    failed = campaign.model_copy(update={"failures": 2, "last_error": "no route"})
    assert coming(failed, NOW) == "looks again in 60 minutes, after 2 failures: no route"
    assert coming(moved(campaign, State.CLOSED, "covered", NOW), NOW) == "covered"


def test_simulated_earthquakes_are_called_so_and_sequences_counted() -> None:
    real = a_campaign(quakes=(a_quake(title="M 6.6 - here", simulated=False),))
    assert title_of(real) == "M 6.6 - here"
    both = a_campaign(quakes=(a_quake(title="M 6.6 - here"), a_quake(id="us2", ids=("us2",), magnitude=6.0)))
    assert title_of(both) == "M 6.6 - here and 1 more (simulated)"
    assert "**SIMULATED" in markdown(both, NOW)
    assert "**SIMULATED" not in markdown(real, NOW)


def test_the_page_of_a_run_has_tables_that_nothing_in_a_title_breaks() -> None:
    campaign = full().model_copy(update={"quakes": (a_quake(title="M 6.6 | here\n- there"),)})
    page = markdown(campaign, NOW)
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in rows)
    tables = page.split("\n\n")
    for table in (part for part in tables if part.startswith("|")):
        assert len({line.count("|") for line in table.splitlines()}) == 1
