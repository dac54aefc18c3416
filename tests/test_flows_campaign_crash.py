"""A step killed at any moment: the next one goes on, one version comes of it, and the campaign remembers it."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fakes.campaigns import a_decision
from fakes.quakes import EVENT_ID, SmallQuake

from flows.campaign import store as campaigns
from flows.campaign.model import State
from flows.campaign.notes import facts_of
from flows.campaign_step import campaign_step
from flows.layout import EventLayout
from flows.publish import read_versions
from flows.settings import load_settings
from flows.storage import Store
from flows.usgs_geojson import parse_detail, parse_json
from flows.watching.identity import quake_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

DEADLINE_S = 400.0
STEP = "import sys, datetime as dt; from flows.campaign_step import campaign_step; " \
    "campaign_step(sys.argv[1], dt.datetime.fromisoformat(sys.argv[2]))"  # fmt: skip


def step_until(reached: Callable[[], object], now: dt.datetime, cwd: Path) -> bool:
    """Run a step in a process of its own and kill it when something is reached; whether it was still at work."""
    with (cwd / "stderr.txt").open("w") as err:
        process = subprocess.Popen(
            [sys.executable, "-c", STEP, EVENT_ID, now.isoformat()], cwd=cwd, stdout=err, stderr=err
        )
        end = time.monotonic() + DEADLINE_S
        try:
            while not reached():
                if process.poll() is not None:
                    return False
                assert time.monotonic() < end, f"it never happened:\n{(cwd / 'stderr.txt').read_text()}"
                time.sleep(0.1)
            return process.poll() is None
        finally:
            process.kill()
            process.wait()


def test_one_version_comes_of_a_step_that_is_killed_again_and_again(
    services: dict[str, str], small_quake: SmallQuake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUAKESLIDE_WATCH__MINIMUM_STEEP_KM2", "0")
    now = max(one.time for one in small_quake.region.passes) + dt.timedelta(hours=1)
    quake = quake_of(parse_detail(parse_json(small_quake.files.detail.read_bytes(), "the event")))
    with Store(f"gs://{services['QUAKESLIDE_STORAGE__BUCKET']}", services["QUAKESLIDE_STORAGE__ENDPOINT"]) as store:
        event = EventLayout(store.bucket_url, EVENT_ID)
        campaigns.open_campaign(store, quake, a_decision(event_id=EVENT_ID), load_settings(), now)

        def having(part: str) -> Callable[[], bool]:
            return lambda: any(part in info.uri for info in store.list(event.root))

        moments: list[Callable[[], object]] = [
            lambda: campaigns.load(store, EVENT_ID).state is State.MAPPING,
            having(".zarr/"),
            having("/item.json"),
            having("/versions.json"),
        ]
        killed = 0
        for reached in moments:
            killed += step_until(reached, now, tmp_path)
            now += dt.timedelta(minutes=10)
            assert len(read_versions(store, event)) <= 1
        assert killed >= 3, "most moments were met while it was at work"
        for _ in range(3):
            campaign_step(EVENT_ID, now)
            now += dt.timedelta(minutes=10)
        after = campaigns.load(store, EVENT_ID)
        visible = read_versions(store, event)
        assert [one.version for one in visible] == [1] == [note.version for note in after.versions]
        assert (after.attempt, after.lease, after.failures) == (None, None, 0)
        facts = facts_of(store, visible[0])
        assert facts is not None
        assert facts.campaign is not None
        assert after.versions[0].why == facts.campaign.why
        runs = {info.uri.removeprefix(event.root).split("/")[2] for info in store.list(f"{event.root}/runs/")}
        assert runs == {visible[0].run_key}, "the attempt was written down before it was begun: there is one run"
