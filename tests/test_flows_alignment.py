"""flows/alignment.py: a shift between the images is found, taken back without inventing anything, and always told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from fakes.scenes import ArrayBlock, ArrayScene, array_scene
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from flows import alignment as module
from flows.alignment import AlignedScene, Alignment, match_radiometry, measure_alignment, write_alignment
from flows.map_raster import PairScene
from flows.progress import Progress, listen
from flows.settings import AlignmentSettings
from gee.types import Grid, Observed
from modeling import simulate
from modeling.rasters.coregister import Shift, taps
from modeling.rasters.radiometry import BandMatch, RadiometricMatch
from modeling.rasters.raster_pair import open_pair

MOVE = (0.37, -0.62)
SIDE = 256
EVERYTHING = slice(0, SIDE), slice(0, SIDE)


def simulated(name: str = "iburi", move: tuple[float, float] = MOVE, seed: int = 171, **changes: object) -> ArrayScene:
    """A simulated quake whose ground lies `move` elsewhere before, with landslides, clouds, noise and whole numbers."""
    domain = replace(simulate.domain(name), misregistration_px=0.0, shift_before_px=move, **changes)  # type: ignore[arg-type]
    region = simulate.simulate_region(
        domain, seed=seed, shape_yx=(SIDE, SIDE), dates_pre=2, dates_post=2, bands=("B2", "B3", "B4", "B8")
    )
    layers, _ = simulate.layers_of(region)
    observed = np.stack(
        [np.where(np.isfinite(layers[f"red_{phase}"]), Observed.CLEAR, Observed.CLOUD) for phase in ("pre", "post")]
    ).astype(np.uint8)
    date = np.where(observed == Observed.CLEAR, 17_000, -1).astype(np.int32)
    return ArrayScene(Grid(region.crs, region.transform, region.shape_yx), layers, observed, date)


@pytest.mark.parametrize(
    "scene",
    [
        lambda: simulated("iburi"),
        lambda: simulated("palu", cloudiness=0.4, aerosol=0.5),
        lambda: simulated("jiuzhaigou", (-1.2, 0.45)),
        lambda: simulated("iburi", (0.0, 0.0)),
        lambda: simulated("iburi", event_date="2018-11-20", pre_gap_days=(60, 80)),
    ],
    ids=["same season", "haze and cloud", "far", "none", "another season"],
)
def test_a_known_shift_is_measured_to_a_tenth_of_a_pixel(
    scene: Callable[[], ArrayScene], request: pytest.FixtureRequest
) -> None:
    truth = {"far": (-1.2, 0.45), "none": (0.0, 0.0)}.get(request.node.callspec.id, MOVE)
    found = measure_alignment(scene(), AlignmentSettings()).shift
    assert found.measured, found.why
    assert (found.dy_px, found.dx_px) == pytest.approx(truth, abs=0.1)
    assert found.dy_error_px is not None
    assert 0 < found.dy_error_px < 0.05


def test_correcting_brings_the_images_together() -> None:
    scene = simulated()
    alignment = measure_alignment(scene, AlignmentSettings(correct_above_px=0.2))
    assert alignment.corrected
    aligned = AlignedScene(scene, alignment)
    again = measure_alignment(aligned, AlignmentSettings()).shift
    assert again.length_px < 0.1
    unmoved = simulated(move=(0.0, 0.0)).layers["red_pre"]
    before, after = (one.read_tile(*EVERYTHING).layers["red_pre"] for one in (scene, aligned))
    assert np.nanstd(after - unmoved) < 0.92 * np.nanstd(before - unmoved)  # 1 if nothing were corrected


def test_a_small_shift_is_told_and_left() -> None:
    scene = simulated(move=(0.1, 0.0))
    alignment = measure_alignment(scene, AlignmentSettings(correct_above_px=0.3))
    assert alignment.shift.measured
    assert not alignment.corrected
    assert alignment.move_px == (0.0, 0.0)
    block = AlignedScene(scene, alignment).read_tile(*EVERYTHING)
    np.testing.assert_array_equal(block.layers["red_pre"], scene.layers["red_pre"])


@pytest.mark.parametrize(
    ("scene", "words"),
    [
        (array_scene((SIDE, SIDE)), "enough stable ground with texture"),  # noise only
        (array_scene((40, 300)), "only 0 of 0 windows"),
        (replace(array_scene((SIDE, SIDE)), observed=np.full((2, SIDE, SIDE), Observed.CLOUD, np.uint8)), "only 0 of"),
        (array_scene((SIDE, SIDE), ()), "no colour in common"),
    ],
)
def test_what_cannot_be_measured_is_said_and_nothing_is_moved(scene: ArrayScene, words: str) -> None:
    alignment = measure_alignment(scene, AlignmentSettings(correct_above_px=0.0))
    assert not alignment.shift.measured
    assert words in alignment.shift.why
    assert not alignment.corrected


def test_a_shift_beyond_belief_is_not_corrected() -> None:
    alignment = measure_alignment(simulated(move=(1.5, 0.0)), AlignmentSettings(maximum_shift_px=1.0))
    assert alignment.shift.why == "a shift of 1.5 px is more than the 1 px that are believed"
    assert not alignment.corrected


def test_gentle_ground_is_preferred_where_there_is_enough() -> None:
    scene = simulated()
    scene.layers["slope"][:] = 20.0
    assert measure_alignment(scene, AlignmentSettings()).ground == "any"
    scene.layers["slope"][:, : SIDE // 2] = 2.0
    assert measure_alignment(scene, AlignmentSettings()).ground == "gentle"


def fixed(move: tuple[float, float], radiometry: RadiometricMatch | None = None) -> Alignment:
    return Alignment(Shift(True, "", *move), any(move), 10.0, radiometry=radiometry)


@pytest.fixture(scope="module")
def torn() -> ArrayScene:
    """A scene with every code strewn over both phases, values where the image saw something, days that differ."""
    scene = array_scene((40, 50))
    rng = np.random.default_rng(4)
    codes = rng.choice([int(code) for code in Observed], (2, 40, 50))
    codes[rng.random(codes.shape) < 0.7] = Observed.CLEAR
    date = np.where(np.isin(codes, (1, 5)) | (rng.random(codes.shape) < 0.5) & (codes == 255), 17_000, -1)
    date = np.where(date >= 0, date + rng.integers(0, 9, codes.shape), -1)
    for index, phase in enumerate(("pre", "post")):
        for colour in ("red", "green", "blue", "nir"):
            scene.layers[f"{colour}_{phase}"][date[index] < 0] = np.nan
    return replace(scene, observed=codes.astype(np.uint8), date=date.astype(np.int32))


moves = st.tuples(*(st.sampled_from([0.0, 0.3, -0.45, 1.0, -2.6]),) * 2)
spans = [
    st.tuples(st.integers(0, size - 1), st.integers(1, size)).map(lambda ab: (ab[0], ab[0] + ab[1]))
    for size in (40, 50)
]


@given(moves, *spans, st.booleans())
@hypothesis_settings(max_examples=60, deadline=None)
def test_a_window_equals_the_whole(
    torn: ArrayScene, move: tuple[float, float], ys: tuple[int, int], xs: tuple[int, int], matched: bool
) -> None:
    table = RadiometricMatch("histogram", (BandMatch("red", (0.0, 0.05, 0.1), (0.01, 0.05, 0.2), 9, 0.1, 0.0),))
    scene = AlignedScene(torn, fixed(move, table if matched else None))
    window = slice(ys[0], min(ys[1], 40)), slice(xs[0], min(xs[1], 50))
    part, whole = scene.read_tile(*window), scene.read_tile(slice(0, 40), slice(0, 50))
    for name in torn.layer_names:
        np.testing.assert_array_equal(part.layers[name], whole.layers[name][window], err_msg=name)
    np.testing.assert_array_equal(part.observed, whole.observed[:, *window])
    np.testing.assert_array_equal(part.date, whole.date[:, *window])


@given(moves)
@hypothesis_settings(max_examples=25, deadline=None)
def test_nothing_is_made_up_and_nothing_is_lost(torn: ArrayScene, move: tuple[float, float]) -> None:
    block = AlignedScene(torn, fixed(move)).read_tile(slice(0, 40), slice(0, 50))
    codes, days = torn.observed[0], torn.date[0]
    for row, column in np.ndindex(40, 50):
        needed = [(row + dy, column + dx) for dy, _ in taps(move[0]) for dx, _ in taps(move[1])]
        known = all(0 <= y < 40 and 0 <= x < 50 and days[y, x] >= 0 for y, x in needed)
        assert np.isfinite(block.layers["red_pre"][row, column]) == known
        own, code = codes[row, column], block.observed[0, row, column]
        if own == Observed.OUTSIDE:
            assert code == Observed.OUTSIDE, "the area stays the area"
        else:
            assert (code in (Observed.CLEAR, Observed.NO_TERRAIN)) == known
            assert code != Observed.OUTSIDE
            assert (code == Observed.NO_TERRAIN) == (known and own == Observed.NO_TERRAIN)
        assert (block.date[0, row, column] >= 0) == known
        if known:
            nearest = int(np.floor(row + move[0] + 0.5)), int(np.floor(column + move[1] + 0.5))
            assert block.date[0, row, column] == days[nearest]
    np.testing.assert_array_equal(block.observed[1], torn.observed[1])
    np.testing.assert_array_equal(block.date[1], torn.date[1])
    for name in ("red_post", "slope", "elevation"):
        np.testing.assert_array_equal(block.layers[name], torn.layers[name])


def test_why_a_pixel_is_not_seen_is_the_reason_of_the_one_that_it_needs() -> None:
    scene = array_scene((8, 8))
    scene.observed[0, 4, 4] = Observed.CLOUD
    scene.date[0, 4, 4] = -1
    scene.observed[0, :, 7] = Observed.OUTSIDE
    scene.date[0, :, 7] = -1
    observed = AlignedScene(scene, fixed((1.0, 0.0))).read_tile(slice(0, 8), slice(0, 8)).observed[0]
    assert observed[3, 4] == Observed.CLOUD
    assert observed[4, 4] == Observed.CLEAR
    assert (observed[7, :7] == Observed.NO_PASS).all(), "beyond the grid nothing was pulled"
    assert (observed[:, 7] == Observed.OUTSIDE).all()
    observed = AlignedScene(scene, fixed((0.0, 1.0))).read_tile(slice(0, 8), slice(0, 8)).observed[0]
    assert (observed[:4, 6] == Observed.NO_PASS).all(), "inside the area, though what it needs was never pulled"


def test_radiometry_is_matched_after_the_shift_and_only_before_the_event() -> None:
    scene = simulated(aerosol=0.4)
    for method in ("histogram", "invariant"):
        alignment = measure_alignment(scene, AlignmentSettings(correct_above_px=0.2, radiometry=method))
        match = alignment.radiometry
        assert match is not None
        assert match.method == method
        assert {band.colour for band in match.bands} == {"blue", "green", "red", "nir"}, match.why
        plain = AlignedScene(scene, replace(alignment, radiometry=None)).read_tile(*EVERYTHING).layers
        block = AlignedScene(scene, alignment).read_tile(*EVERYTHING).layers
        np.testing.assert_array_equal(block["red_pre"], match.apply("red", plain["red_pre"]))
        np.testing.assert_array_equal(block["red_post"], scene.layers["red_post"])
        for band in match.bands:
            assert band.difference_after < band.difference_before
    assert measure_alignment(scene, AlignmentSettings()).radiometry is None


@dataclass(frozen=True)
class Counted:
    """A scene that notes how it is read, of any size: it is the same few pixels over and over."""

    grid: Grid
    tile: ArrayScene
    read: list[tuple[int, int]] = field(default_factory=list)

    @property
    def layer_names(self) -> tuple[str, ...]:
        return self.tile.layer_names

    def read_tile(self, y: slice, x: slice, layers: tuple[str, ...] | None = None) -> ArrayBlock:
        assert 0 <= y.start < y.stop <= self.grid.shape_yx[0]
        self.read.append((y.stop - y.start, x.stop - x.start))
        return self.tile.read_tile(slice(0, y.stop - y.start), slice(0, x.stop - x.start), layers)


def test_a_large_scene_is_sampled_in_small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BLOCKS", 12)
    monkeypatch.setattr(module, "RADIOMETRY_WINDOWS", 5)
    tile = array_scene((512, 512))
    scene = Counted(Grid(tile.grid.crs, tile.grid.transform, (80_000, 90_000)), tile)
    told: list[Progress] = []
    stop = listen(told.append)
    try:
        measure_alignment(scene, AlignmentSettings(radiometry="histogram"))
    finally:
        stop()
    assert len(scene.read) == 12 + 5
    assert max(max(shape) for shape in scene.read) <= module.BLOCK_PX
    assert (told[-1].stage, told[-1].done, told[-1].total) == ("match the radiometry", 5, 5)
    assert {"measure the shift", "match the radiometry"} == {one.stage for one in told}


def test_the_same_scene_is_measured_the_same() -> None:
    scene = simulated()
    assert measure_alignment(scene, AlignmentSettings()) == measure_alignment(scene, AlignmentSettings())


@pytest.mark.parametrize("radiometry", ["none", "histogram", "invariant"])
def test_an_alignment_survives_its_file(tmp_path: Path, radiometry: str) -> None:
    settings = AlignmentSettings.model_validate({"radiometry": radiometry})
    for scene in (simulated(), array_scene((64, 64))):
        write_alignment(scene, settings, tmp_path / "alignment.json")
        assert Alignment.from_json((tmp_path / "alignment.json").read_text()) == measure_alignment(scene, settings)


def test_metres_have_their_signs() -> None:
    alignment = replace(fixed((0.5, 1.5)), pixel_m=10.0)
    assert (alignment.north_m, alignment.east_m) == (-5.0, 15.0)


@pytest.mark.slow
def test_the_real_pair_lies_two_thirds_of_a_pixel_apart(shared_data: Path) -> None:
    """East only on the valley floors; slopes seem to lie further south, because the sun stood elsewhere."""
    folder, bands = shared_data / "iburi2018", ("B2", "B3", "B4")
    images = [[folder / f"s2_{phase}_{band}.tif" for band in bands] for phase in ("pre", "post")]
    with open_pair(images[0], images[1], folder / "dsm_aw3d30.tif") as pair:
        scene = PairScene(pair)
        alignment = measure_alignment(scene, AlignmentSettings())
        shift = alignment.shift
        assert shift.measured
        assert alignment.ground == "gentle"
        assert (shift.dy_px, shift.dx_px) == (pytest.approx(0.0, abs=0.25), pytest.approx(0.66, abs=0.15))
        for method in ("histogram", "invariant"):
            match = match_radiometry(AlignedScene(scene, alignment), method)
            assert len(match.bands) == 3
            assert all(band.difference_after < 0.3 * band.difference_before for band in match.bands)
