"""Yang et al. 2024: the plan, the tables beside the paper's, and what MMD picks, from made-up runs with known scores."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from modeling.bands import BandSet, band_set
from modeling.benchmark.compare import HOLDS, REVERSED, UNDECIDED, Estimate
from modeling.benchmark.speed import Device
from modeling.data.batches import Block
from modeling.errors import DataError
from modeling.experiments.findings import NOT_TESTED, Amount, Chart, Share, Statement, Table
from modeling.experiments.report import Made, cell_text, publish
from modeling.experiments.scores import difference, mean, score
from modeling.experiments.setting import Setting
from modeling.experiments.work import Train
from modeling.experiments.yang2024 import EXPERIMENT, distance_key, mixes_of, plan, reduce, run_key
from modeling.scoring.evaluate import BlockScore, Evaluation
from modeling.scoring.metrics import Confusion
from modeling.scoring.objects import object_counts

MADE = Made("quakeslide reproduce yang2024", "2024-01-02", Device("a processor", 2, "2.0"))
TESTS = ("iburi", "jiuzhaigou", "palu", "luding")
BLOCKS = 6


@dataclass(frozen=True)
class NoData:
    """A source of which only names and sizes are asked."""

    kind: str = "simulated regions"

    def band_set(self) -> BandSet:
        return band_set("ten-band")

    def blocks(self, part: str, bands: BandSet, domains: Sequence[str]) -> list[Block]:
        return [Block(np.zeros((10, 8, 8), np.float32), np.zeros((8, 8), np.uint8), "b", name) for name in domains]

    def about(self) -> dict[str, Any]:
        sizes = {"size_px": 8, "training": 1, "validation": 1, "test": 1, "bands": "ten-band", "seed": 0}
        return {"kind": self.kind, **sizes, "name": "mine", "source": "drawn by hand"}


SETTING = Setting(
    NoData(),  # type: ignore[arg-type]
    EXPERIMENT.networks, (0, 1), steps=10, domains=EXPERIMENT.domains, tests=TESTS, patches=700,
)  # fmt: skip


def evaluation(found: Mapping[str, float], seed: int) -> dict[str, Any]:
    """One whose recall and precision are about `found[domain]` in each of some blocks of unequal hardness."""
    rng = np.random.default_rng(seed)
    blocks = []
    for domain, quality in found.items():
        for index in range(BLOCKS):
            right = round(1000 * (quality + 0.002 * (index - 2.5)) + rng.integers(-2, 3))
            counts = Confusion(tp=right, fp=1000 - right, fn=1000 - right, tn=5000)
            nothing = np.zeros((2, 2), bool)
            objects = object_counts(nothing, nothing, ~nothing, pixel_area_m2=100.0)
            blocks.append(BlockScore(f"{domain}-{index}", domain, counts, objects))
    return {"evaluation": Evaluation(tuple(blocks), {}, 1.0, 0.5).to_json(), "wall_seconds": 30.0}


def f1_of(network: str, mix: str) -> dict[str, float]:
    """Planted: ResU-SENet is better on Iburi and worse on Jiuzhaigou; Ib700 is the best on Luding, J700 on Palu."""
    place = [each.name for each in mixes_of(SETTING)].index(mix)
    se = network == "resu-senet"
    return {
        "iburi": 0.8 + 0.05 * se - 0.02 * place,
        "jiuzhaigou": 0.7 - 0.05 * se + 0.02 * place,
        "palu": 0.5 + 0.03 * place,
        "luding": 0.7 - 0.03 * place,
    }


def runs() -> dict[str, dict[str, Any]]:
    """All runs; the distances say that Ib700 is nearest everywhere."""
    found: dict[str, dict[str, Any]] = {}
    mixes = mixes_of(SETTING)
    for target in TESTS:
        apart = {
            mix.name: {"mean": 0.01 * (1 + place), "mean_error": 0.001, "bands": {"slope": [0.01, 0.002]}}
            for place, mix in enumerate(mixes)
        }
        found[distance_key(target)] = {"target": target, "mmd2": apart, "wall_seconds": 1.0}
    for network in SETTING.networks:
        for mix in mixes:
            for seed in SETTING.seeds:
                found[run_key(network, mix, seed)] = evaluation(f1_of(network, mix.name), seed)
    return found


def statement(says: str, statements: Sequence[Statement]) -> Statement:
    [found] = [each for each in statements if each.paper_says.startswith(says)]
    return found


def test_the_plan_has_every_network_on_every_mix_seed_by_seed() -> None:
    made = plan(SETTING)
    trained = [run for run in made if isinstance(run.work, Train)]
    assert len(trained) == 2 * 5 * 2
    assert len(made) - len(trained) == len(TESTS)
    assert [run.work.seed for run in trained if isinstance(run.work, Train)] == [0] * 10 + [1] * 10
    assert {run.effort.steps for run in trained} == {10}
    assert {run.key for run in made} == set(runs())


def test_more_domains_are_mixed_two_by_two() -> None:
    names = [mix.name for mix in mixes_of(replace(SETTING, domains=("iburi", "jiuzhaigou", "palu")))]
    assert len(names) == len(set(names)) == 3 + 3 * 3
    assert mixes_of(replace(SETTING, domains=("iburi",)))[0].domains == ("iburi",)
    assert len(mixes_of(replace(SETTING, domains=("iburi",)))) == 1


def test_planted_orderings_are_found() -> None:
    findings = reduce(SETTING, runs())
    said = findings.statements
    assert statement("Iburi: `resu-senet` is better than `resu-net` by 2.8 points of F1", said).verdict == HOLDS
    assert statement("Jiuzhaigou: `resu-senet` is better than `resu-net` by 3.4 points of F1", said).verdict == REVERSED
    assert (
        statement("Iburi: `resu-net` is better than `resu-senet` by 1.7 points of precision", said).verdict == REVERSED
    )
    gain = statement("Iburi: `resu-senet` is better than `resu-net` by 2.8 points of F1", said).measured
    assert gain is not None
    assert gain.value == pytest.approx(0.05, abs=0.005)
    assert statement("Ib200J500 is the mix to take for palu", said).verdict == REVERSED
    assert statement("Ib700 is the mix to take for luding", said).verdict == HOLDS
    on_luding = [each for each in said if "MMD picks is the best one on luding" in each.paper_says]
    on_palu = [each for each in said if "MMD picks is the best one on palu" in each.paper_says]
    assert [each.verdict for each in on_luding] == [HOLDS, HOLDS]
    assert [each.verdict for each in on_palu] == [REVERSED, REVERSED]
    assert "J700 is the best" in on_palu[0].how


def test_the_papers_rows_stand_beside_ours() -> None:
    tables = {table.title: table for table in reduce(SETTING, runs()).tables}
    palu = tables["Tested on palu, unseen"]
    assert palu.rows[-1][:4] == ("the paper: `resu-senet` on Ib200J500", Share(0.6875), Share(0.9299), Share(0.5501))
    iburi = tables["Tested on iburi"]
    assert [row[0] for row in iburi.rows[-2:]] == ["the paper: `resu-net`", "the paper: `resu-senet`"]
    picked = tables["What MMD picks for regions that no mix holds"]
    assert {row[4] for row in picked.rows if "luding" in str(row[0])} == {Amount(-1.0, digits=2)}
    assert {row[4] for row in picked.rows if "palu" in str(row[0])} == {Amount(1.0, digits=2)}


@pytest.mark.parametrize("kept", [1, 9])
def test_a_report_can_be_made_of_what_is_finished(kept: int, tmp_path: Path) -> None:
    some = dict(list(runs().items())[-kept:])
    paths = publish(EXPERIMENT, SETTING, some, {"broken": "no data"}, 24, MADE, tmp_path)
    text = paths["md"].read_text()
    assert f"{kept} of 24 runs" in text
    assert f"{23 - kept} are still to be done, 1 failed" in text
    assert "- `broken`: no data" in text
    assert any(each["verdict"] == NOT_TESTED for each in json.loads(paths["json"].read_text())["statements"])


def test_the_report_says_what_was_measured_on_what(tmp_path: Path) -> None:
    paths = publish(EXPERIMENT, SETTING, runs(), {}, 24, MADE, tmp_path)
    text, stored = paths["md"].read_text(), json.loads(paths["json"].read_text())
    for words in ("simulated data; no real landslide", "quakeslide reproduce yang2024", "seeds 0, 1", "a processor",
                  "10.1 minutes of training", "yang2024.png", "| 93.0 |"):  # fmt: skip
        assert words in text
    assert stored["simulated"] is True
    assert len(stored["runs"]) == 24
    assert all("margins" not in run["evaluation"] for run in stored["runs"].values() if "evaluation" in run)
    assert any(run.get("evaluation", {}).get("blocks") for run in stored["runs"].values())
    assert imread(paths["png"]).shape[0] > 500
    mine = replace(SETTING, source=NoData("patches"))  # type: ignore[arg-type]
    assert (
        "simulated"
        not in publish(EXPERIMENT, mine, runs(), {}, 24, MADE, tmp_path)["md"].read_text().partition("##")[0]
    )


def test_nothing_finished_is_nothing_to_report(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no run of yang2024 is finished \(one: too few\)"):
        publish(EXPERIMENT, SETTING, {}, {"one": "too few"}, 24, MADE, tmp_path)
    assert not list(tmp_path.iterdir())


def test_scores_are_of_one_ground() -> None:
    one, other = evaluation({"iburi": 0.8}, 0), evaluation({"palu": 0.8}, 0)
    assert score([one, one], "f1", "iburi").value == pytest.approx(0.8, abs=0.005)
    assert mean([one, one], "f1", "iburi") == pytest.approx(score([one, one], "f1", "iburi").value)
    assert score([one], "f1") == score([one], "f1", "iburi")
    with pytest.raises(DataError, match="different ground"):
        difference([one], [other], "f1")
    with pytest.raises(DataError, match="nothing of 'palu'"):
        score([one], "f1", "palu")
    with pytest.raises(DataError, match="was not tested"):
        score([{"mix": "Ib7"}], "f1")
    with pytest.raises(DataError, match="no run"):
        score([], "f1")


def test_cells_and_verdicts() -> None:
    estimate = Estimate(0.1, -0.2, 0.3, seeds=3, blocks=4)
    assert cell_text(estimate) == "10.0 [-20.0, 30.0]"
    assert [cell_text(cell) for cell in (None, "a", Share(0.5), Amount(1.23456, 0.01), Amount(2, digits=0))] == [
        "–", "a", "50.0", "1.235 ± 0.010", "2",
    ]  # fmt: skip
    assert Statement("so", estimate, "how").verdict == UNDECIDED
    assert Statement("so", estimate, "how", HOLDS).verdict == HOLDS
    assert Statement("so", None, "how").verdict == NOT_TESTED
    with pytest.raises(DataError, match="no verdict"):
        Statement("so", None, "how", "true")
    with pytest.raises(DataError, match="row of 1 cells"):
        Table("t", ("a", "b"), (("1",),))
    with pytest.raises(DataError, match="1 scores for 2 groups"):
        Chart("c", ("a", "b"), {"s": (None,)})
