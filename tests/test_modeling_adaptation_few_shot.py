"""modeling/adaptation/few_shot.py: a few polygons adapt a network, and it is judged by polygons that it has not seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes.training import BANDS, NORMALISATION, register_tiny

from modeling import networks
from modeling.adaptation.anchored import FewShot, bench_of, head_bias, shifted
from modeling.adaptation.drawn import SIDE_PX, UNDRAWN, Ground, Split
from modeling.adaptation.few_shot import LEAST_STEPS, FewShotResult, adapt_few_shot, cross_validated
from modeling.adaptation.judging import AS_IT_WAS
from modeling.errors import DataError
from modeling.model import LandslideModel, load_model, save_model

COUNT = 16
LANDSLIDE = np.arange(COUNT) % 2 == 0
SPLIT = Split(np.arange(COUNT), np.arange(COUNT) // 2 % 4, 100.0)
QUICK = FewShot(steps=15, rate=5e-2, anchor=0.1, batch=4)


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    register_tiny(monkeypatch)


def model() -> LandslideModel:
    torch.manual_seed(3)
    network = networks.create("tiny", in_channels=3, classes=2).eval()
    card = {"about": "trained on simulated data only", "scores": {"test": 1}}
    return LandslideModel("toy", "tiny", network, BANDS, NORMALISATION, 1.5, 0.4, "ab" * 32, card)


def ground(count: int, seed: int, landslide: np.ndarray | None = None) -> Ground:
    """Windows of noise, with a bright square in those of landslides and one of another hue in the others."""
    rng = np.random.default_rng(seed)
    channels = rng.normal(0.1, 0.02, (count, 3, SIDE_PX, SIDE_PX)).astype(np.float32)
    owner = np.full((count, SIDE_PX, SIDE_PX), UNDRAWN, np.int32)
    own = np.full(count, UNDRAWN, np.int32)
    if landslide is not None:
        own = np.arange(count, dtype=np.int32)
        owner[:, 40:54, 40:54] = own[:, None, None]
        colour = np.where(landslide[:, None], [0.35, 0.3, 0.1], [0.1, 0.3, 0.35]).astype(np.float32)
        channels[:, :, 40:54, 40:54] += colour[:, :, None, None]
    channels[:, :, :3] = np.nan
    observed = np.isfinite(channels).all(axis=1)
    return Ground(channels, observed, owner, own)


def adapted(landslide: np.ndarray = LANDSLIDE, settings: FewShot = QUICK, **changes: object) -> FewShotResult:
    drawn = ground(COUNT, 1, LANDSLIDE)
    return adapt_few_shot(model(), drawn, ground(6, 2), landslide, SPLIT, settings, device="cpu", **changes)  # type: ignore[arg-type]


def test_polygons_that_are_right_make_it_better_and_the_card_says_how(tmp_path: Path) -> None:
    start = model()
    result = adapted()
    judgement = result.judgement
    assert judgement.verdict == "better"
    assert judgement.after["mcc"].value > judgement.before["mcc"].value + 0.3
    entry = result.model.card["adaptation"][-1]
    assert (entry["method"], entry["data"]["landslide_polygons"], entry["data"]["folds"]) == ("few-shot", 8, 4)
    assert entry["before"]["scores"] == {"test": 1}
    assert result.model.card["scores"] == {}
    assert "simulated" in result.model.card["about"]
    assert (result.model.threshold, start.threshold) == (0.4, 0.4)
    stored = load_model(save_model(result.model, tmp_path))
    x = torch.from_numpy(ground(2, 5, LANDSLIDE[:2]).channels)
    assert torch.allclose(stored.probability(x), result.model.probability(x), atol=1e-3)
    truth = LANDSLIDE[:2]
    inside = result.model.probability(x)[:, 42:52, 42:52].numpy().mean(axis=(1, 2)) >= 0.4
    assert (inside == truth).all(), "ground that it never saw"


def test_a_map_that_is_right_already_is_not_made_better_whatever_windows_say() -> None:
    drawn = ground(COUNT, 1, LANDSLIDE)
    wrong = adapted(settings=replace(QUICK, steps=0)).before
    assert wrong[:, 1:3].sum() > 0, "in the windows the network is wrong"
    right = (drawn.owner != UNDRAWN) & LANDSLIDE[drawn.owner]
    mapped = np.where(drawn.observed, np.where(right, 0.8, 0.1), np.nan).astype(np.float32)
    undrawn = replace(ground(6, 2), mapped=np.full((6, SIDE_PX, SIDE_PX), 0.1, np.float32))
    found = adapt_few_shot(model(), replace(drawn, mapped=mapped), undrawn, LANDSLIDE, SPLIT, QUICK, device="cpu")
    assert found.before[:, 1:3].sum() == 0
    assert found.judgement.before["mcc"].value == pytest.approx(1.0)
    assert (found.judgement.verdict, found.judgement.chosen) == ("unproven", AS_IT_WAS)


def test_what_is_trained_is_counted_on_top_of_the_map() -> None:
    drawn, undrawn = ground(COUNT, 1, LANDSLIDE), ground(6, 2)
    plain = bench_of(model(), drawn, undrawn, LANDSLIDE, QUICK, "cpu", 0)
    known = np.arange(COUNT)[:, None, None] % 2 == 0
    margin = np.where(known & drawn.observed, plain.first[:COUNT] + 0.7, np.nan)
    mapped = (1 / (1 + np.exp(-margin / model().temperature))).astype(np.float32)
    bench = bench_of(model(), replace(drawn, mapped=mapped), undrawn, LANDSLIDE, QUICK, "cpu", 0)
    moved = np.where(known & drawn.observed, 0.7, 0.0)
    np.testing.assert_allclose(bench.first[:COUNT], plain.first[:COUNT] + moved, atol=1e-3)
    np.testing.assert_array_equal(bench.first[COUNT:], plain.first[COUNT:])
    network = shifted(bench.start, bench.model, 0.25)
    np.testing.assert_allclose(
        bench.margins(network, np.arange(COUNT)), bench.first[:COUNT] + 0.25, atol=0.01
    )  # bfloat16


def test_what_is_trained_claims_as_much_elsewhere_as_the_map_before_with_a_shift() -> None:
    drawn = ground(COUNT, 1, LANDSLIDE)
    scars = ground(6, 2, np.arange(6) % 2 == 0)  # that nobody has drawn on; the map has found a part of them
    values = np.where(scars.owner == UNDRAWN, 0.05, np.linspace(0.2, 0.7, SIDE_PX)[None, :, None]).astype(np.float32)
    stands_for = np.random.default_rng(3).uniform(1, 50, values.shape).astype(np.float32)
    undrawn = replace(
        scars, owner=np.full_like(scars.owner, UNDRAWN), own=np.full_like(scars.own, UNDRAWN),
        mapped=np.where(scars.observed, values, np.nan).astype(np.float32), stands_for=stands_for,
    )  # fmt: skip
    bench = bench_of(model(), drawn, undrawn, LANDSLIDE, replace(QUICK, steps=4), "cpu", 0)
    trained = bench.trained(np.ones(COUNT, bool))
    first = bench.first[COUNT:]
    for shift in (0.0, 0.4, -0.3):
        held = bench.held_to_area(trained, shift)
        now = bench.margins(held, np.arange(COUNT, len(bench.windows)))
        wanted = undrawn.pixels[first + shift >= bench.boundary].sum()
        assert wanted > 0
        assert undrawn.pixels[now >= bench.boundary].sum() == pytest.approx(wanted, rel=0.05)
        before = undrawn.pixels[first >= bench.boundary].sum()
        gained, lost = bench.moved(now)
        assert min(gained, lost) >= 0
        assert gained - lost == pytest.approx(wanted - before, abs=0.05 * wanted)
        assert lost <= before


def test_more_is_claimed_where_landslides_are_missed_but_not_where_they_were_drawn_for_that() -> None:
    drawn, scars = ground(COUNT, 1, LANDSLIDE), ground(40, 2, np.arange(40) % 2 == 0)
    few = np.arange(COUNT) % 8 == 0  # of the landslides drawn every fourth was found, then three of four
    beyond = np.where(scars.owner == UNDRAWN, 0.02, 0.9)  # a map that finds most of what is there
    undrawn = replace(
        scars, owner=np.full_like(scars.owner, UNDRAWN), own=np.full_like(scars.own, UNDRAWN),
        mapped=np.where(scars.observed, beyond, np.nan).astype(np.float32),
    )  # fmt: skip
    shifts = []
    for found in (few, ~few):
        level = np.where(LANDSLIDE, np.where(found, 0.9, 0.3), 0.05)
        level = np.where(drawn.owner == UNDRAWN, 0.02, level[drawn.owner])
        mapped = np.where(drawn.observed, level, np.nan).astype(np.float32)
        bench = bench_of(model(), replace(drawn, mapped=mapped), undrawn, LANDSLIDE, QUICK, "cpu", 0)
        shifts.append(bench.best_shift(np.ones(COUNT, bool)))
    assert shifts[0] == 0
    assert shifts[1] > 0.3


@pytest.mark.parametrize("seed", range(2))
def test_scrambled_polygons_are_never_better(seed: int) -> None:
    scrambled = np.random.default_rng(seed).permutation(LANDSLIDE)
    while (scrambled == LANDSLIDE).mean() not in (0.5,):  # not by chance nearly right, or nearly opposite
        scrambled = np.random.default_rng((seed, 1)).permutation(scrambled)
        seed += 1
    found = adapted(scrambled, FewShot(steps=15, rate=5e-2, anchor=0.1, batch=4)).judgement
    assert found.verdict != "better"


def test_the_model_before_is_not_touched_and_the_same_call_gives_the_same() -> None:
    settings = FewShot(steps=3, rate=1e-2)
    start = model()
    state = {name: tensor.clone() for name, tensor in start.network.state_dict().items()}
    drawn = ground(COUNT, 1, LANDSLIDE)
    made = [adapt_few_shot(start, drawn, ground(6, 2), LANDSLIDE, SPLIT, settings, device="cpu") for _ in range(2)]
    assert all(torch.equal(tensor, state[name]) for name, tensor in start.network.state_dict().items())
    assert made[0].judgement == made[1].judgement
    assert made[0].model.weights_hash == made[1].model.weights_hash
    assert made[0].model.temperature == made[1].model.temperature


@pytest.mark.parametrize("steps", [0, 4])
def test_a_held_out_polygon_is_scored_by_a_model_that_has_not_seen_its_class(steps: int) -> None:
    drawn, settings = ground(COUNT, 1, LANDSLIDE), FewShot(steps=steps, rate=1e-2)
    level = np.where(LANDSLIDE, 0.1 + 0.04 * np.arange(COUNT), 0.05)  # a map that is right about some of them
    level = np.where(drawn.owner == UNDRAWN, 0.02, level[drawn.owner])
    drawn = replace(drawn, mapped=np.where(drawn.observed, level, np.nan).astype(np.float32))
    undrawn = replace(ground(6, 2), mapped=np.full((6, SIDE_PX, SIDE_PX), 0.02, np.float32))
    other = LANDSLIDE.copy()
    held = SPLIT.fold == 0  # with the landslide that is claimed least
    other[held.nonzero()[0][0]] ^= True
    margins = []
    for landslide in (LANDSLIDE, other):
        bench = bench_of(model(), drawn, undrawn, landslide, settings, "cpu", 0)
        margins.append(cross_validated(bench, SPLIT)[2])
    inside = held[drawn.owner[drawn.scored]]
    assert np.allclose(margins[0][inside], margins[1][inside], atol=1e-5)
    assert not np.allclose(margins[0][~inside], margins[1][~inside], atol=1e-3)


def test_the_anchor_holds_undrawn_ground() -> None:
    drawn, undrawn = ground(COUNT, 1, LANDSLIDE), ground(6, 2)
    moved = {}
    for anchor in (0.0, 30.0):
        settings = FewShot(steps=20, rate=2e-2, anchor=anchor, l2_sp=0.0)
        bench = bench_of(model(), drawn, undrawn, LANDSLIDE, settings, "cpu", 0)
        network = bench.trained(np.ones(COUNT, bool))
        now, first = bench.undrawn_sample(network)
        moved[anchor] = np.abs(1 / (1 + np.exp(-now / 1.5)) - first).mean()
    assert moved[30.0] < 0.5 * moved[0.0]


def test_a_shift_is_one_of_the_margin_alone() -> None:
    start = model()
    x = torch.from_numpy(ground(1, 5).channels)
    moved = replace(start, network=shifted(start.network, start, 0.75))
    assert torch.allclose(moved.margin(x), start.margin(x) + 0.75, atol=1e-5)
    assert head_bias(start.network, start) is not None


@pytest.mark.parametrize("name", ["msf-litenet", "lanet", "cgnet", "resu-senet"])
def test_the_decision_of_a_network_can_be_shifted_where_it_has_a_bias_for_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    network = networks.create(name, in_channels=3, classes=2).eval()
    start = LandslideModel(name, name, network, BANDS, NORMALISATION, 1.0, 0.5, "", {})
    assert (head_bias(network, start) is None) == (name == "cgnet")


def test_what_cannot_be_learned_from_is_refused() -> None:
    blind = ground(COUNT, 1, LANDSLIDE)
    blind.observed[LANDSLIDE.nonzero()[0][1:]] = False
    with pytest.raises(DataError, match="1 landslide polygons lie on observed ground"):
        adapt_few_shot(model(), blind, ground(2, 2), LANDSLIDE, SPLIT, QUICK, device="cpu")
    with pytest.raises(DataError, match="-1 steps cannot be"):
        FewShot(steps=-1)


def test_on_a_slow_machine_less_is_tried_and_it_is_said() -> None:
    result = adapted(settings=replace(QUICK, seconds=1e-3))
    assert result.settings.steps == LEAST_STEPS
    assert "to stay within 0.001 s, 8 steps were taken instead of 15" in result.notes[0]


@pytest.mark.parametrize("seconds", [0.0, float("nan"), float("inf")])
def test_a_time_that_cannot_be_is_refused(seconds: float) -> None:
    with pytest.raises(DataError, match=rf"--seconds {seconds:g} cannot be: give a finite"):
        FewShot(seconds=seconds)
