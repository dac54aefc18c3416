"""The flow `watch` and its commands, on the stand-ins and a Prefect server."""

from __future__ import annotations

import datetime as dt
import json
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from fakes.quakes import EVENT_ID, SEA_EVENT_ID, WEAK_EVENT_ID, SmallQuake
from fakes.wiring import ask_prefect

from flows import cli
from flows.campaign import store as campaigns
from flows.campaign.outcome import without_ground
from flows.cli_watch import told
from flows.errors import ServiceError
from flows.services import drain_prefect
from flows.settings import Settings, load_settings
from flows.storage import Store
from flows.watch import Look, _tell, lasting, watch
from flows.watching.poll import Report
from flows.watching.taking import Change

HOUR = dt.timedelta(hours=1)
DEAD = "http://127.0.0.1:9"


@pytest.fixture
def store(services: dict[str, str]) -> Store:
    settings = load_settings()
    return Store(f"gs://{settings.storage.bucket}", settings.storage.endpoint)


@pytest.fixture
def later(small_quake: SmallQuake) -> dt.datetime:
    return small_quake.region.event.time + HOUR


def is_told(services: dict[str, str], name: str, wanted: set[str], since: dt.datetime) -> bool:
    """Whether Prefect's server, which other tests use too, hears of all campaigns in `wanted` after `since`."""
    drain_prefect()
    period = {"since": since.isoformat(), "until": (since + HOUR).isoformat()}
    body = {"filter": {"event": {"name": [name]}, "occurred": period}, "limit": 50}
    deadline = time.monotonic() + 30
    while True:
        found = ask_prefect(services, "events/filter", **body)["events"]
        if wanted <= {one["payload"]["campaign_id"] for one in found}:
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)


def test_a_watch_takes_up_what_is_wanted_and_calls_its_steps(
    services: dict[str, str], store: Store, later: dt.datetime
) -> None:
    began = dt.datetime.now(dt.UTC)
    first = watch(now=later)
    assert first.report is not None
    assert {(one.kind, one.campaign_id) for one in first.report.changes} == {
        ("opened", EVENT_ID), ("opened", SEA_EVENT_ID)
    }  # fmt: skip
    assert first.due == (SEA_EVENT_ID, EVENT_ID), "the most urgent first: PAGER calls it orange"
    for name in ("quakeslide.campaign.opened", "quakeslide.campaign.due"):
        assert is_told(services, name, {EVENT_ID, SEA_EVENT_ID}, began), name
    assert campaigns.load(store, EVENT_ID).quakes[0].simulated
    again = watch(now=later + HOUR / 60)
    assert again.report is not None
    assert (again.report.changes, again.due) == ((), first.due), "what was not begun is called again"


def test_no_more_steps_are_called_than_may_run_at_once(
    services: dict[str, str], store: Store, later: dt.datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUAKESLIDE_CAMPAIGN__AT_ONCE", "1")
    assert watch(now=later).due == (SEA_EVENT_ID,)
    campaigns.lease(store, SEA_EVENT_ID, "somebody", later, load_settings())
    assert watch(now=later).due == ()


def test_a_usgs_that_is_silent_for_a_moment_is_no_failure_and_steps_are_called_all_the_same(
    services: dict[str, str], store: Store, later: dt.datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch(now=later)
    monkeypatch.setenv("QUAKESLIDE_USGS__URL", DEAD)
    silent = watch(now=later + HOUR / 6)
    assert silent.report is None
    assert "cannot be reached" in silent.trouble
    assert silent.due == (SEA_EVENT_ID, EVENT_ID)
    with pytest.raises(ServiceError, match="cannot be reached"):
        watch(now=later + HOUR)


def test_a_run_looks_again_and_again_and_ends_before_the_next(
    services: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, looks, takes_s = [100.0], [], 1.0

    def look(usgs: object, store: object, settings: Settings, now: dt.datetime) -> Look:
        looks.append(clock[0])
        clock[0] += takes_s
        return Look(None, f"look {len(looks)}", ())

    def slept(seconds: float) -> None:
        clock[0] += seconds

    monkeypatch.setattr("flows.watch._look", look)
    monkeypatch.setattr("flows.watch.time", SimpleNamespace(monotonic=lambda: clock[0], sleep=slept))

    def begun_after_s(**how: float) -> list[float]:
        looks.clear()
        begun = clock[0]
        assert watch(**how).trouble == f"look {len(looks)}", "the last one is told"
        return [each - begun for each in looks]

    assert begun_after_s() == [0], "once when nothing is said"
    assert begun_after_s(for_s=50) == [0, 30]
    takes_s = 31.0
    assert begun_after_s(for_s=50) == [0], "nothing is caught up in the time of the next run"
    takes_s = 1.0
    monkeypatch.setenv("QUAKESLIDE_WATCH__EVERY_S", "10")
    assert begun_after_s(for_s=50) == [0, 10, 20, 30, 40]


def test_a_usgs_that_was_never_reached_is_a_failure(
    services: dict[str, str], later: dt.datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUAKESLIDE_USGS__URL", DEAD)
    with pytest.raises(ServiceError, match="cannot be reached"):
        watch(now=later)


def test_silence_lasts_when_it_is_longer_than_the_setting() -> None:
    now = dt.datetime(2025, 1, 1, tzinfo=dt.UTC)
    assert lasting(None, Settings(), now)
    assert not lasting(now - dt.timedelta(minutes=15), Settings(), now)
    assert lasting(now - dt.timedelta(minutes=15, seconds=1), Settings(), now)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    def call(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["quakeslide", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        shown = capsys.readouterr()
        return int(exit_.value.code or 0), shown.out + shown.err

    return call


def test_decisions_show_also_what_is_not_mapped(
    services: dict[str, str], later: dt.datetime, run: Callable[..., tuple[int, str]]
) -> None:
    watch(now=later)
    status, out = run("decisions", "--since", f"{later:%Y-%m-%d}", "--json")
    seen = {one["id"]: one for one in map(json.loads, out.splitlines())}
    assert (status, set(seen)) == (0, {EVENT_ID, SEA_EVENT_ID, WEAK_EVENT_ID})
    assert seen[WEAK_EVENT_ID]["decisions"][0]["reason"] == "M 4.1 is below the rule's 5.5"
    assert seen[EVENT_ID]["campaign"] == EVENT_ID
    _, table = run("decisions", "--since", f"{later:%Y-%m-%d}", "--wanted")
    assert WEAK_EVENT_ID not in table
    assert "2 earthquakes" in table
    assert run("decisions", "--since", "yesterday")[0] == cli.BAD_INPUT


def test_a_refusal_for_lack_of_steep_land_shows_without_a_new_record(
    services: dict[str, str], store: Store, later: dt.datetime, run: Callable[..., tuple[int, str]]
) -> None:
    watch(now=later)
    campaigns.change(store, EVENT_ID, lambda one: without_ground(one, "nothing steep was shaken", later + HOUR))
    _, out = run("decisions", "--since", f"{later:%Y-%m-%d}", "--json")
    seen = {one["id"]: one for one in map(json.loads, out.splitlines())}
    assert [one["wanted"] for one in seen[EVENT_ID]["decisions"]] == [True, False]
    assert seen[EVENT_ID]["decisions"][-1]["reason"] == "nothing steep was shaken"
    assert [one["wanted"] for one in seen[SEA_EVENT_ID]["decisions"]] == [True]


def test_people_hear_of_an_earthquake_that_joins_a_campaign(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, str, object]] = []
    monkeypatch.setattr(
        "flows.watch.emit", lambda kind, campaign, **payload: told.append((kind, campaign, payload["title"]))
    )
    for kind in ("opened", "joined", "changed", "withdrawn"):
        _tell(Change(kind, "us1", "us2", f"M 7.5, {kind}", "M 7.5 is not below the rule's 5.5"))  # type: ignore[arg-type]
    assert told == [
        ("opened", "us1", "M 7.5, opened"), ("joined", "us1", "M 7.5, joined"), ("withdrawn", "us1", "M 7.5, withdrawn")
    ]  # fmt: skip


def test_one_look_from_the_command_line(
    services: dict[str, str], run: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as silent:
        silent.setenv("QUAKESLIDE_USGS__URL", DEAD)
        status, out = run("watch", "--once")
        assert (status, out.count("\n"), DEAD in out) == (cli.BAD_INPUT, 1, True)
    assert run("watch", "--once")[0] == 0


def test_what_a_look_says() -> None:
    now = dt.datetime(2025, 1, 1, 12, 30, tzinfo=dt.UTC)
    quiet = Report(now, None, None, 0, (), (), 0, ())
    assert told(Look(quiet, "", ())) == []
    assert told(Look(None, "no network", ())) == ["no answer: no network"]
    change = Change("opened", "us1", "us1", "M 6.0 - somewhere", "M 6 is not below the rule's 5.5")
    busy = Report(now, 5, None, 2, (), (change,), 1, ("event us2 cannot be read",))
    assert told(Look(busy, "", ("us1",))) == [
        "12:30:00 opened us1 (M 6.0 - somewhere): M 6 is not below the rule's 5.5",
        "12:30:00 to be tried again: event us2 cannot be read",
        "12:30:00 due: us1",
    ]
