"""Which scenes belong to one pass, and which pass is the best."""

from __future__ import annotations

import datetime as dt
import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import MultiPolygon, box

from gee.errors import NoScenesError
from gee.passes import APART, Pass, PassShare, best_pass, listed_clear_share, passes_of
from gee.types import Scene

NOON = dt.datetime(2018, 9, 10, 23, 50, tzinfo=dt.UTC)
AREA = box(142.0, 42.0, 143.0, 43.0)


def scene(name: str, minutes: float, cloud: float | None = 0.0, footprint: str = AREA.wkt) -> Scene:
    return Scene(f"C/{name}", NOON + dt.timedelta(minutes=minutes), cloud, ("B4",), footprint)


def test_granules_of_one_overflight_are_one_pass_also_across_midnight() -> None:
    scenes = [scene("late", 14), scene("early", 0), scene("next orbit", 100), scene("days later", 5 * 1440)]
    assert [[s.index for s in one.scenes] for one in passes_of(scenes)] == [
        ["early", "late"],
        ["next orbit"],
        ["days later"],
    ]
    assert passes_of(scenes)[0].time == NOON
    assert passes_of([]) == ()


@given(st.lists(st.integers(0, 400), max_size=30))
def test_every_scene_is_in_one_pass_and_passes_lie_apart(minutes: list[int]) -> None:
    scenes = [scene(str(number), minute) for number, minute in enumerate(minutes)]
    passes = passes_of(scenes)
    assert sorted(s.id for one in passes for s in one.scenes) == sorted(s.id for s in scenes)
    for before, after in pairwise(passes):
        assert after.time - before.scenes[-1].time > APART


def test_the_share_that_the_catalogue_lets_expect() -> None:
    west, east = box(141, 41, 142.5, 44).wkt, box(142.25, 41, 144, 44).wkt
    assert listed_clear_share(Pass((scene("a", 0, 40.0),)), AREA) == pytest.approx(0.6)
    assert listed_clear_share(Pass((scene("a", 0, None),)), AREA) == pytest.approx(1.0)
    # Where granules overlap the clearer one counts: 0.75 of the area at 100 %, the rest at 20 %.
    both = Pass((scene("a", 0, 80.0, west), scene("b", 1, 0.0, east)))
    assert listed_clear_share(both, AREA) == pytest.approx(0.75 + 0.25 * 0.2)
    assert listed_clear_share(Pass((scene("a", 0, 0.0, box(0, 0, 1, 1).wkt),)), AREA) == 0.0
    assert listed_clear_share(Pass((scene("a", 0, 0.0, "POINT EMPTY"),)), AREA) == 0.0


def test_an_area_across_the_antimeridian_is_seen_from_both_sides() -> None:
    fiji = MultiPolygon([box(179.5, -17.5, 180, -16.5), box(-180, -17.5, -179.5, -16.5)])
    east, west = box(178.9, -18, 180, -16).wkt, box(-180, -18, -179, -16).wkt
    assert listed_clear_share(Pass((scene("a", 0, 0.0, east),)), fiji) == pytest.approx(0.5)
    assert listed_clear_share(Pass((scene("a", 0, 0.0, east), scene("b", 0, 50.0, west))), fiji) == pytest.approx(0.75)


def test_the_pass_that_saw_most_is_taken_and_all_are_recorded() -> None:
    passes = passes_of([scene("a", 0), scene("b", 1), scene("c", 5000), scene("d", 9000)])
    best, looked_at = best_pass(passes, [0.2, 0.7, 0.5], latest=True)
    assert best is passes[1]
    assert [(share.scenes, share.clear_share) for share in looked_at] == [(2, 0.2), (1, 0.7), (1, 0.5)]
    assert [PassShare.from_dict(json.loads(json.dumps(share.to_dict()))) for share in looked_at] == list(looked_at)


def test_of_passes_as_good_the_one_nearest_to_the_event_is_taken() -> None:
    passes = passes_of([scene("a", 0), scene("b", 2000), scene("c", 5000)])
    assert best_pass(passes, [0.901, 0.909, 0.3], latest=True)[0] is passes[1]
    assert best_pass(passes, [0.901, 0.909, 0.3], latest=False)[0] is passes[0]
    with pytest.raises(NoScenesError, match="no pass"):
        best_pass((), [], latest=True)
