"""Leave one region out: nothing of a region decides about it, the figures are those of the counts, and it runs whole."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes.toy_source import BANDS, DOMAINS, SIDE, ToySource, carry_out, register_toy, setting
from hypothesis import given
from hypothesis import strategies as st

from modeling import networks
from modeling.adaptation.ensemble import ensemble_of, weights_of_distances
from modeling.adaptation.norms import adapt_norms
from modeling.adaptation.tta import TTA
from modeling.benchmark.speed import Device
from modeling.data.normalise import Normalisation
from modeling.errors import DataError
from modeling.experiments import generalisation_choice as choice
from modeling.experiments.covering import held_out_sets
from modeling.experiments.generalisation import EXPERIMENT, plan, reduce
from modeling.experiments.generalisation_arms import (
    ALL,
    FEW,
    MULTI,
    NEAR,
    NORMS,
    ON_MEANS,
    OWN,
    SELF,
    TURNED,
    WITH_FEW,
    said_of,
    ways,
)
from modeling.experiments.generalisation_works import (
    TEMPERATURES,
    FewLabels,
    Judge,
    One,
    Sample,
    SelfTrained,
    judged,
)
from modeling.experiments.mixes import Mix, Part
from modeling.experiments.report import Made, publish
from modeling.experiments.work import Train
from modeling.model import LandslideModel

MANY = ("k", "l", "m", "n", "o", "p", "q")
SEEDS = (0, 1)
EVENTS = 4
GOOD = "batch norms"


@given(st.integers(3, 10), st.data())
def test_every_two_domains_are_held_out_together_somewhere(count: int, data: st.DataObject) -> None:
    domains = [f"d{number}" for number in range(count)]
    width = data.draw(st.integers(2, min(4, count - 1)))
    sets = held_out_sets(domains, width)
    assert all(len(set(some)) == width for some in sets)
    covered = {pair for some in sets for pair in combinations(some, 2)}
    assert covered == set(combinations(domains, 2))
    assert sets == held_out_sets(domains, width)


def test_seven_and_eight_domains_need_hardly_more_models_than_a_perfect_design() -> None:
    assert len(held_out_sets(MANY)) == 7  # a Steiner triple system: there is none smaller
    assert len(held_out_sets([*MANY, "r"])) <= 12
    with pytest.raises(DataError, match="too few"):
        held_out_sets(["a", "b"])


def test_no_run_that_decides_for_a_region_has_learned_from_it() -> None:
    made = plan(setting(networks=("msf-litenet",), domains=DOMAINS, tests=DOMAINS, patches=8, seeds=(0, 1)))
    runs = {run.key: run for run in made}

    def learned(key: str) -> set[str]:
        """All domains whose labels went into a run."""
        work = runs[key].work
        own: set[str] = set()
        if isinstance(work, Train):
            own = set(work.mix.domains)
        elif isinstance(work, FewLabels):
            own = set(work.labelled.domains) | set(work.source.domains)
        elif isinstance(work, SelfTrained):
            own = set(work.source.domains) | set(work.judged_on.domains)
        return own.union(*(learned(need) for need in runs[key].needs)) if runs[key].needs else own

    for key, run in runs.items():
        if not isinstance(run.work, Judge):
            continue
        held_out = key.split("without-")[1].partition("--")[0].split("+")
        labelled = {run.work.own, run.work.few} - {""}
        for need in set(run.needs) - labelled:
            assert not learned(need) & set(held_out), (key, need)
        assert run.work.target in held_out
        assert len(held_out) == 1 or not labelled
    few = [run.work for run in made if isinstance(run.work, FewLabels)]
    assert all(round(work.labelled.patches * 10 / 7) == 20 for work in few)
    with pytest.raises(DataError, match="left out in turn"):
        plan(setting(networks=("msf-litenet",), domains=DOMAINS, tests=("b", "c"), patches=8))


def sure_rows(wrong: float) -> list[list[float]]:
    """Claims that are wrong in so many of 100 at the own temperature, and the fewer the higher it is."""
    return [[100, 100 * wrong / factor, 200, 1000, 100 * wrong / factor, 50.0] for factor in TEMPERATURES]


def judgement(
    target: str, models: tuple[str, ...], f1: Mapping[str, float], wrong: float, bias: float
) -> dict[str, Any]:
    """Made-up counts: every arm has its F1, models of the zoo and of labels also on scene means; `bias` times the area."""
    arms: dict[str, Any] = {}
    f1 = {**f1, **{f"{arm}{ON_MEANS}": score for arm, score in f1.items() if arm in {*models, OWN, FEW}}}
    zoo: dict[str, Any] = {}
    for number in range(EVENTS):
        event = f"{target}-{number}"
        for arm, score in f1.items():
            true = 10_000 + 1000 * number
            right = round(score * true)
            totals = {
                "name": event, "domain": target, "mapped_m2": true * bias, "expected_m2": true * bias, "mapped_count": 20,
                "true_m2": float(true), "true_count": 20, "observed_m2": 1e8, "novelty": 0.1,
            }  # fmt: skip
            arms.setdefault(arm, {})[event] = {
                "pixels": [right, true - right, true - right, 90_000], "totals": totals, "sure": sure_rows(wrong),
            }  # fmt: skip
        zoo[event] = {
            name: {"mean_mmd2": 1 - f1[name], "disagreement": 1 - f1[name], "entropy": f1[name], "relative_mmd2": None}
            for name in models
        }
    return {"target": target, "arms": arms, "zoo": zoo}


def made_up(*, wrong: float = 0.06) -> dict[str, dict[str, Any]]:
    """All judgements over `MANY`: batch norms are the best way, single models are worse the later their name."""
    found = {}
    base = {MULTI: 0.7, GOOD: 0.75, "test-time augmentation": 0.72}
    for seed in SEEDS:
        for target in MANY:
            singles = {name: 0.5 - 0.02 * MANY.index(name) for name in MANY if name != target}
            scores = {**base, **singles, OWN: 0.78, FEW: 0.7, WITH_FEW: 0.76}
            found[judged(target, (target,), seed)] = judgement(target, (MULTI, *singles), scores, wrong, 1.1)
    for held_out in held_out_sets(MANY):
        for target in held_out:
            singles = {name: 0.5 - 0.02 * MANY.index(name) for name in MANY if name not in held_out}
            found[judged(target, held_out, 0)] = judgement(
                target, (MULTI, *singles), {**base, **singles}, wrong, 1.0 + 0.1 * MANY.index(target)
            )
    return found


SETTING = setting(networks=("msf-litenet",), domains=MANY, tests=MANY, seeds=SEEDS, patches=8)


def test_the_default_is_what_other_regions_decide_whatever_the_region_itself_says() -> None:
    found = made_up()
    before = choice.decide(SETTING, found, "k")
    assert before is not None
    assert before.arm == GOOD
    assert before.signal == "mean_mmd2"
    changed = copy.deepcopy(found)
    for key, result in changed.items():
        if key.startswith("judge--k--"):  # every label of region k says that the worst way is the best
            for arm, events in result["arms"].items():
                for event in events.values():
                    event["pixels"] = [1000, 0, 0, 0] if arm == "l" else [0, 1000, 1000, 0]
                    event["totals"]["true_m2"] = 1.0
                    event["sure"] = sure_rows(0.9)
    after = choice.decide(SETTING, changed, "k")
    assert after == before
    assert choice.decide(SETTING, changed, "l") != choice.decide(SETTING, found, "l")


def test_the_temperature_is_raised_until_other_regions_are_hardly_wrong() -> None:
    made = choice.decide(SETTING, made_up(wrong=0.06), "k")
    calm = choice.decide(SETTING, made_up(wrong=0.01), "k")
    assert made is not None
    assert calm is not None
    assert made.temperature == 3.0  # 6 % wrong at 1 is 2 % at 3 in these counts
    assert calm.temperature == 1.0


def test_the_figures_are_those_of_the_counts() -> None:
    findings = reduce(SETTING, made_up())
    figures = findings.figures
    asked = ("macro_f1_default", "macro_f1_best_single", "f1_20_patches", "f1_700_patches", "wrong_at_090",
             "selection_within_005")  # fmt: skip
    assert set(asked) <= set(figures)
    assert figures["macro_f1_default"]["value"] == pytest.approx(0.75, abs=1e-3)
    # The best single model is k's, 0.5; in region k itself it is l's, 0.48.
    assert figures["macro_f1_best_single"]["value"] == pytest.approx((6 * 0.5 + 0.48) / 7, abs=1e-3)
    assert figures["macro_f1_fixed_single"]["value"] == pytest.approx(0.5, abs=1e-3)
    assert figures["f1_20_patches"]["value"] == pytest.approx(0.76, abs=1e-3)
    assert figures["f1_20_patches_as_trained"]["value"] == pytest.approx(0.7, abs=1e-3)
    assert figures["f1_700_patches"]["value"] == pytest.approx(0.78, abs=1e-3)
    assert figures["gain_of_700_patches_over_best_single"]["value"] == pytest.approx(
        0.78 - figures["macro_f1_best_single"]["value"], abs=1e-3
    )
    assert figures["wrong_at_090"]["value"] == pytest.approx(0.02)
    assert figures["wrong_of_all_sure"]["value"] < figures["wrong_at_090"]["value"]
    assert figures["wrong_at_090_before"]["value"] == pytest.approx(0.06)
    assert figures["selection_within_005"]["value"] == 1
    for each in figures.values():
        assert each["low"] <= each["value"] + 1e-9
        assert each["value"] <= each["high"] + 1e-9
        assert each["seeds"] == 2
    verdicts = {each.paper_says.partition(":")[0]: each.verdict for each in findings.statements}
    assert verdicts
    gain = next(each for each in findings.statements if "15 points" in each.paper_says)
    assert gain.measured is not None
    assert gain.measured.value == pytest.approx(0.75 - (6 * 0.5 + 0.48) / 7 - 0.15, abs=1e-3)
    signals = next(table for table in findings.tables if "picks a model" in table.title)
    by_name = {str(row[0]): row for row in signals.rows}
    assert "`relative_mmd2`" not in by_name  # it was not known
    assert getattr(by_name["`mean_mmd2`"][1], "value") == pytest.approx(1)  # noqa: B009 - a cell of any kind
    assert getattr(by_name["`entropy`"][1], "value") == pytest.approx(-1)  # noqa: B009


def test_a_report_can_be_made_of_what_is_there(tmp_path: Path) -> None:
    assert reduce(SETTING, {}).tables == ()
    found = {key: each for key, each in made_up().items() if "seed1" not in key}
    made = Made("as typed", "2026-01-01", Device("a processor", 2, "2.0"))
    paths = publish(EXPERIMENT, SETTING, found, {}, len(found), made, tmp_path)
    stored = json.loads(paths["json"].read_text())
    assert stored["macro_f1_default"]["command"] == "as typed"
    assert stored["macro_f1_default"]["seeds_used"] == [0, 1]
    assert "What the other regions decided" in paths["md"].read_text()


def test_intervals_of_the_macro_score_widen_with_unlike_regions() -> None:
    alike = [np.tile(np.array([[[75.0, 25, 25, 900]]]), (2, 5, 1)) for _ in range(6)]
    unlike = [np.tile(np.array([[[50.0 + 8 * n, 25, 25, 900]]]), (2, 5, 1)) for n in range(6)]
    assert choice.estimate(choice.macro(alike, draws=200), 2, 30).high == pytest.approx(0.75)
    wide = choice.estimate(choice.macro(unlike, draws=200), 2, 30)
    assert wide.high - wide.low > 0.03


@pytest.mark.slow
def test_it_runs_from_beginning_to_end_on_toy_regions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    register_toy(monkeypatch)
    chosen = setting(domains=DOMAINS, tests=DOMAINS, patches=8, seeds=(0,), steps=2, batch=2)
    found = carry_out(EXPERIMENT, chosen, tmp_path)
    assert len(found) == len(plan(chosen))
    result = found[judged("a", ("a",), 0)]
    assert set(result["zoo"][next(iter(result["zoo"]))]) == {MULTI, "b", "c"}
    assert {MULTI, OWN, FEW, GOOD, "b", "c", "self-training"} <= set(result["arms"])
    findings = reduce(chosen, found)
    assert 0 <= findings.figures["macro_f1_default"]["value"] <= 1
    assert all(table.rows for table in findings.tables)


@dataclass(frozen=True)
class Elsewhere:
    """A desk on another device, whose runs have kept one model and one sample."""

    kept: Path
    device: str
    source: ToySource = field(default_factory=ToySource)
    key: str = "here"

    @property
    def needs(self) -> dict[str, Path]:
        return {"sample": self.kept}

    def model(self, key: str) -> LandslideModel:
        return toy_model(key)

    def tell(self, *_: object) -> None:
        pass


def toy_model(name: str) -> LandslideModel:
    network = networks.create("tiny", in_channels=len(BANDS.channels), classes=2)
    ordinary = Normalisation("standardise", (0.0,) * 5, (1.0,) * 5, (0.0,) * 5, (-6.0, 6.0))
    return LandslideModel(name, "tiny", network.eval(), BANDS, ordinary, 1.0, 0.5, name, {})


@pytest.mark.parametrize("what", ["maps to choose by", "statistics", "maps to count in"])
def test_a_judgement_computes_on_the_device_of_its_run(
    what: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    register_toy(monkeypatch)
    block = next(iter(ToySource().blocks("test", BANDS, ["c"])))
    desk = Elsewhere(tmp_path, "meta")  # what lies there has a shape and no values, and cannot be mixed with what has
    with pytest.raises(NotImplementedError, match="no data"):
        if what == "maps to count in":
            said_of(toy_model("m").to(desk.device), block, device=desk.device)
        elif what == "statistics":
            adapt_norms(toy_model("m"), One(block), device=desk.device)
        else:
            Sample(Mix("a", (Part("a", 4),)), SIDE)(desk)  # type: ignore[arg-type]
            Judge("c", "main", (("a", "single"),), (("a", "sample"),), ("a",))(desk)  # type: ignore[arg-type]


def test_a_judgement_maps_in_every_way_that_it_has_models_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    register_toy(monkeypatch)
    here = Elsewhere(tmp_path, "cpu")
    Sample(Mix("a", (Part("a", 4),)), SIDE)(here)  # type: ignore[arg-type]
    work = Judge("c", "main", (("a", "single"),), (("a", "sample"),), ("a",), "self")
    made = work(here)  # type: ignore[arg-type]
    arms = made["arms"]
    assert {MULTI, "a", "self-training", "self-training + test-time augmentation", "batch norms"} <= set(arms)
    assert {f"{arm}{ON_MEANS}" for arm in (MULTI, "a", "self-training", "all models")} <= set(arms)
    assert f"self-training and all models{ON_MEANS} + test-time augmentation" in arms
    assert {f"{NORMS}{TURNED}", f"{NORMS} and {ALL}{TURNED}"} <= set(arms)
    assert not any(arm.startswith(NORMS) and ON_MEANS in arm for arm in arms), "one replaces the other"
    assert {ALL, f"{ALL}{TURNED}", f"{ALL}{ON_MEANS}{TURNED}"} <= set(arms)
    assert not any(arm.startswith((OWN, FEW)) for arm in arms)
    labelled = replace(work, few="few", own="own")(here)["arms"]  # type: ignore[arg-type]
    assert {WITH_FEW, FEW, OWN, f"{OWN}{ON_MEANS}"} <= set(labelled)
    assert choice.arms_of({"arms": labelled, "zoo": made["zoo"]}) == choice.arms_of(made), "no label of it takes part"
    assert set(next(iter(made["zoo"].values()))) == {MULTI, "a"}


def test_ways_made_of_what_each_model_says_once_are_those_of_the_classes_that_map(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    register_toy(monkeypatch)
    block = next(iter(ToySource().blocks("test", BANDS, ["c"])))
    models = {
        name: replace(toy_model(name), temperature=1.5, threshold=0.3 + n / 10)
        for n, name in enumerate((MULTI, "a", "b"))
    }
    said = {name: said_of(model, block, device="cpu") for name, model in models.items()}
    made = ways({**said, NORMS: said["b"]}, said, ["a", "b"], {"a": 0.1, "b": 0.3})
    x = torch.from_numpy(block.channels)[None]

    def same(arm: str, model: LandslideModel | TTA) -> None:
        probability, threshold = made[arm]
        with torch.inference_mode():
            expected = torch.sigmoid(model.margin(x) / model.temperature)[0].numpy()
        np.testing.assert_allclose(probability, expected, atol=1e-5)
        assert threshold == pytest.approx(model.threshold)

    same("a", models["a"])
    same(f"{MULTI}{ON_MEANS}{TURNED}", TTA(models[MULTI], symmetries=4, threshold=models[MULTI].threshold))
    pool = ensemble_of(list(models.values()), [2, 1, 1])
    same(ALL, pool)
    same(f"{ALL}{TURNED}", TTA(pool, symmetries=4, threshold=pool.threshold))
    near = ensemble_of([models["a"], models["b"]], weights_of_distances([0.1, 0.3]), pooling="logit")
    same(NEAR, near)
    same(NORMS, models["b"])
    of_norms = ensemble_of([replace(models["b"], name="norms"), models["a"], models["b"]], [2, 1, 1])
    same(f"{NORMS} and {ALL}{TURNED}", TTA(of_norms, symmetries=4, threshold=of_norms.threshold))
    assert not any(SELF in arm for arm in made)


def test_the_zoo_is_judged_on_scene_means_and_the_best_single_model_as_it_was_trained() -> None:
    found = made_up()
    for result in found.values():
        for arm, events in result["arms"].items():
            if arm.endswith(ON_MEANS) and arm.removesuffix(ON_MEANS) in MANY:
                for event in events.values():
                    event["pixels"] = [9000, 1000, 1000, 90_000]
    figures = reduce(SETTING, found).figures
    assert figures["macro_f1_best_single"]["value"] == pytest.approx((6 * 0.5 + 0.48) / 7, abs=1e-3)
    assert figures["macro_f1_best_single_on_scene_means"]["value"] == pytest.approx(0.9)
    assert figures["selection_within_005"]["value"] == 0  # the signals still name the multi-domain model


def test_a_map_that_is_never_sure_has_not_kept_the_promise() -> None:
    found = made_up()
    for result in found.values():
        for events in result["arms"].values():
            for event in events.values():
                event["sure"] = [[0, 0, 200, 1000, 0, 50.0] for _ in TEMPERATURES]
    findings = reduce(SETTING, found)
    said = next(each for each in findings.statements if "are wrong" in each.paper_says)
    assert said.verdict == "undecided"
    assert said.measured is None
    assert findings.figures["landslides_at_090"]["value"] == 0
    assert findings.figures["wrong_at_090"]["value"] is None
    assert findings.figures["wrong_at_090"]["regions_with_claims"] == 0


def test_a_region_that_claims_nothing_does_not_make_the_others_look_better() -> None:
    found = made_up(wrong=0.06)
    before = reduce(SETTING, found).figures["wrong_at_090_before"]["value"]
    for key, result in found.items():
        if key.startswith("judge--k--without-k--"):
            for events in result["arms"].values():
                for event in events.values():
                    event["sure"] = [[0, 0, 200, 1000, 0, 50.0] for _ in TEMPERATURES]
    figures = reduce(SETTING, found).figures
    assert figures["wrong_at_090_before"]["value"] == pytest.approx(before)
    assert figures["wrong_at_090"]["regions_with_claims"] == len(MANY) - 1
    assert figures["wrong_at_090"]["regions"] == len(MANY)


def test_the_pick_of_the_flow_stands_beside_that_of_the_best_signal_and_of_no_selection() -> None:
    figures = reduce(SETTING, made_up()).figures
    for result in (changed := made_up()).values():
        for zoo in result["zoo"].values():
            for name, signals in zoo.items():  # the vote takes single models, the multi-domain model is best
                signals["disagreement"] = float(name == MULTI)
                signals["entropy"] = float(name != MULTI)
    after = reduce(SETTING, changed).figures
    names = ("selection_within_005", "selection_decided_within_005", "always_multi_domain_within_005")
    assert [figures[name]["value"] for name in names] == [1, 1, 1]
    assert [after[name]["value"] for name in names] == [0, 1, 1]
