"""Which mask, which scenes, which reasons, which pass: decided in few requests, and said."""

from __future__ import annotations

import datetime as dt
import json
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import ee
import httpx
import numpy as np
import pytest
from fakes.catalogue import CatalogueWriter
from fakes.cubes import area_in
from fakes.servers import serve

from gee.catalog import list_scenes
from gee.composites import COMPOSITES
from gee.errors import NoScenesError
from gee.masks import MASKS, CloudMask, CloudScorePlus, Qa60, S2Cloudless, SceneClassification
from gee.passes import PassShare
from gee.phases import (
    ImageryChoice,
    Supported,
    choose_mask,
    choose_phase,
    choose_phases,
    clear_shares,
    find_support,
    for_a_look,
)
from gee.pixels import fetch_pixels
from gee.reasons import REASONS
from gee.sentinel2 import PhaseScenes, phase_image
from gee.session import Session, open_session
from gee.types import Grid, Observed, Scene, Window
from infra.local.earthengine import create_app

TOA, SR = "COPERNICUS/S2_HARMONIZED", "COPERNICUS/S2_SR_HARMONIZED"
GRID = Grid("EPSG:32654", (10.0, 0.0, 600_000.0, 0.0, -10.0, 4_730_000.0), (40, 40))
AREA = area_in(GRID, 0, 0, 40, 40)
EVENT = dt.datetime(2018, 9, 5, 18, 7, 59, tzinfo=dt.UTC)
BEFORE = Window(EVENT - dt.timedelta(days=90), EVENT)
AFTER = Window(EVENT, EVENT + dt.timedelta(days=60))
PRE, POST = {"a": -30, "b": -20, "c": -10}, {"p": 4, "q": 9, "r": 14}
CLOUDY = {"a": 0.9, "b": 0.1, "c": 0.6, "p": 0.5, "q": 0.0, "r": 0.002}
"""Share of cloud of each scene: the left columns."""
ALL = tuple(kind() for kind in MASKS.values())
SUN = {"MEAN_SOLAR_AZIMUTH_ANGLE": 150.0, "MEAN_SOLAR_ZENITH_ANGLE": 45.0}


def write_catalogue(catalogue: CatalogueWriter) -> None:
    ones = np.ones(GRID.shape_yx, np.uint16)
    bands = dict.fromkeys(("B2", "B3", "B4", "B8", "B11", "B12"), 1000 * ones)
    for index, days in {**PRE, **POST}.items():
        time = EVENT.replace(microsecond=0) + dt.timedelta(days=days)
        cloud = np.arange(40)[None, :] < np.full((40, 1), round(40 * CLOUDY[index]))
        flags = np.where(cloud, 1 << 10, 0).astype(np.uint16)
        catalogue.image(f"{TOA}/{index}", {**bands, "QA60": flags}, GRID, time, SUN, masked=False)
        scl = np.where(cloud, 9, 4).astype(np.uint16)
        catalogue.image(f"{SR}/{index}", {**bands, "QA60": flags, "SCL": scl}, GRID, time, SUN, masked=False)
        if index in "abc":
            probability = np.where(cloud, 90, 5).astype(np.int16)
            catalogue.image(f"{S2Cloudless().collection}/{index}", {"probability": probability}, GRID, time)
    score = np.full(GRID.shape_yx, 0.9, np.float32)
    catalogue.image(f"{CloudScorePlus().collection}/a", {"cs": score, "cs_cdf": score}, GRID, EVENT)
    catalogue.image(f"{CloudScorePlus().collection}/q", {"cs": score, "cs_cdf": score}, GRID, EVENT)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    folder = tmp_path_factory.mktemp("catalogue")
    write_catalogue(CatalogueWriter(folder))
    with (
        serve(create_app(folder, tmp_path_factory.mktemp("state"))) as url,
        open_session(url, "local", timeout_s=30.0, max_attempts=2) as opened,
    ):
        yield opened


def listed(session: Session, collection: str = TOA) -> tuple[list[Scene], list[Scene]]:
    return list_scenes(session, collection, AREA, BEFORE), list_scenes(session, collection, AREA, AFTER)


def requests_of(session: Session) -> int:
    return len(httpx.get(f"{session.config.url}/_standin/log", trust_env=False).json()["requests"])


def forget(session: Session) -> None:
    httpx.delete(f"{session.config.url}/_standin/log", trust_env=False)


def names(scenes: Sequence[Scene]) -> str:
    return "".join(scene.index for scene in scenes)


def test_it_is_found_which_scenes_have_each_mask(session: Session) -> None:
    pre, post = listed(session)
    forget(session)
    found = find_support(session, ALL, (pre, post))
    held = {type(each.mask): "".join(sorted(name[-1] for name in each.scenes)) for each in found}
    assert held == {CloudScorePlus: "aq", S2Cloudless: "abc", SceneClassification: "abcpqr"}
    assert requests_of(session) <= 6, "two for each mask that was asked for; the third covers both phases, QA60 is not"


def test_what_the_scenes_carry_costs_no_request(session: Session) -> None:
    pre, post = listed(session, SR)
    forget(session)
    (scl,) = find_support(session, (SceneClassification(),), (pre, post))
    (qa60,) = find_support(session, (Qa60(),), (pre, post))
    assert len(scl.scenes) == len(qa60.scenes) == 6
    assert requests_of(session) == 0


def test_each_phase_takes_the_first_mask_that_covers_it(session: Session) -> None:
    choice = ImageryChoice(ALL)
    pre, post = choose_phases(session, *listed(session), choice, AREA)
    assert (pre.mask, names(pre.scenes), pre.left_out) == (S2Cloudless(), "abc", ())
    assert pre.why == "cloud-score-plus for 1 of 3 scenes"
    assert (post.mask, names(post.scenes)) == (SceneClassification(), "pqr")
    assert post.why == "cloud-score-plus for 1, s2cloudless for 0 of 3 scenes"
    assert pre.reasons == post.reasons == REASONS
    assert pre.rule == (
        "pre: probability > 50 % of COPERNICUS/S2_CLOUD_PROBABILITY, shadows within 1000 m where B8 < 0.15 "
        "(cloud-score-plus for 1 of 3 scenes), snow, water, terrain shadow told apart"
    )


@pytest.mark.parametrize("mask", [CloudScorePlus(), S2Cloudless(shadows=False), SceneClassification(), Qa60()])
def test_both_collections_are_masked_alike(session: Session, mask: CloudMask) -> None:
    codes = {}
    for collection in (TOA, SR):
        phase = choose_phase(session, "pre", listed(session, collection)[0], ImageryChoice((mask,), ()), AREA)
        expression = ee.serializer.encode(phase_image(phase, ("red",)), for_cloud_api=True)
        codes[collection] = fetch_pixels(session, expression, GRID, {"observed_pre": "uint8"})["observed_pre"]
    np.testing.assert_array_equal(codes[TOA], codes[SR])
    # The best of the scenes used is cloudy in its first columns; the score of the only scene with one is clear.
    cloudy = {CloudScorePlus: 0}.get(type(mask), round(40 * CLOUDY["b"]))
    assert (codes[TOA][:, cloudy:] == Observed.CLEAR).all()
    assert (codes[TOA][:, :cloudy] == Observed.CLOUD).all()


def test_scenes_without_the_mask_are_left_out_when_others_have_it(session: Session) -> None:
    pre, post = choose_phases(session, *listed(session), ImageryChoice((CloudScorePlus(),)), AREA)
    assert (names(pre.scenes), pre.left_out) == ("a", (f"{TOA}/b", f"{TOA}/c"))
    assert (names(post.scenes), post.left_out) == ("q", (f"{TOA}/p", f"{TOA}/r"))
    assert pre.why == ""
    assert "cs >= 0.60" in pre.rule
    assert "2 scenes without it left out" in pre.rule


def test_without_any_mask_all_scenes_are_used_and_it_is_said(session: Session) -> None:
    scenes = listed(session)[0]
    gone = ImageryChoice((CloudScorePlus(collection="NO/SUCH"),), reasons=("snow",))
    phase = choose_phase(session, "pre", scenes, gone, AREA)
    assert (phase.mask, names(phase.scenes)) == (None, "abc")
    assert phase.rule == "pre: no cloud mask (cloud-score-plus for 0 of 3 scenes), snow told apart"
    assert (
        choose_phase(session, "pre", scenes, ImageryChoice((), ()), AREA).rule == "pre: no cloud mask (none is wanted)"
    )


def test_a_phase_without_scenes_is_refused(session: Session) -> None:
    pre, _ = listed(session)
    with pytest.raises(NoScenesError, match="post"):
        choose_phases(session, pre, [], ImageryChoice(ALL), AREA)
    with pytest.raises(NoScenesError, match="pre"):
        choose_phase(session, "pre", [], ImageryChoice(ALL), AREA)


def scene(name: str) -> Scene:
    return Scene(f"C/{name}", EVENT + dt.timedelta(days=ord(name)), None, ("B4",), "POINT EMPTY")


def having(mask: CloudMask, held: str) -> Supported:
    return Supported(mask, frozenset(f"C/{name}" for name in held))


@pytest.mark.parametrize(
    ("first", "second", "wanted", "used"),
    [
        ("abcde", "abcde", CloudScorePlus, "abcde"),
        ("abcd", "abcde", CloudScorePlus, "abcd"),  # 0.8 covers: the newest scene has no score yet
        ("abc", "abcd", S2Cloudless, "abcd"),  # 0.6 does not
        ("abc", "ab", CloudScorePlus, "abc"),  # nothing covers: the one that most have
        ("abc", "cde", CloudScorePlus, "abc"),  # as many: the one wanted more
        ("", "", type(None), "abcde"),
    ],
)
def test_the_choice_of_a_mask(first: str, second: str, wanted: type, used: str) -> None:
    made = choose_mask([scene(n) for n in "ebdca"], [having(CloudScorePlus(), first), having(S2Cloudless(), second)])
    assert type(made.mask) is wanted
    assert names(made.scenes) == used, "by time"
    assert sorted(made.left_out) == [f"C/{name}" for name in "abcde" if name not in used]
    assert bool(made.why) is (wanted is not CloudScorePlus)


def test_the_clear_share_of_each_pass_is_sampled_in_one_request(session: Session) -> None:
    phase = PhaseScenes("pre", tuple(listed(session)[0]), Qa60())
    forget(session)
    assert clear_shares(session, phase, AREA) == pytest.approx([0.1, 0.9, 0.4], abs=0.03)
    assert requests_of(session) == 1


@pytest.mark.parametrize("mask", [Qa60(), S2Cloudless(), SceneClassification()])
def test_the_least_cloudy_pass_is_taken(session: Session, mask: CloudMask) -> None:
    choice = ImageryChoice((mask,), pre_composite="least_cloudy")
    pre = choose_phase(session, "pre", listed(session)[0], choice, AREA)
    assert names(pre.scenes) == "b"
    assert [round(share.clear_share, 1) for share in pre.passes] == [0.1, 0.9, 0.4]
    assert pre.made_by == "least_cloudy"
    assert pre.composition == f"the pass of {pre.scenes[0].time:%Y-%m-%d %H:%M} UTC alone, the best of 3"
    assert all(share.sampled for share in pre.passes)


def test_when_a_sample_is_too_much_the_catalogue_decides(session: Session) -> None:
    scenes = [replace(one, cloud_percent=100 * CLOUDY[one.index]) for one in listed(session)[0]]
    choice = ImageryChoice((Qa60(),), pre_composite="least_cloudy")
    too_much = {"match": "computePixels", "status": 400, "message": "User memory limit exceeded."}
    httpx.post(f"{session.config.url}/_standin/faults", json=too_much, trust_env=False).raise_for_status()
    try:
        pre = choose_phase(session, "pre", scenes, choice, AREA)
    finally:
        httpx.delete(f"{session.config.url}/_standin/faults", trust_env=False).raise_for_status()
    assert names(pre.scenes) == "b"
    assert [share.sampled for share in pre.passes] == [False] * 3


def test_a_look_leaves_out_what_is_computed_in_full() -> None:
    phase = PhaseScenes("pre", (scene("a"),), S2Cloudless(40), reasons=("snow",))
    assert for_a_look(phase) == replace(phase, mask=S2Cloudless(40, shadows=False))
    plain = replace(phase, mask=CloudScorePlus())
    assert for_a_look(plain) == plain


def test_each_composite_says_what_a_pixel_shows() -> None:
    words = {made: PhaseScenes("pre", (scene("a"),), composite=made).composition for made in COMPOSITES}
    assert words["least_cloudy"] == f"the pass of {scene('a').time:%Y-%m-%d %H:%M} UTC alone"
    assert len(set(words.values())) == 4


def test_after_the_event_the_first_of_the_best_passes_is_taken(session: Session) -> None:
    choice = ImageryChoice((Qa60(),), post_composite="least_cloudy")
    post = choose_phase(session, "post", listed(session)[1], choice, AREA)
    assert names(post.scenes) == "q", "the next one is as clear, but later"


def test_a_phase_survives_json_and_travels(session: Session) -> None:
    choice = ImageryChoice(ALL, pre_composite="least_cloudy", post_composite="medoid")
    for phase in choose_phases(session, *listed(session), choice, AREA, terrain=False):
        assert PhaseScenes.from_dict(json.loads(json.dumps(phase.to_dict()))) == phase
        assert pickle.loads(pickle.dumps(phase)) == phase
        assert "not told: terrain shadow (without an elevation model)" in phase.rule
    plain = PhaseScenes("post", (scene("a"),), passes=(PassShare(EVENT, 1, 0.5),))
    again: Any = PhaseScenes.from_dict(json.loads(json.dumps(plain.to_dict())))
    assert again == plain
    assert (again.made_by, again.collection, again.bands) == ("earliest_clear", "C", frozenset({"B4"}))
