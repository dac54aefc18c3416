"""Which radar passes are compared, and that the change is that of linear power."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Sequence
from typing import Any

import ee
import numpy as np
import numpy.typing as npt
import pytest
from fakes.catalogue import CatalogueWriter
from fakes.servers import serve
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import MultiPolygon, box

from gee.errors import NoScenesError, PermanentError
from gee.grid import tiles
from gee.passes import passes_of
from gee.pixels import fetch_pixels
from gee.sentinel1 import RADAR_LAYERS, RadarPair, choose_pair, find_radar_pair, radar_image
from gee.session import Session, open_session
from gee.terrain import NODATA
from gee.types import Grid, Scene, Window
from infra.local.earthengine import create_app

EVENT = dt.datetime(2018, 9, 5, 18, 7, 59, tzinfo=dt.UTC)
BEFORE, AFTER = Window(EVENT - dt.timedelta(days=60), EVENT), Window(EVENT, EVENT + dt.timedelta(days=30))
AREA = box(142.0, 42.6, 142.1, 42.7)
GRID = Grid("EPSG:32654", (10.0, 0.0, 582_000.0, 0.0, -10.0, 4_720_000.0), (24, 30))
OVER = box(142.0006, 42.6264, 142.003, 42.6276)
BORDER = -49.0


def scene(
    name: str,
    days: float,
    orbit: int = 46,
    direction: str = "DESCENDING",
    footprint: Any = None,
    bands: Sequence[str] = ("VV", "VH", "angle"),
    mode: str = "IW",
) -> Scene:
    properties = (
        ("instrumentMode", mode),
        ("orbitProperties_pass", direction),
        ("relativeOrbitNumber_start", orbit),
    )
    where = (footprint or AREA.buffer(1)).wkt
    return Scene(f"COPERNICUS/S1_GRD/{name}", EVENT + dt.timedelta(days=days), None, tuple(bands), where, properties)


def names(scenes: Sequence[Scene]) -> list[str]:
    return [one.index for one in scenes]


def test_only_passes_of_one_orbit_are_compared() -> None:
    before = [scene("a1", -30), scene("b1", -25, 141, "ASCENDING"), scene("a2", -18), scene("a3", -6)]
    after = [scene("c1", 0.5, 119), scene("b2", 1, 141, "ASCENDING"), scene("a4", 2), scene("a5", 14)]
    pair = choose_pair(before, after, AREA)
    assert (pair.relative_orbit, pair.direction) == (141, "ASCENDING"), "the first after the event"
    assert (names(pair.before), names(pair.after)) == (["b1"], ["b2"])
    assert pair.polarisations == ("VV", "VH")
    assert pair.layers == ("vv_change", "vh_change")
    assert pair.covered == 1.0
    assert "orbit 46 descending has 3 passes before and 2 after, which cover 100% of the area" in pair.why
    assert "orbit 119 descending has 0 passes before and 1 after" in pair.why
    assert pair.rule.startswith("radar: relative orbit 141 ascending, 2018-09-06 against the mean of 1 pass before")


def test_an_orbit_that_covers_more_is_better_than_a_sooner_one() -> None:
    half = box(142.0, 42.0, 142.05, 43.0)
    most = box(142.0, 42.0, 142.097, 43.0)
    soon = [scene("s1", -5, 1, footprint=half)], [scene("s2", 1, 1, footprint=half)]
    late = [scene("l1", -5, 2)], [scene("l2", 9, 2)]
    nearly = [scene("n1", -5, 3, footprint=most)], [scene("n2", 4, 3, footprint=most)]
    assert choose_pair([*soon[0], *late[0]], [*soon[1], *late[1]], AREA).relative_orbit == 2
    three = choose_pair([*soon[0], *late[0], *nearly[0]], [*soon[1], *late[1], *nearly[1]], AREA)
    assert (three.relative_orbit, three.covered) == (3, 0.97), "a sliver is not worth five days"


def test_the_same_number_on_its_way_up_and_down_is_two_orbits() -> None:
    with pytest.raises(NoScenesError, match="46 ascending has 1 passes before and 0 after; orbit 46 descending has 0"):
        choose_pair([scene("up", -3, direction="ASCENDING")], [scene("down", 3)], AREA)


def test_the_latest_passes_before_and_the_first_after_are_taken_whole() -> None:
    before = [scene(f"p{n}{part}", -6 * n + part / 3000) for n in range(1, 9) for part in (0, 1)]
    after = [scene("q1", 2), scene("q1b", 2.0003), scene("q2", 8)]
    pair = choose_pair(before, after, AREA, max_before=3)
    assert names(pair.before) == ["p30", "p31", "p20", "p21", "p10", "p11"]
    assert names(pair.after) == ["q1", "q1b"]


def test_a_later_pass_after_fills_what_the_first_did_not_see() -> None:
    west, east = box(141.9, 42.0, 142.04, 43.0), box(142.03, 42.0, 142.2, 43.0)
    after = [scene("w", 2, footprint=west), scene("w2", 8, footprint=west), scene("e", 14, footprint=east)]
    assert names(choose_pair([scene("b", -5)], after, AREA).after) == ["w", "e"]


def test_the_second_polarisation_is_used_when_all_have_it_and_other_modes_never() -> None:
    before = [scene("a1", -5, bands=("VV", "angle")), scene("sm", -4, mode="SM"), scene("hh", -3, bands=("HH", "HV"))]
    pair = choose_pair(before, [scene("a2", 3)], AREA)
    assert names(pair.before) == ["a1"]
    assert pair.layers == ("vv_change",)


def test_without_an_orbit_on_both_sides_it_is_said_what_each_has() -> None:
    with pytest.raises(NoScenesError) as caught:
        choose_pair([scene("a1", -5), scene("b1", -4, 141)], [scene("c1", 3, 68)], AREA)
    for words in ("orbit 46 descending has 1 passes before and 0 after", "orbit 68", "orbit 141", "next pass"):
        assert words in str(caught.value)
    with pytest.raises(NoScenesError, match="none at all"):
        choose_pair([], [], AREA)
    away = box(10, 10, 11, 11)
    with pytest.raises(NoScenesError, match="which cover 0% of the area"):
        choose_pair([scene("a", -1, footprint=away)], [scene("b", 1, footprint=away)], AREA)


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(PermanentError, match="4 pixels"):
        choose_pair([scene("a", -1)], [scene("b", 1)], AREA, speckle_px=4)
    with pytest.raises(PermanentError, match="0 passes"):
        choose_pair([scene("a", -1)], [scene("b", 1)], AREA, max_before=0)


def test_an_area_across_the_antimeridian() -> None:
    fiji = MultiPolygon([box(179.9, -17.0, 180.0, -16.9), box(-180.0, -17.0, -179.9, -16.9)])
    east, west = box(-180.0, -18.0, -178.0, -16.0), box(178.0, -18.0, 180.0, -16.0)
    both = choose_pair([scene("a", -1, footprint=west), scene("b", -0.999, footprint=east)],
                       [scene("c", 1, footprint=MultiPolygon([west, east]))], fiji)  # fmt: skip
    assert both.covered == 1.0


def test_a_pair_is_the_same_after_a_round_trip() -> None:
    pair = choose_pair([scene("a", -1)], [scene("b", 1)], AREA)
    assert RadarPair.from_dict(json.loads(json.dumps(pair.to_dict()))) == pair


@given(
    st.lists(
        st.tuples(
            st.integers(-600, 600).filter(bool),
            st.sampled_from([1, 2, 3]),
            st.sampled_from(["ASCENDING", "DESCENDING"]),
        ),
        max_size=25,
    ),
    st.integers(1, 4),
)
def test_whatever_there_is_before_and_after_are_of_one_orbit(
    listed: list[tuple[int, int, str]], max_before: int
) -> None:
    scenes = [scene(f"s{n}", hours / 10, orbit, way) for n, (hours, orbit, way) in enumerate(listed)]
    before = [one for one in scenes if one.time < EVENT]
    after = [one for one in scenes if one.time > EVENT]
    tracks = {tuple(one.properties[1:]) for one in before} & {tuple(one.properties[1:]) for one in after}
    if not tracks:
        with pytest.raises(NoScenesError):
            choose_pair(before, after, AREA)
        return
    pair = choose_pair(before, after, AREA, max_before=max_before)
    assert {one.properties[1:] for one in (*pair.before, *pair.after)} <= tracks
    assert len({one.properties[1:] for one in (*pair.before, *pair.after)}) == 1
    assert pair.after[0].time == min(one.time for one in after if tuple(one.properties[1:]) in tracks)
    assert max(one.time for one in pair.before) < EVENT < pair.after[0].time
    assert 1 <= len(passes_of(pair.before)) <= max_before


def decibels(seed: int, mean: float) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).normal(mean, 3.0, GRID.shape_yx).astype(np.float32)


SCENES: dict[str, tuple[float, int, float]] = {
    "B1": (-40, 46, -10), "B2": (-28, 46, -11), "B3": (-16, 46, -9), "B4": (-4, 46, -10), "A1": (2, 46, -6),
    "OTHER": (-3, 141, -8),
}  # fmt: skip
"""Name -> days after the event, relative orbit, mean VV in decibels."""


def polarised(name: str) -> dict[str, npt.NDArray[np.float32]]:
    seed = list(SCENES).index(name)
    vv, vh = decibels(seed, SCENES[name][2]), decibels(100 + seed, SCENES[name][2] - 7)
    vv[:, :3] = vh[:, :3] = BORDER
    if name == "A1":
        vv[20:, 20:] = vh[20:, 20:] = np.nan
    return {"VV": vv, "VH": vh, "angle": np.full(GRID.shape_yx, 38.0, np.float32)}


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    folder = tmp_path_factory.mktemp("catalogue")
    catalogue = CatalogueWriter(folder)
    for name, (days, orbit, _) in SCENES.items():
        properties = {
            "instrumentMode": "IW",
            "orbitProperties_pass": "DESCENDING",
            "relativeOrbitNumber_start": orbit,
            "transmitterReceiverPolarisation": ["VV", "VH"],
        }
        time = EVENT.replace(microsecond=0) + dt.timedelta(days=days)
        catalogue.image(f"COPERNICUS/S1_GRD/{name}", polarised(name), GRID, time, properties)
    with (
        serve(create_app(folder, tmp_path_factory.mktemp("state"))) as url,
        open_session(url, "local", timeout_s=30.0, max_attempts=2) as opened,
    ):
        yield opened


def power(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    known = np.where(values >= -30, values, np.nan).astype(np.float64)
    return np.asarray(10 ** (known / 10))


def fetch(session: Session, pair: RadarPair, grid: Grid) -> dict[str, npt.NDArray[Any]]:
    expression = ee.serializer.encode(radar_image(pair), for_cloud_api=True)
    stored = fetch_pixels(session, expression, grid, dict.fromkeys(pair.layers, "int16"))
    return {
        name: np.where(values == NODATA, np.nan, values * RADAR_LAYERS[name].scale) for name, values in stored.items()
    }


def found(session: Session, **settings: Any) -> RadarPair:
    return find_radar_pair(session, OVER, BEFORE, AFTER, **settings)


def test_the_change_is_that_of_the_mean_power_in_decibels(session: Session) -> None:
    pair = found(session, speckle_px=0, max_before=3)
    assert (names(pair.before), names(pair.after)) == (["B2", "B3", "B4"], ["A1"])
    assert pair.why == "orbit 141 descending has 1 passes before and 0 after"
    got = fetch(session, pair, GRID)
    for layer, band in (("vv_change", "VV"), ("vh_change", "VH")):
        before = np.mean([power(polarised(name)[band]) for name in ("B2", "B3", "B4")], axis=0)
        wanted = 10 * np.log10(power(polarised("A1")[band]) / before)
        np.testing.assert_array_equal(np.isfinite(got[layer]), np.isfinite(wanted))
        np.testing.assert_allclose(got[layer], wanted, atol=0.0051, err_msg=layer)
    assert np.isnan(got["vv_change"][:, :3]).all(), "the noise at the border"
    assert np.isnan(got["vv_change"][20:, 20:]).all(), "what is not seen after"
    of_decibels = polarised("A1")["VV"] - np.mean([polarised(name)["VV"] for name in ("B2", "B3", "B4")], axis=0)
    assert np.nanmax(np.abs(got["vv_change"] - of_decibels)) > 0.5, "the mean of decibels is something else"


def test_speckle_is_averaged_in_power_over_the_pixels_of_the_scene(session: Session) -> None:
    got = fetch(session, found(session, speckle_px=3, max_before=1), GRID)["vv_change"]
    after, before = power(polarised("A1")["VV"]), power(polarised("B4")["VV"])

    def smoothed(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        padded = np.pad(values, 1, constant_values=np.nan)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3))
        return np.where(np.isnan(values), np.nan, np.nanmean(windows, axis=(2, 3)))

    with np.errstate(invalid="ignore"), pytest.warns(RuntimeWarning, match="empty slice"):
        wanted = 10 * np.log10(smoothed(after) / smoothed(before))
    np.testing.assert_array_equal(np.isfinite(got), np.isfinite(wanted))
    np.testing.assert_allclose(got, wanted, atol=0.0051)


def test_power_is_what_is_resampled(session: Session) -> None:
    shifted = Grid(GRID.crs, (10.0, 0.0, 582_005.0, 0.0, -10.0, 4_720_000.0), (24, 20))
    got = fetch(session, found(session, speckle_px=0, max_before=1), shifted)["vv_change"]

    def between(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return (values[:, :20] + values[:, 1:21]) / 2

    wanted = 10 * np.log10(between(power(polarised("A1")["VV"])) / between(power(polarised("B4")["VV"])))
    np.testing.assert_allclose(got, wanted, atol=0.0051)
    assert np.isfinite(wanted).any()


def test_the_change_is_the_same_in_tiles_and_whole(session: Session) -> None:
    pair = found(session, speckle_px=5)
    grid = Grid(GRID.crs, (10.0, 0.0, 582_003.0, 0.0, -10.0, 4_719_996.0), (22, 28))
    whole = fetch(session, pair, grid)
    for tile in tiles(grid, 9):
        for layer, part in fetch(session, pair, grid.window(tile)).items():
            np.testing.assert_array_equal(part, whole[layer][tile.slices_yx])


def test_a_missing_archive_is_named(session: Session) -> None:
    with pytest.raises(NoScenesError, match="NO/RADAR does not exist here"):
        found(session, collection="NO/RADAR")
