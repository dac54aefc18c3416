"""The benchmark: plans, the ledger, intervals of differences, reports, and a run that is interrupted."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeling.bands import band_set
from modeling.benchmark import run as running
from modeling.benchmark.compare import HOLDS, REVERSED, UNDECIDED, Draws, Estimate, object_f1, pixel_score
from modeling.benchmark.data import Simulated, without_terrain
from modeling.benchmark.ledger import Ledger
from modeling.benchmark.plan import (
    TOGETHER,
    VALIDATIONS,
    Entry,
    Plan,
    all_entries,
    choose_rates,
    parse_duration,
    recipe_of,
    runs,
    steps_for,
    trials,
)
from modeling.benchmark.pool import Status
from modeling.benchmark.publish import publish
from modeling.benchmark.report import markdown, train_cpu_seconds
from modeling.benchmark.results import EVERYWHERE, Results, Run
from modeling.benchmark.run import run_benchmark, speed_key
from modeling.benchmark.speed import inference_speed, median_seconds
from modeling.errors import BandSetError, DataError
from modeling.scoring.evaluate import BlockScore, Evaluation
from modeling.scoring.metrics import Confusion
from modeling.scoring.objects import ObjectCounts
from modeling.scoring.papers import claims
from modeling.scoring.reliability import MarginHistogram

PLAN = Plan(
    entries=("msf-litenet", "cgnet"),
    domains=("iburi", "palu"),
    train_on="together",
    seeds=(0, 1),
    steps={"msf-litenet": 3, "cgnet": 3},
    rates=(1e-3,),
    batch=2,
    patch_px=32,
    augmentation="none",
)


# --- what takes part


@pytest.mark.parametrize("name", all_entries())
def test_every_entry_is_what_it_is_called(name: str) -> None:
    assert Entry.parse(name).name == name


@pytest.mark.parametrize("text", ["", "resnet", "msf-litenet@0", "msf-litenet@9", "cgnet:thermal", "cgnet@2:opticalx"])
def test_what_is_no_entry_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="is not an entry"):
        Entry.parse(text)


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        ({"terms": "fair"}, "'fair'"),
        ({"train_on": "none"}, "'none'"),
        ({"seeds": (1, 1)}, "none twice"),
        ({"domains": ()}, "at least one domain"),
        ({"steps": {"cgnet": 3}}, "msf-litenet has 0"),
        ({"rates": ()}, "nothing to choose"),
        ({"search_share": 0.0}, "share"),
    ],
)
def test_an_impossible_plan_is_refused(change: dict[str, Any], fact: str) -> None:
    with pytest.raises(DataError, match=fact):
        replace(PLAN, **change)


def test_a_plan_survives_json() -> None:
    assert Plan.from_json(json.loads(json.dumps(PLAN.to_json()))) == PLAN
    with pytest.raises(DataError, match="not a stored plan"):
        Plan.from_json({"entries": ["cgnet"]})


def test_each_seed_is_finished_before_the_next_begins() -> None:
    jobs = runs(replace(PLAN, train_on="each"), {})
    assert [job.seed for job in jobs] == [0] * 4 + [1] * 4
    assert len({job.key for job in jobs}) == 8
    assert {job.trained_on for job in jobs} == {"iburi", "palu"}


def test_the_rate_is_that_of_the_best_validation_and_of_equals_the_lower() -> None:
    plan = replace(PLAN, rates=(1e-3, 3e-3, 1e-2))
    keys = {(job.entry, job.rate): job.key for job in trials(plan)}
    assert len(keys) == 6
    assert all(job.steps == 1 and job.seed == 0 for job in trials(plan)), "a quarter of three steps, rounded up"
    scores: dict[str, float | None] = dict.fromkeys(keys.values(), 0.5)
    scores[keys["cgnet", 3e-3]] = 0.6
    scores[keys["msf-litenet", 1e-3]] = None  # failed
    chosen = choose_rates(plan, scores)
    assert chosen == {("cgnet", TOGETHER): 3e-3, ("msf-litenet", TOGETHER): 3e-3}
    assert choose_rates(PLAN, {}) == {("cgnet", TOGETHER): 1e-3, ("msf-litenet", TOGETHER): 1e-3}
    assert trials(replace(plan, terms="paper")) == []


def test_terms_decide_what_is_equal() -> None:
    equal = [recipe_of(PLAN, job) for job in runs(PLAN, choose_rates(PLAN, {}))]
    assert {(made.loss, made.optimiser, made.normalisation, made.select_by) for made in equal} == {
        (equal[0].loss, equal[0].optimiser, equal[0].normalisation, equal[0].select_by)
    }
    assert {made.network for made in equal} == {"msf-litenet", "cgnet"}
    plan = replace(PLAN, terms="paper", entries=("resu-senet", "dfpenet"), steps={"resu-senet": 5, "dfpenet": 5})
    senet, dfpenet, *_ = (recipe_of(plan, job) for job in runs(plan, {}))
    assert (senet.loss, senet.optimiser.name, senet.select_by) == ("dice", "adam", "loss")
    assert (dfpenet.loss, dfpenet.optimiser.name) == ("cross-entropy", "sgd")
    assert {(made.steps, made.batch, made.patch_px, made.patience) for made in (senet, dfpenet)} == {(5, 2, 32, None)}
    enlarged = replace(PLAN, entries=("msf-litenet@2",), steps={"msf-litenet@2": 4})
    assert recipe_of(enlarged, runs(enlarged, choose_rates(enlarged, {}))[0]).input_scale == 2


@given(
    seconds=st.floats(min_value=1e3, max_value=1e6),
    slow=st.floats(min_value=0.01, max_value=5),
    equal=st.sampled_from(["steps", "time"]),
)
def test_steps_fill_the_budget_and_do_not_overrun_it(seconds: float, slow: float, equal: str) -> None:
    taken = {"msf-litenet": 0.01, "cgnet": slow}
    plan = replace(PLAN, rates=(1e-3, 1e-2), processes=2)
    steps = steps_for(plan, seconds, taken, validation=20, test=40, equal=equal)
    passes = (VALIDATIONS + 1) * 20
    fixed = (2 * (passes + 40) + 2 * passes) / (3 * plan.batch)
    spent = sum(taken[entry] * (steps[entry] * (2 + 2 * plan.search_share) + fixed) for entry in taken) / 2
    if min(steps.values()) > 1:
        assert spent <= seconds * (1 + 1e-9)
        assert spent > seconds - 3 * sum(taken.values())
    if equal == "steps":
        assert len(set(steps.values())) == 1


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30min", 1800), ("2.5h", 9000), (" 8 h ", 28800)])
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "8", "h", "-1h", "0s", "1d", "1h30min"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(DataError, match="not a budget"):
        parse_duration(text)


def test_without_terrain_only_terrain_goes() -> None:
    left = without_terrain(band_set("ten-band"))
    assert left.channels == band_set("ten-band").channels[2:]
    with pytest.raises(BandSetError, match="terrain"):
        without_terrain(band_set("rgb"))


# --- the ledger


def test_a_run_is_there_as_a_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(tmp_path)
    ledger.record("a--all--seed0", {"entry": "a"})
    assert "a--all--seed0" in ledger
    assert "b" not in ledger

    def full(self: Path, *_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="space"):
        ledger.record("b", {"entry": "b"})
    assert ledger.finished() == {"a--all--seed0": {"entry": "a"}}


def test_a_ledger_belongs_to_one_plan_and_one_process(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.set_plan({"seeds": (0, 1), "batch": 8})
    ledger.set_plan({"seeds": [0, 1], "batch": 8})
    with pytest.raises(DataError, match="differs in batch"):
        ledger.set_plan({"seeds": (0, 1), "batch": 4})
    with ledger.held(), pytest.raises(DataError, match="another benchmark"), Ledger(tmp_path).held():
        pass
    with ledger.held():
        pass


@pytest.mark.parametrize("content", ["", "[]", "{"])
def test_a_damaged_run_is_named(tmp_path: Path, content: str) -> None:
    ledger = Ledger(tmp_path)
    ledger.record("a", {})
    (tmp_path / "runs" / "a.json").write_text(content)
    with pytest.raises(DataError, match=r"a\.json"):
        ledger.finished()


@pytest.mark.parametrize("key", ["resu-cbnet:optical--all--seed0", "msf-litenet@2--350+350", "50 %: a"])
def test_a_run_is_found_under_its_own_key(tmp_path: Path, key: str) -> None:
    ledger = Ledger(tmp_path)
    ledger.record(key, {"a": 1})
    assert key in ledger
    assert ledger.finished() == {key: {"a": 1}}


def test_an_entry_without_terrain_has_its_rate_and_its_runs(tmp_path: Path) -> None:
    """Its key has a colon, which no file's name should have: it was passed over once."""
    plan = replace(PLAN, entries=("resu-cbnet:optical",), steps={"resu-cbnet:optical": 3}, rates=(1e-3, 3e-3))
    ledger = Ledger(tmp_path)
    for job in trials(plan):
        ledger.record(job.key, {"validation_f1": job.rate})
    rates = choose_rates(plan, {key: run["validation_f1"] for key, run in ledger.finished().items()})
    assert [job.rate for job in runs(plan, rates)] == [3e-3, 3e-3]


@pytest.mark.parametrize("key", ["", "../a", ".hidden"])
def test_a_key_stays_in_its_folder(tmp_path: Path, key: str) -> None:
    with pytest.raises(DataError, match="cannot name"):
        Ledger(tmp_path).record(key, {})


# --- differences


def counts_of(quality: float, seeds: int, blocks: int, rng: np.random.Generator) -> np.ndarray:
    """(seed, block, 4) of networks that find `quality` of the landslides and raise as many false alarms less."""
    true = rng.integers(50, 150, blocks)
    found = rng.binomial(true, quality, (seeds, blocks))
    false = rng.poisson(true * (1 - quality), (seeds, blocks))
    rest = np.full((seeds, blocks), 1000)
    return np.stack([found, false, true - found, rest - false], axis=-1).astype(float)


def test_a_clear_difference_holds_and_none_is_undecided() -> None:
    rng = np.random.default_rng(0)
    draws = Draws.of(["a"] * 10 + ["b"] * 10, resamples=400)
    good, bad, same = (counts_of(quality, 3, 20, rng) for quality in (0.9, 0.7, 0.9))
    assert draws.difference(good, bad, pixel_score("f1")).verdict == HOLDS
    assert draws.difference(bad, good, pixel_score("f1")).verdict == REVERSED
    assert draws.difference(good, same, pixel_score("f1")).verdict == UNDECIDED


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), seeds=st.integers(1, 4), blocks=st.integers(2, 12))
def test_an_estimate_is_the_mean_over_seeds_of_whole_test_sets(seed: int, seeds: int, blocks: int) -> None:
    counts = counts_of(0.8, seeds, blocks, np.random.default_rng(seed))
    made = Draws.of(["a"] * blocks, resamples=100).estimate(counts, pixel_score("iou"))
    by_hand = [Confusion(*(int(n) for n in each.sum(axis=0))).scores()["iou"] for each in counts]
    assert made.value == pytest.approx(np.mean(by_hand))
    assert made.low - 0.05 <= made.value <= made.high + 0.05
    assert (made.seeds, made.blocks) == (seeds, blocks)


def test_pairing_narrows_the_interval_of_a_difference() -> None:
    """Blocks of very different hardness: what is hard for both says nothing about which is better."""
    rng = np.random.default_rng(1)
    hard = rng.uniform(0.1, 0.9, 30)
    true = np.full(30, 1000.0)
    first = np.stack([true * hard, true * 0, true * (1 - hard), true], axis=-1)[None]
    second = np.stack([true * (hard - 0.05), true * 0, true * (1.05 - hard), true], axis=-1)[None]
    draws = Draws.of(["a"] * 30)
    alone = draws.estimate(first, pixel_score("recall"))
    together = draws.difference(first, second, pixel_score("recall"))
    assert together.high - together.low < 0.05 * (alone.high - alone.low)
    assert together.value == pytest.approx(0.05)


def test_draws_keep_the_share_of_each_domain() -> None:
    draws = Draws.of(["a", "a", "b"], resamples=200)
    assert (draws.times[:, :2].sum(axis=1) == 2).all()
    assert (draws.times[:, 2] == 1).all()
    with pytest.raises(DataError, match="at least one block"):
        Draws.of([])
    with pytest.raises(DataError, match="do not fit"):
        draws.estimate(np.zeros((1, 5, 4)), pixel_score("f1"))
    with pytest.raises(DataError, match="unknown score"):
        pixel_score("beauty")


def test_object_f1_of_nothing_is_zero() -> None:
    assert object_f1(np.array([[0.0, 0, 0, 0], [4, 2, 4, 2]])).tolist() == [0.0, 0.5]


# --- reports


def evaluation(quality: float, seed: int) -> Evaluation:
    rng = np.random.default_rng(seed)
    blocks = []
    for number in range(12):
        tp, fp, fn, tn = (int(count) for count in counts_of(quality, 1, 1, rng)[0, 0])
        true = (5, 4, 3, 2, 1)
        found = tuple(int(count * quality) for count in true)
        objects = ObjectCounts((1e3, 3e3, 1e4, 3e4), true, found, true, found, true, found)
        domain = ("iburi", "palu")[number % 2]
        blocks.append(BlockScore(f"region {number}", domain, Confusion(tp, fp, fn, tn), objects))
    margin = rng.normal(0, 1, 500).astype(np.float32)
    histogram = MarginHistogram.of(margin, margin > 0)
    return Evaluation(tuple(blocks), {"iburi": histogram, "palu": histogram}, 1.0, 0.5)


def made_up(qualities: Mapping[str, float], *, train_on: str = "together") -> Results:
    plan = replace(
        PLAN, entries=tuple(qualities), steps=dict.fromkeys(qualities, 3), train_on=train_on, rates=(1e-3, 3e-3)
    )
    about = {"rate": 1e-3, "train_seconds": 60.0, "wall_seconds": 61.0, "cpu_seconds": 30.0}
    made = [
        Run(entry, trained_on, seed, dict(about), evaluation(quality, 100 * number + seed))
        for trained_on in plan.training_sets
        for number, (entry, quality) in enumerate(qualities.items())
        for seed in plan.seeds
    ]
    speed = {"patches_per_s": 10.0, "km2_per_s": 2.0, "patch_px": 32, "batch": 8, "tile_px": 64, "pixel_m2": 100.0}
    costs = {
        entry: {
            "entry": entry, "channels": ["slope"], "parameters": 10**6 * (1 + number), "macs": 10**9 * (1 + number),
            "speed": {**speed, "precision": "float32"}, "device": {"name": "a processor", "threads": 2, "torch": "2"},
        }
        for number, entry in enumerate(qualities)
    }  # fmt: skip
    data = {"kind": "simulated regions", "size_px": 64, "training": 1, "validation": 1, "test": 6, "bands": "ten-band"}
    return Results(plan, {**data, "seed": 0}, made, costs, {"cgnet--all--seed9": "the loss is nan"})


def test_processor_time_is_of_runs_that_were_not_interrupted() -> None:
    results = made_up({"msf-litenet": 0.6, "fcn": 0.9})
    row = results.row("fcn", "all", "all")
    assert train_cpu_seconds(results, row) == 30.0
    for run in results.of("fcn", "all"):
        dict.update(
            run.about, wall_seconds=20.0 if run.seed == 0 else 61.0, cpu_seconds=10.0 if run.seed == 0 else 40.0
        )
    assert train_cpu_seconds(results, row) == 40.0, "the first began again in the middle"
    assert "| processor minutes |" in markdown(results, command="", made_on="")


def test_a_report_orders_by_score_and_judges_the_claims(tmp_path: Path) -> None:
    results = made_up({"msf-litenet": 0.6, "fcn": 0.9, "resu-senet": 0.9, "resu-net": 0.6})
    paths = publish(results, tmp_path, command="quakeslide benchmark --steps 3", made_on="2026-01-02")
    text = paths["md"].read_text()
    assert "Made on 2026-01-02 by `quakeslide benchmark --steps 3`" in text
    assert "All of it was measured on simulated data" in text
    assert "the loss is nan" in text
    assert "more than two points behind" in text
    table = text[text.index("## Scores") : text.index("## Costs")]
    assert table.index("`fcn`") < table.index("`msf-litenet`")
    verdicts = {
        (finding.claim.where, finding.claim.metric, finding.claim.better, finding.claim.worse): finding.verdict
        for finding in results.findings(claims())
    }
    assert verdicts["Iburi", "f1", "resu-senet", "resu-net"] == HOLDS
    assert verdicts["Hokkaido", "iou", "msf-litenet", "fcn"] == REVERSED
    assert verdicts["Hokkaido", "iou", "resunet-r50", "fcn"] == "not tested"
    assert verdicts["3 channels, 2 classes, 256 x 256 pixels", "macs", "msf-litenet", "fcn"] == HOLDS
    assert "| LDTL, Hokkaido | `msf-litenet` over `fcn` | IoU |" in text
    assert "reversed" in text
    assert paths["png"].stat().st_size > 5000
    assert not list(tmp_path.glob("*.partial"))


def test_csv_and_json_hold_the_same_numbers(tmp_path: Path) -> None:
    results = made_up({"msf-litenet": 0.7, "cgnet": 0.8})
    paths = publish(results, tmp_path, command="c", made_on="d")
    rows = list(csv.DictReader(io.StringIO(paths["csv"].read_text())))
    assert len(rows) == 2 * 3, "two networks, tested everywhere and on two domains"
    stored = json.loads(paths["json"].read_text())
    for row, again in zip(rows, stored["rows"], strict=True):
        assert float(row["f1"]) == pytest.approx(again["f1"]["value"], abs=1e-5)
        assert float(row["f1_low"]) <= float(row["f1"]) <= float(row["f1_high"])
    counts = np.array(stored["runs"][0]["pixels_tp_fp_fn_tn"])
    tp, fp, fn, tn = counts.sum(axis=0)
    assert Confusion(tp, fp, fn, tn) == results.runs[0].evaluation.pixels
    assert len(stored["ground"]) == len(counts) == 12


def test_one_model_a_domain_is_tested_on_all(tmp_path: Path) -> None:
    results = made_up({"msf-litenet": 0.7, "cgnet": 0.8}, train_on="each")
    text = publish(results, tmp_path, command="c", made_on="d")["md"].read_text()
    part = text[text.index("## F1 by domain") :]
    assert part.count("| iburi | ") >= 2
    assert results.row("cgnet", "palu", "iburi").scores["f1"].blocks == 6
    with pytest.raises(DataError, match="not tested on luding"):
        results.row("cgnet", "palu", "luding")


def test_runs_on_other_ground_are_not_compared() -> None:
    results = made_up({"msf-litenet": 0.7})
    other = evaluation(0.7, 0)
    moved = replace(other, blocks=tuple(replace(block, name=f"{block.name}x") for block in other.blocks))
    with pytest.raises(DataError, match="other blocks"):
        Results(results.plan, {}, [*results.runs, Run("cgnet", "all", 0, {}, moved)], {}, {})
    with pytest.raises(DataError, match="no run is finished"):
        Results(results.plan, {}, [], {}, {})


def test_a_verdict_needs_an_interval_on_one_side_of_zero() -> None:
    assert Estimate(0.1, 0.01, 0.2, 3, 9).verdict == HOLDS
    assert Estimate(0.1, -0.01, 0.2, 3, 9).verdict == UNDECIDED
    assert Estimate(-0.1, -0.2, -0.01, 3, 9).verdict == REVERSED


# --- speed


def test_speed_counts_what_was_done() -> None:
    sizes: list[tuple[int, ...]] = []

    def forward(x: Any) -> Any:
        sizes.append(tuple(x.shape))
        time.sleep(0.004)
        return x

    speed = inference_speed(forward, 3, batch=4, patch_px=8, tile_px=16, pixel_m2=100.0, seconds=0.02)
    assert {*sizes} == {(4, 3, 8, 8), (1, 3, 16, 16)}
    assert 4 / 1.0 < speed.patches_per_s < 4 / 0.004
    assert 256 * 100 / 1e6 / 1.0 < speed.km2_per_s < 256 * 100 / 1e6 / 0.004


def test_the_first_call_is_not_timed() -> None:
    taken = iter([0.2, 0.0, 0.0, 0.0, 0.0])
    assert median_seconds(lambda: time.sleep(next(taken)), device="cpu", seconds=0.0) < 0.05


# --- runs


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    made = Simulated(tmp_path_factory.mktemp("regions"), ("iburi", "palu"), 1, 1, 1, size_px=96)
    made.prepare(1)
    return made


def test_the_parts_share_no_region(source: Simulated) -> None:
    names = {
        part: {plan.seed for plan in source._plans(part, source.domains)} for part in ("training", "validation", "test")
    }
    assert names["training"].isdisjoint(names["validation"] | names["test"])
    assert names["validation"].isdisjoint(names["test"])
    bands = source.band_set()
    assert [block.domain for block in source.blocks("test", bands, ("palu",))] == ["palu"]
    with pytest.raises(DataError, match="a region each"):
        Simulated(source.cache, ("iburi",), 1, 0, 1)
    with pytest.raises(DataError, match="unknown simulated domain"):
        Simulated(source.cache, ("atlantis",))


def without_clock(run: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in run.items() if not key.endswith("_seconds")}


def test_an_interrupted_benchmark_goes_on_and_ends_the_same(
    source: Simulated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "measure_speed", lambda entry, *_: {"entry": entry})
    plan = replace(PLAN, seeds=(0,))
    whole = Ledger(tmp_path / "whole")
    run_benchmark(plan, source, whole, lambda _: None)

    class StopHereError(Exception):
        pass

    def interrupt(status: Status) -> None:
        if status.what.startswith("cgnet") and status.done == 2:
            raise StopHereError

    ledger = Ledger(tmp_path / "interrupted")
    with pytest.raises(StopHereError):
        run_benchmark(plan, source, ledger, interrupt)
    assert set(ledger.finished()) == {"msf-litenet--all--seed0"}
    begun: list[str] = []
    run_benchmark(plan, source, ledger, lambda status: begun.append(status.what))
    assert "msf-litenet--all--seed0" not in begun, "what was finished is not done again"
    for key in ("msf-litenet--all--seed0", "cgnet--all--seed0"):
        assert without_clock(ledger.finished()[key]) == without_clock(whole.finished()[key])
    assert speed_key("cgnet") in ledger
    assert list((tmp_path / "interrupted" / "work").iterdir()) == [], "checkpoints of finished runs are gone"
    with pytest.raises(DataError, match="differs in batch"):
        run_benchmark(replace(plan, batch=3), source, ledger, lambda _: None)
    run_benchmark(replace(plan, processes=1), source, ledger, lambda _: None)


def test_a_run_that_fails_is_told_and_the_others_go_on(
    source: Simulated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "measure_speed", lambda entry, *_: {"entry": entry})
    real = running.fit

    def fragile(recipe: Any, *rest: Any, **more: Any) -> Any:
        if recipe.network == "cgnet":
            raise DataError("the loss is nan at step 1")
        return real(recipe, *rest, **more)

    monkeypatch.setattr(running, "fit", fragile)
    ledger = Ledger(tmp_path)
    run_benchmark(replace(PLAN, seeds=(0,)), source, ledger, lambda _: None)
    results = Results.load(ledger)
    assert results.entries == ("msf-litenet",)
    assert results.failed == {"cgnet--all--seed0": "the loss is nan at step 1"}
    row = results.row("msf-litenet", TOGETHER, EVERYWHERE)
    assert row.seeds == (0,)
    assert row.scores["f1"].blocks == 2


def test_test_ground_decides_nothing(source: Simulated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other test ground, the same weights, thresholds and rates."""
    monkeypatch.setattr(running, "measure_speed", lambda entry, *_: {"entry": entry})
    plan = replace(PLAN, seeds=(0,), entries=("msf-litenet",), rates=(1e-3, 1e-2))
    found = []
    for number, tested in enumerate((source, _TestedElsewhere(source))):
        ledger = Ledger(tmp_path / str(number))
        run_benchmark(plan, tested, ledger, lambda _: None)
        run = ledger.finished()["msf-litenet--all--seed0"]
        found.append((run["rate"], run["curve"], run["evaluation"]["threshold"], run["evaluation"]["temperature"]))
        found.append(run["evaluation"]["blocks"])
    assert found[0] == found[2]
    assert found[1] != found[3], "the test ground was another, or this proves nothing"


class _TestedElsewhere:
    """The same source, but for its test ground."""

    def __init__(self, source: Simulated) -> None:
        self._source = source

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def blocks(self, part: str, bands: Any, domains: Any) -> Any:
        return self._source.blocks("training" if part == "test" else part, bands, domains)


@pytest.mark.slow
def test_a_killed_benchmark_of_two_processes_leaves_nobody_and_goes_on(source: Simulated, tmp_path: Path) -> None:
    code = f"""
from dataclasses import replace
from pathlib import Path
from modeling.benchmark.data import Simulated
from modeling.benchmark.ledger import Ledger
from modeling.benchmark.plan import Plan
from modeling.benchmark.run import run_benchmark
if __name__ == "__main__":
    source = Simulated(Path({str(source.cache)!r}), ("iburi", "palu"), 1, 1, 1, size_px=96)
    plan = Plan.from_json({replace(PLAN, processes=2, steps={"msf-litenet": 40, "cgnet": 40}).to_json()!r})
    ledger = Ledger(Path({str(tmp_path / "ledger")!r}))
    with ledger.held():
        run_benchmark(plan, source, ledger, lambda status: print(status.what, status.done, flush=True))
"""
    script = tmp_path / "script.py"
    script.write_text(code)
    command = [sys.executable, str(script)]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert first.stdout is not None
    for line in first.stdout:
        if "--seed" in line and int(line.split()[-1]) >= 2:
            break
    first.send_signal(signal.SIGKILL)
    first.wait()
    first.stdout.close()
    deadline = time.monotonic() + 30
    while _alive(first.pid) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not _alive(first.pid), "its workers must end with it"
    second = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert second.returncode == 0, second.stderr
    results = Results.load(Ledger(tmp_path / "ledger"))
    assert len(results.runs) == 4
    assert set(results.costs) == {"msf-litenet", "cgnet"}


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
