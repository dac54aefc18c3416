"""flows/monitoring.py, tallies.py: what machines are told of the whole, over a real socket."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from fakes.campaigns import NOW, a_campaign, a_decision, a_quake
from fakes.servers import serve
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from flows.campaign import store as campaigns
from flows.campaign.model import Campaign, Cost, Lease, State
from flows.monitoring import OVERDUE, SILENT, Camera, Picture, create_app, metrics, take, troubles
from flows.settings import EarthEngineSettings, Settings, StorageSettings
from flows.storage import Store
from flows.tallies import Tally, add, read_tally, tally_uri
from flows.watching.cursor import Cursor, write_cursor
from gee.ledger import Lease as QuotaLease
from gee.ledger import Ledger
from infra.local.storage import create_app as storage_app

HOUR = dt.timedelta(hours=1)
WELL = Picture(NOW, polled=NOW)


def values(picture: Picture, settings: Settings | None = None) -> dict[str, float]:
    """Every number, by its name and labels."""
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in metrics(picture, settings or Settings())
        for sample in family.samples
    }


CAMPAIGNS = st.builds(
    lambda state, hours, held, versions: a_campaign(
        versions, state=state, look_after=NOW - hours * HOUR,
        lease=Lease(holder="h", until=NOW + HOUR) if held else None,
    ),
    st.sampled_from(State), st.floats(-100, 100), st.booleans(), st.integers(0, 3),
)  # fmt: skip


@given(st.lists(CAMPAIGNS, max_size=5))
def test_each_campaign_is_counted_once_and_the_due_ones_are_those_nobody_works_on(found: list[Campaign]) -> None:
    named = tuple(one.model_copy(update={"id": f"us{number}"}) for number, one in enumerate(found))
    picture = replace(WELL, campaigns=named)
    told = values(picture)
    assert sum(told[f"quakeslide_campaigns {state.value}"] for state in State) == len(named)
    due = [one for one in named if one.open and one.lease is None and one.look_after <= NOW]
    assert told["quakeslide_campaigns_due"] == len(due)
    assert told["quakeslide_campaigns_oldest_due_seconds"] == max(
        [(NOW - one.look_after).total_seconds() for one in due], default=0
    )
    late = any(NOW - one.look_after > OVERDUE for one in due)
    assert bool(troubles(picture)) == late
    for one in named:
        assert (f"quakeslide_versions {one.id}" in told) == one.open
        assert (f"quakeslide_newest_version_age_seconds {one.id}" in told) == (one.open and bool(one.versions))


def test_a_silent_watch_and_a_bucket_that_does_not_answer_are_no_health() -> None:
    assert troubles(WELL) == []
    assert "never" in troubles(Picture(NOW))[0]
    assert "last worked off" in troubles(replace(WELL, polled=NOW - SILENT - HOUR))[0]
    broken = Picture(NOW, trouble="the bucket is away")
    assert troubles(broken) == ["the bucket is away"]
    assert values(broken) == {"quakeslide_up": 0}


def test_the_quota_and_what_was_used_are_told_by_class() -> None:
    leases = (QuotaLease("a", 9, 5, 10.0, 0.0), QuotaLease("b", 3, 3, 5.0, 0.0))
    used = a_campaign(used=Cost(requests=7, bytes=100))
    told = values(
        replace(WELL, ledger=Ledger(leases=leases), tally=Tally(succeeded=4, refused=2, pulled_px=9), campaigns=(used,))
    )
    assert (told["quakeslide_quota_slots granted"], told["quakeslide_quota_slots wanted"]) == (8, 12)
    assert (told["quakeslide_requests_total succeeded"], told["quakeslide_requests_total refused"]) == (4, 2)
    assert told["quakeslide_pulled_pixels_total"] == 9
    assert told["quakeslide_used_total requests"] == 7


def test_the_runbook_names_only_what_is_exposed() -> None:
    runbook = (Path(__file__).parents[1] / "infra" / "RUNBOOK.md").read_text(encoding="utf-8")
    exposed = {told.partition(" ")[0] for told in values(replace(WELL, campaigns=(a_campaign(versions=1),)))}
    named = set(re.findall(r"quakeslide_[a-z_]+", runbook))
    assert named
    assert named <= exposed


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serve(storage_app(tmp_path_factory.mktemp("bucket"))) as address:
        yield address


@pytest.fixture
def settings(endpoint: str, tmp_path: Path) -> Settings:
    name = tmp_path.name.replace("_", "-").lower()[:60].strip("-.")
    return Settings(
        storage=StorageSettings(bucket=name, endpoint=endpoint), earthengine=EarthEngineSettings(project="p")
    )


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    with Store(f"gs://{settings.storage.bucket}", settings.storage.endpoint, retry_s=5.0) as opened:
        opened.ensure_bucket()
        yield opened


def test_the_page_tells_what_is_in_the_bucket(settings: Settings, store: Store) -> None:
    now = dt.datetime.now(dt.UTC)
    campaigns.open_campaign(store, a_quake(time=now, updated=now), a_decision(), settings, now)
    assert write_cursor(store, Cursor(polled=now), 0)
    with serve(create_app(settings)) as url:
        assert httpx.get(f"{url}/live").text == "alive\n"
        health = httpx.get(f"{url}/health")
        assert (health.status_code, health.json()) == (200, {"well": True, "troubles": []})
        answer = httpx.get(f"{url}/metrics")
        families = {one.name: one for one in text_string_to_metric_families(answer.text)}
    waiting = [
        one.value for one in families["quakeslide_campaigns"].samples if one.labels["state"] == State.WAITING.value
    ]
    assert waiting == [1]
    assert families["quakeslide_watch_age_seconds"].samples[0].value < 60
    assert all(one.documentation for one in families.values())


def test_a_bucket_that_is_away_is_told_and_the_page_stays_up(settings: Settings) -> None:
    away = settings.model_copy(
        update={"storage": StorageSettings(bucket="nothere", endpoint=settings.storage.endpoint)}
    )
    with serve(create_app(away)) as url:
        health = httpx.get(f"{url}/health", timeout=30)
        assert health.status_code == 503
        assert "nothere" in health.json()["troubles"][0]
        assert "quakeslide_up 0.0" in httpx.get(f"{url}/metrics", timeout=30).text
        assert httpx.get(f"{url}/live").is_success


def test_many_who_ask_at_once_are_answered_by_one_look(settings: Settings) -> None:
    looks = []

    def look(_settings: Settings, now: dt.datetime) -> Picture:
        looks.append(now)
        return replace(WELL, at=now)

    camera = Camera(settings, look)
    with ThreadPoolExecutor(8) as pool:
        pictures = list(pool.map(lambda _: camera.picture(), range(32)))
    assert len(looks) == 1
    assert all(picture is pictures[0] for picture in pictures)


def test_counts_of_runs_at_the_same_time_are_all_kept(settings: Settings, store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: add(store, Tally(asked=number, waited_s=0.5)), range(1, 13)))
    assert read_tally(store) == Tally(asked=78, waited_s=6.0)
    assert take(settings, NOW).tally.asked == 78


def test_counts_that_cannot_be_kept_hinder_nobody(settings: Settings, store: Store) -> None:
    store.write_bytes(tally_uri(store.bucket_url), b"no JSON")
    assert read_tally(store) == Tally()
    with Store("gs://nothere-at-all", settings.storage.endpoint, retry_s=0.5) as missing:
        add(missing, Tally(asked=1))
