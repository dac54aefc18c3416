"""Events and their products: identity, versions, preference, storage."""

from __future__ import annotations

import copy
import datetime as dt
import json
from typing import Any

import pytest
from fakes.usgs_records import T0, T0_MS, feature, product

from flows.errors import EventError
from flows.event import EarthquakeEvent, ProductRef, current_products
from flows.usgs_geojson import parse_detail, parse_json


def test_the_preferred_product_is_the_heaviest_then_the_newest_of_those_not_withdrawn() -> None:
    record = feature(products={"shakemap": [
        product("us", T0_MS + 1000, 200, version="1"),
        product("us", T0_MS + 3000, 150, version="2"),
        product("atlas", T0_MS + 2000, 300),
        product("nn", T0_MS + 1500, 150),
    ]})  # fmt: skip
    event = parse_detail(record)
    assert event.shakemap is not None
    assert event.shakemap.name == "atlas/us2000h8ty version 1"
    withdrawn = copy.deepcopy(record)
    withdrawn["properties"]["products"]["shakemap"].append(product("atlas", T0_MS + 9000, 1, "DELETE"))
    event = parse_detail(withdrawn)
    # The newest version of a product stands for it, though an older one was heavier.
    assert [p.name for p in current_products(event.products, "shakemap")] == [
        "us/us2000h8ty version 2",
        "nn/us2000h8ty version 1",
    ]
    before = current_products(event.products, "shakemap", at=T0 + dt.timedelta(seconds=1.2))
    assert [p.version for p in before] == ["1"]
    assert len(event.products) == 5


def test_events_survive_storage() -> None:
    event = parse_detail(
        feature(products={"shakemap": [product("us", T0_MS, 5), product("us", T0_MS + 7, 5, "DELETE")]})
    )
    stored = json.loads(json.dumps(event.to_dict()))
    assert EarthquakeEvent.from_dict(stored) == event
    with pytest.raises(EventError, match="not a stored earthquake event"):
        EarthquakeEvent.from_dict({"id": "us1"})


def test_recorded_details_of_the_usgs_are_read(shared_data: Any) -> None:
    folder = shared_data / "usgs" / "fdsn_event_detail"
    iburi = parse_detail(parse_json((folder / "us2000h8ty_superseded.geojson").read_bytes(), "iburi"))
    assert iburi.ids == ("us2000h8ty", "pt18248000", "at00pelgzo")
    maps = [p for p in iburi.products if p.type == "shakemap"]
    assert len(maps) == 13
    assert len(iburi.products) - len(maps) == 13
    assert iburi.shakemap is not None
    assert iburi.shakemap.name == "atlas/us2000h8ty version 1"
    assert iburi.shakemap.url("download/grid.xml") is not None
    assert iburi.ground_failure is not None
    assert iburi.ground_failure.property("landslide-alert") is not None
    in_2018 = current_products(iburi.products, "shakemap", at=dt.datetime(2019, 1, 1, tzinfo=dt.UTC))
    assert [p.name for p in in_2018] == ["us/us2000h8ty version 10"]
    tohoku = parse_detail(
        parse_json((folder / "official20110311054624120_30_superseded.geojson").read_bytes(), "tohoku")
    )
    # The old Atlas map was deleted and sent again afterwards under the same name: the newest version decides.
    assert [p.code for p in current_products(tohoku.products, "shakemap")] == [
        "official20110311054624120_30",
        "atlas20110311054624",
    ]
    for file in folder.iterdir():
        event = parse_detail(parse_json(file.read_bytes(), file.name))
        assert EarthquakeEvent.from_dict(json.loads(json.dumps(event.to_dict()))) == event


def test_a_product_without_a_version_number_is_named_by_its_time() -> None:
    bare = ProductRef("us", "shakemap", "us1", T0, "", "UPDATE", 1)
    assert bare.name == "us/us1 of 2018-09-05 18:07:59 UTC"
    assert bare.identity == ("us", "shakemap", "us1")
