"""From the feed to a published version with nobody's hand in it: watch, automation, worker and campaign as deployed."""

from __future__ import annotations

import base64
import datetime as dt
import io
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.browser import CHROMIUM, Page, browser
from fakes.quakes import BANDS
from fakes.running import eventually
from fakes.weights import untrained
from fakes.wiring import ask_prefect, wired
from PIL import Image

from flows.campaign import store as campaigns
from flows.campaign.model import Campaign
from flows.layout import EventLayout, key_of
from flows.publish import read_versions
from flows.running import add_worker
from flows.settings import load_settings
from flows.storage import Store
from infra.local.simulated import write_simulated
from infra.local.stack import LocalStack
from modeling.simulate import Region, domain, simulate_region

pytestmark = pytest.mark.slow

EVENT_ID = "simnow"


def lately(region: Region) -> Region:
    """The region as if its last image had been taken yesterday."""
    later = dt.datetime.now(dt.UTC) - dt.timedelta(days=1) - max(one.time for one in region.passes)
    passes = tuple(replace(one, time=one.time + later) for one in region.passes)
    return replace(region, passes=passes, event=replace(region.event, time=region.event.time + later))


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalStack, Store]]:
    """Everything that runs by itself, with an earthquake in the feed whose images are there."""
    home = tmp_path_factory.mktemp("unattended")
    region = lately(simulate_region(domain("luding"), seed=11, shape_yx=(192, 192), bands=BANDS))
    write_simulated(region, home / "catalogue", home / "usgs", event_id=EVENT_ID)
    weights = untrained(region, home / "weights", "tiny", "ten-band", share=0.03)
    (home / "here").mkdir()
    before = Path.cwd()
    with LocalStack(
        home / "stack", catalogues=[home / "catalogue"], usgs_folders=[home / "usgs"], prefect=True
    ) as stack:
        os.chdir(home / "here")
        try:
            with wired(stack, "unattended", weights, home):
                os.environ["QUAKESLIDE_WATCH__MINIMUM_STEEP_KM2"] = "0"  # the whole region is smaller than what counts
                worker = add_worker(stack, load_settings(), lambda _: None)
                with Store("gs://unattended", stack.endpoints.storage_url) as store:
                    yield stack, store
                worker.stop()
        finally:
            os.chdir(before)


def mapped(store: Store) -> Campaign | None:
    """The campaign once it has a version of its whole area."""
    found = [one for one in campaigns.all_campaigns(store) if any(note.kind == "whole" for note in one.versions)]
    return found[0] if found else None


def asked(stack: LocalStack, path: str, **body: Any) -> list[dict[str, Any]]:
    """What Prefect's server answers."""
    return list(ask_prefect(stack.environment(), f"{path}/filter", **{"limit": 100, **body}))


def told_of(stack: LocalStack) -> bool:
    """Whether there are artifacts of the campaign and of the watch."""
    keys = {str(one["key"]) for one in asked(stack, "artifacts/latest")}
    return "watch" in keys and any("campaign" in key for key in keys)


def test_an_earthquake_in_the_feed_becomes_a_map(up: tuple[LocalStack, Store]) -> None:
    stack, store = up
    campaign = eventually(lambda: mapped(store), 240)
    runs = asked(stack, "flow_runs")
    told = {(one["name"], one["state_name"], (one["state"] or {}).get("message")) for one in runs}
    assert campaign is not None, told
    (version,) = [note for note in campaign.versions if note.kind == "whole"]
    assert version.landslides > 0
    assert version.shares["observed"] > 0.3
    versions = read_versions(store, EventLayout("gs://unattended", campaign.id))
    assert [one.version for one in versions] == [note.version for note in campaign.versions]
    assert not [one for one in told if one[1] in ("Failed", "Crashed")]
    assert eventually(partial(told_of, stack)), "of campaign and watch, when the step is over"
    deployments = {one["id"]: one["name"] for one in asked(stack, "deployments")}
    started = {deployments[one["deployment_id"]] for one in runs if one["deployment_id"]}
    assert {"watch", "campaign-step"} <= started, "nobody called anything by hand"


@pytest.fixture
def signed_in(up: tuple[LocalStack, Store], tmp_path: Path) -> Iterator[Page]:
    """A browser in which the operator has typed in the password of Prefect's server, once its map is there."""
    stack, store = up
    assert eventually(lambda: mapped(store), 240) is not None
    with browser(tmp_path) as page:
        page.open(f"{stack.endpoints.prefect_url}/runs")
        assert page.shows("Login", seconds=120)
        assert "step-" not in page.text(), "nothing is shown to whoever has no password"
        assert page.evaluate("document.querySelector('input[type=password]').focus() === undefined")
        page.write(stack.endpoints.prefect_auth)
        page.press_enter()
        assert page.shows("step-", seconds=120), page.text()
        yield page


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine to open Prefect's pages in")
def test_an_operator_sees_it_in_the_browser(up: tuple[LocalStack, Store], signed_in: Page, tmp_path: Path) -> None:
    for page, words in (("runs", "step-"), ("artifacts", "campaign"), ("deployments", "campaign-step")):
        signed_in.open(f"{up[0].endpoints.prefect_url}/{page}")
        assert signed_in.shows(words, seconds=120), f"{page}: {signed_in.text()}"
        assert_drawn(signed_in.picture(tmp_path / f"{page}.png"))


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine to open Prefect's pages in")
def test_an_operator_sees_plan_map_coverage_and_result_in_the_browser(
    up: tuple[LocalStack, Store], signed_in: Page, tmp_path: Path
) -> None:
    stack, _ = up
    newest = {one["key"]: one for one in asked(stack, "artifacts/latest")}

    def opened(name: str, *words: str) -> str:
        """What the page of an artifact says, once it says all of these words."""
        artifact = newest[key_of(EVENT_ID, name)]
        signed_in.open(f"{stack.endpoints.prefect_url}/artifacts/artifact/{artifact['latest_id']}")
        assert signed_in.shows(*words, seconds=120), f"{name}: {signed_in.text()}"
        assert_drawn(signed_in.picture(tmp_path / f"{name}.png"))
        return signed_in.text()

    def rows(name: str) -> list[dict[str, Any]]:
        return list(json.loads(newest[key_of(EVENT_ID, name)]["data"]))

    plan = {row["what"]: row["value"] for row in rows("plan")}
    opened("plan", *(plan[what] for what in ("event", "area", "tiles", "requests", "network", "storage")))
    assert "simulated" in plan["event"]

    coverage = rows("coverage")
    told = opened("coverage", *(row["seen"] for row in coverage))
    shown = [
        f"{row[what]:.10g}" for row in coverage for what in ("km2", "percent")
    ]  # as a browser writes numbers: 0, not 0.0
    assert [number for number in shown if number not in told] == []
    assert sum(row["percent"] for row in coverage) == pytest.approx(100, abs=0.5)

    opened("version", "SIMULATED", "landslides", "which does not mean that there are none", "STAC item")

    opened("map", plan["event"])
    png = base64.b64decode(newest[key_of(EVENT_ID, "map")]["data"].partition("base64,")[2])
    drawn = "[...document.images].filter(one => one.src.startsWith('data:image/png'))"
    sizes = f"{drawn}.map(one => [one.naturalWidth, one.naturalHeight, one.clientWidth > 100])"
    assert eventually(lambda: signed_in.evaluate(sizes), 60) == [[*Image.open(io.BytesIO(png)).size, True]]


def assert_drawn(picture: Path) -> None:
    """The page has something on it."""
    assert np.asarray(Image.open(picture).convert("L")).std() > 5, f"{picture.name} is an empty page"
