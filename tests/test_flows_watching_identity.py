"""Which records are one earthquake, and which earthquakes are one sequence."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
import shapely
from fakes.usgs_records import T0, T0_MS, feature, product
from hypothesis import given
from hypothesis import strategies as st

from flows.campaign.index import Index, IndexEntry, entry_of
from flows.campaign.model import Area, Campaign, Decision, Quake, State, VersionNote
from flows.campaign.record import opened
from flows.settings import Settings
from flows.sphere import GEOD
from flows.usgs_geojson import parse_detail
from flows.watching.identity import alike, companions, fused, match, named, quake_of, sequence

SETTINGS = Settings()
NOW = T0 + dt.timedelta(hours=1)


def quake(*ids: str, seconds: float = 0.0, east_km: float = 0.0, magnitude: float = 6.6, **change: Any) -> Quake:
    lon, lat, _ = GEOD.fwd(141.9294, 42.6861, 90.0, 1000 * east_km)
    time = T0 + dt.timedelta(seconds=seconds)
    known = {"depth_km": 20.0, "title": "M", "status": "reviewed", "updated": NOW} | change
    return Quake(id=ids[0], ids=tuple(sorted(ids)), time=time, lon=lon, lat=lat, magnitude=magnitude, **known)


def campaign(first: Quake, *others: Quake, **change: Any) -> Campaign:
    decision = Decision(
        at=NOW, event_id=first.id, magnitude=6.0, wanted=True, basis="magnitude", reason="", urgency=1.0
    )
    made = opened(first, decision, SETTINGS.campaign, NOW)
    return made.model_copy(update={"quakes": (first, *others), **change})


def index_of(*known: Campaign) -> Index:
    return Index(campaigns={one.id: entry_of(one) for one in known})


def nobody_apart(_: tuple[str, ...]) -> bool:
    return False


@given(st.floats(-1e6, 1e6), st.floats(0, 5000), st.floats(-2, 9))
def test_an_id_in_common_is_the_same_earthquake_wherever_it_lies_now(
    seconds: float, east_km: float, magnitude: float
) -> None:
    index = index_of(campaign(quake("at1", "us1")), campaign(quake("us2", seconds=1)))
    moved = quake("new", "us1", seconds=seconds, east_km=east_km, magnitude=magnitude)
    assert match(moved, index, SETTINGS.watch, lambda _: True) == "at1"


@given(st.floats(-40, 40), st.floats(0, 250), st.floats(4.0, 9.0))
def test_without_one_time_place_and_magnitude_tell(seconds: float, east_km: float, magnitude: float) -> None:
    index = index_of(campaign(quake("at1")), campaign(quake("us2", seconds=500)))
    other = quake("us1", seconds=seconds, east_km=east_km, magnitude=magnitude)
    margin = min(abs(abs(seconds) - 16), abs(east_km - 100) / 10, abs(abs(magnitude - 6.6) - 1) * 10)
    if margin > 1e-3:
        within = abs(seconds) < 16 and east_km < 100 and abs(magnitude - 6.6) < 1
        assert match(other, index, SETTINGS.watch, nobody_apart) == ("at1" if within else None)
    assert match(other, index, SETTINGS.watch, lambda _: True) is None, "two records side by side are a doublet"


def test_the_nearest_of_several_is_meant() -> None:
    index = index_of(campaign(quake("far", seconds=9)), campaign(quake("near", seconds=3, east_km=5)))
    assert match(quake("new"), index, SETTINGS.watch, nobody_apart) == "near"
    assert [one.campaign_id for one in alike(quake("new"), index, SETTINGS.watch)] == ["near", "far"]
    assert match(quake("new"), index, SETTINGS.watch, lambda ids: "near" in ids) == "far"


def test_of_two_campaigns_of_one_earthquake_the_living_and_older_one_goes_on() -> None:
    first, second = campaign(quake("a")), campaign(quake("b"), opened=NOW + dt.timedelta(minutes=1))
    both = ("a", "b", "us")
    assert [entry.id for entry in named(both, index_of(second, first))] == ["a", "b"]
    gone = first.model_copy(update={"state": State.WITHDRAWN})
    assert [entry.id for entry in named(both, index_of(gone, second))] == ["b", "a"]
    assert named(("c",), index_of(first)) == []


def sequence_of(new: Quake, *known: Campaign) -> str | None:
    near = companions(new, index_of(*known), SETTINGS.watch)
    return sequence(new, [one for one in known if one.id in near], SETTINGS)


@pytest.mark.parametrize(("days", "east_km", "joins"), [(3, 5, True), (31, 5, False), (-29, 5, True), (3, 300, False)])
def test_a_sequence_shares_its_area_for_a_while(days: float, east_km: float, joins: bool) -> None:
    aftershock = quake("b", seconds=86_400 * days, east_km=east_km, magnitude=5.8)
    assert sequence_of(aftershock, campaign(quake("a"))) == ("a" if joins else None)


def test_a_measured_area_counts_in_place_of_the_magnitudes() -> None:
    far = shapely.box(150, 42, 151, 43)
    area = Area(wkt=far.wkt, reason="", source="shakemap", area_km2=1.0, since=NOW)
    known = campaign(quake("a"), area=area)
    assert sequence_of(quake("b", seconds=900), known) is None
    there = quake("c", seconds=900, magnitude=5.7).model_copy(update={"lon": 150.5, "lat": 42.5})
    assert sequence_of(there, known) == "a"


def test_what_was_withdrawn_or_dropped_has_no_area_to_share() -> None:
    aftershock = quake("b", seconds=900)
    for state in (State.WITHDRAWN, State.CLOSED):
        assert sequence_of(aftershock, campaign(quake("a"), state=state)) is None
    version = VersionNote(
        version=1, run_key="0" * 16, published=NOW, kind="whole", why="", area_km2=1.0, shares={}, scenes_after=(),
        landslides=0, landslide_area_m2=0.0,
    )  # fmt: skip
    assert sequence_of(aftershock, campaign(quake("a"), state=State.CLOSED, versions=(version,))) == "a"


def test_the_larger_overlap_wins_across_the_antimeridian() -> None:
    def at(lon: float, *ids: str) -> Quake:
        return quake(*ids).model_copy(update={"lon": lon, "lat": -18.0})

    known = campaign(at(179.7, "a")), campaign(at(-179.5, "b"))
    assert sequence_of(at(-179.6, "c"), *known) == "b"
    assert sequence_of(at(179.8, "c"), *known) == "a"


def test_earthquakes_that_turn_out_to_be_one_become_one() -> None:
    older = quake("a", magnitude=6.9, updated=NOW - dt.timedelta(minutes=1))
    known = campaign(older, quake("b", seconds=2), quake("z", seconds=900))
    assert fused(known, ("a", "q")) == known
    merged = fused(known, ("a", "b", "us"))
    assert [(one.id, one.ids, one.magnitude) for one in merged.quakes] == [("b", ("a", "b"), 6.6), ("z", ("z",), 6.6)]


def test_each_version_of_a_product_has_another_name_though_its_maker_may_repeat_a_number() -> None:
    names = {
        quake_of(parse_detail(feature(products={"shakemap": [product("us", T0_MS + ms, 1)]}))).shakemap
        for ms in (0, 60_000)
    }
    assert len(names) == 2
    assert all(name.startswith("us/us2000h8ty version 1 of 2018-09-05") for name in names)
    plain = quake_of(parse_detail(feature()))
    assert (plain.shakemap, plain.ground_failure, plain.ids) == ("", "", ("at00pelgzo", "us2000h8ty"))


def test_an_index_entry_is_all_that_it_takes() -> None:
    entry = entry_of(campaign(quake("a")))
    assert isinstance(entry, IndexEntry)
    assert match(quake("a"), Index(campaigns={"a": entry}), SETTINGS.watch, nobody_apart) == "a"
