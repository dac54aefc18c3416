"""flows/rehearsal: the story, its sites and its background: the same every time, well formed, and with what it promises."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import numpy as np
import pytest

from flows.rehearsal.background import EVENTS, RECORDED, background, invented_week, read_week
from flows.rehearsal.kills import TARGETS, draw_kills
from flows.rehearsal.planted import KINDS, Outcome, plant
from flows.rehearsal.sites import MOST, SceneDrop, Site, list_scene, make_regions, set_down, write_world
from flows.rehearsal.story import BAD_DAY_SCENES, START, Off, Trouble, tell, tell_bad_day
from infra.local.earthengine.catalogue import Catalogue
from infra.local.earthengine.sources import Reader
from infra.local.faults import Fault
from infra.local.usgs.events import read_event
from infra.local.usgs.storyline import Beat, from_ms

DAYS = 14.0
END = START + dt.timedelta(days=DAYS)


@pytest.fixture(scope="module")
def sites() -> list[Site]:
    return set_down(make_regions(1, 1, 128), len(KINDS))


def test_sites_are_far_from_each_other() -> None:
    places = [site.lon_lat for site in set_down(make_regions(1, 1, 128), MOST)]
    apart = [
        np.hypot((one[0] - other[0]) * np.cos(np.radians(27)), one[1] - other[1])
        for number, one in enumerate(places)
        for other in places[:number]
    ]
    assert len(places) == MOST
    assert min(apart) * 111 > 200  # km: no earthquake of the story shakes another site


def test_there_is_no_room_for_more_sites_than_places(sites: list[Site]) -> None:
    with pytest.raises(ValueError, match=f"there is room for {MOST}"):
        set_down([sites[0].region], MOST + 1)


def test_the_same_seed_tells_the_same_story_and_another_one_another(sites: list[Site]) -> None:
    week = invented_week(3)[:200]
    one, again, other = (tell(sites, background(week, START, END, seed), days=DAYS, seed=seed) for seed in (1, 1, 2))
    assert one == again
    assert one.happenings != other.happenings


def test_on_a_bad_day_everything_comes_at_once_and_nothing_else_goes_wrong(sites: list[Site]) -> None:
    story = tell_bad_day(sites, (), seed=1)
    assert [one.outcome for one in story.expected] == [Outcome.MAPPED] * len(sites)
    assert not [one for one in story.happenings if isinstance(one, Trouble | Off)]
    first = [one.at for one in story.happenings if isinstance(one, Beat)]
    assert min(first) - START < dt.timedelta(hours=3)
    post = [one for one in story.happenings if isinstance(one, SceneDrop) and one.phase == "post"]
    assert {one.at for one in post} == {START + BAD_DAY_SCENES}
    assert len({one.site for one in post}) == len(post) == len(sites)
    assert tell_bad_day(sites, (), seed=1) == story != tell_bad_day(sites, (), seed=2)


def test_a_story_happens_in_order_and_within_its_time(sites: list[Site]) -> None:
    story = tell(sites, background(invented_week(3)[:200], START, END, 1), days=DAYS, seed=1)
    times = [one.at for one in story.happenings]
    assert times == sorted(times)
    assert times[-1] < story.end == END
    kinds = {type(one) for one in story.happenings}
    assert kinds == {Beat, SceneDrop, Trouble, Off}
    assert {one.service for one in story.happenings if isinstance(one, Trouble)} == {"usgs", "storage", "earthengine"}


def test_every_fault_of_a_story_is_one_that_the_stand_ins_take(sites: list[Site]) -> None:
    story = tell(sites, (), days=90.0, seed=1)
    faults = [dict(one.fault) for one in story.happenings if isinstance(one, Trouble)]
    assert len(faults) >= 90
    assert [Fault.from_json(fault).match.pattern for fault in faults] == [fault["match"] for fault in faults]


def test_planted_earthquakes_that_count_are_to_be_mapped(sites: list[Site]) -> None:
    story = tell(sites, (), days=60.0, seed=1)
    by_kind = {one.kind: one for one in story.expected}
    assert set(by_kind) == set(KINDS)
    assert by_kind["networks"].mapped_by is not None
    assert by_kind["green"].outcome is Outcome.CLOSED
    assert by_kind["deep"].mapped_by is None
    assert len(by_kind["networks"].ids) == 3


@pytest.mark.parametrize("kind", list(KINDS))
def test_the_records_of_a_planted_earthquake_are_events_each_newer_than_the_last(kind: str, sites: list[Site]) -> None:
    one = plant(kind, sites[0], START, START + dt.timedelta(days=2), dt.timedelta(hours=24))
    newest: dict[str, int] = {}
    for beat in one.beats:
        if beat.record is None:
            assert beat.deleted in one.ids
            continue
        event = read_event(beat.record)
        assert event.property("quakeslide:simulated") is True
        assert "simulated" in str(event.property("title"))
        assert event.id in (*one.ids, *one.second)
        assert from_ms(event.updated_ms) == beat.at
        assert all(newest.get(name, 0) < event.updated_ms for name in event.aliases)
        newest |= dict.fromkeys(event.aliases, event.updated_ms)


def test_a_growing_area_is_shaken_more_strongly_by_its_second_shakemap(sites: list[Site]) -> None:
    one = plant("grows", sites[0], START, START + dt.timedelta(days=2), dt.timedelta(hours=24))
    grids = [data for beat in one.beats for path, data in beat.contents.items() if path.endswith("grid.xml")]
    strongest = [
        max(float(line.split()[2]) for line in grid.decode().splitlines() if line[:1].isdigit()) for grid in grids
    ]
    assert len(grids) == 2
    assert strongest[1] == pytest.approx(strongest[0] + 0.4, abs=1e-3)


def test_a_simulated_week_has_the_statistics_of_the_recorded_one() -> None:
    magnitudes = [one["properties"]["mag"] for one in invented_week(1)]
    assert len(magnitudes) == EVENTS
    assert 3 <= sum(magnitude >= 5.5 for magnitude in magnitudes) <= 25
    assert 250 <= sum(magnitude >= 2.5 for magnitude in magnitudes) <= 700


def test_the_background_repeats_with_new_ids_and_says_that_it_is_simulated() -> None:
    told = list(background(invented_week(1)[:50], START, START + dt.timedelta(days=20), 1))
    assert len({one.event_id for one in told}) == len(told) > 100
    records = [beat.record for one in told for beat in one.beats if beat.record is not None]
    assert all(record["properties"]["quakeslide:simulated"] for record in records)
    for one in told:
        assert all(beat.at > one.time for beat in one.beats)
        assert [beat.at for beat in one.beats] == sorted(beat.at for beat in one.beats)


def test_the_recorded_week_is_read_where_it_is(shared_data: Path, tmp_path: Path) -> None:
    if not (shared_data / RECORDED).is_file():
        pytest.skip("the recorded week is not here")
    week = read_week(shared_data)
    assert week is not None
    assert len(week) == EVENTS
    assert len(list(background(week, START, START + dt.timedelta(days=7), 1))) > 2000
    assert read_week(tmp_path) is None


def test_scenes_are_in_the_catalogue_from_when_they_are_listed(sites: list[Site], tmp_path: Path) -> None:
    few = sites[:2]
    write_world(tmp_path, few)
    catalogue = Catalogue(tmp_path, Reader())
    before = set(catalogue.refresh().images)
    drop = SceneDrop(START, 1, "post", 2, START, "Sentinel-2A")
    image_id = list_scene(tmp_path, drop, few)
    list_scene(tmp_path, drop, few)
    new = set(catalogue.refresh().images) - before
    assert new == {image_id, image_id.replace("COPERNICUS", "GOOGLE/CLOUD_SCORE_PLUS/V1")}
    assert catalogue.problems() == []
    description = json.loads((tmp_path / f"{image_id}.json").read_text())
    assert description["properties"]["quakeslide:simulated"] is True


def test_writing_the_world_again_keeps_what_is_there(sites: list[Site], tmp_path: Path) -> None:
    write_world(tmp_path, sites[:1])
    rasters = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("S00_*.tif")}
    write_world(tmp_path, sites[:1])
    assert len(rasters) == 12
    assert {path: path.stat().st_mtime_ns for path in rasters} == rasters


def test_kills_are_spread_over_the_story_and_hit_everything() -> None:
    kills = draw_kills(100, START, END, 1)
    assert len(kills) == 100
    assert [kill.at for kill in kills] == sorted(kill.at for kill in kills)
    assert START < kills[0].at < kills[-1].at < END
    assert {kill.target for kill in kills} == set(TARGETS)
    assert kills == draw_kills(100, START, END, 1)
