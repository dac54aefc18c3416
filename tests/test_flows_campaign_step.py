"""flows/campaign_step.py: one campaign on a simulated earthquake, from its opening to its last version, killed and retried."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fakes.campaigns import a_decision
from fakes.quakes import EVENT_ID, SmallQuake
from fakes.wiring import ask_prefect, wired
from typer.testing import CliRunner

from flows.campaign import store as campaigns
from flows.campaign.area import is_outdated
from flows.campaign.look import request_of
from flows.campaign.machine import next_step
from flows.campaign.model import Campaign, State
from flows.campaign.notes import facts_of
from flows.campaign_step import _Clock, _Work, campaign_step
from flows.cli import app
from flows.errors import ServiceError
from flows.known_speed import known_speed
from flows.layout import EventLayout
from flows.map_event import map_event
from flows.publish import read_versions
from flows.settings import load_settings
from flows.storage import Store
from flows.timing import WHOLE
from flows.usgs_geojson import parse_detail
from flows.watching.identity import quake_of
from gee.errors import QuotaError, SessionError
from infra.local.stack import LocalStack

MINUTE = dt.timedelta(minutes=1)


@pytest.fixture
def wiring(
    stack: LocalStack, some_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, str]]:
    """A bucket of its own; the small quake has less steep land than the rule asks."""
    monkeypatch.setenv("QUAKESLIDE_WATCH__MINIMUM_STEEP_KM2", "0")
    monkeypatch.setenv("QUAKESLIDE_CAMPAIGN__LOOK_HOURS", "24")
    with wired(stack, tmp_path.name.replace("_", "-").lower()[:60].strip("-."), some_weights, tmp_path) as variables:
        yield variables


@pytest.fixture
def store(wiring: dict[str, str]) -> Iterator[Store]:
    bucket = f"gs://{wiring['QUAKESLIDE_STORAGE__BUCKET']}"
    with Store(bucket, wiring["QUAKESLIDE_STORAGE__ENDPOINT"]) as opened:
        yield opened


def opened(store: Store, quake: SmallQuake, now: dt.datetime) -> Campaign:
    record = quake_of(parse_detail(json.loads(quake.files.detail.read_text())))
    decision = a_decision(event_id=EVENT_ID, at=now)
    return campaigns.open_campaign(store, record, decision, load_settings(), now)


def versions(store: Store) -> int:
    return len(read_versions(store, EventLayout(store.bucket_url, EVENT_ID)))


def test_a_campaign_waits_for_imagery_and_a_step_killed_after_publishing_is_not_done_again(
    store: Store, small_quake: SmallQuake, told: list[tuple[str, dict[str, Any]]]
) -> None:
    start = small_quake.region.event.time + 30 * MINUTE
    opened(store, small_quake, start)
    assert campaign_step(EVENT_ID, start).startswith("wait: no scene of the area after")
    waiting = campaigns.load(store, EVENT_ID)
    assert waiting.state is State.WAITING
    assert start < waiting.look_after <= start + dt.timedelta(days=1, minutes=5)
    assert waiting.area is not None
    assert not is_outdated(waiting)

    now = max(one.time for one in small_quake.region.passes) + 60 * MINUTE
    settings = load_settings()
    killed = _Work(store, EVENT_ID, "killed", settings, _Clock(now))
    campaigns.lease(store, EVENT_ID, "killed", now, settings)
    campaign = killed.looked(campaigns.load(store, EVENT_ID), now)
    begun = killed.begun(campaign, next_step(campaign, now, campaign.sight, settings.campaign))
    assert begun.attempt is not None
    map_event(request_of(begun, begun.attempt, None))  # and here it dies
    assert campaign_step(EVENT_ID, now + MINUTE).startswith("another step works on campaign")
    assert campaign_step(EVENT_ID, now + 10 * MINUTE).startswith(("wait", "close"))
    after = campaigns.load(store, EVENT_ID)
    assert (len(after.versions), after.attempt, after.lease) == (1, None, None)
    assert after.state is not State.MAPPING
    assert after.versions[0].why == begun.attempt.why
    assert after.versions[0].cost.requests == begun.attempt.cost.requests
    assert begun.sight is not None
    assert begun.sight.speed.endswith("px/s, assumed, as nothing was measured yet")
    (published,) = read_versions(store, EventLayout(store.bucket_url, EVENT_ID))
    facts = facts_of(store, published)
    assert facts is not None
    assert facts.network is not None
    assert after.versions[0].cost.network_minutes == pytest.approx(facts.network.seconds / 60), "as it was measured"
    assert known_speed(store, EventLayout(store.bucket_url, EVENT_ID)).source == "measured by version 1"
    ((_, news),) = [one for one in told if one[0] == "published"]
    assert news["uri"] == published.assets["report"]
    assert httpx.get(news["url"]).text.lower().startswith("<!doctype html>")
    assert sum(after.versions[0].shares.values()) == pytest.approx(1)
    assert versions(store) == 1


def test_the_worst_part_is_published_first_and_what_changed_is_told(
    store: Store, small_quake: SmallQuake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("QUAKESLIDE_CAMPAIGN__PARTIAL_ABOVE_TILES", "1")
    now = max(one.time for one in small_quake.region.passes) + 60 * MINUTE
    opened(store, small_quake, now)
    assert campaign_step(EVENT_ID, now).startswith("version 1: first useful coverage, the most dangerous part of")
    assert campaign_step(EVENT_ID, now + MINUTE).startswith("version 2: the rest of the area")
    campaign = campaigns.load(store, EVENT_ID)
    part, whole = campaign.versions
    assert (part.kind, whole.kind) == ("partial", "whole")
    assert part.area_km2 < 0.9 * whole.area_km2
    assert part.shares["not mapped yet"] > 0.1
    assert "not mapped yet" not in whole.shares
    facts = facts_of(store, read_versions(store, EventLayout(store.bucket_url, EVENT_ID))[1])
    assert facts is not None
    assert facts.campaign is not None
    assert facts.campaign.previous is not None
    assert facts.campaign.previous.observed_km2 == pytest.approx(part.observed_km2)
    assert campaign_step(EVENT_ID, now + 2 * MINUTE).startswith(("wait", "close"))

    answer = CliRunner().invoke(app, ["compare", EVENT_ID, "1", "2", "--out", str(tmp_path / "compared")])
    assert answer.exit_code == 0, answer.output
    told = json.loads((tmp_path / "compared" / "compare.json").read_text())
    assert told["km2"]["newly seen, no landslide"] > 0
    assert told["sides"][1]["landslides"] == whole.landslides
    assert told["landslides"]["in both"] + told["landslides"]["only in the second"] == whole.landslides
    assert (tmp_path / "compared" / "compare.png").read_bytes().startswith(b"\x89PNG")

    answer = CliRunner().invoke(app, ["status", EVENT_ID])
    assert answer.exit_code == 0, answer.output
    assert "simulated" in answer.output
    assert "partial" in answer.output
    listed = json.loads(CliRunner().invoke(app, ["status", "--all", "--json"]).output)
    assert [one["id"] for one in listed] == [EVENT_ID]


def broken(*_: object, **__: object) -> None:
    raise ZeroDivisionError("a mistake")


def test_a_step_that_fails_is_noted_and_due_again_later(
    store: Store, small_quake: SmallQuake, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = small_quake.region.event.time + 30 * MINUTE
    opened(store, small_quake, now)
    monkeypatch.setenv("QUAKESLIDE_USGS__URL", "http://127.0.0.1:9")
    with pytest.raises(ServiceError):
        campaign_step(EVENT_ID, now)
    failed = campaigns.load(store, EVENT_ID)
    assert (failed.failures, failed.unanswered, failed.lease) == (0, 1, None)
    assert "127.0.0.1:9" in failed.last_error
    assert now < failed.look_after <= now + 3 * MINUTE


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """What people and programs are told: kind and payload."""
    events: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(
        "flows.campaign_events.emit", lambda kind, _campaign, **payload: events.append((kind, payload)) or True
    )
    return events


@pytest.mark.parametrize(("error", "kind"), [(QuotaError, "quota"), (SessionError, "failed")])
def test_a_quota_that_is_used_up_is_told_as_that_and_no_cause_holds_a_secret(
    wiring: dict[str, str], store: Store, small_quake: SmallQuake, monkeypatch: pytest.MonkeyPatch,
    told: list[tuple[str, dict[str, Any]]], error: type[Exception], kind: str,
) -> None:  # fmt: skip
    def refused(*_: object) -> None:
        raise error("http://user:hunter2hunter2@ee.example.org: the compute time of the project is used up")

    now = small_quake.region.event.time + 30 * MINUTE
    opened(store, small_quake, now)
    monkeypatch.setattr("flows.campaign_step.look", refused)
    with pytest.raises(error, match="the compute time of the project is used up"):
        campaign_step(EVENT_ID, now)
    ((heard, payload),) = told
    assert heard == kind
    failed = campaigns.load(store, EVENT_ID)
    assert (failed.failures, failed.unanswered) == (0, 1), "neither is a reason to ask a person"
    assert "ee.example.org" in payload["error"]
    assert payload["error"] == failed.last_error
    artifacts = ask_prefect(wiring, "artifacts/latest/filter", limit=200)
    shown = {one["key"]: one["data"] for one in artifacts}
    assert "ee.example.org" in shown[f"{EVENT_ID}-campaign"]
    rows = json.loads(shown[f"{EVENT_ID}-step-timing"])
    assert [(row["stage"], row["ended"]) for row in rows] == [
        ("note versions", "done"), ("look at the catalogue", "failed"), (WHOLE, "")
    ]  # fmt: skip
    (run,) = ask_prefect(wiring, "flow_runs/filter", sort="START_TIME_DESC", limit=1)
    assert "ee.example.org" in run["state"]["message"]
    assert "hunter2" not in json.dumps([run, artifacts, payload]) + failed.model_dump_json()


def test_a_step_that_fails_by_itself_asks_a_person(
    store: Store, small_quake: SmallQuake, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = small_quake.region.event.time + 30 * MINUTE
    opened(store, small_quake, now)
    with monkeypatch.context() as patch:
        patch.setattr("flows.campaign_step.look", broken)
        with pytest.raises(ZeroDivisionError):
            campaign_step(EVENT_ID, now)
    failed = campaigns.load(store, EVENT_ID)
    assert (failed.failures, failed.unanswered, failed.last_error) == (1, 0, "a mistake")
    monkeypatch.setenv("QUAKESLIDE_CAMPAIGN__MAXIMUM_FAILURES", "1")
    assert campaign_step(EVENT_ID, failed.look_after).startswith("ask: 1 steps in a row have failed")
    answer = CliRunner().invoke(app, ["approve", EVENT_ID, "--by", "ada"])
    assert answer.exit_code == 0, answer.output
    approved = campaigns.load(store, EVENT_ID)
    assert (approved.state, approved.failures) == (State.WAITING, 0)
    assert CliRunner().invoke(app, ["close", EVENT_ID, "--by", "ada"]).exit_code == 0
    assert campaigns.load(store, EVENT_ID).closed_by == "ada"
    assert CliRunner().invoke(app, ["reopen", EVENT_ID]).exit_code == 0
    assert campaigns.load(store, EVENT_ID).open


def test_a_version_over_the_budget_is_asked_for_before_anything_is_pulled(
    stack: LocalStack, store: Store, small_quake: SmallQuake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUAKESLIDE_CAMPAIGN__BUDGET_REQUESTS", "1")
    now = max(one.time for one in small_quake.region.passes) + 60 * MINUTE
    opened(store, small_quake, now)
    said = campaign_step(EVENT_ID, now)
    assert said.startswith("ask: the next version takes the campaign over its budget: ")
    asking = campaigns.load(store, EVENT_ID)
    assert (asking.state, asking.attempt, asking.used.requests) == (State.ASKING, None, 0)
    assert asking.approval is not None
    assert asking.approval.question in said
    assert not [info for info in store.list(EventLayout(store.bucket_url, EVENT_ID).root) if ".zarr" in info.uri]
    assert campaigns.due(store, now, load_settings()) == []
    assert campaign_step(EVENT_ID, now + MINUTE).startswith("nothing: a person is asked")
    answer = CliRunner().invoke(app, ["approve", EVENT_ID, "--requests", "50", "--by", "ada"])
    assert answer.exit_code == 0, answer.output
    approved = campaigns.load(store, EVENT_ID)
    assert approved.approval is not None
    assert approved.approval.limit is not None
    assert (approved.approval.limit.requests, approved.approval.by) == (50, "ada")
