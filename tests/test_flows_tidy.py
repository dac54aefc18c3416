"""flows/tidy.py: what was given up is removed, after its time, and nothing else ever."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.assets import AssetWorld
from fakes.written import Desk, desk, desks
from hypothesis import given
from hypothesis import strategies as st

from flows.storage import Store
from flows.tidy import leftovers
from gee import operations
from gee.assets import AssetRecord, ensure_folder
from gee.ingestion import TableAsset, write_assets

NOW = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
DAY = dt.timedelta(hours=24)
LABELS = [f"{n:016x}_{n:016x}" for n in range(4)]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[AssetWorld, Store]]:
    with desks(tmp_path_factory.mktemp("world")) as both:
        yield both


@pytest.fixture
def at(running: tuple[AssetWorld, Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setattr(operations, "POLL_S", 0.05)
    running[0].forget()
    return desk(*running, tmp_path)


RECORDS = st.builds(
    AssetRecord,
    name=st.sampled_from([*LABELS, "somebody_elses", "0_0", "0123456789abcdef"]).map("p/{}".format),
    kind=st.sampled_from(["IMAGE", "TABLE", "FOLDER", "IMAGE_COLLECTION"]),
    properties=st.sampled_from([{}, {"version": 1}, {"run_key": "x"}]),
    updated=st.integers(0, 100).map(lambda hours: NOW - dt.timedelta(hours=hours)),
)


@given(st.lists(RECORDS), st.frozensets(st.sampled_from(LABELS)), st.frozensets(st.sampled_from(LABELS)))
def test_only_what_nobody_will_publish_is_left_over(
    records: list[AssetRecord], published: frozenset[str], lost: frozenset[str]
) -> None:
    found = leftovers(records, published, lost, NOW, DAY)
    for record in records:
        given_up = record.label in lost or NOW - record.updated > DAY
        ours = record.kind in ("IMAGE", "TABLE") and record.label in LABELS
        assert (record in found) == (
            ours and given_up and record.label not in published and "version" not in record.properties
        )


def test_a_given_up_run_is_removed_after_its_time(at: Desk) -> None:
    given_up, published = at.attempt(1), at.attempt(2)
    names = given_up.write()
    published.finish()
    assert at.tidy() == at.tidy(hours=23.5) == ()
    assert set(at.tidy(hours=24.5)) == set(names.values())
    assert at.tidy(hours=24.5) == ()
    assert at.labels() == at.each(published.label)


def test_the_time_of_grace_is_a_setting(running: tuple[AssetWorld, Store], tmp_path: Path) -> None:
    at = desk(*running, tmp_path, orphan_hours=1.0)
    at.attempt().write()
    assert at.tidy(hours=0.9) == ()
    assert len(at.tidy(hours=1.1)) == 4


def test_a_run_that_takes_its_assets_up_again_gets_its_time_again(at: Desk) -> None:
    one = at.attempt()
    one.write()
    before = {asset.name: asset.updated for found in at.assets().values() for asset in found}
    one.write()
    after = {asset.name: asset for found in at.assets().values() for asset in found}
    assert all(asset.updated >= before[name] for name, asset in after.items())
    youngest = min(asset.updated for asset in after.values())
    assert leftovers(after.values(), set(), set(), youngest + DAY, DAY) == ()


def test_what_is_published_but_not_yet_stamped_is_kept(at: Desk) -> None:
    one = at.attempt()
    one.write()
    publication = one.publish()
    assert at.tidy(hours=1000) == ()
    one.stamp(publication)
    assert {kind: len(found) for kind, found in at.labels().items()} == dict.fromkeys(at.labels(), 1)


def test_what_somebody_else_keeps_there_is_not_touched(at: Desk) -> None:
    one = at.attempt()
    folder = one.write()["landslides"].rpartition("/")[0]
    own = TableAsset(f"{folder}/my_corrections", at.world.csv(), "abc", {}, NOW)
    write_assets(at.world.session, [own], 20)
    ensure_folder(at.world.session, f"{folder}/{LABELS[0]}")
    assert len(at.tidy(hours=1000)) == 4
    assert at.labels() == {"probability": [], "mask": [], "observed": [], "landslides": [LABELS[0], "my_corrections"]}


def test_what_is_stamped_while_one_looks_is_kept(at: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    one = at.attempt()
    one.write()
    listed = at.assets()
    publication = one.publish()
    one.stamp(publication)
    # As if the listing and the list of versions were those of a moment before the other run published.
    monkeypatch.setattr("flows.tidy.list_assets", lambda _, parent: listed[parent.rpartition("/")[2]])
    monkeypatch.setattr("flows.tidy.read_versions", lambda *_: ())
    assert at.tidy(hours=1000) == ()


def test_an_event_without_anything_is_tidy(at: Desk) -> None:
    assert at.tidy() == ()
