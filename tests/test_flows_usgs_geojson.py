"""The reader of the USGS's GeoJSON: what records hold, what they may lack, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from fakes.usgs_records import T0, T0_MS, feature, product
from hypothesis import given
from hypothesis import strategies as st

from flows.errors import EventError
from flows.settings import Settings
from flows.usgs_geojson import parse_detail, parse_feed, parse_json, parse_summary
from flows.watching.rule import decide


@pytest.mark.parametrize("value", [[], "x", 3, None, {}, {"id": "us1"}, {"id": "us1", "properties": []}])
def test_json_that_is_no_event_is_refused(value: Any) -> None:
    with pytest.raises(EventError):
        parse_detail(value)


def test_a_spoilt_product_counts_as_not_there() -> None:
    good = product("us", T0_MS, 1)
    spoilt: list[Any] = [
        None, "x", {**good, "updateTime": "now"}, {**good, "source": 5.5j.real}, {**good, "source": None},
        {**good, "updateTime": 1e300},
    ]  # fmt: skip
    event = parse_detail(feature(products={"shakemap": [*spoilt, good], "ground-failure": "none"}))
    assert [p.source for p in event.products] == ["0.0", "us"]
    assert parse_detail(feature(products=[1])).products == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mag": None}, "us2000h8ty has no magnitude"),
        ({"time": None}, "us2000h8ty has no origin time"),
        ({"geometry": None}, "us2000h8ty has no coordinates"),
        ({"geometry": {"type": "Point", "coordinates": [None, None, None]}}, "no coordinates"),
        ({"geometry": {"type": "Point", "coordinates": [500, 0, 0]}}, "impossible longitude 500"),
        ({"geometry": {"type": "Point", "coordinates": "here"}}, "no point"),
        ({"geometry": {"type": "Point", "coordinates": [1, 2, 5000]}}, "impossible depth"),
        ({"mag": True}, "not a number"),
        ({"mag": 99}, "impossible magnitude 99"),
        ({"mag": 10**400}, "not finite"),
        ({"time": 1e18}, "impossible `time`"),
    ],
)
def test_a_record_that_cannot_be_mapped_says_why(change: dict[str, Any], message: str) -> None:
    with pytest.raises(EventError, match=message):
        parse_detail(feature(**change))


def test_a_missing_depth_is_carried_as_unknown() -> None:
    event = parse_detail(feature(geometry={"type": "Point", "coordinates": [1, 2, None]}))
    assert event.depth_km is None


def test_a_deleted_event_in_a_query_needs_no_coordinates() -> None:
    summary = parse_summary(feature(status="deleted", geometry=None, mag=None))
    assert summary.deleted
    assert summary.lon is None
    decision = decide(summary, Settings(), T0)
    assert (decision.wanted, decision.reason) == (False, "the USGS has deleted event us2000h8ty")


def test_text_is_one_short_line_and_simulated_is_said_only_by_true() -> None:
    summary = parse_summary(feature(place="a\n\x1b[31mb" + "c" * 9999, **{"quakeslide:simulated": "true"}))
    assert summary.place.startswith("a [31mb")
    assert len(summary.place) == 500
    assert not summary.simulated
    assert parse_summary(feature(**{"quakeslide:simulated": True})).simulated


def test_longitudes_are_brought_to_one_turn() -> None:
    assert parse_summary(feature(geometry={"type": "Point", "coordinates": [190.0, 0, 0]})).lon == -170.0


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(["id", "properties", "geometry", "coordinates", "mag", "time", "updated", "ids", "products",
                         "shakemap", "source", "code", "updateTime", "contents", "url"]), inner, max_size=5),
    max_leaves=15,
)  # fmt: skip


@given(json_values)
def test_no_json_at_all_breaks_the_reader(value: Any) -> None:
    record = {"id": "us1", "properties": value, "geometry": value}
    spoilt = feature(products=value, ids=value, place=value, geometry=value)
    for entry in (value, record, spoilt):
        events, rejected = parse_feed({"features": [entry]})
        assert len(events) + len(rejected) == 1
        try:
            parse_detail(entry)
        except EventError:
            continue


def test_a_recorded_week_of_the_feed_is_read_whole(shared_data: Any) -> None:
    body = (shared_data / "usgs" / "summary_feeds" / "all_week_2023-08-04.geojson").read_bytes()
    events, rejected = parse_feed(parse_json(body, "week"))
    assert (len(events), rejected) == (2124, [])
    wanted = [e for e in events if decide(e, Settings(), T0).wanted]
    assert all(e.magnitude is not None and e.magnitude >= 5.5 for e in wanted)
    assert 0 < len(wanted) < 40
