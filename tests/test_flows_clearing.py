"""flows/clearing.py: what nobody will ever need goes, after its time; what anybody sees or is about to see stays."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.campaigns import NOW, a_decision, a_quake
from fakes.products import FOOTPRINT, facts, write_products
from fakes.servers import serve
from hypothesis import given
from hypothesis import strategies as st

from flows import storage
from flows.campaign import store as campaigns
from flows.campaign.model import Campaign, State, Transition
from flows.campaign.record import moved
from flows.clearing import Cleared, clear_everything, closed_since, orphans, remove, stale_cubes
from flows.layout import EventLayout
from flows.publish import Publication, UploadedRun, make_visible, read_versions, upload_products
from flows.settings import EarthEngineSettings, JanitorSettings, Settings, StorageSettings
from flows.storage import ObjectInfo, Store
from infra.local.storage import create_app

HOUR, DAY = dt.timedelta(hours=1), dt.timedelta(days=1)
EVENT = EventLayout("gs://bucket", "us1")
KEYS = [f"{number:016x}" for number in range(3)]


def info(name: str, hours: float | None, size: int = 10) -> ObjectInfo:
    updated = None if hours is None else NOW - hours * HOUR
    return ObjectInfo(f"{EVENT.root}/{name}", size, 1, "", updated)


def version(run_key: str, digest: str, number: int = 1) -> Publication:
    root = EVENT.run(run_key).products(digest)
    return Publication("us1", number, run_key, root.item, "", {}, NOW)


NAMES = st.builds(
    lambda key, place, name: f"runs/{key}/{place}/{name}",
    st.sampled_from(KEYS),
    st.sampled_from(["stages", *KEYS, "notes", "stages/map-1234"]),
    st.sampled_from(["item.json", "map.json", "mask.tif"]),
)
OBJECTS = st.dictionaries(NAMES, st.none() | st.floats(0, 100), max_size=12)


@given(OBJECTS, st.lists(st.tuples(st.sampled_from(KEYS), st.sampled_from(KEYS)), max_size=3))
def test_only_what_is_old_ours_and_unseen_is_removed(
    objects: dict[str, float | None], shown: list[tuple[str, str]]
) -> None:
    listed = [info(name, hours) for name, hours in objects.items()]
    published = [version(key, digest) for key, digest in shown]
    doomed = orphans(EVENT, listed, published, NOW, DAY)
    gone = {one.object.uri for one in doomed}
    assert len(gone) == len(doomed)
    for one in doomed:
        _, key, folder, *_ = one.object.uri.removeprefix(f"{EVENT.root}/").split("/")
        assert folder == "stages" or (folder in KEYS and (key, folder) not in shown)
        assert one.object.updated is not None
        assert one.object.updated < NOW - DAY
    for name in objects:
        _, key, folder, *_ = name.split("/")
        run = [hours for other, hours in objects.items() if other.split("/")[1] == key]
        inside = [hours for other, hours in objects.items() if other.split("/")[1:3] == [key, folder]]
        old = all(hours is not None and hours > 24 for hours in (run if folder == "stages" else inside))
        ours = folder == "stages" or (folder in KEYS and (key, folder) not in shown)
        assert (info(name, 0).uri in gone) == (old and ours)


def test_the_records_that_make_something_whole_go_first() -> None:
    names = [f"runs/{KEYS[0]}/{KEYS[1]}/{name}" for name in ("mask.tif", "item.json", "facts.json")]
    first = orphans(EVENT, [info(name, 48) for name in names], [], NOW, DAY)[0]
    assert first.object.uri.endswith("item.json")
    campaign = closed(NOW - 31 * DAY)
    cube = [info(f"cubes/a.{name}", 1) for name in ("plan.json", "manifest.json", "zarr/stack/c/0/0/0")]
    assert stale_cubes(campaign, cube, NOW, 30 * DAY)[0].object.uri.endswith("manifest.json")
    assert stale_cubes(campaign, cube, NOW, 32 * DAY) == []


def closed(at: dt.datetime, state: State = State.CLOSED) -> Campaign:
    from fakes.campaigns import a_campaign

    return a_campaign(state=state, history=(Transition(at=at, state=state, why="covered"),))


def test_an_open_campaign_was_never_closed() -> None:
    assert closed_since(closed(NOW)) == NOW
    assert closed_since(closed(NOW, State.WITHDRAWN)) == NOW
    assert closed_since(closed(NOW).model_copy(update={"state": State.WAITING})) is None


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serve(create_app(tmp_path_factory.mktemp("bucket"))) as address:
        yield address


@pytest.fixture
def settings(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Nothing is older than a moment; Earth Engine does not answer."""
    monkeypatch.setattr(storage, "TOUCH_AFTER", dt.timedelta())
    name = tmp_path.name.replace("_", "-").lower()[:60].strip("-.")
    return Settings(
        storage=StorageSettings(bucket=name, endpoint=endpoint),
        earthengine=EarthEngineSettings(url="http://127.0.0.1:9", project="p", max_attempts=1, request_timeout_s=0.2),
        janitor=JanitorSettings(orphan_hours=1e-9, keep_cubes_days=1),
    )


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    with Store(f"gs://{settings.storage.bucket}", settings.storage.endpoint, retry_s=5.0) as opened:
        opened.ensure_bucket()
        yield opened


def uploaded(store: Store, folder: Path, number: int, note: str = "", event_id: str = "us2000h8ty") -> UploadedRun:
    write_products(folder, note=note)
    run = EventLayout(store.bucket_url, event_id).run(f"{number:016x}")
    return upload_products(store, run, folder, facts(run_key=run.run_key), FOOTPRINT)


def test_a_bucket_is_cleared_of_everything_but_what_can_be_seen(
    settings: Settings, store: Store, tmp_path: Path
) -> None:
    shown = make_visible(store, uploaded(store, tmp_path / "a", 1))
    lost = uploaded(store, tmp_path / "b", 1, note="another attempt")
    given_up = uploaded(store, tmp_path / "c", 2)
    stage = lost.layout.run.work("map.json")
    cube = lost.layout.run.event.cube("0" * 16) + "/zarr.json"
    for uri in (stage, cube):
        store.write_bytes(uri, b"{}")
    dry = clear_everything(settings, dry_run=True)
    assert store.exists(stage)
    cleared = clear_everything(settings)
    assert (cleared.removed, cleared.bytes) == (dry.removed, dry.bytes)
    assert set(cleared.removed) == {"products that were never published", "left by stages of a published run"}
    left = {one.uri for one in store.list(f"{shown.item_uri.rpartition('/runs/')[0]}/")}
    event = lost.layout.run.event
    assert left == {event.versions, event.catalog, shown.item_uri, *shown.assets.values(), cube}
    assert not store.list(f"{given_up.layout.run.root}/")
    assert read_versions(store, event) == (shown,)
    assert any("Earth Engine" in trouble for trouble in cleared.troubles)
    assert clear_everything(settings).removed == {}


def test_what_is_taken_up_again_while_the_janitor_looks_is_kept(
    store: Store, tmp_path: Path, settings: Settings
) -> None:
    event = uploaded(store, tmp_path / "a", 1).layout.run.event
    listed = store.list(f"{event.root}/runs/")
    doomed = orphans(event, listed, read_versions(store, event), dt.datetime.now(dt.UTC), dt.timedelta())
    assert len(doomed) == len(listed) > 5
    again = uploaded(store, tmp_path / "a", 1)
    cleared = Cleared()
    remove(store, doomed, cleared)
    assert cleared.removed == {}
    assert make_visible(store, again).version == 1


def test_cubes_of_campaigns_closed_long_ago_go_and_an_opened_one_keeps_its_own(
    settings: Settings, store: Store
) -> None:
    for name, state, days in (("us1", State.CLOSED, 2), ("us2", State.CLOSED, 0.5), ("us3", State.WAITING, 9)):
        quake = a_quake(id=name, ids=(name,))
        campaigns.open_campaign(store, quake, a_decision(event_id=name), settings, NOW)
        ends = Transition(at=NOW - days * DAY, state=state, why="test")
        campaigns.change(
            store, name, lambda one, ends=ends: one.model_copy(update={"state": ends.state, "history": (ends,)})
        )
        layout = EventLayout(store.bucket_url, name)
        for part in ("manifest.json", "zarr/stack/c/0/0/0"):
            store.write_bytes(layout.cube("a").removesuffix("zarr") + part, b"x")
    assert clear_everything(settings, now=NOW).removed == {"cubes of campaigns closed long ago": 2}
    assert [len(store.list(f"{EventLayout(store.bucket_url, name).cubes}/")) for name in ("us1", "us2", "us3")] == [
        0,
        2,
        2,
    ]
    assert campaigns.load(store, "us1").lease is None


def test_the_janitor_marks_what_was_withdrawn_by_somebody_who_was_killed_before_the_mark(
    settings: Settings, store: Store, tmp_path: Path
) -> None:
    name = "us2000h8ty"
    campaigns.open_campaign(store, a_quake(id=name, ids=(name,)), a_decision(event_id=name), settings, NOW)
    make_visible(store, uploaded(store, tmp_path / "a", 1))
    campaigns.change(store, name, lambda one: moved(one, State.WITHDRAWN, "the USGS has deleted it", NOW))
    versions = EventLayout(store.bucket_url, name).versions
    clear_everything(settings, now=NOW, dry_run=True)
    assert "withdrawn" not in json.loads(store.read_bytes(versions))
    clear_everything(settings, now=NOW)
    assert json.loads(store.read_bytes(versions))["withdrawn"] == {
        "reason": "the USGS has deleted it", "at": NOW.isoformat()
    }  # fmt: skip


def test_what_could_not_be_cleared_is_told_without_secrets() -> None:
    assert "hunter2" not in Cleared(troubles=["http://user:hunter2hunter2@example.org does not answer"]).lines()[0]


def test_what_is_told_of_a_clearing_adds_up() -> None:
    cleared = Cleared()
    for one in orphans(EVENT, [info(f"runs/{KEYS[0]}/stages/map.json", 48)], [], NOW, DAY):
        cleared.note(one)
    cleared.assets.append("projects/p/assets/a")
    assert cleared.lines() == [
        "1 objects: left by stages of a given-up run",
        "1 assets in Earth Engine of runs never published",
        "cleared: 1 objects, 0.0 MB",
    ]
