"""flows/layout.py: one place for every URI, and keys that change exactly when the work does."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pytest

from flows.errors import EventError
from flows.layout import CampaignsLayout, EventLayout, RunIdentity, products_digest, short_hash, version_name

IDENTITY = RunIdentity("us1", "POINT (0 0)", ("a", "b"), {"x": 1, "y": {"z": [1.5]}}, "w", "0.1")


def test_the_same_work_has_the_same_key_in_whatever_order_it_is_told() -> None:
    same = replace(IDENTITY, scene_ids=("b", "a", "a"), settings={"y": {"z": [1.5]}, "x": 1})
    assert same.key == IDENTITY.key
    assert len(IDENTITY.key) == 16


@pytest.mark.parametrize(
    "changed",
    [
        {"event_id": "us2"},
        {"area": "POINT (0 1)"},
        {"scene_ids": ("a",)},
        {"settings": {"x": 2}},
        {"weights_hash": "v"},
        {"code_version": "0.2"},
    ],
)
def test_every_part_of_the_identity_changes_the_key(changed: dict[str, object]) -> None:
    assert replace(IDENTITY, **changed).key != IDENTITY.key  # type: ignore[arg-type]


def test_everything_of_an_event_lies_below_its_prefix() -> None:
    event = EventLayout("gs://bucket/", "us1")
    products = event.run("k").products("d")
    assert event.versions == "gs://bucket/events/us1/versions.json"
    assert products.item == "gs://bucket/events/us1/runs/k/d/item.json"
    assert products.item == f"{event.root}/{products.item_href.removeprefix('./')}"
    assert {event.catalog, event.cube("c"), event.run("k").work("x")} == {
        "gs://bucket/events/us1/catalog.json",
        "gs://bucket/events/us1/cubes/c.zarr",
        "gs://bucket/events/us1/runs/k/stages/x",
    }


@pytest.mark.parametrize("event_id", ["", "../x", "a/b", "a b", ".hidden", "x" * 65])
def test_an_id_that_could_leave_its_folder_is_refused(event_id: str) -> None:
    with pytest.raises(EventError, match="cannot name a folder"):
        EventLayout("gs://bucket", event_id)


def test_a_digest_tells_file_names_and_contents() -> None:
    assert products_digest({"a": "1", "b": "2"}) == products_digest({"b": "2", "a": "1"})
    assert products_digest({"a": "1", "b": "2"}) != products_digest({"a": "2", "b": "1"})


def test_a_value_that_json_does_not_have_is_no_key() -> None:
    with pytest.raises(ValueError, match="JSON"):
        short_hash(float("nan"))


def test_version_folders_sort_like_their_numbers() -> None:
    assert sorted(map(version_name, (10, 9, 1))) == ["v0001", "v0009", "v0010"]


def test_campaigns_and_journals_have_addresses_of_their_own() -> None:
    layout = CampaignsLayout("gs://b/prefix/")
    assert layout.index == "gs://b/prefix/campaigns/index.json"
    assert layout.campaign("us2000h8ty") == "gs://b/prefix/campaigns/us2000h8ty.json"
    assert layout.cursor == "gs://b/prefix/watch/cursor.json"
    assert layout.day(dt.date(2018, 9, 5)) == "gs://b/prefix/watch/days/2018-09-05.json"
    with pytest.raises(EventError, match="cannot name a folder"):
        layout.campaign("../events/x")
