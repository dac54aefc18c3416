"""flows/campaign/mark.py: a withdrawn event's versions stay where they are and say that they are withdrawn."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pystac
import pytest
from fakes.campaigns import NOW, a_decision, a_quake
from fakes.products import FOOTPRINT, facts, write_products
from fakes.servers import HTTP

from flows.campaign import store as campaigns
from flows.campaign.mark import mark_withdrawn, unmark_withdrawn
from flows.campaign.model import Campaign, State
from flows.campaign.record import moved
from flows.errors import ServiceError
from flows.layout import EventLayout
from flows.publish import make_visible, read_versions, upload_products
from flows.settings import Settings
from flows.storage import Store

ID = "us2000h8ty"
LATER = NOW + dt.timedelta(hours=1)


def publish(store: Store, folder: Path, run_key: str = "0" * 16) -> None:
    write_products(folder, note=run_key)
    event = EventLayout(store.bucket_url, ID)
    make_visible(store, upload_products(store, event.run(run_key), folder, facts(run_key=run_key), FOOTPRINT))


def catalogue(store: Store) -> dict[str, object]:
    read: dict[str, object] = json.loads(store.read_bytes(EventLayout(store.bucket_url, ID).catalog))
    pystac.Catalog.from_dict(read)
    return read


def test_the_list_of_versions_and_the_catalogue_say_why_and_when_and_nothing_is_erased(
    store: Store, tmp_path: Path
) -> None:
    event = EventLayout(store.bucket_url, ID)
    quake = a_quake(id=ID, ids=(ID,))
    campaigns.open_campaign(store, quake, a_decision(event_id=ID), Settings(), NOW)
    publish(store, tmp_path / "one")
    before = {info.uri for info in store.list(event.root)}
    campaigns.withdraw(store, ID, "the USGS has deleted event", NOW)
    assert {info.uri for info in store.list(event.root)} == before
    assert json.loads(store.read_bytes(event.versions))["withdrawn"]["reason"] == "the USGS has deleted event"
    assert catalogue(store)["deprecated"] is True
    assert str(catalogue(store)["description"]).startswith("Withdrawn: the USGS has deleted event.")
    assert len(read_versions(store, event)) == 1

    campaigns.withdraw(store, ID, "again", LATER)
    assert json.loads(store.read_bytes(event.versions))["withdrawn"]["reason"] == "the USGS has deleted event"
    publish(store, tmp_path / "two", "1" * 16)  # by a step that was under way
    assert "withdrawn" in json.loads(store.read_bytes(event.versions))

    campaigns.notice(store, ID, a_quake(id=ID, ids=(ID,), updated=LATER), a_decision(event_id=ID), LATER)
    assert "withdrawn" not in json.loads(store.read_bytes(event.versions))
    assert "deprecated" not in catalogue(store)
    assert len(read_versions(store, event)) == 2


def is_marked(store: Store) -> bool:
    marked = "withdrawn" in json.loads(store.read_bytes(EventLayout(store.bucket_url, ID).versions))
    assert ("deprecated" in catalogue(store)) is marked
    return marked


@contextmanager
def no_write_to(store: Store, name: str) -> Iterator[None]:
    """The bucket takes no document of this name."""
    fault = {"match": "/upload/", "request_body": name.replace(".", r"\."), "status": 503}
    HTTP.post(f"{store.address}/_standin/faults", json=fault).raise_for_status()
    try:
        yield
    finally:
        HTTP.delete(f"{store.address}/_standin/faults").raise_for_status()


def withdraw(store: Store) -> Campaign:
    return campaigns.withdraw(store, ID, "the USGS has deleted event", NOW)


def list_again(store: Store) -> Campaign:
    return campaigns.notice(store, ID, a_quake(id=ID, ids=(ID,), updated=LATER), a_decision(event_id=ID), LATER)


@pytest.mark.parametrize("document", ["versions.json", "catalog.json"])
@pytest.mark.parametrize("again", [withdraw, list_again])
def test_a_mark_that_could_not_be_written_is_written_by_the_next_try(
    store: Store, tmp_path: Path, document: str, again: Callable[[Store], Campaign]
) -> None:
    campaigns.open_campaign(store, a_quake(id=ID, ids=(ID,)), a_decision(event_id=ID), Settings(), NOW)
    publish(store, tmp_path / "one")
    if again is list_again:
        withdraw(store)
    short = Store(store.bucket_url, store.address, retry_s=0.5)
    with short, no_write_to(store, document), pytest.raises(ServiceError):
        again(short)
    wanted = again is withdraw
    assert (campaigns.load(store, ID).state is State.WITHDRAWN) is wanted, "the campaign knows it already"
    before = campaigns.load(store, ID)
    assert again(store) == before
    assert is_marked(store) is wanted


def test_a_mark_follows_the_campaign_and_one_that_was_never_withdrawn_has_none(store: Store, tmp_path: Path) -> None:
    campaigns.open_campaign(store, a_quake(id=ID, ids=(ID,)), a_decision(event_id=ID), Settings(), NOW)
    publish(store, tmp_path / "one")
    event = EventLayout(store.bucket_url, ID)
    generation = store.read_with_generation(event.versions)[1]
    campaigns.mend_mark(store, ID)
    assert store.read_with_generation(event.versions)[1] == generation
    for state, marked in ((State.WITHDRAWN, True), (State.WAITING, False), (State.WITHDRAWN, True)):
        campaigns.change(store, ID, lambda one, state=state: moved(one, state, "by a step that was killed", NOW))
        campaigns.mend_mark(store, ID)
        assert is_marked(store) is marked


def test_an_event_without_versions_has_nothing_to_mark(store: Store) -> None:
    mark_withdrawn(store, ID, "deleted", NOW)
    unmark_withdrawn(store, ID)
    assert store.list(EventLayout(store.bucket_url, ID).root) == ()
