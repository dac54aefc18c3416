"""flows/rehearsal/auditor.py: each defect that is planted is found, and a sound world is called sound."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fakes.campaigns import NOW, a_campaign, a_quake, a_version
from fakes.servers import serve

from flows.campaign.model import Campaign, State
from flows.layout import EventLayout
from flows.publish import Publication
from flows.rehearsal.auditor import Found, Verdict, incomplete, judge
from flows.rehearsal.planted import Outcome
from flows.rehearsal.story import Expected
from flows.storage import Store
from infra.local.storage import create_app

MAPPED = Expected("plain", ("us1",), Outcome.MAPPED, mapped_by=NOW)


def published(campaign_id: str, number: int, key: str = "") -> Publication:
    return Publication(campaign_id, number, key or f"{number:016x}", f"gs://b/{campaign_id}/x/item.json", "", {}, NOW)


def a_world(*campaigns: Campaign, **changes: object) -> Found:
    versions = {
        one.id: tuple(published(one.id, note.version, note.run_key) for note in one.versions) for one in campaigns
    }
    sound = Found(campaigns, versions, frozenset(), (), frozenset({"us1"}), 0)
    return replace(sound, **changes)  # type: ignore[arg-type]


def verdict(expected: Expected, found: Found, listed: frozenset[str] = frozenset()) -> Verdict:
    return judge([expected], listed, found)


def mapped_twice() -> Campaign:
    other = a_version(2, scenes_after=("S2/a", "S2/b"), area_km2=100.0)
    return a_campaign().model_copy(update={"versions": (a_version(1), other)})


def test_an_earthquake_with_one_campaign_and_its_versions_is_sound() -> None:
    found = verdict(MAPPED, a_world(mapped_twice()), frozenset({"us1"}))
    assert found.sound
    assert (found.qualifying_events, found.mapped, found.versions) == (1, 1, 2)
    assert found.by_outcome == {"mapped": 1}


@pytest.mark.parametrize(
    ("expected", "campaigns", "says"),
    [
        (MAPPED, [], "no campaign"),
        (MAPPED, [a_campaign()], "no version by 2026-01-10"),
        (MAPPED, [a_campaign(1, state=State.WITHDRAWN)], "its campaign is withdrawn"),
        (replace(MAPPED, second=("us9",)), [a_campaign(1)], "the second earthquake us9 belongs to no campaign"),
        (replace(MAPPED, outcome=Outcome.MARKED), [a_campaign(1, state=State.WITHDRAWN)], "are not marked"),
        (replace(MAPPED, outcome=Outcome.MARKED), [a_campaign(1)], "the USGS has deleted the event"),
        (Expected("green", ("us1",), Outcome.CLOSED), [a_campaign()], "its campaign is waiting"),
        (Expected("deleted", ("us1",), Outcome.WITHDRAWN), [a_campaign(state=State.CLOSED)], "its campaign is closed"),
    ],
)
def test_what_did_not_come_of_an_earthquake_is_missed(expected: Expected, campaigns: list[Campaign], says: str) -> None:
    found = verdict(expected, a_world(*campaigns))
    assert not found.sound
    assert len(found.missed) == 1
    assert says in found.missed[0]
    assert found.mapped == 0


def test_before_its_time_a_version_is_not_missed() -> None:
    assert verdict(replace(MAPPED, mapped_by=None), a_world(a_campaign())).sound


def test_a_withdrawn_event_whose_versions_are_marked_is_sound() -> None:
    gone = a_campaign(1, state=State.WITHDRAWN)
    found = verdict(replace(MAPPED, outcome=Outcome.MARKED), a_world(gone, marked=frozenset({gone.id})))
    assert found.sound
    assert found.mapped == 1


def test_two_living_campaigns_of_one_earthquake_are_one_too_many() -> None:
    other = a_campaign(1, id="at1", quakes=(a_quake(id="at1", ids=("at1", "us1")),))
    found = verdict(MAPPED, a_world(a_campaign(1), other))
    assert found.duplicated == ["us1 (plain): campaigns at1, us1"]


def test_a_version_that_was_made_twice_is_found_by_its_run_and_by_what_it_shows() -> None:
    again = a_campaign(2)  # both of the same scenes and area
    same_run = a_world(again, versions={"us1": (published("us1", 1, "a" * 16), published("us1", 2, "a" * 16))})
    assert len(verdict(MAPPED, a_world(again)).duplicated) == 1
    assert any("is visible 2 times" in line for line in verdict(MAPPED, same_run).duplicated)


@pytest.mark.parametrize("outcome", [Outcome.NOTHING, Outcome.CLOSED])
def test_a_version_of_what_was_not_to_be_mapped_is_unwanted(outcome: Outcome) -> None:
    found = verdict(Expected("deep", ("us1",), outcome), a_world(a_campaign(1)))
    assert len(found.unwanted) == 1
    assert not found.missed


def test_what_is_visible_and_what_a_campaign_says_of_it_must_agree() -> None:
    found = verdict(MAPPED, a_world(a_campaign(1), versions={"us1": (published("us1", 1), published("us1", 2))}))
    assert found.unnoted == ["us1: versions [1, 2] are visible, [1] noted"]


def test_earthquakes_without_a_decision_orphans_and_half_versions_are_told() -> None:
    found = verdict(
        MAPPED,
        a_world(a_campaign(1), incomplete=("us1 version 1: mask.tif is missing",), orphans=3),
        frozenset({"us7"}),
    )
    assert (found.undecided, found.orphans, len(found.half_visible)) == (["us7"], 3, 1)
    assert not found.sound


# ---- in a bucket


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with serve(create_app(tmp_path / "bucket")) as endpoint, Store("gs://bucket", endpoint, retry_s=1.0) as opened:
        opened.ensure_bucket()
        yield opened


def visible(store: Store) -> EventLayout:
    """One version of one asset and its item."""
    event = EventLayout(store.bucket_url, "us1")
    mask, prefix = b"mask", "./runs/0000000000000001/1111111111111111"
    checksum = f"1220{hashlib.sha256(mask).hexdigest()}"
    item = json.dumps({"assets": {"mask": {"file:checksum": checksum}}}).encode()
    store.write_bytes(f"{event.root}/{prefix[2:]}/mask.tif", mask)
    store.write_bytes(f"{event.root}/{prefix[2:]}/item.json", item)
    entry = {
        "version": 1, "run_key": "0000000000000001", "item": f"{prefix}/item.json",
        "item_sha256": hashlib.sha256(item).hexdigest(), "assets": {"mask": f"{prefix}/mask.tif"},
        "published": dt.datetime(2026, 1, 1, tzinfo=dt.UTC).isoformat(),
    }  # fmt: skip
    listed = {"format": 1, "event_id": "us1", "versions": [entry]}
    store.write_bytes(event.versions, json.dumps(listed).encode(), "application/json")
    links = [{"rel": "item", "href": f"{prefix}/item.json"}]
    store.write_bytes(event.catalog, json.dumps({"links": links}).encode(), "application/json")
    return event


def test_a_complete_version_is_complete(store: Store) -> None:
    visible(store)
    assert incomplete(store, "us1", deep=True) == []


def test_a_version_with_a_missing_object_is_half_visible(store: Store) -> None:
    event = visible(store)
    store.delete(f"{event.root}/runs/0000000000000001/1111111111111111/mask.tif")
    assert incomplete(store, "us1") == ["us1 version 1: mask.tif is missing"]


@pytest.mark.parametrize("name", ["mask.tif", "item.json"])
def test_a_version_with_a_changed_object_is_damaged(store: Store, name: str) -> None:
    event = visible(store)
    store.write_bytes(f"{event.root}/runs/0000000000000001/1111111111111111/{name}", b"other")
    assert incomplete(store, "us1") == []
    assert incomplete(store, "us1", deep=True) == [f"us1 version 1: {name} is damaged"]


def test_a_catalogue_that_lacks_a_version_is_told(store: Store) -> None:
    event = visible(store)
    store.write_bytes(event.catalog, b'{"links": []}')
    assert incomplete(store, "us1", deep=True) == ["us1: catalog.json lacks 1 versions"]
